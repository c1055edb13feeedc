"""WSGI: a middleware that gives each request its session, and each response its token.

Owns when a response's beginning is let go. Imports no framework, and works in any: Flask, Django, Pyramid, Bottle, a bare callable.

    app.wsgi_app = CausalMiddleware(app.wsgi_app, store, subject=lambda environ: ...)      # Flask
    application = CausalMiddleware(application, store, subject=...)                        # any other
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from causal.context import Carried, carrying
from causal.errors import CausalError
from causal.integrations.cookies import Cookies
from causal.integrations.counting import Counters, Event, log
from causal.integrations.refusals import Refusal, Replay, answer, refusal_of
from causal.integrations.responses import Exchange, current_exchange
from causal.integrations.rules import Hold, Refusals, Rules

if TYPE_CHECKING:
    from causal.claims import Claims
    from causal.integrations.headers import Fields
    from causal.store import CausalStore

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
App = Callable[[Environ, StartResponse], Iterable[bytes]]

__all__ = ["CausalMiddleware", "Cookies", "Counters", "Event", "Replay", "refused"]

_CARRIES: Final = "causal.store"
_UNPREFIXED: Final = frozenset({"content-type", "content-length"})


class _Rules(Rules):
    def route_of(self, facts: Any) -> str:
        rule = getattr(facts.get("werkzeug.request"), "url_rule", None)  # Flask's, if it is one
        return getattr(rule, "rule", None) or f"{facts.get('SCRIPT_NAME', '')}{facts.get('PATH_INFO', '')}"

    def method(self, facts: Any) -> str:
        return str(facts.get("REQUEST_METHOD", "GET")).upper()

    def field(self, facts: Any, name: str) -> str:
        return str(facts.get(f"HTTP_{name.upper().replace('-', '_')}", ""))


class CausalMiddleware:
    """Gives each request its session (`causal.current_session()`), and each response the token of what changed.

    Args:
        app: the application that it wraps.
        store: a `CausalStore` (or an `AsyncCausalStore`); `current_session(other)` is the same session at another.
        subject: a function of the WSGI environment that returns whose request it is, as the login says; asked when the session is first
            used. None: nobody is told apart, as with a site that has no login.
        cookies: how cookies are named and marked; None: no cookies, neither read nor set.
        header: whether the header `Causal-Token` is read, and given. A client that presents only that gets no cookies.
        refusals: "respond" makes answers of what the gate refuses (503, 409, 500; 400 for a token, where the policy raises then);
            "raise" leaves the error to whoever is further out. A framework that makes its own answers of all errors needs `refused`.
        replay: the header by which a proxy is told to ask another site, as `("fly-replay", "region={site}")`, or a `Replay`.
        site: which site this process is at; by default the engine's.
        hold: "open" has a complete response wait for its application's end while a block of its session is open; "always" each
            one for which a session was made; "never" none.
        on_event: told of everything that is counted, in the thread where it happens.

    Raises: ConfigError. Thread-safety: as many requests as there are; `counters` may be read from any thread.
    """

    def __init__(
        self,
        app: App,
        store: CausalStore[Any, Any],
        *,
        subject: Callable[[Environ], str | None] | None = None,
        cookies: Cookies | None = Cookies(),  # noqa: B008 - immutable
        header: bool = True,
        refusals: Refusals = "respond",
        replay: Replay | tuple[Any, ...] | None = None,
        site: str | None = None,
        hold: Hold = "open",
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        self.app = app
        self._rules = _Rules(
            store,
            subject=subject,
            cookies=cookies,
            header=header,
            refusals=refusals,
            hold=hold,
            replay=replay,
            site=site,
            on_event=on_event,
        )

    @property
    def counters(self) -> Counters:
        """What has happened so far."""
        return self._rules.counters

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        rules = self._rules
        outer = environ.get(_CARRIES)
        if outer is rules.store:  # added twice, by two hands, it does its work once
            return self.app(environ, start_response)
        token, cookie = environ.get("HTTP_CAUSAL_TOKEN"), environ.get("HTTP_COOKIE")
        exchange = Exchange(
            rules, environ, (token,) if token is not None and rules.header else (), (cookie,) if cookie else ()
        )
        response = _Response(exchange, Carried(exchange), environ, start_response)
        environ[_CARRIES] = rules.store
        try:
            return response.run(self.app)
        finally:
            environ[_CARRIES] = outer


class _Response:
    """One response: its beginning waits for its first bytes, and, held, for the end of what the application does.

    The session is in the context only while the application's own code runs: servers use a thread for one request after another, and
    take the chunks of several in turns.
    """

    __slots__ = ("begun", "carried", "environ", "exchange", "kept", "server", "server_write", "start")

    def __init__(
        self, exchange: Exchange, carried: Carried[Claims], environ: Environ, start_response: StartResponse
    ) -> None:
        self.exchange = exchange
        self.carried = carried
        self.environ = environ
        self.server = start_response
        self.start: tuple[str, Fields] | None = None
        self.begun = False
        self.kept: list[bytes] = []
        """What was written, and is to wait."""
        self.server_write: Callable[[bytes], object] | None = None

    def run(self, app: App) -> Iterable[bytes]:
        """Call the application, and return what the server is to send."""
        with carrying(self.carried):
            try:
                result = app(self.environ, self.start_response)
            except BaseException as error:
                refusal = None if self.begun or not isinstance(error, Exception) else self.answer_to(error)
                if refusal is None:
                    self.exchange.ended(self.carried)
                    raise
                return [refusal.body]
            if not self.begun and self.start is not None and self._computed(result):
                self.begin()
            if self.kept:
                kept, self.kept = self.kept, []
                self.begin()
                for chunk in kept:
                    self._write_on(chunk)
            if self.begun and self._computed(result):
                self.exchange.ended(self.carried)
                return result
        return _Body(self, result)

    def _computed(self, result: Iterable[bytes]) -> bool:
        """Return whether no code of the application runs any more, and the server may want to know what it is that it sends."""
        wrapper = self.environ.get("wsgi.file_wrapper")
        return isinstance(result, (list, tuple)) or (isinstance(wrapper, type) and isinstance(result, wrapper))

    def start_response(self, status: str, headers: Fields, exc_info: Any = None) -> Callable[[bytes], object]:
        """Take the beginning of a response. Raises: what `exc_info` says, where a beginning has gone already."""
        try:
            if exc_info is not None and self.begun:
                self.server(status, headers, exc_info)
                raise exc_info[1].with_traceback(exc_info[2])
            if exc_info is None and self.start is not None:
                raise AssertionError("start_response is called once, or again with exc_info")
        finally:
            exc_info = None  # a traceback that refers to its own frame
        self.start = (status, list(headers))
        return self.write

    def write(self, data: bytes) -> None:
        """Take what is written before the application returns, as old ones do."""
        if self.kept:
            self.kept.append(data)
        elif self.begun or data:
            if not self.begun:
                if self.waits(data):
                    self.kept.append(data)
                    return
                self.begin()
            self._write_on(data)

    def _write_on(self, data: bytes) -> None:
        assert self.server_write is not None
        self.server_write(data)

    def waits(self, chunk: bytes) -> bool:
        """Return whether a response, now that its body begins, is to wait: it is complete, and something is still to come."""
        if self.start is None or not self.exchange.waits(self.carried, self.exchange.rules.hold):
            return False
        for name, value in self.start[1]:
            if name.lower() == "content-length":
                whole = value.strip().isdigit() and len(chunk) >= int(value)
                if whole:
                    self.exchange.rules.counters.count("held", self.exchange.route)
                return whole
        return False

    def begin(self) -> None:
        """Let the beginning go, with the token that is to be in it."""
        if self.begun:
            return
        if self.start is None:
            raise AssertionError("the application has not called start_response")
        self.begun = True
        status, fields = self.start
        out = self.exchange.reply(self.carried, fields)
        self.server_write = self.server(status, fields if out is None else _titled(out))

    def answer_to(self, error: Exception) -> Refusal | None:
        """Begin the answer to an error, if one is to be made of it, and return it; else None."""
        refused = refusal_of(error)
        refusal: Refusal | None = None
        if refused is None:
            refusal = self.exchange.fail(self.carried)
            if refusal is not None:
                # The server does not come to see it: what it would have logged, we do.
                log.error("the application failed: %s", type(error).__name__, exc_info=error)
                if (errors := self.environ.get("wsgi.errors")) is not None:
                    traceback.print_exception(error, file=errors)
        elif self.exchange.rules.refusals == "respond":
            refusal = self.exchange.refuse(self.carried, refused)
        if refusal is not None:
            self.begun = True
            self.server(f"{refusal.status} {refusal.reason}", _titled(refusal.fields))
        return refusal


class _Body:
    """What the server takes chunks of. Closed once, whatever the server does."""

    __slots__ = ("_accounted", "_chunks", "_closed", "_over", "_ready", "_response", "_result")

    def __init__(self, response: _Response, result: Iterable[bytes]) -> None:
        self._response = response
        self._result = result
        self._chunks: Iterator[bytes] | None = None
        self._ready: list[bytes] = []
        self._over = self._closed = self._accounted = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._ready:
            if self._over:
                raise StopIteration
            response = self._response
            with carrying(response.carried):
                if response.begun and self._chunks is not None:
                    return next(self._chunks)
                self._ready = self._first()
            if not self._ready:
                raise StopIteration
        return self._ready.pop(0)

    def _first(self) -> list[bytes]:
        """Return the first chunk that is not empty, after the response has begun; or all, with the application's end awaited."""
        response = self._response
        try:
            self._chunks = iter(self._result)
            for chunk in self._chunks:
                if not chunk:
                    continue
                if response.begun:
                    return [chunk]
                if not response.waits(chunk):
                    response.begin()
                    return [chunk]
                kept = [chunk, *filter(None, self._chunks)]
                self._over = True
                self._end()
                response.begin()
                return kept
            self._over = True
            self._end()
            response.begin()
        except Exception as error:
            if response.begun or (refusal := response.answer_to(error)) is None:
                raise
            self._over = True
            self._end()
            return [refusal.body] if refusal.body else []
        return []

    def _end(self) -> None:
        if not self._closed:
            self._closed = True
            close = getattr(self._result, "close", None)
            if close is not None:
                close()

    def close(self) -> None:
        """End the application's own iterable, if that has not been done, and account for what came too late."""
        response = self._response
        try:
            with carrying(response.carried):
                self._end()
        finally:
            if not self._accounted:
                self._accounted = True
                response.exchange.ended(response.carried)


def _titled(fields: Fields) -> Fields:
    """Return header fields with names as WSGI's own tools write them, where they are ours."""
    return [(name.title() if name.islower() else name, value) for name, value in fields]


def refused(error: CausalError) -> tuple[bytes, int, Fields]:
    """Return the answer to a refusal, as a view's result: for frameworks that make answers of all errors themselves.

    Flask: `app.register_error_handler(GateError, refused)`, and the same for `TokenError` and `Unreachable`. The middleware then adds the
    token. Raises: the error, if no answer of its own is to be made of it.
    """
    found = refusal_of(error)
    exchange = current_exchange()
    if found is None or (exchange is not None and exchange[0].rules.refusals == "raise"):
        raise error
    refusal = answer(found) if exchange is None else exchange[0].refusal(exchange[1], found)
    fields = [(name, value) for name, value in refusal.fields if name != "content-length"]
    return refusal.body, refusal.status, _titled(fields)
