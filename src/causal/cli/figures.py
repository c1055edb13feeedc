"""The figures of a comparison, whatever it was run on: their names, and what a result shows of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from causal.lab.replay import Result

COLUMNS: Final = {
    "strategy": "Strategy",
    "stale": "Stale",
    "non_monotonic": "Non-mono",
    "out_of_causal_order": "Acausal",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "leader_percent": "Leader %",
    "away_percent": "Away %",
    "waited": "Waits",
    "refused": "Errors",
}


def row(result: Result) -> dict[str, object]:
    """Return a result with the figures that the table shows."""
    return attrs.asdict(result) | {
        "p50_ms": round(result.read_p50_s * 1000, 1),
        "p99_ms": round(result.read_p99_s * 1000, 1),
        "leader_percent": round(result.leader * 100, 1),
        "away_percent": round(result.away * 100, 1),
        "refused": result.refused_reads + result.refused_writes,
    }
