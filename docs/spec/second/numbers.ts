// Integers. What may exceed 2^53 is a bigint: timestamps, offsets, floors, ends, `until`. The rest are numbers.

export const U16_MAX = 0xffff;
export const U32_MAX = 0xffff_ffff;
export const U64_MAX = 0xffff_ffff_ffff_ffffn;

export function isU16(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= U16_MAX;
}

export function isU32(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= U32_MAX;
}

export function isU64(value: bigint): boolean {
  return value >= 0n && value <= U64_MAX;
}

export function max(first: bigint, ...others: bigint[]): bigint {
  return others.reduce((a, b) => (a >= b ? a : b), first);
}

export function min(first: bigint, ...others: bigint[]): bigint {
  return others.reduce((a, b) => (a <= b ? a : b), first);
}

// BigInt division rounds towards zero; times before 1970 are below it.
export function floorDivide(value: bigint, by: bigint): bigint {
  const quotient = value / by;
  return value % by < 0n ? quotient - 1n : quotient;
}

// The number of bits without leading zeros: 0 has none.
export function bitLength(value: bigint): number {
  return value === 0n ? 0 : value.toString(2).length;
}

export function ascending<T extends number | bigint>(values: Iterable<T>): T[] {
  return [...values].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
}
