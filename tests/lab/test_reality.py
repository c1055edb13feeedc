"""Predictions held against reality: to the microsecond the same, and a mistake on either side is seen.

Nothing here is left to chance: both runs have the same operations, lags and pauses. So the tests ask for no difference at all, where the
command's own verdict would let the order of things at one moment pass.
"""

from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from causal.controls import Lag
from causal.core.policy import ReadPolicy
from causal.errors import ConfigError
from causal.lab.held import predicted
from causal.lab.held.ledger import MEASURES
from causal.lab.held.schedule import schedule
from causal.lab.planet.logs import Log
from causal.lab.planet.process import Process
from causal.lab.planet.topology import Cache, Index, Population, Site, Store, Topology
from causal.lab.reality import HELD, Row, check_fits, held_against_reality, planned
from causal.lab.scenarios import scenario
from causal.lab.simulator import Simulation
from causal.store import CausalStore
from causal.stores.sqlite.blocks.reading import Reader
from causal.stores.sqlite.link import SQLiteLink
from causal.stores.sqlite.replication.apply import Coverage

TRAVELLERS = Population(sessions=30, length=12, think_s=0.1, write_share=0.4, keys=6, skew=0.5, own_share=0.3, hop=0.4)
SMALL = Topology(
    name="small",
    duration_s=12,
    sites=(Site("eu"), Site("us"), Site("ap", skew_s=-0.02)),
    store=Store(shards=2, writers="every", lag=Lag(0.2, 0.9)),
    population=(TRAVELLERS,),
    rtt_s=(("eu", "us", 0.07), ("us", "ap", 0.22), ("eu", "ap", 0.16)),
    local_rtt_s=0,
    wait_s=0.4,
)
FEW = attrs.evolve(TRAVELLERS, sessions=12)
OTHERS = {
    "a lag that never varies": attrs.evolve(SMALL, store=attrs.evolve(SMALL.store, lag=Lag(0.15)), population=(FEW,)),
    "no lag": attrs.evolve(SMALL, store=attrs.evolve(SMALL.store, lag=Lag(0.0), shards=1), population=(FEW,)),
    "written elsewhere": attrs.evolve(
        SMALL,
        sites=SMALL.sites[:2],
        rtt_s=SMALL.rtt_s[:1],
        population=(
            attrs.evolve(TRAVELLERS, write_at=("eu",), at=("us",), sessions=8),
            attrs.evolve(TRAVELLERS, name="readers", write_share=0, sessions=8),
        ),
    ),
    "clocks far apart": attrs.evolve(
        SMALL,
        sites=(Site("eu", skew_s=0.4), Site("us", skew_s=-0.4), Site("ap")),
        population=(attrs.evolve(FEW, keys=2, own_share=0),),
    ),
    "short tokens": attrs.evolve(SMALL, store=attrs.evolve(SMALL.store, max_token_chars=60), population=(FEW,)),
    "impatient": attrs.evolve(
        SMALL, wait_s=0.02, store=attrs.evolve(SMALL.store, lag=Lag(0.5, 0.5)), population=(FEW,)
    ),
}


def differing(topology: Topology, *strategies: str, seed: int = 1) -> dict[tuple[str, str], tuple[float, float]]:
    rows = held_against_reality(topology, strategies or HELD, seed)
    return {(r.strategy, r.measure): (r.predicted, r.observed) for r in rows if r.difference}


# --- the same -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("strategy", HELD)
def test_what_is_predicted_is_observed(strategy: str, seed: int) -> None:
    assert differing(SMALL, strategy, seed=seed) == {}


@pytest.mark.parametrize("name", OTHERS)
def test_whatever_the_topology(name: str) -> None:
    assert differing(OTHERS[name]) == {}


