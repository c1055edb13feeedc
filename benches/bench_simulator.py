"""The simulator: how many operations of clients a second, with every check on; whether memory stays flat; how its cost grows.

The planet is the scenario `photo-profile` under session tokens, made longer or shorter: more sessions over proportionally more virtual
time, so that as many are under way at a time. What is asked for is an absolute figure (30,000 operations a second), which is a constant
here; the time is the processor's, of this process alone. Nothing is switched off: every read is judged by the bookkeeping.

Memory is what the process holds (its resident set) in a process of its own, after a tenth of a run and at its end. For a longer run than
the row's, `python -m benches.bench_simulator 10000000` takes a quarter of an hour, and prints both.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import attrs

from benches.measure import Case, Effort, Row
from causal.lab.planet.topology import Topology
from causal.lab.scenarios import scenario
from causal.lab.simulator import Outcome, simulate

ASKED_US = 1e6 / 30_000
OPERATIONS = 11_000
"""About as many as the scenario has."""
FLAT = 1.1
LONG = 1_000_000
SIZES = (0.5, 1.0, 2.0, 4.0)


def planet(operations: float, *, crowd: float = 1.0) -> Topology:
    """Return the scenario with about so many operations; with `crowd` times as many sessions at a time."""
    whole = scenario("photo-profile")
    share = operations / OPERATIONS
    people = tuple(attrs.evolve(p, sessions=max(1, round(p.sessions * share))) for p in whole.population)
    return attrs.evolve(whole, duration_s=max(0.1, whole.duration_s * share / crowd), population=people)


def timed(topology: Topology) -> tuple[float, Outcome]:
    """Return the processor's time for each operation, and what came out. Units: microseconds."""
    began = time.process_time()
    outcome = simulate(topology, "token")
    took_s = time.process_time() - began
    assert not outcome.violations, outcome.violations
    return took_s / max(1, outcome.metrics.operations) * 1e6, outcome


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Return the slope of a line through the logarithms: cost grows as size to this power."""
    xs, ys = [math.log(x) for x in sizes], [math.log(y) for y in costs]
    mx, my = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((x - mx) * (y - my) for x, y in zip(xs, ys, strict=True)) / sum((x - mx) ** 2 for x in xs)


PROGRAM = """
import json, resource, sys
from benches.bench_simulator import planet
from causal.lab.simulator import simulate

def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

n = float(sys.argv[1])
done, early = 0, 0
def progress(more):
    global done, early
    done += more
    if not early and done >= n / 10:
        early = held()
outcome = simulate(planet(n), "token", progress=progress)
assert not outcome.violations
print(json.dumps([early, held(), outcome.metrics.operations]))
"""


def memory(operations: int) -> tuple[float, float]:
    """Return what a process holds after a tenth of a run, and at its end. Units: MiB."""
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(operations)],
        env={"PYTHONPATH": ":".join(path or "." for path in sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    early, late, _ = json.loads(found.stdout)
    return late / 2**20, early / 2**20


def cases() -> Iterator[Case]:
    def speed(effort: Effort) -> Row:
        operations = min(OPERATIONS, 4 * effort.most)
        value = min(timed(planet(operations))[0] for _ in range(effort.fewer(0.015)))
        return Row(
            "simulate photo-profile, an operation, every check on",
            value,
            "us",
            "30,000 operations a second: a constant, not of this run",
            ASKED_US,
            "floor",
            value / ASKED_US,
            1.0,
        )

    yield Case("simulate photo-profile, an operation, every check on", speed)

    def flat(effort: Effort) -> Row:
        operations = LONG if effort.most >= Effort().most else 100 * effort.most
        late, early = memory(operations)
        name = "simulate: memory at the end of 1,000,000 operations"
        return Row(name, late, "MiB", "after a tenth of them", early, "floor", late / early, FLAT)

    yield Case("simulate: memory at the end of 1,000,000 operations", flat)

    def growth(name: str, crowded: bool) -> Case:
        def measure(effort: Effort) -> Row:
            base = min(OPERATIONS, max(600, effort.most))  # fewer sessions than one there cannot be
            sizes, costs = [], []
            for size in SIZES:
                us, outcome = timed(planet(base * size, crowd=size if crowded else 1.0))
                sizes.append(float(outcome.metrics.operations or 1))
                costs.append(us * (outcome.metrics.operations or 1))
            power = max(0.01, exponent(sizes, costs))
            return Row(name, power, "exponent", "linear: 1", 1.0, "floor", power, None if crowded else 1.1)

        return Case(name, measure)

    yield growth("simulate: cost grows with operations to the power", False)
    yield growth("simulate: cost grows with sessions at a time to the power", True)


if __name__ == "__main__":
    late_mb, early_mb = memory(int(sys.argv[1]))
    print(f"{early_mb:.1f} MiB after a tenth, {late_mb:.1f} MiB at the end")
