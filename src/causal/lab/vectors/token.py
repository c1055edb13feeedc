"""Answers the vectors of `token.json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from causal.errors import UnknownKey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from causal.errors import CausalError


def evidence(error: CausalError) -> dict[str, Any]:
    """Return what the errors of this area carry."""
    return {"key_id": error.key_id} if isinstance(error, UnknownKey) else {}


OPS: Final[Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]] = {}