def test_what_is_compared_is_not_nothing() -> None:
    rows = {(r.strategy, r.measure): r for r in held_against_reality(SMALL)}
    assert len(rows) == len(HELD) * len(MEASURES)
    seen = {m: max(r.observed for r in rows.values() if r.measure == m) for m in MEASURES}
    assert min(seen.values()) > 0, seen
    assert [rows["eventual", m].observed > 0 for m in ("stale", "backward", "acausal")] == [True] * 3
    assert [rows["token", m].observed for m in ("stale", "backward", "acausal")] == [0] * 3


def test_the_ready_scenario() -> None:
    ready = scenario("two-offices")
    operations = sum(len(life.steps) for life in planned(ready))
    assert operations == pytest.approx(3_000, rel=0.2)
    (users,) = ready.population
    fifth = attrs.evolve(ready, duration_s=ready.duration_s / 5, population=(attrs.evolve(users, sessions=30),))
    assert differing(fifth, "token", "window") == {}


# --- one schedule -----------------------------------------------------------------------------------------------------


def test_a_schedule_is_what_the_topology_says() -> None:
    topology = OTHERS["written elsewhere"]
    lives = schedule(topology, 1)
    assert lives == schedule(topology, 1) != schedule(topology, 2)
    steps = [step for life in lives for step in life.steps]
    assert {(step.site, step.writes) for step in steps} == {("eu", True), ("us", False), ("eu", False)}
    assert all(not step.writes for life in lives if life.name.startswith("readers") for step in life.steps)
    assert {step.key for step in steps} == set(range(TRAVELLERS.keys))
    pauses = [step.pause_s for step in steps]
    assert sum(pauses) / len(pauses) == pytest.approx(TRAVELLERS.think_s, rel=0.3)


def test_both_runs_report_every_operation() -> None:
    lives = planned(SMALL)
    steps: list[int] = []
    rows = held_against_reality(SMALL, ("eventual",), 1, steps.append, lives=lives)
    operations = sum(len(life.steps) for life in lives)
    assert sum(steps) == 2 * operations
    assert sum(row.observed for row in rows if row.measure in {"reads", "writes", "refused"}) == operations


# --- what the embedded store cannot be -------------------------------------------------------------------------------


def store(**more: Any) -> Topology:
    return attrs.evolve(SMALL, store=attrs.evolve(SMALL.store, **more))


def users(**more: Any) -> Topology:
    return attrs.evolve(SMALL, population=(attrs.evolve(TRAVELLERS, **more),), cache=Cache() if "mix" in more else None)


