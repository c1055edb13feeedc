"""A short history under every strategy: what the token promises holds, what the others cost repeats, what goes wrong is counted."""

from pathlib import Path
from typing import Any

import pytest

from causal.cli.story import small_trace
from causal.controls import Lag
from causal.core.decision import Serve
from causal.errors import ConfigError
from causal.lab.replay import STRATEGIES, Result, Setting, replay
from causal.lab.trace import Operation, read_trace

SMALL = small_trace(users=8, posts=4)
EXCERPT = Path(__file__).parent.parent / "data" / "flask-excerpt.jsonl"

# One user who moves to the other of two sites before every operation: writes, then reads five times. The write arrives at the other
# site 100 ms later, so nearest reads miss it at 10 and 30 ms, and at 30 ms after it was seen at 20 ms.
HAND = [
    Operation(0, 0.0, "alice", "write", "photo", "new.jpg"),
    *(Operation(n, t_s, "alice", "read", "photo") for n, t_s in enumerate((0.01, 0.02, 0.03, 0.6, 0.7), start=1)),
]
TWO = Setting(sites=("eu", "us"), lag=Lag(0.1), hop=1.0)


def counted(result: Result) -> tuple[int, int, int]:
    return result.stale, result.non_monotonic, result.out_of_causal_order


def test_eventual_reads_counted_by_hand() -> None:
    result = replay(HAND, "eventual", TWO)
    assert (result.reads, result.writes) == (5, 1)
    assert counted(result) == (2, 1, 2)
    assert (result.read_p99_s, result.away, result.leader, result.waited) == (0.0, 0.0, 0.0, 0)


def test_a_token_holds_the_first_read_back_until_the_write_arrives() -> None:
    result = replay(HAND, "token", TWO)
    assert counted(result) == (0, 0, 0)
    assert (result.waited, result.away, result.leader) == (1, 0.0, 0.0)
    assert 0.09 <= result.waited_p50_s <= 0.096  # it arrives 90 ms after the read began, and is asked for every 5 ms
    assert result.read_p99_s == result.waited_p50_s


def test_a_window_pays_round_trips_and_is_wrong_once_lag_outlasts_it() -> None:
    result = replay(HAND, "window", TWO)
    assert counted(result) == (0, 0, 0)
    assert (result.leader, result.away) == (0.6, 0.4)  # three reads in the window, two of them from the other site
    assert result.read_p99_s == 0.08
    slow = replay(HAND, "window", Setting(sites=("eu", "us"), lag=Lag(5.0), hop=1.0))
    assert counted(slow) == (1, 1, 1)  # the one at 700 ms, at the other site


def test_the_leader_is_asked_every_time() -> None:
    result = replay(HAND, "leader", TWO)
    assert counted(result) == (0, 0, 0)
    assert result.leader == 1.0


def test_a_store_that_forgets_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("causal.stores.sqlite.blocks.reading.Reader.get", lambda *_: None)
    assert counted(replay(HAND, "token", TWO)) == (5, 0, 5)


def test_a_gate_that_lets_everything_pass_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def nearest(demand: Any, view: Any, *_: Any) -> Any:
        return Serve(view.endpoints[0].name, "covered", demand.need, view.endpoints[0])

    monkeypatch.setattr("causal.request.covered", nearest)
    monkeypatch.setattr("causal.request.bears_out", lambda *_: True)
    assert counted(replay(HAND, "token", TWO)) == (2, 1, 2)


def test_a_token_that_is_dropped_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("causal.claims.Claims.token", lambda self: None)
    assert counted(replay(HAND, "token", TWO)) == (2, 1, 2)


@pytest.mark.parametrize("strategy", ["token", "leader", "quorum+token"])
def test_no_anomaly(strategy: str) -> None:
    result = replay(SMALL, strategy, Setting(hop=0.5))
    assert (result.reads, result.writes) == (96, 32)
    assert counted(result) == (0, 0, 0)
    assert (result.refused_reads, result.refused_writes) == (0, 0)


def test_a_real_history() -> None:
    operations = read_trace(EXCERPT)
    token, eventual = (replay(operations, strategy, Setting()) for strategy in ("token", "eventual"))
    assert token.reads == eventual.reads == sum(operation.op == "read" for operation in operations)
    assert counted(token) == (0, 0, 0)
    assert token.waited > 0
    assert min(counted(eventual)) > 0


def test_every_key_may_be_written_the_same_value() -> None:
    same = [Operation(o.number, o.t_s, o.session, o.op, o.key, "same") for o in HAND]
    again = [Operation(6, 0.8, "alice", "write", "photo", "same"), Operation(7, 0.81, "alice", "read", "photo")]
    assert counted(replay([*same, *again], "eventual", TWO)) == (
        3,
        1,
        3,
    )  # the old value is shown again, and nothing older


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_seed_gives_the_same_result(strategy: str) -> None:
    setting = Setting(hop=0.5, seed=7, lag=Lag(0.05, 0.8))
    assert replay(SMALL, strategy, setting) == replay(SMALL, strategy, setting)


def test_every_operation_is_counted() -> None:
    steps: list[int] = []
    replay(SMALL, "eventual", Setting(), steps.append)
    assert sum(steps) == len(SMALL)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sites": ("eu",)},
        {"sites": ("eu", "eu")},
        {"sites": tuple(map(str, range(17)))},
        {"speed": 0.0},
        {"hop": 1.1},
        {"rtt_s": -1.0},
    ],
)
def test_a_setting_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Setting(**wrong)


def test_what_cannot_be_replayed() -> None:
    with pytest.raises(ConfigError):
        replay(HAND, "hope", TWO)
    with pytest.raises(ConfigError):
        replay([], "token", TWO)
    with pytest.raises(ConfigError):
        replay(HAND, "token", Setting(speed=1e-12))
