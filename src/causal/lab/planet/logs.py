"""The logs of the simulated store: what one origin numbered, and what became of it.

Owns entries and logs. Knows nothing of servers.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from causal.core.frontier import Frontier

START_MS: Final = 1_700_000_000_000
"""The wall time at which virtual time begins. Units: Unix milliseconds."""
EMPTY: Final = Frontier()
Past = dict[int, int]


class Entry:
    """One write: its place, its stamp, what it depends on, and (for the bookkeeping alone) what its writer truly knew.

    `pk` is the packed (shard, origin); `number` is its identity, which is also its value.
    """

    __slots__ = ("at_s", "deps", "key", "lost", "number", "offset", "past", "pk", "session", "shown", "stamp")

    def __init__(
        self, pk: int, offset: int, stamp: int, key: int, number: int, session: str, deps: Frontier, past: Past
    ) -> None:
        self.pk = pk
        self.offset = offset
        self.stamp = stamp
        self.key = key
        self.number = number
        self.session = session
        self.deps = deps
        self.past = past
        self.at_s = 0.0
        self.lost = False
        self.shown: Frontier | None = None

    @property
    def rank(self) -> tuple[int, int]:
        """How conflicts are decided: the highest wins."""
        return self.stamp, self.pk & 0xFFFFFFFF

    def reveal(self) -> Frontier:
        """Return what whoever reads this is shown: its position, and its dependencies."""
        shown = self.shown
        if shown is None:
            self.shown = shown = self.deps | Frontier.of({self.pk: self.offset})
        return shown

    def __str__(self) -> str:
        return f"#{self.number} ({self.pk >> 32}/{self.pk & 0xFFFFFFFF}@{self.offset})"


class Log:
    """What one origin of one shard numbered, from the oldest entry that somebody may still lack. `end`: where it stopped for good."""

    __slots__ = ("after", "end", "entries", "head", "last", "leader", "lost", "offsets", "pk", "shard")

    def __init__(self, shard: int, origin: int, leader: str, after: tuple[int, int] | None = None) -> None:
        self.shard = shard
        self.pk = shard << 32 | origin
        self.leader = leader
        self.after = after
        """The log that this one goes on from, and where: a follower must have that first."""
        self.last: Entry | None = None
        """The latest entry: what it depends on, everything before it does. Kept when entries are forgotten."""
        self.head = 0
        self.end: int | None = None
        self.offsets: list[int] = []
        self.entries: list[Entry] = []
        self.lost: list[Entry] = []
        """What was past the end: who has not heard of it yet still shows it."""

    def append(self, entry: Entry) -> None:
        """Number an entry."""
        self.offsets.append(entry.offset)
        self.entries.append(entry)
        self.last = entry
        self.head = entry.offset

    def between(self, applied: int, upto: int) -> list[Entry]:
        """Return the entries after `applied`, up to and including `upto`."""
        offsets = self.offsets
        return self.entries[bisect_right(offsets, applied) : bisect_right(offsets, upto)]

    def forget(self, upto: int) -> list[Entry]:
        """Remove and return the entries up to an offset."""
        n = bisect_right(self.offsets, upto)
        gone = self.entries[:n]
        del self.entries[:n], self.offsets[:n]
        return gone

    def cut(self, end: int) -> list[Entry]:
        """End here: remove and return what is past the end."""
        n = bisect_right(self.offsets, end)
        self.lost = self.entries[n:]
        del self.entries[n:], self.offsets[n:]
        self.end = self.head = end
        self.last = self.entries[-1] if self.entries else None
        for entry in self.lost:
            entry.lost = True
        return self.lost


def win(versions: dict[int, Entry], entry: Entry) -> None:
    """Let an entry's version of its key replace the one that is there, if it wins over it."""
    key = entry.key
    old = versions.get(key)
    if old is None or (entry.stamp, entry.pk) > (old.stamp, old.pk):
        versions[key] = entry


def joined(a: Past, b: Past, pk: int, offset: int) -> Past:
    """Return the join of two pasts and one position. Complexity: linear in the smaller."""
    if len(a) < len(b):
        a, b = b, a
    get = a.get
    past = {**a, **{key: place for key, place in b.items() if place > get(key, -1)}}
    if offset > past.get(pk, -1):
        past[pk] = offset
    return past
