"""A network that misbehaves on request: a TCP proxy on loopback in front of one server, or of several in turn.

Owns one thread and all its connections. Knows nothing of PostgreSQL: it moves bytes. A delay is the same for every chunk, so what is
sent one after the other also arrives one after the other and not one delay apart: pipelining pays as it does on a real network.
HAZARD: the thread shares the interpreter's lock with the test. A test that computes all the time delays its own network.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import select
import selectors
import socket
import struct
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol

from causal.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Self

    Address = str | tuple[str, int]

_CHUNK: Final = 1 << 17
_FULL: Final = 1 << 20
"""Bytes on their way in one direction, beyond which no more is read: the sender's own buffers fill, as on a network."""
_RESET: Final = struct.pack("ii", 1, 0)


class Target(Protocol):
    """What a proxy can stand before, beside plain addresses: a `Server`."""

    @property
    def address(self) -> Address:
        """A socket's path, or a host and port."""


class Proxy:
    """A proxy in front of `targets`, each a `Server`, a socket's path or a (host, port); connections take them in turn.

    `delay_s` is added each way. As a context manager, or `start` and `close`. Thread-safety: any thread; what a method does has been
    done when it returns.
    """

    def __init__(self, *targets: Target | Address, delay_s: float = 0.0) -> None:
        self._targets = _addresses(targets)
        self._turn = 0
        self._delay_s = _checked(delay_s)
        self._hung = self._refusing = self._swallowing = False
        self._pairs: set[_Pair] = set()
        self._waiting: deque[socket.socket] = deque()
        self._commands: deque[tuple[Callable[[], None], threading.Event]] = deque()
        self._timers: list[tuple[float, int, _Flow]] = []
        self._order = itertools.count()
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._listener.setblocking(False)
        self._ears, self._mouth = socket.socketpair()
        self._ears.setblocking(False)
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="causal-proxy", daemon=True)
        self.host: Final = "127.0.0.1"
        self.port: Final[int] = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def dsn(self) -> str:
        """How an application connects through it: the role and database `app`."""
        return f"host={self.host} port={self.port} dbname=app user=app"

    def start(self) -> None:
        """Start to accept connections."""
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._ears, selectors.EVENT_READ, self._obey)
        self._thread.start()

    def close(self) -> None:
        """End all connections and the thread. Idempotent."""
        if not self._ending:
            with contextlib.suppress(StoreError):
                self._do(self._end)
            self._ending = True
            if self._thread.ident is not None:
                self._thread.join()
            for each in (self._listener, self._ears, self._mouth, self._selector):
                each.close()

    # What a test does.

    @property
    def delay_s(self) -> float:
        """What is added each way, from the next chunk on. Units: seconds."""
        return self._delay_s

    @delay_s.setter
    def delay_s(self, seconds: float) -> None:
        self._delay_s = _checked(seconds)

    @property
    def targets(self) -> tuple[Address, ...]:
        """Where new connections go, in turn; those that exist stay where they are."""
        return self._targets

    @targets.setter
    def targets(self, targets: Iterable[Target | Address]) -> None:
        self._targets = _addresses(targets)

    @property
    def connections(self) -> int:
        """How many connections pass through it, hung ones included."""
        return len(self._pairs) + len(self._waiting)

    def hang(self) -> None:
        """Fall silent: nothing moves either way, and new connections are accepted and get no answer."""

        def hang() -> None:
            self._hung = True
            for pair in self._pairs:
                pair.watch()

        self._do(hang)

    def cut(self) -> None:
        """Reset all connections, and each new one, until `resume`."""

        def cut() -> None:
            self._refusing = True
            self._reset_all()

        self._do(cut)

    def drop(self) -> None:
        """Reset all connections that exist; new ones are served."""
        self._do(self._reset_all)

    def swallow(self) -> None:
        """Reset each connection when its server next answers, until `resume`: what was asked for is done, and nobody is told."""
        self._swallowing = True

    def resume(self) -> None:
        """Undo `hang`, `cut` and `swallow`: what was held back goes on its way."""

        def resume() -> None:
            self._hung = self._refusing = self._swallowing = False
            for pair in list(self._pairs):
                for flow in pair.flows:
                    flow.push(time.monotonic())
                pair.watch()
            while self._waiting:
                self._join(self._waiting.popleft())

        self._do(resume)

    def _do(self, command: Callable[[], None]) -> None:
        """Run a command in the proxy's thread, which alone touches connections, and wait for it."""
        if self._ending or not self._thread.is_alive():
            raise StoreError("the proxy is closed, or was not started")
        done = threading.Event()
        self._commands.append((command, done))
        self._mouth.send(b"!")
        while not done.wait(1.0):
            if not self._thread.is_alive():
                raise StoreError("the proxy has ended")

    # In the proxy's thread.

    def _run(self) -> None:
        try:
            while not self._ending:
                self._wait()
                now = time.monotonic()
                while self._timers and self._timers[0][0] <= now:
                    flow = heapq.heappop(self._timers)[2]
                    flow.timed = False
                    flow.push(now)
                    flow.pair.watch()
        finally:
            self._reset_all()

    def _wait(self) -> None:
        timeout_s = None
        if self._timers:
            # epoll counts milliseconds, and rounds up: a delay of one would become two. select counts microseconds.
            timeout_s = max(0.0, self._timers[0][0] - time.monotonic())
            fileno = getattr(self._selector, "fileno", None)
            if timeout_s and fileno is not None:
                select.select([fileno()], [], [], timeout_s)
                timeout_s = 0
        for key, events in self._selector.select(timeout_s):
            if key in self._selector.get_map().values():  # an earlier event may have closed it
                key.data(events)

    def _obey(self, _events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self._ears.recv(4096)
        while self._commands:
            command, done = self._commands.popleft()
            try:
                command()
            finally:
                done.set()

    def _end(self) -> None:
        self._ending = True

    def _accept(self, _events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                client = self._listener.accept()[0]
                client.setblocking(False)
                if self._refusing:
                    _reset(client)
                elif self._hung:
                    self._waiting.append(client)
                else:
                    self._join(client)

    def _join(self, client: socket.socket) -> None:
        targets = self._targets
        address = targets[self._turn % len(targets)]
        self._turn += 1
        server = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        try:
            server.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                server.connect(address)
            for each in (client, server):
                if each.family == socket.AF_INET:
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:  # nobody listens there
            server.close()
            _reset(client)
            return
        pair = _Pair(self, client, server)
        self._pairs.add(pair)
        pair.watch()

    def _reset_all(self) -> None:
        for pair in list(self._pairs):
            pair.close()
        while self._waiting:
            _reset(self._waiting.popleft())


class _Flow:
    """One direction of one connection: read, held for the delay, written. A `b""` is the end."""

    def __init__(self, pair: _Pair, source: socket.socket, sink: socket.socket) -> None:
        self.pair = pair
        self.source = source
        self.sink = sink
        self.held: deque[tuple[float, memoryview]] = deque()
        self.size = 0
        self.ended = False  # nothing more to read
        self.done = False  # nothing more to write
        self.blocked = False  # the sink takes no more for now
        self.timed = False  # the clock will come back to it

    def pull(self) -> None:
        """Read what there is."""
        try:
            data = self.source.recv(_CHUNK)
        except BlockingIOError:
            return
        if self.pair.proxy._swallowing and self is self.pair.flows[1]:
            self.pair.close()
            return
        now = time.monotonic()
        self.ended = not data
        self.size += len(data)
        self.held.append((now + self.pair.proxy.delay_s, memoryview(data)))
        self.push(now)

    def push(self, now: float) -> None:
        """Write what is due."""
        proxy = self.pair.proxy
        self.blocked = False
        try:
            while self.held and not proxy._hung and not self.done:
                due, data = self.held[0]
                if due > now:
                    if not self.timed:
                        self.timed = True
                        heapq.heappush(proxy._timers, (due, next(proxy._order), self))
                    return
                if not data:
                    self.done = True
                    self.sink.shutdown(socket.SHUT_WR)
                    return
                sent = self.sink.send(data)
                self.size -= sent
                if sent < len(data):
                    self.held[0] = (due, data[sent:])
                else:
                    self.held.popleft()
        except BlockingIOError:
            self.blocked = True
        except OSError:
            self.pair.close()


class _Pair:
    """A client's connection and the one that was made for it."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy = proxy
        self.flows = (_Flow(self, client, server), _Flow(self, server, client))
        self._watched: dict[socket.socket, int] = {}
        self._open = True

    def watch(self) -> None:
        """Ask for the events that matter now."""
        if not self._open:
            return
        up, down = self.flows
        if up.done and down.done:
            self.close(reset=False)
            return
        for reads, writes in ((up, down), (down, up)):  # what is read from a socket, and what is written to it
            wanted = 0
            if not self.proxy._hung:
                if not reads.ended and reads.size < _FULL:
                    wanted |= selectors.EVENT_READ
                if writes.blocked:
                    wanted |= selectors.EVENT_WRITE
            each, had = reads.source, self._watched.get(reads.source, 0)
            if wanted == had:
                continue
            self._watched[each] = wanted
            selector = self.proxy._selector
            if not had:
                selector.register(each, wanted, self._handler(reads, writes))
            elif not wanted:
                selector.unregister(each)
            else:
                selector.modify(each, wanted, self._handler(reads, writes))

    def _handler(self, reads: _Flow, writes: _Flow) -> Callable[[int], None]:
        def handle(events: int) -> None:
            try:
                if events & selectors.EVENT_WRITE:
                    writes.push(time.monotonic())
                if events & selectors.EVENT_READ and self._open:
                    reads.pull()
            except OSError:  # reset by either side, or a connection that was refused
                self.close()
            self.watch()

        return handle

    def close(self, *, reset: bool = True) -> None:
        """End both connections, with a reset unless both sides have said goodbye."""
        if not self._open:
            return
        self._open = False
        self.proxy._pairs.discard(self)
        for flow in self.flows:
            flow.held.clear()
            if self._watched.get(flow.source):
                self.proxy._selector.unregister(flow.source)
            if reset:
                _reset(flow.source)
            else:
                flow.source.close()


def _reset(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    each.close()


def _addresses(targets: Iterable[Any]) -> tuple[Address, ...]:
    found = tuple(target if isinstance(target, str | tuple) else target.address for target in targets)
    if not found:
        raise ConfigError("a proxy needs a target")
    return found


def _checked(seconds: float) -> float:
    if not (seconds >= 0 and math.isfinite(seconds)):
        raise ConfigError(f"a delay cannot be negative or infinite: {seconds} s")
    return seconds
