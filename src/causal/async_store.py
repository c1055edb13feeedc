"""AsyncCausalStore and its sessions: the asynchronous loop that carries the gate's decisions out.

Owns the loop and the waiting tasks. The rules are those of `store.py`: the same gate, requests, claims and blocks.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, ParamSpec, Self, TypeVar, Unpack, overload

from causal.asking import PROBE_TIMEOUT_S, AsyncLine, aprobe, together, worth_s
from causal.blocks import AsyncRead
from causal.claims import Claims, StoreBase
from causal.core.frontier import Frontier
from causal.core.gate import Probe, Serve, Wait
from causal.core.waiting import Waiter
from causal.errors import StoreError, Unreachable
from causal.feed import AsyncFeed
from causal.recorded import AsyncRecordedRead, AsyncRecordedWrite
from causal.request import Request
from causal.session import SessionState, Written
from causal.state import callable_setting
from causal.write_blocks import AsyncWrite

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from causal.claims import Settings
    from causal.core.policy import ReadPolicy
    from causal.core.receipt import Receipt
    from causal.core.view import View
    from causal.engine import AsyncEngine, AsyncLink, AsyncReadHandle, AsyncWriteHandle

R = TypeVar("R")
W = TypeVar("W")
R2 = TypeVar("R2")
W2 = TypeVar("W2")
T = TypeVar("T")
P = ParamSpec("P")

POLL_S: Final = 0.001
POLL_MAX_S: Final = 0.005


class AsyncCausalStore(StoreBase[R, W]):
    """The asynchronous twin of `CausalStore`: the same names, awaited.

    Units: seconds. Raises: ConfigError. Thread-safety: one event loop; make another store for another loop.
    """

    def __init__(
        self,
        engine: AsyncEngine[R, W],
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        **settings: Unpack[Settings],
    ) -> None:
        super().__init__(engine, **settings)
        self._engine = engine
        self._sleep = callable_setting("sleep", sleep)
        self._opening = asyncio.Lock()
        self._live: AsyncLink[R, W] | None = None
        self._lines: dict[str, AsyncLine] = {}
        self._asking: dict[str, asyncio.Future[None]] = {}
        self._real = sleep is asyncio.sleep
        self._feed: AsyncFeed | None = None

    async def __aenter__(self) -> Self:
        await self._link()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections and end the polling; reads that wait are refused. Idempotent; a later use opens them again."""
        link, self._live = self._live, None
        feed, self._feed = self._feed, None
        for line in self._lines.values():
            if line.poller is not None:
                line.poller.cancel()
                line.poller = None
            for waiter in line.queue.drain():
                _over(waiter.handle)
        try:
            if feed is not None:
                await feed.end()
        finally:
            if link is not None:
                await link.close()
        if self._state.history is not None:
            await asyncio.to_thread(self._state.history.flush)

    async def _link(self) -> AsyncLink[R, W]:
        link = self._live
        if link is not None:
            return link
        async with self._opening:
            if self._live is None:
                link = await self._engine.aopen(self._state.number)
                try:
                    self._state.known(link.endpoints)
                    await together(self._probe(link, e.name) for e in link.endpoints)
                    poll_s = self._state.engine.capabilities.poll_s
                    if poll_s is not None and self._real:
                        self._feed = AsyncFeed(self._state, link, poll_s, _polled(self._lines))
                except BaseException:
                    await link.close()
                    raise
                self._live = link
            return self._live

    def session(
        self, *texts: str | None, subject: str | None = None, policy: ReadPolicy | None = None
    ) -> AsyncSession[R, W]:
        """Return a session that demands everything the presented tokens say, joined: as `CausalStore.session`."""
        if policy is not None:
            self._state.chosen(policy)
        return AsyncSession(self, SessionState(subject, policy), texts)

    def _sharing(self, state: SessionState, /) -> AsyncSession[R, W]:
        return AsyncSession(self, state, None)

    async def position(self, connection: Any) -> Written:
        """Return a frontier that covers what was written and committed through a connection of one's own: for `session.join`."""
        link = await self._link()
        return Written.of((await link.position(connection)).entries)

    async def head(self) -> Frontier:
        """Ask every endpoint, and return everything that exists. Raises: NoEndpoint if a known live origin's leader cannot be asked."""
        link, arrived = await self._link(), self._state.number_now()
        self._state.known(link.endpoints)
        await together(self._probe(link, e.name) for e in link.endpoints)
        return self._state.head(arrived)

    async def _leader(self, shard: int) -> str:
        link = await self._link()
        leader = link.leader(shard)
        if self._state.view.of(leader) is None:
            self._state.known(link.endpoints)
        return leader

    # --- the loop --------------------------------------------------------------------------------------------------

    async def _admit(self, request: Request, block: AsyncRead[R] | None = None) -> Any:
        """Carry decisions out until one serves; return the handle (None for a route), or into a block its connection.

        Raises: GateError.
        """
        link = None
        try:
            link = await self._link()
            while True:
                decision = request.decide()
                if isinstance(decision, Serve):
                    if request.kind == "route":
                        return None
                    handle = await self._open(link, decision.endpoint, request)
                    if handle is not None and block is not None:
                        block._handle = handle  # type: ignore[assignment]
                        request.session.looking(1)
                        return handle.connection
                    if handle is not None:
                        return handle
                elif isinstance(decision, Probe):
                    request.probes += len(decision.endpoints)
                    if len(decision.endpoints) == 1:  # a task of its own would outlast the question
                        await self._ask(link, decision.endpoints[0], request, decision.within_s)
                    else:
                        await together(self._ask(link, name, request, decision.within_s) for name in decision.endpoints)
                    self._state.known(link.endpoints)
                elif isinstance(decision, Wait):
                    place = _Place(self, decision.endpoint, request)
                    try:
                        woken = place.take(link, decision)
                        if woken is not None:
                            await woken
                    finally:
                        place.leave()
                else:
                    raise request.error(decision)
                if self._live is not link:
                    raise request.closed()
        except BaseException as error:
            refused = request.refusal(error, closed=link is not None and self._live is not link)
            request.finish()
            if refused is not error:
                raise refused from error
            raise

    async def _open(
        self, link: AsyncLink[R, W], name: str, request: Request
    ) -> AsyncReadHandle[R] | AsyncWriteHandle[W] | None:
        """Open the snapshot that was decided on; None if its own watermark does not bear the decision out."""
        began = self._state.monotonic() if request.kind == "write" else 0.0
        try:
            if request.kind == "write":
                writing = await link.write(name, request.shard, request.session.joined.exact)
                if request.accepts(writing.watermarks):
                    return writing
                await writing.rollback()
                return None
            reading = await link.read(name, (request.shard,))
            if request.accepts(reading.watermarks):
                return reading
            await reading.close()
            await self._probe(link, name)  # the snapshot need not hold every shard that is demanded
            self._state.known(link.endpoints)  # somebody new may number what it showed
        except StoreError as error:
            if request.kind == "write" and (not isinstance(error, Unreachable) or error.final):
                request.gave_up(error, self._state.monotonic() - began)
                raise
            request.missed(name, error)
        return None

    async def _ask(self, link: AsyncLink[R, W], name: str, request: Request, within_s: float | None) -> None:
        """Probe for a request, or share a probe that started after it arrived: of each endpoint one question is under way at a time."""
        state, timeout_s = self._state, worth_s(self._state, name, within_s)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while (asking := self._asking.get(name)) is not None:
            await asyncio.wait((asking,), timeout=deadline - loop.time())
            if not asking.done():
                state.failed(name, Unreachable(f"{name} does not answer"), request.asked)
                return
            if state.heard_since(name, request.demand.shards, request.arrived):
                return
        self._asking[name] = asking = loop.create_future()
        try:
            await self._probe(link, name, timeout_s)
        finally:
            del self._asking[name]
            asking.set_result(None)

    async def _probe(self, link: AsyncLink[R, W], name: str, timeout_s: float = PROBE_TIMEOUT_S) -> View:
        return await aprobe(self._state, link, name, timeout_s)

    async def _poll(self, link: AsyncLink[R, W], name: str, line: AsyncLine) -> None:
        pause_s = POLL_S
        try:
            while line.queue:
                await self._sleep(pause_s * self._state.random.uniform(0.8, 1.0))
                pause_s = min(pause_s * 1.5, POLL_MAX_S)
                known = (await self._probe(link, name)).of(name)
                down = known is None or known.down is not None
                for waiter in line.queue.drain() if known is None or down else line.queue.advance(known.applied):
                    _over(waiter.handle)
        except Exception as error:  # noqa: BLE001 - it belongs to those who wait, not to a task that nobody awaits
            for waiter in line.queue.drain():
                if not waiter.handle.done():
                    waiter.handle.set_exception(error)


