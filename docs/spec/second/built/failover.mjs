// What becomes of origins that end, and of sessions that demand what is gone.

import { shardId, storeOf, mapValues, NOTHING } from "./frontier.mjs";

import { EVERY_STORE } from "./mark.mjs";

import { max, min } from "./numbers.mjs";

// L-12: the marks stay; `any` can be taken out only as `any`.
export function forgetDoubt(frontier          , store        , doubt         )           {
  const without = (origins         )          => {
    if (doubt === "any" || origins === "any") return doubt === origins ? new Set() : origins;
    return new Set([...origins].filter((origin) => !doubt.has(origin)));
  };
  const marks = mapValues(frontier.marks, (each, mark) =>
    each === store || each === EVERY_STORE ? { ...mark, origins: without(mark.origins) } : mark);
  return { ...frontier, marks };
}

// L-14: the mark that a commit in doubt leaves on its shard.
export function doubtOf(shard        , shards                   , until        )           {
  const exact = new Set(shards.filter((other) => other !== shard));
  return { ...NOTHING, marks: new Map([[storeOf(shard), { until, exact, origins: new Set        () }]]) };
}

export function shardsOf(count        )           {
  return Array.from({ length: count }, (_, index) => shardId(0, index));
}

// L-2: survivors forward to each other what they hold.
export function close(holds                             , failed        , goesOn        )         {
  const survivors = [...holds].filter(([site]) => site !== failed).map(([, held]) => held);
  const end = max(survivors[0] , ...survivors.slice(1));
  return { end, keeps: min(holds.get(failed)  + goesOn, end) };
}
