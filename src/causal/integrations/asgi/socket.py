"""A WebSocket under ASGI: a token in the answer to its handshake, and what a refusal becomes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from causal.integrations.asgi.sending import Message, Out, Scope, Send, listed
from causal.integrations.refusals import refusal_of

if TYPE_CHECKING:
    from causal.claims import Claims
    from causal.context import Carried
    from causal.integrations.responses import Exchange


class Socket(Out):
    """A WebSocket: its handshake's response is the only one that can carry a token. Thread-safety: one task at a time."""

    __slots__ = ("accepted", "closed")

    def __init__(self, exchange: Exchange, carried: Carried[Claims], scope: Scope, server: Send) -> None:
        super().__init__(exchange, carried, scope, server)
        self.accepted = self.closed = False

    async def send(self, message: Message) -> None:
        """Take what the application sends."""
        if message["type"] in {"websocket.accept", "websocket.http.response.start"} and not self.accepted:
            self.accepted = True
            message = self.carrying_token(listed(message))
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
            refusal = self.refusal(error)
            assert refusal is not None
            await self.answer(refusal, "websocket.http.response.start", "websocket.http.response.body")
            return True
        self.exchange.rules.counters.count("refused", self.exchange.route, type(refused).__name__)
        again = refused.http_status == 503
        await self.server(
            {"type": "websocket.close", "code": 1013 if again else 1011, "reason": type(refused).__name__}
        )
        return True

    def over(self) -> None:
        """Nothing is held."""
