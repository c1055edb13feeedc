"""Causal memory: whether each session could have seen all writes in some order of its own (CM of POPL 2017).

Owns happens-before. For a session it is causality, and this besides: if a read of the session saw a write, then every other write of
that key that happens before the read happens before that write. If that goes round in a circle, or puts a write before a read that
found nothing, the session cannot have seen the writes one after the other.

Happens-before is held as one clock for each operation of the session. A read that sees again what the session knew long ago, and knows
of another write of the key by now, pulls that write, and what it depends on, to where the first was known: the clocks from there on grow,
and their reads are looked at again until nothing grows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from causal.lab.checking.convergence import known_writes
from causal.lab.checking.evidence import known
from causal.lab.checking.findings import CYCLE, STALE, Violation
from causal.lab.checking.model import INITIAL
from causal.lab.checking.processing import processing

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from causal.lab.checking.clocks import Packing
    from causal.lab.checking.evidence import Index
    from causal.lab.checking.model import Model


class Memory:
    """Happens-before of one session after the other. `agreed` says that versions of a key are ranked in an order that extends causality.

    Only for histories whose causality has no cycle and which are CC. Thread-safety: none.
    """

    def __init__(
        self,
        model: Model,
        packing: Packing,
        index: Index,
        clocks: Sequence[int | None],
        judged: Collection[int],
        stale: Collection[int],
        *,
        agreed: bool,
    ) -> None:
        self._model = model
        self._packing = packing
        self._index = index
        self._clocks = clocks
        self._judged = judged
        self._stale = stale
        self._agreed = agreed

    def violation(self, session: int) -> Violation | None:
        """Return how a session's reads contradict each other, or None.

        Complexity: a bisection for each read and each lane that wrote its key, as often as clocks grow.
        """
        lanes = self._model.order.lanes_of_session[session]
        if len(lanes) == 1:
            return self._of_reads(list(self._model.order.lane_ops[lanes[0]]))
        for lane in lanes:
            target = self._model.order.lane_ops[lane][-1]
            ops = [
                i
                for a in lanes
                for i in self._model.order.lane_ops[a]
                if i <= self._model.follows(target, a) or i == target
            ]
            found = self._of_some(sorted(ops))
            if found is not None:
                return found
        return None

    def _clock(self, i: int) -> int:
        clock = self._clocks[i]
        assert clock is not None
        return clock

    def _of_reads(self, ops: list[int]) -> Violation | None:
        """Judge a session of one lane."""
        model, packing, shift, field = self._model, self._packing, self._packing.shift, self._packing.field
        join, lane, pos, writer = packing.join, model.order.lane, model.pos, model.writer
        base = [self._clock(i) for i in ops]
        known_at = list(base)
        contradicted = not self._agreed
        grown = False
        start = 0
        while True:
            lowest = len(ops)
            for at in range(start, len(ops)):
                i = ops[at]
                if grown and at:
                    known_at[at] = join(known_at[at], known_at[at - 1])
                w = writer[i]
                clock = known_at[at]
                if w < INITIAL or i not in self._judged:
                    continue
                if w == INITIAL:
                    missed = -1 if clock == base[at] else self._any(i, clock)
                    if missed >= 0:
                        return Violation(STALE, (i, missed))
                    continue
                again = at > 0 and (known_at[at - 1] >> shift[lane[w]]) & field >= pos[w]
                if not again and clock == base[at] and i not in self._stale:
                    continue
                first = self._first(known_at, w, at) if again else at
                for other in known_writes(model, packing, self._index, model.history.key[i], clock):
                    if other == w or self._same(other, w):
                        continue
                    contradicted = contradicted or not self._older(other, w)
                    if first < at and (known_at[first] >> shift[lane[other]]) & field < pos[other]:
                        self._pull(known_at, first, at, self._clock(other))
                        lowest, grown = min(lowest, first), True
            if lowest == len(ops):
                break
            start = lowest
        return self._cycle(ops, known_at) if contradicted else None

    def _first(self, known_at: list[int], write: int, most: int) -> int:
        """Return where a session's clocks first know a write. They only grow, so it is a bisection."""
        shift, field, pos = (
            self._packing.shift[self._model.order.lane[write]],
            self._packing.field,
            self._model.pos[write],
        )
        low, high = 0, most
        while low < high:
            middle = (low + high) // 2
            if (known_at[middle] >> shift) & field >= pos:
                high = middle
            else:
                low = middle + 1
        return low

    def _pull(self, known_at: list[int], first: int, until: int, clock: int) -> None:
        for at in range(first, until):
            joined = self._packing.join(known_at[at], clock)
            if joined == known_at[at]:
                break
            known_at[at] = joined

    def _of_some(self, ops: list[int]) -> Violation | None:
        """Judge an operation of a session of several lanes, and what comes before it: plainly, for such sessions are short."""
        model, join = self._model, self._packing.join
        pulled: dict[int, int] = {}
        while True:
            clocks: dict[int, int] = {}
            grew = False
            for i in ops:
                clock = self._clock(i)
                for e in ops:
                    if e < i and model.precedes(e, i):
                        clock = join(clock, clocks[e])
                clock = self._pulled(clock, pulled)
                clocks[i] = clock
                w = model.writer[i]
                if w < 0 or i not in self._judged:
                    continue
                for other in known_writes(model, self._packing, self._index, model.history.key[i], clock):
                    if other != w and not self._same(other, w):
                        more = join(pulled.get(w, 0), self._clock(other))
                        grew = grew or more != pulled.get(w, 0)
                        pulled[w] = more
            if not grew:
                break
        for i in ops:
            if model.writer[i] == INITIAL and i in self._judged:
                missed = self._any(i, clocks[i])
                if missed >= 0:
                    return Violation(STALE, (i, missed))
        return self._cycle(ops, [clocks[i] for i in ops])

    def _pulled(self, clock: int, pulled: dict[int, int]) -> int:
        """Return a clock with what the writes that it knows pull along."""
        model, packing = self._model, self._packing
        grows = True
        while grows:
            grows = False
            for w, more in pulled.items():
                if packing.at(clock, model.order.lane[w]) >= model.pos[w]:
                    joined = packing.join(clock, more)
                    grows = grows or joined != clock
                    clock = joined
        return clock

    def _cycle(self, ops: list[int], clocks: list[int]) -> Violation | None:
        """Return a cycle of happens-before, if the writes that these reads order make one."""
        model = self._model
        before: dict[int, set[int]] = {}
        for i, clock in zip(ops, clocks, strict=True):
            w = model.writer[i]
            if w >= 0 and i in self._judged:
                for other in known_writes(model, self._packing, self._index, model.history.key[i], clock):
                    if other != w and not self._same(other, w):
                        before.setdefault(w, set()).add(other)
        cycles = processing(model, None, {w: sorted(others) for w, others in before.items()}).cycles
        return Violation(CYCLE, tuple(cycles[0])) if cycles else None

    def _any(self, read: int, clock: int) -> int:
        for lane, column in self._index.evidence.get(self._model.history.key[read], {}).items():
            i = known(column, self._packing.at(clock, lane))
            if i >= 0 and self._model.obliges[i]:
                return i
        return -1

    def _older(self, other: int, w: int) -> bool:
        model = self._model
        return model.chain[other] == model.chain[w] and model.rank[other] < model.rank[w]

    def _same(self, other: int, w: int) -> bool:
        """Whether two writes of one session made the same version: the later one counts."""
        model = self._model
        return model.white and model.chain[other] == model.chain[w] and model.rank[other] == model.rank[w] >= 0
