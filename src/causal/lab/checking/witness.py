"""The smallest story that shows a violation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from causal.lab.checking.findings import Violation
    from causal.lab.checking.model import Model


@attrs.frozen
class Witness:
    """Operations, as the fields of their lines, and a sentence."""

    operations: tuple[dict[str, Any], ...]
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"operations": list(self.operations), "sentence": self.sentence}


def witness(model: Model, guarantee: str, violation: Violation, *, held_only: bool) -> Witness:
    """Return the witness of a violation."""
    ops = sorted(set(violation.ops))
    return Witness(tuple({"line": model.history.line[i], **model.history.fields(i)} for i in ops), guarantee)
