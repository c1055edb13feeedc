// Whether a snapshot bears a decision out, and what a session learns from it.

import { join, keyOf, shardOf, originOf, NOTHING } from "./frontier.mjs";

import { counting, isFreshWithin } from "./gate.mjs";

import { appliedFrontier, isDiverged, judgePosition } from "./watermark.mjs";

export function admits(
  view      , demand        , policy        , maxStalenessS        , served        , snapshot                 , atS        ,
)          {
  const { endpoint, how, need } = served;
  if (how === "window" || how === "eventual" || how === "stale") return true; // they promise nothing
  return covers(endpoint, need, snapshot)
    && snapshot.every((said) => isOfThatLife(endpoint, said) && !isDiverged(said)) // G-20, G-21
    && snapshot.every((said) => showsNoOther(view, endpoint, said))
    && snapshot.every((said) => stillNumbers(view, endpoint, said))
    && isStillEligible(view, demand, policy, maxStalenessS, served, atS);
}

// G-19
function covers(endpoint       , need           , snapshot                 )          {
  return [...need].every(([key, offset]) => {
    const said = snapshot.find(({ shard }) => shard === shardOf(key));
    return said === undefined
      ? (endpoint.applied(key) ?? -1n) >= offset
      : judgePosition(said, originOf(key), offset) === "APPLIED";
  });
}

function isOfThatLife(endpoint       , said      )          {
  return (endpoint.shards.get(said.shard)?.life ?? said.life) === said.life;
}

// G-22
function showsNoOther(view      , endpoint       , said      )          {
  return [...said.origins].every(([origin, { applied, end }]) => {
    const key = keyOf(said.shard, origin);
    if (endpoint.applied(key) !== undefined) return true;
    const ended = end ?? view.ends.get(key);
    return ended !== undefined && applied >= ended;
  });
}

// G-23
function stillNumbers(view      , endpoint       , said      )          {
  return view.ledBy(endpoint).every((key) => shardOf(key) !== said.shard || said.leads.has(originOf(key)));
}

// G-24
function isStillEligible(
  view      , demand        , policy        , maxStalenessS        , { endpoint, how }        , atS        ,
)          {
  if (demand.at !== null || policy.unproven === "serve") return true;
  const isAllLed = policy.strategy === "leader" || demand.shards.every((shard) => demand.leaderShards.has(shard));
  if (how === "leader" && isAllLed) return true;
  const boundS = policy.strategy === "bounded" ? Math.min(policy.boundS, maxStalenessS) : maxStalenessS;
  return isFreshWithin(view, endpoint, counting(view, demand.shards), atS, boundS);
}

// G-25
export function shown(snapshot                 )           {
  return snapshot.map(appliedFrontier).reduce(join, NOTHING);
}
