"""The four session guarantees of Terry et al. 1994, restated on reads so that they hold across shards.

Owns which of them a read breaks that misses something. With r the read, s its session, and "newer" as the judge has it:

* read-your-writes: a write of s before r is newer than what r returned;
* monotonic reads: a read of s before r returned a newer version;
* monotonic writes: s had read from another session (or reads by r itself), which had written a newer version before that;
* writes-follow-reads: s had read from another session (or reads by r itself), which had read a newer version before it wrote that.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from causal.lab.checking.evidence import Newest
from causal.lab.checking.findings import (
    MONOTONIC_READS,
    MONOTONIC_WRITES,
    READ_YOUR_WRITES,
    STALE,
    WRITES_FOLLOW_READS,
)
from causal.lab.checking.model import INITIAL, NONE, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from causal.lab.checking.clocks import Packing
    from causal.lab.checking.evidence import Index
    from causal.lab.checking.findings import Finding
    from causal.lab.checking.model import Model


class Newer:
    """Which of two versions is newer: by their ranks (white box), or because it was written knowing the other (black box).

    Thread-safety: none.
    """

    def __init__(self, model: Model, packing: Packing, clocks: Sequence[int | None]) -> None:
        self.model = model
        self._packing = packing
        self._clocks = clocks
        self._newest: dict[int, Newest] = {}
        self._knows: dict[int, tuple[list[int], int]] = {}
        self._phantoms: dict[tuple[int, int], list[int]] | None = None

    def than(self, read: int, i: int) -> bool:
        """Whether the version that an operation shows is newer than what a read returned."""
        model = self.model
        if not model.obliges[i]:
            return False
        if not model.white:
            w = model.writer[i]
            return self.written_after(read, w if w >= 0 else i)
        if model.writer[read] == INITIAL:
            return model.rank[i] >= 0
        return model.chain[i] == model.chain[read] and model.rank[i] > model.rank[read] >= 0

    def written_after(self, read: int, write: int) -> bool:
        """Whether a write of the key of a read causally follows the write that the read saw."""
        model = self.model
        w = model.writer[read]
        if w == INITIAL:
            return True
        clock = self._clocks[write]
        if w == write or clock is None or model.rank[write] == model.rank[read]:
            return False
        shown = self._stand_ins(model.chain[read], model.rank[read]) if w == UNKNOWN else (w,)
        return any(self._packing.at(clock, model.order.lane[e]) >= model.pos[e] for e in shown)

    def _stand_ins(self, chain: int, rank: int) -> Sequence[int]:
        """The reads that stand for a version whose write is not in the history."""
        if self._phantoms is None:
            self._phantoms = {}
            model = self.model
            for i, w in enumerate(model.writer):
                if w == UNKNOWN:
                    self._phantoms.setdefault((model.chain[i], model.rank[i]), []).append(i)
        return self._phantoms.get((chain, rank), ())

    def until(self, read: int, ops: list[int], bound: int) -> int:
        """Return one of these operations, writes or reads, up to a bound, that shows a newer version than a read returned; or -1."""
        model = self.model
        if model.white:
            chains = model.chains_of(model.history.key[read]) if model.writer[read] == INITIAL else (model.chain[read],)
            for chain in chains:
                newest = self._newest.get(chain)
                if newest is None:
                    newest = self._newest[chain] = Newest(model, chain)
                i = newest.until(ops, bound)
                if i >= 0 and self.than(read, i):
                    return i
            return -1
        at = bisect_right(ops, bound)
        w = model.writer[read]
        knows, first = self._learned(ops)
        if w == INITIAL:
            return ops[first] if first < at else -1
        lane, pos = model.order.lane[w], model.pos[w]
        if w < 0 or not at or self._packing.at(knows[at - 1], lane) < pos:
            return -1
        return ops[bisect_left(knows, pos, hi=at, key=lambda clock: self._packing.at(clock, lane))]

    def _learned(self, ops: list[int]) -> tuple[list[int], int]:
        """Return, for each beginning of a list of operations, a clock of what the versions that they show causally follow.

        And the place of the first that shows any. Made at first use.
        """
        found = self._knows.get(id(ops))
        if found is None:
            model, packing = self.model, self._packing
            clock, knows, first = 0, [], len(ops)
            for at, i in enumerate(ops):
                w = model.writer[i] if model.writer[i] != NONE else i
                known = self._clocks[w] if w >= 0 else None
                if known is not None:
                    first = min(first, at)
                    clock = packing.join(clock, known - (1 << packing.shift[model.order.lane[w]]))
                knows.append(clock)
            found = self._knows[id(ops)] = knows, first
        return found


def classify(model: Model, newer: Newer, index: Index, reads: Iterable[int], findings: dict[str, Finding]) -> None:
    """Note which session guarantees each of these reads breaks.

    Complexity: a walk over the sessions of these reads, and for each of them a bisection for each lane that wrote or read its key.
    """
    of_session: dict[int, set[int]] = {}
    for r in reads:
        of_session.setdefault(model.history.session[r], set()).add(r)
    for session, suspects in of_session.items():
        lanes = model.order.lanes_of_session[session]
        for r, shown in _revealed(model, session, suspects):
            own = {lane: model.follows(r, lane) for lane in lanes}
            for guarantee, by_lane, bounds in (
                (READ_YOUR_WRITES, index.writes, own),
                (MONOTONIC_READS, index.reads, own),
                (MONOTONIC_WRITES, index.writes, shown),
                (WRITES_FOLLOW_READS, index.reads, shown),
            ):
                i = _newer(newer, r, by_lane.get(model.history.key[r], {}), bounds)
                if i >= 0:
                    findings[guarantee].note(STALE, r, i)


def _newer(newer: Newer, read: int, columns: Mapping[int, list[int]], bounds: Mapping[int, int]) -> int:
    """Return an operation of the lanes of a key, each up to its bound, that shows a newer version than a read returned; or -1."""
    few, many = (columns, bounds) if len(columns) < len(bounds) else (bounds, columns)
    for lane in few:
        if lane in many:
            i = newer.until(read, columns[lane], bounds[lane])
            if i >= 0:
                return i
    return -1


def _revealed(model: Model, session: int, suspects: set[int]) -> Iterator[tuple[int, dict[int, int]]]:
    """Yield each suspect, and up to where each other lane came before some write that the suspect's session had read by then."""
    order, writer, lane = model.order, model.writer, model.order.lane
    now: dict[int, dict[int, int]] = {a: {} for a in order.lanes_of_session[session]}
    ops = sorted(i for a in now for i in order.lane_ops[a])
    kept: dict[int, dict[int, int]] = {}
    needed = {e for i in ops for e in order.extra.get(i, ())}
    last_suspect = max(suspects)
    for i in ops:
        if i > last_suspect:
            break
        shown = now[lane[i]]
        for e in order.extra.get(i, ()):
            _join(shown, kept[e].items())
        w = writer[i]
        if w >= 0 and (theirs := order.session_of_lane[lane[w]]) != session:
            _join(shown, [(a, model.follows(w, a)) for a in order.lanes_of_session[theirs]])
        if i in needed:
            kept[i] = dict(shown)
        if i in suspects:
            yield i, shown


def _join(bounds: dict[int, int], more: Iterable[tuple[int, int]]) -> None:
    for a, bound in more:
        if bound > bounds.get(a, -1):
            bounds[a] = bound
