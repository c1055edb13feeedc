// What a session keeps: its own acknowledged writes, and what it has seen. They are kept apart, because own past the
// end of a history is a lost write, and seen past it somebody else's loss.

import { NOTHING, checkPosition, entriesOf, join, keyOf, mapValues } from "./frontier.ts";
import type { Frontier, Position } from "./frontier.ts";
import { min } from "./numbers.ts";

export type Session = { readonly own: Frontier; readonly seen: Frontier };
export type Loss = readonly [shard: number, origin: number, offset: bigint, end: bigint];

export function demanded(session: Session): Frontier {
  return join(session.own, session.seen);
}

// F-18: the position joins own; what came with the acknowledgement, or was read, joins seen.
export function learn(session: Session, wrote: Position | null, shown: Frontier): Session {
  const written = wrote === null ? NOTHING : { ...NOTHING, entries: entriesOf([wrote]) };
  return { own: join(session.own, written), seen: join(session.seen, shown) };
}

// F-19: an own entry is forgotten only if it is the very one whose loss was accepted.
export function forget(session: Session, [shard, origin, offset, end]: Loss): Session {
  for (const each of [offset, end]) checkPosition([shard, origin, each]);
  const key = keyOf(shard, origin);
  const lowered = (frontier: Frontier, isLost: (entry: bigint) => boolean): Frontier => ({
    ...frontier,
    entries: mapValues(frontier.entries, (other, entry) => (other === key && isLost(entry) ? min(entry, end) : entry)),
  });
  return {
    own: lowered(session.own, (entry) => entry === offset),
    seen: lowered(session.seen, (entry) => entry <= offset),
  };
}
