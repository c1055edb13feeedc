// The bound that survives a restart: above every timestamp that any clock on it ever handed out.
//
// `Ceiling` stands for what is stored; its owner makes `stored` durable, and a reservation atomic.

import { START, tick } from "./clock.ts";
import { ClockError } from "./errors.ts";
import { U64_MAX, isU64, max, min } from "./numbers.ts";
import { COUNTERS, COUNTER_BITS } from "./timestamp.ts";

export type Ceiling = { stored: bigint | null };

const REACH_MAX_MS = 1000n;

export class CeiledClock {
  readonly #ceiling: Ceiling;
  readonly #reachMs: bigint;
  #last: bigint;
  // What this clock has stored itself: it hands out what is below. And what was stored before that.
  #held = 0n;
  #before = 0n;

  constructor(ceiling: Ceiling, maxDriftMs: bigint) {
    this.#ceiling = ceiling;
    this.#reachMs = min(maxDriftMs / 2n, REACH_MAX_MS); // C-24
    this.#last = ceiling.stored === null ? START : ceiling.stored - 1n; // C-22
  }

  tick(wallMs: bigint): bigint {
    const next = tick(this.#last, wallMs);
    if (next >= this.#held) this.#reserve(next, wallMs);
    this.#last = next;
    return next;
  }

  #reserve(need: bigint, wallMs: bigint): void {
    const upTo = min(max(need + COUNTERS, (wallMs + this.#reachMs) << COUNTER_BITS), U64_MAX);
    const before = this.#ceiling.stored ?? 0n;
    const held = max(upTo, before + 1n); // C-25: raised, be it by 1
    // C-23, C-27: what a restart could repeat is not handed out.
    if (!isU64(held) || held <= need) throw new ClockError(`${need} cannot be reserved`);
    this.#ceiling.stored = held;
    this.#held = held;
    this.#before = before;
  }

  // C-26: lowered only if nobody has reserved since.
  close(): void {
    if (this.#held !== 0n && this.#ceiling.stored === this.#held) {
      this.#ceiling.stored = max(this.#last + 1n, this.#before + 1n);
    }
  }
}
