"""Background jobs of any queue: a message is a dictionary that carries what its publisher knows, and a job runs with a session of it.

Owns nothing of a queue. The field lies wherever the queue lets a dictionary through: in the message itself, RQ's `meta`, dramatiq's
`options`, taskiq's `labels`, a JSON column of a table of jobs.
"""

from __future__ import annotations

import inspect
from contextlib import ExitStack, suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from causal.context import Carried, carried, carrying
from causal.errors import ConfigError, GateTimeout
from causal.integrations import work
from causal.integrations.carrier import extract, inject, put
from causal.integrations.work import JOBS, PARTIAL, RETRIED, Consistency

if TYPE_CHECKING:
    from collections.abc import Callable

    from causal.claims import Claims

T = TypeVar("T")
F = TypeVar("F", bound="Callable[..., Any]")


def carry(message: T, session: Claims | None = None, *, subject: str | None = JOBS) -> T:
    """Put what a session demands into a message, in place of any token there, and return the message: before it is published.

    `session` is by default that of the request or job that runs now; without one, the message stays as it is. `subject` is whom the
    token is sealed for: what the worker gives as its own.
    Raises: ConfigError for what is no carrier; TokenError as `session.token`.
    """
    if session is None:
        what = carried()
        if what is None:
            return message
        session = what.session
    inject(session, message, subject=subject)
    put(work.partial(session), message, name=PARTIAL)
    return message


class running:  # noqa: N801 - it is called like a function, as contextlib's are
    """A block that runs a job: inside it `current_session()` is a session that demands what the message says, which the block gives.

    `with` for a CausalStore, `async with` for an AsyncCausalStore. `consistency` is "always", "sticky" or "delayed"; `retried` says
    that the queue has tried the job before. With "delayed", entering raises GateTimeout (`retry_after_s`: when to come again) if what
    is demanded is not here yet, and marks the message, if it can be changed, so that a message that is published again as it then is
    is not put off twice. A message without a token, or with one that cannot be opened, is read for at the leader.

    Entering raises: GateTimeout as said; TokenError only with `bad_token="raise"`. Thread-safety: entered once, in one thread or task.
    """

    def __init__(
        self,
        store: Any,
        message: Any,
        *,
        subject: str | None = JOBS,
        consistency: Consistency = "sticky",
        retried: bool = False,
    ) -> None:
        self._store = store
        self._message = message
        self._subject = subject
        self._choice = work.consistency(consistency)
        self._retried = retried
        self._stack = ExitStack()

    def __enter__(self) -> Any:
        session = self._begun()
        if self._may_wait() and not work.is_here(session, self._store):
            raise self._later()
        return self._entered(session)

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    async def __aenter__(self) -> Any:
        session = self._begun()
        if self._may_wait() and not await work.is_here_async(session, self._store):
            raise self._later()
        return self._entered(session)

    async def __aexit__(self, *exc: object) -> None:
        self._stack.close()

    def _begun(self) -> Any:
        return work.begin(self._store, self._message, subject=self._subject, choice=self._choice)

    def _may_wait(self) -> bool:
        if self._choice != "delayed" or self._retried or self._message is None:
            return False
        return not extract(self._message, name=RETRIED)

    def _later(self) -> GateTimeout:
        with suppress(ConfigError):  # what cannot be changed
            put("1", self._message, name=RETRIED)
        return GateTimeout("what this job depends on is not here yet: run it once more, a little later")

    def _entered(self, session: Any) -> Any:
        self._stack.enter_context(carrying(Carried(lambda: session)))
        return session


def job(
    store: Any,
    *,
    subject: str | Callable[..., str | None] | None = JOBS,
    consistency: Consistency = "sticky",
) -> Callable[[F], F]:
    """Return a decorator for functions, asynchronous too, whose first argument is a message: they run inside `running`.

    `subject` may be a function of the message. Raises: ConfigError.
    """
    work.consistency(consistency)

    def block(message: Any) -> running:
        whose = subject(message) if callable(subject) else subject
        return running(store, message, subject=whose, consistency=consistency)

    def decorate(fn: F) -> F:
        if inspect.iscoroutinefunction(fn):

            @wraps(fn)
            async def runs_async(message: Any, /, *args: Any, **kwargs: Any) -> Any:
                async with block(message):
                    return await fn(message, *args, **kwargs)

            return runs_async  # type: ignore[return-value]

        @wraps(fn)
        def runs(message: Any, /, *args: Any, **kwargs: Any) -> Any:
            with block(message):
                return fn(message, *args, **kwargs)

        return runs  # type: ignore[return-value]

    return decorate
