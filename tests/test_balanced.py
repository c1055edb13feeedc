"""Endpoints that are several servers: whoever answers, a snapshot is judged by what it shows itself."""

import asyncio
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import pytest

from causal import Frontier, GateTimeout, Position, ReadPolicy, Receipt, WriteLost
from causal.core.frontier import pack
from tests.fake_engine import FakeEngine, Origins, Time, idle, near_and_far


@pytest.fixture
def time() -> Time:
    return Time()


def balanced(engine: FakeEngine, name: str, *lives: Origins) -> None:
    """From now on each question goes to the next of several servers, which have applied this of shard 0."""
    turns: Iterator[tuple[int, Origins]] = cycle(enumerate(lives, 2))

    def turn(kind: str, asked: str) -> None:
        if asked == name:
            engine.servers[name].life, engine.servers[name].origins[0] = next(turns)

    engine.before = turn


def read(session: Any, policy: ReadPolicy | None = None) -> tuple[Receipt, Any]:
    """The receipt, and what the snapshot had applied of origin 1."""
    with (block := session.read(policy=policy)):
        applied = block._handle.watermarks[0].origins[1][0]
    receipt: Receipt = block.receipt
    return receipt, applied


def demanding(store: Any, offset: int, *, own: bool = False) -> Any:
    session = store.session()
    session._state.join(Frontier((Position(0, 1, offset),)), own=own, now=0.0)
    return session


@pytest.mark.parametrize("one_session", [True, False])
def test_whoever_covers_is_read_at_the_first_attempt(time: Time, one_session: bool) -> None:
    engine = near_and_far()
    store = time.store(engine)
    balanced(engine, "near", {1: (10, None)}, {1: (10, None)})
    engine.calls.clear()
    session = demanding(store, 10)
    for _ in range(20):
        receipt, _ = read(session if one_session else demanding(store, 10))
        assert (receipt.endpoint, receipt.how, receipt.attempts, receipt.held) == ("near", "covered", 1, True)
        # Whom it met is news for everybody.
        known = store.view.of("near")
        assert known is not None
        assert known.incarnations == {0: ("near", engine.servers["near"].life)}
    assert engine.calls == [("read", "near")] * 20
    assert idle(store)


def test_after_a_restart_reads_go_the_way_of_the_first_again(time: Time) -> None:
    engine = near_and_far()
    store = time.store(engine)
    session = demanding(store, 10)
    read(session)
    engine.servers["near"].life = 2
    read(session)
    grant = session._state.grants[0]
    assert grant.view is store.view
    assert grant.serve.known.incarnations == {0: ("near", 2)}


@pytest.mark.parametrize("behind", [1, 2, 3])
def test_whoever_is_behind_is_never_read(time: Time, behind: int) -> None:
    engine = near_and_far()
    store = time.store(engine)
    balanced(engine, "near", {1: (10, None)}, *[{1: (9, None)}] * behind)
    served = []
    for _ in range(20):
        session = demanding(store, 10)
        for _ in range(3):
            before = len(engine.calls)
            receipt, applied = read(session)
            assert applied >= 10
            served.append(receipt.endpoint)
            # However the turns fall, the gate does not try for ever who keeps showing something else than it says.
            assert engine.calls[before:].count(("read", "near")) <= 4
        assert idle(store)
    assert set(served) == {"near", "far"}


def test_where_there_is_nobody_else_it_is_tried_until_the_time_is_up(time: Time) -> None:
    engine = near_and_far()
    store = time.store(engine)
    balanced(engine, "near", {1: (10, None)}, {1: (9, None)})
    engine.servers["far"].up = False
    refused = 0
    for _ in range(10):
        try:
            assert read(demanding(store, 10))[1] >= 10
        except GateTimeout as error:
            refused += "snapshots bore its decision out" in str(error)
    assert 0 < refused < 10
    assert idle(store)


def test_whoever_is_not_shown_to_be_fresh_is_not_read(time: Time) -> None:
    """A head was asked for: who has not got there misses what was acknowledged before, however long ago that was."""
    engine = near_and_far()
    store = time.store(engine)
    engine.servers["near"].life = 2
    engine.servers["near"].origins[0] = {1: (9, None)}
    receipt, applied = read(store.session())
    assert (receipt.endpoint, applied) == ("far", 10)
    receipt, applied = read(store.session(), ReadPolicy(unproven="serve"))
    assert (receipt.endpoint, applied, receipt.attempts) == ("near", 9, 1)


