"""An HTTP response under ASGI: when its beginning may go.

Owns that alone. A response that is complete waits while a block of its session is open: frameworks commit after they have sent it. One
that streams does not wait; what only passes messages on cuts a complete one into two, so the first of them waits for a moment.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from causal.integrations.asgi.sending import ASGIRules, Message, Out, Scope, Send, listed
from causal.integrations.refusals import refusal_of

if TYPE_CHECKING:
    from causal.claims import Claims
    from causal.context import Carried
    from causal.core.frontier import Frontier
    from causal.integrations.responses import Exchange

_PAUSE_S: Final = 0.001
_PAUSE_MAX_S: Final = 0.01
_UNSURE_S: Final = 0.05
"""How long the first bytes of a response wait for the next message, while a block is open: what follows at once was one response."""
_READS_S: Final = 0.25
"""How long blocks are waited for that only read: what they show is of less use to the next page than this one is now."""
_UNSURE: Final = 4
"""Of how many messages it takes one response: what compresses one that came in two parts makes three of them."""
_LAST: Final = frozenset({"http.response.body", "http.response.pathsend", "http.response.zerocopysend"})
_BEFORE: Final = frozenset({"http.response.push", "http.response.early_hint", "http.response.debug"})
"""What may come before a response's first bytes and has nothing to do with its header fields."""


class Response(Out):
    """An HTTP response. Its beginning waits for its first bytes, and, held, for what the application still does.

    Thread-safety: one task at a time, and the watch that it starts in the same loop.
    """

    __slots__ = ("begun", "held", "own", "start", "unsure", "watch")

    def __init__(self, exchange: Exchange, carried: Carried[Claims], scope: Scope, server: Send) -> None:
        super().__init__(exchange, carried, scope, server)
        self.begun = False
        self.start: Message | None = None
        self.held: list[Message] | None = None
        self.unsure = False
        """Whether it is held only until it shows whether more follows."""
        self.own: Frontier | None = None
        self.watch: asyncio.Task[None] | None = None

    async def send(self, message: Message) -> None:
        """Take what the application sends."""
        if self.held is not None:
            self.held.append(message)
            if self.unsure:
                if message.get("more_body", False) and not self.begun and len(self.held) < _UNSURE:
                    return
                self.unsure = False
                if message.get("more_body", False):
                    await self._settled()
                    await self._release()
                else:
                    self._counted()
        elif self.begun or message["type"] in _BEFORE:
            await self.server(message)
        elif message["type"] == "http.response.start":
            self.start = listed(message)
        elif self.start is not None and message["type"] in _LAST and self._waits(message):
            self.held = [message]
            session = self.carried.begun
            self.own = session.own if session is not None and session.writing else None
            self.unsure = bool(message.get("more_body", False)) and not self._whole(message)
            if not self.unsure:
                self._counted()
            self._watching(session)
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
            await self.server(start if plain else self.carrying_token(start))

    def _waits(self, message: Message) -> bool:
        """Return whether a response, now that its body begins, is to wait: it is complete, or may be, and something is still to come."""
        assert self.start is not None
        late = self.exchange.waits(self.carried, self.exchange.rules.hold)
        if not late and self.start["status"] < 500:  # else: whoever made that of an error may be about to pass it on
            return False
        return not message.get("more_body", False) or self._whole(message) or asyncio._get_running_loop() is not None

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

    def _counted(self) -> None:
        if self.start is not None and self.start["status"] < 500:
            self.exchange.rules.counters.count("held", self.exchange.route)

    # --- held ----------------------------------------------------------------------------------------------------------

    def _watching(self, session: Claims | None) -> None:
        """Let the response go when the block is closed or the time is up, whatever the application then still does.

        Where no asyncio loop runs, it goes when the application has returned.
        """
        if asyncio._get_running_loop() is not None:
            # Looked at now: a block may be closed before the task runs for the first time.
            closes = session if session is not None and (session.writing or session.reading) else None
            closes = None if self.exchange.rules.hold == "always" else closes
            brief = not self.exchange.waits(
                self.carried, self.exchange.rules.hold
            )  # whoever passes its error on does so at once
            self.watch = asyncio.get_running_loop().create_task(self._watched(closes, brief), name="causal hold")

    async def _watched(self, closes: Claims | None, brief: bool) -> None:
        loop = asyncio.get_running_loop()
        began, pause_s = loop.time(), _PAUSE_S
        hold_s = cast("ASGIRules", self.exchange.rules).hold_s
        while closes is None or closes.writing or closes.reading:
            reads = closes is not None and not closes.writing
            most_s = _UNSURE_S if self.unsure or brief else _READS_S if reads else hold_s
            left_s = began + min(most_s, hold_s) - loop.time()
            if left_s <= 0:
                break
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
        refusal = self.refusal(error)
        if refusal is None and self._stands():
            await self._release()
            return False
        settled = refusal is not None
        if refusal is None and refusal_of(error) is None:
            refusal = self.exchange.fail(self.carried)
        if refusal is not None:
            self.begun, self.held = True, None
            await self.answer(refusal, "http.response.start", "http.response.body")
        return settled

    def _stands(self) -> bool:
        """Return whether what was held is to be sent although the application then raised.

        If it speaks of an error itself, or what it waited for was committed first. What says that all is well must not be sent of a
        write that failed after it.
        """
        if self.held is None or self.start is None:
            return False
        session = self.carried.begun
        failed = self.own is not None and session is not None and session.own is self.own
        return self.start["status"] >= 500 or not failed

    def over(self) -> None:
        """Leave no task behind, however it ended."""
        if self.watch is not None:
            self.watch.cancel()
