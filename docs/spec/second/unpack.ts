// Packed claims, read: in their one spelling, or refused.

import { BitReader, COUNT_MAX } from "./bits.ts";
import { AGE_MAX, FINGERPRINTS_MAX, STORE_MAX, UNTIL_MAX, normalForm } from "./claims.ts";
import type { Claims } from "./claims.ts";
import { MalformedToken } from "./errors.ts";
import { keyOf } from "./frontier.ts";
import type { Key } from "./frontier.ts";
import { EVERY_STORE } from "./mark.ts";
import type { Mark, Origins, Until } from "./mark.ts";
import { U16_MAX, U32_MAX, U64_MAX } from "./numbers.ts";
import { BOTH, LOW_BITS, LOW_MASK, ONLY_OWN, ONLY_SEEN, listedShards, pack } from "./pack.ts";

const HIGH_MAX = U64_MAX >> LOW_BITS;

// T-51 to T-65 come to one rule: what is read, packed again, is what was read.
export function unpack(packed: Uint8Array, expiresAt: number): Claims {
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

function unpackEntries(bits: BitReader, expiresAt: number): Claims {
  const own = new Map<Key, bigint>();
  const seen = new Map<Key, bigint>();
  const ages = new Map<Key, number>();
  const count = bits.count();
  const [regular, split, mixed] = [bits.flag(), bits.flag(), bits.flag()];
  if (count > 0) {
    const keys = unpackKeys(bits, count, regular);
    const offsets = unpackOffsets(bits, count, split);
    const kinds = mixed ? bits.column(count, 2, BOTH) : keys.map(() => ONLY_OWN);
    keys.forEach((key, i) => (kinds[i] === ONLY_SEEN ? seen : own).set(key, offsets[i]!));
    const both = keys.filter((_, i) => kinds[i] === BOTH);
    if (both.length > 0) {
      const ahead = unpackAhead(bits, both.map((key) => own.get(key)!), split);
      both.forEach((key, i) => seen.set(key, ahead[i]!));
    }
    if (mixed && bits.flag()) {
      bits.column(count, 4, BigInt(AGE_MAX)).forEach((hours, i) => ages.set(keys[i]!, Number(hours)));
    }
  }
  return { expiresAt, own, seen, ages, timestamp: null, floors: new Map(), marks: new Map(), touched: new Map() };
}

function unpackKeys(bits: BitReader, count: number, regular: boolean): Key[] {
  if (regular) {
    const shard = Number(bits.number(6, BigInt(U32_MAX)));
    const origin = Number(bits.number(6, BigInt(U32_MAX)));
    if (shard + count - 1 > U32_MAX) throw new MalformedToken("a row past the last shard"); // T-42
    return Array.from({ length: count }, (_, i) => keyOf(shard + i, origin));
  }
  const shards = bits.rising(count, BigInt(U32_MAX));
  const origins = bits.column(count, 6, BigInt(U32_MAX));
  return shards.map((shard, i) => (shard << 32n) | origins[i]!);
}

function unpackOffsets(bits: BitReader, count: number, split: boolean): bigint[] {
  if (!split) return bits.column(count, 7, U64_MAX);
  const high = bits.column(count, 6, HIGH_MAX);
  const low = bits.column(count, 5, LOW_MASK);
  return high.map((value, i) => (value << LOW_BITS) | low[i]!);
}

function unpackAhead(bits: BitReader, own: readonly bigint[], split: boolean): bigint[] {
  const seen = split ? unpackSplitAhead(bits, own) : bits.column(own.length, 7, U64_MAX).map((by, i) => own[i]! + by);
  seen.forEach((offset, i) => {
    if (offset > U64_MAX) throw new MalformedToken("a seen offset past the last"); // T-42
    if (offset <= own[i]!) throw new MalformedToken("a seen offset not above that of own"); // T-61
  });
  return seen;
}

function unpackSplitAhead(bits: BitReader, own: readonly bigint[]): bigint[] {
  const high = bits.column(own.length, 6, HIGH_MAX);
  const low = bits.column(own.length, 5, LOW_MASK);
  return own.map((offset, i) => (((offset >> LOW_BITS) + high[i]!) << LOW_BITS) | low[i]!);
}

// After the first bit.
function unpackExtras(bits: BitReader, entries: Claims): Claims {
  const timestamp = bits.flag() ? bits.bits(64) : null;
  const floored = bits.set(STORE_MAX);
  const floors = floored.length > 0 ? bits.column(floored.length, 7, U64_MAX) : [];
  const marked = bits.set(EVERY_STORE);
  const untils = marked.length > 0 ? bits.column(marked.length, 7, U64_MAX) : [];
  const marks = new Map<number, Mark>();
  const listed = listedShards(entries);
  let room = COUNT_MAX; // T-65: in all sets together, or a run of numbers in few bits becomes gigabytes
  marked.forEach((store, i) => {
    const isListed = bits.flag();
    const exact = isListed ? (listed.get(store) ?? new Set<number>()) : new Set(bits.set(U32_MAX, room));
    if (!isListed) room -= exact.size;
    const numbers = bits.set(U32_MAX + 1, room);
    room -= numbers.length;
    marks.set(store, { until: readUntil(untils[i]!, entries.expiresAt), exact, origins: readOrigins(numbers) });
  });
  return { ...entries, timestamp, floors: new Map(floored.map((store, i) => [store, floors[i]!])), marks };
}

function readUntil(number: bigint, expiresAt: number): Until {
  if (number === 0n) return "forever";
  const until = BigInt(expiresAt) + (number % 2n === 1n ? number >> 1n : -(number >> 1n));
  if (until < 0n || until > UNTIL_MAX) throw new MalformedToken("a mark until before 1970, or for ever otherwise");
  return until;
}

function readOrigins(numbers: readonly number[]): Origins {
  return numbers[0] === 0 ? "any" : new Set(numbers.map((number) => number - 1));
}

function unpackFilters(bits: BitReader, claims: Claims, afterExtras: boolean): Claims {
  if (afterExtras && bits.flag()) throw new MalformedToken("extras twice");
  if (!bits.flag()) throw new MalformedToken("neither extras nor filters"); // T-41
  const stores = bits.set(STORE_MAX);
  const touched = new Map(stores.map((store) => [store, new Set(bits.set(U16_MAX, FINGERPRINTS_MAX))]));
  return { ...claims, touched };
}
