// Whether a snapshot bears a decision out, and what a session learns from it.

import type { Demand } from "./demand.ts";
import { join, keyOf, shardOf, originOf, NOTHING } from "./frontier.ts";
import type { Frontier, Positions } from "./frontier.ts";
import { isFreshSince } from "./gate.ts";
import type { How, Policy } from "./gate.ts";
import { counting } from "./part.ts";
import type { Known, Said, View } from "./view.ts";
import { appliedFrontier, isDiverged, judgePosition } from "./watermark.ts";

export type Served = { readonly endpoint: Known; readonly how: How; readonly need: Positions };

export function admits(
  view: View, demand: Demand, policy: Policy, maxStalenessS: number, served: Served, snapshot: readonly Said[], atS: number,
  ends: Positions, // as known by then
): boolean {
  const { endpoint, how, need } = served;
  if (how === "window" || how === "eventual" || how === "stale") return true; // they promise nothing
  const counts = counting(view, demand.shards);
  const said = snapshot.filter(({ shard }) => endpoint.holds(shard) && counts(keyOf(shard, 0))); // G-18
  return covers(endpoint, need, said)
    && said.every((each) => endpoint.shards.get(each.shard)?.life === each.life) // G-20
    && said.every((each) => !isDiverged(each) && !isPastAnEnd(ends, each)) // G-21
    && said.every((each) => showsNoOther(endpoint, each))
    && said.every((each) => stillNumbers(view, endpoint, each, ends))
    && isStillEligible(view, demand, policy, maxStalenessS, served, atS);
}

// G-19
function covers(endpoint: Known, need: Positions, snapshot: readonly Said[]): boolean {
  return [...need].every(([key, offset]) => {
    const said = snapshot.find(({ shard }) => shard === shardOf(key));
    return said === undefined
      ? (endpoint.applied(key) ?? -1n) >= offset
      : judgePosition(said, originOf(key), offset) === "APPLIED";
  });
}

function isPastAnEnd(ends: Positions, said: Said): boolean {
  return [...said.origins].some(([origin, { applied }]) => applied > (ends.get(keyOf(said.shard, origin)) ?? applied));
}

// G-22
function showsNoOther(endpoint: Known, said: Said): boolean {
  return [...said.origins].every(([origin, { applied, end }]) => {
    const key = keyOf(said.shard, origin);
    if (endpoint.applied(key) !== undefined) return true;
    return end !== null && applied >= end;
  });
}

// G-23
function stillNumbers(view: View, endpoint: Known, said: Said, ends: Positions): boolean {
  return view.numbersOf(endpoint).every((key) =>
    shardOf(key) !== said.shard || (said.leads.has(originOf(key)) && !ends.has(key)));
}

// G-24
function isStillEligible(
  view: View, demand: Demand, policy: Policy, maxStalenessS: number, { endpoint, how }: Served, atS: number,
): boolean {
  if (demand.at !== null || policy.unproven === "serve") return true;
  const isAllLed = policy.strategy === "leader" || demand.shards.every((shard) => demand.leaderShards.has(shard));
  if (how === "leader" && isAllLed) return true;
  const boundS = policy.strategy === "bounded" ? Math.min(policy.boundS, maxStalenessS) : maxStalenessS;
  return isFreshSince(view, endpoint, counting(view, demand.shards), atS - boundS);
}

// G-25
export function shown(snapshot: readonly Said[]): Frontier {
  return snapshot.map(appliedFrontier).reduce(join, NOTHING);
}
