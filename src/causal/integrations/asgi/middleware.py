"""The ASGI middleware itself: its settings, and one request from beginning to end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from causal.context import Carried, carrying
from causal.errors import ConfigError
from causal.integrations.asgi.response import Response
from causal.integrations.asgi.sending import App, ASGIRules, Receive, Scope, Send
from causal.integrations.asgi.socket import Socket
from causal.integrations.cookies import Cookies
from causal.integrations.responses import Exchange
from causal.integrations.rules import Hold, Refusals

if TYPE_CHECKING:
    from collections.abc import Callable

    from causal.async_store import AsyncCausalStore
    from causal.integrations.counting import Counters, Event
    from causal.integrations.refusals import Replay
    from causal.store import CausalStore

_CARRIES: Final = "causal.store"


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
        hold: "open" lets a complete response wait while a block of its session is open; "always" lets each one wait for which a
            session was made, until the application has returned, and so for its background tasks; "never" waits for nothing.
        hold_s: how long at most; a quarter of a second where all that is open only reads.
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
        hold: Hold = "open",
        hold_s: float = 5.0,
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        if not hold_s >= 0:
            raise ConfigError(f"hold_s is a number of seconds, not {hold_s!r}")
        self.app = app
        self._rules = ASGIRules(
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
        self._rules.hold_s = hold_s

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
        out = (Response if kind == "http" else Socket)(exchange, carried, scope, send)
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
