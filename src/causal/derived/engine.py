"""A derived store's configuration: what it derives from, what it is, who feeds it.

Owns the public class. Connects nothing until `open`.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar

import attrs

from causal.core.frontier import shard_id
from causal.derived.feeder import Feeder
from causal.derived.link import AsyncDerivedLink, DerivedLink, Local
from causal.engine import Capabilities
from causal.errors import ConfigError
from causal.stores.sqlite.alink import in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from causal.derived.contract import Derived, Feeding
    from causal.engine import Engine

R = TypeVar("R")

_FIRST_S: Final = 1.0
"""How long opening waits for the first step of the feeder: a small index is there when the first read asks for it."""


class DerivedEngine(Generic[R]):
    """A derived store as an engine: `CausalStore(DerivedEngine(source, index), ...)`, with the number of its source's store.

    Its shards are those of the source that it derives from; a session of the source's store reads it like any replica. It has no
    leader: a read that it does not cover in time is refused, or stale where the policy says so.

    Args:
        source: the engine that it derives from. It opens a link of its own, to ask for heads.
        derived: the data, and what feeds it: a `SearchIndex`, or a `causal.derived.contract.Derived` of your own.
        shards: the names of the source's shards that it derives from; all by default.
        name: how receipts call it.
        feed: "thread" feeds it in the background while a store is open; "manual" only in `feed`, or in another process.

    Raises: ConfigError. Thread-safety: safe; as safe before a fork as the source's engine.
    """

    def __init__(
        self,
        source: Engine[Any, Any],
        derived: Derived[R],
        *,
        shards: Sequence[str] | None = None,
        name: str = "search",
        feed: Literal["thread", "manual"] = "thread",
    ) -> None:
        if feed not in {"thread", "manual"}:
            raise ConfigError(f"feed is 'thread' or 'manual', not {feed!r}")
        if isinstance(shards, str) or (shards is not None and not shards):
            raise ConfigError(f"shards are a list of names, not {shards!r}")
        if not isinstance(name, str) or name == "":  # type: ignore[redundant-expr]
            raise ConfigError(f"a derived store has a name, not {name!r}")
        self.source, self.derived, self.name = source, derived, name
        self._names = None if shards is None else tuple(shards)
        self._feed = feed

    @property
    def shards(self) -> Mapping[str, int]:
        """The shards that it derives from: the source's names and indexes. Raises: ConfigError for one that the source does not have."""
        known = self.source.shards
        if self._names is None:
            return dict(known)
        for name in self._names:
            if name not in known:
                raise ConfigError(f"the source has no shard {name!r}: there are {', '.join(sorted(known))}")
        return {name: known[name] for name in self._names}

    @property
    def capabilities(self) -> Capabilities:
        """A read concerns every shard that is derived from, and is gated on those alone; what it shows brings its dependencies along."""
        theirs = self.source.capabilities
        return attrs.evolve(theirs, dependencies=False, whole=True)

    def open(self, store: int = 0) -> DerivedLink[R]:
        """Open it, and its source to ask for heads; feed it in the background unless that is manual. Raises: ConfigError, StoreError."""
        source = self.source.open(store)
        try:
            return DerivedLink(self._local(store), source)
        except BaseException:
            source.close()
            raise

    async def aopen(self, store: int = 0) -> AsyncDerivedLink[R]:
        """Open it for use in the running event loop. Raises: as `open`."""
        source = await self.source.aopen(store)
        try:
            local = await in_thread(None, lambda: self._local(store), lambda local: local.close())
            return AsyncDerivedLink(local, source)
        except BaseException:
            await source.close()
            raise

    def _local(self, store: int) -> Local[R]:
        shards = self.shards
        for index in shards.values():
            shard_id(store, index)
        opened = self.derived.open(shards)
        feeder = None
        try:
            if self._feed == "thread" and (feeding := self.derived.feeding(self.source, shards, store)) is not None:
                feeder = Feeder(feeding, self.name)
                feeder.began(_FIRST_S)
            return Local(self.name, store, shards, opened, feeder)
        except BaseException:
            if feeder is not None:
                feeder.stop()
            opened.close()
            raise

    @contextmanager
    def feeding(self, store: int = 0) -> Iterator[Feeding]:
        """Have what feeds it open, for a process that does nothing else: `step`, `wait`, `rebuild`. Raises: ConfigError, StoreError."""
        feeding = self.derived.feeding(self.source, self.shards, store)
        if feeding is None:
            raise ConfigError(f"{self.name} is fed elsewhere")
        try:
            yield feeding
        finally:
            feeding.close()

    def feed(self, store: int = 0) -> int:
        """Take in now what the source has more of; return how many rows that were. Raises: CausalError."""
        with self.feeding(store) as feeding:
            return feeding.step()

    def rebuild(self, store: int = 0) -> None:
        """Derive everything anew while the old is read, then put it in its place at once. Raises: CausalError."""
        with self.feeding(store) as feeding:
            feeding.rebuild()
