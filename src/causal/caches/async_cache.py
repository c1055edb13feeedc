"""AsyncCausalCache: the asynchronous loop around `lookup.py`.

Owns the loop and the waiting tasks. The rules are those of `cache.py`: the same lookups, entries and accounts.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, suppress
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, Unpack, cast

from causal.asking import PROBE_TIMEOUT_S, aprobe
from causal.caches.base import HEARD_S, CacheBase
from causal.caches.cache import POLL_MAX_S, POLL_S, ROUNDS
from causal.caches.entry import COPIED, Entry
from causal.caches.flights import AsyncFlights
from causal.caches.keys import KeyTemplate
from causal.caches.lookup import Lookup, Reading, consistent, quick
from causal.caches.lru import LRUBackend
from causal.caches.writing import AsyncCacheWrite, acarry_out, invalidations
from causal.errors import StoreError
from causal.repeat import TRIES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from causal.async_store import AsyncCausalStore, AsyncSession
    from causal.blocks import AsyncRead
    from causal.caches.account import Account
    from causal.caches.base import CacheSettings, Shards
    from causal.core.frontier import Frontier, Position
    from causal.core.policy import ReadPolicy

T = TypeVar("T")
W = TypeVar("W")


class AsyncBackend(Protocol):
    """The twin of `Backend`: the same words, awaited. Thread-safety: one event loop."""

    @property
    def local(self) -> bool:
        """As `Backend.local`."""

    @property
    def down(self) -> bool:
        """As `Backend.down`."""

    async def get(self, key: str, /) -> Entry | None:
        """As `Backend.get`."""

    async def put(self, key: str, entry: Entry, life_s: float, /) -> bool | None:
        """As `Backend.put`."""

    async def invalidate(
        self, key: str, positions: Mapping[int, int], tombstone: Entry, life_s: float, /
    ) -> bool | None:
        """As `Backend.invalidate`."""

    async def discard(self, key: str, entry: Entry, /) -> None:
        """As `Backend.discard`."""

    async def delete(self, key: str, /) -> bool:
        """As `Backend.delete`."""

    async def lease(self, key: str, for_s: float, saw: Entry | None, /) -> Entry | bool:
        """As `Backend.lease`."""

    async def watch(self, key: str, /) -> tuple[Entry | None, bool]:
        """As `Backend.watch`."""

    async def release(self, key: str, /) -> None:
        """As `Backend.release`."""


class _Local:
    """An LRU, which answers at once, as an asynchronous backend. Thread-safety: as the LRU."""

    local: bool = True
    down: bool = False

    def __init__(self, lru: LRUBackend) -> None:
        self._lru = lru

    async def get(self, key: str) -> Entry | None:
        return self._lru.get(key)

    async def put(self, key: str, entry: Entry, life_s: float) -> bool:
        return self._lru.put(key, entry, life_s)

    async def invalidate(self, key: str, positions: Mapping[int, int], tombstone: Entry, life_s: float) -> bool:
        return self._lru.invalidate(key, positions, tombstone, life_s)

    async def discard(self, key: str, entry: Entry) -> None:
        self._lru.discard(key, entry)

    async def delete(self, key: str) -> bool:
        return self._lru.delete(key)

    async def lease(self, key: str, for_s: float, saw: Entry | None) -> Entry | bool:
        return self._lru.lease(key, for_s, saw)

    async def watch(self, key: str) -> tuple[Entry | None, bool]:
        return self._lru.watch(key)

    async def release(self, key: str) -> None:
        self._lru.release(key)


class AsyncCausalCache(CacheBase):
    """The asynchronous twin of `CausalCache`: the same names, awaited. `backend` is an `LRUBackend` or an `AsyncValkeyBackend`.

    Units: seconds. Raises: ConfigError. Thread-safety: one event loop.
    """

    def __init__(
        self, store: AsyncCausalStore[Any, Any], backend: AsyncBackend | LRUBackend, **settings: Unpack[CacheSettings]
    ) -> None:
        super().__init__(store, backend, **settings)
        self.backend: AsyncBackend = _Local(backend) if isinstance(backend, LRUBackend) else backend
        self._find = self.backend.get
        self._flights = AsyncFlights()
        self._hearing = asyncio.Lock()

    def _forked(self) -> None:
        super()._forked()
        self._hearing = asyncio.Lock()
        self._flights.forked()

    async def get(
        self,
        session: AsyncSession[Any, Any],
        key: str,
        load: Callable[..., Awaitable[T]],
        *,
        shard: str | Iterable[str] | None = None,
        policy: ReadPolicy | None = None,
        ttl_s: float | None = None,
    ) -> T:
        """Return what is cached under a key, if that covers what the session demands, or await `load(connection)`: as `CausalCache.get`."""
        entry = await self._find(self.prefix + key)
        shards = self._shards.get(shard) if shard is None or shard.__class__ is str else None
        if shards is None:
            shards = self.shards(shard)
        if entry is not None and policy is None and quick(self, session._state, entry, shards):
            if entry.shared is not COPIED:
                with self._counts.lock:
                    self._counts.hits += 1
                shared: T = entry.shared
                return shared
            with suppress(Exception):  # damaged: it is judged again, and removed
                value: T = self.deserialize(entry.value)  # type: ignore[arg-type]
                with self._counts.lock:
                    self._counts.hits += 1
                return value
        return (await self._lookup(session, key, load, shards, policy, ttl_s, entry))[0]

    async def lookup(
        self,
        session: AsyncSession[Any, Any],
        key: str,
        load: Callable[..., Awaitable[T]],
        *,
        shard: str | Iterable[str] | None = None,
        policy: ReadPolicy | None = None,
        ttl_s: float | None = None,
    ) -> tuple[T, Account]:
        """Do what `get` does, and return the account with the value."""
        entry = await self._find(self.prefix + key)
        return await self._lookup(session, key, load, self.shards(shard), policy, ttl_s, entry)

    def cached(
        self,
        template: str,
        *,
        shard: str | Iterable[str] | None = None,
        policy: ReadPolicy | None = None,
        ttl_s: float | None = None,
    ) -> Callable[[Callable[..., Awaitable[T]]], AsyncCached[T]]:
        """Decorate a loader: as `CausalCache.cached`."""
        connections = len(self.shards(shard).named)
        return lambda fn: AsyncCached(self, KeyTemplate(template, fn, connections), fn, shard, policy, ttl_s)

    def write(
        self, session: AsyncSession[Any, W], *keys: str, shard: str | None = None, wait_s: float | None = None
    ) -> AsyncCacheWrite[W]:
        """Return a write block that changes what these keys hang on: as `CausalCache.write`."""
        return AsyncCacheWrite(self, session, keys, shard, wait_s)

    async def invalidate(self, at: Position | Frontier, *keys: str) -> tuple[Account, ...]:
        """Let no older value be served to those who do not demand more, after a write elsewhere: as `CausalCache.invalidate`."""
        return tuple([await acarry_out(self, planned) for planned in invalidations(self, at, keys)])

    # --- the steps of a lookup ---------------------------------------------------------------------------------------

    async def _lookup(
        self,
        session: AsyncSession[Any, Any],
        key: str,
        load: Callable[..., Awaitable[T]],
        shards: Shards,
        policy: ReadPolicy | None,
        ttl_s: float | None,
        entry: Entry | None,
    ) -> tuple[T, Account]:
        heard = await self._hear()
        look = Lookup(self, session, key, shards, policy, ttl_s)
        if look.bypassed(heard=heard):
            await self._load(look, session, load)
        elif not await self._served(look, entry):
            await self._loaded(look, session, load, entry)
        return look.value, look.done()

    async def _hear(self) -> bool:
        """Ask an endpoint, if none was asked lately: one task for all. Return whether one has answered."""
        link = self.store._live or await self.store._link()
        if self.heard():
            return True
        if self._hearing.locked() and self.heard(grace_s=HEARD_S):
            return True  # somebody is asking
        async with self._hearing:
            if self.heard():
                return True
            for name in self.to_ask():
                await aprobe(self.settings, link, name, PROBE_TIMEOUT_S)
                if self.heard():
                    return True
            return False

    async def _served(self, look: Lookup, entry: Entry | None, *, shared: bool = False) -> bool:
        if look.serves(entry, "shared" if shared else "hit"):
            return True
        if entry is None and self.backend.down:
            look.outcome, look.why = "down", "the cache does not answer"
        if look.dead is not None:
            await self.backend.discard(look.name, look.dead)
        return False

    async def _loaded(
        self, look: Lookup, session: AsyncSession[Any, Any], load: Callable[..., Awaitable[Any]], saw: Entry | None
    ) -> None:
        deadline = time.monotonic() + self.lease_s
        for _ in range(ROUNDS if self.lease_s else 0):
            flight, new = self._flights.board(look.name)
            if new:
                stored = None
                try:
                    stored = await self._waited(look, saw, deadline)
                    if stored is None:
                        stored = await self._load(look, session, load)
                finally:
                    self._flights.land(look.name, flight, stored)
                return
            if flight.owner is asyncio.current_task():
                break
            began = time.monotonic()
            landed, _ = await asyncio.wait((flight.landed,), timeout=max(0.0, deadline - began))
            look.waited_s += time.monotonic() - began
            if not landed or flight.entry is None:
                break
            if await self._served(look, flight.entry, shared=True):
                return
        await self._load(look, session, load)

    async def _waited(self, look: Lookup, saw: Entry | None, deadline: float) -> Entry | None:
        found = await self.backend.lease(look.name, self.lease_s, saw)
        if isinstance(found, Entry):
            return found if await self._served(look, found) else None
        look.leased = alone = found
        began, pause_s = time.monotonic(), POLL_S
        while not alone and (left_s := deadline - time.monotonic()) > 0:
            await asyncio.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 1.5, POLL_MAX_S)
            entry, leased = await self.backend.watch(look.name)
            served = entry is not None and await self._served(look, entry, shared=True)
            look.waited_s = time.monotonic() - began
            if served:
                return entry
            alone = not leased
        return None

    async def _load(
        self, look: Lookup, session: AsyncSession[Any, Any], load: Callable[..., Awaitable[Any]]
    ) -> Entry | None:
        backend, entry = self.backend, None
        try:
            reads = [
                Reading(session.read(self.store, shard=name, policy=look.given), i) for i, name in look.where.named
            ]
            entry = look.keeps(await self._read(reads, load), reads)
            if entry is not None:
                look.put(await backend.put(look.name, entry, self.life_s(entry)))
            return entry if look.stored else None
        finally:
            if entry is None and look.leased:
                await backend.release(look.name)

    async def _read(self, reads: list[Reading], load: Callable[..., Awaitable[T]]) -> T:
        left = TRIES
        while True:
            left -= 1
            try:
                async with AsyncExitStack() as stack:
                    connections = []
                    for read in reads:
                        read.begins(self.settings.monotonic())
                        connections.append(await stack.enter_async_context(cast("AsyncRead[Any]", read.block)))
                        read.entered()
                    value = await load(*connections)
            except StoreError as error:
                if not left or not error.retryable:
                    raise
                continue
            if not left or consistent(reads) or not self.settings.reading[1]:
                return value


class AsyncCached(Generic[T]):
    """A cached loader: as `Cached`, awaited. Thread-safety: one event loop."""

    def __init__(
        self,
        cache: AsyncCausalCache,
        keys: KeyTemplate,
        fn: Callable[..., Awaitable[T]],
        shard: str | Iterable[str] | None,
        policy: ReadPolicy | None,
        ttl_s: float | None,
    ) -> None:
        self._cache, self._keys, self._fn = cache, keys, fn
        self._options: dict[str, Any] = {"shard": shard, "policy": policy, "ttl_s": ttl_s}
        update_wrapper(self, fn)

    async def __call__(self, session: AsyncSession[Any, Any], /, *args: Any, **kwargs: Any) -> T:
        """Return what is cached for these arguments, or load it: as `AsyncCausalCache.get`."""
        key = self._keys.key(*args, **kwargs)
        return await self._cache.get(session, key, lambda *given: self._fn(*given, *args, **kwargs), **self._options)

    def key(self, *args: Any, **kwargs: Any) -> str:
        """Return the key for arguments: for `cache.write` and `cache.invalidate`."""
        return self._keys.key(*args, **kwargs)
