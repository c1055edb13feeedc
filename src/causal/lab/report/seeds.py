"""Seeds: many small worlds, each under some strategies, looked through for a broken promise.

Owns which faults a seed meets, and the counts over all seeds. Every seed is a world of its own: it can be run alone, in any order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from causal.lab.faults import MIXES, Faults
from causal.lab.planet.small import small_world
from causal.lab.report.failure import Failure, failure_of
from causal.lab.simulator import STRATEGIES, simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from causal.lab.planet.topology import Topology

COLUMNS: Final = {
    "strategy": "Strategy",
    "promises": "Promises",
    "worlds": "Worlds",
    "operations": "Operations",
    "judged": "Reads judged",
    "stale": "Stale",
    "backward": "Backward",
    "acausal": "Acausal",
    "violations": "Broken",
}
"""The columns of the table: field, heading."""


@attrs.define
class Tally:
    """What one strategy did over some seeds. Thread-safety: none."""

    strategy: str
    promises: bool
    worlds: int = 0
    operations: int = 0
    judged: int = 0
    stale: int = 0
    backward: int = 0
    acausal: int = 0
    violations: int = 0

    def add(self, other: Tally) -> None:
        """Count another's counts, too."""
        for field in attrs.fields(Tally)[2:]:
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


def world(seed: int, topology: Topology | None, faults: Faults | None) -> tuple[Topology, Faults]:
    """Return what is simulated at a seed: what is given, or a small world, and one mix of faults after the other."""
    if faults is None:
        name = list(MIXES)[seed % len(MIXES)]
        faults = MIXES[name]
    caches = bool(faults.eviction or faults.stale_refill)
    return topology or small_world(seed, caches=caches), faults


def look(
    seeds: Sequence[int],
    strategies: Sequence[str],
    topology: Topology | None,
    faults: Faults | None,
    progress: Callable[[int], Any],
) -> tuple[list[Tally], Failure | None]:
    """Run seeds one after the other, up to the first broken promise; `progress` hears of each world that has been run."""
    tallies = {name: Tally(name, STRATEGIES[name].promises) for name in strategies}
    for seed in seeds:
        planet, broken = world(seed, topology, faults)
        for name, tally in tallies.items():
            outcome = simulate(planet, name, faults=broken, seed=seed)
            seen = outcome.anomalies
            operations = outcome.metrics.operations
            tally.add(
                Tally(
                    name,
                    tally.promises,
                    1,
                    operations,
                    seen.reads,
                    seen.stale,
                    seen.backward,
                    seen.acausal,
                    outcome.broken,
                )
            )
            progress(1)
            failure = failure_of(planet, broken, outcome)
            if failure is not None:
                return list(tallies.values()), failure
    return list(tallies.values()), None
