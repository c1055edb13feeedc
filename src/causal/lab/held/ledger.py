"""What one run came to: the same bookkeeping for a simulated run and for a real one, so that only the runs can differ.

Owns what is counted. It is told what each client was answered, and how; anomalies are counted by `causal.lab.audit`, from values.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from causal.lab.audit import Audit

if TYPE_CHECKING:
    from collections.abc import Callable

    from causal.lab.audit import Rank

MEASURES: Final = (
    "reads",
    "writes",
    "stale",
    "backward",
    "acausal",
    "read_mean_ms",
    "read_p50_ms",
    "read_p99_ms",
    "write_p99_ms",
    "waits",
    "at_leader",
    "away",
    "refused",
)
"""What is compared. Units: operations, milliseconds."""


class Ledger:
    """The bookkeeping of one run; `answered` hears of each operation that ends. Thread-safety: none."""

    def __init__(self, answered: Callable[[int], object] = lambda _: None) -> None:
        self.audit = Audit()
        self.reads_s: list[float] = []
        self.writes_s: list[float] = []
        self.waits = self.at_leader = self.away = self.refused = 0
        self._answered = answered

    def read(self, session: str, key: int, identity: int | None, took_s: float, how: str) -> None:
        """Note a read: the identity of the write that it showed, or None for nothing; and how it was served."""
        self.audit.read(session, str(key), identity)
        self.reads_s.append(took_s)
        self.at_leader += how in {"leader", "fallback"}
        self._answered(1)

    def wrote(self, session: str, key: int, identity: int, rank: Rank, took_s: float) -> None:
        """Note a write, and how the store ranks it."""
        self.audit.wrote(session, str(key), identity, rank)
        self.writes_s.append(took_s)
        self._answered(1)

    def refuse(self) -> None:
        """Note an operation that was refused."""
        self.refused += 1
        self._answered(1)

    def figures(self) -> dict[str, float]:
        """Return what was counted, by the names of MEASURES."""
        counts, reads_s = self.audit.counts, sorted(self.reads_s)
        return {
            "reads": counts.reads,
            "writes": counts.writes,
            "stale": counts.stale,
            "backward": counts.non_monotonic,
            "acausal": counts.out_of_causal_order,
            "read_mean_ms": _ms(math.fsum(reads_s) / len(reads_s) if reads_s else 0.0),
            "read_p50_ms": _ms(_quantile(reads_s, 0.5)),
            "read_p99_ms": _ms(_quantile(reads_s, 0.99)),
            "write_p99_ms": _ms(_quantile(sorted(self.writes_s), 0.99)),
            "waits": self.waits,
            "at_leader": self.at_leader,
            "away": self.away,
            "refused": self.refused,
        }


def _quantile(ordered: list[float], q: float) -> float:
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 6)
