"""One request's account: what a receipt may call held, how a snapshot is judged, and what a write block's own transaction may show."""

from typing import Any

import pytest

from causal import Frontier, Position, ReadPolicy, Receipt
from tests.fake_engine import FakeEngine, Server, Time, near_and_far


@pytest.fixture
def time() -> Time:
    return Time()


def read(session: Any, *args: Any, **kwargs: Any) -> Receipt:
    with (block := session.read(*args, **kwargs)):
        pass
    receipt: Receipt = block.receipt
    return receipt


def seen(shard: int, origin: int, offset: int) -> Frontier:
    return Frontier((Position(shard, origin, offset),))


# --- what a receipt may call held --------------------------------------------------------------------------------------


def test_a_quorum_without_the_token_holds_nothing_even_where_a_mark_sends_it_to_a_leader(time: Time) -> None:
    near = Server("near", {0: {1: (10, None)}, 1: {1: (10, None)}}, {1: {1}})
    far = Server("far", {0: {1: (10, None)}, 1: {1: (10, None)}}, {0: {1}}, latency_s=0.05)
    store = time.store(FakeEngine(near, far, leader="far", shards={"x": 0, "y": 1}, dependencies=True))
    far.origins[0] = {1: (11, None)}
    session = store.session()
    session.join(seen(0, 1, 11))
    session._state.mark(0, int(time.wall()) + 960, exact={0})
    receipt = read(session, shard="x", policy=ReadPolicy.quorum(1, token=False))
    assert (receipt.endpoint, receipt.how, receipt.held) == ("near", "leader", False)
    receipt = read(session, shard="x", policy=ReadPolicy.quorum(1))
    assert (receipt.endpoint, receipt.held) == ("far", True)


# --- how a snapshot is judged --------------------------------------------------------------------------------------------


def test_a_leader_that_has_not_heard_of_an_end_is_read_all_the_same(time: Time) -> None:
    near = Server("near", {0: {1: (10, None), 3: (5, 5)}})
    far = Server("far", {0: {1: (10, None), 3: (5, None)}}, {0: {1}}, latency_s=0.05)
    store = time.store(FakeEngine(near, far, leader="far"))
    receipt = read(store.session("garbage"))
    assert (receipt.endpoint, receipt.attempts, receipt.held) == ("far", 1, True)
    far.origins[0][3], far.life = (4, None), 2
    assert read(store.session(), policy=ReadPolicy.leader(wait_s=0.0)).endpoint == "near"


def test_an_origin_that_nobody_numbers_is_no_matter_where_the_leader_is_not_asked_for(time: Time) -> None:
    """A mark on y, a read of x, where the policy lets replicas serve that are not shown to be fresh."""
    near = Server("near", {0: {1: (10, None), 3: (5, None)}, 1: {2: (5, None)}}, {0: {1}, 1: {2}})
    store = time.store(
        FakeEngine(near, shards={"x": 0, "y": 1}, dependencies=True), policy=ReadPolicy(unproven="serve")
    )
    session = store.session()
    session._state.mark(0, int(time.wall()) + 960, exact={0})
    receipt = read(session, shard="x")
    assert (receipt.how, receipt.attempts) == ("leader", 1)


def test_a_leaders_head_of_one_shard_is_no_excuse_for_another_that_is_stale(time: Time) -> None:
    """A mark on y, a read of x: between the decision and the snapshot, what showed the endpoint fresh on x grows too old."""
    near = Server("near", {0: {1: (10, None)}, 1: {2: (5, None)}}, {1: {2}})
    far = Server("far", {0: {1: (10, None)}, 1: {2: (5, None)}}, {0: {1}}, latency_s=0.05)
    engine = FakeEngine(near, far, shards={"x": 0, "y": 1}, dependencies=True)
    store = time.store(engine)
    session = store.session()
    session._state.mark(0, int(time.wall()) + 10_000, exact={0})
    far.origins[0] = {1: (11, None)}
    time.sleep(899)
    engine.before = lambda kind, name: time.sleep(2) if (kind, name) == ("read", "near") else None
    assert read(session, shard="x", policy=ReadPolicy(0.0)).endpoint == "far"


def test_a_pause_before_the_snapshot_voids_a_bound_of_its_own(time: Time) -> None:
    engine = near_and_far()
    store = time.store(engine)
    engine.servers["far"].origins[0] = {1: (11, None)}
    time.sleep(4)
    engine.before = lambda kind, name: time.sleep(2) if (kind, name) == ("read", "near") else None
    assert read(store.session(), policy=ReadPolicy.bounded(5)).endpoint == "far"
