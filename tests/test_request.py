"""One request's account: what a receipt may call held, how a snapshot is judged, and what a write block's own transaction may show."""

from typing import Any

import pytest

from causal import CommitUnknown, Frontier, GateTimeout, Guarantee, Loss, Position, ReadPolicy, Receipt, StoreError
from causal.core.frontier import EVERY_STORE, LeaderMark, pack
from causal.core.gate import Probe
from causal.engine import Commit
from causal.request import Request
from causal.session import SessionState
from causal.stores.memory import MemoryEngine
from tests.fake_engine import FakeEngine, Handle, Origins, Server, Time, idle, near_and_far


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


def test_a_leader_read_without_every_head_holds_nothing(time: Time) -> None:
    near = Server("near", {0: {1: (10, None), 2: (5, None)}}, {0: {1}})
    store = time.store(FakeEngine(near), policy=ReadPolicy(unproven="serve"))
    receipt = read(store.session("garbage"))
    assert (receipt.how, receipt.unproven, receipt.held) == ("leader", True, False)


def test_a_bound_holds_nothing_of_the_session(time: Time) -> None:
    receipt = read(time.store(near_and_far()).session(), policy=ReadPolicy.bounded(5))
    assert (receipt.how, receipt.held) == ("bounded", False)


# --- what may be lost ----------------------------------------------------------------------------------------------------


@pytest.mark.spec("L-11")
def test_what_is_forgotten_is_the_loss_that_was_named_and_nothing_else() -> None:
    loss = Loss(Position(0, 1, 60), 50)
    for own, own_left, saw, seen_left in ((60, 50, 55, 50), (61, 61, 60, 50), (60, 50, 61, 61), (60, 50, 40, 40)):
        session = SessionState(None)
        session.own, session.seen = seen(0, 1, own) | seen(1, 1, 60), seen(0, 1, saw) | seen(0, 2, 99)
        session.forget([loss])
        assert session.own == seen(0, 1, own_left) | seen(1, 1, 60)
        assert session.seen == seen(0, 1, seen_left) | seen(0, 2, 99)


@pytest.mark.spec("L-12")
def test_what_is_forgotten_of_a_doubtful_mark_is_of_its_own_store(time: Time) -> None:
    """Two stores number their origins each for itself: a loss that is accepted in one is none that is accepted in the other."""
    gone: Origins = {1: (10, None), 3: (5, 5)}
    one = time.store(FakeEngine(Server("one", {0: gone}, {0: {1}})))
    two = time.store(FakeEngine(Server("two", {2 << 16: gone}, {2 << 16: {1}})), number=2)
    session = one.session()
    until = int(time.wall()) + 960
    session.join(Frontier().mark(0, until, origins=(3, 4)).mark(2, until, origins=(3,)))
    with pytest.raises(CommitUnknown) as caught:
        read(session)
    session.forget(caught.value.lost)
    assert [mark.origins for mark in session.seen.marks.values()] == [{4}, {3}]
    with pytest.raises(CommitUnknown):
        read(session, two)


# --- what a write depends on ---------------------------------------------------------------------------------------------


def test_what_other_stores_folded_travels_with_the_dependencies(time: Time) -> None:
    """Or an effect in this store would be shown without its causes in another, whose token had to be made shorter."""
    until = int(time.wall()) + 960
    posts = time.store(MemoryEngine(("eu", "us"), store=7, monotonic=time.monotonic, lag_s=9.0), number=7)
    replies = time.store(MemoryEngine(("eu",), monotonic=time.monotonic))
    alice = replies.session(subject="alice")
    for store in (0, 7, EVERY_STORE):
        alice.join(Frontier().mark(store, until, exact=(store << 16,), origins=(1,)))
    alice.join(Frontier.of({}, {0: 0, 7: 0}))
    with alice.write() as tx:
        tx.put("reply", "yes")
    bob = replies.session(subject="bob")
    for _ in range(2):
        with bob.read() as db:
            assert db.get("reply") == "yes"
        assert bob.seen.marks == {
            7: LeaderMark(until, frozenset({7 << 16}))
        }  # and no write of Alice's that may be lost
        assert bob.seen.floors == {7: 0}
        version = bob._state.version
    with bob.read() as db:
        assert db.get("reply") == "yes"
    assert bob._state.version == version  # nothing new
    bob.join(Frontier().mark(7, until))
    assert read(bob, posts).how == "leader"
    time.sleep(1000)
    with (carol := replies.session(subject="carol")).read() as db:
        assert db.get("reply") == "yes"
    assert not carol.seen.marks


