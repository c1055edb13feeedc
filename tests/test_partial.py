"""Stores whose endpoints hold only some of the shards: the loops ask, wait for and write to nobody else."""

import asyncio
from typing import Any

import pytest

from causal import ConfigError, Frontier, NoEndpoint, Position, ReadPolicy, Receipt, WriteLost
from causal.core.frontier import pack
from tests.fake_engine import FakeEngine, Server, Time, idle

X, Y = 0, 1


@pytest.fixture
def time() -> Time:
    return Time()


def engine(**promises: bool) -> FakeEngine:
    """Of each of two shards a replica here and a leader far away, each on a server of its own."""
    servers = [
        Server(
            f"{shard}{role}",
            {index: {1: (10, None)}},
            {index: {1}} if role == "-leader" else {},
            latency_s=0.05 if role else 0.0,
            shards=frozenset({index}),
        )
        for shard, index in (("x", X), ("y", Y))
        for role in ("", "-leader")
    ]
    made = FakeEngine(*servers, shards={"x": X, "y": Y}, **promises)
    made.leaders = {X: "x-leader", Y: "y-leader"}
    return made


def read(session: Any, shard: str, policy: ReadPolicy | None = None) -> Receipt:
    with (block := session.read(shard=shard, policy=policy)):
        pass
    receipt: Receipt = block.receipt
    return receipt


def names(receipt: Receipt) -> set[str]:
    return {name for name, _ in receipt.considered}


def at(shard: int, offset: int, origin: int = 1) -> Frontier:
    return Frontier((Position(shard, origin, offset),))


def test_a_read_concerns_only_those_that_hold_its_shard(time: Time) -> None:
    servers = engine()
    store = time.store(servers)
    servers.servers["y"].up = servers.servers["y-leader"].up = False
    with pytest.raises(NoEndpoint):
        read(store.session(), "y", ReadPolicy.leader())
    servers.calls.clear()
    session = store.session()
    session.join(at(Y, 99))  # what is demanded of the other shard is no matter of this one
    for policy in (None, ReadPolicy.leader(), ReadPolicy.quorum(2), ReadPolicy.bounded(5.0), ReadPolicy.eventual()):
        receipt = read(session, "x", policy)
        assert receipt.endpoint in ("x", "x-leader")
        assert names(receipt) == {"x", "x-leader"}
    session._state.mark(0, int(time.wall()) + 960)
    assert read(session, "x").how == "leader"
    assert {name for _, name in servers.calls} == {"x", "x-leader"}
    assert idle(store)


def test_a_replica_stays_proven_however_long_another_shards_leader_is_away(time: Time) -> None:
    servers = engine()
    store = time.store(servers)
    servers.servers["y-leader"].up = False
    for _ in range(3):
        time.now_s += 600.0
        assert read(store.session(), "x").endpoint == "x"
    with pytest.raises(NoEndpoint):
        read(store.session(), "y")


def test_a_quorum_is_of_those_that_hold_the_shard(time: Time) -> None:
    store = time.store(engine())
    with pytest.raises(NoEndpoint, match="a quorum of 3"):
        read(store.session(), "x", ReadPolicy.quorum(3))


def test_a_write_goes_to_its_shards_leader_whatever_other_shards_demand(time: Time) -> None:
    servers = engine()
    store = time.store(servers)
    session = store.session()
    session.join(at(Y, 99, 7))
    servers.servers["y-leader"].up = False
    with (block := session.write(shard="x")):
        pass
    assert (block.receipt.endpoint, names(block.receipt)) == ("x-leader", {"x", "x-leader"})
    assert session.own.entries == {pack(X, 1): 11}
    servers.leaders[Y] = "x-leader"  # which does not hold it
    with pytest.raises(NoEndpoint), session.write(shard="y", wait_s=0.0):
        pass


def test_stored_dependencies_of_another_shard_gate_the_next_read_there(time: Time) -> None:
    servers = engine()
    store = time.store(servers)
    servers.servers["x"].shown = at(Y, 12)
    session = store.session()
    read(session, "x")
    assert session.seen.entries == {pack(Y, 1): 12}
    servers.servers["y-leader"].origins[Y] = {1: (12, None)}
    assert read(session, "y").endpoint == "y-leader"
    assert read(session, "x").endpoint == "x"


def test_a_loss_is_said_by_those_that_hold_the_shard(time: Time) -> None:
    servers = engine()
    store = time.store(servers)
    session = store.session()
    session._state.join(at(X, 12), own=True, now=time.wall())
    for name in ("x", "x-leader"):
        servers.servers[name].origins[X] = {1: (10, 10), 2: (0, None)}
    servers.servers["x-leader"].leads = {X: {2}}
    read(session, "y")
    with pytest.raises(WriteLost):
        read(session, "x")


def test_what_is_replicated_is_what_all_that_hold_it_have(time: Time) -> None:
    servers = engine()
    store = time.store(servers)
    assert store._state.replicated().entries == {pack(X, 1): 10, pack(Y, 1): 10}
    servers.servers["x"].origins[X] = {1: (11, None)}
    servers.servers["x-leader"].origins[X] = {1: (12, None)}
    assert store.head().entries == {pack(X, 1): 12, pack(Y, 1): 10}
    assert store._state.replicated().entries == {pack(X, 1): 11, pack(Y, 1): 10}


def test_a_server_may_come_to_hold_another_shard(time: Time) -> None:
    servers = engine()
    store = time.store(servers)
    servers.servers["x"].shards = frozenset({X, Y})
    servers.servers["x"].origins[Y] = {1: (10, None)}
    store.head()
    for shard in "xy":
        assert "x" in names(read(store.session(), shard))
    with store.session().read(shard="y") as server:  # its snapshot holds more than is concerned
        assert server.name in ("x", "y")


def test_a_snapshot_is_judged_by_what_is_concerned_alone(time: Time) -> None:
    both = Server("both", {X: {1: (10, None)}, Y: {1: (10, None)}}, {X: {1}}, shards=frozenset({X, Y}))
    lead = Server("lead", {Y: {1: (10, None)}}, {Y: {1}}, latency_s=0.05, shards=frozenset({Y}))
    servers = FakeEngine(both, lead, shards={"x": X, "y": Y})
    store = time.store(servers)
    both.origins[Y] = {1: (10, None), 2: (1, None)}
    receipt = read(store.session(), "x")
    assert (receipt.endpoint, receipt.attempts) == ("both", 1)


def test_dependencies_cannot_be_promised_by_endpoints_that_hold_only_some_shards(time: Time) -> None:
    servers = engine(dependencies=True)
    with pytest.raises(ConfigError, match="holds only some shards"):
        time.store(servers)
    assert servers.open_links == 0


def test_an_endpoint_holds_shards_of_its_store(time: Time) -> None:
    servers = engine()
    servers.servers["x"].shards = frozenset({X, 7})
    with pytest.raises(ConfigError, match="a shard that this store does not have: 7"):
        time.store(servers)


def test_the_asynchronous_loop_asks_nobody_else_either(time: Time) -> None:
    servers = engine()

    async def main() -> None:
        async with time.async_store(servers) as store:
            servers.servers["y"].up = servers.servers["y-leader"].up = False
            servers.calls.clear()
            session = store.session()
            for policy in (None, ReadPolicy.leader()):
                async with (block := session.read(shard="x", policy=policy)):
                    pass
                assert names(block.receipt) == {"x", "x-leader"}
            async with session.write(shard="x"):
                pass
            assert session.own.entries == {pack(X, 1): 11}
            assert {name for _, name in servers.calls} == {"x", "x-leader"}

    asyncio.run(main())
