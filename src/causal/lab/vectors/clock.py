"""Answers the vectors of `clock.json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from causal.core import hlc
from causal.errors import ClockDrift

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from causal.errors import CausalError


def evidence(error: CausalError) -> dict[str, Any]:
    """Return what the errors of this area carry."""
    if isinstance(error, ClockDrift):
        return {"remote_ms": error.remote_ms, "wall_ms": error.wall_ms}
    return {}


def _tick(given: Mapping[str, Any]) -> dict[str, Any]:
    last = hlc.START if given["last"] is None else int(given["last"])
    return {"timestamp": str(int(hlc.Timestamp(hlc.tick(last, given["wall_ms"]))))}


OPS: Final[Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]] = {"clock.tick": _tick}
