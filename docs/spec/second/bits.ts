// The alphabet of packed claims: numbers, columns, counts, rising numbers and sets, as bits. `F` is how many bits the
// width of a number takes.

import { MalformedToken, TokenError } from "./errors.ts";
import { ascending, bitLength } from "./numbers.ts";

const WIDTH_MAX = 64; // no number that is allowed is wider (T-42)
const COUNT_BITS = 5;
const COUNT_ESCAPE = 31;
export const COUNT_MAX = 65_535;

export class BitWriter {
  readonly #bytes: number[] = [];
  #free = 0; // bits of the last byte that are still free

  bits(value: bigint, width: number): void {
    for (let left = width; left > 0; ) {
      if (this.#free === 0) {
        this.#bytes.push(0);
        this.#free = 8;
      }
      const now = Math.min(left, this.#free);
      left -= now;
      this.#free -= now;
      const piece = Number((value >> BigInt(left)) & ((1n << BigInt(now)) - 1n));
      this.#bytes[this.#bytes.length - 1]! |= piece << this.#free;
    }
  }

  flag(value: boolean): void {
    this.bits(value ? 1n : 0n, 1);
  }

  // T-21
  number(value: bigint, F: number): void {
    const width = bitLength(value);
    this.bits(BigInt(width), F);
    this.bits(value, width);
  }

  // T-22
  column(values: readonly bigint[], F: number): void {
    if (values.length === 1) {
      this.number(values[0]!, F);
      return;
    }
    const { base, width } = frameOf(values);
    this.number(base, F);
    this.bits(BigInt(width), F);
    for (const value of values) this.bits(value - base, width);
  }

  // T-24
  count(value: number): void {
    if (value > COUNT_MAX) throw new TokenError(`${value} are more than 65,535`); // step 2 of sealing
    if (value < COUNT_ESCAPE) {
      this.bits(BigInt(value), COUNT_BITS);
    } else {
      this.bits(BigInt(COUNT_ESCAPE), COUNT_BITS);
      this.bits(BigInt(value), 16);
    }
  }

  // T-25
  rising(values: readonly bigint[]): void {
    this.number(values[0]!, 6);
    if (values.length > 1) this.column(values.slice(1).map((value, i) => value - values[i]!), 6);
  }

  // T-26
  set(members: Iterable<number>): void {
    const sorted = ascending(members).map(BigInt);
    this.count(sorted.length);
    if (sorted.length > 0) this.rising(sorted);
  }

  // T-20: what is free of the last byte is zero.
  done(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }
}

// T-23: the least is subtracted exactly when that is shorter.
function frameOf(values: readonly bigint[]): { base: bigint; width: number } {
  let low = values[0]!;
  let high = low;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const whole = bitLength(high);
  const spread = bitLength(high - low);
  return values.length * (whole - spread) > bitLength(low) ? { base: low, width: spread } : { base: 0n, width: whole };
}

// The reader checks ranges, and that bits are there before it makes anything of them. That they are the one spelling of
// what they say is checked by whoever packs it again.
export class BitReader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(source: Uint8Array) {
    this.#bytes = source;
  }

  get left(): number {
    return 8 * this.#bytes.length - this.#at;
  }

  bits(width: number): bigint {
    this.#need(width);
    let value = 0n;
    for (let left = width; left > 0; ) {
      const free = 8 - (this.#at % 8);
      const now = Math.min(left, free);
      const byte = this.#bytes[this.#at >> 3]!;
      value = (value << BigInt(now)) | BigInt((byte >> (free - now)) & ((1 << now) - 1));
      this.#at += now;
      left -= now;
    }
    return value;
  }

  flag(): boolean {
    return this.bits(1) === 1n;
  }

  number(F: number, most: bigint): bigint {
    return within(this.bits(this.#width(F)), most);
  }

  column(count: number, F: number, most: bigint): bigint[] {
    if (count === 1) return [this.number(F, most)];
    const base = this.bits(this.#width(F));
    const width = this.#width(F);
    this.#need(count * width); // T-43: before a list of that length is made
    return Array.from({ length: count }, () => within(base + this.bits(width), most)); // T-42: after adding
  }

  count(): number {
    const short = Number(this.bits(COUNT_BITS));
    return short === COUNT_ESCAPE ? Number(this.bits(16)) : short;
  }

  rising(count: number, most: bigint): bigint[] {
    let last = this.number(6, most);
    const values = [last];
    if (count > 1) {
      for (const gap of this.column(count - 1, 6, most)) values.push((last = within(last + gap, most)));
    }
    return values;
  }

  // The members, of which there must be no more than `room`.
  set(most: number, room = COUNT_MAX): number[] {
    const count = this.count();
    if (count > room) throw new MalformedToken("too many members of a set");
    const members = count === 0 ? [] : this.rising(count, BigInt(most)).map(Number);
    if (new Set(members).size !== count) throw new MalformedToken("a member of a set twice"); // T-55
    return members;
  }

  // T-41: whether all that is left is what fills up a byte.
  isDone(): boolean {
    if (this.left >= 8) return false;
    const unused = (1 << this.left) - 1;
    return this.left === 0 || (this.#bytes[this.#bytes.length - 1]! & unused) === 0;
  }

  #width(F: number): number {
    const width = Number(this.bits(F));
    if (width > WIDTH_MAX) throw new MalformedToken(`a number of ${width} bits`);
    return width;
  }

  #need(bits: number): void {
    if (bits > this.left) throw new MalformedToken("bits that end early"); // T-43
  }
}

function within(value: bigint, most: bigint): bigint {
  if (value > most) throw new MalformedToken("a number out of its range"); // T-42
  return value;
}
