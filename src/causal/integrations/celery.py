"""Celery: a task demands what its publisher knew, is retried with what it has learned, and publishes with that.

Owns the task class, and what is done when a task is published, begins and ends. A message that comes without a token (from the
scheduler, from an older or a foreign publisher) may depend on anything: its task reads at the leader.

HAZARD: Celery's signals know no application: after `publish_by_name` the messages of all of this process's carry tokens, to any broker.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, Final

import attrs
from celery import Task, signals  # type: ignore[import-untyped]
from celery.exceptions import Retry  # type: ignore[import-untyped]

from causal.async_store import AsyncCausalStore
from causal.context import Carried, carried, carrying
from causal.errors import ConfigError
from causal.integrations import work
from causal.integrations.carrier import extract, inject, put
from causal.integrations.work import JOBS, PARTIAL, RETRIED, Consistency
from causal.sealing import text_setting

if TYPE_CHECKING:
    from collections.abc import Callable

    from causal.claims import Claims
    from causal.store import CausalStore

    Subject = str | Callable[[str, Any, Any], str | None] | None

log: Final = logging.getLogger("causal")

_eager: Final[ContextVar[tuple[Carried[Any], Claims] | None]] = ContextVar("causal_eager", default=None)
"""What the last task that ran in place has learned, and for whom: the next link of its chain is published here, and not by it."""


class CausalTask(Task):  # type: ignore[misc]
    """What `causal_task` returns subclasses of. While a task runs, `current_session()` is its session.

    Thread-safety: as Celery's; a session for each run.
    """

    abstract = True
    causal: Consistency = "sticky"
    """How the task's reads are served: `@app.task(causal="always")`, "sticky" or "delayed"."""
    causal_store: ClassVar[Any] = None
    causal_subject: ClassVar[Any] = JOBS
    causal_delay_s: float = 1.0
    """How long a "delayed" task is put off, once, if what it demands is not here yet. Units: seconds."""

    @classmethod
    def on_bound(cls, app: Any) -> None:
        """Check the task's settings. Raises: ConfigError."""
        super().on_bound(app)
        work.consistency(cls.causal)

    # --- publishing ------------------------------------------------------------------------------------------------

    def apply_async(self, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any) -> Any:
        """Publish the task, with what the session of the request or task that runs now demands. Raises: TokenError, and as Celery's."""
        options["headers"] = self._carrying(args, kwargs, options)
        return super().apply_async(args, kwargs, *rest, **options)

    def apply(self, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any) -> Any:
        """Run the task here and now, with a session of its own, as a worker would. Raises: TokenError, and as Celery's."""
        options["headers"] = self._carrying(args, kwargs, options)
        return super().apply(args, kwargs, *rest, **options)

    def signature_from_request(
        self, request: Any = None, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any
    ) -> Any:
        """Return what a retry publishes: it demands what this try has learned, too. Raises: TokenError."""
        request = self.request if request is None else request
        headers = {**(request.headers or {}), **(options.get("headers") or {})}
        whose = (request.args if args is None else args, request.kwargs if kwargs is None else kwargs)
        options["headers"] = self._carrying(*whose, {"headers": headers, "task_id": request.id})
        return super().signature_from_request(request, args, kwargs, *rest, **options)

    def _carrying(self, args: Any, kwargs: Any, options: dict[str, Any]) -> dict[str, Any]:
        """Return a message's headers with the current session's token: beside what the caller put there, in place of a retry's old one."""
        headers: dict[str, Any] = dict(options.get("headers") or {})
        what = carried()
        if what is None:
            return headers
        session = self._learned(what)
        arrived = extract(self.request.headers or {})
        others = [one for one in extract(headers) if one not in arrived]
        text = session.token(subject=self._subject(args, kwargs))
        if text is not None:
            put(",".join(dict.fromkeys([*others, text])), headers)
        if (partial := _partial(what.session, options.get("task_id"))) is not None:
            headers[PARTIAL] = partial
        return headers

    def _learned(self, what: Carried[Any]) -> Any:
        """Return the session that publishes; joined with what a task learned that ran in its place, if one did."""
        last = _eager.get()
        if last is None or last[0] is not what:
            return what.session
        mine, theirs = what.session, last[1]
        both = self._store().session(mine.token(), subject=mine.subject)
        both.join(theirs.own | theirs.seen)
        return both

    # --- running ---------------------------------------------------------------------------------------------------

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Put a "delayed" task off once, if what it demands is not here yet. Raises: Retry."""
        super().before_start(task_id, args, kwargs)
        request = self.request
        if self.causal != "delayed" or request.is_eager or extract(request.headers or {}, name=RETRIED):
            return
        what = carried()
        if what is None or work.is_here(what.session, self._store()):
            return
        again = self.signature_from_request(
            request,
            args,
            kwargs,
            countdown=self.causal_delay_s,
            headers={RETRIED: "1"},
        )
        try:
            again.apply_async()
        except Exception as error:  # noqa: BLE001 - whatever keeps it from being published, it can still run
            log.warning("a task could not be put off, and runs now: %s", type(error).__name__)
            return
        raise Retry("what the task depends on is not here yet", when=self.causal_delay_s, sig=again)

    def _begin(self, args: Any, kwargs: Any) -> Any:
        """Return the session of this run."""
        return work.begin(
            self._store(),
            self.request.headers,
            subject=self._subject(args, kwargs),
            choice=work.consistency(self.causal),
        )

    def _store(self) -> Any:
        store = self.causal_store
        return store() if callable(store) else store

    def _subject(self, args: Any, kwargs: Any) -> str | None:
        subject = self.causal_subject
        if callable(subject):
            subject = subject(self.name, args or (), kwargs or {})
        found: str | None = subject
        return found


def causal_task(
    store: CausalStore[Any, Any] | Callable[[], CausalStore[Any, Any]],
    *,
    subject: Subject = JOBS,
    consistency: Consistency = "sticky",
    delay_s: float = 1.0,
    base: type[Any] = Task,
) -> type[CausalTask]:
    """Return a task class for `Celery(task_cls=...)`, or for `@app.task(base=...)`: its tasks carry sessions of this store.

    `store` may be a function that returns it, for a worker that opens its own. `subject` is whom tokens in messages are sealed for: a
    name that publishers and workers share, or a function of a task's name, args and kwargs, the same for both. `consistency` and
    `delay_s` are what tasks do that do not say (`causal=`, `causal_delay_s=`). `base` is a task class of one's own.

    Raises: ConfigError.
    """
    given: Any = store
    if isinstance(given, AsyncCausalStore) or not (callable(given) or hasattr(given, "session")):
        raise ConfigError("tasks need a CausalStore, or a function that returns one")
    if not callable(subject) and subject is not None:
        text_setting("subject", subject)
    settings = {
        "abstract": True,
        "causal": work.consistency(consistency),
        "causal_store": staticmethod(store) if callable(store) else store,
        "causal_subject": staticmethod(subject) if callable(subject) else subject,
        "causal_delay_s": delay_s,
        "__doc__": CausalTask.__doc__,
        "__module__": __name__,
    }
    bases = (CausalTask,) if base is Task else (CausalTask, base)
    return type("CausalTask", bases, settings)


def publish_by_name(*, subject: Subject = JOBS) -> None:
    """Give tokens to messages that this process publishes by a task's name alone (`app.send_task`), from now on, for all its apps.

    For a process that does not have the tasks' code. Thread-safety: once, at the start. Raises: ConfigError.
    """
    if not callable(subject) and subject is not None:
        text_setting("subject", subject)

    def give(sender: str = "", headers: Any = None, body: Any = None, **_: Any) -> None:
        what = carried()
        if what is None or headers is None or extract(headers):
            return
        args, kwargs = body[:2] if isinstance(body, tuple) else (body.get("args"), body.get("kwargs"))
        inject(what.session, headers, subject=subject(sender, args, kwargs) if callable(subject) else subject)
        if (partial := _partial(what.session, headers.get("id"))) is not None:
            headers[PARTIAL] = partial

    signals.before_task_publish.connect(give, weak=False, dispatch_uid="causal.publish_by_name")


# --- what a run begins and ends with -----------------------------------------------------------------------------------


@attrs.frozen
class _Run:
    """One run of a task, in this thread."""

    task_id: str
    carrier: Any
    what: Carried[Any]
    knows_in_part: bool
    """Whether what it publishes may depend on tasks that it knows nothing of: a chord's body does, on all of its header."""
    outer: _Run | None