class _Place:
    """One read's place in an endpoint's line, until its poller finds the need covered or the time is up.

    Taken and left by hand, where a coroutine of its own would be twice the size: many wait.
    """

    __slots__ = ("began", "endpoint", "request", "store", "timer", "waiter")

    def __init__(self, store: AsyncCausalStore[Any, Any], endpoint: str, request: Request) -> None:
        self.store, self.endpoint, self.request = store, endpoint, request
        self.waiter: Waiter[asyncio.Future[None]] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.began: float | None = None

    def take(self, link: AsyncLink[Any, Any], wait: Wait) -> asyncio.Future[None] | None:
        """Return what to await, or None if there is nothing to wait for. Raises: Overloaded."""
        store, state = self.store, self.store._state
        line = store._lines.setdefault(self.endpoint, AsyncLine())
        state.enter_wait(self.endpoint, self.request.session.subject)
        self.began = state.monotonic()
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        self.waiter = line.queue.add(wait.need, state.applied(self.endpoint), woken)
        if self.waiter is None:
            return None
        if line.poller is None or line.poller.done():
            line.poller = loop.create_task(store._poll(link, self.endpoint, line), name=f"causal poll {self.endpoint}")
        self.timer = loop.call_later(wait.for_s, _over, woken)
        return woken

    def leave(self) -> None:
        """Leave nothing behind, however the wait has ended."""
        if self.began is None:
            return  # the line was too long
        state, line = self.store._state, self.store._lines[self.endpoint]
        if self.timer is not None:
            self.timer.cancel()
        if self.waiter is not None:
            line.queue.discard(self.waiter)
        if not line.queue and line.poller is not None:
            line.poller.cancel()
            line.poller = None
        state.leave_wait(self.endpoint, self.request.session.subject)
        self.request.waited_s += state.monotonic() - self.began


