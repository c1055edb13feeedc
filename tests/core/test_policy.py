"""Policies, guarantees and limits: what cannot be right is refused where it is written down."""

import math
from typing import Any

import pytest

from causal import ConfigError, Guarantee, Limits, ReadPolicy
from causal.core.policy import Strategy

NOT_DURATIONS = [-1, -0.001, math.inf, math.nan, "1", None, True]


def test_all_guarantees_are_on_by_default_and_each_can_be_taken_alone() -> None:
    each = [
        Guarantee.READ_YOUR_WRITES,
        Guarantee.MONOTONIC_READS,
        Guarantee.MONOTONIC_WRITES,
        Guarantee.WRITES_FOLLOW_READS,
    ]
    assert list(Guarantee.ALL) == each
    assert not Guarantee.NONE
    assert all(one in Guarantee.ALL and one not in Guarantee.ALL & ~one for one in each)


def test_the_default_policy_is_the_session_token() -> None:
    policy = ReadPolicy()
    assert (policy.strategy, policy.wait_s, policy.then) == (Strategy.SESSION, 0.1, "leader")
    assert (policy.unproven, policy.bad_token) == ("refuse", "leader")
    assert str(policy) == "session token (wait 100 ms, then leader)"


@pytest.mark.parametrize("name", ["wait_s", "window_s", "bound_s"])
@pytest.mark.parametrize("value", NOT_DURATIONS)
def test_a_duration_is_finite_and_not_negative(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        ReadPolicy(**{name: value})


@pytest.mark.parametrize("make", [ReadPolicy.leader_window, ReadPolicy.bounded])
@pytest.mark.parametrize("value", NOT_DURATIONS)
def test_so_are_those_of_the_strategies(make: Any, value: Any) -> None:
    with pytest.raises(ConfigError):
        make(value)


@pytest.mark.parametrize(("make", "instead"), [(ReadPolicy.leader_window, "eventual"), (ReadPolicy.bounded, "leader")])
@pytest.mark.parametrize("value", [0, 0.0, -0.0])
def test_a_span_of_nothing_says_what_to_take_instead(make: Any, instead: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"ReadPolicy\.{instead}\(\)"):
        make(value)
    assert make(0.001)


@pytest.mark.parametrize("value", ["session", None, 1])
def test_a_strategy_is_one_of_those_there_are(value: Any) -> None:
    with pytest.raises(ConfigError, match="strategy"):
        ReadPolicy(strategy=value)


@pytest.mark.parametrize("name", ["then", "unproven", "bad_token"])
@pytest.mark.parametrize("value", ["", "Leader", "wait", None])
def test_a_choice_is_one_of_those_listed(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        ReadPolicy(**{name: value})


@pytest.mark.parametrize("make", [lambda: ReadPolicy.quorum(0), lambda: ReadPolicy(strategy=Strategy.QUORUM)])
def test_a_quorum_of_nobody_would_promise_nothing(make: Any) -> None:
    with pytest.raises(ConfigError, match="quorum"):
        make()


@pytest.mark.parametrize("value", [-1, 1.5, "2", None, True])
def test_replicas_and_limits_are_counts(value: Any) -> None:
    with pytest.raises(ConfigError):
        ReadPolicy(replicas=value)
    for name in ("waiters_per_endpoint", "waiters_per_subject", "leader_reads", "unauthenticated"):
        with pytest.raises(ConfigError, match=name):
            Limits(**{name: value})


def test_a_policy_is_a_value_that_says_what_it_is() -> None:
    assert ReadPolicy.quorum(2) == ReadPolicy.quorum(2) != ReadPolicy.quorum(3)
    with pytest.raises(AttributeError):
        ReadPolicy().wait_s = 1.0  # type: ignore[misc]
    said = {
        str(policy)
        for policy in (
            ReadPolicy.leader(),
            ReadPolicy.leader_window(5),
            ReadPolicy.quorum(2),
            ReadPolicy.quorum(2, token=False),
            ReadPolicy.bounded(3),
            ReadPolicy.eventual(),
        )
    }
    assert said == {"leader", "leader window 5 s", "quorum 2 + token", "quorum 2", "bounded 3 s", "eventual"}