_run: Final[ContextVar[_Run | None]] = ContextVar("causal_run", default=None)


def _partial(session: Claims, task_id: str | None) -> str | None:
    """What PARTIAL is to say of a message that is published now: a chord's parts know of each other only in a retry."""
    run = _run.get()
    in_part = run is not None and run.knows_in_part and task_id != run.task_id
    return work.ANYTHING if in_part else work.partial(session)


def _begins(task_id: str = "", task: Any = None, args: Any = None, kwargs: Any = None, **_: Any) -> None:
    if isinstance(task, CausalTask) and task.causal_store is not None:
        block = carrying(what := Carried(lambda: task._begin(args, kwargs)))
        block.__enter__()
        in_part = bool(task.request.chord) or task.name == "celery.chord_unlock"
        _run.set(_Run(task_id, block, what, in_part, _run.get()))


def _ends(task_id: str = "", task: Any = None, **_: Any) -> None:
    run = _run.get()
    if run is None or run.task_id != task_id:
        return
    _run.set(run.outer)
    run.carrier.__exit__(None, None, None)
    publisher = carried()
    if task.request.is_eager and publisher is not None and run.what.begun is not None:
        _eager.set((publisher, run.what.begun))


signals.task_prerun.connect(_begins, weak=False, dispatch_uid="causal.prerun")
signals.task_postrun.connect(_ends, weak=False, dispatch_uid="causal.postrun")
