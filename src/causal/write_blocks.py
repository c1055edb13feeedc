"""The write blocks that users write: `with session.write() as tx`, `async with session.write() as tx`.

Owns what happens when one begins and ends, and which reads are inside of it. Read blocks are in `blocks.py`.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from causal.blocks import Block, enclosing
from causal.core.policy import ReadPolicy
from causal.core.touched import fingerprint, names
from causal.ending import aended, ended
from causal.errors import ConfigError, NoEndpoint
from causal.request import Request
from causal.transaction import shows, still_covered

if TYPE_CHECKING:
    from collections.abc import Iterable

    from causal.blocks import Admitting, AsyncAdmitting
    from causal.core.frontier import Frontier
    from causal.engine import AsyncWriteHandle, Commit, WriteHandle
    from causal.session import SessionState
    from causal.state import StoreState

W = TypeVar("W")


def _here() -> object:
    """Return who runs: the process, and the task inside an event loop, else the thread.

    Contexts are copied into threads, child tasks and forked processes: that must not make a block theirs.
    """
    task = asyncio.current_task() if asyncio._get_running_loop() is not None else None
    return os.getpid(), threading.get_ident() if task is None else task


class _Writing(Block):
    __slots__ = ("_handle", "_owner", "_wait_s", "commit", "touching")

    _handle: Any
    commit: Commit | None
    """The acknowledgement, once the block has ended with one."""

    def __init__(
        self,
        store: Any,
        session: SessionState,
        shard: str | None,
        wait_s: float | None,
        touching: Iterable[str] | None = None,
    ) -> None:
        super().__init__(store, session, shard)
        self._wait_s = wait_s
        self.touching = None if touching is None else names(touching)
        """The cache keys that this write touches; None: it may touch any."""
        self._handle = None
        self._owner: object = None
        self.commit = None

    def touch(self, *keys: str) -> None:
        """Touch more cache keys, before the block ends. A block that may touch any key still may: begin it with `touching=()`.

        Raises: ConfigError for what is no key, and once the block has ended: what it touched is told already.
        """
        more = names(keys)
        if self._request is not None and self._handle is None:
            raise ConfigError("this block has ended: what it touched is told already")
        if self.touching is not None:
            self.touching |= more

    def _acknowledged(self, commit: Commit, request: Request) -> None:
        """Join the acknowledgement, and what was touched."""
        touched = None if self.touching is None else frozenset(map(fingerprint, self.touching))
        self._session.acknowledged(commit, request.store.wall(), touched)
        request.committed(commit)

    def concerns(self, state: StoreState, session: SessionState, shard: int) -> bool:
        """Return whether a read of this shard by this session, here and now, belongs to this block's transaction."""
        request = self._request
        return (
            self._handle is not None
            and request is not None
            and request.shard == shard
            and self._session is session
            and request.store is state
            and self._owner == _here()
        )

    @property
    def is_open(self) -> bool:
        """Whether it has begun, and not ended."""
        return self._handle is not None

    @property
    def connection(self) -> Any:
        """What the block writes through."""
        return self._handle.connection

    def shows(self, inner: Request) -> None:
        """Let a read go through this block's transaction. Raises: GateTimeout if that lacks what the read demands."""
        assert self._request is not None
        shows(self._request, inner, self._handle.watermarks)

    def _enclosing(self) -> int:
        """Return the shard's id. Raises: ConfigError inside another write block of the same session and shard."""
        state: StoreState = self._store._state
        shard = state.shard(self._shard)
        if any(block.concerns(state, self._session, shard) for block in enclosing.get()):
            raise ConfigError("already inside a write block of this session on this shard")
        return shard

    def _requested(self, shard: int, leader: str) -> Request:
        state: StoreState = self._store._state
        policy = state.write_policy if self._wait_s is None else ReadPolicy(self._wait_s, then="error")
        self._request = Request(state, self._session, shard, policy, kind="write", at=leader)
        return self._request

    def _entered(self) -> None:
        self._owner = _here()
        self._session.opened(1)
        # Those that were left in another context, as frameworks do, are still listed in this one.
        blocks = enclosing.get()
        enclosing.set((*(block for block in blocks if block.is_open), self) if blocks else (self,))

    def _left(self) -> None:
        # Set, not reset: a context variable's token is of no use in another context, and blocks may end in any order.
        enclosing.set(tuple(block for block in enclosing.get() if block is not self))

    def _concluded(self, handle: Any, request: Request, *, commits: bool) -> Frontier:
        """Join what the block showed, and return what its write depends on. Raises: GateTimeout if its leader lacks some of that (I9)."""
        seen: Frontier = handle.seen()
        deps = request.dependencies(seen) if commits else seen
        moved = self._session.version != request.version  # in this order: what is learned from here on is not in `deps`
        self.saw(seen)  # whatever becomes of the write, it was shown
        if commits and moved:
            still_covered(request, handle.watermarks)
        return deps


