"""The decision of the common case, against a local database read: what is spent before the read that it is about."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benches.measure import Effort, Row, block
from causal import Frontier, Position, ReadPolicy, Watermark
from causal.core.demand import Demand
from causal.core.gate import decide
from causal.core.view import View

READ_US = 93.0
"""One SELECT of one row by its key from a PostgreSQL on the same machine: measured once, elsewhere; it gives the figure a scale."""


def rows(effort: Effort) -> Iterator[Row]:
    view = View().known([("leader", 0.001), ("r1", 0.0), ("r2", 0.0), ("r3", 0.0)])
    for name in ("leader", "r1", "r2", "r3"):
        leads = frozenset({1}) if name == "leader" else frozenset[int]()
        mark = Watermark(0, {1: (1000, None)}, (name, 1), leads)
        view = view.observe(name, {0: mark}, asked=1, asked_at=0.0, now=0.0)
    demands = [Demand.of(Frontier([Position(0, 1, n)]), arrived=2) for n in range(900, 1000)]
    policy = ReadPolicy()

    def fresh() -> None:
        for demand in demands:
            demand.memo = None  # as if each came from a request of its own
            decide(demand, view, policy, 0.0, now=1.0, max_staleness_s=900.0)

    assert decide(demands[0], view, policy, 0.0, now=1.0, max_staleness_s=900.0).endpoint == "r1"  # type: ignore[union-attr]
    value = statistics.median(block(fresh, 20) for _ in range(effort.turns)) / len(demands)
    yield Row(
        "decide, 1 leader and 3 replicas, covered",
        value,
        "us",
        f"a local PostgreSQL read, {READ_US:g} us; asked for: at most 4 us",
        READ_US,
        "floor",
        value / READ_US,
        4 / READ_US,
    )
