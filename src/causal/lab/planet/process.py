"""An application process: the loop of `causal.store`, over simulated servers, as generators in virtual time.

Owns the loop alone. Requests, sessions, limits, the view, the gate, tokens and the queue of waiting reads are the real ones. Where
`causal.store` blocks, a generator here yields how long.
"""

from __future__ import annotations

import random
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from causal.claims import Claims
from causal.core.decision import Probe, Serve, Wait
from causal.core.frontier import Frontier, Position
from causal.core.policy import ReadPolicy
from causal.engine import Capabilities, Commit, Endpoint
from causal.errors import CommitUnknown, GateError, StoreError, Unreachable
from causal.lab.network import TIMEOUT_S
from causal.lab.planet.lines import Line, Waiting
from causal.request import Request
from causal.session import SessionState
from causal.state import StoreState
from causal.store import POLL_MAX_S, POLL_S

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping

    from causal.core.keyring import Keyring
    from causal.core.policy import Limits
    from causal.core.view import View
    from causal.core.watermark import Watermark
    from causal.lab.network import Network
    from causal.lab.planet.logs import Entry
    from causal.lab.planet.servers import Cluster, Server
    from causal.lab.planet.timeline import Timeline
    from causal.lab.planet.topology import Store

    Steps = Generator[float, None, Any]

AUDIENCE: Final = "simulated"
WRITE_POLICY: Final = ReadPolicy(5.0, then="error")
"""How a write waits for its leader, under every strategy: as in `causal compare`."""
_SEEN_NOTHING: Final = Frontier()


class _Engine:
    """What a store's settings ask of an engine: it is never opened."""

    def __init__(self, store: Store) -> None:
        self.shards = {str(n): n for n in range(store.shards)}
        self.capabilities = Capabilities(dependencies=store.dependencies, clock_offsets=store.offsets == "clock")


class Shown:
    """What one read was answered: the version, and the watermark of its snapshot."""

    __slots__ = ("entry", "marks", "request")

    def __init__(self, request: Request, entry: Entry | None, marks: Mapping[int, Watermark]) -> None:
        self.request = request
        self.entry = entry
        self.marks = marks


