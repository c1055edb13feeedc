"""Answers the vectors of `histories.json`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from causal.lab.checker import check
from causal.lab.checking.findings import GUARANTEES
from causal.lab.history import HistoryError, parse_history

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from causal.errors import CausalError

NAMES: Final = dict(zip(GUARANTEES, ("ryw", "mr", "mw", "wfr", "cc", "ccv", "cm", "lost"), strict=True))
"""What the specification calls each guarantee."""


def evidence(error: CausalError) -> dict[str, Any]:
    """Return what the errors of this area carry."""
    return {"line": error.line} if isinstance(error, HistoryError) else {}


def _check(given: Mapping[str, Any]) -> dict[str, Any]:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in given["history"]]
    history = parse_history((f"{text}\n".encode() for text in texts), "history")
    report = check(history, mode=given["mode"], held_only=given.get("held", False), witnesses=False)
    return {NAMES[verdict.guarantee]: verdict.state for verdict in report.verdicts}


OPS: Final[Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]] = {"history.check": _check}
