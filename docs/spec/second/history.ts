// Recorded histories: which lines are one (S-1 to S-4), and what they say.

import { HistoryError } from "./errors.ts";
import { JsonError, JsonNumber, parseExact } from "./exactjson.ts";
import type { Exact } from "./exactjson.ts";
import { U32_MAX, U64_MAX } from "./numbers.ts";

export type Version = readonly [origin: bigint, offset: bigint];
export type Value = string | boolean | JsonNumber | null;

export type Operation = {
  readonly line: number; // as they were answered
  readonly isWrite: boolean;
  readonly session: string;
  readonly seq: bigint;
  readonly after: bigint;
  readonly key: string; // with its shard: S-20
  readonly shard: bigint;
  readonly value: Value;
  readonly version: Version | null;
  readonly stamp: bigint | null;
  readonly ok: boolean | null;
  readonly isHeld: boolean;
};

export type Told = { readonly session: string; readonly seq: bigint; readonly shard: bigint; readonly version: Version };
export type End = { readonly shard: bigint; readonly origin: bigint; readonly offset: bigint };

export type History = {
  readonly operations: readonly Operation[];
  readonly ends: readonly End[];
  readonly told: readonly Told[];
  readonly isSample: boolean;
};

const I63_MAX = (1n << 63n) - 1n;

const REQUIRED: ReadonlyMap<string, readonly string[]> = new Map([
  ["read", ["session", "seq", "key"]],
  ["write", ["session", "seq", "key", "value"]],
  ["end", ["shard", "origin", "offset"]],
  ["lost", ["session", "seq", "shard", "version"]],
  ["forget", ["session", "seq", "shard", "version"]],
]);
const OPTIONAL = [
  "shard", "value", "version", "stamp", "after", "ok", "held", "delete", "endpoint", "watermark", "token_in", "token_out",
  "how", "at",
];

const isWhole = (most: bigint) => (value: Exact): boolean => {
  const whole = value instanceof JsonNumber ? value.whole() : null;
  return whole !== null && whole >= 0n && whole <= most;
};
const isText = (value: Exact): boolean => typeof value === "string";
const isTextOrNull = (value: Exact): boolean => value === null || isText(value);
const isBoolean = (value: Exact): boolean => typeof value === "boolean";
const isVersion = (value: Exact): boolean =>
  Array.isArray(value) && value.length === 2 && isWhole(BigInt(U32_MAX))(value[0]) && isWhole(U64_MAX)(value[1]);

const TYPES: ReadonlyMap<string, (value: Exact) => boolean> = new Map(Object.entries({
  session: (value: Exact) => typeof value === "string" && isSession(value),
  seq: isWhole(I63_MAX),
  after: isWhole(I63_MAX),
  key: (value: Exact) => typeof value === "string" && value !== "",
  shard: isWhole(BigInt(U32_MAX)),
  origin: isWhole(BigInt(U32_MAX)),
  offset: isWhole(U64_MAX),
  value: (value: Exact) => isTextOrNull(value) || isBoolean(value) || value instanceof JsonNumber,
  version: (value: Exact) => value === null || isVersion(value),
  stamp: isWhole(I63_MAX),
  ok: (value: Exact) => value === null || isBoolean(value),
  held: isBoolean,
  delete: isBoolean,
  endpoint: isTextOrNull,
  token_in: isTextOrNull,
  token_out: isTextOrNull,
  how: isTextOrNull,
  at: (value: Exact) => value instanceof JsonNumber,
  watermark: (value: Exact) => value instanceof Map
    && [...value].every(([origin, offset]) => /^[0-9]+$/.test(origin) && isWhole(U64_MAX)(offset)),
}));

function isSession(text: string): boolean {
  const length = [...text].length;
  return length >= 1 && length <= 1024 && /^(?:[^\p{C}\p{Z}]| )+$/u.test(text);
}

type Line = ReadonlyMap<string, Exact>;

