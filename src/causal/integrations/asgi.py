"""ASGI: a middleware that gives each request its session, and each response its token.

Owns when a response's beginning is let go. Imports no framework, and works in any: FastAPI, Starlette, Litestar, Quart, a bare callable.

    app = CausalMiddleware(app, store, subject=lambda scope: ...)         # around everything
    app.add_middleware(CausalMiddleware, store=store, subject=...)        # or among others, as Starlette and FastAPI have it
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from causal.context import Carried, carrying
from causal.errors import ConfigError
from causal.integrations.cookies import Cookies
from causal.integrations.counting import Counters, Event
from causal.integrations.refusals import Refusal, Replay, refusal_of
from causal.integrations.responses import Exchange, Hold, Refusals, Rules

if TYPE_CHECKING:
    from causal.async_store import AsyncCausalStore
    from causal.claims import Claims
    from causal.core.frontier import Frontier
    from causal.integrations.headers import Fields
    from causal.store import CausalStore

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

__all__ = ["CausalMiddleware", "Cookies", "Counters", "Event", "Replay"]

_CARRIES: Final = "causal.store"
_PAUSE_S: Final = 0.001
_PAUSE_MAX_S: Final = 0.01
_LAST: Final = frozenset({"http.response.body", "http.response.pathsend", "http.response.zerocopysend"})
_BEFORE: Final = frozenset({"http.response.push", "http.response.early_hint", "http.response.debug"})
"""What may come before a response's first bytes and has nothing to do with its header fields."""


class _Rules(Rules):
    def route_of(self, facts: Any) -> str:
        return getattr(facts.get("route"), "path", None) or str(facts.get("path", ""))

    def method(self, facts: Any) -> str:
        return str(facts.get("method", "GET")).upper()

    def field(self, facts: Any, name: str) -> str:
        raw = name.encode("latin-1")
        for key, value in facts["headers"]:
            if key == raw:
                return bytes(value).decode("latin-1")
        return ""


