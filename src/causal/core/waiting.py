"""Waiting reads on one endpoint, woken as its watermark advances. A pure data structure: no clock, no locks, no loops.

Each waiter watches one position that it still lacks (as SAT solvers watch one literal of a clause): a heap for each origin, ordered by
offset. A watermark that moves pops exactly the waiters whose watched position it passed; each then watches its next missing position
or is ready. So one wake-up costs O(log n), and a poll that moves nothing costs O(origins), however many wait.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")


class Waiter(Generic[T]):
    """One waiting read: what it needs, and the caller's own handle for waking it. Thread-safety: guarded by its queue's owner."""

    __slots__ = ("handle", "need", "waiting")

    def __init__(self, need: Mapping[int, int], handle: T) -> None:
        self.need = need
        self.handle = handle
        self.waiting = True


class WaitQueue(Generic[T]):
    """The waiting reads of one endpoint.

    Thread-safety: none; the caller holds a lock. Complexity: add and wake O(log n); discard O(1) amortised.
    """

    __slots__ = ("_heaps", "_live", "_made")

    def __init__(self) -> None:
        self._heaps: dict[int, list[tuple[int, int, Waiter[T]]]] = {}
        self._live = 0
        self._made = 0

    def __len__(self) -> int:
        return self._live

    def add(self, need: Mapping[int, int], applied: Mapping[int, int], handle: T) -> Waiter[T] | None:
        """Enqueue a read that lacks something of `need` (packed keys); None if nothing is lacking."""
        waiter = Waiter(need, handle)
        if not self._watch(waiter, applied):
            return None
        self._live += 1
        return waiter

    def discard(self, waiter: Waiter[T]) -> None:
        """Forget a waiter (woken, timed out or cancelled). Idempotent."""
        if not waiter.waiting:
            return
        waiter.waiting = False
        self._live -= 1
        if not self._live:
            self._heaps.clear()
        elif sum(map(len, self._heaps.values())) > 2 * self._live + 64:
            self._sweep()

    def advance(self, applied: Mapping[int, int]) -> list[Waiter[T]]:
        """Remove and return the waiters whose whole need is in `applied`."""
        ready: list[Waiter[T]] = []
        passed: list[Waiter[T]] = []
        for key in list(self._heaps):
            heap = self._heaps[key]
            reached = applied.get(key, -1)
            while heap and heap[0][0] <= reached:
                passed.append(heappop(heap)[2])
            if not heap:
                del self._heaps[key]
        for waiter in passed:
            if waiter.waiting and not self._watch(waiter, applied):
                waiter.waiting = False
                self._live -= 1
                ready.append(waiter)
        return ready

    def first(self) -> Waiter[T] | None:
        """Return some waiter, in constant time but for the discarded ones it passes."""
        for heap in self._heaps.values():
            while heap and not heap[0][2].waiting:
                heappop(heap)
            if heap:
                return heap[0][2]
        return None

    def drain(self) -> list[Waiter[T]]:
        """Remove and return every waiter: the endpoint has failed, each must decide anew."""
        left = {id(w): w for heap in self._heaps.values() for _, _, w in heap if w.waiting}
        self._heaps.clear()
        self._live = 0
        for waiter in left.values():
            waiter.waiting = False
        return list(left.values())

    def _watch(self, waiter: Waiter[T], applied: Mapping[int, int]) -> bool:
        for key, offset in waiter.need.items():
            if applied.get(key, -1) < offset:
                self._made += 1
                heappush(self._heaps.setdefault(key, []), (offset, self._made, waiter))
                return True
        return False

    def _sweep(self) -> None:
        for key, heap in list(self._heaps.items()):
            heap[:] = [entry for entry in heap if entry[2].waiting]
            if heap:
                heapify(heap)
            else:
                del self._heaps[key]
