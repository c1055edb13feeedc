"""Starts every process of the shop, and ends each by its id.

The processes listen at sockets that are bound here: nobody else can take a port in between, and requests wait until somebody accepts.
Each has a pipe as its standard input, which ends with this process, however that ends.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import httpx

from causal.keyfile import create_key_file
from examples.shop.controls import Controls
from examples.shop.run.opening import open_shop
from examples.shop.settings import SITES, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT: Final = Path(__file__).parents[3]
READY_S: Final = 60.0
END_S: Final = 10.0


class Ended(RuntimeError):
    """A process of the shop has ended that was not asked to."""


class Running:
    """The shop, as it runs, while the block lasts. With `port`, the sites are at that one and the next; else at any that are free.

    Raises: OSError for a port that is taken; Ended. Thread-safety: one thread at a time.
    """

    def __init__(self, engine: str = "embedded", *, port: int = 0, without: Iterable[str] = ()) -> None:
        self._engine, self._port, self._without = engine, port, tuple(without)
        self._stack = ExitStack()
        self._lag_s = 0.0
        self._servers: Any = None
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        directory = Path(tempfile.mkdtemp(prefix="shop-"))
        self._stack.callback(shutil.rmtree, directory, ignore_errors=True)
        sockets = {name: self._bound(nth) for nth, name in enumerate((*SITES, "orders"))}
        urls = {name: f"http://127.0.0.1:{bound.getsockname()[1]}" for name, bound in sockets.items()}
        databases = valkey = None
        if self._engine == "postgres":
            from examples.shop.run.servers import Servers

            self._servers = self._stack.enter_context(Servers())
            databases, valkey = self._servers.databases, self._servers.valkey
        self.settings = Settings(directory, {site: urls[site] for site in SITES}, urls["orders"], databases, valkey)
        self.settings.save()
        self.controls = Controls(directory)
        create_key_file(self.settings.keys)
        open_shop(self.settings, self.controls)
        self.controls.change(without=self._without)
        self._stack.callback(self._end)
        for name, bound in sockets.items():
            self._spawn(name, bound)
        for name in ("indexer", "worker"):
            self._spawn(name)
        for url in urls.values():
            self._wait(url)

    def _bound(self, nth: int) -> socket.socket:
        bound = self._stack.enter_context(socket.socket())
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", self._port + nth if self._port and nth < len(SITES) else 0))
        bound.listen(100)
        return bound

    def _spawn(self, name: str, bound: socket.socket | None = None) -> None:
        command = [sys.executable, "-m", "examples.shop", "process", name, "--dir", str(self.settings.directory)]
        fds: tuple[int, ...] = ()
        if bound is not None:
            fds = (bound.fileno(),)
            command += ["--fd", str(bound.fileno())]
        log = self._stack.enter_context(self._log(name).open("wb"))
        # In a session of its own: Ctrl-C in the terminal is for this process alone, which then ends the others in order.
        self.processes[name] = subprocess.Popen(  # noqa: S603 - this very program
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=log, stderr=log, pass_fds=fds, start_new_session=True
        )
        if bound is not None:
            bound.close()  # so that nobody waits for a process that has ended

    def _wait(self, url: str) -> None:
        deadline = time.monotonic() + READY_S
        while True:
            self.check()
            try:
                if httpx.get(f"{url}/health", timeout=READY_S).is_success:
                    return
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.05)

    def check(self) -> None:
        """See whether all processes run. Raises: Ended."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                said = self._log(name).read_text(encoding="utf-8", errors="replace")[-2000:]
                raise Ended(f"{name} has ended with exit code {process.returncode}:\n{said}")

    def _log(self, name: str) -> Path:
        return self.settings.directory / f"{name}.log"

    def set_lag(self, seconds: float) -> None:
        """Let replicas lag so much, and return when they do."""
        self.controls.change(lag_s=seconds)
        self.follow()

    def follow(self) -> None:
        """Let the servers lag as the controls say, where there are servers: on the embedded store, each process looks itself."""
        lag_s = self.controls.state().lag_s
        if lag_s != self._lag_s and self._servers is not None:
            self._servers.set_lag(lag_s)
        self._lag_s = lag_s

    def _end(self) -> None:
        for process in self.processes.values():
            process.terminate()
        deadline = time.monotonic() + END_S
        for process in self.processes.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdin is not None
            process.stdin.close()
