"""A little store as a stranger may write one: servers that each keep a journal of JSON lines, one leads, the others copy. Two shards.

It shares nothing with the stores of this project but the contract: `broken_journal` breaks it where such stores are broken.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs

from causal import CommitUnknown, ConfigError, Frontier, Position, StoreError, Unreachable, Watermark
from causal.engine import Capabilities, Commit, Endpoint
from causal.testing import Stage
from tests.stores.sqlite_world import fast_directory

SHARDS = {"users": 0, "orders": 1}
Changes = Mapping[str, str | None]
Origins = Mapping[int, tuple[int, int | None]]


@attrs.frozen
class State:
    """All that a server has, at one moment: by shard, the data, the origins, and which of them it numbers."""

    life: object
    data: Mapping[int, Mapping[str, str]] = {n: {} for n in SHARDS.values()}
    origins: Mapping[int, Origins] = {n: {} for n in SHARDS.values()}
    leads: Mapping[int, int] = {n: 0 for n in SHARDS.values()}  # noqa: C420

    def put(self, shard: int, changes: Changes) -> State:
        data = {k: v for k, v in (dict(self.data[shard]) | changes).items() if v is not None}
        return attrs.evolve(self, data={**self.data, shard: data})

    def mark(self, shard: int, origin: int, applied: int, end: int | None) -> State:
        return attrs.evolve(self, origins={**self.origins, shard: {**self.origins[shard], origin: (applied, end)}})

    def head(self, shard: int) -> int:
        return self.origins[shard][self.leads[shard]][0]

    def watermarks(self, store: int) -> Mapping[int, Watermark]:
        return MappingProxyType(
            {
                store << 16 | n: Watermark(
                    store << 16 | n, self.origins[n], self.life, frozenset({self.leads[n]} - {0})
                )
                for n in SHARDS.values()
            }
        )


class Server:
    """One server. What it has is what its journal says."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path, self.up, self.lives = name, path, True, 0
        self.lock = threading.RLock()
        self.answers: list[bool] = []
        path.touch()
        self.start()

    def start(self) -> None:
        self.lives += 1
        self.state, self.log = State((self.name, self.lives)), list[tuple[int, int, int, Changes]]()
        for line in self.path.read_text().splitlines():
            self.play(*json.loads(line))

    def write(self, *line: Any) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self.play(*line)

    def play(self, kind: str, shard: int, origin: int, offset: int, what: Any) -> None:
        applied, _ = self.state.origins[shard].get(origin, (0, None))
        if kind == "put":
            self.log.append((shard, origin, offset, what))
            self.apply(shard, origin, offset, what)
        elif kind == "lead":
            state = self.state.mark(shard, origin, 0, None)
            self.state = attrs.evolve(state, leads={**state.leads, shard: origin})
        else:
            self.state = self.state.mark(shard, origin, applied, what)

    def apply(self, shard: int, origin: int, offset: int, changes: Changes) -> None:
        self.state = self.state.put(shard, changes).mark(shard, origin, offset, self.state.origins[shard][origin][1])


class Cluster:
    """One of two servers leads, and the other copies its journal when it is told to."""

    server: type[Server] = Server

    def __init__(self, directory: Path) -> None:
        self.servers = {name: self.server(name, directory / name) for name in ("one", "two")}
        self.cut = set[str]()
        for n in SHARDS.values():
            self.servers["one"].write("lead", n, 1, 0, None)
            self.servers["two"].write("heard", n, 1, 0, None)

    def reach(self, name: str, near: str) -> Server:
        if name not in self.servers:
            raise ConfigError(f"there is no {name}")
        if not self.servers[name].up or (name != near and {name, near} & self.cut):
            raise Unreachable(f"{name} does not answer {near}")
        return self.servers[name]

    def leader(self, shard: int) -> str:
        return max(self.servers.values(), key=lambda s: (s.up, s.state.leads[shard])).name

    def copy(self, to: str) -> None:
        mine = self.servers[to]
        for theirs in self.servers.values():
            if theirs is not mine and mine.up and theirs.up and not self.cut:
                with mine.lock:
                    self.follow(mine, theirs)

    def follow(self, mine: Server, theirs: Server) -> None:
        for shard, origins in theirs.state.origins.items():
            for origin, (_, end) in origins.items():
                known = mine.state.origins[shard].get(origin)
                if known is None or (end is not None and known[1] is None):
                    mine.write("heard", shard, origin, 0, end)
        for shard, origin, offset, changes in list(theirs.log):
            applied, end = mine.state.origins[shard][origin]
            if offset == applied + 1 and (end is None or offset <= end):
                mine.write("put", shard, origin, offset, changes)

    def fail_over(self) -> None:
        self.servers["one"].up = False
        heir = self.servers["two"]
        for shard, origins in heir.state.origins.items():
            for origin, (applied, end) in origins.items():
                heir.write("heard", shard, origin, 0, self.ends(applied) if end is None else end)
            heir.write("lead", shard, max(origins) + 1, 0, None)

    def ends(self, applied: int) -> int:
        return applied