// Each line as it is given: an object, or the text of one.
export function readHistory(lines: readonly Exact[]): History {
  const operations: Operation[] = [];
  const ends: End[] = [];
  const told: Told[] = [];
  let isSample = false;
  for (const [index, given] of lines.entries()) {
    const number = index + 1;
    const line = asLine(given, number);
    const op = line.get("op");
    if (op === "meta") {
      if (index > 0) throw new HistoryError(number, "meta is the first line"); // S-2
      isSample = readMeta(line, number);
    } else {
      checkFields(line, number);
      if (op === "end") ends.push({ shard: whole(line, "shard"), origin: whole(line, "origin"), offset: whole(line, "offset") });
      else if (op === "read" || op === "write") operations.push(readOperation(line, number));
      else told.push({ session: text(line, "session"), seq: whole(line, "seq"), shard: whole(line, "shard"), version: version(line)! });
    }
  }
  if (operations.length === 0) throw new HistoryError(lines.length, "no operation"); // S-2
  for (const [index, operation] of operations.entries()) checkOrder(operation, operations.slice(0, index));
  return { operations, ends, told, isSample };
}

function asLine(given: Exact, number: number): Line {
  let line = given;
  if (typeof line === "string") {
    try {
      line = parseExact(line);
    } catch (error) {
      if (error instanceof JsonError) throw new HistoryError(number, error.message);
      throw error;
    }
  }
  if (!(line instanceof Map)) throw new HistoryError(number, "no object");
  return line;
}

function readMeta(line: Line, number: number): boolean {
  const is = (name: string, wanted: string): boolean => {
    const value = line.get(name);
    return value === undefined || (value instanceof JsonNumber && value.equals(new JsonNumber(wanted)));
  };
  if (!is("format", "1")) throw new HistoryError(number, "another format"); // S-2
  return !is("sample", "1") || !is("dropped", "0");
}

// S-1
function checkFields(line: Line, number: number): void {
  const op = line.get("op");
  const required = typeof op === "string" ? REQUIRED.get(op) : undefined;
  if (required === undefined) throw new HistoryError(number, "no kind of line");
  const isOperation = op === "read" || op === "write";
  for (const name of required) if (!line.has(name)) throw new HistoryError(number, `${name} is missing`);
  for (const [name, value] of line) {
    if (name === "op") continue;
    if (!required.includes(name) && !(isOperation && OPTIONAL.includes(name))) throw new HistoryError(number, `no field ${name}`);
    if (!TYPES.get(name)!(value)) throw new HistoryError(number, `${name} is of another type`);
  }
  if (!isOperation && line.get("version") === null) throw new HistoryError(number, "no version");
}

function readOperation(line: Line, number: number): Operation {
  const seq = whole(line, "seq");
  const shard = line.has("shard") ? whole(line, "shard") : 0n;
  const operation: Operation = {
    line: number,
    isWrite: line.get("op") === "write",
    session: text(line, "session"),
    seq,
    after: line.has("after") ? whole(line, "after") : seq - 1n,
    key: JSON.stringify([String(shard), text(line, "key")]),
    shard,
    value: (line.get("value") ?? null) as Value,
    version: version(line),
    stamp: line.has("stamp") ? whole(line, "stamp") : null,
    ok: line.get("ok") === undefined ? true : (line.get("ok") as boolean | null),
    isHeld: line.get("held") !== false,
  };
  check(operation, line.get("delete") === true);
  return operation;
}

// S-3
function check({ line, seq, after, isWrite, value, ok, stamp, version }: Operation, isDeletion: boolean): void {
  if (after >= seq) throw new HistoryError(line, "it starts after itself");
  if (isDeletion && (!isWrite || value !== null)) throw new HistoryError(line, "no deletion");
  if (!isWrite && ok === null) throw new HistoryError(line, "a read is not in doubt");
  if (!isWrite && stamp !== null && version === null) throw new HistoryError(line, "the stamp of nothing");
}

// S-4: only once each line for itself is right.
function checkOrder(operation: Operation, before: readonly Operation[]): void {
  const { line, seq, after } = operation;
  const refuse = (why: string): never => {
    throw new HistoryError(line, why);
  };
  const earlier = before.filter(({ session }) => session === operation.session);
  if (earlier.some((other) => other.seq === seq)) refuse("a number for the second time");
  if (earlier.some((other) => other.after === seq)) refuse("an earlier line started after its answer");
  const named = earlier.findIndex((other) => other.seq === after);
  if (named >= 0 && earlier.slice(0, named).some((other) => other.seq > after)) refuse("a higher one was answered before");
}

function whole(line: Line, name: string): bigint {
  return (line.get(name) as JsonNumber).whole()!;
}

function text(line: Line, name: string): string {
  return line.get(name) as string;
}

function version(line: Line): Version | null {
  const pair = line.get("version");
  if (pair === undefined || pair === null) return null;
  const [origin, offset] = pair as readonly JsonNumber[];
  return [origin!.whole()!, offset!.whole()!];
}
