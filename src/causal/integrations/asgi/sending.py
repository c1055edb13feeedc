"""What an ASGI application sends, on its way to the server; and how ASGI's requests are read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from causal.integrations.refusals import Refusal, refusal_of
from causal.integrations.responses import Exchange
from causal.integrations.rules import Rules

if TYPE_CHECKING:
    from causal.claims import Claims
    from causal.context import Carried
    from causal.integrations.headers import Fields

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class ASGIRules(Rules):
    """How ASGI's requests are read, and how long its responses may wait. Thread-safety: the settings never change."""

    hold_s: float

    def route_of(self, facts: Any) -> str:
        """Return the route's pattern where a framework says it, else the path."""
        return getattr(facts.get("route"), "path", None) or str(facts.get("path", ""))

    def method(self, facts: Any) -> str:
        """Return a request's method, in upper case; a WebSocket's handshake is a GET."""
        return str(facts.get("method", "GET")).upper()

    def field(self, facts: Any, name: str) -> str:
        """Return a request's header field; "" if there is none."""
        raw = name.encode("latin-1")
        for key, value in facts["headers"]:
            if key == raw:
                return bytes(value).decode("latin-1")
        return ""


def listed(message: Message) -> Message:
    """Return a message whose header fields may be looked at more than once: ASGI lets them be anything that yields them."""
    headers = message.get("headers")
    return message if headers is None or isinstance(headers, (list, tuple)) else {**message, "headers": list(headers)}


class Out:
    """What an application sends, on its way to the server. Thread-safety: one task at a time."""

    __slots__ = ("carried", "exchange", "scope", "server")

    def __init__(self, exchange: Exchange, carried: Carried[Claims], scope: Scope, server: Send) -> None:
        self.exchange = exchange
        self.carried = carried
        self.scope = scope
        self.server = server

    def carrying_token(self, message: Message) -> Message:
        """Return a message that begins a response, with the token that is to be in it."""
        fields: Fields = [
            (bytes(k).decode("latin-1"), bytes(v).decode("latin-1")) for k, v in message.get("headers") or ()
        ]
        out = self.exchange.reply(self.carried, fields)
        if out is None:
            return message
        return {**message, "headers": [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in out]}

    async def answer(self, refusal: Refusal, start: str, body: str) -> None:
        """Send an answer of our own, by messages of these types."""
        fields = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in refusal.fields]
        await self.server({"type": start, "status": refusal.status, "headers": fields})
        await self.server({"type": body, "body": refusal.body})

    def refusal(self, error: Exception) -> Refusal | None:
        """Return the answer to make of an error, if it is a refusal and answers are to be made of those."""
        refused = refusal_of(error)
        if refused is None or self.exchange.rules.refusals == "raise":
            return None
        return self.exchange.refuse(self.carried, refused)
