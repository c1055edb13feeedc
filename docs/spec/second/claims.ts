// What a token says: its ranges, and the normal form in which it is said.

import { ConfigError, TokenError } from "./errors.ts";
import { checkPosition, filterMap, mapValues, originOf, shardOf, storeOf } from "./frontier.ts";
import type { Key, Position, Positions } from "./frontier.ts";
import { EVERY_STORE } from "./mark.ts";
import type { Mark } from "./mark.ts";
import { isU16, isU32, isU64 } from "./numbers.ts";

export type Claims = {
  readonly expiresAt: number;
  readonly own: Positions;
  readonly seen: Positions;
  readonly ages: ReadonlyMap<Key, number>; // in hours
  readonly timestamp: bigint | null;
  readonly floors: ReadonlyMap<number, bigint>;
  readonly marks: ReadonlyMap<number, Mark>;
  readonly touched: ReadonlyMap<number, ReadonlySet<number>>; // fingerprints, by store
};

export const NO_CLAIMS: Claims = {
  expiresAt: 0, own: new Map(), seen: new Map(), ages: new Map(), timestamp: null, floors: new Map(), marks: new Map(),
  touched: new Map(),
};

export const EXPIRY_MAX = 2 ** 35 - 1;
export const UNTIL_MAX = 2n ** 63n - 2n;
export const AGE_MAX = 32_767;
export const STORE_MAX = EVERY_STORE - 1;
export const FINGERPRINTS_MAX = 12;

// Every (shard, origin) that stands in own or seen, in the order of the token.
export function keysOf(claims: Claims): Key[] {
  return [...new Set([...claims.own.keys(), ...claims.seen.keys()])].sort((a, b) => (a < b ? -1 : 1));
}

// T-16: a mistake of whoever seals.
export function checkRanges(claims: Claims): void {
  demand(Number.isInteger(claims.expiresAt) && claims.expiresAt >= 0 && claims.expiresAt <= EXPIRY_MAX, "expires_at");
  for (const positions of [claims.own, claims.seen]) {
    for (const [key, offset] of positions) checkPosition(positionOf(key, offset));
  }
  // A greater age than there may be is said as the greatest (T-18).
  for (const hours of claims.ages.values()) demand(Number.isInteger(hours) && hours >= 0, "an age");
  demand(claims.timestamp === null || isU64(claims.timestamp), "the timestamp");
  for (const [store, floor] of claims.floors) demand(isStore(store) && isU64(floor), "a floor");
  for (const [store, mark] of claims.marks) checkMark(store, mark);
  for (const [store, fingerprints] of claims.touched) {
    demand(isStore(store) && [...fingerprints].every(isU16), "a filter");
  }
}

function checkMark(store: number, { until, exact, origins }: Mark): void {
  demand(isU16(store), "the store of a mark");
  if (until !== "forever" && until < 0n) throw new TokenError("no time of a mark is before 1970"); // T-49
  demand(until === "forever" || until <= UNTIL_MAX, "the time of a mark");
  demand([...exact].every(isU32), "a shard of a mark");
  demand(origins === "any" || [...origins].every(isU32), "an origin of a mark");
}

function demand(fits: boolean, what: string): void {
  if (!fits) throw new ConfigError(`${what} does not fit`);
}

function isStore(store: number): boolean {
  return isU16(store) && store !== EVERY_STORE;
}

export function positionOf(key: Key, offset: bigint): Position {
  return [shardOf(key), originOf(key), offset];
}

export function normalForm(claims: Claims): Claims {
  const seen = filterMap(claims.seen, (key, offset) => offset > (claims.own.get(key) ?? -1n)); // T-17
  const ages = filterMap(claims.ages, (key, hours) => hours > 0 && (claims.own.has(key) || seen.has(key)));
  const written = new Set([...claims.own.keys()].map((key) => storeOf(shardOf(key))));
  return {
    ...claims,
    seen,
    ages: mapValues(ages, (_, hours) => Math.min(hours, AGE_MAX)), // T-18
    touched: filterMap(claims.touched, (store, prints) => written.has(store) && prints.size <= FINGERPRINTS_MAX), // T-19
  };
}

// A position's own expiry, in Unix seconds.
export function expiryOf(claims: Claims, key: Key): number {
  return claims.expiresAt - 3600 * (claims.ages.get(key) ?? 0);
}
