"""The machine over a store whose sites fail over and forget: sound as it is, and what it finds where a bug is planted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from causal.controls import Lag
from causal.core.frontier import Frontier, Position
from causal.stores.memory import MemoryCluster
from causal.testing import StoreMachine, Subject, VirtualTime
from tests.testing import broken
from tests.testing import broken_journal as journal
from tests.testing.machines import JournalMachine


class Failing:
    """Makes a memory cluster forget, and says what."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self.cluster = cluster

    def fail_over(self, site: str) -> Frontier:
        before = {s: c.own for s, c in self.cluster.site(site).copies.items()}
        self.cluster.fail_over(site)
        # A site that is cut off has not heard where its history ends; one that nobody is awake to close goes on.
        ends = {
            (s, o): [
                end
                for other in self.cluster.sites.values()
                if (end := other.copies[s].origins.get(o, (0, None))[1]) is not None
            ]
            for s, o in before.items()
        }
        return Frontier(Position(s, o, found[0]) for (s, o), found in ends.items() if found)

    def restart(self, site: str) -> None:
        """It lacks at most three of others' writes, the last: none that it wrote after, and none that nobody else holds."""
        back, here = 0, self.cluster.site(site)
        for entry in reversed(here.history):
            place = entry.position
            others = [other.copies[place.shard].origins for other in self.cluster.sites.values() if other is not here]
            own = place.origin == here.copies[place.shard].own
            if own or back == 3 or not any(o.get(place.origin, (0, None))[0] >= place.offset for o in others):
                break
            back += 1
        self.cluster.restart(site, back=back)


class Machine(StoreMachine):
    """Everything at once: lag, pauses, cut-off sites, failovers and restarts."""

    cluster: type[MemoryCluster] = MemoryCluster
    kind: type[Any] | None = None
    forgetting = True

    def make(self, lag: Lag) -> Sequence[Subject]:
        time = VirtualTime()
        cluster = self.cluster(
            self.sites,
            shards=self.shards,
            store=3,
            lag_s=lag,
            wall=time.wall_ns,
            monotonic=time.monotonic,
            sleep=lambda s: None,
        )
        time.step = cluster.step
        engines = {}
        for site in self.sites:
            engine = broken.BrokenEngine(cluster=cluster, site=site, latency_s=0.05)
            if self.kind is not None:
                engine.kind = self.kind
            engines[site] = engine
        forgets = Failing(cluster) if self.forgetting else None
        return [Subject("memory", engines, time, cluster, forgets=forgets, number=3)]


TestForgetful = pytest.mark.timeout(1800)(Machine.TestCase)
TestForgetful.settings = settings(stateful_step_count=30)

TestJournal = pytest.mark.timeout(1800)(JournalMachine.TestCase)
TestJournal.settings = settings(stateful_step_count=30)

FINDING = settings(
    max_examples=100,
    stateful_step_count=50,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
"""The default budget, without shrinking: that it is found is enough."""


def found(machine: type[StoreMachine]) -> str:
    """Run a machine, and return what it found."""
    with pytest.raises(BaseException) as caught:
        run_state_machine_as_test(machine, settings=FINDING)
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def planted_in_the_journal(defect: type[Any]) -> type[JournalMachine]:
    return type("Planted", (JournalMachine,), {"defect": defect})


# What is wrong with whom, and what may be said of it: which of it comes first is chance.
PLANTED: list[tuple[type[Any], str]] = [
    (broken.SeesNothing, "has seen Frontier|was shown to someone who knew"),
    (broken.ScansAreNotSeen, "has seen Frontier"),
    (broken.ReceivedIsNotApplied, "has said that it has applied"),
    (broken.WatermarkWhenAskedFor, "has said that it has applied"),
    (broken.OneIncarnation, "has gone back, in one incarnation"),
    (broken.PositionBeforeTheCommit, "a commit of memory has|was shown to someone who knew|has seen Frontier"),
    (broken.ShardsMixedUp, "a commit of memory on shard 196608 has 196609/"),
    (broken.RollbackKeeps, "was shown, and nobody wrote it"),
    (broken.RollbackKeepsTheLock, "eu is busy|us is busy|asia is busy"),
    (broken.NoSnapshot, "showed .*, and then|was shown .*, and then"),
    (broken.NoEnd, "refuses"),
    (broken.EndsWhereItIs, "refuses|was said to be lost, and it is not|was shown to someone"),
    (broken.ShowsOwnDeleted, "and is itself shown"),
    (journal.NewestFirst, "refuses|has said that it has applied"),
    (journal.KeepsDeleted, "has said that it has applied|was shown to someone who knew"),
    (journal.MarkKeptApart, "has said that it has applied|refuses"),
    (journal.WritesLater, "was said to be lost, and it is not|has said that it has applied|was shown to someone"),
    (journal.EndsTooHigh, "refuses"),
    (journal.OthersOfTheLeader, "has gone back, in one incarnation"),
    (journal.OneMapping, "have changed after they were given"),
    (journal.OneConnection, "was shown, and nobody wrote it"),
    (journal.OneSnapshot, "has seen Frontier|showed .*, and then|was shown .*, and then"),
    (journal.EndsThemAll, "this block has ended"),
    (journal.ScansPastOwnWrites, "and is itself shown"),
    (journal.ScansWhatIsThereNow, "has seen Frontier|and then"),
    (journal.FirstPutWins, "and is itself shown"),
    (journal.IgnoresCase, "and is itself shown"),
    (journal.EmptyIsNothing, "and then"),
    (journal.CutsLongValues, "and is itself shown|nobody wrote it"),
    (journal.LeavesGaps, "brought up to date"),
    (journal.LinksCount, "and one before it has"),
    (journal.ChangesOnly, "without a position"),
]


@pytest.mark.parametrize(("kind", "said"), PLANTED, ids=lambda value: getattr(value, "__name__", None))
def test_a_planted_bug_is_found(kind: type[Any], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("causal.stores.memory.link.BUSY_S", 0.001)
    ours = kind.__module__ == broken.__name__
    machine = type("Planted", (Machine,), {"kind": kind}) if ours else planted_in_the_journal(kind)
    assert re.search(said, found(machine), re.DOTALL)


def test_a_lost_write_that_is_not_said_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that forgets losses by itself, instead of its user."""

    def silent(self: StoreMachine, lost: Any, visit: Any) -> None:
        """As if nobody had said anything."""

    monkeypatch.setattr(StoreMachine, "_told", silent)
    assert "is lost, and its writer was shown" in found(Machine)


def test_a_loss_that_is_none_is_found() -> None:
    """A server that everybody takes for the leader of every history is thought to have lost what it does not have yet."""
    assert "was said to be lost, and it is not" in found(type("Planted", (Machine,), {"kind": broken.EverybodyLeads}))
