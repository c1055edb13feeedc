"""A history made ready to be judged: which write each read saw, and which of two versions of a key is newer.

Owns what a history means. A read saw the write that made its version (white box), or that wrote its value (black box, where no value
is written twice to one key). A version whose write is not in the history (it was sampled) is legal in a white box: it has a place
among the versions of its key, and no past. What had no effect, or may have had none and was never read, is left out.

**Evidence** is what shows that a version exists: its write, or a read of it where its write is not in the history. `pos` counts the
evidence of a lane: for evidence its own place from 1, for any other operation how much of it came before.

A **chain** holds versions of which any two can be compared. Most keys are one chain. A key that several origins number at once, with
no stamps, has one for each origin: across them nobody knows which is newer.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

from causal.lab.checking.session_order import SessionOrder
from causal.lab.history import IN_DOUBT, NO_STAMP, NO_VERSION, REFUSED, WRITE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from causal.lab.history import History

INITIAL: Final = -1
"""Writer of a read that found nothing; its rank too: lower than any version's."""
UNKNOWN: Final = -2
"""Writer of a read of a version whose write is not in the history."""
NONE: Final = -3
"""No writer: a write, or a read of which nobody can say what it saw."""
UNRANKED: Final = -2
_MAX_RANK: Final = (1 << 63) - 1


class NotUniqueError(Exception):
    """A history that no black box can judge; `args[0]` says why."""


