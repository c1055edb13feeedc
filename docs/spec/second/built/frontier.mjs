// Positions and frontiers. A frontier is a value: no operation changes its operands.
//
// The key of an entry is shard x 2^32 + origin in one integer, so that keys ascend by shard, then origin.

import { ConfigError } from "./errors.mjs";
import { EVERY_STORE, hasLapsed, joinMarks, noWeaker } from "./mark.mjs";

import { isU16, isU32, isU64, max, min } from "./numbers.mjs";

export const NOTHING           = { entries: new Map(), floors: new Map(), marks: new Map() };

// F-1: what does not fit would be the key of another entry.
export function keyOf(shard        , origin        )      {
  if (!isU32(shard) || !isU32(origin)) throw new ConfigError(`no entry is of shard ${shard} and origin ${origin}`);
  return (BigInt(shard) << 32n) | BigInt(origin);
}

export function shardOf(key     )         {
  return Number(key >> 32n);
}

export function originOf(key     )         {
  return Number(key & 0xffff_ffffn);
}

export function storeOf(shard        )         {
  return Math.floor(shard / 65_536);
}

// F-2: 65,535 is no store's number.
export function shardId(store        , index        )         {
  if (!isU16(store) || store === EVERY_STORE || !isU16(index)) {
    throw new ConfigError(`no shard is of store ${store} and index ${index}`);
  }
  return store * 65_536 + index;
}

// F-1
export function checkPosition([shard, origin, offset]          )       {
  keyOf(shard, origin);
  if (!isU64(offset)) throw new ConfigError(`${offset} is no offset`);
}

// F-4: the largest offset of each key. F-5: an offset of 0 is an entry, too.
export function entriesOf(positions                    )            {
  const entries = new Map             ();
  for (const position of positions) {
    checkPosition(position);
    const [shard, origin, offset] = position;
    const key = keyOf(shard, origin);
    entries.set(key, max(offset, entries.get(key) ?? 0n));
  }
  return entries;
}

// F-6, F-7, F-8
export function join(a          , b          )           {
  return {
    entries: joinMaps(a.entries, b.entries, max),
    floors: joinMaps(a.floors, b.floors, max),
    marks: joinMaps(a.marks, b.marks, joinMarks),
  };
}

export function joinMaps      (
  a                   , b                   , joined                   ,
)                    {
  const both = new Map(a);
  for (const [key, value] of b) {
    const other = both.get(key);
    both.set(key, other === undefined ? value : joined(other, value));
  }
  return both;
}

// F-10: part by part; none stands in for another.
export function covers(a          , b          )          {
  const noLess = (x        , y        )          => x >= y;
  return coversMap(a.entries, b.entries, noLess) && coversMap(a.floors, b.floors, noLess)
    && coversMap(a.marks, b.marks, noWeaker);
}

function coversMap      (a                   , b                   , enough                         )          {
  return [...b].every(([key, value]) => {
    const mine = a.get(key);
    return mine !== undefined && enough(mine, value);
  });
}

// F-13
export function isMarked(frontier          , shard        )          {
  return [...frontier.marks].some(([store, mark]) => markCovers(store, mark, shard));
}

function markCovers(store        , mark      , shard        )          {
  return (store === EVERY_STORE || store === storeOf(shard)) && !mark.exact.has(shard);
}

// F-14
export function partOnShard(frontier          , shard        )           {
  return {
    entries: filterMap(frontier.entries, (key) => shardOf(key) === shard),
    floors: filterMap(frontier.floors, (store) => store === storeOf(shard)),
    marks: filterMap(frontier.marks, (store, mark) => markCovers(store, mark, shard)),
  };
}

// F-15
export function partOfStore(frontier          , store        )           {
  return {
    entries: filterMap(frontier.entries, (key) => storeOf(shardOf(key)) === store),
    floors: filterMap(frontier.floors, (other) => other === store),
    marks: filterMap(frontier.marks, (other) => other === store || other === EVERY_STORE),
  };
}

// F-16
export function lapse(frontier          , now        )           {
  return { ...frontier, marks: filterMap(frontier.marks, (_, mark) => !hasLapsed(mark, now)) };
}

// F-17
export function clip(frontier          , ends           )           {
  return { ...frontier, entries: mapValues(frontier.entries, (key, offset) => min(offset, ends.get(key) ?? offset)) };
}

export function filterMap      (map                   , keep                               )                    {
  return new Map([...map].filter(([key, value]) => keep(key, value)));
}

export function mapValues      (map                   , changed                         )                    {
  return new Map([...map].map(([key, value]) => [key, changed(key, value)]));
}
