"""The engines under one roof: the same sites, shards, lag and controls over each, and one clock that a test moves by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from causal.controls import Lag
from causal.core.frontier import Frontier, Position
from causal.engine import Commit
from causal.stores.memory import MemoryCluster, MemoryEngine
from causal.stores.sqlite import SQLiteEngine
from tests.stores.sqlite_world import fast_directory

START_S = 1_700_000_000


class Time:
    """Everyone's clock: it moves only when a test (or a sleep) says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def wall_ns(self) -> int:
        return int((START_S + self.now_s) * 1e9)

    def wall_s(self) -> float:
        return START_S + self.now_s


class World:
    """One engine's sites, all open in this process. `step` replicates what is due; time passing does so, too."""

    name: str

    def __init__(self, time: Time, sites: Sequence[str], engines: Mapping[str, Any], store: int = 0) -> None:
        self.time = time
        self.sites = tuple(sites)
        self.engines = engines
        self.links = {site: engines[site].open(store) for site in sites}
        self.shards = {name: store << 16 | index for name, index in engines[self.sites[0]].shards.items()}
        self.shard = next(iter(self.shards.values()))
        self.controls = engines[self.sites[0]]

    def step(self) -> int:
        raise NotImplementedError("each engine has its own way")

    def pass_s(self, seconds: float) -> None:
        self.time.now_s += seconds
        self.step()

    def settle(self) -> None:
        """Let everything arrive that can."""
        self.pass_s(3600)

    def close(self) -> None:
        for link in self.links.values():
            link.close()

    # --- what a session would do, without a gate ---

    def commit(
        self,
        site: str,
        changes: Mapping[str, Any],
        *,
        deps: Frontier | None = None,
        shard: int | None = None,
        delete: Iterable[str] = (),
    ) -> Commit:
        deps = deps if deps is not None else Frontier()
        handle = self.links[site].write(site, self.shard if shard is None else shard, deps)
        for key, value in changes.items():
            handle.connection.put(key, value)
        for key in delete:
            handle.connection.delete(key)
        commit: Commit = handle.commit(deps)
        return commit

    def put(self, site: str, key: str, value: Any, **options: Any) -> Frontier:
        """Write one key; return what a session joins then."""
        return after(self.commit(site, {key: value}, **options))

    def look(self, site: str, key: str, *, shard: int | None = None, at: str | None = None) -> tuple[Any, Frontier]:
        handle = self.links[site].read(at or site, [self.shard if shard is None else shard])
        try:
            return handle.connection.get(key), handle.seen()
        finally:
            handle.close()

    def get(self, site: str, key: str, **options: Any) -> Any:
        return self.look(site, key, **options)[0]

    def everything(self, site: str, *, shard: int | None = None) -> dict[str, Any]:
        handle = self.links[site].read(site, [self.shard if shard is None else shard])
        try:
            return dict(handle.connection.scan())
        finally:
            handle.close()

    def watermark(self, site: str, shard: int | None = None, *, at: str | None = None) -> Any:
        return self.links[site].probe(at or site, 1.0)[self.shard if shard is None else shard]

    def covers(self, site: str, demand: Frontier) -> bool:
        """Whether a site has applied all that is demanded of this store."""
        places = {
            (shard, origin): applied
            for shard, watermark in self.links[site].probe(site, 1.0).items()
            for origin, (applied, _) in watermark.origins.items()
        }
        return all(places.get((p.shard, p.origin), -1) >= p.offset for p in demand)


def after(commit: Commit) -> Frontier:
    """What a session joins after a commit."""
    assert commit.position is not None
    return commit.deps | Frontier([commit.position])


def position(commit: Commit) -> Position:
    assert commit.position is not None
    return commit.position


class MemoryWorld(World):
    name = "memory"

    def step(self) -> int:
        cluster: MemoryCluster = self.engines[self.sites[0]].cluster
        return cluster.step()


class SQLiteWorld(World):
    name = "sqlite"

    def step(self) -> int:
        count, last = 0, 1
        while last:
            last = sum(link.step().applied for link in self.links.values())
            count += last
        return count


def memory_world(
    sites: Sequence[str] = ("eu", "us"),
    shards: Sequence[str] = ("main",),
    lag_s: float | Lag = 0.0,
    skew_s: Mapping[str, float] | None = None,
    store: int = 0,
) -> MemoryWorld:
    time = Time()
    cluster = MemoryCluster(
        sites,
        shards=shards,
        lag_s=lag_s,
        skew_s=skew_s,
        store=store,
        wall=time.wall_ns,
        monotonic=time.monotonic,
        sleep=lambda s: None,
    )
    return MemoryWorld(time, sites, {s: MemoryEngine(cluster=cluster, site=s, latency_s=0.0) for s in sites}, store)


def sqlite_world(
    directory: Any,
    sites: Sequence[str] = ("eu", "us"),
    shards: Sequence[str] = ("main",),
    lag_s: float | Lag = 0.0,
    skew_s: Mapping[str, float] | None = None,
    store: int = 0,
) -> SQLiteWorld:
    time, skew = Time(), dict(skew_s or {})

    def wall(site: str) -> Callable[[], int]:
        return lambda: time.wall_ns() + int(skew.get(site, 0.0) * 1e9)

    engines = {
        site: SQLiteEngine(
            directory,
            site=site,
            shards=shards,
            lag_s=lag_s,
            wall=wall(site),
            replicate="manual",
            sleep=lambda s: None,
            first_origin=1,
        )
        for site in sites
    }
    return SQLiteWorld(time, sites, engines, store)


NAMES = ("memory", "sqlite")


@contextmanager
def opened(name: str, **options: Any) -> Iterator[World]:
    """A new world of an engine, closed afterwards."""
    with ExitStack() as stack:
        if name == "memory":
            world: World = memory_world(**options)
        else:
            world = sqlite_world(stack.enter_context(fast_directory()), **options)
        stack.callback(world.close)
        yield world


MakeWorld = Callable[..., World]


@pytest.fixture(params=NAMES)
def make_world(request: pytest.FixtureRequest) -> Iterator[MakeWorld]:
    """`make_world(sites=..., shards=..., lag_s=...)`, once for each engine."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(opened(request.param, **options))
