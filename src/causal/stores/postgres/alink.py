"""The asynchronous link: the same servers, with asynchronous pools. Questions go through threads, which waiting blocks share.

Owns nothing that `link.py` does not explain.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from causal.errors import StoreError
from causal.stores.postgres.blocks import Reading, Writing
from causal.stores.postgres.exchange import Cut, adrive
from causal.stores.postgres.outside import aoutside, driver_connection
from causal.stores.postgres.pools import AsyncPool
from causal.stores.postgres.servers import Servers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import psycopg

    from causal.core.frontier import Frontier
    from causal.core.watermark import Watermark
    from causal.engine import Commit, Endpoint
    from causal.stores.postgres.server import Server
    from causal.stores.postgres.servers import Settings


class AsyncReadBlock:
    """The asynchronous twin of `ReadBlock`. Thread-safety: one task at a time."""

    def __init__(self, block: Reading | Writing, pool: AsyncPool, link: AsyncPostgresLink) -> None:
        self._block = block
        self._pool: AsyncPool | None = pool
        self._link = link
        self._timeout_s = link.servers.settings.timeout_s
        self._commit_timeout_s = link.servers.settings.commit_timeout_s
        self.connection: psycopg.AsyncConnection[Any] = block.connection
        self.watermarks = block.watermarks

    async def end(self) -> None:
        """End the transaction; `seen` then says what it can have shown."""
        try:
            await adrive(self._block.end(), self._block.pgconn, self._timeout_s)
        except StoreError:
            self._block.showed(await self._link.beyond(self._block.server, self._block.origin))
        else:
            if self._link.servers.unheard(self._block.seen(), self._block.server.shard):
                self._block.showed(await self._link.living(self._block.seen(), self._block.server.shard))

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
                if not self._block.ended:
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
            commit = await adrive(self._block.commit(deps), self._block.pgconn, self._commit_timeout_s)
            done = True
            return commit
        finally:
            await asyncio.shield(pool.give(self.connection, usable=done and self._block.usable))

    async def rollback(self) -> None:
        await self.close()


class AsyncPostgresLink:
    """A process's live connection to the servers, in one event loop. Thread-safety: one event loop."""

    def __init__(self, settings: Settings) -> None:
        self.servers = Servers(settings)
        self._settings = settings
        self._threads = ThreadPoolExecutor(len(settings.members) + 1, "causal-postgres")
        self._pools = {
            name: AsyncPool(server, settings.pool, settings.timeout_s) for name, server in self.servers.by_name.items()
        }

    async def open(self) -> None:
        """Start the pools."""
        for pool in self._pools.values():
            await pool.open()

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return self.servers.endpoints

    async def probe(self, endpoint: str, timeout_s: float) -> Mapping[int, Watermark]:
        self.servers.of(endpoint)
        loop = asyncio.get_running_loop()
        changed: list[str] = []
        try:
            return await loop.run_in_executor(self._threads, self.servers.probe, endpoint, timeout_s, changed)
        finally:
            for name in changed:
                await self._pools[name].renew()

    async def beyond(self, server: Server, origin: int | None) -> Frontier:
        """Do as `Servers.beyond`, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.servers.beyond, server, origin)

    async def living(self, seen: Frontier, shard: int) -> Frontier:
        """Do as `Servers.living`, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.servers.living, seen, shard)

    async def read(self, endpoint: str, shards: Sequence[int]) -> AsyncReadBlock:
        block, pool = await self._open(endpoint, shards, Reading, writing=False)
        return AsyncReadBlock(block, pool, self)

    async def write(self, endpoint: str, shard: int, deps: Frontier) -> AsyncWriteBlock:
        block, pool = await self._open(endpoint, (shard,), Writing, writing=True)
        return AsyncWriteBlock(block, pool, self)

    async def _open(self, endpoint: str, shards: Sequence[int], kind: Any, *, writing: bool) -> tuple[Any, AsyncPool]:
        server, pool = self.servers.holding(endpoint, shards), self._pools[endpoint]
        if server.ground is None:
            await self.probe(endpoint, self._settings.timeout_s)
        try:
            return await self._begun(server, pool, kind, writing=writing), pool
        except Cut as cut:
            if not cut.lost:
                raise
        # It was idle in the pool when it was lost, and so may the others have been. Nothing was asked for yet: once more, on a new one.
        await self.probe(endpoint, self._settings.timeout_s)  # a pool does not say that nobody is there, but waits
        await pool.renew()
        return await self._begun(server, pool, kind, writing=writing), pool

    async def _begun(self, server: Server, pool: AsyncPool, kind: Any, *, writing: bool) -> Any:
        connection, backend, ground = await pool.take()
        block = kind(server, connection, backend, ground, self._settings.manner)
        try:
            if not self._settings.manner.transaction:
                await connection.set_autocommit(not writing)
            await adrive(block.begin(writing=writing), connection.pgconn, self._settings.timeout_s)
        except BaseException:
            await asyncio.shield(pool.give(connection, usable=False))
            raise
        return block

    def leader(self, shard: int) -> str:
        if self.servers.without_leader(shard):
            self._threads.submit(self.servers.look, shard)
        return self.servers.leader(shard)

    async def position(self, connection: Any) -> Frontier:
        """Return what covers everything that was committed through a connection to a primary of this store."""
        return await aoutside(driver_connection(connection), self.servers)

    async def close(self) -> None:
        self.servers.close()
        for pool in self._pools.values():
            await pool.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
