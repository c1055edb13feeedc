"""Frontiers: what a session demands, or a server has applied, as one value.

Owns the semilattice (join, order) and the compaction of one frontier. Knows nothing of tokens,
time or endpoints: whoever compacts says until when a leader mark holds.

A frontier has three parts, each a semilattice of its own, joined part by part:

* entries: `(shard, origin) -> offset`, "everything up to here";
* floors: `store -> offset`, "every live origin of every shard of this store, up to here" (clock offsets only);
* marks: `store -> LeaderMark`, "the shards of this store that the mark does not list: at the leader only, until T".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, TypeVar

from causal.core.position import (
    ANY_ORIGIN,
    EVERY_STORE,
    FOREVER,
    MAX_OFFSET,
    MAX_ORIGIN,
    MAX_SHARD,
    MAX_STORE,
    LeaderMark,
    Loss,
    Position,
    pack,
    store_of,
    unpack,
)
from causal.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "ANY_ORIGIN",
    "EVERY_STORE",
    "FOREVER",
    "MAX_OFFSET",
    "MAX_ORIGIN",
    "MAX_SHARD",
    "MAX_STORE",
    "Frontier",
    "LeaderMark",
    "Loss",
    "Position",
    "pack",
    "shard_id",
    "store_of",
    "unpack",
]


_NONE: Final[dict[int, Any]] = {}
_F = TypeVar("_F", bound="Frontier")


def shard_id(store: int, index: int) -> int:
    """Return the shard id of shard number `index` of store number `store`. Raises: ConfigError out of range."""
    _whole(store, index)
    if not 0 <= store <= MAX_STORE or not 0 <= index <= 0xFFFF:
        raise ConfigError(f"a store number is in 0..65534 and a shard index in 0..65535, not {store} and {index}")
    return store << 16 | index


class _Parts:
    """The slots of a Frontier, open while it is made: twice as fast as going around a frozen `__setattr__`."""

    __slots__ = ("entries", "floors", "marks")

    entries: dict[int, int]
    floors: dict[int, int]
    marks: dict[int, LeaderMark]


class Frontier(_Parts):
    """A set of positions, at most one offset per (shard, origin): "everything up to here".

    Invariant: join (`|`) is associative, commutative and idempotent, `a | b >= a`, and `>=` is its order (I2).
    Thread-safety: immutable. Complexity: join and `>=` are linear in the smaller and in the right operand.
    Source: version vectors, Parker et al. 1983; causal contexts, Almeida et al. 2014.
    """

    __slots__ = ()

    entries: dict[int, int]
    """`pack(shard, origin) -> offset`. Read it in hot code; never change it."""

    def __new__(cls, positions: Iterable[Position] = ()) -> Self:
        """Join positions. Raises: ConfigError for a number out of range, or not whole."""
        entries: dict[int, int] = {}
        for p in positions:
            key = _checked(p.shard, p.origin, p.offset)
            if p.offset > entries.get(key, -1):
                entries[key] = p.offset
        return _make(cls, entries, _NONE, _NONE)

    @classmethod
    def of(
        cls,
        entries: dict[int, int],
        floors: dict[int, int] | None = None,
        marks: dict[int, LeaderMark] | None = None,
    ) -> Self:
        """Wrap packed parts without copying or checking them: for codecs and engines, which own what they pass."""
        return _make(cls, entries, floors or _NONE, marks or _NONE)

    @staticmethod
    def plain(entries: dict[int, int]) -> Frontier:
        """Wrap packed entries alone, as `of` does: for the codec, which makes one for every token that is opened."""
        parts: Any = _Parts()
        parts.entries = entries
        parts.floors = parts.marks = _NONE
        parts.__class__ = Frontier
        made: Frontier = parts
        return made

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a frontier is immutable: cannot set {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a frontier is immutable: cannot delete {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return Frontier.of, (self.entries, self.floors, self.marks)

    # --- the lattice -------------------------------------------------------------------------------------------

    def __or__(self, other: Frontier) -> Frontier:
        """Return the least frontier that dominates both."""
        big, small = self.entries, other.entries
        if len(small) > len(big):
            big, small = small, big
        joined = big.copy()
        for key, offset in small.items():
            if offset > joined.get(key, -1):
                joined[key] = offset
        floors, marks = self.floors, self.marks
        if other.floors:
            floors = _joined_floors(floors, other.floors)
        if other.marks:
            marks = _joined_marks(marks, other.marks)
        return _make(Frontier, joined, floors, marks)

    def __ge__(self, other: Frontier) -> bool:
        """Return whether this frontier dominates the other."""
        get = self.entries.get
        for key, offset in other.entries.items():
            if get(key, -1) < offset:
                return False
        if other.floors and not all(self.floors.get(s, -1) >= f for s, f in other.floors.items()):
            return False
        return not other.marks or all(s in self.marks and self.marks[s] >= m for s, m in other.marks.items())

    def __le__(self, other: Frontier) -> bool:
        return other >= self

    def __gt__(self, other: Frontier) -> bool:
        return self >= other and self != other

    def __lt__(self, other: Frontier) -> bool:
        return other > self

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Frontier):
            return NotImplemented
        return self.entries == other.entries and self.floors == other.floors and self.marks == other.marks

    def __hash__(self) -> int:
        return hash((frozenset(self.entries.items()), frozenset(self.floors.items()), frozenset(self.marks.items())))

    def __bool__(self) -> bool:
        return bool(self.entries or self.floors or self.marks)

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Position]:
        """Iterate over the positions, by shard, then origin."""
        for key in sorted(self.entries):
            yield Position(key >> 32, key & 0xFFFFFFFF, self.entries[key])

    def __repr__(self) -> str:
        parts = [", ".join(map(str, self))] if self.entries else []
        parts += [f"floor(store {s})={f}" for s, f in sorted(self.floors.items())]
        parts += [
            f"leader(store {s}, until {m.until}, except {sorted(m.exact)})" for s, m in sorted(self.marks.items())
        ]
        return f"Frontier({'; '.join(parts)})"

    # --- parts -------------------------------------------------------------------------------------------------

    def advance(self, *, shard: int, offset: int, origin: int = 0) -> Frontier:
        """Return the join with one position. Raises: ConfigError for a number out of range, or not whole."""
        key = _checked(shard, origin, offset)
        if offset <= self.entries.get(key, -1):
            return self
        return _make(Frontier, {**self.entries, key: offset}, self.floors, self.marks)

    def offset(self, shard: int, origin: int = 0) -> int | None:
        """Return the offset demanded of one origin of one shard, or None."""
        return self.entries.get(pack(shard, origin))

    def on(self, shard: int) -> Frontier:
        """Return the part that concerns one shard: its entries, its store's floor, and its store's mark if it covers the shard."""
        store = store_of(shard)
        return _make(
            Frontier,
            {k: v for k, v in self.entries.items() if k >> 32 == shard},
            {store: self.floors[store]} if store in self.floors else _NONE,
            {s: m for s, m in self.marks.items() if s in (store, EVERY_STORE) and shard not in m.exact},
        )

    def store(self, number: int) -> Frontier:
        """Return the part that concerns one store, a mark on every store included."""
        return _make(
            Frontier,
            {k: v for k, v in self.entries.items() if k >> 48 == number},
            {number: self.floors[number]} if number in self.floors else _NONE,
            {s: m for s, m in self.marks.items() if s in (number, EVERY_STORE)},
        )

    @property
    def shards(self) -> frozenset[int]:
        """The shards that have entries."""
        return frozenset(key >> 32 for key in self.entries)

    @property
    def exact(self) -> Frontier:
        """The entries alone, without floors and marks."""
        return self if not (self.floors or self.marks) else _make(Frontier, self.entries, _NONE, _NONE)

    def marked(self, shard: int) -> bool:
        """Return whether a leader mark covers the shard."""
        return any(
            shard not in mark.exact for store, mark in self.marks.items() if store in (store_of(shard), EVERY_STORE)
        )

    def mark(self, store: int, until: int, *, exact: Iterable[int] = (), origins: Iterable[int] = ()) -> Frontier:
        """Return the join with a leader mark on every shard of `store` (or EVERY_STORE) that is not in `exact`.

        Units: `until` in Unix seconds. Raises: ConfigError for a number out of range, or not whole.
        """
        mark = LeaderMark(until, frozenset(exact), frozenset(origins))
        _whole(store, until, *mark.exact, *mark.origins)
        origins_fit = all(ANY_ORIGIN <= origin <= MAX_ORIGIN for origin in mark.origins)
        fits = 0 <= store <= EVERY_STORE and until <= FOREVER
        if not (fits and origins_fit and all(0 <= shard <= MAX_SHARD for shard in mark.exact)):
            raise ConfigError(f"no such mark: on store {store}, {mark} (u16; until u63; shards u32, origins u32)")
        return _make(Frontier, self.entries, self.floors, _joined_marks(self.marks, {store: mark}))

    def lapse(self, now: float) -> Frontier:
        """Return this frontier without the leader marks whose time is over. Units: Unix seconds."""
        if not self.marks or all(m.until > now for m in self.marks.values()):
            return self
        return _make(Frontier, self.entries, self.floors, {s: m for s, m in self.marks.items() if m.until > now})

    def without(self, keys: Iterable[int]) -> Frontier:
        """Return this frontier without some packed (shard, origin) keys. Weaker: only for entries shown to be covered or aged."""
        gone = set(keys)
        if gone.isdisjoint(self.entries):
            return self
        return _make(Frontier, {k: v for k, v in self.entries.items() if k not in gone}, self.floors, self.marks)

    def clip(self, ends: Mapping[int, int]) -> Frontier:
        """Return this frontier with no offset past the end of its origin. `ends` maps packed keys to ends."""
        if not any(self.entries.get(k, -1) > end for k, end in ends.items()):
            return self
        entries = {k: min(v, ends.get(k, v)) for k, v in self.entries.items()}
        return _make(Frontier, entries, self.floors, self.marks)

    # --- compaction: the ladder's last rung; core/token.py climbs the whole ladder ------------------------------

    def compact(
        self,
        max_entries: int = 6,
        *,
        until: int = FOREVER,
        keep: Frontier | None = None,
        stores: Iterable[int] | None = None,
    ) -> Frontier:
        """Return a frontier of at most `max_entries` entries that admits nothing this one does not (I3).

        Whole shards are dropped, because a mark speaks of whole shards; what is dropped becomes "the unlisted shards of this
        store: leader only until `until`". Shards with entries in `keep` (own writes) stay longest, then those with few origins.
        Only shards of `stores` (default: all) are dropped: a foreign store's positions are carried untouched, even over the limit.

        Units: `until` in Unix seconds; the caller must choose it at least max_staleness + max_clock_skew ahead.
        Complexity: n log n.
        """
        if len(self.entries) <= max_entries:
            return self
        by_shard: dict[int, list[int]] = {}
        for key in self.entries:
            by_shard.setdefault(key >> 32, []).append(key)
        known = None if stores is None else set(stores)
        own = set() if keep is None else keep.shards

        def rank(shard: int) -> tuple[bool, bool, int, int]:
            foreign = known is not None and store_of(shard) not in known
            return not foreign, shard not in own, len(by_shard[shard]), shard

        entries: dict[int, int] = {}
        dropped: dict[int, set[int]] = {}
        for shard in sorted(by_shard, key=rank):
            keys = by_shard[shard]
            foreign = known is not None and store_of(shard) not in known
            if foreign or len(entries) + len(keys) <= max_entries:
                entries.update((k, self.entries[k]) for k in keys)
            else:
                dropped.setdefault(store_of(shard), set()).update(
                    k & 0xFFFFFFFF for k in keys if keep is None or k in keep.entries
                )
        listed = {k >> 32 for k in entries}
        marks = {
            store: LeaderMark(until, frozenset(s for s in listed if store_of(s) == store), frozenset(origins))
            for store, origins in dropped.items()
        }
        return _make(Frontier, entries, self.floors, _joined_marks(self.marks, marks))


def _make(cls: type[_F], entries: dict[int, int], floors: dict[int, int], marks: dict[int, LeaderMark]) -> _F:
    """Build without checks."""
    parts: Any = _Parts()
    parts.entries = entries
    parts.floors = floors
    parts.marks = marks
    parts.__class__ = cls
    made: _F = parts
    return made


def _joined_floors(a: dict[int, int], b: dict[int, int]) -> dict[int, int]:
    return {s: max(a.get(s, 0), b.get(s, 0)) for s in a.keys() | b.keys()}


def _joined_marks(a: dict[int, LeaderMark], b: dict[int, LeaderMark]) -> dict[int, LeaderMark]:
    joined = dict(a)
    for store, mark in b.items():
        joined[store] = joined[store] | mark if store in joined else mark
    return joined


def _whole(*numbers: object) -> None:
    for number in numbers:
        if not isinstance(number, int) or isinstance(number, bool):
            raise ConfigError(f"a frontier is made of whole numbers, and {number!r} is none")


def _checked(shard: int, origin: int, offset: int) -> int:
    if not type(shard) is type(origin) is type(offset) is int:
        _whole(shard, origin, offset)
    if not (0 <= shard <= MAX_SHARD and 0 <= origin <= MAX_ORIGIN and 0 <= offset <= MAX_OFFSET):
        raise ConfigError(f"no such position: shard {shard}, origin {origin}, offset {offset} (u32, u32, u64)")
    return shard << 32 | origin
