"""How the last common read of a shard was served: what lets the next one go straight there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from causal.core.gate import Serve
    from causal.engine import Link
    from causal.request import Request


class Grant:
    """How the last read of a shard was served, when that was the common way: the next one may go straight there.

    It holds while nothing that the decision rested on has changed: the session, the view, the link. What makes a read safe is judged
    anew every time: the snapshot's own watermarks, and its freshness. Thread-safety: immutable by convention.
    """

    __slots__ = ("asked", "asked_at", "fresh_until", "link", "serve", "shards", "version", "view")

    def __init__(self, request: Request, serve: Serve, link: Link[Any, Any]) -> None:
        self.version = request.version
        self.view = request.view
        self.serve = serve
        self.shards = (request.shard,)
        self.link = link
        self.fresh_until = serve.known.fresh_at + request.store.max_staleness_s
        # Of a snapshot that is asked for from here on; the view that the grant holds under has nothing newer.
        self.asked, self.asked_at = request.store.numbers, request.asked_at

    def accounts(self, request: Request) -> Request:
        """Let a request's account say that it went this way."""
        request.granted(self.serve, self.view, self.asked, self.asked_at)
        return request
