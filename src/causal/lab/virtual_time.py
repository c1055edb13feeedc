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
    """Something to run at a time: a thread of its own that may sleep, or an event, which may not."""

    __slots__ = ("baton", "run", "thread")

    def __init__(self, run: Callable[[], object]) -> None:
        self.run = run
        self.baton = threading.Lock()
        self.baton.acquire()
        self.thread: threading.Thread | None = None


class VirtualTime:
    """A discrete-event scheduler whose tasks are threads; whoever goes to sleep hands the turn to who wakes next.

    Units: seconds. Thread-safety: `sleep`, `spawn` and `at` from whoever has the turn; `run` once, from outside.
    Complexity: O(log n) a step for n sleepers, and a hand-over between threads only where another thread is next.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self._heap: list[tuple[float, int, _Task | Callable[[], object]]] = []
        self._count = 0
        self._current: _Task | None = None
        self._started: set[_Task] = set()
        self._over = threading.Event()
        self._ending = threading.Lock()
        self._failure: BaseException | None = None

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
        if task is None or task.thread is not threading.current_thread():
            if self._over.is_set() and threading.current_thread() in {t.thread for t in self._started}:
                raise SystemExit
            self.now_s += max(0.0, seconds)
            return
        self._push(self.now_s + max(0.0, seconds), task)
        self._hand_over(task)

    def spawn(self, run: Callable[[], object], *, at_s: float) -> None:
        """Start a task at a time: it may sleep."""
        self._push(max(at_s, self.now_s), _Task(run))

    def at(self, at_s: float, event: Callable[[], object]) -> None:
        """Let something happen at a time, all at once: it may not sleep. It costs no thread."""
        self._push(max(at_s, self.now_s), event)

    def run(self) -> None:
        """Run until every task has ended. Raises: what a task or an event raised, once the others are ended."""
        try:
            self._hand_over(None)
            self._over.wait()
        finally:
            with self._ending:
                self._over.set()
            for task in list(self._started):  # an interrupted run leaves no thread behind
                if task.baton.locked():
                    task.baton.release()
                if task.thread is not None:
                    task.thread.join()
        if self._failure is not None:
            raise self._failure

    def _push(self, at_s: float, what: _Task | Callable[[], object]) -> None:
        self._count += 1  # ties run in the order in which they were made: that is what makes runs repeat
        heappush(self._heap, (at_s, self._count, what))

    def _hand_over(self, me: _Task | None) -> None:
        """Go on in time until a task is next; give it the turn; return when `me` has it again."""
        while True:
            if self._over.is_set():
                break
            if not self._heap:
                self._over.set()
                break
            at_s, _, what = heappop(self._heap)
            self.now_s = max(self.now_s, at_s)
            if isinstance(what, _Task):
                self._current = what
                if what is me:
                    return
                self._wake(what)
                if me is None:
                    return
                me.baton.acquire()
                break
            self._current = None
            try:
                what()
            except BaseException as error:  # noqa: BLE001 - raised again by `run`, in the thread that waits for it
                self._fail(error)
        if self._over.is_set() and me is not None:
            raise SystemExit

    def _wake(self, task: _Task) -> None:
        with self._ending:
            if self._over.is_set():
                return
            if task.thread is not None:
                task.baton.release()
                return
            task.thread = threading.Thread(target=self._body, args=(task,), daemon=True)
            task.thread.start()
            self._started.add(task)

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._over.set()

    def _body(self, task: _Task) -> None:
        try:
            task.run()
        except SystemExit as error:
            if not self._over.is_set():
                self._fail(error)
            return
        except BaseException as error:  # noqa: BLE001 - raised again by `run`, in the thread that waits for it
            self._fail(error)
            return
        self._hand_over(None)
        self._started.discard(task)
