"""What the gate asks of a cluster: an engine, its links, and the handles of one block.

Owns snapshots, what a block was shown, and the write lock. Leaves every decision to the cluster.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from causal.core.frontier import Frontier, pack
from causal.engine import Capabilities, Commit, Endpoint, KeyVersion
from causal.errors import CommitUnknown, ConfigError, StoreError, Unreachable
from causal.kv import check_key, check_prefix, decode_value, encode_value
from causal.stores.memory.cluster import MemoryCluster
from causal.stores.memory.site import Version, key_version

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from causal.core.frontier import Position
    from causal.core.watermark import Watermark
    from causal.stores.memory.site import Entry, Site, Snapshot

BUSY_S = 5.0
"""How long a write block waits for the one before it, at one site and shard."""
_POLL_S = 0.001


class MemoryReader:
    """The connection of a read block: a snapshot of one site. Of several shards, the first that has a key answers.

    Thread-safety: one thread at a time.
    """

    def __init__(self, site: Site, snapshots: Sequence[Snapshot]) -> None:
        self.site = site
        self.open = True
        self._snapshots = snapshots
        self._shown: dict[Position, Entry] = {}
        self.tell: Callable[[KeyVersion], object] | None = None

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or `default` where there is none. Raises: ConfigError; StoreError after the block."""
        data = self._current({check_key(key)}).get(key)
        return default if data is None else decode_value(data)

    def scan(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """Iterate over keys that start with `prefix`, in order, with their values. Raises: ConfigError, at the call."""
        check_prefix(prefix)
        data = self._current({k for s in self._snapshots for k in s.versions if k.startswith(prefix)})
        return ((k, decode_value(v)) for k, v in sorted(data.items()))

    def seen(self) -> Frontier:
        """Return the positions shown, tombstones included, and the dependencies stored with them."""
        shown = Frontier(self._shown)
        for entry in self._shown.values():
            shown |= entry.deps
        return shown

    def _current(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Look keys up, and note every version that was looked at."""
        if not self.open:
            raise StoreError("this block has ended: its connection cannot be used any more")
        found: dict[str, bytes] = {}
        for key in keys:
            for snapshot in self._snapshots:
                version = snapshot.versions.get(key)
                if self.tell is not None:
                    self.tell(key_version(snapshot.watermark.shard, key, version))
                if version is not None:
                    self._shown[version.entry.position] = version.entry
                    if version.value is not None:
                        found.setdefault(key, version.value)
                        break
        return found


class MemoryWriter(MemoryReader):
    """The connection of a write block: the snapshot taken inside the write lock, under the block's own changes.

    Thread-safety: one thread at a time.
    """

    def __init__(self, site: Site, snapshots: Sequence[Snapshot]) -> None:
        super().__init__(site, snapshots)
        self.changes: dict[str, bytes | None] = {}

    def put(self, key: str, value: Any) -> None:
        """Set a key. Raises: ConfigError for what cannot be a key or a value; StoreError after the block."""
        self._change(key, encode_value(value))

    def delete(self, key: str) -> None:
        """Remove a key, whether or not it is there. Raises: ConfigError; StoreError after the block."""
        self._change(key, None)

    def scan(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """Iterate over keys that start with `prefix`, in order, with their values. Raises: ConfigError, at the call."""
        before = dict(super().scan(prefix))
        changed = {k: v for k, v in self.changes.items() if k.startswith(prefix)}
        after = {k: v for k, v in before.items() if k not in changed}
        after.update((k, decode_value(v)) for k, v in changed.items() if v is not None)
        return iter(sorted(after.items(), key=lambda item: item[0]))

    def _change(self, key: str, data: bytes | None) -> None:
        if not self.open:
            raise StoreError("this block has ended: its connection cannot be used any more")
        self.changes[check_key(key)] = data

    def _current(self, keys: Iterable[str]) -> dict[str, bytes]:
        mine = {k: self.changes[k] for k in keys if k in self.changes}
        found = super()._current([k for k in keys if k not in mine])
        return found | {k: v for k, v in mine.items() if v is not None}


class MemoryRead:
    """A read handle: one site's snapshot. Thread-safety: one thread at a time."""

    def __init__(self, site: Site, shards: Sequence[int]) -> None:
        snapshot = site.snapshot()
        self.connection = MemoryReader(site, [_of(snapshot, shard) for shard in shards])
        self.watermarks: Mapping[int, Watermark] = {shard: snapshot[shard].watermark for shard in shards}

    def seen(self) -> Frontier:
        """Return what was shown so far."""
        return self.connection.seen()

    def trace(self, tell: Callable[[KeyVersion], object]) -> None:
        """Tell of each version that is shown from now on."""
        self.connection.tell = tell

    def close(self) -> None:
        """End the block."""
        self.connection.open = False


class MemoryWrite:
    """A write handle: holds the write lock of one shard at one site until it ends. Thread-safety: one thread at a time."""

    def __init__(self, link: MemoryLink, site: Site, shard: int) -> None:
        snapshot = site.snapshot()
        self.watermarks: Mapping[int, Watermark] = {i: s.watermark for i, s in snapshot.items()}
        self.connection = MemoryWriter(site, [_of(snapshot, shard)])
        self._link, self._site, self._shard = link, site, shard
        self._incarnation = site.incarnation
        self._entry: Entry | None = None

    def trace(self, tell: Callable[[KeyVersion], object]) -> None:
        """Tell of each version that is shown from now on."""
        self.connection.tell = tell

    def written(self) -> Iterable[KeyVersion]:
        """Return what the block wrote: without a version unless the commit was acknowledged."""
        if (entry := self._entry) is None:
            return [KeyVersion(self._shard, key, data=data) for key, data in self.connection.changes.items()]
        return [key_version(self._shard, key, Version(entry, data)) for key, data in entry.changes.items()]

    def seen(self) -> Frontier:
        """Return what reads inside the transaction showed."""
        return self.connection.seen()

    def commit(self, deps: Frontier) -> Commit:
        """Append the changes to the site's log. Raises: CommitUnknown; Unreachable, StoreError: nothing was committed."""
        if not self.connection.open:
            raise StoreError("this write has ended already")
        try:
            with self._link.cluster.lock:
                self._link.reach(self._site.name)
                if self._site.incarnation != self._incarnation:
                    raise Unreachable(f"{self._site.name} restarted during the transaction: nothing was committed")
                if not self.connection.changes:
                    return Commit(None)
                unknown = CommitUnknown(f"a commit was sent to {self._site.name} and no answer came")
                lose, self._site.lose_answer = self._site.lose_answer, None
                if lose is False:
                    raise unknown
                commit = self._link.cluster.append(self._site, self._shard, self.connection.changes, deps | self.seen())
                if lose:
                    raise unknown
                self._entry = self._site.history[-1]
                return commit
        finally:
            self.rollback()

    def rollback(self) -> None:
        """End the block and release the lock."""
        if self.connection.open:
            self.connection.open = False
            self._site.copies[self._shard].writing.release()


class MemoryLink:
    """A link of a process at one site. Thread-safety: all methods, from any thread."""

    def __init__(self, cluster: MemoryCluster, site: str, latency_s: float) -> None:
        self.cluster = cluster
        self._home = site
        self.endpoints: Sequence[Endpoint] = tuple(
            Endpoint(name, name, 0.0 if name == site else latency_s) for name in cluster.sites
        )
        self._closed = False

    def reach(self, endpoint: str, timeout_s: float = 0.0) -> Site:
        """Return a site that answers this process, with everything applied that is due. Raises: Unreachable."""
        if self._closed:
            raise StoreError("this link is closed")
        self.cluster.step()
        site = self.cluster.site(endpoint)
        if site.stopped:
            if site.hanging:
                self.cluster.sleep(timeout_s)
            raise Unreachable(f"{endpoint} does not answer")
        if endpoint != self._home and (site.cut or self.cluster.site(self._home).cut):
            raise Unreachable(f"{endpoint} cannot be reached from {self._home}")
        return site

    def probe(self, endpoint: str, timeout_s: float) -> Mapping[int, Watermark]:
        """Return an endpoint's watermarks now. Raises: Unreachable."""
        site = self.reach(endpoint, timeout_s)
        with self.cluster.lock:
            return {shard: s.watermark for shard, s in site.snapshot().items()}

    def read(self, endpoint: str, shards: Sequence[int]) -> MemoryRead:
        """Open one snapshot. Raises: Unreachable."""
        site = self.reach(endpoint)
        with self.cluster.lock:
            return MemoryRead(site, shards)

    def write(self, endpoint: str, shard: int, deps: Frontier) -> MemoryWrite:
        """Take the write lock and open a transaction. Raises: Unreachable, also when the lock stays taken."""
        if not self.writing(endpoint, shard).acquire(timeout=BUSY_S):
            raise _busy(endpoint)
        return self.locked(endpoint, shard)

    def writing(self, endpoint: str, shard: int) -> threading.Lock:
        """Return the write lock of one shard at one site. Raises: Unreachable; ConfigError for an unknown shard."""
        site = self.reach(endpoint)
        if shard not in site.copies:
            raise ConfigError(f"no shard {shard} in store {self.cluster.store}")
        return site.copies[shard].writing

    def locked(self, endpoint: str, shard: int) -> MemoryWrite:
        """Open a transaction under the write lock that the caller has taken; release it if that fails."""
        try:
            with self.cluster.lock:
                return MemoryWrite(self, self.reach(endpoint), shard)
        except BaseException:
            self.cluster.site(endpoint).copies[shard].writing.release()
            raise

    def leader(self, shard: int) -> str:
        """Return the site that this process writes at: its own."""
        return self._home

    def position(self, connection: Any) -> Frontier:
        """Return everything that the connection's site (None: this process's) has numbered. Raises: ConfigError."""
        if connection is not None and not isinstance(connection, MemoryReader):
            raise ConfigError(f"not a connection of this engine: {type(connection).__name__}")
        site = self.cluster.site(self._home) if connection is None else connection.site
        with self.cluster.lock:
            return Frontier.of({pack(c.shard, c.own): c.origins[c.own][0] for c in site.copies.values()})

    def close(self) -> None:
        """End the link; open blocks may finish reading."""
        self._closed = True


class AsyncMemoryRead:
    """The asynchronous twin of `MemoryRead`. Thread-safety: one task at a time."""

    def __init__(self, handle: MemoryRead) -> None:
        self.connection = handle.connection
        self.watermarks = handle.watermarks
        self.seen, self.trace = handle.seen, handle.trace
        self._handle = handle

    async def close(self) -> None:
        """End the block."""
        self._handle.close()


class AsyncMemoryWrite:
    """The asynchronous twin of `MemoryWrite`. Thread-safety: one task at a time."""

    def __init__(self, handle: MemoryWrite) -> None:
        self.connection = handle.connection
        self.watermarks = handle.watermarks
        self.seen, self.trace, self.written = handle.seen, handle.trace, handle.written
        self._handle = handle

    async def commit(self, deps: Frontier) -> Commit:
        """Append the changes to the site's log. Raises: as `MemoryWrite.commit`."""
        return self._handle.commit(deps)

    async def rollback(self) -> None:
        """End the block and release the lock."""
        self._handle.rollback()


class AsyncMemoryLink:
    """The asynchronous twin of `MemoryLink`. Thread-safety: one event loop."""

    def __init__(self, link: MemoryLink) -> None:
        self.endpoints = link.endpoints
        self.leader = link.leader
        self._link = link

    async def probe(self, endpoint: str, timeout_s: float) -> Mapping[int, Watermark]:
        """Return an endpoint's watermarks now. Raises: Unreachable."""
        return await asyncio.to_thread(self._link.probe, endpoint, timeout_s)

    async def read(self, endpoint: str, shards: Sequence[int]) -> AsyncMemoryRead:
        """Open one snapshot. Raises: Unreachable."""
        return AsyncMemoryRead(self._link.read(endpoint, shards))

    async def write(self, endpoint: str, shard: int, deps: Frontier) -> AsyncMemoryWrite:
        """Take the write lock and open a transaction. Raises: Unreachable, also when the lock stays taken."""
        writing = self._link.writing(endpoint, shard)
        try:
            async with asyncio.timeout(BUSY_S):
                while not writing.acquire(blocking=False):  # noqa: ASYNC110 (shared with threads: no event of this loop)
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            raise _busy(endpoint) from error
        return AsyncMemoryWrite(self._link.locked(endpoint, shard))

    async def position(self, connection: Any) -> Frontier:
        """Return everything that the connection's site (None: this process's) has numbered. Raises: ConfigError."""
        return self._link.position(connection)

    async def close(self) -> None:
        """End the link."""
        self._link.close()


class MemoryEngine:
    """The engine of a process at one site: of its own cluster, or of one that several engines share.

    `site` defaults to the first. `latency_s` is the expected round trip to the other sites. The other arguments are those
    of `MemoryCluster`. The controls over all sites are the methods of `cluster`, and here for convenience.

    Units: seconds. Raises: ConfigError. Thread-safety: immutable; a fork copies the data as it is.
    """

    def __init__(
        self,
        sites: Sequence[str] = ("eu", "us"),
        *,
        site: str | None = None,
        latency_s: float = 0.05,
        cluster: MemoryCluster | None = None,
        **settings: Any,
    ) -> None:
        if cluster is not None and settings:
            raise ConfigError(f"a shared cluster has its settings already: {', '.join(settings)}")
        self.cluster = MemoryCluster(sites, **settings) if cluster is None else cluster
        self.site = next(iter(self.cluster.sites)) if site is None else self.cluster.site(site).name
        self.latency_s = latency_s
        self.shards: Mapping[str, int] = dict(self.cluster.shards)
        self.capabilities = Capabilities(dependencies=True, clock_offsets=self.cluster.clock_offsets, exact=True)
        self.pause, self.resume, self.catch_up = self.cluster.pause, self.cluster.resume, self.cluster.catch_up
        self.cut_off, self.rejoin = self.cluster.cut_off, self.cluster.rejoin

    def open(self, store: int = 0) -> MemoryLink:
        """Connect. Raises: ConfigError for another store number than the cluster's."""
        if store != self.cluster.store:
            raise ConfigError(f"this cluster is store {self.cluster.store}, not {store}: give it store={store}")
        return MemoryLink(self.cluster, self.site, self.latency_s)

    def at(self, site: str) -> MemoryEngine:
        """Return the engine of a process at another site of the same cluster. Raises: ConfigError for an unknown site."""
        return MemoryEngine(site=site, latency_s=self.latency_s, cluster=self.cluster)

    async def aopen(self, store: int = 0) -> AsyncMemoryLink:
        """Connect for use in the running event loop. Raises: as `open`."""
        return AsyncMemoryLink(self.open(store))


def _busy(endpoint: str) -> Unreachable:
    return Unreachable(f"{endpoint} is busy: another write block has been open for {BUSY_S:g} s", final=True)


def _of(snapshot: Mapping[int, Snapshot], shard: int) -> Snapshot:
    if shard not in snapshot:
        raise ConfigError(f"no shard {shard}; there are {', '.join(map(str, snapshot))}")
    return snapshot[shard]
