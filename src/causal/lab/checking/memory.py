"""Causal memory: whether each session could have seen all writes in some order of its own (CM of POPL 2017).

Owns happens-before. For a session it is causality, and this besides: if a read of the session saw a write, then every other write of
that key that happens before the read happens before that write. If that goes round in a circle, or puts a write before a read that
found nothing, the session cannot have seen the writes one after the other.

Happens-before is held as one clock for each operation of the session. A read that sees again what the session knew long ago, and knows
of another write of the key by now, pulls that write, and what it depends on, to where the first was known: the clocks from there on grow,
and their reads are looked at again until nothing grows.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Final

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

CLEARING: Final = 50
"""How many steps an operation of a session may cost before it is judged exactly instead."""
FEW: Final = 20_000
"""Up to how many pairs of orderings are searched one by one for a way back."""


class Memory:
    """Happens-before of one session after the other. `place` is an order that extends causality; `agreed` says that it ranks versions, too.

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
        place: Sequence[int],
    ) -> None:
        self._model = model
        self._packing = packing
        self._index = index
        self._clocks = clocks
        self._judged = judged
        self._stale = stale
        self._agreed = agreed
        self._place = place
        self._placed: dict[int, list[int]] = {}

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

    def cleared(self, session: int, suspects: Collection[int]) -> bool:
        """Whether none of these reads, the only ones that can contradict others, does.

        A read that returned v contradicts others if a newer version c of its key was pulled to before it: by a version w that the session
        knew by then and read again later, whose key has an older write that depends on c. All that lies between c and the read. Here
        whatever may be pulled is pulled.
        Complexity: a walk over the rest of the session for each suspect.
        """
        model, packing, pos, lane, place = (
            self._model,
            self._packing,
            self._model.pos,
            self._model.order.lane,
            self._place,
        )
        lanes = model.order.lanes_of_session[session]
        if len(lanes) != 1 or not self._agreed:
            return False
        ops = model.order.lane_ops[lanes[0]]
        final = self._clock(ops[-1])
        left = CLEARING * len(ops)
        for r in suspects:
            clock = self._clock(r)
            key, here = model.history.key[r], place[r]
            newer = [
                c
                for c in self._between(key, place[model.writer[r]] if model.writer[r] >= 0 else -1, here)
                if packing.at(final, lane[c]) >= pos[c]
            ]
            if not newer:
                continue
            low = min(place[c] for c in newer)
            later = ops[bisect_right(ops, r) :]
            left -= len(later)
            again = sorted({w for i in later if (w := model.writer[i]) >= 0 and low < place[w] < here})
            pulls = True
            while pulls and left > 0:
                pulls = False
                for w in again:
                    left -= 1
                    if packing.at(clock, lane[w]) < pos[w]:
                        continue
                    others = self._between(model.history.key[w], low, place[w])
                    left -= len(others)
                    for other in others:
                        if packing.at(final, lane[other]) >= pos[other] and packing.at(clock, lane[other]) < pos[other]:
                            clock = packing.join(clock, self._clock(other))
                            pulls = True
            if left <= 0 or any(packing.at(clock, lane[c]) >= pos[c] for c in newer):
                return False
        return True

    def _between(self, key: int, low: int, high: int) -> list[int]:
        """The evidence of a key that obliges and stands between two places."""
        place = self._place
        ops = self._placed.get(key)
        if ops is None:
            columns = self._index.evidence.get(key, {}).values()
            ops = sorted((i for _, ops in columns for i in ops), key=place.__getitem__)
            self._placed[key] = ops
        start = bisect_right(ops, low, key=place.__getitem__)
        return ops[start : bisect_left(ops, high, lo=start, key=place.__getitem__)]

    def _of_reads(self, ops: list[int]) -> Violation | None:
        """Judge a session of one lane."""
        model, packing, shift, field = self._model, self._packing, self._packing.shift, self._packing.field
        lane, pos, writer, key = model.order.lane, model.pos, model.writer, model.history.key
        base = [self._clock(i) for i in ops]
        known_at = list(base)
        last_read = {writer[i]: at for at, i in enumerate(ops) if writer[i] >= 0 and i in self._judged}
        # From the last to the first: a pull changes only what lies before the read that pulls.
        again = sorted(((at, w) for w, at in last_read.items()), reverse=True)
        grows = True
        while grows:
            grows = False
            for at, w in again:
                if not at or not (known_at[at - 1] >> shift[lane[w]]) & field >= pos[w]:
                    continue
                first = self._first(known_at, w, at)
                then = known_at[first]
                for other in known_writes(packing, self._index, key[w], known_at[at]):
                    if (then >> shift[lane[other]]) & field < pos[other] and not self._same(other, w):
                        self._pull(known_at, first, at, self._clock(other))
                        grows = True
                        then = known_at[first]
        contradicted = not self._agreed
        for at, i in enumerate(ops):
            w = writer[i]
            if w < INITIAL or i not in self._judged or (known_at[at] == base[at] and i not in self._stale):
                continue
            if w == INITIAL:
                missed = self._any(i, known_at[at])
                if missed >= 0:
                    return Violation(STALE, (i, missed))
            elif not contradicted:
                contradicted = any(
                    other != w and not self._same(other, w) and not self._older(other, w)
                    for other in known_writes(packing, self._index, key[i], known_at[at])
                )
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
                for other in known_writes(self._packing, self._index, model.history.key[i], clock):
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
        model, place = self._model, self._place
        edges: list[tuple[int, int]] = []
        for i, clock in zip(ops, clocks, strict=True):
            w = model.writer[i]
            if w >= 0 and i in self._judged:
                others = known_writes(self._packing, self._index, model.history.key[i], clock)
                edges.extend((other, w) for other in others if other != w and not self._same(other, w))
        down = sorted({edge for edge in edges if place[edge[0]] > place[edge[1]]})
        if self._agreed and not down:
            return None
        # A cycle goes up and down in the order: all of it lies between the ends of edges that go down.
        low, high = (min(place[w] for _, w in down), max(place[other] for other, _ in down)) if down else (0, 0)
        within = sorted({(o, w) for o, w in edges if low <= place[w] <= high and low <= place[o] <= high})
        if not self._agreed or len(within) * len(down) > FEW:
            before: dict[int, set[int]] = {}
            for other, w in edges:
                before.setdefault(w, set()).add(other)
            cycles = processing(model, None, {w: sorted(others) for w, others in before.items()}).cycles
            return Violation(CYCLE, tuple(cycles[0])) if cycles else None
        for other, w in down:
            path = self._path(w, other, within)
            if path is not None:
                return Violation(CYCLE, tuple(path))
        return None

    def _path(self, start: int, goal: int, edges: list[tuple[int, int]]) -> list[int] | None:
        """Return writes that lead from one to another, each causally or by an edge; or None."""
        came: dict[int, tuple[int, ...]] = {start: ()}
        reached = [start]
        for here in reached:
            if self._leads(here, goal):
                path = [goal] if here != goal else []
                while True:
                    path.append(here)
                    if not came[here]:
                        return path[::-1]
                    through, earlier = came[here]
                    if through != earlier:
                        path.append(through)
                    here = earlier
            for other, w in edges:
                if w not in came and self._leads(here, other):
                    came[w] = (other, here)
                    reached.append(w)
        return None

    def _leads(self, first: int, then: int) -> bool:
        """Whether a write is another, or causally precedes it."""
        model = self._model
        return self._packing.at(self._clock(then), model.order.lane[first]) >= model.pos[first]

    def _any(self, read: int, clock: int) -> int:
        for lane, column in self._index.evidence.get(self._model.history.key[read], {}).items():
            i = known(column, self._packing.at(clock, lane))
            if i >= 0:
                return i
        return -1

    def _older(self, other: int, w: int) -> bool:
        model = self._model
        return model.chain[other] == model.chain[w] and model.rank[other] < model.rank[w]

    def _same(self, other: int, w: int) -> bool:
        """Whether two writes of one session made the same version: the later one counts."""
        model = self._model
        return model.white and model.chain[other] == model.chain[w] and model.rank[other] == model.rank[w] >= 0
