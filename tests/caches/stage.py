"""What most tests of the caches start from: two sites that replicate when a test says so, their stores and caches, and time at hand."""

from __future__ import annotations

from typing import Any

from causal import AsyncCausalStore, CausalStore, Guarantee, Keyring
from causal.caches import Account, CausalCache, LRUBackend
from causal.stores.memory import MemoryCluster, MemoryEngine

KEYS = Keyring.generate()
STALE_S = 900.0
SKEW_S = 60.0


class Stage:
    """Sites "eu" and "us" of one cluster, "us" paused: it applies nothing until a test lets it. One backend behind both caches."""

    def __init__(self, backend: Any = None, *, shards: tuple[str, ...] = ("main",), **settings: Any) -> None:
        self.now_s = 1000.0
        self.wall_s = 1_700_000_000.0
        self.cluster = MemoryCluster(
            ("eu", "us"), shards=shards, monotonic=lambda: self.now_s, wall=lambda: int(self.wall_s * 1e9)
        )
        self.backend = LRUBackend() if backend is None else backend
        self.accounts: list[Account] = []
        self.stores = {site: self.store(site) for site in ("eu", "us")}
        self.caches = {site: self.cache(site, **settings) for site in ("eu", "us")}
        self.cluster.pause("us")

    def store(self, site: str, **settings: Any) -> CausalStore[Any, Any]:
        engine = MemoryEngine(site=site, cluster=self.cluster)
        return CausalStore(engine, sleep=self.pass_s, **self._settings, **settings)

    def async_store(self, site: str, **settings: Any) -> AsyncCausalStore[Any, Any]:
        async def sleep(seconds: float) -> None:
            self.pass_s(seconds)

        engine = MemoryEngine(site=site, cluster=self.cluster)
        return AsyncCausalStore(engine, sleep=sleep, **self._settings, **settings)

    @property
    def _settings(self) -> dict[str, Any]:
        return {
            "keyring": KEYS,
            "audience": "shop",
            "monotonic": lambda: self.now_s,
            "wall": lambda: self.wall_s,
            "max_staleness_s": STALE_S,
            "max_clock_skew_s": SKEW_S,
        }

    def cache(self, site: str, **settings: Any) -> CausalCache:
        return CausalCache(self.stores[site], self.backend, on_account=self.accounts.append, **settings)

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds
        self.wall_s += seconds

    @property
    def last(self) -> Account:
        return self.accounts[-1]

    def get(self, site: str, session: Any, key: str = "photo", **options: Any) -> Any:
        """Look a key up at a site, through its cache; the session may be of another site."""
        return self.caches[site].get(session.at(self.stores[site]), key, loading(key), **options)

    def put(self, site: str, session: Any, value: Any, key: str = "photo", *, shard: str | None = None) -> Any:
        """Write a key at a site, through its cache; return the block."""
        block = self.caches[site].write(session.at(self.stores[site]), key, shard=shard)
        with block as tx:
            tx.put(key, value)
        return block

    def session(self, subject: str = "alice", site: str = "eu", *texts: str | None) -> Any:
        return self.stores[site].session(*texts, subject=subject)


RYW = Guarantee.READ_YOUR_WRITES


def loading(key: str) -> Any:
    return lambda connection: connection.get(key)
