"""The read blocks that users write: `with session.read() as db`, `async with session.read() as db`.

Owns what happens when one begins and ends. Write blocks are in `write_blocks.py`, the loops that admit both in `store.py` and
`async_store.py`.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from causal.core.decision import UNCHECKED, bears_out
from causal.core.endpoint import NEVER
from causal.core.frontier import Frontier
from causal.ending import aended, ended
from causal.errors import ConfigError, StoreError
from causal.grant import Grant
from causal.repeat import AsyncRepeated, Repeated
from causal.request import Request

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from causal.core.policy import ReadPolicy
    from causal.core.receipt import Receipt
    from causal.core.watermark import Watermark
    from causal.engine import AsyncLink, AsyncReadHandle, Link, ReadHandle
    from causal.session import SessionState
    from causal.state import StoreState

R = TypeVar("R")
T = TypeVar("T")

_NOTHING: Final = Frontier()


class Admitting(Protocol):
    """What a block asks of its store."""

    _state: StoreState
    _live: Link[Any, Any] | None

    def _leader(self, shard: int) -> str: ...
    def _admit(self, request: Request) -> Any: ...


class AsyncAdmitting(Protocol):
    """What an asynchronous block asks of its store."""

    _state: StoreState
    _live: AsyncLink[Any, Any] | None

    async def _leader(self, shard: int) -> str: ...
    async def _admit(self, request: Request, block: AsyncRead[Any] | None = None) -> Any: ...


async def _at_once(value: T) -> T:
    return value


class Enclosing(Protocol):
    """A write block that a read may be inside of."""

    @property
    def is_open(self) -> bool:
        """Whether it has begun, and not ended."""

    @property
    def connection(self) -> Any:
        """What it writes through."""

    def concerns(self, state: StoreState, session: SessionState, shard: int) -> bool:
        """Return whether a read of this shard by this session, here and now, belongs to its transaction."""

    def shows(self, inner: Request) -> None:
        """Let a read go through its transaction. Raises: GateTimeout if that lacks what the read demands."""


enclosing: Final[ContextVar[tuple[Enclosing, ...]]] = ContextVar("causal_write_blocks", default=())
"""The write blocks of this context; `write_blocks.py` alone changes it."""


class Block:
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

    def saw(self, seen: Frontier) -> None:
        """Join what was shown."""
        if seen:
            self._session.join(seen, own=False, now=self._store._state.wall)


class _Reading(Block):
    __slots__ = ("_gone", "_handle", "_policy", "showed")

    _handle: Any
    showed: Frontier
    """What the block showed, known once it has ended: what a copy of it that is kept must tell its readers (I7)."""

    def __init__(self, store: Any, session: SessionState, shard: str | None, policy: ReadPolicy | None) -> None:
        self._store = store
        self._session = session
        self._shard = shard
        self._request = None
        self._policy = policy if policy is not None else session.policy
        self._handle = None
        self._gone: frozenset[str] = frozenset()
        """The endpoints that were lost under an earlier try."""
        self.showed = _NOTHING

    @property
    def watermarks(self) -> Mapping[int, Watermark] | None:
        """What the snapshot holds, by shard id, while the block is open; None inside a write block, which shows what is not committed."""
        handle = self._handle
        return None if handle is None else handle.watermarks

    @property
    def fresh_at(self) -> float:
        """When at the latest everything was acknowledged that the snapshot is shown to hold (I5); -inf if nothing shows it.

        Units: seconds of the store's `monotonic`. It is never later than the moment that the snapshot was asked for.
        """
        request = self._account()
        serve = request.serve
        if serve is None or serve.how in UNCHECKED or request.unproven:
            return NEVER
        return min(serve.known.fresh_at, request.asked_at)

    def _account(self) -> Request:
        if self._request is None:
            raise ConfigError("a receipt exists once the block was entered")
        return self._request

    def _lost(self, handle: Any, error: BaseException) -> StoreError | None:
        """Note an endpoint that failed underway, so that the next try goes round it; return that as an error, if it is not one yet."""
        request, blame = self._request, getattr(handle, "blame", None)
        lost: StoreError | None = None if blame is None or isinstance(error, StoreError) else blame(error)
        failure = error if lost is None else lost
        if isinstance(failure, StoreError) and request is not None and request.serve is not None:
            request.store.failed(request.serve.endpoint, failure, request.store.number_now())
            self._gone |= {request.serve.endpoint}  # it may answer questions all the same
        return lost

    def _begin(self) -> Any:
        """Return the connection of the write block that this read is inside of, or None after making the request."""
        state: StoreState = self._store._state
        shard = state.only if self._shard is None and state.only is not None else state.shard(self._shard)
        blocks = enclosing.get()
        if blocks:
            for block in blocks:
                if block.concerns(state, self._session, shard):
                    policy = state.chosen(self._policy)
                    self._request = inner = Request(state, self._session, shard, policy, kind="read")
                    block.shows(inner)
                    return block.connection
        self._request = Request(state, self._session, shard, state.chosen(self._policy), kind="read")
        self._request.avoided = self._gone
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
            and not self._gone
            and not enclosing.get()
        ):
            serve = grant.serve
            try:
                handle: ReadHandle[R] = grant.link.read(serve.endpoint, grant.shards)
            except (StoreError, ConfigError):
                pass  # the gate will find out again, and go round it; or open a closed store
            else:
                marks = handle.watermarks
                if bears_out(serve, marks, state.view.ends) and state.monotonic() <= grant.fresh_until:
                    if not state.used:
                        state.use()
                    self._handle = handle
                    self._grant = grant
                    session.looking(1)
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
        self._session.looking(1)
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
            self.showed = seen = handle.seen()
            self._session.join(seen, own=False, now=self._store._state.wall)
        finally:
            self._session.looking(-1)
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
            self.showed = seen = handle.seen()
            self.saw(seen)
        finally:
            self._session.looking(-1)
            try:
                await handle.close()
            finally:
                request.finish()
        if lost is not None:
            raise lost from error
