// How vectors write what this program knows: 64-bit numbers as decimal text, bytes in hex, maps as sorted lists.

import { NO_CLAIMS } from "./claims.ts";
import type { Claims } from "./claims.ts";
import { ClockDrift, ExpiredToken, HistoryError, UnknownKey } from "./errors.ts";
import type { SpecError } from "./errors.ts";
import { checkPosition, entriesOf, keyOf, originOf, shardOf } from "./frontier.ts";
import type { Frontier, Key, Position, Positions } from "./frontier.ts";
import type { Mark, Origins } from "./mark.ts";
import { ascending } from "./numbers.ts";
import type { Progress, Watermark } from "./watermark.ts";

export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export type JsonObject = { readonly [name: string]: Json | undefined };

// --- reading: a request that is not as its page says is an error of whoever asks, and ends the program ----------------

export function asText(value: Json | undefined): string {
  if (typeof value !== "string") throw new TypeError(`${JSON.stringify(value)} is no text`);
  return value;
}

export function asNumber(value: Json | undefined): number {
  if (typeof value !== "number") throw new TypeError(`${JSON.stringify(value)} is no number`);
  return value;
}

// A number, or its decimal text.
export function asBig(value: Json | undefined): bigint {
  return BigInt(typeof value === "number" ? value : asText(value));
}

export function orNull<T>(value: Json | undefined, read: (value: Json) => T): T | null {
  return value === undefined || value === null ? null : read(value);
}

export function asList(value: Json | undefined): readonly Json[] {
  if (value === undefined) return []; // what is empty is left out
  if (!Array.isArray(value)) throw new TypeError(`${JSON.stringify(value)} is no list`);
  return value;
}

export function asObject(value: Json | undefined): JsonObject {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new TypeError(`${JSON.stringify(value)} is no object`);
  }
  return value as JsonObject;
}

export function asBytes(value: Json | undefined): Uint8Array {
  return Buffer.from(asText(value), "hex");
}

export function asNumbers(value: Json | undefined): number[] {
  return asList(value).map(asNumber);
}

export function asPosition(value: Json | undefined): Position {
  const [shard, origin, offset] = asList(value);
  return [asNumber(shard), asNumber(origin), asBig(offset)];
}

export function asPositions(value: Json | undefined): Positions {
  return entriesOf(asList(value).map(asPosition));
}

export function asFloors(value: Json | undefined): Map<number, bigint> {
  return new Map(asList(value).map((floor) => [asNumber(asList(floor)[0]), asBig(asList(floor)[1])]));
}

function asMark(mark: JsonObject): Mark {
  const origins: Origins = mark.origins === "any" ? "any" : new Set(asNumbers(mark.origins));
  // Frontiers write "for ever" as null, tokens as a word.
  const until = mark.until === "forever" ? "forever" : (orNull(mark.until, asBig) ?? "forever");
  return { until, exact: new Set(asNumbers(mark.exact)), origins };
}

export function asFrontier(value: Json | undefined): Frontier {
  const frontier = asObject(value);
  const marks = asList(frontier.marks).map((pair): [number, Mark] => {
    const [store, mark] = asList(pair);
    return [asNumber(store), asMark(asObject(mark))];
  });
  return { entries: asPositions(frontier.entries), floors: asFloors(frontier.floors), marks: new Map(marks) };
}

export function asWatermark(value: Json | undefined): Watermark {
  const watermark = asObject(value);
  const shard = asNumber(watermark.shard);
  const origins = asList(watermark.origins).map((row): [number, Progress] => {
    const [number, ...places] = asList(row);
    const [origin, applied, end] = [asNumber(number), asBig(places[0]), orNull(places[1], asBig)];
    for (const offset of [applied, end ?? applied]) checkPosition([shard, origin, offset]);
    return [origin, { applied, end }];
  });
  return { shard, origins: new Map(origins) };
}

export function asClaims(value: Json | undefined): Claims {
  const claims = asObject(value);
  const ages = asList(claims.ages).map((row): [Key, number] => {
    const [shard, origin, hours] = asNumbers(row);
    return [keyOf(shard!, origin!), hours!];
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

export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

export function fromPosition([shard, origin, offset]: Position): Json {
  return [shard, origin, String(offset)];
}

function rows<V>(map: ReadonlyMap<Key, V>, written: (value: V) => Json): Json[] {
  return ascending(map.keys()).map((key) => [shardOf(key), originOf(key), written(map.get(key)!)]);
}

function byStore<V>(map: ReadonlyMap<number, V>, written: (store: number, value: V) => Json): Json[] {
  return ascending(map.keys()).map((store) => written(store, map.get(store)!));
}

export function fromOrigins(origins: Origins): Json {
  return origins === "any" ? "any" : ascending(origins);
}

// What is empty is left out.
function withoutEmpty(object: JsonObject): JsonObject {
  return Object.fromEntries(
    Object.entries(object).filter(([, value]) => value !== undefined && !(Array.isArray(value) && value.length === 0)),
  );
}

export function fromFrontier(frontier: Frontier): JsonObject {
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

export function fromDemand(claims: Claims): JsonObject {
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

export function fromClaims(claims: Claims): JsonObject {
  return { expires_at: claims.expiresAt, ...fromDemand(claims) };
}

export function fromError(error: SpecError): JsonObject {
  const type = error.type;
  if (error instanceof ClockDrift) return { type, remote_ms: Number(error.remoteMs), wall_ms: Number(error.wallMs) };
  if (error instanceof UnknownKey) return { type, key_id: error.keyId };
  if (error instanceof ExpiredToken) return { type, claims: fromClaims(error.claims) };
  if (error instanceof HistoryError) return { type, line: error.line };
  return { type };
}
