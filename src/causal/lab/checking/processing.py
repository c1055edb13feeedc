"""An order in which everything comes after what it depends on, as close to the order of the lines as can be.

Owns the search for cycles that it ends in where there is no such order.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import attrs

from causal.lab.history import WRITE

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from causal.lab.checking.model import Model


@attrs.frozen(eq=False)
class Processing:
    """The order, and what stood against it.

    `cycles` are lists of operations each of which depends on the one before it, and the first on the last; `forced` are operations of
    cycles that stand before what they depend on, since one of them must. Thread-safety: immutable by convention.
    """

    order: Sequence[int]
    forced: frozenset[int]
    cycles: list[list[int]]


def processing(
    model: Model, older: Sequence[int] | None = None, more: Mapping[int, Collection[int]] | None = None
) -> Processing:
    """Order operations after those that they follow in their sessions and those that they read from.

    With `older`, each also stands after the operation that it names (or none, if that is negative), and with `more` after those that
    it names. Complexity: linear, but for cycles.
    """
    writer = model.writer
    if (
        not more
        and all(w < i for i, w in enumerate(writer))
        and (older is None or all(o < i for i, o in enumerate(older)))
    ):
        return Processing(range(len(writer)), frozenset(), [])
    return _Search(model, older, more or {}).run()


def fair(model: Model, found: Processing) -> Processing:
    """Return an order in which no session runs ahead of the others: by how long the longest chain is that leads to each operation.

    It is a better guess at when things happened than lines that stand before what they depend on. Complexity: a sort.
    """
    if isinstance(found.order, range) or found.cycles:
        return found
    writer, lane, extra = model.writer, model.order.lane, model.order.extra
    depth = array("i", [0]) * len(writer)
    now = [0] * len(model.order.lane_ops)
    for i in found.order:
        deep = now[lane[i]]
        if writer[i] >= 0:
            deep = max(deep, depth[writer[i]])
        if i in extra:
            deep = max(deep, *(depth[e] for e in extra[i]))
        now[lane[i]] = depth[i] = deep + 1
    return Processing(array("i", sorted(found.order, key=depth.__getitem__)), found.forced, found.cycles)


def older_versions(model: Model, order: Sequence[int] = ()) -> array[int] | None:
    """Return for each version the write of the next older one of its chain, or a negative number; None where this order is that, too."""
    chain, rank, evidence, flags = model.chain, model.rank, model.evidence, model.history.flags
    top = array("q", [-1]) * model.chains
    for i in order:
        if evidence[i] and rank[i] >= 0:
            if rank[i] < top[chain[i]]:
                break
            top[chain[i]] = rank[i]
    else:
        if order:
            return None
    chains: list[list[int]] = [[] for _ in range(model.chains)]
    for i, there in enumerate(evidence):
        if there and rank[i] >= 0:
            chains[chain[i]].append(i)
    older = array("i", [-1]) * len(rank)
    for versions in chains:
        versions.sort(key=rank.__getitem__)
        last = -1
        for i in versions:
            older[i] = last
            if flags[i] & WRITE:
                last = i
    return older


class _Search:
    """Lanes run until they wait for something; who waits is woken by what it waits for."""

    def __init__(self, model: Model, older: Sequence[int] | None, more: Mapping[int, Collection[int]]) -> None:
        self.model = model
        self.more = more
        self.older = older
        self.lane_ops = model.order.lane_ops
        self.next = [0] * len(self.lane_ops)
        self.done = bytearray(len(model.writer))
        self.parked: dict[int, int] = {}  # lane -> what it waits for
        self.waiting: dict[int, list[int]] = {}
        self.forced: set[int] = set()
        self.cycles: list[list[int]] = []
        self.out = array("i")

    def run(self) -> Processing:
        lane = self.model.order.lane
        parked = self.parked
        for i, a in enumerate(lane):
            if a >= 0 and a not in parked:
                self._wake([a], i)
        last = len(lane)
        while parked:
            self._force(last)
        return Processing(self.out, frozenset(self.forced), self.cycles)

    def _wake(self, lanes: list[int], limit: int) -> None:
        """Run lanes, and those that they wake, up to an operation."""
        writer, older, extra = self.model.writer, self.older, self.model.order.extra
        more, done, parked, waiting, out = self.more, self.done, self.parked, self.waiting, self.out
        while lanes:
            a = lanes.pop()
            parked.pop(a, None)
            ops = self.lane_ops[a]
            at = self.next[a]
            while at < len(ops) and (i := ops[at]) <= limit:
                need = writer[i]
                if need < 0 or done[need]:
                    need = -1 if older is None else older[i]
                    if need < 0 or done[need]:
                        need = next((e for e in extra[i] if not done[e]), -1) if i in extra else -1
                        if need < 0 and i in more:
                            need = next((e for e in more[i] if not done[e]), -1)
                if need >= 0 and not done[need] and i not in self.forced:
                    parked[a] = need
                    waiting.setdefault(need, []).append(a)
                    break
                done[i] = 1
                out.append(i)
                at += 1
                if i in waiting:
                    lanes.extend(waiting.pop(i))
            self.next[a] = at

    def _force(self, limit: int) -> None:
        """Find a cycle among the lanes that wait, and let its first operation pass."""
        lane = self.model.order.lane
        a = min(self.parked)
        path: list[int] = []
        while a not in path:
            path.append(a)
            a = lane[self.parked[a]]
        around = path[path.index(a) :]
        cycle: list[int] = []
        for a in reversed(around):  # what is waited for comes before who waits for it
            blocked = self.lane_ops[a][self.next[a]]
            need = self.parked[a]
            cycle += [need, blocked]
        self.cycles.append([op for n, op in enumerate(cycle) if op != cycle[n - 1]])
        passing = min(self.lane_ops[a][self.next[a]] for a in around)
        self.forced.add(passing)
        a = lane[passing]
        self.waiting[self.parked[a]].remove(a)
        self._wake([a], limit)
