"""How far a clock may go: a durable bound that outlives the process.

Owns the file that holds the bound, and the bookkeeping of what one clock has reserved of it. Knows nothing of threads' timing:
`causal.clock` decides when to reserve.

The bound is exclusive and kept one promise ahead: **the stored bound is above every timestamp that any clock on it ever handed
out**, so a clock that starts at it cannot repeat or go below one. Several processes may share a ceiling. Each of them stays above
its own past and above everything handed out before it started; two that run at once are two clocks and may hand out equal
timestamps, which a site or an origin tells apart.

HAZARD: a ceiling that is deleted, or restored from an older copy, forgets; the wall clock is then all there is.
HAZARD: durable means that fsync is: a drive that lies about it can go back after a power cut (on macOS fsync does not empty
the drive's own cache).
HAZARD: the lock beside the file (`.lock`) must not be deleted while anything runs.
"""

from __future__ import annotations

import contextlib
import os
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from causal.core.hlc import COUNTER_BITS, MAX_TIMESTAMP, Timestamp
from causal.errors import ClockError, ConfigError

try:
    import fcntl
except ImportError:  # not POSIX: FileCeiling says so when it is made
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator

ONE_MS: Final = 1 << COUNTER_BITS

_FILE: Final = re.compile(rb"(causal-ceiling 1 ([0-9a-f]{12}\.[0-9a-f]{4})) ([0-9a-f]{8})\n")
_READ_AT_MOST: Final = 128


class Ceiling(Protocol):
    """Where a bound is kept: a file, or a row of a database that the process needs anyway.

    Thread-safety: every method is atomic among all threads and processes that share the bound.
    """

    def load(self) -> int | None:
        """Return the stored bound, None if there never was one. Raises: ClockError rather than guess at a damaged one."""

    def reserve(self, up_to: int) -> int:
        """Durably raise the bound to `max(up_to, bound + 1)` and return what it was before, 0 if nothing.

        It must always rise: that is how a later `release` knows whether anybody reserved in between.
        Raises: ClockError when it cannot be made durable; the clock then refuses.
        """

    def release(self, bound: int, keep: int) -> None:
        """Lower the bound to `keep` if it still is `bound`. Doing nothing is sound: the next clock starts a little ahead."""


class FileCeiling:
    """A bound in a file of one line, replaced as a whole and synced, under a lock that other processes see.

    A file that is not such a line is refused, never guessed at or overwritten.

    Raises: ConfigError when the directory is missing or the system has no file locks; ClockError as in `Ceiling`.
    Thread-safety: safe, also among processes and after a fork.
    """

    __slots__ = ("_path",)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if fcntl is None:
            raise ConfigError("FileCeiling needs POSIX file locks; give the clock another ceiling on this system")
        self._path = Path(path).absolute()  # the process may change its directory: one bound must not become two
        if not self._path.parent.is_dir():
            raise ConfigError(f"the directory of the ceiling {self._path} does not exist")

    def __repr__(self) -> str:
        return f"FileCeiling({str(self._path)!r})"

    def load(self) -> Timestamp | None:
        """Return the stored bound, None while there is no file. Raises: ClockError when the file is damaged or unreadable."""
        try:
            with self._path.open("rb") as file:
                data = file.read(_READ_AT_MOST)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ClockError(f"the ceiling {self._path} cannot be read: {error}") from error
        match = _FILE.fullmatch(data)
        if match is None or zlib.crc32(match[1]) != int(match[3], 16):
            raise ClockError(
                f"the ceiling {self._path} is damaged ({len(data)} bytes that are no bound). Restore it; or, if it must be "
                "given up, remove it once the wall clock has passed everything this clock has handed out"
            )
        return Timestamp.parse(match[2].decode())

    def reserve(self, up_to: int) -> int:
        """Durably raise the bound to `max(up_to, bound + 1)`; return what it was, 0 if there was no file."""
        with self._locked():
            before = self.load() or 0
            self._store(Timestamp(max(up_to, before + 1)))
            return before

    def release(self, bound: int, keep: int) -> None:
        """Lower the bound to `keep` if it still is `bound`."""
        with self._locked():
            if self.load() == bound:
                self._store(Timestamp(keep))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise ClockError(f"the ceiling {self._path} cannot be locked: {error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                yield
            finally:
                # Not left to close(): a child forked meanwhile holds a copy of `lock`, and with it the lock.
                fcntl.flock(lock, fcntl.LOCK_UN)
        except OSError as error:
            raise ClockError(f"the ceiling {self._path} cannot be made durable: {error}") from error
        finally:
            os.close(lock)

    def _store(self, bound: Timestamp) -> None:
        body = f"causal-ceiling 1 {bound}"
        temporary = Path(f"{self._path}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(f"{body} {zlib.crc32(body.encode()):08x}\n".encode())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


class Reserve:
    """What one clock holds of a ceiling: timestamps below `extend`'s answer are its to hand out.

    Invariant: gives back only what nobody else can have built on. A bound that rose since is not ours to lower; and below what
    stood when we reserved, other clocks may still be handing out, so the bound returns to above that and never to it.
    Thread-safety: none; the clock calls it under one lock.
    """

    __slots__ = ("_ceiling", "_floor", "_held", "_span")

    def __init__(self, ceiling: Ceiling, span_ms: int) -> None:
        self._ceiling = ceiling
        self._span = span_ms << COUNTER_BITS
        self.forget()

    def forget(self) -> None:
        """Hold nothing, and give nothing back: in a forked child the reserve stays the parent's."""
        self._held: int | None = None
        self._floor = 0

    def extend(self, need: int, wall_ms: int) -> int:
        """Durably reserve, and return a bound above `need`.

        It is at most the span ahead of the wall; for a clock that is itself ahead by as much, one millisecond beyond `need`
        (65,536 timestamps), or many short processes would each start a span further ahead.
        Raises: ClockError when that cannot be made durable, and at the end of the range.
        """
        if need >= MAX_TIMESTAMP:
            raise ClockError(f"the clock is at the end of its range: {need} is past 2**48 ms")
        up_to = max(need + ONE_MS, (wall_ms << COUNTER_BITS) + self._span)
        up_to = min(up_to, MAX_TIMESTAMP)
        before = self._ceiling.reserve(up_to)
        if before != self._held:
            self._floor = before + 1
        self._held = max(up_to, before + 1)
        return self._held

    def give_back(self, last: int) -> None:
        """Return what is reserved above `last`, as far as nobody else depends on it."""
        if self._held is not None:
            keep = max(last + 1, self._floor)
            if keep < self._held:
                self._ceiling.release(self._held, keep)
            self.forget()
