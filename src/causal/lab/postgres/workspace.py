"""One process's place for clusters: a temporary folder, the watchdog over it, and what later clusters are copied from.

Owns the folder's life. It goes with the process, however that ends. A process that was forked gets its own.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from causal.errors import ConfigError
from causal.lab.postgres import watchdog
from causal.lab.postgres.account import Account
from causal.lab.postgres.template import make_template

if TYPE_CHECKING:
    from causal.lab.postgres.binaries import Binaries

_LONGEST_SOCKET: Final = 100
"""Bytes: a Unix socket's path holds 107 on Linux and 103 on macOS."""
_lock = threading.RLock()
_current: Workspace | None = None


class Workspace:
    """A folder of this process. Thread-safety: any thread."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.account = Account.choose()
        self.root = Path(tempfile.mkdtemp(prefix="causal-pg-")).resolve()
        self.root.chmod(0o711 if self.account.lent else 0o700)
        self._made = 0
        self._copies: dict[Path, Binaries] = {}
        self._templates: dict[tuple[object, ...], Path] = {}
        self._watchdog = subprocess.Popen(  # noqa: S603 - our own file, and no shell
            [sys.executable, "-I", "-S", watchdog.__file__, str(self.process)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C meant for the tests is not meant for it
            cwd="/",
        )
        self._watch(self.root)
        try:
            barred = self.account.barred_from(self.root)
            if barred:
                raise ConfigError(
                    f"servers run as {self.account.name}, which may not enter {barred}: set TMPDIR to a folder that all may enter"
                )
        except BaseException:
            self.close()
            raise
        atexit.register(self.close)

    @classmethod
    def current(cls) -> Workspace:
        """Return this process's workspace, made at the first call."""
        global _current  # noqa: PLW0603 - one for each process is the point
        with _lock:
            if _current is None or _current.process != os.getpid():
                _current = cls()
            return _current

    def _watch(self, folder: Path) -> None:
        pipe: IO[bytes] | None = self._watchdog.stdin
        assert pipe is not None
        pipe.write(os.fsencode(folder) + b"\n")
        pipe.flush()

    def folder(self, below: Path | None = None) -> Path:
        """Make a new folder for one cluster, here or below a folder of the caller's, and watch over it. Raises: ConfigError."""
        with _lock:
            self._made += 1
            if below is None:
                made = self.root / str(self._made)
                made.mkdir()
            else:
                barred = self.account.barred_from(below.resolve())
                if barred:
                    raise ConfigError(f"servers run as {self.account.name}, which may not enter {barred}")
                made = Path(tempfile.mkdtemp(prefix="causal-pg-", dir=below.resolve()))
                self._watch(made)
            made.chmod(0o711 if self.account.lent else 0o700)
            return made

    def socket_folder(self, cluster: Path) -> Path:
        """Make the folder of a cluster's sockets, where their paths are short enough."""
        with _lock:
            made = cluster / "s"
            if len(os.fsencode(made / ".s.PGSQL.65535.lock")) > _LONGEST_SOCKET:
                made = Path(tempfile.mkdtemp(prefix="causal-pg-", dir="/tmp"))
                self._watch(made)
            else:
                made.mkdir()
            made.chmod(0o700)  # for the account and root alone: whoever can connect may be superuser
            self.account.own(made)
            return made

    def runnable(self, binaries: Binaries) -> Binaries:
        """Return the programs where the account can run them: as they are, or a copy in this folder."""
        with _lock:
            if binaries.directory not in self._copies:
                usable = binaries.usable_by(self.account)
                place = self.root / f"bin{len(self._copies)}"
                self._copies[binaries.directory] = binaries if usable else binaries.copy_to(place)
                if not usable:
                    place.chmod(0o755)
            return self._copies[binaries.directory]

    def template(self, binaries: Binaries, initdb: tuple[str, ...]) -> Path:
        """Return a data directory that was never started, made once for the same programs and options."""
        with _lock:
            key = (binaries.directory, initdb)
            if key not in self._templates:
                place = self.root / f"t{len(self._templates)}"
                shutil.rmtree(place, ignore_errors=True)  # of an attempt that failed
                place.mkdir(mode=0o700)
                self.account.own(place)
                self._templates[key] = make_template(binaries, self.account, place / "data", initdb)
            return self._templates[key]

    def close(self) -> None:
        """End all servers and remove all files. Idempotent; does nothing in a process that was forked."""
        if os.getpid() != self.process:
            return
        atexit.unregister(self.close)
        with contextlib.suppress(OSError):
            assert self._watchdog.stdin is not None
            self._watchdog.stdin.close()
        self._watchdog.wait()
