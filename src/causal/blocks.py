"""The blocks that users write: `with session.read() as db`, `async with session.write() as tx`.

Owns what happens when a block begins and ends, and which reads belong to which write block. The loops that admit a block are in
`store.py` and `async_store.py`.
"""

from __future__ import annotations

import asyncio
import os
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from causal.core.decision import bears_out
from causal.core.policy import ReadPolicy
from causal.ending import aended, ended
from causal.errors import ConfigError, StoreError
from causal.grant import Grant
from causal.repeat import AsyncRepeated, Repeated
from causal.request import Request
from causal.transaction import shows, still_covered

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from causal.core.frontier import Frontier
    from causal.core.receipt import Receipt
    from causal.engine import AsyncReadHandle, AsyncWriteHandle, Link, ReadHandle, WriteHandle
    from causal.session import SessionState
    from causal.state import StoreState

R = TypeVar("R")
W = TypeVar("W")
T = TypeVar("T")


class Admitting(Protocol):
    """What a block asks of its store."""

    _state: StoreState
    _live: Link[Any, Any] | None

    def _leader(self, shard: int) -> str: ...
    def _admit(self, request: Request) -> Any: ...


class AsyncAdmitting(Protocol):
    """What an asynchronous block asks of its store."""

    _state: StoreState

    async def _leader(self, shard: int) -> str: ...
    async def _admit(self, request: Request, block: AsyncRead[Any] | None = None) -> Any: ...


def _here() -> object:
    """Return who runs: the process, and the task inside an event loop, else the thread.

    Contexts are copied into threads, child tasks and forked processes: that must not make a block theirs.
    """
    task = asyncio.current_task() if asyncio._get_running_loop() is not None else None
    return os.getpid(), threading.get_ident() if task is None else task


async def _at_once(value: T) -> T:
    return value


class _Block:
    """What all four blocks share."""

    __slots__ = ("_request", "_session", "_shard", "_store")

    _request: Request | None

    def __init__(self, store: Any, session: SessionState, shard: str | None) -> None:
        self._store = store
        self._session = session
        self._shard = shard
        self._request = None

    @property
    def receipt(self) -> Receipt:
        """The account of this block. Raises: ConfigError before the block was entered."""
        if self._request is None:
            raise ConfigError("a receipt exists once the block was entered")
        return self._request.receipt()

    def _saw(self, seen: Frontier) -> None:
        if seen:
            self._session.join(seen, own=False, now=self._store._state.wall)


class _Reading(_Block):
    __slots__ = ("_handle", "_policy")

    _handle: Any

    def __init__(self, store: Any, session: SessionState, shard: str | None, policy: ReadPolicy | None) -> None:
        self._store = store
        self._session = session
        self._shard = shard
        self._request = None
        self._policy = policy
        self._handle = None

    def _lost(self, handle: Any, error: BaseException) -> StoreError | None:
        """Note an endpoint that failed underway, so that the next try goes round it; return that as an error, if it is not one yet."""
        request, blame = self._request, getattr(handle, "blame", None)
        lost: StoreError | None = None if blame is None or isinstance(error, StoreError) else blame(error)
        failure = error if lost is None else lost
        if isinstance(failure, StoreError) and request is not None and request.serve is not None:
            request.store.failed(request.serve.endpoint, failure, request.store.number_now())
        return lost

    def _begin(self) -> Any:
        """Return the connection of the write block that this read is inside of, or None after making the request."""
        state: StoreState = self._store._state
        shard = state.only if self._shard is None and state.only is not None else state.shard(self._shard)
        blocks = _blocks.get()
        if blocks:
            for block in blocks:
                if block.concerns(state, self._session, shard):
                    policy = state.chosen(self._policy)
                    self._request = inner = Request(state, self._session, shard, policy, kind="read")
                    block.shows(inner)
                    return block.connection
        self._request = Request(state, self._session, shard, state.chosen(self._policy), kind="read")
        return None


class Read(_Reading, Repeated, Generic[R]):
    """One read block. Thread-safety: one thread; enter it once."""

    __slots__ = ("_grant",)

    _store: Admitting
    _handle: ReadHandle[R] | None
    _grant: Grant | None

    def __enter__(self) -> R:
        store, session = self._store, self._session
        state = store._state
        shard = state.only if self._shard is None and state.only is not None else state.shard(self._shard)
        grant: Grant | None = session.grants.get(shard)
        if (
            grant is not None
            and grant.link is store._live
            and grant.view is state.view
            and grant.version == session.version
            and self._policy is None
            and not _blocks.get()
        ):
            serve = grant.serve
            try:
                handle: ReadHandle[R] = grant.link.read(serve.endpoint, grant.shards)
            except (StoreError, ConfigError):
                pass  # the gate will find out again, and go round it; or open a closed store
            else:
                marks = handle.watermarks
                if (serve.borne_out is marks or bears_out(serve, marks)) and state.monotonic() <= grant.fresh_until:
                    if not state.used:
                        state.use()
                    self._handle = handle
                    self._grant = grant
                    return handle.connection
                granted = grant.accounts(Request(state, session, shard, state.policy, kind="read"))
                if granted.accepts(marks):
                    return self._serves(granted, handle, shard)
                handle.close()
        self._grant = None
        inside: R | None = self._begin()
        if inside is not None:
            return inside
        request = self._request
        assert request is not None
        return self._serves(request, store._admit(request), shard)

    def _serves(self, request: Request, handle: ReadHandle[R], shard: int) -> R:
        self._request, self._grant, self._handle = request, None, handle
        if (
            request.common and self._policy is None and (link := self._store._live) is not None
        ):  # it may be closed meanwhile
            assert request.serve is not None
            self._session.grants[shard] = Grant(request, request.serve, link)
        return handle.connection

    @property
    def receipt(self) -> Receipt:
        """The account of this block. Raises: ConfigError before the block was entered."""
        return self._account().receipt()

    def _account(self) -> Request:
        request = self._request
        if request is None:
            if getattr(self, "_grant", None) is None:
                raise ConfigError("a receipt exists once the block was entered")
            state = self._store._state
            self._request = request = Request(state, self._session, state.shard(self._shard), state.policy, kind="read")
            assert self._grant is not None
            self._grant.accounts(request)
        return request

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        handle = self._handle
        if handle is None:
            return  # inside a write block: the transaction is not ours to end
        self._handle = None
        lost = None
        if error is not None:
            self._account()
            lost = self._lost(handle, error)
        try:
            end = getattr(handle, "end", None)
            if end is not None:
                ended(end, self._account)
            self._session.join(handle.seen(), own=False, now=self._store._state.wall)
        finally:
            handle.close()
            if self._grant is None or self._store._state.on_receipt is not None:
                self._account().finish()
        if lost is not None:
            raise lost from error


