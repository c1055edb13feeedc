// What one incarnation of one server has applied of one shard, and how it judges what is demanded.

import { NOTHING, isMarked, keyOf, originOf, shardOf, storeOf } from "./frontier.ts";
import type { Frontier, Position } from "./frontier.ts";
import { ascending, min } from "./numbers.ts";

export type Progress = { readonly applied: bigint; readonly end: bigint | null };
export type Watermark = { readonly shard: number; readonly origins: ReadonlyMap<number, Progress> };

// From best to worst.
const VERDICTS = ["APPLIED", "FOREIGN", "BEHIND", "UNKNOWN", "LOST"] as const;
export type Verdict = (typeof VERDICTS)[number];

export type Judgement = {
  readonly verdict: Verdict;
  readonly positions: readonly Position[];
  readonly marked: boolean;
};

function isWorse(a: Verdict, b: Verdict): boolean {
  return VERDICTS.indexOf(a) > VERDICTS.indexOf(b);
}

function upToEnd(offset: bigint, progress: Progress): bigint {
  return progress.end === null ? offset : min(offset, progress.end);
}

export function judgePosition(watermark: Watermark, origin: number, offset: bigint): Verdict {
  const progress = watermark.origins.get(origin);
  if (progress === undefined) return "UNKNOWN"; // F-20
  if (progress.end !== null && offset > progress.end) return "LOST"; // F-21, even where it is applied
  return offset <= progress.applied ? "APPLIED" : "BEHIND"; // F-22, F-23
}

// The rules apply in this order: entries, floor, mark and divergence, foreign stores. Each later one can only worsen.
export function judge(watermark: Watermark, demand: Frontier, knownStores: ReadonlySet<number> | null): Judgement {
  let { verdict, positions } = judgeEntries(watermark, demand);

  const short = shortOfFloor(watermark, demand);
  if (short.length > 0 && isWorse("BEHIND", verdict)) [verdict, positions] = ["BEHIND", short]; // F-27

  const marked = isMarked(demand, watermark.shard);
  if ((marked || isDiverged(watermark)) && isWorse("UNKNOWN", verdict)) {
    [verdict, positions] = ["UNKNOWN", []]; // F-28, F-29, F-30
  }

  const isForeign = (shard: number) => shard !== watermark.shard && knownStores !== null && !knownStores.has(storeOf(shard));
  const foreign = positionsOf(demand, isForeign);
  if (foreign.length > 0 && verdict === "APPLIED") [verdict, positions] = ["FOREIGN", foreign]; // F-26

  return { verdict, positions, marked };
}

// F-24, F-25
function judgeEntries(watermark: Watermark, demand: Frontier): { verdict: Verdict; positions: readonly Position[] } {
  const here = positionsOf(demand, (shard) => shard === watermark.shard);
  const verdictOn = ([, origin, offset]: Position): Verdict => judgePosition(watermark, origin, offset);
  const verdict = here.map(verdictOn).reduce((a, b) => (isWorse(b, a) ? b : a), "APPLIED");
  return { verdict, positions: verdict === "APPLIED" ? [] : here.filter((position) => verdictOn(position) === verdict) };
}

function positionsOf(demand: Frontier, isMeant: (shard: number) => boolean): Position[] {
  return ascending(demand.entries.keys())
    .filter((key) => isMeant(shardOf(key)))
    .map((key) => [shardOf(key), originOf(key), demand.entries.get(key)!]);
}

// F-27: an origin that has ended need not get past its end.
function shortOfFloor(watermark: Watermark, demand: Frontier): Position[] {
  const floor = demand.floors.get(storeOf(watermark.shard));
  if (floor === undefined) return [];
  return ascending(watermark.origins.keys())
    .map((origin): Position => [watermark.shard, origin, upToEnd(floor, watermark.origins.get(origin)!)])
    .filter(([, origin, needed]) => watermark.origins.get(origin)!.applied < needed);
}

// F-29
export function isDiverged(watermark: Watermark): boolean {
  return [...watermark.origins.values()].some(({ applied, end }) => end !== null && applied > end);
}

// F-31
export function appliedFrontier(watermark: Watermark): Frontier {
  const entries = [...watermark.origins].map(
    ([origin, progress]) => [keyOf(watermark.shard, origin), upToEnd(progress.applied, progress)] as const,
  );
  return { ...NOTHING, entries: new Map(entries) };
}
