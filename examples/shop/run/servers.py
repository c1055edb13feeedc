"""The servers that the shop needs with `--engine postgres`: two PostgreSQL clusters and a Valkey, real ones, on this machine only."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Final, Self

from causal.lab.postgres import PostgresCluster
from causal.lab.valkey import ValkeyServer
from causal.stores.postgres import install
from examples.shop.controls import STANDS_STILL_S
from examples.shop.data import tables
from examples.shop.settings import SITES, Databases

SCHEMAS: Final = {"shop": tables.SHOP, "orders": tables.ORDERS}
STANDBYS: Final = {"shop": SITES, "orders": SITES[:1]}


class Servers:
    """All servers, while the block lasts. Thread-safety: one thread at a time."""

    def __init__(self) -> None:
        # Logical decoding feeds the search index, and needs a log that says which rows changed.
        settings = {"wal_level": "logical"}
        self._clusters = {name: PostgresCluster(len(sites), settings=settings) for name, sites in STANDBYS.items()}
        self._valkey = ValkeyServer()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack as stack, ThreadPoolExecutor() as pool:
            servers: list[Any] = [*self._clusters.values(), self._valkey]
            for started in [pool.submit(stack.enter_context, one) for one in servers]:
                started.result()
            for name, cluster in self._clusters.items():
                install(cluster.primary.admin_dsn, roles=("app",))
                cluster.primary.query(SCHEMAS[name])
                cluster.wait_caught_up()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def databases(self) -> dict[str, Databases]:
        """Where the clusters are."""
        return {
            name: Databases(
                cluster.primary.dsn,
                {site: server.dsn for site, server in zip(STANDBYS[name], cluster.replicas, strict=True)},
            )
            for name, cluster in self._clusters.items()
        }

    @property
    def valkey(self) -> str:
        """Where Valkey is."""
        return self._valkey.tcp_url

    def set_lag(self, seconds: float) -> None:
        """Let all standbys lag so much, or stand still; return when they do."""
        for cluster in self._clusters.values():
            for server in cluster.replicas:
                if seconds == STANDS_STILL_S:
                    server.pause()
                else:
                    server.set_lag(seconds)
                    server.resume()

    def catch_up(self) -> None:
        """Return when all standbys have everything."""
        for cluster in self._clusters.values():
            cluster.wait_caught_up()
