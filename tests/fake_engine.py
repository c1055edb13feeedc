"""An engine made by hand: servers whose watermarks a test sets as it likes, and a list of what they were asked.

For the cases that no honest engine makes on demand: a server that changes between a decision and its snapshot, forgets without
saying so, hangs, or loses its leadership without a restart.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from causal import AsyncCausalStore, CausalStore, Keyring
from causal.core.frontier import Frontier, Position
from causal.core.watermark import Watermark
from causal.engine import Capabilities, Commit, Endpoint
from causal.errors import ConfigError, Unreachable

Origins = dict[int, tuple[int, int | None]]


@attrs.define(eq=False)
class Server:
    """One endpoint. `origins` and `leads` are by shard id; change them at any time."""

    name: str
    origins: dict[int, Origins]
    leads: dict[int, set[int]] = attrs.field(factory=dict)
    latency_s: float = 0.0
    shards: frozenset[int] | None = None
    """What it holds, if not all."""
    life: int = 1
    up: bool = True
    shown: Frontier = Frontier()

    def watermarks(self, shards: Iterable[int] | None = None) -> dict[int, Watermark]:
        return {
            shard: Watermark(shard, dict(origins), (self.name, self.life), frozenset(self.leads.get(shard, ())))
            for shard, origins in self.origins.items()
            if shards is None or shard in shards
        }


class Handle:
    """A read or a write. A commit numbers one more write of the first origin that the server leads, or does what `answer` says."""

    def __init__(self, engine: "FakeEngine", server: Server, shards: Sequence[int], *, alone: bool) -> None:
        self.engine, self.server, self.shards = engine, server, shards
        self.connection = server
        self.watermarks: Mapping[int, Watermark] = server.watermarks(shards if alone else None)
        self.ended = ""
        self.deps = Frontier()
        engine.open_handles.append(self)

    def seen(self) -> Frontier:
        return self.server.shown

    def close(self) -> None:
        self._end("closed")

    def rollback(self) -> None:
        self._end("rolled back")

    def commit(self, deps: Frontier) -> Commit:
        self.deps = deps
        self._end("committed")
        if self.engine.answer is not None:
            return self.engine.answer(self)
        (shard,) = self.shards
        origin = min(self.server.leads[shard])
        offset = self.server.origins[shard][origin][0] + 1
        self.server.origins[shard][origin] = (offset, None)
        return Commit(Position(shard, origin, offset), deps)

    def _end(self, how: str) -> None:
        if not self.ended:
            self.ended = how
            self.engine.open_handles.remove(self)


class FakeEngine:
    """`before(kind, name)` runs before every probe, read and write: it may change servers, move time, raise."""

    def __init__(
        self, *servers: Server, shards: Mapping[str, int] | None = None, leader: str = "", **promises: Any
    ) -> None:
        self.servers = {server.name: server for server in servers}
        self.shards: Mapping[str, int] = shards or {"main": 0}
        self.capabilities = Capabilities(**promises)
        self.leader = leader or servers[0].name
        self.leaders: dict[int, str] = {}
        """By shard id, where not all have the same."""
        self.alone = False
        """Whether a snapshot has only the watermark of the shard that was asked for."""
        self.before: Callable[[str, str], object] = lambda kind, name: None
        self.answer: Callable[[Handle], Commit] | None = None
        self.calls: list[tuple[str, str]] = []
        self.timeout_s = 0.0
        """How long the newest probe may take."""
        self.open_handles: list[Handle] = []
        self.open_links = 0

    def open(self, store: int = 0) -> Any:
        self.open_links += 1
        return FakeLink(self)

    async def aopen(self, store: int = 0) -> Any:
        self.open_links += 1
        return AsyncFakeLink(self)

    def reach(self, kind: str, name: str, closed: Callable[[], bool] = lambda: False) -> Server:
        self.calls.append((kind, name))
        self.before(kind, name)
        if closed():
            raise ConfigError("this link is closed")
        server = self.servers.get(name)
        if server is None or not server.up:
            raise Unreachable(f"{name} does not answer")
        return server


class FakeLink:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.closed = False

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return [Endpoint(s.name, s.name, s.latency_s, s.shards) for s in self.engine.servers.values()]

    def probe(self, endpoint: str, timeout_s: float) -> Mapping[int, Watermark]:
        self.engine.timeout_s = timeout_s
        return self.engine.reach("probe", endpoint, self._closed).watermarks()

    def read(self, endpoint: str, shards: Sequence[int]) -> Handle:
        return Handle(self.engine, self.engine.reach("read", endpoint, self._closed), shards, alone=self.engine.alone)

    def write(self, endpoint: str, shard: int, deps: Frontier) -> Handle:
        return Handle(
            self.engine, self.engine.reach("write", endpoint, self._closed), (shard,), alone=self.engine.alone
        )

    def leader(self, shard: int) -> str:
        return self.engine.leaders.get(shard, self.engine.leader)

    def position(self, connection: Any) -> Frontier:
        return Frontier(
            Position(shard, origin, server.origins[shard][origin][0])
            for server in self.engine.servers.values()
            if server.name in (self.engine.leader, *self.engine.leaders.values())
            for shard, led in server.leads.items()
            for origin in led
        )

    def _closed(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.engine.open_links -= 1


class AsyncHandle:
    def __init__(self, handle: Handle) -> None:
        self.handle = handle
        self.connection, self.watermarks, self.seen = handle.connection, handle.watermarks, handle.seen

    async def close(self) -> None:
        self.handle.close()

    async def rollback(self) -> None:
        self.handle.rollback()

    async def commit(self, deps: Frontier) -> Commit:
        return self.handle.commit(deps)


class AsyncFakeLink:
    def __init__(self, engine: FakeEngine) -> None:
        self.link = FakeLink(engine)
        self.leader = self.link.leader

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return self.link.endpoints

    async def probe(self, endpoint: str, timeout_s: float) -> Mapping[int, Watermark]:
        return self.link.probe(endpoint, timeout_s)

    async def read(self, endpoint: str, shards: Sequence[int]) -> AsyncHandle:
        return AsyncHandle(self.link.read(endpoint, shards))

    async def write(self, endpoint: str, shard: int, deps: Frontier) -> AsyncHandle:
        return AsyncHandle(self.link.write(endpoint, shard, deps))

    async def position(self, connection: Any) -> Frontier:
        return self.link.position(connection)

    async def close(self) -> None:
        self.link.close()


KEYS = Keyring.generate()
T0_S = 1_700_000_000.0


class Time:
    """A time that moves when somebody sleeps, or when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return T0_S + self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    async def asleep(self, seconds: float) -> None:
        self.now_s += seconds

    def store(self, engine: Any, **settings: Any) -> CausalStore[Any, Any]:
        """An open store in this time."""
        store: CausalStore[Any, Any] = CausalStore(engine, sleep=self.sleep, **self._settings(settings))
        return store.__enter__()

    def async_store(self, engine: Any, **settings: Any) -> AsyncCausalStore[Any, Any]:
        """A store in this time that opens at its first use."""
        return AsyncCausalStore(engine, sleep=self.asleep, **self._settings(settings))

    def _settings(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"keyring": KEYS, "audience": "shop", "monotonic": self.monotonic, "wall": self.wall, **given}


def near_and_far(offset: int = 10, **promises: Any) -> FakeEngine:
    """A replica here, and far away the leader, which numbers origin 1 of shard 0."""
    far = Server("far", {0: {1: (offset, None)}}, {0: {1}}, latency_s=0.05)
    return FakeEngine(Server("near", {0: {1: (offset, None)}}), far, leader="far", **promises)


def idle(store: CausalStore[Any, Any] | AsyncCausalStore[Any, Any]) -> bool:
    """Whether nothing waits, reads at a leader, or is still open."""
    state = store._state
    lines = store._lines.values()
    return not (
        state.waiting
        or any(state.waiters.values())
        or state.leader_reads
        or state.unauthenticated
        or any(line.queue for line in lines)
        or getattr(state.engine, "open_handles", ())
    )