class Process:
    """One application process at one site.

    `suspended` returns how long the process sleeps between a decision and its snapshot; `calm` says that nothing breaks, so that
    who waits may sleep until there is news instead of looking again and again.
    Thread-safety: none.
    """

    def __init__(
        self,
        name: str,
        site: str,
        *,
        timeline: Timeline,
        network: Network,
        cluster: Cluster,
        settings: Store,
        keyring: Keyring,
        policy: ReadPolicy,
        limits: Limits,
        wall: Callable[[], float],
        seed: str,
        suspended: Callable[[], float] | None,
        calm: bool = False,
    ) -> None:
        self.name = name
        self.site = site
        self.timeline = timeline
        self.network = network
        self.cluster = cluster
        self.keyring = keyring
        self.suspended = suspended
        self.calm = calm
        self.endpoints: tuple[Endpoint, ...] = ()
        self.life = 1
        self._lines: dict[str, Line] = {}
        self._settings = {
            "engine": _Engine(settings),
            "audience": AUDIENCE,
            "policy": policy,
            "limits": limits,
            "token_ttl_s": settings.token_ttl_s,
            "max_staleness_s": settings.max_staleness_s,
            "max_clock_skew_s": settings.max_clock_skew_s,
            "max_token_chars": settings.max_token_chars,
            "monotonic": partial(attrgetter("now"), timeline),  # asked all the time: cheaper than a method
            "wall": wall,
        }
        self._seed = seed
        self.state = self._new_state()

    def _new_state(self) -> StoreState:
        state = StoreState(keyring=self.keyring, **self._settings)  # type: ignore[arg-type]
        state.random = random.Random(f"{self._seed}/{self.life}")
        return state

    def know(self, servers: Iterable[Server]) -> None:
        """Take over a list of endpoints."""
        self.endpoints = tuple(Endpoint(s.name, s.site, 2 * self.network.one_way[self.site, s.site]) for s in servers)
        self.state.known(self.endpoints)

    def restart(self) -> Steps:
        """Begin a new life that knows nothing but its configuration, and ask every endpoint."""
        self.life += 1
        for line in self._lines.values():
            for waiter in line.queue.drain():
                waiter.handle.wake(self.timeline)
        self._lines = {}
        self.state = self._new_state()
        yield from self.open()

    def open(self) -> Steps:
        """Ask every endpoint, as a store does that is opened."""
        self.state.known(self.endpoints)
        for endpoint in self.endpoints:
            yield from self._probe(endpoint.name)

    def session(self, subject: str, tokens: Iterable[str]) -> Claims:
        """Return a session that demands what the tokens say."""
        return Claims(self.state, SessionState(subject), tokens)

    # --- requests ------------------------------------------------------------------------------------------------

    def read(self, claims: Claims, shard: int, key: int, policy: ReadPolicy) -> Generator[float, None, Shown]:
        """Read one key. Raises: GateError."""
        request = Request(self.state, claims._state, shard, policy, kind="read")
        shown: Shown = yield from self._admit(request, key)
        entry = shown.entry
        if entry is not None:
            claims._state.join(entry.reveal(), own=False, now=self.state.wall)
        request.finish()
        return shown

    def write(
        self, claims: Claims, shard: int, leader: str, act: Callable[[Server, Frontier], Entry], fate: Callable[[], str]
    ) -> Generator[float, None, Entry]:
        """Write through a leader; `act` commits at the server, `fate` says what becomes of the answer.

        Raises: GateError; StoreError: nothing was written. CommitUnknown if it may have been.
        """
        state = self.state
        request = Request(state, claims._state, shard, WRITE_POLICY, kind="write", at=leader)
        lives: int = yield from self._admit(request, -1)
        sent = False
        try:
            deps = request.dependencies(_SEEN_NOTHING)
            sent = True
            entry: Entry = yield from self._commit(leader, shard, lives, lambda server: act(server, deps), fate())
            commit = Commit(Position(shard, entry.pk & 0xFFFFFFFF, entry.offset), entry.deps)
            claims._state.acknowledged(commit, state.wall())
            request.committed(commit)
        except BaseException as error:
            if sent:
                request.settles(error, done=False)
            raise
        finally:
            request.finish()
        return entry

    def _commit(
        self, name: str, shard: int, lives: int, act: Callable[[Server], Entry], fate: str
    ) -> Generator[float, None, Entry]:
        network = self.network
        server = self.cluster.servers.get(name)
        if server is None:
            raise Unreachable(f"{name} has left")
        way = network.delay(self.site, server.site)
        if fate == "unsent" or not network.passes(self.site, name):
            yield TIMEOUT_S
            raise CommitUnknown(f"a commit was sent to {name} and no answer came")
        yield way
        if not server.up or server.lifes != lives or not server.copies[shard].leads:
            yield way
            raise Unreachable(f"{name} restarted, or leads no more, since the transaction began: nothing was committed")
        entry = act(server)
        yield way
        if fate == "lost" or not network.passes(self.site, name):
            yield TIMEOUT_S
            raise CommitUnknown(f"a commit was sent to {name} and no answer came")
        return entry

    def _admit(self, request: Request, key: int) -> Steps:
        """Carry decisions out until one serves. Raises: GateError. `CausalStore._admit` and its `_open`, spelled out as one."""
        life, state, network, servers = self.life, request.store, self.network, self.cluster.servers
        shard, writes = request.shard, request.kind == "write"
        try:
            while True:
                decision = request.decide()
                kind = type(decision)
                if kind is Serve:
                    name = decision.endpoint  # type: ignore[union-attr]
                    if self.suspended is not None and (pause_s := self.suspended()):
                        yield pause_s
                    server = servers.get(name)
                    try:
                        if server is None:
                            raise Unreachable(f"{name} has left")
                        if not network.passes(self.site, name):
                            yield TIMEOUT_S
                            raise Unreachable(f"{name} does not answer")
                        yield network.delay(self.site, server.site)
                        if not server.up or not server.ready:
                            yield network.one_way[server.site, self.site]
                            raise Unreachable(f"{name} refuses connections")
                        copy = server.copies[shard]
                        if writes and not copy.leads:
                            raise Unreachable(f"{name} leads shard {shard} no more")
                        marks = copy.marks or server.snapshot(shard)
                        entry = copy.versions.get(key)
                        lives = server.lifes
                        yield network.delay(server.site, self.site)
                        if not network.passes(name, self.site):
                            yield TIMEOUT_S
                            raise Unreachable(f"{name} does not answer")
                    except StoreError as error:
                        state.failed(name, error, request.asked)
                    else:
                        if request.accepts(marks):
                            return lives if writes else Shown(request, entry, marks)
                        if not writes:
                            yield from self._probe(name)
                            state.known(self.endpoints)
                elif kind is Probe:
                    for name in decision.endpoints:  # type: ignore[union-attr]
                        request.probes += 1
                        yield from self._probe(name)
                    state.known(self.endpoints)
                elif kind is Wait:
                    yield from self._wait(decision, request)  # type: ignore[arg-type]
                else:
                    raise request.error(decision)  # type: ignore[arg-type]
                if self.life != life:
                    raise request.closed()
        except BaseException as error:
            if isinstance(error, GateError) and error.receipt is None:
                request.failed(error)
            request.finish()
            raise

    def _reach(self, name: str) -> Generator[float, None, Server]:
        """Travel to a server. Raises: Unreachable, after as long as it takes to find out."""
        server = self.cluster.servers.get(name)
        if server is None:
            raise Unreachable(f"{name} has left")
        network = self.network
        if not network.passes(self.site, name):
            yield TIMEOUT_S
            raise Unreachable(f"{name} does not answer")
        yield network.delay(self.site, server.site)
        if not server.up or not server.ready:
            yield network.one_way[server.site, self.site]
            raise Unreachable(f"{name} refuses connections")
        return server

    def _return(self, server: Server) -> Generator[float, None, None]:
        yield self.network.delay(server.site, self.site)
        if not self.network.passes(server.name, self.site):
            yield TIMEOUT_S
            raise Unreachable(f"{server.name} does not answer")

    def _probe(self, name: str) -> Steps:
        state = self.state
        asked, asked_at = state.number_now(), self.timeline.now
        try:
            server = yield from self._reach(name)
            marks = server.watermarks()
            yield from self._return(server)
        except StoreError as error:
            return state.failed(name, error, asked)
        return state.observe(name, marks, asked, asked_at)

    def _wait(self, wait: Wait, request: Request) -> Steps:
        """Wait in the endpoint's line: one read of the line polls for all, the others look whether they are covered."""
        state, timeline = request.store, self.timeline
        began = timeline.now
        name, subject = wait.endpoint, request.session.subject
        line = self._lines.get(name)
        if line is None:
            line = self._lines[name] = Line()
        state.enter_wait(name, subject)
        waiting = Waiting()
        deadline, pause_s = began + wait.for_s, POLL_S
        waiter = None
        try:
            waiter = line.queue.add(wait.need, state.applied(name), waiting)
            if waiter is None:
                return
            if not line.polling:
                line.polling = waiting.leads = True
            nothing_new = False
            while waiter.waiting and (left_s := deadline - timeline.now) > 0:
                if not waiting.leads:
                    if self.calm:
                        yield from waiting.park(timeline, deadline)
                    else:
                        yield min(POLL_MAX_S, left_s)
                elif nothing_new and self.calm:
                    pause_s = yield from self._until_news(name, line, waiting, pause_s, deadline, request)
                    nothing_new = False
                else:
                    yield min(pause_s * state.random.uniform(0.8, 1.0), left_s)
                    pause_s = min(pause_s * 1.5, POLL_MAX_S)
                    if waiter.waiting:
                        before = state.applied(name)
                        view = yield from self._probe(name)
                        nothing_new = state.applied(name) is before
                        self._heard(name, line, view)
        finally:
            if waiter is not None:
                line.queue.discard(waiter)
            if waiting.leads:
                following = line.queue.first()
                line.polling = following is not None
                if following is not None:
                    following.handle.leads = True
                    following.handle.wake(timeline)
            state.leave_wait(name, subject)
            request.waited_s += timeline.now - began

    def _until_news(
        self, name: str, line: Line, waiting: Waiting, pause_s: float, deadline: float, request: Request
    ) -> Generator[float, None, float]:
        """Poll as `_wait` does, but leave out the questions to which the answer would be the last one again.

        Where nothing can break, these change nothing but the number of events. Returns the pause that comes next.
        """
        state, timeline, server = request.store, self.timeline, self.cluster.servers[name]
        way, began = self.network.one_way[self.site, server.site], timeline.now
        server.watchers.append(waiting)
        yield from waiting.park(timeline, deadline)
        if waiting in server.watchers:
            server.watchers.remove(waiting)
        while True:
            sent = began + min(pause_s * state.random.uniform(0.8, 1.0), deadline - began)
            pause_s = min(pause_s * 1.5, POLL_MAX_S)
            if sent + way >= timeline.now or sent >= deadline:
                break
            began = sent + 2 * way
        asked = state.number_now()
        if sent + way > timeline.now:
            yield sent + way - timeline.now
        marks = server.watermarks()
        yield way
        self._heard(name, line, state.observe(name, marks, asked, sent))
        return pause_s

    def _heard(self, name: str, line: Line, view: View) -> None:
        """Wake who is covered by the newest answer; all, if there was none."""
        known = view.of(name)
        ready = line.queue.drain() if known is None or known.down is not None else line.queue.advance(known.applied)
        for waiter in ready:
            waiter.handle.wake(self.timeline)
