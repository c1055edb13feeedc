// What becomes of origins that end, and of sessions that demand what is gone.

import { shardId, storeOf, mapValues, NOTHING } from "./frontier.ts";
import type { Frontier } from "./frontier.ts";
import { EVERY_STORE } from "./mark.ts";
import type { Origins } from "./mark.ts";
import { max, min } from "./numbers.ts";

// L-12: the marks stay; `any` can be taken out only as `any`.
export function forgetDoubt(frontier: Frontier, store: number, doubt: Origins): Frontier {
  const without = (origins: Origins): Origins => {
    if (doubt === "any" || origins === "any") return doubt === origins ? new Set() : origins;
    return new Set([...origins].filter((origin) => !doubt.has(origin)));
  };
  const marks = mapValues(frontier.marks, (each, mark) =>
    each === store || each === EVERY_STORE ? { ...mark, origins: without(mark.origins) } : mark);
  return { ...frontier, marks };
}

// L-14: the mark that a commit in doubt leaves on its shard.
export function doubtOf(shard: number, shards: readonly number[], until: bigint): Frontier {
  const exact = new Set(shards.filter((other) => other !== shard));
  return { ...NOTHING, marks: new Map([[storeOf(shard), { until, exact, origins: new Set<number>() }]]) };
}

export function shardsOf(count: number): number[] {
  return Array.from({ length: count }, (_, index) => shardId(0, index));
}

export type Closed = { readonly end: bigint; readonly keeps: bigint };

// L-2: survivors forward to each other what they hold.
export function close(holds: ReadonlyMap<string, bigint>, failed: string, goesOn: bigint): Closed {
  const survivors = [...holds].filter(([site]) => site !== failed).map(([, held]) => held);
  const end = max(survivors[0]!, ...survivors.slice(1));
  return { end, keeps: min(holds.get(failed)! + goesOn, end) };
}
