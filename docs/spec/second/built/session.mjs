// What a session keeps: its own acknowledged writes, and what it has seen. They are kept apart, because own past the
// end of a history is a lost write, and seen past it somebody else's loss.

import { NOTHING, checkPosition, entriesOf, join, keyOf, mapValues } from "./frontier.mjs";

import { min } from "./numbers.mjs";

export function demanded(session         )           {
  return join(session.own, session.seen);
}

// F-18: the position joins own; what came with the acknowledgement, or was read, joins seen.
export function learn(session         , wrote                 , shown          )          {
  const written = wrote === null ? NOTHING : { ...NOTHING, entries: entriesOf([wrote]) };
  return { own: join(session.own, written), seen: join(session.seen, shown) };
}

// F-19: an own entry is forgotten only if it is the very one whose loss was accepted.
export function forget(session         , [shard, origin, offset, end]      )          {
  for (const each of [offset, end]) checkPosition([shard, origin, each]);
  const key = keyOf(shard, origin);
  const lowered = (frontier          , isLost                            )           => ({
    ...frontier,
    entries: mapValues(frontier.entries, (other, entry) => (other === key && isLost(entry) ? min(entry, end) : entry)),
  });
  return {
    own: lowered(session.own, (entry) => entry === offset),
    seen: lowered(session.seen, (entry) => entry <= offset),
  };
}
