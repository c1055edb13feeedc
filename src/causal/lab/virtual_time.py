"""Virtual time: many threads of which one runs at a time, and a clock that moves only when all of them sleep.

Owns the scheduler. Whatever takes `sleep`, `monotonic` and `wall` from here runs deterministically: the same program makes the same
history, however slow or busy the machine is. HAZARD: code that blocks on anything but `sleep` stops the world.
"""

from __future__ import annotations

import threading
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

START_S: Final = 1_700_000_000
"""The wall time at which virtual time begins."""


class _Task:
    __slots__ = ("baton", "ended", "run")

    def __init__(self, run: Callable[[], object]) -> None:
        self.run = run
        self.baton = threading.Semaphore(0)
        self.ended = False


class VirtualTime:
    """A discrete-event scheduler whose tasks are threads, handed the turn one at a time.

    Units: seconds. Thread-safety: `sleep` from its own tasks only; the rest from the thread that calls `run`, or from a task.
    Complexity: O(log n) a step for n sleepers, and one hand-over between threads.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self._heap: list[tuple[float, int, _Task]] = []
        self._count = 0
        self._turn = threading.Semaphore(0)
        self._current: _Task | None = None
        self._failure: BaseException | None = None
        self._stopping = False

    def monotonic(self) -> float:
        """Return the virtual time."""
        return self.now_s

    def wall(self) -> float:
        """Return the virtual wall time. Units: Unix seconds."""
        return START_S + self.now_s

    def wall_ns(self) -> int:
        """Return the virtual wall time. Units: Unix nanoseconds."""
        return START_S * 10**9 + round(self.now_s * 1e9)

    def sleep(self, seconds: float) -> None:
        """Let the running task sleep; others run meanwhile. Outside any task, time just passes."""
        task = self._current
        if task is None or threading.current_thread().name != str(id(task)):
            self.now_s += max(0.0, seconds)
            return
        self._push(self.now_s + max(0.0, seconds), task)
        self._turn.release()
        task.baton.acquire()
        if self._stopping:
            raise SystemExit

    def spawn(self, run: Callable[[], object], *, at_s: float | None = None) -> None:
        """Start a task now, or at a time."""
        self._push(self.now_s if at_s is None else max(at_s, self.now_s), _Task(run))

    def _push(self, at_s: float, task: _Task) -> None:
        self._count += 1  # ties run in the order in which they were made: that is what makes runs repeat
        heappush(self._heap, (at_s, self._count, task))

    def run(self) -> None:
        """Run until every task has ended. Raises: what a task raised, after the others are ended."""
        started: set[_Task] = set()
        try:
            while self._heap and self._failure is None:
                at_s, _, task = heappop(self._heap)
                self.now_s = max(self.now_s, at_s)
                self._current = task
                if task in started:
                    task.baton.release()
                else:
                    started.add(task)
                    threading.Thread(target=self._body, args=(task,), name=str(id(task)), daemon=True).start()
                self._turn.acquire()
                self._current = None
                if task.ended:
                    started.discard(task)
        finally:
            self._stopping = True
            for task in started:  # an interrupted run leaves no thread behind
                task.baton.release()
        if self._failure is not None:
            raise self._failure

    def _body(self, task: _Task) -> None:
        try:
            task.run()
        except SystemExit:
            if self._stopping:
                return
            raise
        except BaseException as error:  # noqa: BLE001 - raised again by `run`, in the thread that waits for it
            self._failure = error
        task.ended = True
        self._turn.release()
