"""The session of what runs now: one request, or one job.

Owns the one context variable. What it holds is one mutable object, made where the request began: frameworks copy contexts into threads
and tasks, and what is set in a copy does not come back, but what is changed in the object does.

HAZARD: a task or thread that is started during one request and serves others too, as a pool's or a cache's own, keeps the context that
it was started in: to `current_session()` there, everybody is that request's user. Start such things before the first request.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, TypeVar, overload

from causal.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from causal.claims import Claims, Sharing

C = TypeVar("C", bound="Claims")
S = TypeVar("S")
T = TypeVar("T")
P = ParamSpec("P")


class Carried(Generic[C]):
    """The session of one request or job, made when it is first asked for: who needs none pays for none.

    Thread-safety: safe from any thread.
    """

    __slots__ = ("_lock", "_make", "_making", "_session")

    def __init__(self, make: Callable[[], C]) -> None:
        self._make = make
        self._making = False
        self._session: C | None = None
        self._lock = threading.RLock()  # whoever makes it and asks for it is told so, instead of waiting for himself

    @property
    def session(self) -> C:
        """The session. Raises: what making it raises, each time; ConfigError to whoever is asked while it is made, and asks for it."""
        session = self._session
        if session is not None:
            return session
        with self._lock:
            if self._session is None:
                if self._making:
                    raise ConfigError(
                        "what the session is made of (its subject, on_event) asked for the session itself"
                    )
                self._making = True
                try:
                    self._session = self._make()
                finally:
                    self._making = False
            return self._session

    @property
    def begun(self) -> C | None:
        """The session, if anybody has asked for it yet."""
        return self._session

    @property
    def made_by(self) -> Callable[[], C]:
        """What makes the session."""
        return self._make

    def begin(self, session: C) -> None:
        """Carry this session, unless another was asked for already: for whoever must answer although none could be made."""
        with self._lock:
            if self._session is None:
                self._session = session


_carried: Final[ContextVar[Carried[Any] | None]] = ContextVar("causal_carried", default=None)


def carried() -> Carried[Any] | None:
    """Return what this context carries, if it does."""
    return _carried.get()


@contextmanager
def carrying(what: Carried[C] | None) -> Iterator[Carried[C] | None]:
    """Carry a session in this context, until the block ends; None: carry none."""
    before = _carried.get()
    _carried.set(what)
    try:
        yield what
    finally:
        _carried.set(before)  # set, not reset: a context variable's token is of no use in another context


@overload
def current_session() -> Any: ...
@overload
def current_session(store: Sharing[S]) -> S: ...
def current_session(store: Sharing[Any] | None = None) -> Any:
    """Return the session of the request or job that runs now: the one that the middleware, or the worker's task class, has begun.

    With a store, the same session at that store (`session.at`), synchronous or asynchronous.
    Raises: ConfigError outside of all requests and jobs, and in a thread that was not given the context (see `propagate`).
    """
    what = _carried.get()
    if what is None:
        raise ConfigError(
            "no request or job carries a session here: is the middleware installed? A thread of one's own is given the session "
            "with causal.propagate(fn)"
        )
    return what.session if store is None else what.session.at(store)


def propagate(fn: Callable[P, T]) -> Callable[P, T]:
    """Return `fn` as a function that runs with the session of who calls `propagate` now: for thread pools, which know no context.

    It may run many times, at once, in any thread. Only the session is carried over, no other context variable, and no open write block.
    A coroutine function may be awaited anywhere.
    Raises: ConfigError for a generator function, whose code would run with the session of whoever takes from it.
    """
    what = _carried.get()
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise ConfigError(
            "propagate takes a function that runs when it is called: propagate what takes from the generator"
        )
    if inspect.iscoroutinefunction(fn):

        @wraps(fn)
        async def carries_over(*args: P.args, **kwargs: P.kwargs) -> Any:
            with carrying(what):
                return await fn(*args, **kwargs)

        return carries_over  # type: ignore[return-value]

    @wraps(fn)
    def carries(*args: P.args, **kwargs: P.kwargs) -> T:
        with carrying(what):
            return fn(*args, **kwargs)

    return carries
