// Packed claims, written: the entries, then, if there are any, the extras, then the filters.

import { BitWriter, COUNT_MAX } from "./bits.mjs";
import { keysOf } from "./claims.mjs";

import { TokenError } from "./errors.mjs";
import { originOf, shardOf, storeOf } from "./frontier.mjs";

import { ascending } from "./numbers.mjs";

export const LOW_BITS = 16n; // of an offset that is split: the counter of a timestamp
export const LOW_MASK = (1n << LOW_BITS) - 1n;
const SPLIT_BELOW = 4096n;

export const ONLY_OWN = 0n;
export const ONLY_SEEN = 1n;
export const BOTH = 2n;

// Of claims in normal form, whose numbers are in range.
export function pack(claims        )             {
  const bits = new BitWriter();
  packEntries(bits, claims);
  if (claims.timestamp !== null || claims.floors.size > 0 || claims.marks.size > 0) packExtras(bits, claims);
  if (claims.touched.size > 0) packFilters(bits, claims);
  return bits.done();
}

function packEntries(bits           , claims        )       {
  const { own, seen, ages } = claims;
  const keys = keysOf(claims);
  const offsets = keys.map((key) => own.get(key) ?? seen.get(key) );
  const regular = isRegular(keys);
  const split = isSplit(offsets);
  const mixed = seen.size > 0 || ages.size > 0;
  bits.count(keys.length);
  bits.flag(regular);
  bits.flag(split);
  bits.flag(mixed);
  if (keys.length === 0) return; // T-27: all three are 0 then
  packKeys(bits, keys, regular);
  packOffsets(bits, offsets, split);
  if (!mixed) return;

  // T-32
  bits.column(keys.map((key) => (!seen.has(key) ? ONLY_OWN : own.has(key) ? BOTH : ONLY_SEEN)), 2);
  const both = keys.filter((key) => own.has(key) && seen.has(key));
  if (both.length > 0) packAhead(bits, both.map((key) => [own.get(key) , seen.get(key) ]), split);
  // T-34
  bits.flag(ages.size > 0);
  if (ages.size > 0) bits.column(keys.map((key) => BigInt(ages.get(key) ?? 0)), 4);
}

// T-28: consecutive shards under one origin. The next shard is 2^32 further in the key.
function isRegular(keys                )          {
  return keys.length > 0 && keys.every((key, i) => key === keys[0]  + (BigInt(i) << 32n));
}

// T-30
function isSplit(offsets                   )          {
  const differ = offsets.some((offset) => offset >> LOW_BITS !== offsets[0]  >> LOW_BITS);
  return differ && offsets.every((offset) => (offset & LOW_MASK) < SPLIT_BELOW);
}

function packKeys(bits           , keys                , regular         )       {
  if (regular) {
    bits.number(BigInt(shardOf(keys[0] )), 6);
    bits.number(BigInt(originOf(keys[0] )), 6);
  } else {
    bits.rising(keys.map((key) => BigInt(shardOf(key)))); // T-29
    bits.column(keys.map((key) => BigInt(originOf(key))), 6);
  }
}

function packOffsets(bits           , offsets                   , split         )       {
  if (split) {
    bits.column(offsets.map((offset) => offset >> LOW_BITS), 6);
    bits.column(offsets.map((offset) => offset & LOW_MASK), 5);
  } else {
    bits.column(offsets, 7); // T-31
  }
}

// T-33
function packAhead(bits           , pairs                                        , split         )       {
  if (split) {
    bits.column(pairs.map(([own, seen]) => (seen >> LOW_BITS) - (own >> LOW_BITS)), 6);
    bits.column(pairs.map(([, seen]) => seen & LOW_MASK), 5);
  } else {
    bits.column(pairs.map(([own, seen]) => seen - own), 7);
  }
}

function packExtras(bits           , claims        )       {
  bits.flag(true);
  // T-35
  bits.flag(claims.timestamp !== null);
  if (claims.timestamp !== null) bits.bits(claims.timestamp, 64);
  // T-36
  const floored = ascending(claims.floors.keys());
  bits.set(floored);
  if (floored.length > 0) bits.column(floored.map((store) => claims.floors.get(store) ), 7);

  const marked = ascending(claims.marks.keys());
  const marks = marked.map((store) => claims.marks.get(store) );
  bits.set(marked);
  if (marks.length === 0) return;
  bits.column(marks.map((mark) => untilNumber(mark.until, claims.expiresAt)), 7);
  const listed = listedShards(claims);
  let members = 0;
  marks.forEach((mark, i) => {
    const isListed = sameSet(mark.exact, listed.get(marked[i] ) ?? new Set());
    const origins = originNumbers(mark.origins);
    members += (isListed ? 0 : mark.exact.size) + origins.length;
    if (members > COUNT_MAX) throw new TokenError("marks of more than 65,535 shards and origins"); // T-65: none opens
    bits.flag(isListed); // T-38
    if (!isListed) bits.set(mark.exact);
    bits.set(origins);
  });
}

// T-37
function untilNumber(until       , expiresAt        )         {
  if (until === "forever") return 0n;
  const after = until - BigInt(expiresAt);
  return after >= 0n ? 2n * after + 1n : -2n * after;
}

// The shards that the token's keys have, by store: worked out once, as a short token may have thousands of marks and as
// many positions.
export function listedShards(claims        )                                           {
  const listed = new Map                     ();
  for (const shard of keysOf(claims).map(shardOf)) {
    const store = storeOf(shard);
    listed.set(store, (listed.get(store) ?? new Set()).add(shard));
  }
  return listed;
}

// T-39
function originNumbers(origins         )           {
  return origins === "any" ? [0] : [...origins].map((origin) => origin + 1);
}

function sameSet(a                     , b                     )          {
  return a.size === b.size && [...a].every((member) => b.has(member));
}

// T-40
function packFilters(bits           , claims        )       {
  const stores = ascending(claims.touched.keys());
  bits.bits(0b01n, 2);
  bits.set(stores);
  for (const store of stores) bits.set(claims.touched.get(store) );
}
