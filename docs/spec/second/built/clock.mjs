// The two steps of the clock, and conflict stamps. A step is a function of `last`; who keeps `last` lets no other step
// of the same clock come between. Nothing here reads a clock: the wall is given, in Unix milliseconds, and may be wrong.

import { ClockDrift } from "./errors.mjs";
import { max, floorDivide } from "./numbers.mjs";
import { COUNTER_BITS, check, physicalMs } from "./timestamp.mjs";

// What `last` is before the first timestamp: below every timestamp, so that the first counter is 0 (C-7).
export const START = -1n;

// C-11: a finer wall is rounded down, before 1970 as well.
export function wallMsOfNs(wallNs        )         {
  return floorDivide(wallNs, 1_000_000n);
}

// A local event: C-6. Adding 1 carries out of a full counter (C-9); a wall that stepped back loses the max (C-10).
export function tick(last        , wallMs        )         {
  return check(max(last + 1n, wallMs << COUNTER_BITS)); // C-12: refused, never wrapped
}

// A receive whose remote is believed, however far ahead: C-8, C-13.
export function merge(last        , remote        , wallMs        )         {
  return check(max(last + 1n, check(remote) + 1n, wallMs << COUNTER_BITS));
}

// A receive. The bound is measured from the wall, not from `last` (C-16), and in milliseconds: the counter of the
// remote does not count (C-15).
export function update(last        , remote        , wallMs        , maxDriftMs        )         {
  const remoteMs = physicalMs(check(remote));
  if (remoteMs - wallMs > maxDriftMs) throw new ClockDrift(remoteMs, wallMs); // C-14
  return merge(last, remote, wallMs);
}

// C-20: the stamp of a new version, above all that is applied where it is written.
export function nextStamp(now        , applied          )         {
  return check(max(now, ...applied.map((stamp) => stamp + 1n)));
}

// C-21: whether the first of two versions wins.
export function wins(stamp        , origin        , otherStamp        , otherOrigin        )          {
  return stamp === otherStamp ? origin > otherOrigin : stamp > otherStamp;
}
