"""CausalStore and its sessions: the synchronous loop that carries the gate's decisions out.

Owns the loop, the waiting threads and the blocks that users write. Every rule is elsewhere: `core/gate.py` decides, `request.py`
accounts, `session.py` remembers.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, ParamSpec, Self, TypeVar, Unpack, overload
from weakref import WeakSet

from causal.asking import PROBE_TIMEOUT_S, Line, Sleeper, probe, worth_s
from causal.blocks import Read
from causal.claims import Claims, StoreBase
from causal.core.frontier import Frontier
from causal.core.gate import Probe, Serve, Wait
from causal.errors import StoreError, Unreachable
from causal.feed import Feed
from causal.recorded import RecordedRead, RecordedWrite
from causal.request import Request
from causal.session import SessionState, Written
from causal.state import callable_setting
from causal.write_blocks import Write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from causal.claims import Settings
    from causal.core.policy import ReadPolicy
    from causal.core.receipt import Receipt
    from causal.core.view import View
    from causal.engine import Link, ReadHandle, SyncEngine, WriteHandle

R = TypeVar("R")
W = TypeVar("W")
R2 = TypeVar("R2")
W2 = TypeVar("W2")
T = TypeVar("T")
P = ParamSpec("P")

POLL_S: Final = 0.001
"""The first pause between two questions to an endpoint that is waited on; pauses grow to POLL_MAX_S."""
POLL_MAX_S: Final = 0.005


class CausalStore(StoreBase[R, W]):
    """A store whose reads are held back until they are right.

    `R` and `W` are the engine's own connection types. Opens at the first use, or as a context manager (then what the replicas hold is
    asked at once, which is also what later shows them to be fresh).

    Units: seconds. `token_ttl_s` must exceed `max_staleness_s + max_clock_skew_s`. Raises: ConfigError.
    Thread-safety: safe from any thread; after a fork, the child opens its own connections (what the parent has open stays the parent's),
    if its engine can: the embedded store refuses in the child what was open when the process forked.
    """

    def __init__(
        self, engine: SyncEngine[R, W], *, sleep: Callable[[float], object] = time.sleep, **settings: Unpack[Settings]
    ) -> None:
        super().__init__(engine, **settings)
        self._engine = engine
        self._sleep = callable_setting("sleep", sleep)
        # A sleep that the caller gave may be virtual time: then no thread may block on anything else.
        self._real = sleep is time.sleep
        self._opening = threading.Lock()
        self._live: Link[R, W] | None = None
        self._lines: dict[str, Line] = {}
        self._feed: Feed | None = None
        _stores.add(self)

    def __enter__(self) -> Self:
        self._link()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close this process's connections; reads that wait are refused. Idempotent; a later use opens them again."""
        with self._opening:
            link, self._live = self._live, None
            feed, self._feed = self._feed, None
        if feed is not None:
            feed.end()
        for line in list(self._lines.values()):
            with line.lock:
                waiters = line.queue.drain()
            for waiter in waiters:
                waiter.handle.event.set()
        if link is not None:
            link.close()
        if feed is not None:
            feed.join()
        if self._state.history is not None:
            self._state.history.flush()

    def _link(self) -> Link[R, W]:
        link = self._live
        if link is not None:
            return link
        with self._opening:
            if self._live is None:
                link = self._engine.open(self._state.number)
                try:
                    self._state.known(link.endpoints)
                    for endpoint in link.endpoints:
                        self._probe(link, endpoint.name)
                    poll_s = self._state.engine.capabilities.poll_s
                    if poll_s is not None and self._real:
                        self._feed = Feed(self._state, link, poll_s, _polled(self._lines))
                except BaseException:
                    link.close()
                    raise
                self._live = link
            return self._live

    def _forked(self) -> None:
        """In a forked child: the parent's connections are not ours, its threads are gone, and its locks may be held for ever."""
        if self._feed is not None:
            self._feed.forked()
        self._live, self._feed, self._lines = None, None, {}
        self._opening = threading.Lock()
        self._state.forked()

    def session(
        self, *texts: str | None, subject: str | None = None, policy: ReadPolicy | None = None
    ) -> Session[R, W]:
        """Return a session that demands everything the presented tokens say, joined.

        A token that cannot be opened is listed in `session.rejected`; what that means is the policy's choice (`bad_token`).
        `policy` is for its reads that name none; by default the store's is.
        Raises: TokenError only with `bad_token="raise"`; ConfigError for a subject that is not text.
        """
        if policy is not None:
            self._state.chosen(policy)
        return Session(self, SessionState(subject, policy), texts)

    def _sharing(self, state: SessionState, /) -> Session[R, W]:
        return Session(self, state, None)

    def position(self, connection: Any) -> Written:
        """Return a frontier that covers what was written and committed through a connection of one's own: for `session.join`."""
        return Written.of(self._link().position(connection).entries)

    def head(self) -> Frontier:
        """Ask every endpoint, and return everything that exists: for `session.join`, after a write by someone else.

        Raises: NoEndpoint if the leader of a known live origin cannot be asked.
        """
        link, arrived = self._link(), self._state.number_now()
        self._state.known(link.endpoints)
        for endpoint in link.endpoints:
            self._probe(link, endpoint.name)
        return self._state.head(arrived)

    def _leader(self, shard: int) -> str:
        link = self._link()
        leader = link.leader(shard)
        if self._state.view.of(leader) is None:
            self._state.known(link.endpoints)
        return leader

    # --- the loop --------------------------------------------------------------------------------------------------

    def _admit(self, request: Request) -> ReadHandle[R] | WriteHandle[W] | None:
        """Carry decisions out until one serves; return the handle (None for a route). Raises: GateError."""
        link = None
        try:
            link = self._live or self._link()
            while True:
                decision = request.decide()
                if isinstance(decision, Serve):
                    if request.kind == "route":
                        return None
                    handle = self._open(link, decision.endpoint, request)
                    if handle is not None:
                        return handle
                elif isinstance(decision, Probe):
                    for name in decision.endpoints:
                        request.probes += 1
                        self._ask(link, name, request, request.left_s(decision))
                    self._state.known(link.endpoints)
                elif isinstance(decision, Wait):
                    self._wait(link, decision, request)
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

    def _open(self, link: Link[R, W], name: str, request: Request) -> ReadHandle[R] | WriteHandle[W] | None:
        """Open the snapshot that was decided on; None if its own watermark does not bear the decision out."""
        began = self._state.monotonic() if request.kind == "write" else 0.0
        try:
            if request.kind == "write":
                writing = link.write(name, request.shard, request.session.joined.exact)
                if request.accepts(writing.watermarks):
                    return writing
                writing.rollback()
                return None
            reading = link.read(name, (request.shard,))
            if request.accepts(reading.watermarks):
                return reading
            reading.close()
            self._probe(link, name)  # the snapshot need not hold every shard that is demanded
            self._state.known(link.endpoints)  # somebody new may number what it showed
        except StoreError as error:
            if request.kind == "write" and (not isinstance(error, Unreachable) or error.final):
                request.gave_up(error, self._state.monotonic() - began)
                raise
            request.missed(name, error)
        return None

    def _ask(self, link: Link[R, W], name: str, request: Request, within_s: float | None) -> None:
        """Probe for a request, or share a probe that started after it arrived: of each endpoint one question is under way at a time."""
        state, timeout_s = self._state, worth_s(self._state, name, within_s)
        if not self._real:
            self._probe(link, name, timeout_s)
        elif not self._line(name).ask(
            lambda: self._probe(link, name, timeout_s),
            lambda: state.heard_since(name, request.demand.shards, request.arrived),
            timeout_s,
        ):
            state.failed(name, Unreachable(f"{name} does not answer"), request.asked)

    def _line(self, name: str) -> Line:
        line = self._lines.get(name)
        return line if line is not None else self._lines.setdefault(name, Line())

    def _probe(self, link: Link[R, W], name: str, timeout_s: float = PROBE_TIMEOUT_S) -> View:
        return probe(self._state, link, name, timeout_s)

    def _wait(self, link: Link[R, W], wait: Wait, request: Request) -> None:
        """Wait in the endpoint's line: one thread of the line polls for all, the others sleep until they are covered."""
        state, began = self._state, self._state.monotonic()
        line = self._line(wait.endpoint)
        state.enter_wait(wait.endpoint, request.session.subject)
        sleeper, deadline, pause_s = Sleeper(), began + wait.for_s, POLL_S
        waiter = None
        try:
            with line.lock:
                waiter = line.queue.add(wait.need, state.applied(wait.endpoint), sleeper)
                if waiter is None or self._live is not link:  # those who close a store wake only whom they find in line
                    return
                if not line.polling:
                    line.polling = sleeper.leads = True
            while waiter.waiting and (left_s := deadline - state.monotonic()) > 0:
                if sleeper.leads:
                    self._sleep(min(pause_s * state.random.uniform(0.8, 1.0), left_s))
                    pause_s = min(pause_s * 1.5, POLL_MAX_S)
                    if not waiter.waiting:
                        break  # closed
                    self._poll(link, wait.endpoint, line, worth_s(state, wait.endpoint, wait.for_s))
                elif self._real:
                    sleeper.event.wait(left_s)
                    sleeper.event.clear()
                else:
                    self._sleep(min(POLL_MAX_S, left_s))
        finally:
            with line.lock:
                if waiter is not None:
                    line.queue.discard(waiter)
                if sleeper.leads:
                    following = line.queue.first()
                    line.polling = following is not None
                    if following is not None:
                        following.handle.leads = True
                        following.handle.event.set()
            state.leave_wait(wait.endpoint, request.session.subject)
            request.waited_s += state.monotonic() - began

    def _poll(self, link: Link[R, W], name: str, line: Line, timeout_s: float) -> None:
        known = self._probe(link, name, timeout_s).of(name)
        with line.lock:
            down = known is None or known.down is not None
            ready = line.queue.drain() if known is None or down else line.queue.advance(known.applied)
        for waiter in ready:
            waiter.handle.event.set()


def _polled(lines: Mapping[str, Line]) -> Callable[[str], bool]:
    """Whether reads wait at an endpoint, one of which asks it again and again."""
    return lambda name: (line := lines.get(name)) is not None and line.polling


_stores: Final[WeakSet[CausalStore[Any, Any]]] = WeakSet()


def _after_fork() -> None:
    for store in list(_stores):
        store._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Session(Claims, Generic[R, W]):
    """One identity that carries the guarantees: no context manager, holds no connection.

    Thread-safety: safe from any thread; blocks of one session may run in parallel.
    """

    __slots__ = ("_store",)

    def __init__(self, store: CausalStore[R, W], state: SessionState, texts: Iterable[str | None] | None) -> None:
        super().__init__(store._state, state, texts)
        self._store = store

    # --- blocks ----------------------------------------------------------------------------------------------------

    @overload
    def read(self, /, *, shard: str | None = None, policy: ReadPolicy | None = None) -> Read[R]: ...
    @overload
    def read(
        self, store: CausalStore[R2, W2], /, *, shard: str | None = None, policy: ReadPolicy | None = None
    ) -> Read[R2]: ...
    def read(
        self,
        store: CausalStore[Any, Any] | None = None,
        /,
        *,
        shard: str | None = None,
        policy: ReadPolicy | None = None,
    ) -> Read[Any]:
        """Return a block that reads one shard at one endpoint, in one snapshot, when that is right. `store` defaults to the session's own.

        Inside a write block of this session on the same shard (same thread and context), the block reads through that transaction.
        Entering raises: GateTimeout, WriteLost, CommitUnknown, Overloaded, NoEndpoint, ConfigError, StoreError.
        """
        block = Read if self._state.trail is None else RecordedRead
        return block(store if store is not None else self._store, self._state, shard, policy)

    @overload
    def write(
        self, /, *, shard: str | None = None, wait_s: float | None = None, touching: Iterable[str] | None = None
    ) -> Write[W]: ...
    @overload
    def write(
        self,
        store: CausalStore[R2, W2],
        /,
        *,
        shard: str | None = None,
        wait_s: float | None = None,
        touching: Iterable[str] | None = None,
    ) -> Write[W2]: ...
    def write(
        self,
        store: CausalStore[Any, Any] | None = None,
        /,
        *,
        shard: str | None = None,
        wait_s: float | None = None,
        touching: Iterable[str] | None = None,
    ) -> Write[Any]:
        """Return a block that is one write transaction on one shard, at a leader that covers what the session demands (I9).

        `wait_s`: how long to wait for that (default: as the store's policy). `touching`: all cache keys whose value it may change (default:
        any); `block.touch(*keys)` adds some. HAZARD: a cached value of a key left out is served without this write. Commits when the block
        ends, rolls back if it raises. Entering raises as `read`; leaving raises CommitUnknown, StoreError, and, if the session has learned
        meanwhile of what the leader lacks or of a loss, GateTimeout or WriteLost: in all but the first nothing is committed.
        """
        block = Write if self._state.trail is None else RecordedWrite
        return block(store if store is not None else self._store, self._state, shard, wait_s, touching)

    def run_read(self, fn: Callable[Concatenate[R, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `fn(connection, ...)` inside a read block, again if the endpoint is lost underway: `fn` must be repeatable.

        Elsewhere, or with a policy: `session.read(shard=...).run(fn, ...)`. Raises: as `read`; Unreachable after three tries.
        """
        return self.read().run(fn, *args, **kwargs)

    def route(
        self,
        store: CausalStore[Any, Any] | None = None,
        /,
        *,
        shard: str | None = None,
        policy: ReadPolicy | None = None,
    ) -> Receipt:
        """Only decide and wait: return the receipt, whose `endpoint` may be read through a connection of one's own.

        HAZARD: the snapshot is then not judged: a server that restarts behind its watermark in between is not noticed. Raises: as `read`.
        """
        target = store if store is not None else self._store
        state = target._state
        chosen = state.chosen(policy, self._state.policy)
        request = Request(state, self._state, state.shard(shard), chosen, kind="route")
        target._admit(request)
        request.finish()
        return request.receipt()
