"""Pools of connections to one server, each introduced before its first block: which backend it has is known, not assumed.

Owns the life of pooled connections. `psycopg_pool` keeps them; a connection whose server changed goes back closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import psycopg
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from causal.errors import ConfigError, Unreachable
from causal.stores.postgres import statements
from causal.stores.postgres.exchange import adrive, drive, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from psycopg.pq.abc import PGresult

    from causal.stores.postgres.answers import Ground
    from causal.stores.postgres.server import Backend, Server


@attrs.frozen
class PoolSettings:
    """How many connections to each server a process keeps, and how they are made.

    `kwargs` go to `psycopg.connect`. Behind a pooler in transaction mode the driver prepares no statements, unless `prepare_threshold` is
    among them (PgBouncer can keep them apart from 1.21 on). A statement of a block's own waits for as long as the driver does: a network
    that may hang asks for `tcp_user_timeout`, here or in the DSN.

    `configure` is called with each new connection (asynchronous stores: awaited). What a block leaves behind that outlasts its transaction
    (SET, LISTEN, temporary tables, locks of the session) stays on its connection, as in psycopg's own pools, unless `reset` removes it: it
    is called with each connection that comes back (asynchronous stores: awaited).

    Thread-safety: immutable.
    """

    min_size: int = 0
    max_size: int = 10
    max_waiting: int = 0
    max_idle_s: float = 600.0
    max_lifetime_s: float = 3600.0
    kwargs: Mapping[str, Any] = attrs.field(factory=dict, repr=False)  # there may be a password among them
    configure: Callable[[Any], Any] | None = None
    reset: Callable[[Any], Any] | None = None

    def arguments(self, server: Server, timeout_s: float) -> dict[str, Any]:
        """Return what both kinds of pool take."""
        kwargs = {"application_name": "causal", "connect_timeout": max(2, round(timeout_s)), **self.kwargs}
        return {
            "conninfo": server.dsn,
            "kwargs": kwargs,
            "min_size": self.min_size,
            "max_size": self.max_size,
            "max_waiting": self.max_waiting,
            "max_idle": self.max_idle_s,
            "max_lifetime": self.max_lifetime_s,
            "timeout": timeout_s,
            # Who asks for a connection makes the pool try again: its own waiting, twice as long each time, outlasts a server's return.
            "reconnect_timeout": 0.0,
            "reset": self.reset,
            "name": f"causal {server.name}",
        }


def introduction(server: Server, connection: Any, *, threshold: bool = False) -> Generator[bytes, list[PGresult], None]:
    """Learn a new connection's backend, and prepare there what its blocks execute, if it is the connection's own.

    `threshold`: the user has said when the driver prepares statements.
    """
    ground = server.ground
    if ground is None:
        raise Unreachable(f"{server.name} has not been asked yet")
    results = yield statements.question(installed=ground.installed)
    server.refused(results)
    server.introduce(connection, connection.pgconn, results, ground)
    backend = server.backend(connection)
    if backend is None:
        return
    if backend.direct:
        results = yield statements.prepare(installed=ground.installed, stamps=ground.stamps)
        server.refused(results)
    elif not threshold:  # what the driver prepares would be another backend's by the next transaction
        connection.prepare_threshold = None


class Pool:
    """The synchronous pool of one server. Thread-safety: safe."""

    def __init__(self, server: Server, settings: PoolSettings, timeout_s: float) -> None:
        self._server = server
        self._timeout_s = timeout_s
        self._configure = settings.configure
        threshold = "prepare_threshold" in settings.kwargs

        def configure(connection: psycopg.Connection[Any]) -> None:
            if self._configure is not None:
                self._configure(connection)
            drive(introduction(server, connection, threshold=threshold), connection.pgconn, timeout_s)

        self._pool = ConnectionPool(open=True, configure=configure, **settings.arguments(server, timeout_s))

    def take(self) -> tuple[psycopg.Connection[Any], Backend, Ground]:
        """Return a connection, its backend and what holds there. Raises: Unreachable if none is to be had in time."""
        try:
            connection = self._pool.getconn(self._timeout_s)
        except (PoolTimeout, TooManyRequests, psycopg.OperationalError) as error:
            raise Unreachable(_none_free(self._server, error)) from error
        except PoolClosed as error:
            raise ConfigError("this link is closed") from error
        backend, ground = self._server.backend(connection), self._server.ground
        assert backend is not None
        assert ground is not None
        return connection, backend, ground

    def give(self, connection: psycopg.Connection[Any], *, usable: bool) -> None:
        """Take a connection back."""
        if not usable:
            connection.close()
        self._pool.putconn(connection)

    def renew(self) -> None:
        """Drop what is idle: the server's life is another now. What is in use is dropped when it is checked."""
        drain = getattr(self._pool, "drain", None)
        if drain is not None:
            drain()

    def close(self) -> None:
        """Close what is idle, and the rest as it comes back."""
        self._pool.close(timeout=1.0)


class AsyncPool:
    """The asynchronous pool of one server. Thread-safety: one event loop."""

    def __init__(self, server: Server, settings: PoolSettings, timeout_s: float) -> None:
        self._server = server
        self._timeout_s = timeout_s
        self._configure = settings.configure
        threshold = "prepare_threshold" in settings.kwargs

        async def configure(connection: psycopg.AsyncConnection[Any]) -> None:
            if self._configure is not None:
                await self._configure(connection)
            await adrive(introduction(server, connection, threshold=threshold), connection.pgconn, timeout_s)

        self._pool = AsyncConnectionPool(open=False, configure=configure, **settings.arguments(server, timeout_s))

    async def open(self) -> None:
        """Start the pool's workers."""
        await self._pool.open()

    async def take(self) -> tuple[psycopg.AsyncConnection[Any], Backend, Ground]:
        """Do as `Pool.take`."""
        try:
            connection = await self._pool.getconn(self._timeout_s)
        except (PoolTimeout, TooManyRequests, psycopg.OperationalError) as error:
            raise Unreachable(_none_free(self._server, error)) from error
        except PoolClosed as error:
            raise ConfigError("this link is closed") from error
        backend, ground = self._server.backend(connection), self._server.ground
        assert backend is not None
        assert ground is not None
        return connection, backend, ground

    async def give(self, connection: psycopg.AsyncConnection[Any], *, usable: bool) -> None:
        """Take a connection back."""
        if not usable:
            await connection.close()
        await self._pool.putconn(connection)

    async def renew(self) -> None:
        """Do as `Pool.renew`."""
        drain = getattr(self._pool, "drain", None)
        if drain is not None:
            await drain()

    async def close(self) -> None:
        """Do as `Pool.close`."""
        await self._pool.close(timeout=1.0)


def _none_free(server: Server, error: Exception) -> str:
    if isinstance(error, TooManyRequests):
        return f"{server.name}: too many blocks wait for a connection already"
    if isinstance(error, PoolTimeout):
        return f"{server.name}: no connection was free in time; the pool's max_size may be too small, or the server does not answer"
    return f"{server.name}: {first_line(str(error))}"
