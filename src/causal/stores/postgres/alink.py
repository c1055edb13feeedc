"""The asynchronous link: the same servers, with asynchronous pools. Questions go through threads, which waiting blocks share.

Owns nothing that `link.py` does not explain.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from causal.errors import StoreError
from causal.stores.postgres.blocks import Reading, Writing
from causal.stores.postgres.exchange import adrive
from causal.stores.postgres.link import Servers
from causal.stores.postgres.outside import aoutside, driver_connection
from causal.stores.postgres.pools import AsyncPool

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import psycopg

    from causal.core.frontier import Frontier
    from causal.core.watermark import Watermark
    from causal.engine import Commit, Endpoint
    from causal.stores.postgres.link import Settings


class AsyncReadBlock:
    """The asynchronous twin of `ReadBlock`. Thread-safety: one task at a time."""

    def __init__(self, block: Reading | Writing, pool: AsyncPool, timeout_s: float) -> None:
        self._block = block
        self._pool: AsyncPool | None = pool
        self._timeout_s = timeout_s
        self.connection: psycopg.AsyncConnection[Any] = block.connection
        self.watermarks = block.watermarks

    async def end(self) -> None:
        """End the transaction; `seen` then says what it can have shown."""
        await adrive(self._block.end(), self._block.pgconn, self._timeout_s)

    def seen(self) -> Frontier:
        return self._block.seen()

    def blame(self, error: BaseException) -> StoreError | None:
        """Return why the server ended the block, where it was not the block's own statement."""
        return self._block.blame(error)

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            done = False
            try:
                await adrive(self._block.undo(), self._block.pgconn, self._timeout_s)
                done = True
            finally:
                await asyncio.shield(pool.give(self.connection, usable=done and self._block.usable))


class AsyncWriteBlock(AsyncReadBlock):
    """The asynchronous twin of `WriteBlock`. Thread-safety: one task at a time."""

    _block: Writing

    async def commit(self, deps: Frontier) -> Commit:
        pool, self._pool = self._pool, None
        if pool is None:
            raise StoreError("this write block has ended")
        done = False
        try:
            commit = await adrive(self._block.commit(deps), self._block.pgconn, self._timeout_s)
            done = True
            return commit
        finally:
            await asyncio.shield(pool.give(self.connection, usable=done and self._block.usable))

    async def rollback(self) -> None:
        await self.close()


class AsyncPostgresLink:
    """A process's live connection to the servers, in one event loop. Thread-safety: one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._servers = Servers(settings)
        self._settings = settings
        self._threads = ThreadPoolExecutor(len(settings.members) + 1, "causal-postgres")
        self._pools = {
            name: AsyncPool(server, settings.pool, settings.timeout_s) for name, server in self._servers.by_name.items()
        }

    async def open(self) -> None:
        """Start the pools."""
        for pool in self._pools.values():
            await pool.open()

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return self._servers.endpoints

    async def probe(self, endpoint: str, timeout_s: float) -> Mapping[int, Watermark]:
        self._servers.of(endpoint)
        loop = asyncio.get_running_loop()
        changed: list[str] = []
        try:
            return await loop.run_in_executor(self._threads, self._servers.probe, endpoint, timeout_s, changed)
        finally:
            for name in changed:
                await self._pools[name].renew()

    async def read(self, endpoint: str, shards: Sequence[int]) -> AsyncReadBlock:
        block, pool = await self._open(endpoint, Reading, writing=False)
        return AsyncReadBlock(block, pool, self._settings.timeout_s)

    async def write(self, endpoint: str, shard: int, deps: Frontier) -> AsyncWriteBlock:
        block, pool = await self._open(endpoint, Writing, writing=True)
        return AsyncWriteBlock(block, pool, self._settings.timeout_s)

    async def _open(self, endpoint: str, kind: Any, *, writing: bool) -> tuple[Any, AsyncPool]:
        server, pool = self._servers.of(endpoint), self._pools[endpoint]
        if server.ground is None:
            await self.probe(endpoint, self._settings.timeout_s)
        connection, backend, ground = await pool.take()
        block = kind(server, connection, backend, ground, self._settings.manner)
        try:
            await adrive(block.begin(writing=writing), connection.pgconn, self._settings.timeout_s)
        except BaseException:
            await asyncio.shield(pool.give(connection, usable=False))
            raise
        return block, pool

    def leader(self, shard: int) -> str:
        if self._servers.without_leader(shard):
            self._threads.submit(self._servers.look, shard)
        return self._servers.leader(shard)

    async def position(self, connection: Any) -> Frontier:
        """Return what covers everything that was committed through a connection to a primary of this store."""
        return await aoutside(driver_connection(connection), self._servers)

    async def close(self) -> None:
        self._servers.close()
        for pool in self._pools.values():
            await pool.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
