"""A process's live connection to every server of every shard: the synchronous link of the contract.

Owns the routing of each call to a server's pool, and who is taken for a shard's leader. What servers prove is in `lineage.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from causal.core.frontier import Frontier
from causal.engine import Commit, Endpoint
from causal.errors import StoreError
from causal.stores.postgres.blocks import Reading, Writing
from causal.stores.postgres.exchange import Cut, drive
from causal.stores.postgres.outside import driver_connection, outside
from causal.stores.postgres.pools import Pool
from causal.stores.postgres.servers import Servers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from causal.core.watermark import Watermark
    from causal.stores.postgres.server import Server
    from causal.stores.postgres.servers import Settings

B = TypeVar("B", Reading, Writing)


class ReadBlock:
    """A read handle: a pooled connection inside the transaction that was checked. Thread-safety: one thread at a time."""

    def __init__(self, block: Reading | Writing, pool: Pool, servers: Servers) -> None:
        self._block = block
        self._pool: Pool | None = pool
        self._servers = servers
        self._timeout_s = servers.settings.timeout_s
        self._commit_timeout_s = servers.settings.commit_timeout_s
        self.connection: psycopg.Connection[Any] = block.connection
        self.watermarks = block.watermarks

    def end(self) -> None:
        """End the transaction; `seen` then says what it can have shown."""
        try:
            drive(self._block.end(), self._block.pgconn, self._timeout_s)
        except StoreError:
            self._block.showed(self._servers.beyond(self._block.server, self._block.origin))
        else:
            if self._servers.unheard(self._block.seen(), self._block.server.shard):
                self._block.showed(self._servers.living(self._block.seen(), self._block.server.shard))

    def seen(self) -> Frontier:
        return self._block.seen()

    def blame(self, error: BaseException) -> StoreError | None:
        """Return why the server ended the block, where it was not the block's own statement."""
        return self._block.blame(error)

    def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                if not self._block.ended:
                    drive(self._block.undo(), self._block.pgconn, self._timeout_s)
            finally:
                pool.give(self.connection, usable=self._block.usable)


class WriteBlock(ReadBlock):
    """A write handle. Thread-safety: one thread at a time."""

    _block: Writing

    def commit(self, deps: Frontier) -> Commit:
        pool, self._pool = self._pool, None
        if pool is None:
            raise StoreError("this write block has ended")
        try:
            return drive(self._block.commit(deps), self._block.pgconn, self._commit_timeout_s)
        finally:
            pool.give(self.connection, usable=self._block.usable)

    def rollback(self) -> None:
        self.close()


class PostgresLink:
    """A process's live connection to the servers. Thread-safety: safe. HAZARD: not to be used across a fork."""

    def __init__(self, settings: Settings) -> None:
        self._servers = Servers(settings)
        self._settings = settings
        self._pools = {
            name: Pool(server, settings.pool, settings.timeout_s) for name, server in self._servers.by_name.items()
        }

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return self._servers.endpoints

    def probe(self, endpoint: str, timeout_s: float) -> Mapping[int, Watermark]:
        changed: list[str] = []
        try:
            return self._servers.probe(endpoint, timeout_s, changed)
        finally:
            for name in changed:
                self._pools[name].renew()

    def read(self, endpoint: str, shards: Sequence[int]) -> ReadBlock:
        block, pool = self._open(endpoint, shards, Reading, writing=False)
        return ReadBlock(block, pool, self._servers)

    def write(self, endpoint: str, shard: int, deps: Frontier) -> WriteBlock:
        block, pool = self._open(endpoint, (shard,), Writing, writing=True)
        return WriteBlock(block, pool, self._servers)

    def _open(self, endpoint: str, shards: Sequence[int], kind: type[B], *, writing: bool) -> tuple[B, Pool]:
        server, pool = self._servers.holding(endpoint, shards), self._pools[endpoint]
        if server.ground is None:
            self.probe(endpoint, self._settings.timeout_s)
        try:
            return self._begun(server, pool, kind, writing=writing), pool
        except Cut as cut:
            if not cut.lost:
                raise
        # It was idle in the pool when it was lost, and so may the others have been. Nothing was asked for yet: once more, on a new one.
        self.probe(endpoint, self._settings.timeout_s)  # a pool does not say that nobody is there, but waits
        pool.renew()
        return self._begun(server, pool, kind, writing=writing), pool

    def _begun(self, server: Server, pool: Pool, kind: type[B], *, writing: bool) -> B:
        connection, backend, ground = pool.take()
        block = kind(server, connection, backend, ground, self._settings.manner)
        try:
            if not self._settings.manner.transaction:
                connection.autocommit = not writing
            drive(block.begin(writing=writing), connection.pgconn, self._settings.timeout_s)
        except BaseException:
            pool.give(connection, usable=False)
            raise
        return block

    def leader(self, shard: int) -> str:
        if self._servers.without_leader(shard):
            self._servers.look(shard)
        return self._servers.leader(shard)

    def position(self, connection: Any) -> Frontier:
        """Return what covers everything that was committed through a connection to a primary of this store."""
        raw = driver_connection(connection)
        return outside(raw, self._servers)

    def close(self) -> None:
        self._servers.close()
        for pool in self._pools.values():
            pool.close()
