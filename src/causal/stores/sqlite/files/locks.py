"""Advisory locks of a directory: they die with the process that holds them, whatever happens to it.

Owns two kinds: `admin`, held while membership changes, and one for each site that says "somebody has it open". Knows nothing of
databases.

HAZARD: they bind only on one machine, and on file systems where flock does.
"""

from __future__ import annotations

import fcntl
import os
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Final

from causal.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


_ADMIN: Final = "cluster.lock"


class Locks:
    """The locks that this process holds in a directory. Thread-safety: safe, `attach` and what follows it under `admin`."""

    _all: ClassVar[weakref.WeakSet[Locks]] = weakref.WeakSet()

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._fds: set[int] = set()
        self._admin_depth = 0
        self._attached: dict[str, int] = {}
        self._all.add(self)

    def open_lock(self, name: str) -> int:
        """Open a lock file; returns its descriptor. Undone by `close_lock`, and in the child of a fork. Raises: StoreError."""
        try:
            fd = os.open(self.path / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise StoreError(
                f"{self.path / name} cannot be used as a lock: {error.strerror}; it must be a file, and its directory one that "
                "can be written: remove what is there, or choose another directory"
            ) from error
        self._fds.add(fd)
        return fd

    def close_lock(self, fd: int) -> None:
        """Undo `open_lock`, and with it what was locked."""
        if fd in self._fds:
            self._fds.discard(fd)
            os.close(fd)

    @contextmanager
    def admin(self) -> Iterator[None]:
        """Hold the one lock under which membership changes, across processes. Reentrant."""
        with self._lock:
            if self._admin_depth:
                yield
                return
            fd = self.open_lock(_ADMIN)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                self._admin_depth = 1
                yield
            finally:
                self._admin_depth = 0
                self.close_lock(fd)

    def born(self) -> int:
        """Return when the file of the `admin` lock changed last: when it was made, since nobody writes to it. Under `admin`.

        Units: nanoseconds since 1970. No copy can have the same, whatever made it: nothing sets this time but the system's clock.
        """
        return os.stat(self.path / _ADMIN).st_ctime_ns

    def attach(self, site: str) -> bool:
        """Say that this process has a site open; return whether nobody had. Under `admin`. Undone by `detach`."""
        if site in self._attached:
            return False
        fd = self.open_lock(f"{site}.open")
        first = try_flock(fd)
        fcntl.flock(fd, fcntl.LOCK_SH)
        self._attached[site] = fd
        return first

    def detach(self, site: str) -> None:
        """Undo `attach`."""
        fd = self._attached.pop(site, None)
        if fd is not None:
            self.close_lock(fd)

    @property
    def attached(self) -> tuple[str, ...]:
        """The sites that this process has open."""
        return tuple(self._attached)

    def alone_with(self, site: str) -> bool:
        """Return whether no other process has a site open that this one has. Under `admin`."""
        fd = self._attached[site]
        alone = try_flock(fd)
        fcntl.flock(fd, fcntl.LOCK_SH)
        return alone

    @classmethod
    def after_fork_in_child(cls) -> None:
        """Let go of the parent's locks: a child that outlives its parent must not seem to have its sites open."""
        for locks in tuple(cls._all):
            while locks._fds:
                os.close(locks._fds.pop())


def try_flock(fd: int) -> bool:
    """Take an exclusive lock if nobody has it; return whether that worked."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


os.register_at_fork(after_in_child=Locks.after_fork_in_child)