class Reader:
    """The connection of a block: one state of a server."""

    def __init__(self, server: Server, shards: Sequence[int]) -> None:
        self.server, self.state, self.shards, self.open = server, server.state, shards, True

    def get(self, key: str) -> str | None:
        self.alive()
        return next((self.state.data[n][key] for n in self.shards if key in self.state.data[n]), None)

    def scan(self) -> dict[str, str]:
        self.alive()
        return {k: v for n in self.shards for k, v in self.state.data[n].items()}

    def alive(self) -> None:
        if not self.open:
            raise StoreError("this block has ended")


class Writer(Reader):
    """The connection of a write block: the state of the leader under the block's own changes."""

    def __init__(self, server: Server, shards: Sequence[int]) -> None:
        super().__init__(server, shards)
        self.changes = dict[str, str | None]()

    def get(self, key: str) -> str | None:
        return self.changes[key] if key in self.changes else super().get(key)

    def scan(self) -> dict[str, str]:
        return {k: v for k, v in (super().scan() | self.changes).items() if v is not None}

    def put(self, key: str, value: str | None) -> None:
        self.alive()
        self.changes[key] = value


class Read:
    """A read handle."""

    def __init__(self, link: Link, server: Server, shards: Sequence[int]) -> None:
        self.connection = link.reader(server, shards)
        self.watermarks = self.connection.state.watermarks(link.store)
        self.shown = [link.store << 16 | n for n in shards]

    def seen(self) -> Frontier:
        return Frontier(p for shard in self.shown for p in self.watermarks[shard].frontier)

    def close(self) -> None:
        self.connection.open = False


class Write:
    """A write handle: holds the server's lock."""

    def __init__(self, link: Link, server: Server, shard: int) -> None:
        self.link, self.server, self.shard = link, server, shard
        self.take()
        self.connection = link.writer(server, (shard,))
        self.watermarks = self.connection.state.watermarks(link.store)

    def take(self) -> None:
        if not self.server.lock.acquire(timeout=0.5):
            raise Unreachable(f"{self.server.name} is busy")

    def free(self) -> None:
        self.server.lock.release()

    def seen(self) -> Frontier:
        return self.watermarks[self.link.store << 16 | self.shard].frontier

    def number(self) -> int:
        return self.server.state.head(self.shard) + 1

    def commit(self, deps: Frontier) -> Commit:
        self.connection.alive()
        try:
            if not self.connection.changes:
                return Commit(None)
            answered = self.server.answers.pop() if self.server.answers else None
            if answered is False:
                raise CommitUnknown("no answer came, and it was not made")
            origin, offset = self.server.state.leads[self.shard], self.number()
            self.server.write("put", self.shard, origin, offset, self.connection.changes)
            if answered:
                raise CommitUnknown("no answer came, and it was made")
            return Commit(Position(self.link.store << 16 | self.shard, origin, offset))
        finally:
            self.rollback()

    def rollback(self) -> None:
        if self.connection.open:
            self.connection.open = False
            self.free()


class Link:
    """A link; it can be of a process beside either server."""

    reader, writer, reading, writing = Reader, Writer, Read, Write

    def __init__(self, engine: JournalEngine, store: int) -> None:
        self.cluster, self.near, self.store, self.closed = engine.cluster, engine.near, store, False
        order = sorted(self.cluster.servers, key=lambda name: name != self.near)
        self.endpoints = [Endpoint(name, name, 0.01 * n) for n, name in enumerate(order)]

    def server(self, endpoint: str) -> Server:
        if self.closed:
            raise ConfigError("this link is closed")
        return self.cluster.reach(endpoint, self.near)

    def index(self, shard: int) -> int:
        if shard >> 16 != self.store or shard & 0xFFFF not in SHARDS.values():
            raise ConfigError(f"there is no shard {shard}")
        return shard & 0xFFFF

    def probe(self, endpoint: str, timeout_s: float) -> Mapping[int, Watermark]:
        return self.server(endpoint).state.watermarks(self.store)

    def read(self, endpoint: str, shards: Sequence[int]) -> Read:
        return self.reading(self, self.server(endpoint), [self.index(s) for s in shards])

    def write(self, endpoint: str, shard: int, deps: Frontier) -> Write:
        server, index = self.server(endpoint), self.index(shard)
        if not server.state.leads[index]:
            raise Unreachable(f"{endpoint} follows: it takes no writes")
        return self.writing(self, server, index)

    def leader(self, shard: int) -> str:
        return self.cluster.leader(self.index(shard))

    def position(self, connection: Any) -> Frontier:
        states = {n: self.cluster.servers[self.cluster.leader(n)].state for n in SHARDS.values()}
        return Frontier(Position(self.store << 16 | n, s.leads[n], s.head(n)) for n, s in states.items() if s.head(n))

    def close(self) -> None:
        self.closed = True


