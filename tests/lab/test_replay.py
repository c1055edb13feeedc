"""A short history under every strategy: what the token promises holds, what the others cost repeats."""

import pytest

from causal.cli.demo import small_trace
from causal.lab import replay as lab
from causal.lab.replay import STRATEGIES, Setting, replay

TRACE = small_trace(users=8, posts=4)


@pytest.mark.parametrize("strategy", ["token", "leader", "quorum+token"])
def test_no_anomaly(strategy: str) -> None:
    result = replay(TRACE, strategy, Setting(hop=0.5))
    assert (result.reads, result.writes) == (96, 32)
    assert (result.stale, result.non_monotonic, result.out_of_causal_order) == (0, 0, 0)
    assert (result.refused_reads, result.refused_writes) == (0, 0)


def test_eventual_reads_forget_own_writes() -> None:
    assert replay(TRACE, "eventual", Setting(hop=0.5)).stale > 0


def test_a_token_that_is_dropped_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("causal.claims.Claims.token", lambda self: None)
    assert replay(TRACE, "token", Setting(hop=0.5)).stale > 0


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_seed_gives_the_same_result(strategy: str) -> None:
    setting = Setting(hop=0.5, seed=7)
    assert replay(TRACE, strategy, setting) == replay(TRACE, strategy, setting)


def test_every_operation_is_counted() -> None:
    steps: list[int] = []
    lab.replay(TRACE, "eventual", Setting(), steps.append)
    assert sum(steps) == len(TRACE)
