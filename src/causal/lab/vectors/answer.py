"""This library's answers to vectors: what `causal vectors serve` says.

Owns the envelope of request and answer. What an operation does is in the file of its area.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from causal.errors import CausalError
from causal.lab.vectors import carriers, clock, compaction, failover, frontier, gate, histories, token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

OPS: Final[Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]] = {
    **clock.OPS,
    **frontier.OPS,
    **token.OPS,
    **compaction.OPS,
    **gate.OPS,
    **failover.OPS,
    **carriers.OPS,
    **histories.OPS,
}


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out one request, and return the answer to it: `out`, `error`, or that the operation is not known."""
    envelope: dict[str, Any] = {"id": request.get("id")}
    operation = OPS.get(request.get("op", ""))
    if operation is None:
        return {**envelope, "unsupported": True}
    try:
        return {**envelope, "out": operation(request["in"])}
    except CausalError as error:
        return {**envelope, "error": {"type": type(error).__name__, **_evidence(error)}}


def _evidence(error: CausalError) -> dict[str, Any]:
    """Return what an error carries, as vectors have it."""
    return token.evidence(error) or clock.evidence(error) or histories.evidence(error)


def serve(lines: Iterable[str]) -> Iterator[str]:
    """Answer a JSON object a line, in order, each at once. A line that is no request ends it, with a ValueError."""
    for line in lines:
        request = json.loads(line)
        if not isinstance(request, dict):
            raise ValueError(f"{line.strip()[:200]} is no object")  # noqa: TRY004 - it is the line that is wrong
        try:
            answered = answer(request)
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            raise ValueError(
                f"request {request.get('id')!r} ({request.get('op')!r}) cannot be read: {error!r}"
            ) from error
        yield json.dumps(answered)
