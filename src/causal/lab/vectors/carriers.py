"""Answers the vectors of `carriers.json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

OPS: Final[Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]] = {}
