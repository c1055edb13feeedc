// Packed claims: the entries, then, if there are any, the extras, then the filters.

import { BitReader, BitWriter, COUNT_MAX } from "./bits.mjs";
import { AGE_MAX, FINGERPRINTS_MAX, STORE_MAX, UNTIL_MAX, keysOf, normalForm } from "./claims.mjs";

import { MalformedToken, TokenError } from "./errors.mjs";
import { keyOf, originOf, shardOf, storeOf } from "./frontier.mjs";

import { EVERY_STORE } from "./mark.mjs";

import { U16_MAX, U32_MAX, U64_MAX, ascending } from "./numbers.mjs";

const LOW_BITS = 16n; // of an offset that is split: the counter of a timestamp
const LOW_MASK = (1n << LOW_BITS) - 1n;
const SPLIT_BELOW = 4096n;
const HIGH_MAX = U64_MAX >> LOW_BITS;
const ONLY_OWN = 0n;
const ONLY_SEEN = 1n;
const BOTH = 2n;

// --- writing ---------------------------------------------------------------------------------------------------------

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
function listedShards(claims        )                                           {
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

// --- reading ---------------------------------------------------------------------------------------------------------

// T-51 to T-65 come to one rule: what is read, packed again, is what was read.
export function unpack(packed            , expiresAt        )         {
  const bits = new BitReader(packed);
  let read = unpackEntries(bits, expiresAt);
  if (!bits.isDone()) {
    const first = bits.flag();
    if (first) read = unpackExtras(bits, read);
    if (!first || !bits.isDone()) read = unpackFilters(bits, read, first);
  }
  if (!bits.isDone()) throw new MalformedToken("bits after the end"); // T-41
  const claims = normalForm(read);
  if (Buffer.compare(pack(claims), packed) !== 0) throw new MalformedToken("another spelling of its claims");
  return claims;
}

function unpackEntries(bits           , expiresAt        )         {
  const own = new Map             ();
  const seen = new Map             ();
  const ages = new Map             ();
  const count = bits.count();
  const [regular, split, mixed] = [bits.flag(), bits.flag(), bits.flag()];
  if (count > 0) {
    const keys = unpackKeys(bits, count, regular);
    const offsets = unpackOffsets(bits, count, split);
    const kinds = mixed ? bits.column(count, 2, BOTH) : keys.map(() => ONLY_OWN);
    keys.forEach((key, i) => (kinds[i] === ONLY_SEEN ? seen : own).set(key, offsets[i] ));
    const both = keys.filter((_, i) => kinds[i] === BOTH);
    if (both.length > 0) {
      const ahead = unpackAhead(bits, both.map((key) => own.get(key) ), split);
      both.forEach((key, i) => seen.set(key, ahead[i] ));
    }
    if (mixed && bits.flag()) {
      bits.column(count, 4, BigInt(AGE_MAX)).forEach((hours, i) => ages.set(keys[i] , Number(hours)));
    }
  }
  return { expiresAt, own, seen, ages, timestamp: null, floors: new Map(), marks: new Map(), touched: new Map() };
}

function unpackKeys(bits           , count        , regular         )        {
  if (regular) {
    const shard = Number(bits.number(6, BigInt(U32_MAX)));
    const origin = Number(bits.number(6, BigInt(U32_MAX)));
    if (shard + count - 1 > U32_MAX) throw new MalformedToken("a row past the last shard"); // T-42
    return Array.from({ length: count }, (_, i) => keyOf(shard + i, origin));
  }
  const shards = bits.rising(count, BigInt(U32_MAX));
  const origins = bits.column(count, 6, BigInt(U32_MAX));
  return shards.map((shard, i) => (shard << 32n) | origins[i] );
}

function unpackOffsets(bits           , count        , split         )           {
  if (!split) return bits.column(count, 7, U64_MAX);
  const high = bits.column(count, 6, HIGH_MAX);
  const low = bits.column(count, 5, LOW_MASK);
  return high.map((value, i) => (value << LOW_BITS) | low[i] );
}

function unpackAhead(bits           , own                   , split         )           {
  const seen = split ? unpackSplitAhead(bits, own) : bits.column(own.length, 7, U64_MAX).map((by, i) => own[i]  + by);
  seen.forEach((offset, i) => {
    if (offset > U64_MAX) throw new MalformedToken("a seen offset past the last"); // T-42
    if (offset <= own[i] ) throw new MalformedToken("a seen offset not above that of own"); // T-61
  });
  return seen;
}

function unpackSplitAhead(bits           , own                   )           {
  const high = bits.column(own.length, 6, HIGH_MAX);
  const low = bits.column(own.length, 5, LOW_MASK);
  return own.map((offset, i) => (((offset >> LOW_BITS) + high[i] ) << LOW_BITS) | low[i] );
}

// After the first bit.
function unpackExtras(bits           , entries        )         {
  const timestamp = bits.flag() ? bits.bits(64) : null;
  const floored = bits.set(STORE_MAX);
  const floors = floored.length > 0 ? bits.column(floored.length, 7, U64_MAX) : [];
  const marked = bits.set(EVERY_STORE);
  const untils = marked.length > 0 ? bits.column(marked.length, 7, U64_MAX) : [];
  const marks = new Map              ();
  const listed = listedShards(entries);
  let room = COUNT_MAX; // T-65: in all sets together, or a run of numbers in few bits becomes gigabytes
  marked.forEach((store, i) => {
    const isListed = bits.flag();
    const exact = isListed ? (listed.get(store) ?? new Set        ()) : new Set(bits.set(U32_MAX, room));
    if (!isListed) room -= exact.size;
    const numbers = bits.set(U32_MAX + 1, room);
    room -= numbers.length;
    marks.set(store, { until: readUntil(untils[i] , entries.expiresAt), exact, origins: readOrigins(numbers) });
  });
  return { ...entries, timestamp, floors: new Map(floored.map((store, i) => [store, floors[i] ])), marks };
}

function readUntil(number        , expiresAt        )        {
  if (number === 0n) return "forever";
  const until = BigInt(expiresAt) + (number % 2n === 1n ? number >> 1n : -(number >> 1n));
  if (until < 0n || until > UNTIL_MAX) throw new MalformedToken("a mark until before 1970, or for ever otherwise");
  return until;
}

function readOrigins(numbers                   )          {
  return numbers[0] === 0 ? "any" : new Set(numbers.map((number) => number - 1));
}

function unpackFilters(bits           , claims        , afterExtras         )         {
  if (afterExtras && bits.flag()) throw new MalformedToken("extras twice");
  if (!bits.flag()) throw new MalformedToken("neither extras nor filters"); // T-41
  const stores = bits.set(STORE_MAX);
  const touched = new Map(stores.map((store) => [store, new Set(bits.set(U16_MAX, FINGERPRINTS_MAX))]));
  return { ...claims, touched };
}
