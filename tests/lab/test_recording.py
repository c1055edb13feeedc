"""A simulated run, recorded: the checker of histories finds in it what the bookkeeping found, and nothing else.

Neither knows of the other. The bookkeeping watches the servers; the checker has only what the clients were answered.
"""

import json
from typing import Any

import pytest

from causal.lab.checker import Report, check
from causal.lab.checking.findings import LOST, MONOTONIC_READS, READ_YOUR_WRITES
from causal.lab.faults import MIXES
from causal.lab.history import parse_history
from causal.lab.planet.recording import Recording
from causal.lab.planet.small import world_for
from causal.lab.simulator import Outcome, simulate

SEEDS = range(25)
CLEAR = ("calm", "network", "servers", "failover", "clients", "acks")
"""Mixes under which each loss can be said: no token is damaged."""


def judged(mix: str, strategy: str, seed: int) -> tuple[Outcome, Report]:
    rows: list[dict[str, Any]] = []
    outcome = simulate(world_for(mix, seed), strategy, faults=MIXES[mix], seed=seed, recording=Recording(rows.append))
    history = parse_history([json.dumps(row).encode() for row in rows], "simulated")
    return outcome, check(history, mode="white", witnesses=False)


@pytest.mark.parametrize("mix", MIXES)
def test_what_keeps_its_promise_has_a_clean_history(mix: str) -> None:
    for seed in SEEDS:
        outcome, report = judged(mix, "token", seed)
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
        assert (report[READ_YOUR_WRITES].count > 0) == (anomalies.stale > 0), seed
        assert (report[MONOTONIC_READS].count > 0) == (anomalies.backward > 0), seed
        assert report.violated == (anomalies.acausal > 0), seed
        found += report.violated
    assert found, "nothing was violated: this shows nothing"
