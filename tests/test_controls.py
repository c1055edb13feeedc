"""Lag: a seeded distribution of delays, the same in every run, and the vocabulary of controls."""

import math
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from causal.controls import Controls, Lag
from causal.errors import ConfigError
from causal.stores.memory import MemoryEngine


@given(st.floats(0, 10), st.integers(0, 9), st.integers(0, 9), st.integers(0, 2**64 - 1))
def test_a_lag_without_spread_is_constant(median_s: float, shard: int, origin: int, offset: int) -> None:
    assert Lag(median_s).delay_s("us", shard, origin, offset) == median_s


def test_the_same_arguments_always_give_the_same_delay() -> None:
    lag = Lag(0.05, 0.8, seed=7)
    # Recorded: a run of last year must replay with the delays of last year.
    recorded = [lag.delay_s("us", 0, 1, offset) for offset in (1, 2, 3)]
    assert recorded == pytest.approx([0.03577937047317496, 0.06939882625192731, 0.07140473247795244])
    assert recorded == [Lag(0.05, 0.8, seed=7).delay_s("us", 0, 1, offset) for offset in (1, 2, 3)]


def test_each_argument_counts() -> None:
    lag = Lag(0.05, 0.8)
    base = ("us", 0, 1, 1)
    others = [("eu", 0, 1, 1), ("us", 1, 1, 1), ("us", 0, 2, 1), ("us", 0, 1, 2)]
    delays = [lag.delay_s(*args) for args in [base, *others]] + [Lag(0.05, 0.8, seed=1).delay_s(*base)]
    assert len(set(delays)) == len(delays)


def test_delays_are_log_normal_around_the_median() -> None:
    logs = [math.log(Lag(0.05, 0.8, seed=3).delay_s("us", 0, 1, offset) / 0.05) for offset in range(4000)]
    assert statistics.mean(logs) == pytest.approx(0, abs=0.05)
    assert statistics.stdev(logs) == pytest.approx(0.8, abs=0.05)


@given(st.floats(0.001, 1), st.floats(0, 3), st.integers(0, 99), st.integers(0, 2**64 - 1))
def test_a_delay_is_finite_and_never_negative(median_s: float, sigma: float, seed: int, offset: int) -> None:
    delay_s = Lag(median_s, sigma, seed).delay_s("us", 0, 1, offset)
    assert 0 <= delay_s < math.inf


@pytest.mark.parametrize(
    ("text", "lag"),
    [
        ("0.05", Lag(0.05)),
        ("50ms", Lag(0.05)),
        ("2s", Lag(2.0)),
        ("0", Lag(0.0)),
        ("lognormal:50ms:0.8", Lag(0.05, 0.8)),
        ("lognormal:0.05:0.8:7", Lag(0.05, 0.8, 7)),
    ],
)
def test_a_lag_is_read_from_text(text: str, lag: Lag) -> None:
    assert Lag.parse(text) == lag


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "-1",
        "-5ms",
        "nan",
        "inf",
        "lognormal",
        "lognormal:50ms",
        "lognormal:50ms:x",
        "lognormal:1:1:1:1",
        "normal:1:1",
    ],
)
def test_what_is_no_lag_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Lag.parse(text)


@pytest.mark.parametrize("bad", [(-0.1,), (math.nan,), (math.inf,), (0.1, -1.0), (0.1, math.nan)])
def test_lags_that_cannot_be_are_refused(bad: Any) -> None:
    with pytest.raises(ConfigError):
        Lag(*bad)


def test_a_number_of_seconds_is_a_constant_lag() -> None:
    lag = Lag(0.1, 0.5)
    assert Lag.of(lag) is lag
    assert Lag.of(2) == Lag(2.0)
    with pytest.raises(ConfigError):
        Lag.of(-1)


def test_the_reference_engine_has_the_controls() -> None:
    assert isinstance(MemoryEngine(), Controls)