@pytest.mark.parametrize(
    ("topology", "field", "change"),
    [
        (store(writers="one"), "store writers", 'writers = "every"'),
        (store(offsets="clock"), "store offsets", 'offsets = "count"'),
        (store(dependencies=False), "store dependencies", "dependencies = true"),
        (store(burst_every_s=10.0, burst_s=1.0), "store burst_every_s", "leave"),
        (attrs.evolve(SMALL, sites=(Site("eu"),), rtt_s=()), "sites", "2 to 16"),
        (
            attrs.evolve(SMALL, sites=(Site("eu", replicas=2), Site("us")), rtt_s=()),
            "sites eu replicas",
            "replicas = 1",
        ),
        (attrs.evolve(SMALL, sites=(Site("eu"), Site("us", processes=2)), rtt_s=()), "sites us processes", "= 1"),
        (attrs.evolve(SMALL, local_rtt_s=0.001), "local_rtt_s", "local_rtt_s = 0"),
        (attrs.evolve(SMALL, cache=Cache()), "cache", "leave [cache] out"),
        (attrs.evolve(SMALL, index=Index()), "index", "leave [index] out"),
        (users(jobs=0.1), "population users jobs", "jobs = 0"),
        (attrs.evolve(SMALL, faults=(("loss", 0.1),)), "faults", "leave [faults] out"),
        (
            attrs.evolve(SMALL, population=(attrs.evolve(TRAVELLERS, mix=(("recommendation", 1.0),)),)),
            "population users mix",
            "leave mix out",
        ),
    ],
)
def test_a_topology_that_cannot_be(topology: Topology, field: str, change: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_fits(topology)
    assert f"cannot be this topology: {field}: " in str(caught.value)
    assert change in str(caught.value)
    with pytest.raises(ConfigError, match=field):
        held_against_reality(topology)


def test_what_cannot_be_run() -> None:
    with pytest.raises(ConfigError, match="token-shard"):
        held_against_reality(SMALL, ("token-shard",))
    with pytest.raises(ConfigError, match="nobody asks"):
        planned(attrs.evolve(SMALL, duration_s=1e-6))


# --- mistakes on either side are seen ---------------------------------------------------------------------------------

Patch = Callable[[pytest.MonkeyPatch], object]


def at_once(*_: Any) -> Iterator[float]:
    yield 0.0


def patched(place: Any, name: str, make: Callable[[Any], Any]) -> Patch:
    return lambda patch: patch.setattr(place, name, make(getattr(place, name)))


def slower(travel: Any) -> Any:
    def travelled(self: SQLiteLink, endpoint: str) -> None:
        travel(self, endpoint)
        travel(self, endpoint)

    return travelled


def forgetful(get: Any) -> Any:
    return lambda self, key, default=None: default if key == "1" else get(self, key, default)


def heedless(admit: Any) -> Any:
    def admitted(self: CausalStore[Any, Any], request: Any) -> Any:
        if request.kind == "read":
            request.policy = ReadPolicy.eventual()
        return admit(self, request)

    return admitted


MISTAKES: dict[str, tuple[Patch, str, set[str]]] = {
    # on the simulator's side
    "the lag halved": (
        patched(predicted, "drawn_lag_s", lambda drawn: lambda *a: drawn(*a) / 2),
        "eventual",
        {"stale", "acausal"},
    ),
    "a log out of order": (
        patched(Simulation, "_in_order_s", lambda _: lambda self, log, server, after_s: self.timeline.now + after_s),
        "eventual",
        {"stale", "acausal"},
    ),
    "a loop that does not wait": (
        patched(Process, "_wait", lambda _: at_once),
        "token",
        {"waits"},
    ),
    "dependencies that do not add up": (
        patched(Log, "append", lambda append: lambda self, e: (append(self, e), setattr(self, "last", None))),
        "leader",
        {"read_mean_ms"},
    ),
    # on the real side
    "a round trip that takes twice as long": (
        patched(SQLiteLink, "_travel", slower),
        "window",
        {"read_p99_ms"},
    ),
    "a store that serves stale": (
        patched(Reader, "get", forgetful),
        "token",
        {"stale", "acausal"},
    ),
    "replication before its causes": (
        patched(Coverage, "covers", lambda _: lambda self, deps: True),
        "eventual",
        {"acausal"},
    ),
    "a loop that heeds no token": (
        patched(CausalStore, "_admit", heedless),
        "token",
        {"stale", "acausal", "waits"},
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_seen(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, strategy, measures = MISTAKES[mistake]
    plant(monkeypatch)
    lives = [
        attrs.evolve(life, begins_s=life.begins_s + 10) for life in planned(SMALL)
    ]  # also where asking takes longer
    rows = held_against_reality(SMALL, (strategy,), lives=lives)
    seen = {row.measure for row in rows if row.difference}
    assert measures <= seen, seen


# --- verdicts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predicted", "observed", "difference", "relative", "verdict"),
    [
        (0, 0, 0, None, "same"),
        (0, 2, 2, None, "close"),
        (0, 3, 3, None, "apart"),
        (1000, 980, -20, -0.02, "close"),
        (1000, 1021, 21, 0.021, "apart"),
        (48.25, 48.25, 0, 0, "same"),
    ],
)
def test_a_verdict(predicted: float, observed: float, difference: float, relative: float | None, verdict: str) -> None:
    row = Row("token", "waits", predicted, observed)
    assert (row.difference, row.relative, row.verdict) == (difference, relative, verdict)
    assert row.plain() == {
        "strategy": "token",
        "measure": "waits",
        "predicted": predicted,
        "observed": observed,
        "difference": difference,
        "relative": relative,
        "verdict": verdict,
    }
