"""Virtual time as a queue of events: one thread, one clock, and what happens next.

Owns the order of events. An event is a call; what it returns is when to call it again: seconds from now, None for never. A
generator's `__next__` is such a call, so a process of many steps is written as a generator that yields how long each step takes. Events of one moment run in the order in which they were made: that is what makes runs repeat.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

class Timeline:
    """The queue. Units: seconds, from 0. Thread-safety: none. Complexity: O(log n) an event."""

    __slots__ = ("_heap", "_made", "events", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self._heap: list[tuple[float, int, Callable[[], float | None]]] = []
        self._made = 0

    def monotonic(self) -> float:
        """Return the time."""
        return self.now

    def at(self, when: float, event: Callable[[], float | None]) -> None:
        """Let something happen at a time, now at the earliest."""
        self._made += 1
        heappush(self._heap, (when if when > self.now else self.now, self._made, event))

    def after(self, delay: float, event: Callable[[], float | None]) -> None:
        """Let something happen after a while."""
        self._made += 1
        heappush(self._heap, (self.now + delay, self._made, event))

    def start(self, process: Iterator[float]) -> None:
        """Let a process of many steps begin now."""
        self._made += 1
        heappush(self._heap, (self.now, self._made, process.__next__))

    def run(self, until: float) -> None:
        """Run all that happens up to a time; the time is then that, also if nothing is left. Raises: what an event raises."""
        heap, made, done = self._heap, self._made, 0
        try:
            while heap and heap[0][0] <= until:
                when, _, event = heappop(heap)
                self.now = when
                done += 1
                try:
                    delay = event()
                except StopIteration:
                    continue
                if delay is not None:
                    self._made = made = self._made + 1
                    heappush(heap, (when + delay, made, event))
        finally:
            self.events += done
        if until > self.now:
            self.now = until

    @property
    def idle(self) -> bool:
        """Whether nothing is left to happen."""
        return not self._heap
