"""The hybrid logical clock of a process: the thread-safe shell over `causal.core.hlc`.

Owns the last timestamp, the wall clock, the lock, and the thread that keeps the reserve of a ceiling ahead. The arithmetic is in
`core.hlc`, the durable bound in `ceiling`. Knows nothing of tokens, stores or peers.

Assumption: walls of the machines that exchange timestamps agree to within `max_drift_s`.
HAZARD: where they do not, `update` refuses the faster clock's timestamps with ClockDrift. That is an alarm, and must stay one:
serving, applying a member's log and acknowledging writes go on. Meanwhile timestamps made here can be lower than the refused one,
so whoever decides conflicts by timestamp must stamp above the version it replaces, not only above its clock.

Assumption: the wall may stand still or go back; it does not leap far ahead and return.
HAZARD: a leap ahead is kept, since nothing that was handed out is taken back: the clock stays ahead until the wall catches up,
and peers refuse it meanwhile. `now` never refuses, for a machine that slept has leapt ahead in its own eyes and is right.

Assumption: no signal handler calls a clock that the code it interrupted may be using.
HAZARD: it would wait for itself. Two interleaved calls would be worse: both could hand out the same timestamp.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import threading
import time
import weakref
from typing import TYPE_CHECKING, Final, Self

from causal.ceiling import Ceiling, FileCeiling, Reserve
from causal.core.hlc import COUNTER_BITS, MAX_LOGICAL, MAX_TIMESTAMP, START, Timestamp
from causal.errors import ClockDrift, ClockError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger("causal")

_NS_PER_MS: Final = 1_000_000
_NO_BOUND: Final = MAX_TIMESTAMP + 1

MAX_RESERVE_MS: Final = 1000
"""A generous `max_drift_s` must not start every restarted clock far ahead of its wall."""

# `now` and `update` are core's `tick` and `merge` written out, and make timestamps whose range they know: either call would cost
# a sixth of the whole. The tests hold them to the pure steps.
_make = int.__new__


class HybridLogicalClock:
    """A clock whose timestamps strictly increase, follow every one it has seen, and stay close to the wall (I1).

    `wall` returns nanoseconds since 1970, as `time.time_ns` does. `max_drift_s` is how far ahead of the wall a remote
    timestamp may be. `ceiling` makes restarts safe: a path, or any `Ceiling`; the clock then starts no lower than any clock on it
    ever got, and hands out nothing that is not durably reserved. The reserve reaches half of `max_drift_s` ahead of the wall (one
    second at most), and is extended in the background: a clock in steady use does no I/O in its callers. Its first call, one
    after idleness, and every millisecond of a clock that is more than the reserve ahead of its wall pay one durable write.

    Units: `wall` in nanoseconds, `max_drift_s` in seconds (to the millisecond).
    Raises: ConfigError for a drift that is negative, not finite, or under 2 ms with a ceiling; ClockError for a damaged ceiling.
    Thread-safety: safe, free-threaded builds included. After a fork, parent and child are two clocks, each above the common past.
    """

    __slots__ = (
        "__weakref__",
        "_bound",
        "_drift",
        "_edge_ns",
        "_io",
        "_keeper",
        "_last",
        "_lock",
        "_max_drift_s",
        "_millisecond",
        "_reserve",
        "_soft",
        "_wake",
        "_wall",
    )

    def __init__(
        self,
        wall: Callable[[], int] = time.time_ns,
        max_drift_s: float = 0.5,
        ceiling: str | os.PathLike[str] | Ceiling | None = None,
    ) -> None:
        if not (math.isfinite(max_drift_s) and max_drift_s >= 0):
            raise ConfigError(f"max_drift_s must be finite and not negative, not {max_drift_s}")
        self._wall = wall
        self._max_drift_s = max_drift_s
        drift_ms = round(max_drift_s * 1000)
        self._drift = drift_ms << COUNTER_BITS | MAX_LOGICAL
        self._last = START
        # A wall below _edge_ns has not passed the millisecond of _last: within one, now() need not divide. It may lag behind.
        self._edge_ns = 0
        # The millisecond of the last update(), from and until which wall; as a timestamp; and the most that it lets a remote be.
        self._millisecond = 0, 0, 0, 0
        # Timestamps below _bound may be handed out; from _soft on, the reserve is half used. _lock guards _last and these two
        # and is never held during I/O; _io guards the reserve and is taken first.
        self._bound = self._soft = _NO_BOUND
        self._lock = threading.Lock()
        self._io = threading.Lock()
        self._reserve: Reserve | None = None
        self._wake: queue.SimpleQueue[bool] | None = None
        self._keeper: threading.Thread | None = None
        if ceiling is not None:
            self._start_at(FileCeiling(ceiling) if isinstance(ceiling, (str, os.PathLike)) else ceiling, drift_ms)
        _clocks.add(self)

    def _start_at(self, ceiling: Ceiling, drift_ms: int) -> None:
        if drift_ms < 2:
            raise ConfigError(f"with a ceiling, max_drift_s must be at least 0.002, not {self._max_drift_s}")
        self._reserve = Reserve(ceiling, min(drift_ms // 2, MAX_RESERVE_MS))
        self._bound = self._soft = 0
        bound = ceiling.load()
        if bound is None:
            return
        self._last = Timestamp(bound) - 1
        ahead_ms = (self._last >> COUNTER_BITS) - self._wall() // _NS_PER_MS
        if ahead_ms > drift_ms:
            _log.warning("the ceiling of this clock is %d ms ahead of the wall; timestamps start there", ahead_ms)

    @property
    def last(self) -> Timestamp | None:
        """Where the clock stands: nothing at or below it will be handed out. None before the first."""
        last = self._last
        return None if last == START else Timestamp(last)

    @property
    def max_drift_s(self) -> float:
        """How far ahead of the wall a remote timestamp may be."""
        return self._max_drift_s

    def now(self) -> Timestamp:
        """Return the next timestamp: for a local event, or for a message about to be sent.

        Invariant (I1): above every timestamp this clock has returned, and not below the wall.
        Raises: ClockError when the reserve is used up and cannot be extended (a full disk): a timestamp that a restart could
            repeat is worse than none. Also past 2**48 ms. The clock is unchanged, and the next call tries again.
        """
        with self._lock:
            wall_ns = self._wall()
            value = self._last + 1
            if wall_ns >= self._edge_ns:
                wall_ms = wall_ns // _NS_PER_MS
                if value < wall_ms << COUNTER_BITS:
                    value = wall_ms << COUNTER_BITS
                    if value < self._soft:
                        self._edge_ns = (wall_ms + 1) * _NS_PER_MS
            if value < self._soft:
                self._last = value
                return _make(Timestamp, value)
        return self._take(value)

    def update(self, remote: int) -> Timestamp:
        """Take in a timestamp that another clock made, and return the next one here: for a message received.

        Invariant (I1): above `remote` and every timestamp this clock has returned, and not below the wall.
        Raises: ClockDrift when `remote` is more than `max_drift_s` ahead of the wall; the clock is unchanged. Alarm and go on: it
            must not keep anything from being served, applied or acknowledged (see HAZARD above). ClockError for a `remote` that
            is no timestamp, and as in `now`.
        """
        if type(remote) is not Timestamp:
            remote = Timestamp(remote)
        with self._lock:
            wall_ns = self._wall()
            value = self._last + 1
            since_ns, until_ns, wall, most = self._millisecond
            if not since_ns <= wall_ns < until_ns:
                wall_ms = wall_ns // _NS_PER_MS
                wall = wall_ms << COUNTER_BITS
                most = wall + self._drift
                self._millisecond = wall_ms * _NS_PER_MS, (wall_ms + 1) * _NS_PER_MS, wall, most
            if remote > most:
                raise ClockDrift(
                    remote_ms=remote >> COUNTER_BITS,
                    wall_ms=wall >> COUNTER_BITS,
                    max_drift_s=self._max_drift_s,
                )
            if value <= remote:
                value = remote + 1
            if value < wall:
                value = wall
            if value < self._soft:
                self._last = value
                return _make(Timestamp, value)
        return self._take(value)

    def close(self) -> None:
        """Stop the keeper and give back what is reserved and unused, so that the next clock starts no further ahead than it must.

        Not calling it is safe. A clock that is used afterwards reserves again.
        """
        with self._lock:
            wake, self._wake = self._wake, None
            keeper, self._keeper = self._keeper, None
        if wake is not None:
            wake.put(False)
        if keeper is not None and keeper.is_alive():
            keeper.join()
        if self._reserve is None:
            return
        with self._io:
            with self._lock:
                self._bound = self._soft = 0
            try:
                self._reserve.give_back(self._last)
            except ClockError as error:
                _log.warning("unused reserve kept, the next clock starts a little ahead: %s", error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _take(self, wanted: int) -> Timestamp:
        """Hand out `wanted` or the first free timestamp above it, reserving if need be.

        The wall is not read again: on a disk slower than the reserve is long, it would outrun every reservation.
        """
        while True:
            with self._lock:
                value = max(self._last + 1, wanted)
                taken = value < self._bound
                half_used = taken and value >= self._soft
                if taken:
                    self._last = value
                if half_used:
                    self._soft = self._bound  # one call wakes the keeper, not every call
            if half_used:
                self._wake_keeper()
            if taken:
                return _make(Timestamp, value)
            self._extend(value)

    def _extend(self, need: int, *, ahead: bool = False) -> None:
        """Move the bound above `need`; with `ahead`, further even if it is."""
        if self._reserve is None:
            raise ClockError(f"the clock is at the end of its range: {need} is past 2**48 ms")
        with self._io:
            if need < self._bound and not ahead:
                return  # another thread has, while this one waited
            bound = self._reserve.extend(need, self._wall() // _NS_PER_MS)
            with self._lock:
                self._bound = bound
                self._soft = (need + bound) // 2

    def _wake_keeper(self) -> None:
        with self._lock:
            wake, starting = self._wake, None
            if wake is None:
                wake = self._wake = queue.SimpleQueue()
                starting = self._keeper = _keeper(self, wake)
        if starting is not None:
            try:
                starting.start()
            except RuntimeError:  # no more threads, or the interpreter is ending: callers extend the reserve themselves
                with self._lock:
                    self._wake = self._keeper = None
        wake.put(True)

    def _after_fork_in_child(self) -> None:
        # The parent's threads are not here, their locks may be, and the reserve remains the parent's.
        self._lock, self._io = threading.Lock(), threading.Lock()
        self._wake = self._keeper = None
        if self._reserve is not None:
            self._reserve.forget()
            self._bound = self._soft = 0


def _keeper(clock: HybridLogicalClock, wake: queue.SimpleQueue[bool]) -> threading.Thread:
    """Make the thread that extends a clock's reserve each time it is woken. It keeps no clock alive, and ends with it."""
    # A garbage collection may run the callback anywhere: SimpleQueue.put is made for that.
    reference = weakref.ref(clock, lambda _: wake.put(False))

    def keep() -> None:
        while wake.get():
            clock = reference()
            if clock is None:
                return
            try:
                clock._extend(clock._last + 1, ahead=True)
            except Exception:  # noqa: BLE001 - whatever a ceiling raises, a caller that outruns the reserve meets it itself
                _log.warning("the reserve of a clock could not be extended", exc_info=True)
            del clock

    return threading.Thread(target=keep, name="causal-clock", daemon=True)


_clocks: weakref.WeakSet[HybridLogicalClock] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for clock in _clocks:
        clock._after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