class AsyncRead(_Reading, AsyncRepeated, Generic[R]):
    """One asynchronous read block. Thread-safety: one task; enter it once. A cancelled block leaves nothing behind."""

    __slots__ = ()

    _store: AsyncAdmitting
    _handle: AsyncReadHandle[R] | None

    def __aenter__(self) -> Coroutine[Any, Any, R]:  # no coroutine of its own: many wait
        inside: R | None = self._begin()
        if inside is not None:
            return _at_once(inside)
        assert self._request is not None
        return self._store._admit(self._request, self)

    async def __aexit__(self, _: object, error: BaseException | None, *__: object) -> None:
        handle, request = self._handle, self._request
        if handle is None or request is None:
            return
        self._handle = None
        lost = None if error is None else self._lost(handle, error)
        try:
            await aended(handle, request)
            self._saw(handle.seen())
        finally:
            try:
                await handle.close()
            finally:
                request.finish()
        if lost is not None:
            raise lost from error


class _Writing(_Block):
    __slots__ = ("_handle", "_owner", "_wait_s")

    _handle: Any

    def __init__(self, store: Any, session: SessionState, shard: str | None, wait_s: float | None) -> None:
        super().__init__(store, session, shard)
        self._wait_s = wait_s
        self._handle = None
        self._owner: object = None

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
        if any(block.concerns(state, self._session, shard) for block in _blocks.get()):
            raise ConfigError("already inside a write block of this session on this shard")
        return shard

    def _requested(self, shard: int, leader: str) -> Request:
        state: StoreState = self._store._state
        policy = state.write_policy if self._wait_s is None else ReadPolicy(self._wait_s, then="error")
        self._request = Request(state, self._session, shard, policy, kind="write", at=leader)
        return self._request

    def _entered(self) -> None:
        self._owner = _here()
        # Those that were left in another context, as frameworks do, are still listed in this one.
        blocks = _blocks.get()
        _blocks.set((*(block for block in blocks if block._handle is not None), self) if blocks else (self,))

    def _left(self) -> None:
        # Set, not reset: a context variable's token is of no use in another context, and blocks may end in any order.
        _blocks.set(tuple(block for block in _blocks.get() if block is not self))

    def _concluded(self, handle: Any, request: Request, *, commits: bool) -> Frontier:
        """Join what the block showed, and return what its write depends on. Raises: GateTimeout if its leader lacks some of that (I9)."""
        seen: Frontier = handle.seen()
        deps = request.dependencies(seen) if commits else seen
        moved = self._session.version != request.version  # in this order: what is learned from here on is not in `deps`
        self._saw(seen)  # whatever becomes of the write, it was shown
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
        handle: WriteHandle[W] = self._store._admit(self._requested(shard, self._store._leader(shard)))
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
            commit = handle.commit(deps)
            done = True
            self._session.acknowledged(commit, request.store.wall())
            request.committed(commit)
        except BaseException as error:
            if not sent or request.settles(error, done=done):  # what the gate itself is in doubt of was never sent
                self._undo(handle, request)
            raise
        finally:
            request.finish()

    def _undo(self, handle: WriteHandle[W], request: Request) -> None:
        """Roll back; what the transaction showed, it showed."""
        end = getattr(handle, "end", None)
        if end is not None:
            ended(end, lambda: request)
            self._saw(handle.seen())
        handle.rollback()


class AsyncWrite(_Writing, Generic[W]):
    """One asynchronous write block. Thread-safety: one task; enter it once. Cancelled during its commit, it is in doubt."""

    __slots__ = ()

    _store: AsyncAdmitting
    _handle: AsyncWriteHandle[W] | None

    async def __aenter__(self) -> W:
        shard = self._enclosing()
        handle: AsyncWriteHandle[W] = await self._store._admit(self._requested(shard, await self._store._leader(shard)))
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
            commit = await handle.commit(deps)
            done = True
            self._session.acknowledged(commit, request.store.wall())
            request.committed(commit)
        except BaseException as error:
            if not sent or request.settles(error, done=done):  # what the gate itself is in doubt of was never sent
                await self._undo(handle, request)
            raise
        finally:
            request.finish()

    async def _undo(self, handle: AsyncWriteHandle[W], request: Request) -> None:
        """Roll back; what the transaction showed, it showed."""
        if await aended(handle, request):
            self._saw(handle.seen())
        await handle.rollback()


_blocks: Final[ContextVar[tuple[_Writing, ...]]] = ContextVar("causal_write_blocks", default=())
