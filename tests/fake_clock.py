"""What tests of clocks run on: a wall that stands still until it is moved, and a ceiling without a disk."""

import threading

from causal.clock import HybridLogicalClock

T0_MS = 1_700_000_000_000


class Wall:
    """A wall clock in nanoseconds, set by hand in milliseconds."""

    def __init__(self, ms: float = T0_MS) -> None:
        self.ns = round(ms * 1_000_000)

    @property
    def ms(self) -> int:
        return self.ns // 1_000_000

    @ms.setter
    def ms(self, ms: float) -> None:
        self.ns = round(ms * 1_000_000)

    def __call__(self) -> int:
        return self.ns


class MemoryCeiling:
    """A `Ceiling` that outlives the clocks of a test, and says which threads wrote to it."""

    def __init__(self, bound: int | None = None) -> None:
        self.bound = bound
        self.writers: list[str] = []
        self.broken: Exception | None = None
        self._lock = threading.Lock()

    def load(self) -> int | None:
        return self.bound

    def reserve(self, up_to: int) -> int:
        with self._lock:
            self.writers.append(threading.current_thread().name)
            if self.broken is not None:
                raise self.broken
            before = self.bound or 0
            self.bound = max(up_to, before + 1)
            return before

    def release(self, bound: int, keep: int) -> None:
        with self._lock:
            if self.broken is not None:
                raise self.broken
            if self.bound == bound:
                self.bound = keep


class PatientClock(HybridLogicalClock):
    """A clock whose reserve is kept by the caller that would have woken the keeper: the same steps, in a known order."""

    __slots__ = ()

    def _wake_keeper(self) -> None:
        self._extend(self._last + 1, ahead=True)
