// The ladder that makes claims shorter, each rung a function of what the one before left.

import { expiryOf, keysOf, normalForm } from "./claims.mjs";

import { ConfigError, TokenError } from "./errors.mjs";
import { filterMap, joinMaps, originOf, shardOf, storeOf } from "./frontier.mjs";

import { textLength } from "./keyring.mjs";
import { EVERY_STORE, joinMarks } from "./mark.mjs";

import { max } from "./numbers.mjs";

export function sizeOf(claims        , measure         )         {
  if (measure === "items") return claims.own.size + claims.seen.size + claims.ages.size + claims.touched.size;
  try {
    return textLength(claims, measure);
  } catch (error) {
    if (error instanceof TokenError) return Infinity; // what cannot be packed fits no limit
    throw error;
  }
}

// K-1, K-2
export function compact(given        , ladder        )         {
  const exact = normalForm(given);
  let claims = exact;
  for (const rung of [asItIs, withoutFilters, aged, withoutAges, floored]) {
    claims = rung(claims, ladder);
    if (sizeOf(claims, ladder.measure) <= ladder.limit) return claims;
  }
  return marked(claims, ladder);
}

// K-3: a mark on every store is none of ours.
function isKnown(ladder        , store        )          {
  return store !== EVERY_STORE && (ladder.stores === null || ladder.stores.has(store));
}

function isOurs(ladder        , key     )          {
  return isKnown(ladder, storeOf(shardOf(key)));
}

function asItIs(claims        )         {
  return claims;
}

// --- 1 ---------------------------------------------------------------------------------------------------------------

// K-5
function withoutFilters(claims        )         {
  return { ...claims, touched: new Map() };
}

// --- 2 ---------------------------------------------------------------------------------------------------------------

// K-6
function aged(claims        , ladder        )         {
  return without(claims, (key) => isOurs(ladder, key) && expiryOf(claims, key) <= ladder.now);
}

// K-7
function withoutAges(claims        , ladder        )         {
  return { ...claims, ages: filterMap(claims.ages, (key) => !isOurs(ladder, key)) };
}

function without(claims        , isLeftOut                       )         {
  const stays = (key     )          => !isLeftOut(key);
  return {
    ...claims,
    own: filterMap(claims.own, stays),
    seen: filterMap(claims.seen, stays),
    ages: filterMap(claims.ages, stays),
  };
}

// --- 3 ---------------------------------------------------------------------------------------------------------------

// K-8, K-9, K-10
function floored(claims        , ladder        )         {
  const folds = (key     , offset        )          => {
    const bound = ladder.bounds.get(storeOf(shardOf(key)));
    return isOurs(ladder, key) && bound !== undefined && offset <= bound;
  };
  const folded = filterMap(claims.seen, folds);
  const floors = new Map(claims.floors);
  for (const [key, offset] of folded) {
    const store = storeOf(shardOf(key));
    floors.set(store, max(offset, floors.get(store) ?? 0n));
  }
  return normalForm({ ...claims, seen: filterMap(claims.seen, (key) => !folded.has(key)), floors });
}

// --- 4 ---------------------------------------------------------------------------------------------------------------

// Each number of kept shards is tried from above, as a longer list is not always longer text. HAZARD: that is quadratic
// in the shards, and a short token may have 65,535 of them; who compacts what clients bring bounds them first.
function marked(claims        , ladder        )         {
  const order = shardsToKeep(claims, ladder);
  const whole = (compacted        )         => sizeOf(compacted, ladder.measure);
  const ours = (compacted        )         => sizeOf(oursAlone(compacted, ladder), ladder.measure); // K-19
  for (const size of [whole, ours]) {
    for (const any of [false, true]) { // K-18
      for (let kept = order.length; kept >= 0; kept--) { // K-17
        const compacted = keep(claims, ladder, new Set(order.slice(0, kept)), any);
        if (size(compacted) <= ladder.limit) return compacted;
      }
    }
  }
  return keep(claims, ladder, new Set(), true); // nothing shorter says as much
}

// K-16
function shardsToKeep(claims        , ladder        )           {
  const ours = keysOf(claims).filter((key) => isOurs(ladder, key));
  const pairs = new Map                ();
  for (const key of ours) pairs.set(shardOf(key), (pairs.get(shardOf(key)) ?? 0) + 1);
  const written = new Set(ours.filter((key) => claims.own.has(key)).map(shardOf));
  const atRisk = new Set(ours.filter((key) => isAtRisk(claims, ladder, key)).map(shardOf));
  const rank = (shard        )         => (atRisk.has(shard) ? 0 : written.has(shard) ? 1 : 2);
  return [...pairs.keys()].sort((a, b) => rank(a) - rank(b) || pairs.get(a)  - pairs.get(b)  || a - b);
}

// An own position that a failover could lose.
function isAtRisk(claims        , ladder        , key     )          {
  const offset = claims.own.get(key);
  return offset !== undefined && offset > (ladder.replicated.get(key) ?? -1n);
}

// The claims with no other shards of the known stores than these. `any`: K-18.
function keep(claims        , ladder        , kept                     , any         )         {
  const goes = (key     )          => isOurs(ladder, key) && !kept.has(shardOf(key));
  const gone = keysOf(claims).filter(goes);
  const marks = new Map              ();
  for (const store of new Set(gone.map((key) => storeOf(shardOf(key))))) {
    const lost = gone.filter((key) => storeOf(shardOf(key)) === store && isAtRisk(claims, ladder, key));
    marks.set(store, {
      until: ladder.until,
      exact: new Set([...kept].filter((shard) => storeOf(shard) === store)), // K-13
      origins: new Set(lost.map((key) => originOf(key))), // K-14
    });
  }
  const joined = [...joinMaps(claims.marks, marks, joinMarks)].map(([store, mark])                 => {
    if (!isKnown(ladder, store)) return [store, mark];
    // K-15: also where the store lost nothing.
    const exact = new Set([...mark.exact].filter((shard) => kept.has(shard) && storeOf(shard) === store));
    const isAny = any && (mark.origins === "any" || mark.origins.size > 0);
    return [store, { until: mark.until, exact, origins: isAny ? "any" : mark.origins }];
  });
  return normalForm({ ...without(claims, goes), marks: new Map(joined) }); // K-12
}

function oursAlone(claims        , ladder        )         {
  const ours = without(claims, (key) => !isOurs(ladder, key));
  return {
    ...ours,
    floors: filterMap(claims.floors, (store) => isKnown(ladder, store)),
    marks: filterMap(claims.marks, (store) => isKnown(ladder, store)),
  };
}

// --- what the rungs are given --------------------------------------------------------------------------------------------

export function bounds(now        , settings          )                                   {
  const lag = settings.maxStalenessS + settings.maxClockSkewS;
  if (settings.maxStalenessS <= 0 || settings.tokenTtlS <= lag) {
    throw new ConfigError("demands would be forgotten before replicas have caught up"); // K-21
  }
  const floorMs = Math.max(0, Math.floor((now - settings.maxStalenessS) * 1000)); // K-11
  return { until: BigInt(Math.floor(now + lag) + 1), floor: BigInt(floorMs) << 16n }; // K-20
}

// K-22, K-23: where a token did not open, a mark on every store joins what the others demand.
export function withUnopened(claims        , until        )         {
  const mark       = { until, exact: new Set(), origins: new Set() };
  return { ...claims, marks: joinMaps(claims.marks, new Map([[EVERY_STORE, mark]]), joinMarks) };
}
