"""Where each lane's writes and reads of a key stand, so that "the last one known to be before" is a bisection.

Owns the index. It is made when something is found, and only for the keys that it is found at.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from causal.lab.checking.model import NONE
from causal.lab.history import WRITE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from causal.lab.checking.model import Model

Column = tuple[list[int], list[int]]
"""Counts of a lane's evidence, rising, and beside each an operation, rising too."""


class Index:
    """Of some keys, by key and lane: the writes, the reads, and the evidence that obliges, which is writes and what stands for them.

    `binding` has the writes among it, as columns. Thread-safety: immutable by convention. Complexity: linear in the history.
    """

    def __init__(self, model: Model, keys: Collection[int]) -> None:
        self.evidence: dict[int, dict[int, Column]] = {}
        self.binding: dict[int, dict[int, Column]] = {}
        self.writes: dict[int, dict[int, list[int]]] = {}
        self.reads: dict[int, dict[int, list[int]]] = {}
        flags, lane, pos, writer = model.history.flags, model.order.lane, model.pos, model.writer
        wanted = bytearray(len(model.history.keys))
        for key in keys:
            wanted[key] = 1
        for i, key in enumerate(model.history.key):
            if not wanted[key] or lane[i] < 0:
                continue
            if flags[i] & WRITE:
                self.writes.setdefault(key, {}).setdefault(lane[i], []).append(i)
                if model.obliges[i]:
                    counts, ops = self.binding.setdefault(key, {}).setdefault(lane[i], ([], []))
                    counts.append(pos[i])
                    ops.append(i)
            elif writer[i] != NONE:
                self.reads.setdefault(key, {}).setdefault(lane[i], []).append(i)
            if model.evidence[i] and model.obliges[i]:
                counts, ops = self.evidence.setdefault(key, {}).setdefault(lane[i], ([], []))
                counts.append(pos[i])
                ops.append(i)


def known(column: Column, most: int) -> int:
    """Return the last operation of a column that is within a count of its lane's evidence, or -1."""
    at = bisect_right(column[0], most)
    return column[1][at - 1] if at else -1


class Newest:
    """The newest version of one chain that each beginning of a list of operations has shown. A list is looked through at its first use.

    Thread-safety: none.
    """

    def __init__(self, model: Model, chain: int) -> None:
        self._model = model
        self._chain = chain
        self._best: dict[int, list[int]] = {}

    def until(self, ops: list[int], bound: int) -> int:
        """Return the operation, up to a bound, that shows the newest version, or -1."""
        at = bisect_right(ops, bound)
        if not at:
            return -1
        best = self._best.get(id(ops))
        if best is None:
            best = self._best[id(ops)] = list(self._beginnings(ops))
        return best[at - 1]

    def _beginnings(self, ops: list[int]) -> Iterator[int]:
        rank, chain, obliges = self._model.rank, self._model.chain, self._model.obliges
        newest = -1
        for i in ops:
            if chain[i] == self._chain and obliges[i] and rank[i] >= 0 and (newest < 0 or rank[i] > rank[newest]):
                newest = i
            yield newest
