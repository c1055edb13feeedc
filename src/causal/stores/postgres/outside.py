"""Positions of writes that were made outside this library: through an ORM's connection, or any of one's own.

Owns what is accepted as a connection. Asks the connection itself: it may be to any server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.pq import TransactionStatus

from causal.core.frontier import Frontier, pack
from causal.errors import ConfigError, StoreError, Unreachable
from causal.stores.postgres import statements
from causal.stores.postgres.exchange import aask, ask
from causal.stores.postgres.lineage import current

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

    from causal.stores.postgres.server import Ground, Server
    from causal.stores.postgres.servers import Servers

_WRAPPERS: Final = ("driver_connection", "dbapi_connection", "connection", "_connection")
"""Where ORMs keep the driver's connection: SQLAlchemy and its pool, Django, asynchronous adapters."""


def driver_connection(connection: Any) -> psycopg.Connection[Any] | psycopg.AsyncConnection[Any]:
    """Return the psycopg connection inside what an ORM calls one. Raises: ConfigError."""
    found = connection
    for _ in range(6):
        if isinstance(found, psycopg.Connection | psycopg.AsyncConnection):
            return found
        found = next((inner for name in _WRAPPERS if (inner := getattr(found, name, None)) is not None), None)
    raise ConfigError(f"not a psycopg connection, nor around one: {type(connection).__name__}")


def outside(raw: Any, servers: Servers) -> Frontier:
    """Return a frontier that covers what was committed through a connection. Raises: ConfigError, Unreachable."""
    _idle(raw)
    timeout_s = servers.settings.timeout_s
    ground = _ground(servers)
    return _position(ask(raw.pgconn, statements.question(installed=ground.installed), timeout_s), servers, ground)


async def aoutside(raw: Any, servers: Servers) -> Frontier:
    """Do as `outside`, for an asynchronous connection."""
    _idle(raw)
    timeout_s = servers.settings.timeout_s
    ground = _ground(servers)
    return _position(
        await aask(raw.pgconn, statements.question(installed=ground.installed), timeout_s), servers, ground
    )


def _idle(raw: Any) -> None:
    if raw.closed:
        raise ConfigError("the connection is closed: take its position before that, or join store.head()")
    if raw.pgconn.transaction_status != TransactionStatus.IDLE:
        raise ConfigError("the connection is inside a transaction: commit first, then take the position")


def _ground(servers: Servers) -> Ground:
    for server in servers.by_name.values():
        if server.ground is not None:
            return server.ground
    raise Unreachable("no server has answered yet")


def _position(results: list[PGresult], servers: Servers, ground: Ground) -> Frontier:
    some = next(iter(servers.by_name.values()))
    some.refused(results)
    facts = some.facts(results, 1, ground)
    if facts.life.standby:
        raise ConfigError("the connection is to a standby, which takes no writes")
    row = current(facts)
    if row is None:
        raise StoreError("this primary has no origin yet: open the store on it first")
    server = _primary(servers, row.origin)
    return Frontier.of({pack(server.shard, row.origin): facts.lsn})


def _primary(servers: Servers, origin: int) -> Server:
    for server in servers.by_name.values():
        if server.known is not None and any(origin in mark.origins for mark in server.known.marks.values()):
            return server
    raise ConfigError("the connection is to a server of another cluster: no shard of this store has its history")
