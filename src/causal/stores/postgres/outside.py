"""Positions of writes that were made outside this library: through an ORM's connection, or any of one's own.

Owns what is accepted as a connection. Asks the connection itself: it may be to any server.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import attrs
import psycopg
from psycopg.pq import TransactionStatus

from causal.core.frontier import Frontier, pack
from causal.errors import ConfigError, StoreError
from causal.stores.postgres import statements
from causal.stores.postgres.answers import Ground
from causal.stores.postgres.exchange import aask, ask
from causal.stores.postgres.lineage import by_timeline, current

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

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


class _Unmet(StoreError):
    """No server of the store is known to be in the life that the connection is to."""


def outside(raw: Any, servers: Servers) -> Frontier:
    """Return a frontier that covers what was committed through a connection. Raises: ConfigError, StoreError, Unreachable."""
    _idle(raw)
    timeout_s = servers.settings.timeout_s
    ground = servers.grounds.get(raw)
    if ground is None:
        ground = servers.grounds[raw] = Ground.of(ask(raw.pgconn, statements.HELLO, timeout_s)[1])
    question = statements.question(installed=ground.installed)
    try:
        return _position(ask(raw.pgconn, question, timeout_s), servers, ground)
    except _Unmet:
        servers.look_everywhere()
        return _position(ask(raw.pgconn, question, timeout_s), servers, ground)


async def aoutside(raw: Any, servers: Servers) -> Frontier:
    """Do as `outside`, for an asynchronous connection."""
    _idle(raw)
    timeout_s = servers.settings.timeout_s
    ground = servers.grounds.get(raw)
    if ground is None:
        ground = servers.grounds[raw] = Ground.of((await aask(raw.pgconn, statements.HELLO, timeout_s))[1])
    question = statements.question(installed=ground.installed)
    try:
        return _position(await aask(raw.pgconn, question, timeout_s), servers, ground)
    except _Unmet:
        await asyncio.get_running_loop().run_in_executor(None, servers.look_everywhere)
        return _position(await aask(raw.pgconn, question, timeout_s), servers, ground)


def _idle(raw: Any) -> None:
    if raw.closed:
        raise ConfigError("the connection is closed: take its position before that, or join store.head()")
    if raw.pgconn.transaction_status != TransactionStatus.IDLE:
        raise ConfigError("the connection is inside a transaction: commit first, then take the position")


def _position(results: list[PGresult], servers: Servers, ground: Ground) -> Frontier:
    some = next(iter(servers.by_name.values()))
    some.refused(results)
    facts = some.facts(results, 1, ground)
    if facts.life.standby:
        raise ConfigError("the connection is to a standby, which takes no writes")
    if not ground.installed:
        facts = attrs.evolve(facts, rows=by_timeline(ground.system, facts, ()))
    row = current(facts)
    if row is None:
        raise _Unmet("this primary has no origin yet: is it a server of this store?")
    for server in servers.by_name.values():
        if server.known is not None and any(row.origin in mark.origins for mark in server.known.marks.values()):
            return Frontier.of({pack(server.shard, row.origin): facts.lsn})
    raise _Unmet("the connection is to a server of another cluster: no shard of this store has its history")