class CausalMiddleware:
    """Gives each HTTP request and WebSocket its session (`causal.current_session()`), and each response the token of what changed.

    Args:
        app: the application that it wraps.
        store: a `CausalStore` or an `AsyncCausalStore`; `current_session(other)` is the same session at another.
        subject: a plain function of the ASGI scope that returns whose request it is, as the login says; asked when the session is first
            used. None: nobody is told apart, as with a site that has no login.
        cookies: how cookies are named and marked; None: no cookies, neither read nor set.
        header: whether the header `Causal-Token` is read, and given. A client that presents only that gets no cookies.
        refusals: "respond" makes answers of what the gate refuses (503, 409, 500; 400 for a token, where the policy raises then);
            "raise" leaves the error to whoever is further out.
        replay: the header by which a proxy is told to ask another site, as `("fly-replay", "region={site}")`, or a `Replay`.
        site: which site this process is at; by default the engine's.
        hold: "writing" lets a complete response wait while a write block of its session is open; "always" lets each one wait for which a
            session was made, until the application has returned, and so for its background tasks; "never" waits for nothing.
        hold_s: how long at most.
        on_event: told of everything that is counted, in the thread where it happens.

    Units: seconds. Raises: ConfigError. Thread-safety: as many requests as there are; `counters` may be read from any thread.
    """

    def __init__(
        self,
        app: App,
        store: CausalStore[Any, Any] | AsyncCausalStore[Any, Any],
        *,
        subject: Callable[[Scope], str | None] | None = None,
        cookies: Cookies | None = Cookies(),  # noqa: B008 - immutable
        header: bool = True,
        refusals: Refusals = "respond",
        replay: Replay | tuple[Any, ...] | None = None,
        site: str | None = None,
        hold: Hold = "writing",
        hold_s: float = 5.0,
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        if not hold_s >= 0:
            raise ConfigError(f"hold_s is a number of seconds, not {hold_s!r}")
        self.app = app
        self._hold_s = hold_s
        self._rules = _Rules(
            store,
            subject=subject,
            cookies=cookies,
            header=header,
            refusals=refusals,
            hold=hold if hold_s else "never",
            replay=replay,
            site=site,
            on_event=on_event,
        )

    @property
    def counters(self) -> Counters:
        """What has happened so far."""
        return self._rules.counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Anything but HTTP and WebSocket passes through."""
        kind = scope["type"]
        rules = self._rules
        if kind not in {"http", "websocket"} or scope.get(_CARRIES) is rules.store:
            await self.app(scope, receive, send)
            return
        tokens: list[str] = []
        cookies: list[str] = []
        for name, value in scope["headers"]:
            if name == b"cookie":
                cookies.append(value.decode("latin-1"))
            elif name == b"causal-token" and rules.header:
                tokens.append(value.decode("latin-1"))
        exchange = Exchange(rules, scope, tokens, cookies)
        carried = Carried(exchange)
        out = (_Response if kind == "http" else _Accepted)(self, exchange, carried, scope, send)
        outer = scope.get(_CARRIES)
        scope[_CARRIES] = rules.store  # added twice, by two hands, it does its work once
        try:
            with carrying(carried):
                try:
                    await self.app(scope, receive, out.send)
                except Exception as error:
                    if not await out.failed(error):
                        raise
                else:
                    await out.returned()
                finally:
                    out.over()
        finally:
            scope[_CARRIES] = outer
            exchange.ended(carried)


class _Out:
    """What an application sends, on its way to the server."""

    __slots__ = ("carried", "exchange", "middleware", "scope", "server")

    def __init__(
        self, middleware: CausalMiddleware, exchange: Exchange, carried: Carried[Claims], scope: Scope, server: Send
    ) -> None:
        self.middleware = middleware
        self.exchange = exchange
        self.carried = carried
        self.scope = scope
        self.server = server

    def _carrying(self, message: Message) -> Message:
        """Return a message that begins a response, with the token that is to be in it."""
        fields: Fields = [
            (bytes(k).decode("latin-1"), bytes(v).decode("latin-1")) for k, v in message.get("headers") or ()
        ]
        out = self.exchange.reply(self.carried, fields)
        if out is None:
            return message
        return {**message, "headers": [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in out]}

    async def _answer(self, refusal: Refusal, start: str, body: str) -> None:
        fields = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in refusal.fields]
        await self.server({"type": start, "status": refusal.status, "headers": fields})
        await self.server({"type": body, "body": refusal.body})

    def _refusal(self, error: Exception) -> Refusal | None:
        """Return the answer to make of an error, if it is a refusal and answers are to be made of those."""
        refused = refusal_of(error)
        if refused is None or self.exchange.rules.refusals == "raise":
            return None
        return self.exchange.refuse(self.carried, refused)


class _Response(_Out):
    """An HTTP response. Its beginning waits for its first bytes, and, held, for what the application still does."""

    __slots__ = ("begun", "held", "own", "start", "watch")

    def __init__(
        self, middleware: CausalMiddleware, exchange: Exchange, carried: Carried[Claims], scope: Scope, server: Send
    ) -> None:
        super().__init__(middleware, exchange, carried, scope, server)
        self.begun = False
        self.start: Message | None = None
        self.held: list[Message] | None = None
        self.own: Frontier | None = None
        self.watch: asyncio.Task[None] | None = None

    async def send(self, message: Message) -> None:
        """Take what the application sends."""
        if self.held is not None:
            self.held.append(message)
        elif self.begun or message["type"] in _BEFORE:
            await self.server(message)
        elif message["type"] == "http.response.start":
            self.start = message
        elif self.start is not None and message["type"] in _LAST and self._waits(message):
            self.held = [message]
            self.own = None if self.carried.begun is None else self.carried.begun.own
            if self.start["status"] < 500:
                self.exchange.rules.counters.count("held", self.exchange.route)
            self._watching()
        else:
            await self._begin()
            await self.server(message)

    async def _begin(self) -> None:
        start, self.start = self.start, None
        self.begun = True
        if start is not None:
            carried = self.carried
            # The common case, spelled out: nobody asked for a session, and nothing is to be folded.
            plain = carried.begun is None and not self.exchange.many
            if plain:
                self.exchange.gone = True
            await self.server(start if plain else self._carrying(start))

    def _waits(self, message: Message) -> bool:
        """Return whether a response, now that its body begins, is to wait: it is complete, and something is still to come."""
        assert self.start is not None
        late = self.exchange.waits(self.carried, self.exchange.rules.hold)
        if not late and self.start["status"] < 500:  # else: whoever made that of an error may be about to pass it on
            return False
        return not message.get("more_body", False) or self._whole(message)

    def _whole(self, message: Message) -> bool:
        """Return whether the first of several messages holds the whole body, as its length says: what only passes on sends so."""
        assert self.start is not None
        body = message.get("body")
        if body is None:
            return False
        for name, value in self.start.get("headers") or ():
            if name.lower() == b"content-length":
                return bool(value.isdigit()) and len(body) >= int(value)
        return False

    # --- held ----------------------------------------------------------------------------------------------------------

    def _watching(self) -> None:
        """Let the response go when the block is closed or the time is up, whatever the application then still does.

        Where no asyncio loop runs, it goes when the application has returned.
        """
        if asyncio._get_running_loop() is not None:
            self.watch = asyncio.get_running_loop().create_task(self._watched(), name="causal hold")

    async def _watched(self) -> None:
        loop = asyncio.get_running_loop()
        until, pause_s = loop.time() + self.middleware._hold_s, _PAUSE_S
        session = self.carried.begun
        closes = session is not None and session.writing and self.exchange.rules.hold == "writing"
        while (left_s := until - loop.time()) > 0 and not (closes and session is not None and not session.writing):
            await asyncio.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 1.5, _PAUSE_MAX_S)
        await self._release()

    async def _release(self) -> None:
        """Send what was held, in its order, and what the application adds meanwhile."""
        if self.held is None:
            return
        if not self.begun:
            await self._begin()
        while self.held:
            await self.server(self.held.pop(0))
        self.held = None

    async def _settled(self) -> None:
        """End the watch; if it is sending just now, let it."""
        watch, self.watch = self.watch, None
        if watch is None:
            return
        if self.begun:
            await watch
        else:
            watch.cancel()

    async def returned(self) -> None:
        """The application has returned: nothing more will come."""
        await self._settled()
        await self._release()
        if self.start is not None:
            await self._begin()

    async def failed(self, error: Exception) -> bool:
        """The application has raised: answer, if nothing was sent yet. Return whether that settles it."""
        await self._settled()
        if self.begun:
            await self._release()
            return False
        if self.held is not None and refusal_of(error) is None and isinstance(error.__cause__, Exception):
            error = error.__cause__  # as a framework has it that would have answered, had the response not gone
        refusal = self._refusal(error)
        if refusal is None and self._stands():
            await self._release()
            return False
        settled = refusal is not None
        if refusal is None and refusal_of(error) is None:
            refusal = self.exchange.fail(self.carried)
        if refusal is not None:
            self.begun, self.held = True, None
            await self._answer(refusal, "http.response.start", "http.response.body")
        return settled

    def _stands(self) -> bool:
        """Return whether what was held is to be sent although the application then raised.

        If it speaks of an error itself, or what it waited for was committed first. What says that all is well must not be sent of a
        write that failed after it.
        """
        if self.held is None or self.start is None:
            return False
        session = self.carried.begun
        waited = self.exchange.rules.hold == "writing" and session is not None and session.own is self.own
        return self.start["status"] >= 500 or not waited

    def over(self) -> None:
        """Leave no task behind, however it ended."""
        if self.watch is not None:
            self.watch.cancel()


class _Accepted(_Out):
    """A WebSocket: its handshake's response is the only one that can carry a token."""

    __slots__ = ("accepted", "closed")

    def __init__(
        self, middleware: CausalMiddleware, exchange: Exchange, carried: Carried[Claims], scope: Scope, server: Send
    ) -> None:
        super().__init__(middleware, exchange, carried, scope, server)
        self.accepted = self.closed = False

    async def send(self, message: Message) -> None:
        """Take what the application sends."""
        if message["type"] in {"websocket.accept", "websocket.http.response.start"} and not self.accepted:
            self.accepted = True
            message = self._carrying(message)
        elif message["type"] == "websocket.close":
            self.closed = True
        await self.server(message)

    async def returned(self) -> None:
        """The application has returned."""

    async def failed(self, error: Exception) -> bool:
        """The application has raised: refuse the handshake, or close what was opened. Return whether that settles it."""
        refused = refusal_of(error)
        if self.closed or refused is None or self.exchange.rules.refusals == "raise":
            return False
        if not self.accepted and "websocket.http.response" in (self.scope.get("extensions") or {}):
            refusal = self._refusal(error)
            assert refusal is not None
            await self._answer(refusal, "websocket.http.response.start", "websocket.http.response.body")
            return True
        self.exchange.rules.counters.count("refused", self.exchange.route, type(refused).__name__)
        again = refused.http_status == 503
        await self.server(
            {"type": "websocket.close", "code": 1013 if again else 1011, "reason": type(refused).__name__}
        )
        return True

    def over(self) -> None:
        """Nothing is held."""