@pytest.mark.spec("G-3")
@pytest.mark.parametrize(
    ("promised", "reading", "writing"),
    [
        (Guarantee.NONE, (False, False), (False, False)),
        (Guarantee.READ_YOUR_WRITES, (True, False), (False, False)),
        (Guarantee.MONOTONIC_READS, (True, True), (False, False)),
        (Guarantee.MONOTONIC_WRITES, (False, False), (True, False)),
        (Guarantee.WRITES_FOLLOW_READS, (False, False), (True, True)),
        (Guarantee.ALL, (True, True), (True, True)),
    ],
)
def test_what_is_promised_chooses_what_counts(
    time: Time, promised: Guarantee, reading: tuple[bool, bool], writing: tuple[bool, bool]
) -> None:
    """Own positions, and seen ones: a session that has both demands these of a read and of a write."""
    store = time.store(near_and_far(), guarantees=promised)
    session = store.session()._state
    session.own, session.seen = seen(0, 1, 3), seen(0, 2, 4)
    for write, counts in ((False, reading), (True, writing)):
        demand = session.demand(store._state, 0, time.wall(), write=write)
        assert demand.need == {k: n for k, n, it in zip((pack(0, 1), pack(0, 2)), (3, 4), counts, strict=True) if it}


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


@pytest.mark.spec("G-24")
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


@pytest.mark.spec("G-24")
@pytest.mark.parametrize("unproven", ["refuse", "serve"])
def test_a_pause_before_the_snapshot_voids_freshness(time: Time, unproven: Any) -> None:
    engine = near_and_far()
    store = time.store(engine, policy=ReadPolicy(unproven=unproven))
    engine.servers["far"].origins[0] = {1: (11, None)}
    time.sleep(899)
    engine.before = lambda kind, name: time.sleep(2) if (kind, name) == ("read", "near") else None
    receipt = read(store.session())
    assert (receipt.endpoint, receipt.unproven) == (("far", False) if unproven == "refuse" else ("near", True))


def test_a_snapshot_shows_freshness_from_when_it_was_asked_for(time: Time) -> None:
    """Not from when it came: what others acknowledged meanwhile is not in it."""
    engine = near_and_far()
    store = time.store(engine)
    engine.servers["far"].life = 2  # so that its snapshot is news
    engine.servers["far"].origins[0] = {1: (11, None)}
    decided_s: list[float] = []
    engine.before = lambda kind, name: (decided_s.append(time.now_s), time.sleep(5)) if kind == "write" else None
    with store.session().write():
        assert store.view.heads[pack(0, 1)][-1][0] in decided_s


def test_a_write_learns_from_the_snapshot_that_did_not_bear_it_out(time: Time) -> None:
    engine = near_and_far()
    store = time.store(engine)
    engine.servers["far"].life = 2
    block = store.session().write()
    with block:
        pass
    assert block.receipt.attempts <= 3
    assert [call for call in engine.calls if call[0] == "probe"] == [("probe", "near"), ("probe", "far")]


@pytest.mark.spec("G-24")
@pytest.mark.parametrize(("bound_s", "max_staleness_s"), [(5, 900), (9, 5)])
def test_a_pause_before_the_snapshot_voids_a_bound_of_its_own(time: Time, bound_s: int, max_staleness_s: int) -> None:
    """Which is never longer than what the store allows."""
    engine = near_and_far()
    store = time.store(engine, max_staleness_s=max_staleness_s)
    engine.servers["far"].origins[0] = {1: (11, None)}
    time.sleep(4)
    engine.before = lambda kind, name: time.sleep(2) if (kind, name) == ("read", "near") else None
    assert read(store.session(), policy=ReadPolicy.bounded(bound_s)).endpoint == "far"


@pytest.mark.spec("G-24")
def test_a_pause_is_no_matter_where_heads_show_more_or_to_a_write(time: Time) -> None:
    """Two sites, each of which follows the other: what showed one to be fresh is older than it may be, once its snapshot is there."""
    both: Origins = {1: (10, None), 2: (5, None)}
    eu = Server("eu", {0: dict(both)}, {0: {1}}, latency_s=0.05)
    engine = FakeEngine(eu, Server("us", {0: dict(both)}, {0: {2}}), leader="us")
    store = time.store(engine)
    engine.before = lambda kind, name: time.sleep(1000) if kind in ("read", "write") else None
    receipt = read(store.session(), policy=ReadPolicy.leader())
    assert (receipt.endpoint, receipt.how, receipt.attempts, receipt.unproven) == ("us", "leader", 1, False)
    with (block := store.session().write()):
        pass
    assert (block.receipt.endpoint, block.receipt.attempts, block.receipt.unproven) == ("us", 1, False)


# --- inside a write block ------------------------------------------------------------------------------------------------


@pytest.fixture
def engine() -> FakeEngine:
    """Here origin 1 of two shards is numbered, and 3 of origin 2 are applied, which is numbered there."""
    origins: Origins = {1: (10, None), 2: (3, None)}
    return FakeEngine(
        Server("here", {0: dict(origins), 1: dict(origins)}, {0: {1}, 1: {1}}),
        Server("there", {0: dict(origins), 1: dict(origins)}, {0: {2}, 1: {2}}, latency_s=0.05),
        shards={"x": 0, "y": 1},
        dependencies=True,
    )