class Model:
    """What the judges work on. All arrays are by operation.

    Thread-safety: immutable by convention. Complexity: linear; sorting the versions of keys that several origins number.
    """

    def __init__(self, history: History, *, white: bool) -> None:
        n = len(history)
        self.history: Final = history
        self.white: Final = white
        self.writer = array("i", [NONE]) * n
        self.rank = array("q", [UNRANKED]) * n
        self.chain = array("i", history.key)
        self.chains = len(history.keys)
        self.split: dict[int, dict[int, int]] = {}
        """Of a key of several chains: the chain of each origin."""
        self.thin_air: list[int] = []
        """Reads of what nobody wrote, or of what was refused."""
        self.unversioned = 0
        self.lost: list[int] = []
        doubtful = _having(history, IN_DOUBT)
        if white:
            self._by_version()
        else:
            self._by_value()
        read = set(self.writer) if doubtful else set()
        unread = {i for i in doubtful if i not in read}
        refused = _having(history, REFUSED)
        self.order: Final = SessionOrder(history, [*refused, *unread], doubtful)
        self._count()

    def _by_version(self) -> None:
        """Find the writer and the rank of what each operation wrote or read, by versions."""
        history, writer = self.history, self.writer
        flags, key, origin, offset, values = history.flags, history.key, history.origin, history.offset, history.values
        keys = len(history.keys)
        origins: dict[int, int] = {}
        for o in sorted(set(origin)):
            if o != NO_VERSION:
                origins[o] = len(origins)
        step = len(origins)
        made: dict[int, int] = {}
        first = array("q", [NO_VERSION]) * keys
        several: set[int] = set()
        refused: dict[int, int] = {}
        for i, (o, k, f) in enumerate(zip(origin, key, flags, strict=True)):
            if first[k] != o != NO_VERSION:
                if first[k] == NO_VERSION:
                    first[k] = o
                else:
                    several.add(k)
            if f & WRITE and o != NO_VERSION:
                (refused if f & REFUSED else made)[(offset[i] * step + origins[o]) * keys + k] = i
        nothing: list[int] = []
        for i, (o, k, f) in enumerate(zip(origin, key, flags, strict=True)):
            if o == NO_VERSION:
                if f & WRITE or values[i] is not None:
                    self.unversioned += not f & REFUSED
                elif not f & REFUSED:
                    writer[i] = INITIAL
                    nothing.append(i)
            elif not f & (WRITE | REFUSED):
                code = (offset[i] * step + origins[o]) * keys + k
                w = writer[i] = made.get(code, UNKNOWN)
                if w < 0:
                    if code in refused:
                        self.thin_air.append(i)
                elif None not in (values[i], values[w]) and _likened(values[i]) != _likened(values[w]):
                    self.thin_air.append(i)
        self._rank(several, nothing)
        if history.ends:
            shards, ends = [shard for shard, _ in history.keys], history.ends
            self.lost = [i for i, o in enumerate(origin) if offset[i] > ends.get((shards[key[i]], o), offset[i])]

    def _rank(self, several: set[int], nothing: list[int]) -> None:
        """Rank versions: by offset where one origin numbers a key; else by stamps, or by origins that have ended."""
        history = self.history
        if max(history.offset) > _MAX_RANK:
            several.update(range(len(history.keys)))  # ranks are places in an order, then, not offsets themselves
        else:
            self.rank = array("q", history.offset)
        odd: dict[int, list[int]] = {k: [] for k in sorted(several)}
        if odd or self.unversioned:
            for i, (o, k) in enumerate(zip(history.origin, history.key, strict=True)):
                if o == NO_VERSION:
                    self.rank[i] = UNRANKED
                elif k in odd:
                    odd[k].append(i)
        for i in nothing:
            self.rank[i] = INITIAL
        for k, ops in odd.items():
            self._rank_key(k, ops)

    def _rank_key(self, key: int, ops: list[int]) -> None:
        history = self.history
        shard = history.keys[key][0]
        names: dict[int, tuple[int, ...]] = {}
        origins = sorted({history.origin[i] for i in ops})
        stamps: dict[tuple[int, int], int] = {}
        for i in ops:
            if history.stamp[i] != NO_STAMP:
                stamps[history.origin[i], history.offset[i]] = history.stamp[i]
        stamped = len(origins) > 1 and all((history.origin[i], history.offset[i]) in stamps for i in ops)
        for i in ops:
            version = (history.origin[i], history.offset[i])
            names[i] = (stamps[version], *version) if stamped else version
        order = {name: place for place, name in enumerate(sorted(set(names.values())))}
        for i in ops:
            self.rank[i] = order[names[i]]
        if not stamped and any((shard, o) not in history.ends for o in origins[:-1]):
            self.split[key] = {}
            for o in origins:
                self.split[key][o] = self.chains
                self.chains += 1
            for i in ops:
                self.chain[i] = self.split[key][history.origin[i]]

    def _by_value(self) -> None:
        """Find the writer of what each read returned, by values. Raises: NotUniqueError."""
        history, writer = self.history, self.writer
        made: dict[object, int] = {}
        refused: set[object] = set()
        for i, f in enumerate(history.flags):
            if not f & WRITE:
                continue
            value = history.values[i]
            name = (history.key[i], _likened(value))
            _, key = history.keys[history.key[i]]
            if value is None:
                raise NotUniqueError(f"key {key!r} is deleted, which reads like a key that was never written")
            if f & REFUSED:
                refused.add(name)
            elif name in made:
                raise NotUniqueError(f"value {value!r} is written more than once to key {key!r}")
            else:
                made[name] = i
        sampled = history.meta.get("sample", 1) != 1 or bool(history.meta.get("dropped"))
        for i, f in enumerate(history.flags):
            if f & (WRITE | REFUSED):
                continue
            value = history.values[i]
            if value is None:
                writer[i] = INITIAL
                continue
            name = (history.key[i], _likened(value))
            writer[i] = made.get(name, NONE)
            if writer[i] == NONE and (name in refused or not sampled):
                self.thin_air.append(i)

    def _count(self) -> None:
        """Count the evidence of each lane."""
        lane = self.order.lane
        counts = [0] * len(self.order.lane_ops)
        pos = self.pos = array("i", [0]) * len(lane)
        evidence = self.evidence = bytearray(len(lane))
        for i, (a, w, f) in enumerate(zip(lane, self.writer, self.history.flags, strict=True)):
            if a >= 0:
                if f & WRITE or w == UNKNOWN:
                    counts[a] += 1
                    evidence[i] = 1
                pos[i] = counts[a]
        self.most = max(counts, default=0)
        obliges = self.obliges = bytearray(b"\1") * len(lane)
        for i in self.lost:
            obliges[i] = 0
        if self.unversioned:
            for i, there in enumerate(evidence):
                if there and self.white and self.rank[i] == UNRANKED:
                    obliges[i] = 0

    def chains_of(self, key: int) -> Iterable[int]:
        """The chains of a key's versions."""
        return self.split[key].values() if key in self.split else (key,)

    def follows(self, i: int, lane: int) -> int:
        """The last operation of a lane of its own session that an operation follows, or a lower number: those up to it."""
        if lane == self.order.lane[i]:
            return i - 1
        followed = self.order.before.get(i, {}).get(lane, 0)
        return self.order.lane_ops[lane][followed - 1] if followed else -1

    def precedes(self, first: int, then: int) -> bool:
        """Whether an operation comes before another of the same session."""
        a, b = self.order.lane[first], self.order.lane[then]
        if a < 0 or b < 0 or self.order.session_of_lane[a] != self.order.session_of_lane[b]:
            return False
        return first != then and first <= self.follows(then, a)

    def ranked_by(self, order: Iterable[int]) -> None:
        """Rank each write by its place in an order, as a black box does that knows no versions."""
        rank, flags, writer = self.rank, self.history.flags, self.writer
        for place, i in enumerate(order):
            if flags[i] & WRITE:
                rank[i] = place
        for i, w in enumerate(writer):
            if w >= 0:
                rank[i] = rank[w]
            elif w == INITIAL:
                rank[i] = INITIAL


def _likened(value: object) -> object:
    """Return what a value is compared by. As in JSON true is not 1, and 1.0 is."""
    return (value,) if value is True or value is False else value


def _having(history: History, flag: int) -> list[int]:
    """The operations that have a flag."""
    if not any(f & flag for f in set(history.flags)):
        return []
    return [i for i, f in enumerate(history.flags) if f & flag]
