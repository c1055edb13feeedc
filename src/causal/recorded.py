"""The blocks of a session that is recorded: those of `blocks.py`, with an account of what they showed and wrote.

Owns when a block's account is taken. A session that is not recorded never meets these.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from causal.blocks import AsyncRead, Read
from causal.errors import CommitUnknown
from causal.write_blocks import AsyncWrite, Write

if TYPE_CHECKING:
    from collections.abc import Callable

    from causal.engine import KeyVersion
    from causal.request import Request
    from causal.trail import Trail

R = TypeVar("R")
W = TypeVar("W")
P = ParamSpec("P")


def _never_theirs(account: Callable[Concatenate[_Note, P], None]) -> Callable[Concatenate[_Note, P], None]:
    """Count an account that cannot be taken: an engine's mistake in it must not make a committed write look failed."""

    @wraps(account)
    def taken(note: _Note, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            account(note, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - see above
            note._trail.recorder.unrecorded(error)

    return taken


class _Note:
    """The account of one block, from before it is entered. Thread-safety: one thread or task."""

    __slots__ = ("_handle", "_shown", "_started", "_traced", "_trail")

    def __init__(self, trail: Trail) -> None:
        self._trail = trail
        self._started = trail.start()
        self._shown: dict[tuple[int, str], KeyVersion] = {}
        self._handle: Any = None
        self._traced = False

    def opened(self, handle: Any) -> Any:
        """Have a handle tell what it shows, if it can; return the connection to read through."""
        self._handle = handle
        self._trace()
        return handle.connection

    @_never_theirs
    def _trace(self) -> None:
        trace = getattr(self._handle, "trace", None)
        if trace is not None:
            trace(self._tell)
            self._traced = True

    @_never_theirs
    def _tell(self, shown: KeyVersion) -> None:
        # More than can wait are dropped, all of the block: none need be kept for that.
        if len(self._shown) <= self._trail.recorder.max_pending:
            self._shown.setdefault((shown.shard, shown.key), shown)  # one snapshot: it cannot show another later

    @_never_theirs
    def refused(self, request: Request | None, error: BaseException) -> None:
        """Account for a block that could not be entered; what was asked wrongly, and never became a request, is not the history's."""
        if request is not None and isinstance(error, Exception):
            how = {"how": "refused", "held": False, "at": round(request.store.wall(), 6)}
            self._trail.refused(self._started, request.kind, request.shard, how)

    @_never_theirs
    def left(self, request: Request) -> None:
        """Account for a read block that has ended."""
        self._ends()
        if self._traced:
            self._trail.answered(self._started, self._shared(request, request.how), self._shown.values())
        else:
            self._trail.recorder.unseen()

    def known(self) -> int:
        """Return what has been answered before a write block ends: its write depends on that."""
        return self._trail.start()[1]

    @_never_theirs
    def written(self, request: Request, known: int, *, sent: bool, error: BaseException | None) -> None:
        """Account for a write block that has ended: committed, refused, or in doubt; rolled back by its user, it wrote nothing."""
        self._ends()
        handle = self._handle
        if not self._traced or not hasattr(handle, "written"):
            self._trail.recorder.unseen()
            return
        shown = self._shared(request, "transaction") | {"held": request.held or request.refused is not None}
        self._trail.answered(self._started, shown, self._shown.values())
        if sent:
            ok = _outcome(error)
            how = self._shared(request, request.how)
            start = (self._started[0], known)
            self._trail.answered(start, how, (), handle.written(), ok=ok, known=self._floor(known))

    def _floor(self, known: int) -> int:
        """Return the floor of what was written: with this block's reads, unless others were answered in between."""
        now = self._trail.start()[1]
        return now if now == known + len(self._shown) else known

    def _ends(self) -> None:
        ends = [
            (shard, origin, end)
            for shard, mark in self._handle.watermarks.items()
            for origin, (_, end) in mark.origins.items()
            if end is not None
        ]
        if ends:
            self._trail.recorder.ended(ends)

    def _shared(self, request: Request, how: str) -> dict[str, Any]:
        mark = self._handle.watermarks.get(request.shard)
        serve = request.serve
        return {
            **({"endpoint": serve.endpoint} if serve is not None else {}),
            **(
                {"watermark": {str(o): applied for o, (applied, _) in mark.origins.items()}} if mark is not None else {}
            ),
            "how": how,
            "held": request.held,
            "at": round(request.store.wall(), 6),
        }


def _outcome(error: BaseException | None) -> bool | None:
    """Return what became of a write that was sent: None where it may have happened all the same."""
    if error is None:
        return True
    return None if isinstance(error, CommitUnknown) or not isinstance(error, Exception) else False


class RecordedRead(Read[R]):
    """A read block that leaves a trail. Thread-safety: as `Read`."""

    __slots__ = ("_note",)

    def __enter__(self) -> R:
        assert self._session.trail is not None
        self._note = _Note(self._session.trail)
        try:
            connection = super().__enter__()
        except BaseException as error:
            self._note.refused(self._request, error)
            raise
        return connection if self._handle is None else self._note.opened(self._handle)

    def __exit__(self, kind: object, error: BaseException | None, *rest: object) -> None:
        if self._handle is None:
            return  # inside a write block: its account has it
        try:
            super().__exit__(kind, error, *rest)
        finally:
            self._note.left(self._account())


class AsyncRecordedRead(AsyncRead[R]):
    """An asynchronous read block that leaves a trail. Thread-safety: as `AsyncRead`."""

    __slots__ = ("_note",)

    async def __aenter__(self) -> R:
        assert self._session.trail is not None
        self._note = _Note(self._session.trail)
        try:
            connection: R = await super().__aenter__()
        except BaseException as error:
            self._note.refused(self._request, error)
            raise
        return connection if self._handle is None else self._note.opened(self._handle)

    async def __aexit__(self, kind: object, error: BaseException | None, *rest: object) -> None:
        if self._handle is None or self._request is None:
            return
        try:
            await super().__aexit__(kind, error, *rest)
        finally:
            self._note.left(self._request)


class RecordedWrite(Write[W]):
    """A write block that leaves a trail. Thread-safety: as `Write`."""

    __slots__ = ("_note",)

    def __enter__(self) -> W:
        assert self._session.trail is not None
        self._note = _Note(self._session.trail)
        try:
            super().__enter__()
        except BaseException as error:
            self._note.refused(self._request, error)
            raise
        connection: W = self._note.opened(self._handle)
        return connection

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._handle is None or self._request is None:
            return
        known = self._note.known()
        try:
            super().__exit__(kind, *rest)
        except BaseException as error:
            self._note.written(self._request, known, sent=kind is None, error=error)
            raise
        self._note.written(self._request, known, sent=kind is None, error=None)


class AsyncRecordedWrite(AsyncWrite[W]):
    """An asynchronous write block that leaves a trail. Thread-safety: as `AsyncWrite`."""

    __slots__ = ("_note",)

    async def __aenter__(self) -> W:
        assert self._session.trail is not None
        self._note = _Note(self._session.trail)
        try:
            await super().__aenter__()
        except BaseException as error:
            self._note.refused(self._request, error)
            raise
        connection: W = self._note.opened(self._handle)
        return connection

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._handle is None or self._request is None:
            return
        known = self._note.known()
        try:
            await super().__aexit__(kind, *rest)
        except BaseException as error:
            self._note.written(self._request, known, sent=kind is None, error=error)
            raise
        self._note.written(self._request, known, sent=kind is None, error=None)
