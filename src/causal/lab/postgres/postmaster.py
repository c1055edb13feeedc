"""One server's processes: started, waited for, stopped, killed, stopped in their tracks.

Owns the postmaster's process and its log. Knows no SQL and no other server.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Final

from causal.errors import StoreError
from causal.lab.postgres import watchdog
from causal.lab.postgres.account import environment, last_lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from causal.lab.postgres.account import Account
    from causal.lab.postgres.binaries import Binaries

_POLL_S: Final = 0.005
_STOP: Final = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


def wait_until(condition: Callable[[], bool], timeout_s: float, otherwise: Callable[[], str]) -> None:
    """Ask until something is so. Raises: StoreError, saying what `otherwise` says, when the time is spent."""
    deadline = time.monotonic() + timeout_s
    pause_s = _POLL_S
    while not condition():
        if time.monotonic() > deadline:
            raise StoreError(otherwise())
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.05)


class Postmaster:
    """The processes of one data directory. Thread-safety: one caller at a time."""

    def __init__(self, binaries: Binaries, account: Account, data: Path, log: Path) -> None:
        self.binaries = binaries
        self.account = account
        self.data = data
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The postmaster's process, while it lives."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def running(self) -> bool:
        """Whether the postmaster lives; it may still be recovering, or stopped in its tracks."""
        return self.pid is not None

    def start(self) -> None:
        """Start without waiting; `wait_ready` waits. Does nothing while it runs."""
        if self.running:
            return
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a program found by `binaries`, and no shell
                [self.binaries.program("postgres"), "-D", self.data],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.data.parent,
                env=environment(),
                start_new_session=True,  # a Ctrl-C meant for the tests must not stop the server first
                **self.account.popen,
            )

    def wait_ready(self, timeout_s: float = 60) -> None:
        """Wait until connections are accepted. Raises: StoreError with the end of the log when it ends or does not get there."""

        def ready() -> bool:
            if not self.running:
                raise StoreError(f"the server in {self.data} ended instead of starting:\n{self.said()}")
            with contextlib.suppress(OSError, IndexError):
                lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
                return lines[0] == str(self.pid) and lines[7].strip() == "ready"
            return False

        wait_until(
            ready,
            timeout_s,
            lambda: f"the server in {self.data} is not ready after {timeout_s:g} s:\n{self.said()}",
        )

    def said(self) -> str:
        """Return the last lines that it has logged since it was started."""
        try:
            with self.log.open("rb") as file:
                file.seek(self._log_start)
                return last_lines(file.read().decode(errors="replace"))
        except OSError as error:
            return f"(no log: {error})"

    def stop(self, mode: str, timeout_s: float = 30) -> None:
        """Shut down and wait for the end. Raises: StoreError if it does not end in time; then it still runs."""
        if self._process is None or not self.running:
            return
        self.thaw()
        self._process.send_signal(_STOP[mode])
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise StoreError(
                f"the server in {self.data} does not shut down ({mode}) within {timeout_s:g} s:\n{self.said()}"
            ) from None

    def stop_soon(self) -> None:
        """Ask for an immediate shutdown without waiting for it."""
        if self.pid is not None:
            self._signal(self.pid, signal.SIGQUIT)

    def kill(self) -> None:
        """End the postmaster and all its children at once, as the kernel does when memory is short; wait until all are gone."""
        if self._process is None:
            return
        self.freeze()  # so that none is born meanwhile
        family = self.family()
        self._process.kill()
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        wait_until(
            lambda: not set(family) & set(self.family()), 10, lambda: f"processes {family} of {self.data} do not end"
        )
        self._remove_shared_memory()

    def _remove_shared_memory(self) -> None:
        """Remove the segment by which servers keep off a directory in use: nobody does it for one that was killed and never restarts."""
        with contextlib.suppress(OSError, ValueError, IndexError, AttributeError):
            key, segment = map(int, (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()[6].split())
            libc = ctypes.CDLL(None)
            if libc.shmget(ctypes.c_int(key & 0xFFFFFFFF), ctypes.c_size_t(0), 0) == segment:
                libc.shmctl(segment, 0, None)

    def family(self) -> list[int]:
        """Return the processes that work in the data directory, the postmaster's among them."""
        return watchdog.inside(self.data)

    def freeze(self) -> None:
        """Stop all processes in their tracks: connections stay open, and nothing answers."""
        stopped: set[int] = set()
        if self.pid is not None:
            self._signal(self.pid, signal.SIGSTOP)  # first, so that it has no more children
            stopped.add(self.pid)
            while new := set(self.family()) - stopped:
                for pid in new:
                    self._signal(pid, signal.SIGSTOP)
                stopped |= new

    def thaw(self) -> None:
        """Let all processes go on."""
        for pid in self.family() if self.running else ():
            self._signal(pid, signal.SIGCONT)

    def reload(self) -> None:
        """Make the postmaster read its files again."""
        if self.pid is not None:
            self._signal(self.pid, signal.SIGHUP)

    @staticmethod
    def _signal(pid: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
