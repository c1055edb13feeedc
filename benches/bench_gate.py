"""The gate's decision in the common case: one leader and three replicas, and a demand that one of them is known to cover.

What counts is whether the gate is felt beside the read that it guards: a local Postgres read of one row took 93 us where
the floors of this project were measured (loopback, psycopg). That figure is a constant here. The loop by hand is measured in this run.
"""

from __future__ import annotations

from collections.abc import Iterator

from benches.measure import Case, Effort, Row, Subject, against_floor, alone
from causal import Frontier, Position, ReadPolicy
from causal.core.gate import Demand, Serve, decide
from causal.core.view import View
from causal.core.watermark import Watermark

READ_US = 93.0
AT_MOST_US = 4.0
SHARDS = 4
READ = "a local Postgres read, 93 us: a constant, not of this run"
LOOP = "a loop over four dicts by hand"


def view(applied: tuple[int, int, int, int]) -> View:
    """Return what is known of three replicas, nearest first, and of the leader behind them, that have applied so much."""
    names = ("r1", "r2", "r3", "leader")
    known = View().known((name, 0.001 * (1 + n)) for n, name in enumerate(names))
    for asked, (name, offset) in enumerate(reversed(list(zip(names, applied, strict=True)))):
        leads = frozenset({1}) if name == "leader" else frozenset()
        marks = {s: Watermark(s, {1: (offset, None)}, (name, 1), leads) for s in range(SHARDS)}
        known = known.observe(name, marks, asked=asked + 1, asked_at=1.0 + asked, now=1.0 + asked)
    return known


def by_hand(need: dict[int, int], endpoints: list[tuple[str, dict[int, int]]]) -> str | None:
    """Return the nearest endpoint that covers a need: no freshness, no failures, no reasons."""
    for name, applied in endpoints:
        for key, offset in need.items():
            if applied.get(key, -1) < offset:
                break
        else:
            return name
    return None


def cases() -> Iterator[Case]:
    policy = ReadPolicy()
    demand = Demand.of(Frontier(Position(shard, 1, 100) for shard in range(SHARDS)), arrived=10)
    for said, known in (
        ("the nearest", view((100, 100, 100, 100))),
        ("only the last replica", view((99, 99, 100, 100))),
    ):
        expected = "r1" if said == "the nearest" else "r3"
        demand.memo = None
        decision = decide(demand, known, policy, 0.0, now=5.0, max_staleness_s=900.0)
        assert isinstance(decision, Serve)
        assert decision.endpoint == expected
        hands = [(e.name, dict(e.applied)) for e in known.endpoints]
        need = dict(demand.need)

        def ours(known: View = known) -> None:
            demand.memo = None  # which remembers the last answer to the same demand
            decide(demand, known, policy, 0.0, now=5.0, max_staleness_s=900.0)

        def hand(need: dict[int, int] = need, hands: list[tuple[str, dict[int, int]]] = hands) -> None:
            by_hand(need, hands)

        name = f"decide, 1 leader + 3 replicas, {said} covers"

        def against_read(effort: Effort, name: str = name, ours: Subject = ours) -> Row:
            value = alone(ours, effort)
            return Row(name, value, "us", READ, READ_US, "floor", value / READ_US, AT_MOST_US / READ_US)

        yield Case(name, against_read)
        yield against_floor(f"{name}, and by hand", ours, hand, LOOP, None)
