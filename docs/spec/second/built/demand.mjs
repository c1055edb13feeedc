// What one block asks of an endpoint, and what of that is lost, in doubt, or needed.

import { EVERY_STORE } from "./mark.mjs";

import { NOTHING, clip, filterMap, join, joinMaps, originOf, shardOf, storeOf, isMarked } from "./frontier.mjs";

import { ascending, max, min } from "./numbers.mjs";

// G-1 to G-5
export function demandOf(block       , own          , seen          )        {
  const { promised, isWrite } = block;
  const seenCounts = promised.has(isWrite ? "writes_follow_reads" : "monotonic_reads"); // G-3
  const ownCounts = seenCounts || promised.has(isWrite ? "monotonic_writes" : "read_your_writes");

  const isOurs = (shard        )          =>
    shard === block.shard || (block.dependencies !== null && storeOf(shard) === block.store); // G-1, G-2
  const counted = (frontier          , counts         )            =>
    filterMap(frontier.entries, (key) => counts && isOurs(shardOf(key)));
  const ownNeed = counted(own, ownCounts);
  const need = joinMaps(ownNeed, counted(seen, seenCounts), max);

  const both = join(own, seen);
  const marks = filterMap(both.marks, (store) => ownCounts && (store === block.store || store === EVERY_STORE));
  const ours = new Set([block.shard, ...(block.dependencies ?? [])]);
  const leaderShards = new Set(ascending(ours).filter((shard) => isMarked({ ...NOTHING, marks }, shard))); // G-4
  return {
    own: ownNeed,
    need,
    shards: [block.shard, ...ascending(new Set([...need.keys()].map(shardOf))).filter((shard) => shard !== block.shard)],
    leaderShards,
    markOrigins: leaderShards.size > 0 ? allOrigins(marks.values()) : new Set(),
    floor: seenCounts ? (both.floors.get(block.store) ?? null) : null,
  };
}

function allOrigins(marks                )          {
  const origins = new Set        ();
  for (const mark of marks) {
    if (mark.origins === "any") return "any";
    for (const origin of mark.origins) origins.add(origin);
  }
  return origins;
}

// L-5 to L-9, L-13: what is lost is said first.
export function stand(demand        , part      )           {
  const ends = endsFor(demand, part);
  const lost = cuts(demand.own, ends);
  if (lost.length > 0) return { verdict: "lost", lost };
  const doubt = inDoubt(demand, part.ends);
  if (doubt !== null) return { verdict: "doubt", doubt };
  const clipped = cuts(demand.seen, ends);
  const seen = clip({ ...NOTHING, entries: demand.seen }, ends).entries;
  return { verdict: "held", need: joinMaps(demand.own, seen, max), clipped };
}

// L-6: the head of who numbers an origin, asked since, counts as its end for this request.
function endsFor(demand        , part      )            {
  const ends = new Map(part.ends);
  for (const key of [...demand.own.keys(), ...demand.seen.keys()]) {
    const leader = part.leaderOf(key);
    if (leader !== null && leader.asked(shardOf(key)) > demand.arrived) ends.set(key, leader.applied(key) ?? 0n);
  }
  return ends;
}

function cuts(positions           , ends           )        {
  return ascending(positions.keys())
    .map((key) => ({ key, offset: positions.get(key) , end: ends.get(key) ?? positions.get(key)  }))
    .filter(({ offset, end }) => offset > end);
}

// L-13
function inDoubt(demand        , ends           )                 {
  const ended = ascending(ends.keys()).filter((key) => demand.leaderShards.has(shardOf(key))).map(originOf);
  if (demand.markOrigins === "any") return ended.length > 0 ? "any" : null;
  const remembered = demand.markOrigins;
  const doubt = new Set(ended.filter((origin) => remembered.has(origin)));
  return doubt.size > 0 ? doubt : null;
}

// G-5
export function floorNeed(demand        , told                , ends           )            {
  const { floor } = demand;
  if (floor === null) return new Map();
  const stores = new Set(demand.shards.map(storeOf));
  const ours = told.filter((key) => stores.has(storeOf(shardOf(key))));
  return new Map(ours.map((key) => [key, min(floor, ends.get(key) ?? floor)]));
}
