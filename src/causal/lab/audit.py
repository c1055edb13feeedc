"""What users really saw: an independent bookkeeping of a replayed trace.

Owns the definitions. It is told what was written (and which version the store made of it) and what each read returned, and asks no
token, gate or receipt. A version of a key is ranked by the store's conflict order, (stamp, origin): the highest wins.

* A read is **stale** (of an own write) if it returns less than the reader's own last write of the key: nothing, or a version that
  ranks below it. A concurrent version that wins over the own write is not stale: the write was seen, and lost a conflict.
* A read is **non-monotonic** if it returns less than the same session read of the key before.
* A read is **out of causal order** if it returns less than some version of the key in the reader's causal past: own writes, versions
  read, and all that their writers had written and read before, in any session. It counts the two above and what only others reveal.
"""

from __future__ import annotations

from typing import Final

import attrs

Rank = tuple[int, int]
NOTHING: Final[Rank] = (-1, -1)


@attrs.define
class Counts:
    """What an audit found. Units: reads. Thread-safety: none."""

    reads: int = 0
    writes: int = 0
    stale: int = 0
    non_monotonic: int = 0
    out_of_causal_order: int = 0


@attrs.frozen(eq=False)
class _Version:
    key: str
    rank: Rank
    past: dict[str, Rank]


@attrs.define(eq=False)
class _Reader:
    own: dict[str, Rank] = attrs.field(factory=dict)
    read: dict[str, Rank] = attrs.field(factory=dict)
    past: dict[str, Rank] = attrs.field(factory=dict)
    merged: set[int] = attrs.field(factory=set)


class Audit:
    """The bookkeeping of one run.

    Thread-safety: none; a run in virtual time has one thread at a time. Complexity: a read costs the keys in the past of the version
    that it returns, once for each version and session.
    """

    def __init__(self) -> None:
        self.counts = Counts()
        self._versions: dict[int, _Version] = {}
        self._sessions: dict[str, _Reader] = {}

    def wrote(self, session: str, key: str, identity: int, rank: Rank) -> None:
        """Note a write that was acknowledged, and how the store ranks it."""
        self.counts.writes += 1
        me = self._sessions.setdefault(session, _Reader())
        self._versions[identity] = _Version(key, rank, dict(me.past))
        me.own[key] = max(me.own.get(key, NOTHING), rank)
        me.past[key] = max(me.past.get(key, NOTHING), rank)
        me.merged.add(identity)

    def read(self, session: str, key: str, identity: int | None) -> None:
        """Note which version a read returned: the identity of a write, or None for nothing."""
        counts = self.counts
        counts.reads += 1
        me = self._sessions.setdefault(session, _Reader())
        version = None if identity is None else self._versions[identity]
        rank = NOTHING if version is None else version.rank
        counts.stale += rank < me.own.get(key, NOTHING)
        counts.non_monotonic += rank < me.read.get(key, NOTHING)
        counts.out_of_causal_order += rank < me.past.get(key, NOTHING)
        me.read[key] = max(me.read.get(key, NOTHING), rank)
        if version is not None and identity is not None and identity not in me.merged:
            me.merged.add(identity)
            past = me.past
            for other, known in version.past.items():
                if known > past.get(other, NOTHING):
                    past[other] = known
            past[key] = max(past.get(key, NOTHING), rank)