class AsyncHandle:
    """The asynchronous twin of a handle of either kind."""

    def __init__(self, handle: Any) -> None:
        self.handle, self.connection, self.watermarks, self.seen = (
            handle,
            handle.connection,
            handle.watermarks,
            handle.seen,
        )

    async def close(self) -> None:
        self.handle.close()

    async def commit(self, deps: Frontier) -> Commit:
        commit: Commit = self.handle.commit(deps)
        return commit

    async def rollback(self) -> None:
        self.handle.rollback()


class AsyncLink:
    """The asynchronous twin of a link."""

    def __init__(self, link: Link) -> None:
        self.link, self.endpoints, self.leader = link, link.endpoints, link.leader

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


class JournalEngine:
    """The engine: beside which of the servers."""

    shards: Mapping[str, int] = SHARDS
    capabilities = Capabilities(exact=True)
    link, alink = Link, AsyncLink

    def __init__(self, cluster: Cluster, near: str) -> None:
        self.cluster, self.near = cluster, near

    def open(self, store: int = 0) -> Link:
        return self.link(self, store)

    async def aopen(self, store: int = 0) -> AsyncLink:
        return self.alink(self.link(self, store))


class JournalStage(Stage):
    """Both servers; `defect` is one of their parts, broken."""

    leader, follower, store = "one", "two", 5

    def __init__(self, defect: type[Any] = object) -> None:
        self.stack = contextlib.ExitStack()
        directory = self.stack.enter_context(fast_directory())
        clusters = defect if issubclass(defect, Cluster) else Cluster
        if issubclass(defect, Server):
            clusters = type("Clusters", (Cluster,), {"server": defect})
        self.cluster = clusters(directory)
        parts = {Link: "link", AsyncLink: "alink"}
        given = {name: defect for part, name in parts.items() if issubclass(defect, part)}
        if not given and issubclass(defect, Reader | Read | Write):
            part = next(
                n
                for n, b in (("writer", Writer), ("reader", Reader), ("reading", Read), ("writing", Write))
                if issubclass(defect, b)
            )
            given = {"link": type("Links", (Link,), {part: defect})}
        self.kind = type("Engine", (JournalEngine,), given)

    def engine(self, near: str) -> Any:
        return self.kind(self.cluster, near)

    def get(self, connection: Any, key: str) -> str | None:
        found: str | None = connection.get(key)
        return found

    def page(self, connection: Any, keys: Iterable[str]) -> dict[str, str | None]:
        return dict.fromkeys(keys) | {k: v for k, v in connection.scan().items() if k in set(keys)}

    def put(self, connection: Any, key: str, value: str) -> None:
        connection.put(key, value)

    def delete(self, connection: Any, key: str) -> None:
        connection.put(key, None)

    def pause(self, endpoint: str) -> None:
        """Nothing is copied unless `catch_up` says so."""

    def resume(self, endpoint: str) -> None:
        """Nothing is copied unless `catch_up` says so."""

    def catch_up(self, endpoint: str) -> None:
        self.cluster.copy(endpoint)

    def cut_off(self, endpoint: str) -> None:
        self.cluster.cut.add(endpoint)

    def rejoin(self, endpoint: str) -> None:
        self.cluster.cut.discard(endpoint)

    def fail_over(self, endpoint: str) -> None:
        self.cluster.fail_over()

    @contextlib.contextmanager
    def forgetting(self, endpoint: str) -> Iterator[None]:
        server = self.cluster.servers[endpoint]
        copy = server.path.with_suffix(".copy")
        shutil.copy(server.path, copy)
        yield
        copy.replace(server.path)
        server.start()

    @contextlib.contextmanager
    def crashing(self, endpoint: str) -> Iterator[None]:
        yield
        self.cluster.servers[endpoint].start()

    def lose_answer(self, endpoint: str, *, committed: bool) -> None:
        self.cluster.servers[endpoint].answers.append(committed)

    @contextlib.contextmanager
    def outside(self, key: str, value: str) -> Iterator[Any]:
        handle = self.engine("one").open(self.store).write("one", self.store << 16, Frontier())
        handle.connection.put(key, value)
        handle.commit(Frontier())
        yield None

    def close(self) -> None:
        self.stack.close()