def test_a_server_that_went_back_without_saying_so_is_not_read(time: Time) -> None:
    """What was known of the same incarnation is no substitute for what this snapshot has."""
    engine = near_and_far()
    store = time.store(engine)
    engine.before = lambda kind, _: engine.servers["near"].origins.update({0: {1: (9 if kind == "read" else 10, None)}})
    receipt, applied = read(demanding(store, 10))
    assert (receipt.endpoint, applied) == ("far", 10)


def test_a_decision_that_promises_nothing_is_not_made_of_a_snapshot_that_was_to_promise_something(time: Time) -> None:
    engine = near_and_far()
    store = time.store(engine, policy=ReadPolicy(0.0, then="stale"))
    engine.servers["far"].up = False
    near = engine.servers["near"]
    near.life, near.origins[0] = 2, {1: (9, None)}
    receipt, applied = read(demanding(store, 10))
    assert (receipt.how, receipt.held, receipt.attempts, applied) == ("stale", False, 2, 9)


def test_what_another_has_met_since_does_not_count_against_a_snapshot(time: Time) -> None:
    engine = near_and_far()
    store = time.store(engine)
    near = engine.servers["near"]

    def between(kind: str, name: str) -> None:
        if kind == "read":
            near.life = 2
            store._probe(store._link(), "near")
            near.life = 3

    engine.before = between
    receipt, _ = read(demanding(store, 10))
    assert (receipt.endpoint, receipt.attempts) == ("near", 1)
    known = store.view.of("near")
    assert known is not None
    assert known.incarnations == {0: ("near", 2)}  # what everybody believes is what was asked last
    near.origins[0] = {1: (9, None)}
    receipt, applied = read(demanding(store, 10))
    assert (receipt.endpoint, applied) == ("far", 10)


def test_a_history_that_was_lost_is_not_read_there(time: Time) -> None:
    engine = near_and_far()
    store = time.store(engine)
    near = engine.servers["near"]
    near.life, near.origins[0] = 2, {1: (12, 10), 2: (0, None)}
    engine.servers["far"].origins[0], engine.servers["far"].leads = {1: (10, 10), 2: (0, None)}, {0: {2}}
    receipt, applied = read(demanding(store, 10))
    assert (receipt.endpoint, applied) == ("far", 10)


def test_a_loss_that_a_snapshot_shows_is_said(time: Time) -> None:
    engine = near_and_far()
    store = time.store(engine)
    near = engine.servers["near"]
    near.life, near.origins[0] = 2, {1: (9, 9), 2: (0, None)}
    with pytest.raises(WriteLost):
        read(demanding(store, 10, own=True))
    assert idle(store)


def test_a_leader_that_is_another_server_by_now_takes_the_write_if_it_covers(time: Time) -> None:
    engine = near_and_far()
    store = time.store(engine)
    balanced(engine, "far", {1: (10, None)}, {1: (10, None)})
    engine.calls.clear()
    session = demanding(store, 10, own=True)
    with (block := session.write()):
        pass
    assert (block.receipt.endpoint, block.receipt.attempts) == ("far", 1)
    assert engine.calls == [("write", "far")]
    assert session.own.entries == {pack(0, 1): 11}


def test_and_not_if_it_does_not(time: Time) -> None:
    engine = near_and_far()
    store = time.store(engine)
    far = engine.servers["far"]
    far.life, far.origins[0], far.leads = 2, {2: (0, None)}, {0: {2}}
    with pytest.raises(GateTimeout), demanding(store, 10).write(wait_s=0.05):
        pass
    assert far.origins[0] == {2: (0, None)}
    assert idle(store)


def test_the_asynchronous_loop_judges_alike(time: Time) -> None:
    engine = near_and_far()

    async def main() -> None:
        async with time.async_store(engine) as store:
            balanced(engine, "near", {1: (10, None)}, {1: (10, None)})
            engine.calls.clear()
            session = store.session()
            session.join(Frontier((Position(0, 1, 10),)))
            for _ in range(10):
                async with (block := session.read()):
                    pass
                assert (block.receipt.endpoint, block.receipt.attempts) == ("near", 1)
            assert engine.calls == [("read", "near")] * 10
            balanced(engine, "far", {1: (10, None)}, {1: (10, None)})
            async with (writing := session.write()):
                pass
            assert (writing.receipt.endpoint, writing.receipt.attempts) == ("far", 1)
            assert idle(store)

    asyncio.run(main())
