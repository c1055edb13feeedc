"""A process's live connection to a derived store, as the gate sees it: one endpoint to read, and its source's as witnesses.

Owns the mapping: shard ids are the source's, the checkpoint is the watermark, nothing is led, nothing is written. The source's servers
are asked through the source's own link, so that the gate knows the heads that show the derived store to be fresh (I5), and which
histories have ended (I6).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

import attrs

from causal.engine import Endpoint
from causal.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from causal.core.frontier import Frontier
    from causal.core.watermark import Watermark
    from causal.derived.contract import Checkpoint, OpenDerived, Snapshot
    from causal.derived.feeder import Feeder
    from causal.engine import AsyncLink, Link

R = TypeVar("R")


class DerivedRead(Generic[R]):
    """One snapshot of a derived store: the read handle of the contract. Thread-safety: one thread at a time."""

    __slots__ = ("_snapshot", "_store", "connection", "watermarks")

    def __init__(self, snapshot: Snapshot[R], watermarks: Mapping[int, Watermark], store: int) -> None:
        self._snapshot, self._store = snapshot, store
        self.connection = snapshot.connection
        self.watermarks = watermarks

    @property
    def snapshot(self) -> Snapshot[R]:
        """What it reads."""
        return self._snapshot

    def seen(self) -> Frontier:
        """Return all that the snapshot has taken in: what a search does not find is shown, too."""
        return self._snapshot.checkpoint.shows(self._store)

    def close(self) -> None:
        """End the snapshot. Idempotent; never raises."""
        self._snapshot.close()


class AsyncDerivedRead(Generic[R]):
    """The asynchronous twin of `DerivedRead`. Thread-safety: one task at a time."""

    __slots__ = ("_handle", "connection", "watermarks")

    def __init__(self, handle: DerivedRead[R]) -> None:
        self._handle = handle
        self.connection = handle.connection
        self.watermarks = handle.watermarks

    @property
    def snapshot(self) -> Snapshot[R]:
        """What it reads."""
        return self._handle.snapshot

    def seen(self) -> Frontier:
        """Return all that the snapshot has taken in."""
        return self._handle.seen()

    async def close(self) -> None:
        """End the snapshot. Idempotent; never raises."""
        self._handle.close()


class Local(Generic[R]):
    """What both links do without a network: the derived store itself. Thread-safety: safe."""

    def __init__(
        self, name: str, store: int, shards: Mapping[str, int], opened: OpenDerived[R], feeder: Feeder | None
    ) -> None:
        self.name, self.store, self.opened, self.feeder = name, store, opened, feeder
        self.every = frozenset(store << 16 | index for index in shards.values())
        self._known: tuple[Checkpoint | None, dict[int, Watermark]] = (None, {})
        self._listed: tuple[Sequence[Endpoint], tuple[Endpoint, ...]] = ((), ())
        self._closed = False

    def watermarks(self, checkpoint: Checkpoint) -> dict[int, Watermark]:
        """Return a checkpoint as watermarks: the same mapping while it is the same checkpoint."""
        known, marks = self._known
        if checkpoint is not known:
            marks = {s: m for s, m in checkpoint.watermarks(self.store).items() if s in self.every}
            self._known = checkpoint, marks
        return marks

    def marks(self) -> dict[int, Watermark]:
        """Return the checkpoint now, as watermarks. Raises: Unreachable, StoreError."""
        self._still_open()
        return self.watermarks(self.opened.checkpoint())

    def read(self, endpoint: str) -> DerivedRead[R]:
        """Open one snapshot. Raises: ConfigError for a witness, Unreachable, StoreError."""
        if endpoint != self.name:
            raise ConfigError(f"{endpoint} is asked for its heads, and read through its own store")
        self._still_open()
        snapshot = self.opened.snapshot()
        return DerivedRead(snapshot, self.watermarks(snapshot.checkpoint), self.store)

    def witnesses(self, endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
        """Return the endpoint that is read, then the source's, which are only asked. Raises: ConfigError for one of the same name."""
        listed, mine = self._listed
        if listed is not endpoints:
            mine = (Endpoint(self.name), *(w for e in endpoints if (w := self._witness(e)) is not None))
            self._listed = endpoints, mine
        return mine

    def _witness(self, endpoint: Endpoint) -> Endpoint | None:
        if endpoint.name == self.name:
            raise ConfigError(f"the source has an endpoint {self.name!r}, too: name the derived store otherwise")
        shards = None if endpoint.shards is None or endpoint.shards >= self.every else endpoint.shards & self.every
        return None if shards is not None and not shards else attrs.evolve(endpoint, shards=shards, serves=False)

    def mine(self, watermarks: Mapping[int, Watermark]) -> dict[int, Watermark]:
        """Return what of a source's answer concerns the shards that are derived from."""
        return {shard: mark for shard, mark in watermarks.items() if shard in self.every}

    def refuse(self) -> NoReturn:
        """Refuse a write. Raises: ConfigError."""
        raise ConfigError(f"{self.name} is derived: write to its source, and it follows")

    def _still_open(self) -> None:
        if self._closed:
            raise ConfigError("this link is closed")

    def close(self) -> None:
        """End the feeder, then close what it feeds. Idempotent."""
        self._closed = True
        if self.feeder is not None:
            self.feeder.stop()
        self.opened.close()


