// How vectors write what this program knows: 64-bit numbers as decimal text, bytes in hex, maps as sorted lists.

import { NO_CLAIMS } from "./claims.mjs";

import { ClockDrift, ExpiredToken, HistoryError, UnknownKey } from "./errors.mjs";

import { checkPosition, entriesOf, keyOf, originOf, shardOf } from "./frontier.mjs";

import { ascending } from "./numbers.mjs";

// --- reading: a request that is not as its page says is an error of whoever asks, and ends the program ----------------

export function asText(value                  )         {
  if (typeof value !== "string") throw new TypeError(`${JSON.stringify(value)} is no text`);
  return value;
}

export function asNumber(value                  )         {
  if (typeof value !== "number") throw new TypeError(`${JSON.stringify(value)} is no number`);
  return value;
}

// A number, or its decimal text.
export function asBig(value                  )         {
  return BigInt(typeof value === "number" ? value : asText(value));
}

export function orNull   (value                  , read                    )           {
  return value === undefined || value === null ? null : read(value);
}

export function asList(value                  )                  {
  if (value === undefined) return []; // what is empty is left out
  if (!Array.isArray(value)) throw new TypeError(`${JSON.stringify(value)} is no list`);
  return value;
}

export function asObject(value                  )             {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new TypeError(`${JSON.stringify(value)} is no object`);
  }
  return value              ;
}

export function asBytes(value                  )             {
  return Buffer.from(asText(value), "hex");
}

export function asNumbers(value                  )           {
  return asList(value).map(asNumber);
}

export function asPosition(value                  )           {
  const [shard, origin, offset] = asList(value);
  return [asNumber(shard), asNumber(origin), asBig(offset)];
}

export function asPositions(value                  )            {
  return entriesOf(asList(value).map(asPosition));
}

export function asFloors(value                  )                      {
  return new Map(asList(value).map((floor) => [asNumber(asList(floor)[0]), asBig(asList(floor)[1])]));
}

function asMark(mark            )       {
  const origins          = mark.origins === "any" ? "any" : new Set(asNumbers(mark.origins));
  // Frontiers write "for ever" as null, tokens as a word.
  const until = mark.until === "forever" ? "forever" : (orNull(mark.until, asBig) ?? "forever");
  return { until, exact: new Set(asNumbers(mark.exact)), origins };
}

export function asFrontier(value                  )           {
  const frontier = asObject(value);
  const marks = asList(frontier.marks).map((pair)                 => {
    const [store, mark] = asList(pair);
    return [asNumber(store), asMark(asObject(mark))];
  });
  return { entries: asPositions(frontier.entries), floors: asFloors(frontier.floors), marks: new Map(marks) };
}

export function asWatermark(value                  )            {
  const watermark = asObject(value);
  const shard = asNumber(watermark.shard);
  const origins = asList(watermark.origins).map((row)                     => {
    const [number, ...places] = asList(row);
    const [origin, applied, end] = [asNumber(number), asBig(places[0]), orNull(places[1], asBig)];
    for (const offset of [applied, end ?? applied]) checkPosition([shard, origin, offset]);
    return [origin, { applied, end }];
  });
  return { shard, origins: new Map(origins) };
}

export function asClaims(value                  )         {
  const claims = asObject(value);
  const ages = asList(claims.ages).map((row)                => {
    const [shard, origin, hours] = asNumbers(row);
    return [keyOf(shard , origin ), hours ];
  });
  const marks = asList(claims.marks).map(asObject);
  return {
    ...NO_CLAIMS,
    expiresAt: asNumber(claims.expires_at),
    own: asPositions(claims.own),
    seen: asPositions(claims.seen),
    ages: new Map(ages),
    timestamp: orNull(claims.timestamp, asBig),
    floors: asFloors(claims.floors),
    marks: new Map(marks.map((mark) => [asNumber(mark.store), asMark(mark)])),
    touched: new Map(asList(claims.touched).map((row) => {
      const [store, fingerprints] = asList(row);
      return [asNumber(store), new Set(asNumbers(fingerprints))];
    })),
  };
}

// --- writing -------------------------------------------------------------------------------------------------------------

export function toHex(bytes            )         {
  return Buffer.from(bytes).toString("hex");
}

export function fromPosition([shard, origin, offset]          )       {
  return [shard, origin, String(offset)];
}

function rows   (map                     , written                    )         {
  return ascending(map.keys()).map((key) => [shardOf(key), originOf(key), written(map.get(key) )]);
}

function byStore   (map                        , written                                   )         {
  return ascending(map.keys()).map((store) => written(store, map.get(store) ));
}

export function fromOrigins(origins         )       {
  return origins === "any" ? "any" : ascending(origins);
}

// What is empty is left out.
function withoutEmpty(object            )             {
  return Object.fromEntries(
    Object.entries(object).filter(([, value]) => value !== undefined && !(Array.isArray(value) && value.length === 0)),
  );
}

export function fromFrontier(frontier          )             {
  return withoutEmpty({
    entries: rows(frontier.entries, String),
    floors: byStore(frontier.floors, (store, floor) => [store, String(floor)]),
    marks: byStore(frontier.marks, (store, { until, exact, origins }) => [
      store,
      withoutEmpty({
        until: until === "forever" ? null : String(until),
        exact: ascending(exact),
        origins: fromOrigins(origins),
      }),
    ]),
  });
}

export function fromDemand(claims        )             {
  return withoutEmpty({
    own: rows(claims.own, String),
    seen: rows(claims.seen, String),
    ages: rows(claims.ages, (hours) => hours),
    timestamp: claims.timestamp === null ? undefined : String(claims.timestamp),
    floors: byStore(claims.floors, (store, floor) => [store, String(floor)]),
    marks: byStore(claims.marks, (store, { until, exact, origins }) => ({
      store,
      until: String(until),
      exact: ascending(exact),
      origins: fromOrigins(origins),
    })),
    touched: byStore(claims.touched, (store, fingerprints) => [store, ascending(fingerprints)]),
  });
}

export function fromClaims(claims        )             {
  return { expires_at: claims.expiresAt, ...fromDemand(claims) };
}

export function fromError(error           )             {
  const type = error.type;
  if (error instanceof ClockDrift) return { type, remote_ms: Number(error.remoteMs), wall_ms: Number(error.wallMs) };
  if (error instanceof UnknownKey) return { type, key_id: error.keyId };
  if (error instanceof ExpiredToken) return { type, claims: fromClaims(error.claims) };
  if (error instanceof HistoryError) return { type, line: error.line };
  return { type };
}
