// Positions and frontiers. A frontier is a value: no operation changes its operands.
//
// The key of an entry is shard x 2^32 + origin in one integer, so that keys ascend by shard, then origin.

import { ConfigError } from "./errors.ts";
import { EVERY_STORE, hasLapsed, joinMarks, noWeaker } from "./mark.ts";
import type { Mark } from "./mark.ts";
import { isU16, isU32, isU64, max, min } from "./numbers.ts";

export type Position = readonly [shard: number, origin: number, offset: bigint];
export type Key = bigint;
export type Positions = ReadonlyMap<Key, bigint>;

export type Frontier = {
  readonly entries: Positions;
  readonly floors: ReadonlyMap<number, bigint>;
  readonly marks: ReadonlyMap<number, Mark>;
};

export const NOTHING: Frontier = { entries: new Map(), floors: new Map(), marks: new Map() };

// F-1: what does not fit would be the key of another entry.
export function keyOf(shard: number, origin: number): Key {
  if (!isU32(shard) || !isU32(origin)) throw new ConfigError(`no entry is of shard ${shard} and origin ${origin}`);
  return (BigInt(shard) << 32n) | BigInt(origin);
}

export function shardOf(key: Key): number {
  return Number(key >> 32n);
}

export function originOf(key: Key): number {
  return Number(key & 0xffff_ffffn);
}

export function storeOf(shard: number): number {
  return Math.floor(shard / 65_536);
}

// F-2: 65,535 is no store's number.
export function shardId(store: number, index: number): number {
  if (!isU16(store) || store === EVERY_STORE || !isU16(index)) {
    throw new ConfigError(`no shard is of store ${store} and index ${index}`);
  }
  return store * 65_536 + index;
}

// F-1
export function checkPosition([shard, origin, offset]: Position): void {
  keyOf(shard, origin);
  if (!isU64(offset)) throw new ConfigError(`${offset} is no offset`);
}

// F-4: the largest offset of each key. F-5: an offset of 0 is an entry, too.
export function entriesOf(positions: Iterable<Position>): Positions {
  const entries = new Map<Key, bigint>();
  for (const position of positions) {
    checkPosition(position);
    const [shard, origin, offset] = position;
    const key = keyOf(shard, origin);
    entries.set(key, max(offset, entries.get(key) ?? 0n));
  }
  return entries;
}

// F-6, F-7, F-8
export function join(a: Frontier, b: Frontier): Frontier {
  return {
    entries: joinMaps(a.entries, b.entries, max),
    floors: joinMaps(a.floors, b.floors, max),
    marks: joinMaps(a.marks, b.marks, joinMarks),
  };
}

export function joinMaps<K, V>(
  a: ReadonlyMap<K, V>, b: ReadonlyMap<K, V>, joined: (x: V, y: V) => V,
): ReadonlyMap<K, V> {
  const both = new Map(a);
  for (const [key, value] of b) {
    const other = both.get(key);
    both.set(key, other === undefined ? value : joined(other, value));
  }
  return both;
}

// F-10: part by part; none stands in for another.
export function covers(a: Frontier, b: Frontier): boolean {
  const noLess = (x: bigint, y: bigint): boolean => x >= y;
  return coversMap(a.entries, b.entries, noLess) && coversMap(a.floors, b.floors, noLess)
    && coversMap(a.marks, b.marks, noWeaker);
}

function coversMap<K, V>(a: ReadonlyMap<K, V>, b: ReadonlyMap<K, V>, enough: (x: V, y: V) => boolean): boolean {
  return [...b].every(([key, value]) => {
    const mine = a.get(key);
    return mine !== undefined && enough(mine, value);
  });
}

// F-13
export function isMarked(frontier: Frontier, shard: number): boolean {
  return [...frontier.marks].some(([store, mark]) => markCovers(store, mark, shard));
}

function markCovers(store: number, mark: Mark, shard: number): boolean {
  return (store === EVERY_STORE || store === storeOf(shard)) && !mark.exact.has(shard);
}

// F-14
export function partOnShard(frontier: Frontier, shard: number): Frontier {
  return {
    entries: filterMap(frontier.entries, (key) => shardOf(key) === shard),
    floors: filterMap(frontier.floors, (store) => store === storeOf(shard)),
    marks: filterMap(frontier.marks, (store, mark) => markCovers(store, mark, shard)),
  };
}

// F-15
export function partOfStore(frontier: Frontier, store: number): Frontier {
  return {
    entries: filterMap(frontier.entries, (key) => storeOf(shardOf(key)) === store),
    floors: filterMap(frontier.floors, (other) => other === store),
    marks: filterMap(frontier.marks, (other) => other === store || other === EVERY_STORE),
  };
}

// F-16
export function lapse(frontier: Frontier, now: bigint): Frontier {
  return { ...frontier, marks: filterMap(frontier.marks, (_, mark) => !hasLapsed(mark, now)) };
}

// F-17
export function clip(frontier: Frontier, ends: Positions): Frontier {
  return { ...frontier, entries: mapValues(frontier.entries, (key, offset) => min(offset, ends.get(key) ?? offset)) };
}

export function filterMap<K, V>(map: ReadonlyMap<K, V>, keep: (key: K, value: V) => boolean): ReadonlyMap<K, V> {
  return new Map([...map].filter(([key, value]) => keep(key, value)));
}

export function mapValues<K, V>(map: ReadonlyMap<K, V>, changed: (key: K, value: V) => V): ReadonlyMap<K, V> {
  return new Map([...map].map(([key, value]) => [key, changed(key, value)]));
}
