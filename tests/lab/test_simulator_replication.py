"""How the simulator replicates: a log in order, whatever the lags; and what a write depends on, whatever was forgotten."""

from functools import partial

import pytest

from causal.core.frontier import Frontier
from causal.core.position import Position
from causal.lab.faults import Faults
from causal.lab.planet.logs import Entry
from causal.lab.planet.oracle import Knowledge
from causal.lab.planet.reading import parse_topology
from causal.lab.planet.replication import Replication
from causal.lab.planet.servers import Server
from causal.lab.planet.topology import Population, Site, Store, Topology
from causal.lab.report import rows as report
from causal.lab.simulator import STRATEGIES, Simulation, simulate

EMPTY = Frontier()


def planet(offsets: str = "count") -> tuple[Simulation, Server, Server]:
    topology = Topology(
        sites=(Site("eu"), Site("us")), rtt_s=(("eu", "us", 0.1),), store=Store(writers="every", offsets=offsets)
    )
    simulation = Simulation(topology, STRATEGIES["token"], Faults(), 1)
    return simulation, simulation.cluster.servers["eu-1"], simulation.cluster.servers["us-1"]


def write(simulation: Simulation, server: Server, deps: Frontier = EMPTY) -> Entry:
    entry = server.commit(0, 1, simulation.number(), "alice", deps, {})
    simulation.committed(server, entry)
    simulation.oracle.committed(entry)
    return entry


def test_a_write_waits_for_the_slower_one_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation, eu, us = planet()
    lags = iter((1.0, 0.2, 0.3))
    monkeypatch.setattr(simulation, "_lag_s", lambda server: next(lags))
    for at_s in (0.0, 0.5, 1.0):
        simulation.timeline.at(at_s, partial(_written, simulation, eu))
    applied = {}
    for at_s in (1.049, 1.051, 1.349, 1.351):
        simulation.timeline.run(at_s)
        applied[at_s] = us.copies[0].applied(1)
    assert applied == {1.049: 0, 1.051: 2, 1.349: 2, 1.351: 3}


def test_a_heartbeat_waits_for_the_writes_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation, eu, us = planet("clock")
    lags = iter((1.0, 0.2, 0.2))
    monkeypatch.setattr(simulation, "_lag_s", lambda server: next(lags))
    entry = write(simulation, eu)
    simulation._beats()
    simulation.timeline.run(1.049)
    assert us.copies[0].applied(1) == 0
    simulation.timeline.run(1.051)
    assert us.copies[0].applied(1) > entry.offset


def test_a_write_depends_on_what_its_log_has_forgotten() -> None:
    simulation, eu, _ = planet()
    cause = Frontier([Position(0, 2, 1)])
    write(simulation, simulation.cluster.servers["us-1"])
    simulation.timeline.run(1.0)
    write(simulation, eu, cause)
    simulation.timeline.run(2.0)
    assert len(simulation.cluster.forget()) == 2
    assert write(simulation, eu).deps == cause


def test_people_who_never_pause() -> None:
    users = Population(sessions=3, length=5, think_s=0)
    assert simulate(Topology(duration_s=2, population=(users,)), live=False).metrics.operations > 3


def _written(simulation: Simulation, server: Server) -> None:
    write(simulation, server)


def test_older_than_any_read_before_is_backward_however_often() -> None:
    simulation, eu, _ = planet()
    old, new = write(simulation, eu), write(simulation, eu)
    me = Knowledge("alice")
    for shown in (new, old, old):
        simulation.oracle.answered(me, 1, shown, me.past, simulation.anomalies, None, promised=False)
    assert (simulation.anomalies.reads, simulation.anomalies.backward) == (3, 2)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_copy_of_everything_is_a_planet_too(strategy: str) -> None:
    planet = parse_topology("duration_s = 5\n[sites.home]\n[populations.users]\nsessions = 20", "home.toml")
    outcome = simulate(planet, strategy)
    assert outcome.violations == ()
    row = report.row(outcome)
    assert (row["refused"], row["acausal"]) == (0, 0)


def test_a_lag_that_is_not_over_when_the_run_ends_breaks_no_promise() -> None:
    text = "duration_s = 5\n[store]\nlag = 100\n[sites.eu]\n[sites.us]\n[populations.users]\nsessions = 20"
    assert simulate(parse_topology(text, "slow.toml"), "token").violations == ()


def test_a_replica_that_does_not_catch_up_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Replication, "_deliver", lambda *_: None)
    text = "duration_s = 5\n[store]\nlag = 0.1\n[sites.eu]\n[sites.us]\n[populations.users]\nsessions = 20"
    (found,) = {violation.kind for violation in simulate(parse_topology(text, "slow.toml"), "token").violations}
    assert found == "a replica that does not catch up"
