"""The stores of the shop, on either engine: all that differs between the embedded store and PostgreSQL is here, and in `data`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from causal import CausalStore, KeyFile, ReadPolicy
from causal.caches import LRUBackend
from causal.stores.sqlite import SQLiteEngine
from examples.shop.controls import AdjustableLag
from examples.shop.settings import AUDIENCE, SITES

if TYPE_CHECKING:
    from types import ModuleType

    from examples.shop.controls import Controls
    from examples.shop.settings import Settings

POLICY: Final = ReadPolicy(wait_s=0.7)
"""How long a read waits for a replica before it goes to another site, and a write before it is refused."""
ROUND_TRIP_S: Final = 0.04
"""Between the sites."""
ORDERS: Final = 1
"""The number of the orders service's store. The shop's own is number 0."""


def rows(settings: Settings) -> ModuleType:
    """Return the functions that read and write rows on the chosen engine."""
    if settings.databases is None:
        from examples.shop.data import keyvalue

        return keyvalue
    from examples.shop.data import tables  # needs psycopg

    return tables


def shop(settings: Settings, controls: Controls, site: str) -> CausalStore[Any, Any]:
    """Return the shop's store as one of its sites has it."""
    if settings.databases is not None:
        return _postgres(settings, "shop", site, 0)
    engine = SQLiteEngine(
        settings.directory / "shop",
        site=site,
        shards=("people", "public"),
        lag_s=AdjustableLag.by(controls),
        rtt_s={other: ROUND_TRIP_S for other in SITES if other != site},
    )
    return _store(settings, engine, 0)


def orders(settings: Settings, controls: Controls) -> tuple[CausalStore[Any, Any], CausalStore[Any, Any]]:
    """Return the store that the orders service writes through, and the one it reads through: its primary and its replica.

    The embedded store takes writes at any site; used like this, only one of two does. A PostgreSQL engine knows both.
    """
    if settings.databases is not None:
        both = _postgres(settings, "orders", SITES[0], ORDERS)
        return both, both
    primary, replica = (
        SQLiteEngine(settings.directory / "orders", site=site, lag_s=AdjustableLag.by(controls))
        for site in ("primary", "replica")
    )
    return _store(settings, primary, ORDERS), _store(settings, replica, ORDERS)


def cache_backend(settings: Settings) -> Any:
    """Return where a site's cache is: in its process, or in the Valkey that all sites share."""
    if settings.valkey is None:
        return LRUBackend()
    from causal.caches.valkey import ValkeyBackend

    return ValkeyBackend.from_url(settings.valkey)


def _postgres(settings: Settings, database: str, site: str, number: int) -> CausalStore[Any, Any]:
    from causal.stores.postgres import PostgresEngine, Replica

    assert settings.databases is not None
    servers = settings.databases[database]
    standbys = [
        Replica(dsn, name=where, site=where, latency_s=0.0 if where == site else ROUND_TRIP_S)
        for where, dsn in servers.standbys.items()
    ]
    primary = Replica(servers.primary, name="primary", latency_s=ROUND_TRIP_S)
    engine = PostgresEngine(primary, standbys, site=site, order="listed")
    return _store(settings, engine, number)


def _store(settings: Settings, engine: Any, number: int) -> CausalStore[Any, Any]:
    return CausalStore(engine, keyring=KeyFile(settings.keys), audience=AUDIENCE, number=number, policy=POLICY)
