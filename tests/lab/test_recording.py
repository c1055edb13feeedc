"""A simulated run, recorded: the checker of histories finds in it what the bookkeeping found, and nothing else.

Neither knows of the other. The bookkeeping watches the servers; the checker has only what the clients were answered.
"""

import json
from operator import eq, le
from typing import Any

import attrs
import pytest

from causal.core.position import ANY_ORIGIN
from causal.lab.checker import Report, check
from causal.lab.checking.findings import LOST, MONOTONIC_READS, READ_YOUR_WRITES
from causal.lab.faults import MIXES
from causal.lab.history import parse_history
from causal.lab.planet.logs import EMPTY, Entry
from causal.lab.planet.recording import Recording
from causal.lab.planet.small import world_for
from causal.lab.simulator import Outcome, simulate

SEEDS = range(25)
READ_NOTHING = {"op": "read", "session": "nobody", "seq": 1, "key": "none", "value": None}
"""A history has at least one operation, and a world in which all sleep has none."""
CLEAR = ("calm", "network", "servers", "failover", "clients", "acks")
"""Mixes under which each loss can be said: no token is damaged."""


def judged(mix: str, strategy: str, seed: int, *, held_only: bool = False) -> tuple[Outcome, Report]:
    """What both found, of the time that is measured."""
    rows: list[dict[str, Any]] = [READ_NOTHING]
    record = Recording(rows.append)
    rows.reverse()  # what it is about stands first
    world = world_for(mix, seed)  # without jobs: a history does not say that one goes on from what another session knew
    world = attrs.evolve(world, population=tuple(attrs.evolve(users, jobs=0.0) for users in world.population))
    outcome = simulate(world, strategy, faults=MIXES[mix], seed=seed, recording=record, live=False)
    history = parse_history([json.dumps(row).encode() for row in rows], "simulated")
    return outcome, check(history, mode="white", witnesses=False, held_only=held_only)


@pytest.mark.parametrize("mix", MIXES)
def test_what_keeps_its_promise_has_a_clean_history(mix: str) -> None:
    for seed in SEEDS:
        outcome, report = judged(mix, "token", seed, held_only=True)
        bad = {v.guarantee for v in report.verdicts if v.state == "violated"}
        assert bad <= (set() if mix in CLEAR else {LOST}), (seed, bad)
        assert report.operations >= outcome.metrics.reads + outcome.metrics.writes


@pytest.mark.parametrize("strategy", ["eventual", "window", "bounded", "quorum"])
@pytest.mark.parametrize("mix", ["calm", "network", "servers", "clients"])
def test_both_find_the_same(mix: str, strategy: str) -> None:
    found = 0
    for seed in SEEDS:
        outcome, report = judged(mix, strategy, seed)
        anomalies = outcome.anomalies
        same = le if MIXES[mix].parallel else eq  # of requests at once a history says less than is known of them
        assert same(report[READ_YOUR_WRITES].count > 0, anomalies.stale > 0), seed
        assert same(report[MONOTONIC_READS].count > 0, anomalies.backward > 0), seed
        assert same(report.violated, anomalies.acausal > 0), seed
        found += report.violated
    assert found, "nothing was violated: this shows nothing"


def test_a_doubt_about_any_origin_is_about_each_of_them() -> None:
    """A token that has little room remembers no origins, only that there were some: in this world a user is told of that, and no more."""
    outcome, report = judged("failover", "token", 82, held_only=True)
    assert not outcome.violations
    assert not report[LOST].count
    rows: list[dict[str, Any]] = []
    record = Recording(rows.append)
    for offset, origin in enumerate((1, 2), start=1):
        record.wrote(
            "alice", offset, 0, 1, 0, offset, Entry(origin, offset, offset, 1, offset, "alice", EMPTY, {}), None
        )
    record.doubted("alice", 3, frozenset({ANY_ORIGIN}))
    assert [(row["op"], row["version"]) for row in rows[3:]] == [
        (op, [origin, origin]) for origin in (1, 2) for op in ("lost", "forget")
    ]
