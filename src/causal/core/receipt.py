"""The account of one gated read or write, as a value. Owns how it is told; `request.py` keeps the account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from causal.core.position import Loss


@attrs.frozen
class Receipt:
    """The machine-readable account of one gated read or write.

    `how` is "covered", "leader", "fallback", "quorum", "bounded", or one of the unchecked "window", "eventual", "stale"; "refused" with the
    error's name in `refused`; "transaction" for a read inside a write block. `held` says whether the session's guarantees held:
    never where a token was ignored, because what it demanded nobody knows.
    `considered` lists every endpoint and what spoke against it. `clipped` are positions of others' lost writes that no longer count.

    Units: seconds. Thread-safety: immutable.
    """

    endpoint: str | None
    how: str
    waited_s: float
    held: bool
    demand: int
    probes: int
    attempts: int
    considered: tuple[tuple[str, str], ...] = ()
    clipped: tuple[Loss, ...] = ()
    reasons: tuple[str, ...] = ()
    unproven: bool = False
    refused: str | None = None
    kind: str = "read"
    policy: str = ""

    def __str__(self) -> str:
        where = f" at {self.endpoint}" if self.endpoint else ""
        text = f"{self.how}: waited {self.waited_s * 1000:.0f} ms{where}" if self.waited_s else f"{self.how}{where}"
        if self.refused:
            text = f"refused ({self.refused}) after {self.waited_s * 1000:.0f} ms"
        if self.unproven:
            text += ", freshness not shown"
        return text if self.held else f"{text}, guarantees not held"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, lost positions as text."""
        return attrs.asdict(self, recurse=False) | {
            "considered": [list(pair) for pair in self.considered],
            "clipped": [str(loss) for loss in self.clipped],
            "reasons": list(self.reasons),
        }
