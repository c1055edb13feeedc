"""Simulated reads that wait: one line for each endpoint that a process waits at, as in `causal.store`.

Owns who sleeps and how they are woken. The queue is the real one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from causal.core.waiting import WaitQueue
from causal.lab.planet.timeline import PARKED

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from causal.lab.planet.timeline import Timeline


class Line:
    """The reads that wait at one endpoint, and whether one of them polls it."""

    __slots__ = ("polling", "queue")

    def __init__(self) -> None:
        self.queue: WaitQueue[Waiting] = WaitQueue()
        self.polling = False


class Waiting:
    """One waiting read; `leads` says that it polls for all. `asleep`: how to wake it, while it is parked."""

    __slots__ = ("asleep", "leads", "turn")

    def __init__(self) -> None:
        self.leads = False
        self.asleep: Callable[[], float | None] | None = None
        self.turn = 0

    def park(self, timeline: Timeline, until: float) -> Generator[float, None, None]:
        """Sleep until woken, or until a time."""
        self.turn += 1
        self.asleep, turn = timeline.current, self.turn
        timeline.at(until, lambda: self.wake(timeline) if self.turn == turn else None)
        yield PARKED

    def wake(self, timeline: Timeline) -> None:
        """Let it go on now, if it is parked."""
        wake, self.asleep = self.asleep, None
        if wake is not None:
            timeline.at(timeline.now, wake)
