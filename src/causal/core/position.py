"""Positions, and what a session knows of positions it no longer lists. The words that frontiers are made of.

Owns the numbering: shards, origins, offsets, and how a (shard, origin) pair is packed into one int. Checks nothing and raises nothing:
errors carry these values as evidence.
"""

from __future__ import annotations

from typing import Final

import attrs

MAX_SHARD: Final = 2**32 - 1
MAX_ORIGIN: Final = 2**32 - 1
MAX_OFFSET: Final = 2**64 - 1
MAX_STORE: Final = 2**16 - 2
EVERY_STORE: Final = 2**16 - 1
"""The store number that no store may have: a leader mark under it covers every store, known here or not."""
FOREVER: Final = 2**63 - 1
"""The `until` of a leader mark that does not lapse."""
ANY_ORIGIN: Final = -1
"""Among a leader mark's `origins`: writes of origins too many to list were dropped. It then stands alone, so that equal
marks are written alike."""
_ANY: Final = frozenset((ANY_ORIGIN,))


def pack(shard: int, origin: int) -> int:
    """Pack (shard, origin) into the int that keys `Frontier.entries`: hashing one int is what keeps joins fast."""
    return shard << 32 | origin


def unpack(key: int) -> tuple[int, int]:
    """Undo `pack`."""
    return key >> 32, key & 0xFFFFFFFF


def store_of(shard: int) -> int:
    """Return the number of the store that a shard id belongs to."""
    return shard >> 16


@attrs.frozen(order=True)
class Position:
    """A place in one origin's log of one shard. Thread-safety: immutable."""

    shard: int
    origin: int
    offset: int

    def __str__(self) -> str:
        return f"{self.shard}/{self.origin}@{self.offset}"


@attrs.frozen
class Loss:
    """An own position that no longer exists, and where its origin's surviving history stops.

    Thread-safety: immutable.
    """

    position: Position
    end: int

    def __str__(self) -> str:
        return f"{self.position} (that history ends at {self.end})"


def _origins(origins: frozenset[int]) -> frozenset[int]:
    return _ANY if ANY_ORIGIN in origins else origins


@attrs.frozen
class LeaderMark:
    """Shards that are read at a leader only, until `until`: every shard of a store except those in `exact`.

    It stands for positions that are no longer listed. `origins` are the origins that the dropped own positions had: a
    leader at which one of them has ended can no longer tell whether a write was lost, and says so. ANY_ORIGIN stands for all.

    Units: `until` in Unix seconds. Invariant: joins by (max, intersection, union), so a join never weakens.
    Thread-safety: immutable.
    """

    until: int
    exact: frozenset[int] = frozenset()
    origins: frozenset[int] = attrs.field(default=frozenset(), converter=_origins)

    def __or__(self, other: LeaderMark) -> LeaderMark:
        return LeaderMark(max(self.until, other.until), self.exact & other.exact, self.origins | other.origins)

    def __ge__(self, other: LeaderMark) -> bool:
        recalls_all = self.origins == _ANY or self.origins >= other.origins
        return self.until >= other.until and self.exact <= other.exact and recalls_all

    def recalls(self, origin: int) -> bool:
        """Return whether an own write of this origin may have been dropped."""
        return origin in self.origins or ANY_ORIGIN in self.origins


@attrs.frozen
class DoubtfulMark(LeaderMark):
    """Those origins of a leader mark whose history has ended, at one store: what `session.forget` is to accept of the mark.

    Origins are numbered by each store for itself: another store's mark may remember an equal number. Thread-safety: immutable.
    """

    store: int = attrs.field(default=EVERY_STORE, kw_only=True)
