"""The asynchronous link: the same store for an event loop.

Owns what runs where: a local read is microseconds and runs in the loop; what may wait for a lock, a disk or the simulated network runs
in threads of its own. A cancelled call leaves nothing behind: whoever comes too late with a transaction ends it himself.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

from causal.errors import ConfigError
from causal.stores.sqlite.files import schema
from causal.stores.sqlite.files.schema import held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from causal.core.frontier import Frontier
    from causal.core.watermark import Watermark
    from causal.engine import Commit, Endpoint, KeyVersion
    from causal.stores.sqlite.blocks.cut import CutTransaction
    from causal.stores.sqlite.blocks.reading import Reader, ReadTransaction
    from causal.stores.sqlite.blocks.writing import Writer, WriteTransaction
    from causal.stores.sqlite.link import SQLiteLink

T = TypeVar("T")

_THREADS: Final = 8
_POLL_S: Final = 0.001
_POLL_MAX_S: Final = 0.02


async def in_thread(executor: ThreadPoolExecutor | None, make: Callable[[], T], undo: Callable[[T], object]) -> T:
    """Return what `make` returns in a thread; if the caller is cancelled, what it made or is still to make is undone."""
    guard, abandoned, made = threading.Lock(), False, []

    def work() -> T:
        result = make()
        with guard:
            made.append(result)
            late = abandoned
        if late:
            undo(result)
        return result

    future = asyncio.get_running_loop().run_in_executor(executor, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        future.add_done_callback(_heard)
        with guard:
            abandoned = True
            done = bool(made)
        if done:
            undo(made[0])
        raise


def _heard(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()  # nobody waits for it any more


class AsyncReadTransaction:
    """The asynchronous twin of a read handle. Thread-safety: one task at a time."""

    __slots__ = ("_handle", "connection", "watermarks")

    connection: Reader
    watermarks: Mapping[int, Watermark]

    def __init__(self, handle: ReadTransaction | CutTransaction) -> None:
        self._handle = handle
        self.connection = handle.connection
        self.watermarks = handle.watermarks

    def seen(self) -> Frontier:
        """Return the positions and stored dependencies of every version shown so far, tombstones included."""
        return self._handle.seen()

    def trace(self, tell: Callable[[KeyVersion], object]) -> None:
        """Tell of each version that is shown from now on."""
        self._handle.trace(tell)
        self.connection = self._handle.connection

    async def close(self) -> None:
        """End the snapshot. Idempotent; never raises."""
        self._handle.close()


class AsyncWriteTransaction:
    """The asynchronous twin of a write handle. Thread-safety: one task at a time."""

    __slots__ = ("_committing", "_executor", "_handle", "connection", "watermarks")

    connection: Writer
    watermarks: Mapping[int, Watermark]

    def __init__(self, handle: WriteTransaction, executor: ThreadPoolExecutor) -> None:
        self._handle, self._executor = handle, executor
        self._committing: asyncio.Future[Commit] | None = None
        self.connection = handle.connection
        self.watermarks = handle.watermarks

    def seen(self) -> Frontier:
        """Return the positions and stored dependencies of every version that was read inside the block."""
        return self._handle.seen()

    def trace(self, tell: Callable[[KeyVersion], object]) -> None:
        """Tell of each version that is shown from now on."""
        self._handle.trace(tell)
        self.connection = self._handle.connection

    def written(self) -> Iterable[KeyVersion]:
        """Return what the block wrote: without a version unless the commit was acknowledged."""
        return self._handle.written()

    async def commit(self, deps: Frontier) -> Commit:
        """Number, stamp and store the block's writes, durably. Cancelled, it goes on, and nobody hears whether it succeeded."""
        self._committing = asyncio.get_running_loop().run_in_executor(self._executor, self._handle.commit, deps)
        self._committing.add_done_callback(_heard)
        return await asyncio.shield(self._committing)

    async def rollback(self) -> None:
        """Undo what is not committed. Waits for a commit that is on its way. Idempotent; never raises."""
        if self._committing is not None:
            await asyncio.wait((self._committing,))
        self._handle.rollback()


class AsyncSQLiteLink:
    """The asynchronous twin of `SQLiteLink`; a cancelled call leaves no transaction and no lock. Thread-safety: one event loop."""

    def __init__(self, link: SQLiteLink) -> None:
        self._link = link
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="causal-sqlite")

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """The sites that are live, this one first."""
        return self._link.endpoints

    async def probe(self, endpoint: str, timeout_s: float) -> Mapping[int, Watermark]:
        """Return the watermarks of an endpoint now, of every shard. Raises: Unreachable, StoreError."""
        if self._link.is_near(endpoint):
            return self._link.probe(endpoint, timeout_s)
        return await in_thread(self._executor, lambda: self._link.probe(endpoint, timeout_s), lambda _: None)

    async def read(self, endpoint: str, shards: Sequence[int]) -> AsyncReadTransaction:
        """Open one snapshot of a site's shards. Raises: Unreachable, StoreError."""
        if self._link.is_near(endpoint) and len(shards) == 1:
            return AsyncReadTransaction(self._link.read(endpoint, shards))
        opened = await in_thread(
            self._executor, lambda: self._link.read(endpoint, shards), lambda handle: handle.close()
        )
        return AsyncReadTransaction(opened)

    async def write(self, endpoint: str, shard: int, deps: Frontier) -> AsyncWriteTransaction:
        """Open a write transaction on a site's own log of a shard. Raises: Unreachable, StoreError."""
        enter = self._link.write_entry
        if self._link.is_near(endpoint):
            file = enter(endpoint, shard)
        else:
            file = await in_thread(self._executor, lambda: enter(endpoint, shard), lambda _: None)
        # The lock is waited for in the loop: waiting in threads could leave none for the commit that would release it.
        pause_s, left_s = _POLL_S, schema.BUSY_S
        while not file.try_lock():
            if left_s <= 0:
                raise held(file.path)
            await asyncio.sleep(pause_s)
            pause_s, left_s = min(pause_s * 1.5, _POLL_MAX_S), left_s - pause_s
        if self._link.closed:  # and with it the threads: nobody else would unlock
            file.unlock()
            raise ConfigError("this link is closed")
        handle = await in_thread(
            self._executor,
            lambda: self._link.write_locked(endpoint, file, left_s),
            lambda handle: handle.rollback(),
        )
        return AsyncWriteTransaction(handle, self._executor)

    def leader(self, shard: int) -> str:
        """Return this process's own site: every site takes writes. Raises: Unreachable if it has left."""
        return self._link.leader(shard)

    async def position(self, connection: Any) -> Frontier:
        """Return what covers a connection's committed writes."""
        return self._link.position(connection)

    async def close(self) -> None:
        """End replication and close every connection of this link. Idempotent."""
        try:
            await asyncio.to_thread(self._link.close)
        finally:
            self._executor.shutdown(wait=False)
