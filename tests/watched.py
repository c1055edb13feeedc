"""Two sites over each engine, in the time of a virtual loop, whose every call suspends and whose open handles are counted."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from causal import AsyncCausalStore, CausalStore
from causal.core.frontier import Frontier
from causal.core.watermark import Watermark
from causal.engine import Commit, Endpoint
from causal.errors import CommitUnknown, StoreError
from causal.stores.memory import MemoryCluster, MemoryEngine
from causal.stores.sqlite import SQLiteEngine
from tests.fake_engine import KEYS, FakeEngine, Server
from tests.stores.sqlite_world import fast_directory

NAMES = ("memory", "fake", "sqlite")
SITES = ("eu", "us")


class Watched:
    """An engine whose asynchronous link takes a turn of the loop before and after each call, as one with a network would."""

    def __init__(self, engine: Any, site: str) -> None:
        self.engine, self.site = engine, site
        self.shards, self.capabilities = engine.shards, engine.capabilities
        self.before: Callable[[str, str], object] = lambda kind, name: None
        self.hold: Callable[[str], Awaitable[object] | None] = lambda name: None
        self.open_handles: list[Any] = []
        self.open_links = 0

    def open(self, store: int = 0) -> Any:
        return _SyncLink(self, self.engine.open(store))

    def apart(self, link: Any) -> list[Endpoint]:
        return [Endpoint(e.name, e.site, 0.0 if e.name == self.site else 0.05) for e in link.endpoints]

    async def aopen(self, store: int = 0) -> Any:
        await asyncio.sleep(0)
        link = _Link(self, await self.engine.aopen(store))
        self.open_links += 1
        return link


class _SyncLink:
    """The synchronous link as it is, but for its endpoints, which are as far apart."""

    def __init__(self, engine: Watched, link: Any) -> None:
        self.engine, self.link = engine, link

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return self.engine.apart(self.link)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.link, name)


class _Link:
    def __init__(self, engine: Watched, link: Any) -> None:
        self.engine, self.link = engine, link
        self.leader = link.leader
        self.closed = False

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return self.engine.apart(self.link)

    async def _call(self, kind: str, endpoint: str) -> None:
        if self.closed:
            raise StoreError("this link is closed")
        await asyncio.sleep(0)
        self.engine.before(kind, endpoint)
        if (held := self.engine.hold(endpoint)) is not None:
            await held

    async def probe(self, endpoint: str, timeout_s: float) -> Mapping[int, Watermark]:
        await self._call("probe", endpoint)
        marks: Mapping[int, Watermark] = await self.link.probe(endpoint, timeout_s)
        await asyncio.sleep(0)
        return marks

    async def read(self, endpoint: str, shards: Sequence[int]) -> Any:
        await self._call("read", endpoint)
        handle = await self.link.read(endpoint, shards)
        return await self._made(_Handle(self.engine, handle), handle.close)

    async def write(self, endpoint: str, shard: int, deps: Frontier) -> Any:
        await self._call("write", endpoint)
        handle = await self.link.write(endpoint, shard, deps)
        return await self._made(_Handle(self.engine, handle), handle.rollback)

    async def _made(self, handle: Any, undo: Callable[[], Any]) -> Any:
        try:
            await asyncio.sleep(0)
        except BaseException:
            await undo()
            raise
        self.engine.open_handles.append(handle)
        return handle

    async def position(self, connection: Any) -> Frontier:
        found: Frontier = await self.link.position(connection)
        return found

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.engine.open_links -= 1
        await self.link.close()


class _Handle:
    def __init__(self, engine: Watched, handle: Any) -> None:
        self.engine, self.handle = engine, handle
        self.connection, self.watermarks, self.seen = handle.connection, handle.watermarks, handle.seen

    def _over(self) -> None:
        if self in self.engine.open_handles:
            self.engine.open_handles.remove(self)

    async def close(self) -> None:
        try:
            await asyncio.sleep(0)
        finally:
            await self.handle.close()
            self._over()

    async def rollback(self) -> None:
        try:
            await asyncio.sleep(0)
        finally:
            self._over()  # a commit that is on its way ends it, whoever stops to wait for that
            await self.handle.rollback()

    async def commit(self, deps: Frontier) -> Commit:
        await asyncio.sleep(0)
        try:
            commit: Commit = await self.handle.commit(deps)
        except CommitUnknown:
            self._over()
            raise
        self._over()
        await asyncio.sleep(0)
        return commit


class Sites:
    """Two sites that replicate only when told to. Users write at eu and read at us, or the other way round."""

    def __init__(
        self, engines: Mapping[str, Any], settings: Mapping[str, Any], catch_up: Callable[[str], None]
    ) -> None:
        self.engines = {site: Watched(engine, site) for site, engine in engines.items()}
        self.settings = {"keyring": KEYS, "audience": "shop", **settings}
        self.catch_up = catch_up
        self.stores: dict[str, Any] = {}

    def store(self, site: str, **settings: Any) -> AsyncCausalStore[Any, Any]:
        store: AsyncCausalStore[Any, Any] = AsyncCausalStore(self.engines[site], **{**self.settings, **settings})
        store._state.random.seed(1)
        self.stores[site] = store
        return store

    def sync_store(self, site: str, **settings: Any) -> CausalStore[Any, Any]:
        store: CausalStore[Any, Any] = CausalStore(self.engines[site], **{**self.settings, **settings})
        store._state.random.seed(1)
        return store


def put(connection: Any, value: Any) -> None:
    """Write the one key of these tests, which a fake server does without."""
    if hasattr(connection, "put"):
        connection.put("k", value)


def get(connection: Any) -> Any:
    return connection.get("k") if hasattr(connection, "get") else None


@contextmanager
def sites(name: str, time: Any) -> Iterator[Sites]:
    """The two sites of an engine, in the time of a loop or of whatever has its names."""
    clocks = {"monotonic": getattr(time, "monotonic", None) or time.time, "wall": time.wall}
    if name == "memory":
        cluster = MemoryCluster(
            SITES, lag_s=1e6, monotonic=clocks["monotonic"], wall=time.wall_ns, sleep=lambda s: None
        )
        yield Sites({s: MemoryEngine(cluster=cluster, site=s) for s in SITES}, clocks, cluster.catch_up)
    elif name == "fake":
        servers = {
            site: Server(site, {0: {1: (0, None), 2: (0, None)}}, {0: {origin}})
            for site, origin in zip(SITES, (1, 2), strict=True)
        }

        def catch_up(site: str) -> None:
            (other,) = (s for s in servers.values() if s.name != site)
            mine, theirs = servers[site], other.origins[0]
            mine.origins[0] = {o: theirs[o] if o in other.leads[0] else mine.origins[0][o] for o in theirs}

        yield Sites({s: FakeEngine(*servers.values(), leader=s) for s in SITES}, clocks, catch_up)
    else:
        with fast_directory() as path:
            engines = {
                site: SQLiteEngine(
                    path, site=site, replicate="manual", wall=time.wall_ns, sleep=lambda s: None, first_origin=1
                )
                for site in SITES
            }
            yield Sites(engines, clocks, lambda site: engines[site].catch_up(site))
