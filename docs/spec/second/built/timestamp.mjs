// A timestamp: 48 bits of Unix milliseconds above 16 of counter, in one unsigned integer (C-1). Its text sorts alike.

import { ClockError } from "./errors.mjs";
import { isU16, isU64 } from "./numbers.mjs";

export const COUNTER_BITS = 16n;
export const COUNTERS = 1n << COUNTER_BITS;
const MS_MAX = (1n << 48n) - 1n;

// `\d` and the flag `i` would admit more than C-5 does, and `$` alone may stand before a line break in other languages.
const TEXT = /^[0-9a-f]{12}\.[0-9a-f]{4}$/;

export function fromParts(physicalMs        , logical        )         {
  // C-2: refused, not cut to fit.
  if (!Number.isInteger(physicalMs) || physicalMs < 0 || physicalMs > Number(MS_MAX) || !isU16(logical)) {
    throw new ClockError(`no timestamp has ${physicalMs} ms and the counter ${logical}`);
  }
  return (BigInt(physicalMs) << COUNTER_BITS) | BigInt(logical);
}

export function physicalMs(timestamp        )         {
  return timestamp >> COUNTER_BITS;
}

export function logical(timestamp        )         {
  return timestamp & (COUNTERS - 1n);
}

export function check(timestamp        )         {
  if (!isU64(timestamp)) throw new ClockError(`${timestamp} is no timestamp`);
  return timestamp;
}

// C-4
export function format(timestamp        )         {
  const hex = check(timestamp).toString(16).padStart(16, "0");
  return `${hex.slice(0, 12)}.${hex.slice(12)}`;
}

// C-5
export function parse(text        )         {
  if (!TEXT.test(text)) throw new ClockError("not the text of a timestamp");
  return BigInt(`0x${text.slice(0, 12)}${text.slice(13)}`);
}
