// What tokens that are presented together demand, as it is sealed again; and fingerprints of cache keys.

import { NO_CLAIMS, expiryOf, keysOf, normalForm } from "./claims.mjs";

import { filterMap, joinMaps, shardOf, storeOf } from "./frontier.mjs";

import { hasLapsed, joinMarks } from "./mark.mjs";
import { max } from "./numbers.mjs";

// T-67 to T-73. A token that has expired counts as every other (T-72).
export function joinTokens(tokens                   , now        , ttlS        )         {
  const presented = tokens.map(normalForm);
  let joined = NO_CLAIMS;
  let expiries                           = new Map();
  for (const token of presented) {
    const marks = filterMap(token.marks, (_, mark) => !hasLapsed(mark, BigInt(now))); // T-73: it adds nothing either
    joined = {
      ...joined,
      own: joinMaps(joined.own, token.own, max), // T-67
      seen: joinMaps(joined.seen, token.seen, max),
      floors: joinMaps(joined.floors, token.floors, max), // T-69
      marks: joinMaps(joined.marks, marks, joinMarks), // T-70
      touched: joinMaps(joined.touched, token.touched, (a, b) => new Set([...a, ...b])),
      timestamp: latest(joined.timestamp, token.timestamp),
    };
    const own = new Map(keysOf(token).map((key) => [key, expiryOf(token, key)]));
    expiries = joinMaps(expiries, own, Math.max); // T-68
  }
  const unfiltered = new Set(presented.flatMap((token) => writtenStores(token).filter((each) => !token.touched.has(each))));
  return normalForm({
    ...joined,
    ages: new Map([...expiries].map(([key, expiry]) => [key, ageAt(now, expiry - ttlS)])),
    touched: filterMap(joined.touched, (store) => !unfiltered.has(store)), // T-71; the normal form knows the 12
  });
}

// T-66: whole hours since the position was last learned.
function ageAt(now        , learned        )         {
  return Math.max(0, Math.floor((now - learned) / 3600));
}

function writtenStores(claims        )           {
  return [...claims.own.keys()].map((key) => storeOf(shardOf(key)));
}

function latest(a               , b               )                {
  return a === null ? b : b === null ? a : max(a, b);
}

// T-15: the lower 16 bits of the CRC-32 of zlib, gzip and PNG.
export function fingerprint(key        )         {
  let crc = 0xffff_ffff;
  for (const byte of Buffer.from(key, "utf8")) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb8_8320 : 0);
  }
  return ~crc & 0xffff;
}
