// What a token says: its ranges, and the normal form in which it is said.

import { ConfigError, TokenError } from "./errors.mjs";
import { checkPosition, filterMap, mapValues, originOf, shardOf, storeOf } from "./frontier.mjs";

import { EVERY_STORE } from "./mark.mjs";

import { isU16, isU32, isU64 } from "./numbers.mjs";

export const NO_CLAIMS         = {
  expiresAt: 0, own: new Map(), seen: new Map(), ages: new Map(), timestamp: null, floors: new Map(), marks: new Map(),
  touched: new Map(),
};

export const EXPIRY_MAX = 2 ** 35 - 1;
export const UNTIL_MAX = 2n ** 63n - 2n;
export const AGE_MAX = 32_767;
export const STORE_MAX = EVERY_STORE - 1;
export const FINGERPRINTS_MAX = 12;

// Every (shard, origin) that stands in own or seen, in the order of the token.
export function keysOf(claims        )        {
  return [...new Set([...claims.own.keys(), ...claims.seen.keys()])].sort((a, b) => (a < b ? -1 : 1));
}

// T-16: a mistake of whoever seals.
export function checkRanges(claims        )       {
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

function checkMark(store        , { until, exact, origins }      )       {
  demand(isU16(store), "the store of a mark");
  if (until !== "forever" && until < 0n) throw new TokenError("no time of a mark is before 1970"); // T-49
  demand(until === "forever" || until <= UNTIL_MAX, "the time of a mark");
  demand([...exact].every(isU32), "a shard of a mark");
  demand(origins === "any" || [...origins].every(isU32), "an origin of a mark");
}

function demand(fits         , what        )       {
  if (!fits) throw new ConfigError(`${what} does not fit`);
}

function isStore(store        )          {
  return isU16(store) && store !== EVERY_STORE;
}

export function positionOf(key     , offset        )           {
  return [shardOf(key), originOf(key), offset];
}

export function normalForm(claims        )         {
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
export function expiryOf(claims        , key     )         {
  return claims.expiresAt - 3600 * (claims.ages.get(key) ?? 0);
}