class Write(_Writing, Generic[W]):
    """One write block. Thread-safety: one thread; enter it once."""

    __slots__ = ()

    _store: Admitting
    _handle: WriteHandle[W] | None

    def __enter__(self) -> W:
        shard = self._enclosing()
        leader = self._store._leader(shard)
        handle: WriteHandle[W]
        try:
            handle = self._store._admit(self._requested(shard, leader))
        except NoEndpoint:
            # A store that was closed meanwhile stays closed.
            heir = self._store._leader(shard) if self._store._live is not None else leader
            if heir == leader:
                raise
            handle = self._store._admit(self._requested(shard, heir))  # somebody has taken over; nothing was sent yet
        self._handle = handle
        self._entered()
        return handle.connection

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        handle, request = self._handle, self._request
        if handle is None or request is None:
            return
        self._handle = None
        self._left()
        sent = done = False
        try:
            deps = self._concluded(handle, request, commits=kind is None)
            if kind is not None:
                self._undo(handle, request)
                return
            sent = True
            self.commit = commit = handle.commit(deps)
            done = True
            self._acknowledged(commit, request)
        except BaseException as error:
            if not sent or request.settles(error, done=done):  # what the gate itself is in doubt of was never sent
                self._undo(handle, request)
            raise
        finally:
            self._session.opened(-1)
            request.finish()

    def _undo(self, handle: WriteHandle[W], request: Request) -> None:
        """Roll back; what the transaction showed, it showed."""
        end = getattr(handle, "end", None)
        if end is not None:
            ended(end, lambda: request)
            self.saw(handle.seen())
        handle.rollback()


class AsyncWrite(_Writing, Generic[W]):
    """One asynchronous write block. Thread-safety: one task; enter it once. Cancelled during its commit, it is in doubt."""

    __slots__ = ()

    _store: AsyncAdmitting
    _handle: AsyncWriteHandle[W] | None

    async def __aenter__(self) -> W:
        shard = self._enclosing()
        leader = await self._store._leader(shard)
        handle: AsyncWriteHandle[W]
        try:
            handle = await self._store._admit(self._requested(shard, leader))
        except NoEndpoint:
            heir = await self._store._leader(shard) if self._store._live is not None else leader
            if heir == leader:
                raise
            handle = await self._store._admit(self._requested(shard, heir))
        self._handle = handle
        self._entered()
        return handle.connection

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        handle, request = self._handle, self._request
        if handle is None or request is None:
            return
        self._handle = None
        self._left()
        sent = done = False
        try:
            deps = self._concluded(handle, request, commits=kind is None)
            if kind is not None:
                await self._undo(handle, request)
                return
            sent = True
            self.commit = commit = await handle.commit(deps)
            done = True
            self._acknowledged(commit, request)
        except BaseException as error:
            if not sent or request.settles(error, done=done):  # what the gate itself is in doubt of was never sent
                await self._undo(handle, request)
            raise
        finally:
            self._session.opened(-1)
            request.finish()

    async def _undo(self, handle: AsyncWriteHandle[W], request: Request) -> None:
        """Roll back; what the transaction showed, it showed."""
        if await aended(handle, request):
            self.saw(handle.seen())
        await handle.rollback()