def _polled(lines: Mapping[str, AsyncLine]) -> Callable[[str], bool]:
    """Whether reads wait at an endpoint that a task polls for them."""
    return lambda name: (line := lines.get(name)) is not None and line.poller is not None and not line.poller.done()


def _over(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)


class AsyncSession(Claims, Generic[R, W]):
    """The asynchronous twin of `Session`: the same names; blocks are entered with `async with`.

    Thread-safety: one event loop; blocks of one session may run in parallel tasks.
    """

    __slots__ = ("_store",)

    def __init__(self, store: AsyncCausalStore[R, W], state: SessionState, texts: Iterable[str | None] | None) -> None:
        super().__init__(store._state, state, texts)
        self._store = store

    @overload
    def read(self, /, *, shard: str | None = None, policy: ReadPolicy | None = None) -> AsyncRead[R]: ...
    @overload
    def read(
        self, store: AsyncCausalStore[R2, W2], /, *, shard: str | None = None, policy: ReadPolicy | None = None
    ) -> AsyncRead[R2]: ...
    def read(
        self,
        store: AsyncCausalStore[Any, Any] | None = None,
        /,
        *,
        shard: str | None = None,
        policy: ReadPolicy | None = None,
    ) -> AsyncRead[Any]:
        """Return a block that reads one shard at one endpoint, in one snapshot, when that is right: as `Session.read`."""
        block = AsyncRead if self._state.trail is None else AsyncRecordedRead
        return block(store if store is not None else self._store, self._state, shard, policy)

    @overload
    def write(
        self, /, *, shard: str | None = None, wait_s: float | None = None, touching: Iterable[str] | None = None
    ) -> AsyncWrite[W]: ...
    @overload
    def write(
        self,
        store: AsyncCausalStore[R2, W2],
        /,
        *,
        shard: str | None = None,
        wait_s: float | None = None,
        touching: Iterable[str] | None = None,
    ) -> AsyncWrite[W2]: ...
    def write(
        self,
        store: AsyncCausalStore[Any, Any] | None = None,
        /,
        *,
        shard: str | None = None,
        wait_s: float | None = None,
        touching: Iterable[str] | None = None,
    ) -> AsyncWrite[Any]:
        """Return a block that is one write transaction on one shard: as `Session.write`."""
        block = AsyncWrite if self._state.trail is None else AsyncRecordedWrite
        return block(store if store is not None else self._store, self._state, shard, wait_s, touching)

    async def run_read(self, fn: Callable[Concatenate[R, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Await `fn(connection, ...)` inside a read block: as `Session.run_read`; elsewhere `session.read(shard=...).run(fn, ...)`."""
        return await self.read().run(fn, *args, **kwargs)

    async def route(
        self,
        store: AsyncCausalStore[Any, Any] | None = None,
        /,
        *,
        shard: str | None = None,
        policy: ReadPolicy | None = None,
    ) -> Receipt:
        """Only decide and wait: as `Session.route`."""
        target = store if store is not None else self._store
        state = target._state
        chosen = state.chosen(policy, self._state.policy)
        request = Request(state, self._state, state.shard(shard), chosen, kind="route")
        await target._admit(request)
        request.finish()
        return request.receipt()
