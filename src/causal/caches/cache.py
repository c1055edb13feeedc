"""CausalCache: get or load, gated. The synchronous loop around `lookup.py`.

Owns the order of steps: look, wait for whoever loads the same, load at an endpoint, store. What may be served or stored is decided in
`lookup.py`, and what is written to the cache after a commit in `writing.py`.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, suppress
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, Unpack, cast

from causal.asking import PROBE_TIMEOUT_S, probe
from causal.caches.base import HEARD_S, CacheBase
from causal.caches.entry import COPIED, Entry
from causal.caches.flights import Flights
from causal.caches.keys import KeyTemplate
from causal.caches.lookup import Lookup, Reading, consistent, quick
from causal.caches.writing import CacheWrite, carry_out, invalidations
from causal.errors import StoreError
from causal.repeat import TRIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from causal.blocks import Read
    from causal.caches.account import Account
    from causal.caches.base import Backend, CacheSettings, Shards
    from causal.core.frontier import Frontier, Position
    from causal.core.policy import ReadPolicy
    from causal.engine import Link
    from causal.store import CausalStore, Session

T = TypeVar("T")
W = TypeVar("W")

POLL_S: Final = 0.005
POLL_MAX_S: Final = 0.05
ROUNDS: Final = 2
"""How many loads of others are waited for, one after the other: what they store need not be of use."""


class CausalCache(CacheBase):
    """A cache in front of one store: what it serves covers what the session demands, as if an endpoint had been read.

    `backend` is an `LRUBackend`, or a `ValkeyBackend`, which processes share. The settings are those of `CacheSettings`.
    Units: seconds. Raises: ConfigError. Thread-safety: safe from any thread.
    """

    def __init__(self, store: CausalStore[Any, Any], backend: Backend, **settings: Unpack[CacheSettings]) -> None:
        super().__init__(store, backend, **settings)
        self.backend = backend
        self._find = backend.get
        self._flights = Flights()
        self._hearing = threading.Lock()

    def _forked(self) -> None:
        super()._forked()
        self._hearing = threading.Lock()
        self._flights.forked()

    def get(
        self,
        session: Session[Any, Any],
        key: str,
        load: Callable[..., T],
        *,
        shard: str | Iterable[str] | None = None,
        policy: ReadPolicy | None = None,
        ttl_s: float | None = None,
    ) -> T:
        """Return what is cached under a key, if that covers what the session demands; else `load(connection)` in a gated read block.

        `shard` is what the key is read from. Of several, `load` gets one connection each. `load` must be repeatable, and read through
        its connections alone. What is returned is what a hit would hand out: as `deserialize(serialize(...))` gives it.
        Raises: as `session.read`; what `load` raises; ConfigError.
        """
        entry = self._find(self.prefix + key)
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
        return self._lookup(session, key, load, shards, policy, ttl_s, entry)[0]

    def lookup(
        self,
        session: Session[Any, Any],
        key: str,
        load: Callable[..., T],
        *,
        shard: str | Iterable[str] | None = None,
        policy: ReadPolicy | None = None,
        ttl_s: float | None = None,
    ) -> tuple[T, Account]:
        """Do what `get` does, and return the account with the value."""
        return self._lookup(session, key, load, self.shards(shard), policy, ttl_s, self._find(self.prefix + key))

    def cached(
        self,
        template: str,
        *,
        shard: str | Iterable[str] | None = None,
        policy: ReadPolicy | None = None,
        ttl_s: float | None = None,
    ) -> Callable[[Callable[..., T]], Cached[T]]:
        """Decorate a loader: `@cache.cached("profile:{user}")` over `def profile(connection, user)` makes `profile(session, user)`.

        The template names every argument after the connections. `profile.key(user)` is the key, for `cache.write`.
        Raises: ConfigError.
        """
        connections = len(self.shards(shard).named)
        return lambda fn: Cached(self, KeyTemplate(template, fn, connections), fn, shard, policy, ttl_s)

    def write(
        self, session: Session[Any, W], *keys: str, shard: str | None = None, wait_s: float | None = None
    ) -> CacheWrite[W]:
        """Return a write block that changes what these keys hang on: `session.write`, and then the cache knows.

        After the commit, and with its position, each key is invalidated, or written through where the block has `set` a value. Where the
        position is not known, the keys are removed. Raises: as `session.write`; ConfigError.
        """
        return CacheWrite(self, session, keys, shard, wait_s)

    def invalidate(self, at: Position | Frontier, *keys: str) -> tuple[Account, ...]:
        """Let no older value be served to those who do not demand more, after a write elsewhere that is committed up to `at`.

        `at` is its position, or a frontier that covers it: `store.position(connection)`, `store.head()`. Of a frontier that says nothing
        exact of this store, the keys are removed instead.
        """
        return tuple([carry_out(self, planned) for planned in invalidations(self, at, keys)])

    # --- the steps of a lookup ---------------------------------------------------------------------------------------

    def _lookup(
        self,
        session: Session[Any, Any],
        key: str,
        load: Callable[..., T],
        shards: Shards,
        policy: ReadPolicy | None,
        ttl_s: float | None,
        entry: Entry | None,
    ) -> tuple[T, Account]:
        heard = self._hear()
        look = Lookup(self, session, key, shards, policy, ttl_s)
        if look.bypassed(heard=heard):
            self._load(look, session, load)
        elif not self._served(look, entry):
            self._loaded(look, session, load, entry)
        return look.value, look.done()

    def _hear(self) -> bool:
        """Ask an endpoint, if none was asked lately: one thread for all. Return whether one has answered."""
        link = self.store._live or self.store._link()
        if self.heard():
            return True
        if not self._hearing.acquire(blocking=not self.heard(grace_s=HEARD_S)):
            return True  # somebody is asking
        try:
            return self.heard() or any(self._asked(link, name) for name in self.to_ask())
        finally:
            self._hearing.release()

    def _asked(self, link: Link[Any, Any], name: str) -> bool:
        probe(self.settings, link, name, PROBE_TIMEOUT_S)
        return self.heard()

    def _served(self, look: Lookup, entry: Entry | None, *, shared: bool = False) -> bool:
        """Serve an entry if it may be; remove it if nobody may have it."""
        if look.serves(entry, "shared" if shared else "hit"):
            return True
        if entry is None and self.backend.down:
            look.outcome, look.why = "down", "the cache does not answer"
        if look.dead is not None:
            self.backend.discard(look.name, look.dead)
        return False

    def _loaded(self, look: Lookup, session: Session[Any, Any], load: Callable[..., Any], saw: Entry | None) -> None:
        """Load, or wait for whoever loads the same, and take that if it covers this demand."""
        deadline = time.monotonic() + self.lease_s
        for _ in range(ROUNDS if self.lease_s else 0):
            flight, new = self._flights.board(look.name)
            if new:
                stored = None
                try:
                    stored = self._waited(look, saw, deadline)
                    if stored is None:
                        stored = self._load(look, session, load)
                finally:
                    self._flights.land(look.name, flight, stored)
                return
            if flight.owner == threading.get_ident():
                break  # a loader that asks for its own key
            began = time.monotonic()
            landed = flight.landed.wait(max(0.0, deadline - began))
            look.waited_s += time.monotonic() - began
            if not landed or flight.entry is None:
                break
            if self._served(look, flight.entry, shared=True):
                return
        self._load(look, session, load)

    def _waited(self, look: Lookup, saw: Entry | None, deadline: float) -> Entry | None:
        """Become the one loader of all processes; or wait for it, and return what it stored, if that could be served."""
        found = self.backend.lease(look.name, self.lease_s, saw)
        if isinstance(found, Entry):
            return found if self._served(look, found) else None
        look.leased = alone = found
        began, pause_s = time.monotonic(), POLL_S
        while not alone and (left_s := deadline - time.monotonic()) > 0:
            time.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 1.5, POLL_MAX_S)
            entry, leased = self.backend.watch(look.name)
            served = entry is not None and self._served(look, entry, shared=True)
            look.waited_s = time.monotonic() - began
            if served:
                return entry
            alone = not leased
        return None

    def _load(self, look: Lookup, session: Session[Any, Any], load: Callable[..., Any]) -> Entry | None:
        """Load at an endpoint, and store what was read if it may be; return what was stored."""
        backend, entry = self.backend, None
        try:
            reads = [
                Reading(session.read(self.store, shard=name, policy=look.given), i) for i, name in look.where.named
            ]
            entry = look.keeps(self._read(reads, load), reads)
            if entry is not None:
                look.put(backend.put(look.name, entry, self.life_s(entry)))
            return entry if look.stored else None
        finally:
            if entry is None and look.leased:
                backend.release(look.name)

    def _read(self, reads: list[Reading], load: Callable[..., T]) -> T:
        """Call the loader inside its read blocks, again if an endpoint is lost underway, or if one block misses what another one showed."""
        left = TRIES
        while True:
            left -= 1
            try:
                with ExitStack() as stack:
                    connections = []
                    for read in reads:
                        read.begins(self.settings.monotonic())
                        connections.append(stack.enter_context(cast("Read[Any]", read.block)))
                        read.entered()
                    value = load(*connections)
            except StoreError as error:
                if not left or not error.retryable:
                    raise
                continue
            if not left or consistent(reads) or not self.settings.reading[1]:
                return value


class Cached(Generic[T]):
    """A cached loader. Thread-safety: safe from any thread."""

    def __init__(
        self,
        cache: CausalCache,
        keys: KeyTemplate,
        fn: Callable[..., T],
        shard: str | Iterable[str] | None,
        policy: ReadPolicy | None,
        ttl_s: float | None,
    ) -> None:
        self._cache, self._keys, self._fn = cache, keys, fn
        self._options: dict[str, Any] = {"shard": shard, "policy": policy, "ttl_s": ttl_s}
        update_wrapper(self, fn)

    def __call__(self, session: Session[Any, Any], /, *args: Any, **kwargs: Any) -> T:
        """Return what is cached for these arguments, or load it: as `CausalCache.get`."""
        key = self._keys.key(*args, **kwargs)
        return self._cache.get(session, key, lambda *given: self._fn(*given, *args, **kwargs), **self._options)

    def key(self, *args: Any, **kwargs: Any) -> str:
        """Return the key for arguments: for `cache.write` and `cache.invalidate`."""
        return self._keys.key(*args, **kwargs)
