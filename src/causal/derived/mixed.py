"""Pages of an index in which a session finds what it changed, however far behind the index is.

`mixed` takes the page from the index as it is, and the rows that the session's demand speaks of and the index lacks from the source: it
tries them out in the index's own tables, in a transaction that is then undone. So they are added, corrected, removed and ranked exactly
as if the index had them, and nobody else sees it.

What makes it sound: the index is read first, and what it shows is joined into the session; the source is then read by its gate, so its
snapshot holds all that the session demands and all that the index has; and the changes are tried out in a snapshot of the index that
holds no more than that. So no row of the source is older than what it replaces.

HAZARD: a search that is corrected holds the index's write lock for as long as it takes, a few milliseconds: the feeder waits so long.
"""

from __future__ import annotations

import inspect
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, Self

from causal.blocks import AsyncRead, Read
from causal.derived.page import Mix, Page, Query, known
from causal.errors import ConfigError, GateTimeout
from causal.session import SessionState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable
    from types import TracebackType

    from causal.async_store import AsyncCausalStore, AsyncSession
    from causal.core.policy import ReadPolicy
    from causal.derived.contract import SourceView
    from causal.derived.fts.reader import IndexReader, IndexSnapshot
    from causal.store import CausalStore, Session

__all__ = ["Page", "amixed", "mixed"]

MOST: Final = 1000
"""How many changed keys are looked up for one page, unless the caller says otherwise."""
_TRIES: Final = 4
_ROUNDS: Final = 20
"""How often a page's hits are looked up in the source, each round replacing what the last one found changed."""


def mixed(
    session: Session[Any, Any],
    index: CausalStore[IndexReader, Any],
    source: CausalStore[Any, Any],
    text: str = "",
    *,
    limit: int = 20,
    offset: int = 0,
    order: str = "rank",
    match: str | None = None,
    shard: str | None = None,
    recent: Callable[[Any], Iterable[str]] | None = None,
    policy: ReadPolicy | None = None,
    lag: ReadPolicy | None = None,
    most: int = MOST,
) -> Page:
    """Return a page of an index, with what the session wrote or saw, and the index lacks, taken from the index's source.

    The query is that of `IndexReader.search`. `recent(connection)` returns the keys that the session may have changed of late, read
    through a block of the source: needed where the source cannot list what changed (PostgreSQL), and then each hit is looked up, too.
    `policy` is for the reads of the source. `lag` says how old the index may be for everybody else's rows: its store's policy by
    default, so that it must be shown to be less than `max_staleness_s` old; `ReadPolicy.eventual()` takes it as it is. `most` is how
    many changed keys are looked up at most.

    Raises: as `session.read`; Overloaded for more changed keys; ConfigError where the source cannot list them and `recent` is not given.
    """
    mix = Mix(session._state, index._state, source._state, Query(text, match, order, limit, offset, shard))

    def read_index() -> Any:
        return _Entered(Read(index, SessionState(None), shard, lag))

    def read_source(name: str) -> Any:
        return _Entered(session.read(source, shard=name, policy=policy))

    return _at_once(_mixed(mix, read_index, read_source, recent, most))


async def amixed(
    session: AsyncSession[Any, Any],
    index: AsyncCausalStore[IndexReader, Any],
    source: AsyncCausalStore[Any, Any],
    text: str = "",
    *,
    limit: int = 20,
    offset: int = 0,
    order: str = "rank",
    match: str | None = None,
    shard: str | None = None,
    recent: Callable[[Any], Awaitable[Iterable[str]] | Iterable[str]] | None = None,
    policy: ReadPolicy | None = None,
    lag: ReadPolicy | None = None,
    most: int = MOST,
) -> Page:
    """Return a page of an index, corrected from its source: as `mixed`. `recent` may be a coroutine function."""
    mix = Mix(session._state, index._state, source._state, Query(text, match, order, limit, offset, shard))

    def read_index() -> Any:
        return _Aentered(AsyncRead(index, SessionState(None), shard, lag))

    def read_source(name: str) -> Any:
        return _Aentered(session.read(source, shard=name, policy=policy))

    return await _mixed(mix, read_index, read_source, recent, most)


async def _mixed(
    mix: Mix,
    read_index: Callable[[], Any],
    read_source: Callable[[str], Any],
    recent: Callable[[Any], Any] | None,
    most: int,
) -> Page:
    for attempt in range(_TRIES):
        async with AsyncExitStack() as stack:
            reading = await stack.enter_async_context(read_index())
            snapshot: IndexSnapshot = reading.block._handle.snapshot
            if attempt == _TRIES - 1:  # it was fed each time in between: now who feeds it waits
                snapshot = snapshot.again()
                stack.callback(snapshot.close)
            lacking = mix.lacking(snapshot.checkpoint)
            mix.showed(snapshot.checkpoint)
            if not lacking:
                return mix.page(snapshot.connection, reading.block.receipt)
            views = {}
            blocks = []
            for number, name in lacking.items():
                block = await stack.enter_async_context(read_source(name))
                blocks.append(block)
                views[number] = view = mix.view(number, block.connection)
                changed = await _changed(mix, view, number, block.connection, snapshot, name, recent, most)
                mix.took(number, await _now(view.documents(changed)))
            for _ in range(_ROUNDS):
                trial = snapshot if attempt == _TRIES - 1 else snapshot.again()
                try:
                    if not mix.covers(trial.checkpoint):
                        break
                    hits, total, unknown = mix.corrected(trial)
                    if not unknown:
                        mix.showed(trial.checkpoint)
                        receipts = tuple(block.block.receipt for block in blocks)
                        return Page(tuple(hits), total, reading.block.receipt, receipts, mix.overlaid)
                finally:
                    if trial is not snapshot:
                        trial.close()
                for number, view in views.items():
                    mix.took(number, await _now(view.documents([key for shard, key in unknown if shard == number])))
    raise GateTimeout("the index or its source did not stand still for as long as a page takes: try again")


async def _changed(
    mix: Mix,
    view: SourceView,
    number: int,
    connection: Any,
    snapshot: IndexSnapshot,
    name: str,
    recent: Callable[[Any], Any] | None,
    most: int,
) -> list[str]:
    """Return the keys of a shard that are to be looked up first."""
    mix.applied(number, await _now(view.applied()), listed=recent is None)
    if recent is not None:
        return mix.keys(await _now(recent(connection)))
    changed = await _now(view.changed(mix.since(number), mix.upto(number), known(snapshot, name), most))
    if changed is None:
        raise ConfigError(
            "this source cannot list what a session has changed: recent=... is a function that returns the keys, read through the "
            "connection that it is given"
        )
    return list(changed)


async def _now(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


class _Entered:
    """A synchronous block, entered as an asynchronous one: it never waits for a loop."""

    def __init__(self, block: Any) -> None:
        self.block = block
        self.connection: Any = None

    async def __aenter__(self) -> Self:
        self.connection = self.block.__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.block.__exit__(kind, error, trace)


class _Aentered(_Entered):
    """An asynchronous block, with its connection beside it."""

    async def __aenter__(self) -> Self:
        self.connection = await self.block.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.block.__aexit__(kind, error, trace)


def _at_once(coroutine: Coroutine[Any, Any, Page]) -> Page:
    """Run a coroutine that waits for nothing: one logic for both kinds of store."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        page: Page = done.value
        return page
    finally:
        coroutine.close()
    raise ConfigError("recent is a coroutine function: that needs an asynchronous store, and amixed")
