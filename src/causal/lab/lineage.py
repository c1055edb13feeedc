"""Lineage: which requests, of all that several processes recorded, are one session.

Owns how requests become sessions. A recorder names each request (a session object) and says which tokens it was given and which it gave
out (`causal.trail`). Whoever presents a token was promised everything that had been answered before that token was given out: so the
request goes on where the other had come to. Two requests of one user without a token between them were promised nothing of each other, and
stay apart; so do those whose token came from a process whose file is missing.

Requests that present the same token at the same time fork a session. The longest line of requests is the session's trunk; the others are
numbered behind it, each of their operations after what the trunk had come to when they left it, and in no order otherwise. What was
promised along such a branch itself is judged in a second history, in which each line of requests is a session.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence


@attrs.define(eq=False)
class Request:
    """One session object: where its lines are, what it was given and gave out, and where it was put."""

    name: str
    places: array[int] = attrs.field(factory=lambda: array("Q"))
    seqs: array[int] = attrs.field(factory=lambda: array("q"))
    lines: array[int] = attrs.field(factory=lambda: array("Q"))
    ats: array[float] = attrs.field(factory=lambda: array("d"))
    last: int = 0
    first_at: float | None = None
    given: tuple[str, ...] | None = None
    issued: list[tuple[int, str, float]] = attrs.field(factory=list)
    parent: tuple[Request, int] | None = None
    children: list[tuple[int, Request]] = attrs.field(factory=list)
    weight: int = 0
    line: list[Request] = attrs.field(factory=list)
    base: int = 0

    @property
    def who(self) -> str:
        """The digest of the subject, or "-"."""
        return self.name.partition(".")[0] if "." in self.name else "-"


def trees(requests: Sequence[Request]) -> tuple[list[Request], int]:
    """Give each request the one that it goes on from, and the line of requests that it belongs to.

    Returns the first request of each tree, and how many requests brought only tokens that nobody here gave out. Complexity: linear, but
    for requests that presented one token, times the depth of their tree.
    """
    strangers = 0
    issuers: dict[str, list[tuple[float, int, Request]]] = {}
    for request in requests:
        for seq, token, at in request.issued:
            issuers.setdefault(token, []).append((at, seq, request))
    for request in requests:
        found = [issue for token in request.given or () for issue in issuers.get(token, ()) if issue[2] is not request]
        if request.given and not found:
            strangers += 1
        at = request.first_at if request.first_at is not None else float("inf")
        before = [issue for issue in found if issue[0] <= at] or found
        for _, seq, parent in sorted(before, key=lambda issue: issue[:2], reverse=True):
            if not _descends(parent, request):
                request.parent = parent, seq
                parent.children.append((seq, request))
                break
    roots = [request for request in requests if request.parent is None]
    for root in roots:
        _lines(root)
    return roots, strangers


def _descends(request: Request, ancestor: Request) -> bool:
    """Return whether a request goes on, at some remove, from another."""
    while request is not ancestor:
        if request.parent is None:
            return False
        request = request.parent[0]
    return True


def tree(root: Request) -> list[Request]:
    """Return a tree's requests, parents before children."""
    order = [root]
    for request in order:
        order.extend(child for _, child in request.children)
    return order


def _lines(root: Request) -> None:
    """Divide a tree into lines: each request is followed by the heaviest that goes on from its very end."""
    order = tree(root)
    for request in reversed(order):
        request.weight = len(request.places) + sum(child.weight for _, child in request.children)
    for request in order:
        if not request.line:
            request.line = [request]
        following = [child for seq, child in request.children if seq >= request.last]
        if following:
            heaviest = max(following, key=lambda child: child.weight)
            heaviest.line = request.line
            request.line.append(heaviest)


def bare(requests: Sequence[Request]) -> int:
    """Return how many requests brought no token whose subject had been given one."""
    given: dict[str, float] = {}
    for request in requests:
        for _, _, at in request.issued:
            given[request.who] = min(at, given.get(request.who, at))
    return sum(
        not request.given
        and request.who != "-"
        and request.first_at is not None
        and request.first_at > given.get(request.who, request.first_at)
        for request in requests
    )