def test_a_read_in_a_write_block_is_refused_what_its_session_saw_since_and_the_block_lacks(
    time: Time, engine: FakeEngine
) -> None:
    told: list[Receipt] = []
    store = time.store(engine, on_receipt=told.append)
    session = store.session()
    block = session.write(shard="x")
    block.__enter__()
    try:
        session.join(seen(0, 2, 3), seen(1, 2, 3))
        assert read(session, shard="x").how == "transaction"
        session.join(seen(1, 2, 7))  # of another shard: judged where that is read
        assert read(session, shard="x").held
        session.join(seen(0, 2, 4))
        with pytest.raises(GateTimeout) as caught:
            read(session, shard="x")
        assert (caught.value.receipt.how, caught.value.receipt.held) == ("refused", False)
        assert told[-1].refused == "GateTimeout"
        for policy in (
            ReadPolicy(then="stale"),
            ReadPolicy.eventual(),
            ReadPolicy.bounded(9),
            ReadPolicy.leader_window(9),
        ):
            receipt = read(session, shard="x", policy=policy)
            assert (receipt.how, receipt.held) == ("transaction", False)
        for policy in (ReadPolicy.leader(), ReadPolicy.quorum(1)):
            with pytest.raises(GateTimeout):
                read(session, shard="x", policy=policy)
    finally:
        with pytest.raises(GateTimeout):
            block.__exit__(None, None, None)
    assert idle(store)


def test_a_write_that_was_not_gated_is_no_excuse_for_a_read_inside_it(time: Time, engine: FakeEngine) -> None:
    session = time.store(engine, guarantees=Guarantee.READ_YOUR_WRITES).session()
    session._state.own = seen(0, 2, 4)
    with session.write(shard="x"):
        with pytest.raises(GateTimeout):
            read(session, shard="x")
        engine.servers["here"].origins[0][2] = (4, None)  # the transaction began before
        with pytest.raises(GateTimeout):
            read(session, shard="x")


def test_a_write_is_not_committed_after_what_its_leader_lacks(time: Time, engine: FakeEngine) -> None:
    """It would be shown without its causes, and could lose against them."""
    store = time.store(engine)
    session = store.session()
    block = session.write(shard="x")
    block.__enter__()
    (handle,) = engine.open_handles
    session.join(seen(0, 2, 4))
    with pytest.raises(GateTimeout):
        block.__exit__(None, None, None)
    assert handle.ended == "rolled back"
    assert block.receipt.refused == "GateTimeout"
    assert not session.own
    assert idle(store)
    engine.servers["here"].origins[0][2] = (4, None)
    with session.write(shard="x"):
        session.join(seen(0, 2, 4), seen(0, 2, 3))
    assert session.own == seen(0, 1, 11)


def test_what_is_lost_does_not_hold_up_a_block_that_goes_on(time: Time, engine: FakeEngine) -> None:
    engine.servers["here"].origins[0][2] = (3, 3)
    session = time.store(engine).session()
    with session.write(shard="x"):
        session.join(seen(0, 2, 4))
        assert read(session, shard="x").held


def test_a_mark_that_was_not_there_when_a_block_began_counts(time: Time, engine: FakeEngine) -> None:
    session = time.store(engine).session()
    block = session.write(shard="x")
    block.__enter__()
    session._state.mark(0, int(time.wall()) + 960, exact={0})
    assert read(session, shard="x").held  # the mark is of another shard
    session._state.mark(0, int(time.wall()) + 960)
    for end in (lambda: read(session, shard="x"), lambda: block.__exit__(None, None, None)):
        with pytest.raises(GateTimeout):
            end()
    with session.write(shard="x"):  # gated on it
        session.join(seen(0, 2, 3))
        assert read(session, shard="x").held


@pytest.mark.parametrize(
    "failure", [StoreError("the disk is full"), CommitUnknown("no answer"), KeyboardInterrupt(), None]
)
def test_what_a_block_showed_is_seen_whatever_becomes_of_its_write(
    time: Time, engine: FakeEngine, failure: BaseException | None
) -> None:
    def fail(handle: Handle) -> Commit:
        assert failure is not None
        raise failure

    if failure is not None:
        engine.answer = fail
    engine.servers["here"].shown = seen(0, 2, 3)
    session = time.store(engine).session()
    try:
        with session.write(shard="x"):
            pass
    except (StoreError, CommitUnknown, KeyboardInterrupt):
        pass
    assert session.seen.exact == seen(0, 2, 3)


# --- what is left of a budget --------------------------------------------------------------------------------------------


def test_of_several_questions_each_has_what_the_ones_before_have_left(time: Time) -> None:
    store = time.store(near_and_far())
    request = Request(store._state, store.session()._state, 0, ReadPolicy(), kind="read")
    request.decide()
    time.now_s += 0.03
    assert request.left_s(Probe(("near", "far"), "", 0.1)) == pytest.approx(0.07)
    assert request.left_s(Probe(("near", "far"), "")) is None
