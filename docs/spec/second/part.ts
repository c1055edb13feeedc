// What of a view concerns a demand. G-18: where some endpoint holds only some shards, only the demand's own count.

import { shardOf } from "./frontier.ts";
import type { Key, Positions } from "./frontier.ts";
import type { Known, View } from "./view.ts";

export type Counts = (key: Key) => boolean;

export function counting(view: View, shards: readonly number[]): Counts {
  if (view.all.every(({ endpoint }) => endpoint.holds === null)) return () => true;
  return (key) => shards.includes(shardOf(key));
}

export class Part {
  readonly view: View;
  readonly counts: Counts;
  readonly nearest: readonly Known[]; // all that are there for this demand
  readonly live: readonly Key[];
  readonly ends: Positions;

  constructor(view: View, shards: readonly number[]) {
    this.view = view;
    this.counts = counting(view, shards);
    this.nearest = view.nearestFirst(this.counts).filter((known) => isThere(known, shards));
    this.live = view.live().filter(this.counts);
    this.ends = new Map([...view.ends].filter(([key]) => this.counts(key)));
  }

  leaderOf(key: Key): Known | null {
    const leader = this.view.leaderOf(key);
    return leader !== null && this.nearest.includes(leader) ? leader : null;
  }

  told(): Key[] {
    return this.nearest.flatMap((known) => [...known.appliedAll().keys()]).filter(this.counts);
  }
}

// A witness says what it numbers of any of the shards; anybody else is read of all of them, or of none.
function isThere(known: Known, shards: readonly number[]): boolean {
  return known.endpoint.serves ? shards.every((shard) => known.holds(shard)) : shards.some((shard) => known.holds(shard));
}