class DerivedLink(Generic[R]):
    """A process's live connection to a derived store. Raises: Unreachable until it has a checkpoint. Thread-safety: safe."""

    def __init__(self, local: Local[R], source: Link[Any, Any]) -> None:
        self.local, self._source = local, source

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """The derived store, then its source's endpoints, which are only asked."""
        return self.local.witnesses(self._source.endpoints)

    def probe(self, endpoint: str, timeout_s: float) -> Mapping[int, Watermark]:
        """Return the checkpoint now, or what an endpoint of the source says of itself."""
        if endpoint == self.local.name:
            return self.local.marks()
        return self.local.mine(self._source.probe(endpoint, timeout_s))

    def read(self, endpoint: str, shards: Sequence[int]) -> DerivedRead[R]:
        """Open one snapshot, of all shards that are derived from."""
        return self.local.read(endpoint)

    def write(self, endpoint: str, shard: int, deps: Frontier) -> NoReturn:
        """Refuse. Raises: ConfigError."""
        self.local.refuse()

    def leader(self, shard: int) -> NoReturn:
        """Refuse. Raises: ConfigError."""
        self.local.refuse()

    def position(self, connection: Any) -> NoReturn:
        """Refuse. Raises: ConfigError."""
        self.local.refuse()

    def close(self) -> None:
        """End the feeder and close every connection of this link. Idempotent."""
        try:
            self.local.close()
        finally:
            self._source.close()


class AsyncDerivedLink(Generic[R]):
    """The asynchronous twin of `DerivedLink`: the derived store is a local file, and read in the loop. Thread-safety: one event loop."""

    def __init__(self, local: Local[R], source: AsyncLink[Any, Any]) -> None:
        self.local, self._source = local, source

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """The derived store, then its source's endpoints, which are only asked."""
        return self.local.witnesses(self._source.endpoints)

    async def probe(self, endpoint: str, timeout_s: float) -> Mapping[int, Watermark]:
        """Return the checkpoint now, or what an endpoint of the source says of itself."""
        if endpoint == self.local.name:
            return self.local.marks()
        return self.local.mine(await self._source.probe(endpoint, timeout_s))

    async def read(self, endpoint: str, shards: Sequence[int]) -> AsyncDerivedRead[R]:
        """Open one snapshot, of all shards that are derived from."""
        return AsyncDerivedRead(self.local.read(endpoint))

    async def write(self, endpoint: str, shard: int, deps: Frontier) -> NoReturn:
        """Refuse. Raises: ConfigError."""
        self.local.refuse()

    def leader(self, shard: int) -> NoReturn:
        """Refuse. Raises: ConfigError."""
        self.local.refuse()

    async def position(self, connection: Any) -> NoReturn:
        """Refuse. Raises: ConfigError."""
        self.local.refuse()

    async def close(self) -> None:
        """End the feeder and close every connection of this link. Idempotent."""
        try:
            await asyncio.to_thread(self.local.close)
        finally:
            await self._source.close()
