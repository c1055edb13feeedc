"""The account of one page: what was read, written, called and queued so that it is right. It is shown at the page's foot."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from causal import Receipt


NOTHING_AGAINST: Final = ("covers", "is only asked")


@attrs.frozen
class Line:
    """One thing that was done. Units: `waited_ms` in milliseconds. Thread-safety: immutable."""

    kind: str
    """"read", "write", "cache", "search", "service" or "job"."""
    what: str
    where: str = ""
    how: str = ""
    demanded: int | None = None
    waited_ms: int | None = None
    why: str = ""

    @classmethod
    def of(cls, kind: str, what: str, receipt: Receipt | Mapping[str, Any], where: str = "") -> Line:
        """Return what a receipt tells: of this process, or, as plain values, of a service."""
        told = receipt if not hasattr(receipt, "as_dict") else receipt.as_dict()
        against = "; ".join(f"{name}: {why}" for name, why in told["considered"] if not why.startswith(NOTHING_AGAINST))
        return cls(
            kind,
            what,
            where + (told["endpoint"] or "nowhere"),
            told["how"],
            told["demand"],
            round(told["waited_s"] * 1000),
            against,
        )

    def noting(self, why: str) -> Line:
        """Return the line with something more to say."""
        return attrs.evolve(self, why=f"{why}. {self.why}" if self.why else why)


def packed(message: str, lines: Iterable[Line]) -> str:
    """Return what a form did as a cookie's value, for the page that it leads to."""
    data = json.dumps([message, [attrs.astuple(line) for line in lines]], separators=(",", ":"))
    return base64.urlsafe_b64encode(data.encode()).decode().rstrip("=")


def unpacked(value: str | None) -> tuple[str, list[Line]]:
    """Undo `packed`; what is no such value did nothing."""
    if not value:
        return "", []
    try:
        message, lines = json.loads(base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)))
        return str(message), [Line(*line) for line in lines]
    except (ValueError, TypeError):
        return "", []
