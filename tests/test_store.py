"""The session layer on the reference engine, in a time that the test owns: what the public names promise."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from causal import (
    AsyncCausalStore,
    CausalStore,
    CommitUnknown,
    ConfigError,
    GateError,
    GateTimeout,
    Guarantee,
    Keyring,
    Limits,
    NoEndpoint,
    Overloaded,
    ReadPolicy,
    TokenError,
    WriteLost,
)
from causal.stores.memory import MemoryCluster, MemoryEngine
from tests.fake_engine import Time, near_and_far

KEYS = Keyring.generate()
Make = Callable[..., CausalStore[Any, Any]]


class World:
    def __init__(self) -> None:
        self.now_s = 1000.0
        self.cluster = MemoryCluster(("eu", "us"), lag_s=0.05, monotonic=lambda: self.now_s)

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def store(self, site: str, **settings: Any) -> CausalStore[Any, Any]:
        engine = MemoryEngine(cluster=self.cluster, site=site)
        given = {"keyring": KEYS, "audience": "shop", "monotonic": lambda: self.now_s, "sleep": self.sleep}
        store = CausalStore(engine, **{**given, **settings})
        store.__enter__()
        return store


@pytest.fixture
def world() -> World:
    return World()


def wrote(store: CausalStore[Any, Any], value: str = "new", token: str | None = None) -> Any:
    session = store.session(token, subject="alice")
    with session.write() as tx:
        tx.put("k", value)
    return session


def test_a_read_waits_until_the_own_write_is_there(world: World) -> None:
    us, token = world.store("us"), wrote(world.store("eu")).token()
    with us.session(subject="alice").read(policy=ReadPolicy.eventual()) as db:
        assert db.get("k") is None
    with (read := us.session(token, subject="alice").read(policy=ReadPolicy(then="error"))) as db:
        assert db.get("k") == "new"
    assert read.receipt.how == "covered"
    assert 0 < read.receipt.waited_s <= 0.06


def test_a_replica_that_stands_still_is_left_for_the_leader(world: World) -> None:
    us, token = world.store("us"), wrote(world.store("eu")).token()
    world.cluster.pause("us")
    with (read := us.session(token, subject="alice").read()) as db:
        assert db.get("k") == "new"
    assert read.receipt.endpoint == "eu"
    assert dict(read.receipt.considered)["us"].startswith("BEHIND")
    with pytest.raises(GateTimeout) as caught, us.session(token, subject="alice").read(policy=ReadPolicy(then="error")):
        pass
    assert caught.value.receipt.held is False
    stale = us.session(token, subject="alice").read(policy=ReadPolicy(wait_s=0.0, then="stale"))
    with stale as db:
        assert db.get("k") is None
    assert (stale.receipt.how, stale.receipt.held) == ("stale", False)


@pytest.mark.spec("L-5", "L-11")
def test_a_lost_write_is_said_and_forgotten_exactly(world: World) -> None:
    eu, us = world.store("eu"), world.store("us")
    session = wrote(eu)
    world.cluster.catch_up("us")
    with session.write() as tx:
        tx.put("k", "lost")
    world.cluster.forget_tail("eu", 1)
    for attempt in (session.read, session.write):
        with pytest.raises(WriteLost) as caught, attempt():
            pass
        assert [(loss.position.offset, loss.end) for loss in caught.value.lost] == [(2, 1)]
    session.forget(caught.value.lost)
    with session.read() as db:
        assert db.get("k") == "new"
    with us.session(session.token(), subject="alice").read() as db:
        assert db.get("k") == "new"


@pytest.mark.parametrize("committed", [True, False])
def test_a_commit_without_an_answer_is_in_doubt(world: World, committed: bool) -> None:
    eu, us = world.store("eu"), world.store("us")
    session = eu.session(subject="alice")
    world.cluster.lose_answer("eu", committed=committed)
    with pytest.raises(CommitUnknown), session.write() as tx:
        tx.put("k", "perhaps")
    with (read := us.session(session.token(), subject="alice").read(policy=ReadPolicy(1.0))) as db:
        assert db.get("k") == ("perhaps" if committed else None)
    assert read.receipt.how == "leader"


def test_what_a_bad_token_does_is_the_policys_choice(world: World) -> None:
    us = world.store("us")
    wrote(world.store("eu"))
    session = us.session("garbage", subject="alice")
    assert [one.index for one in session.rejected] == [0]
    assert session.changed
    with (read := session.read(policy=ReadPolicy(1.0))) as db:
        assert db.get("k") == "new"
    assert read.receipt.how == "leader"
    with (again := us.session(session.token(), subject="alice").read(policy=ReadPolicy(1.0))) as db:
        assert db.get("k") == "new"
    assert again.receipt.how == "leader"  # the mark travels in the fresh token
    assert world.store("us", policy=ReadPolicy(bad_token="ignore")).session("garbage").token() is None
    with pytest.raises(TokenError):
        world.store("us", policy=ReadPolicy(bad_token="raise")).session("garbage")


def test_who_ignores_a_token_never_says_that_what_it_demanded_was_held(world: World) -> None:
    us = world.store("us", policy=ReadPolicy(bad_token="ignore"))
    eu = world.store("eu")
    good = wrote(eu)
    with (read := us.session(good.token(), subject="alice").read(policy=ReadPolicy(1.0))) as db:
        db.get("k")
    assert read.receipt.held  # the same store, as long as all tokens open
    world.cluster.pause("us")
    with good.write() as tx:
        tx.put("k", "newer")
    for session in (us.session("garbage", subject="alice"), (late := us.session(subject="alice"))):
        if session is late:
            with (before := late.read()) as db:
                db.get("k")
            assert before.receipt.held  # nothing was presented yet
            late.join(good.token()[:-1])
        for _ in range(2):  # the first decides, the next goes straight to where it went
            with (read := session.read()) as db:
                assert db.get("k") == "new"  # her own newer write is not there
            assert not read.receipt.held
        with (write := session.write()) as tx:
            tx.put("j", "1")
        assert not write.receipt.held
        with (read := session.at(eu).read()) as db:
            db.get("k")
        assert not read.receipt.held


def test_tokens_are_joined_and_sealed_again_only_when_they_changed(world: World) -> None:
    eu, us = world.store("eu"), world.store("us")
    one = wrote(eu).token()
    with (other := us.session(subject="alice")).write() as tx:
        tx.put("j", "mine")
    session = eu.session(one, None, other.token(), subject="alice")
    assert len(session.own) == 2
    assert not session.changed  # the client holds both: a carrier is a set
    assert session.token() not in (one, other.token())
    assert len(eu.session(session.token(), subject="alice").own) == 2
    unchanged = eu.session(one, subject="alice")
    assert not unchanged.changed
    assert unchanged.token() == one
    with unchanged.read() as db:
        db.get("k")
    assert unchanged.token() == one
    assert eu.session(subject="alice").token() is None
    assert eu.session(one, subject="bob").rejected
    unchanged.rebind("bob")
    assert not eu.session(unchanged.token(), subject="bob").rejected


@pytest.mark.spec("G-49", "G-50")
def test_a_write_is_gated_too(world: World) -> None:
    us = world.store("us")
    token = wrote(world.store("eu")).token()
    world.cluster.pause("us")
    with pytest.raises(GateTimeout), us.session(token, subject="alice").write(wait_s=0.01):
        pass
    free = world.store("us", guarantees=Guarantee.READ_YOUR_WRITES)
    with free.session(token, subject="alice").write() as tx:
        tx.put("j", 1)


@pytest.mark.spec("G-55")
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_write_is_refused_by_a_leader_that_has_not_heard_that_it_was_replaced(asynchronous: bool) -> None:
    engine, time = near_and_far(), Time()
    near, far = engine.servers["near"], engine.servers["far"]
    if asynchronous:
        store = time.async_store(engine)

        async def awrite() -> None:
            async with store.session(subject="alice").write():
                pass

        def write() -> None:
            asyncio.run(awrite())
    else:
        blocking = time.store(engine)

        def write() -> None:
            with blocking.session(subject="alice").write():
                pass

    write()
    near.origins[0] = {1: (11, 11), 2: (0, None)}
    near.leads = {0: {2}}
    write()  # nobody knows yet: it is acknowledged, and lost
    assert far.origins[0][1] == (12, None)
    far.origins[0][1] = (11, None)  # it was rewound, and does not know that it was replaced
    far.life += 1
    view = (store if asynchronous else blocking)._state
    view.observe("near", near.watermarks(), view.number_now(), time.monotonic())
    for _ in range(2):
        engine.calls.clear()
        with pytest.raises(NoEndpoint, match="taken over"):
            write()
        assert ("probe", "far") in engine.calls
        assert ("write", "far") not in engine.calls
        assert engine.open_handles == []
    far.origins[0], far.leads[0] = {1: (11, 11), 2: (0, None), 3: (0, None)}, {3}
    write()
    assert far.origins[0][3] == (1, None)
    far.origins[0], far.leads[0] = {1: (11, None)}, {1}  # as before
    far.life += 1
    with pytest.raises(NoEndpoint, match="taken over"):
        write()
    engine.leader = "near"
    write()
    assert near.origins[0][2] == (1, None)


@pytest.mark.spec("L-5")
@pytest.mark.parametrize("heard", ["inside the block", "after it", "by another process only"])
def test_a_write_whose_origin_ends_between_its_admission_and_its_commit_is_told_as_lost(heard: str) -> None:
    """Its leader has not heard of that, and acknowledges. Nobody answers afterwards as if the write had never been."""
    engine, time = near_and_far(), Time()
    near, far = engine.servers["near"], engine.servers["far"]
    store, other = time.store(engine), time.store(engine)
    session = store.session(subject="alice")
    with session.read():
        pass  # near is known, too

    def hears(process: CausalStore[Any, Any]) -> None:
        process._state.observe("near", near.watermarks(), process._state.number_now(), time.monotonic())

    with session.write():
        assert far.origins[0][1] == (10, None)
        near.origins[0], near.leads[0] = {1: (10, 10), 2: (0, None)}, {2}
        if heard == "inside the block":
            hears(store)
    assert far.origins[0][1] == (11, None), "it was admitted, and is acknowledged"
    if heard == "after it":
        hears(store)
    token = session.token()
    if heard == "by another process only":
        near.up = False
        with session.read() as server:  # here nobody has heard: who holds the write may serve it, and nobody else
            assert server is far
        near.up = True
        hears(other)
    told = other.session(token, subject="alice") if heard == "by another process only" else session
    for again in (told.read, told.write):
        with pytest.raises(WriteLost) as caught, again():
            pass
        assert [(loss.position.origin, loss.position.offset, loss.end) for loss in caught.value.lost] == [(1, 11, 10)]
    fresh = time.store(engine).session(token, subject="alice")  # knows nobody yet, and asks
    far.up = False
    with pytest.raises(WriteLost), fresh.read():
        pass
    far.up, far.life, far.origins[0], far.leads[0] = True, 2, {1: (10, 10), 2: (0, None)}, set()
    with pytest.raises(WriteLost), time.store(engine).session(token, subject="alice").read():
        pass
    told.forget(caught.value.lost)
    with told.read():
        pass


def test_reads_inside_a_write_block_see_it_and_no_other_thread_does(world: World) -> None:
    eu = world.store("eu")
    session, seen = eu.session(subject="alice"), []

    def elsewhere() -> None:
        with session.read() as db:
            seen.append(db.get("k"))

    with session.write() as tx:
        tx.put("k", "inside")
        with (read := session.read()) as db:
            assert db.get("k") == "inside"
        assert read.receipt.how == "transaction"
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        with pytest.raises(ConfigError), session.write():
            pass
    assert seen == [None]


def test_two_stores_of_the_same_data_that_promise_different_things_meet_in_one_session(world: World) -> None:
    us, careless = world.store("us"), world.store("us", guarantees=Guarantee.NONE)
    session = us.session(wrote(world.store("eu")).token(), subject="alice")
    world.cluster.pause("us")
    for _ in range(2):
        with session.read(careless) as db:
            assert db.get("k") is None
        with session.read() as db:
            assert db.get("k") == "new"


@pytest.mark.spec("G-51", "G-52")
def test_limits_refuse_at_once_and_are_given_back(world: World) -> None:
    us = world.store("us", limits=Limits(waiters_per_endpoint=0, leader_reads=0))
    token = wrote(world.store("eu")).token()
    world.cluster.pause("us")
    for policy in (ReadPolicy(), ReadPolicy(wait_s=0.0)):
        with pytest.raises(Overloaded), us.session(token, subject="alice").read(policy=policy):
            pass
    assert not us._state.waiting
    assert us._state.leader_reads == 0


@pytest.mark.spec("G-51")
def test_who_waits_is_counted_by_endpoint_and_by_subject(world: World) -> None:
    state = world.store("us", limits=Limits(waiters_per_endpoint=5, waiters_per_subject=2))._state
    for subject in ("alice", "alice", None):
        state.enter_wait("us", subject)
    with pytest.raises(Overloaded):
        state.enter_wait("us", "alice")
    state.enter_wait("eu", "alice")
    for _ in range(2):
        state.enter_wait("us", None)  # five in all; and who has no name is not one subject
    with pytest.raises(Overloaded):
        state.enter_wait("us", "bob")
    state.leave_wait("us", None)
    state.enter_wait("us", "bob")


@pytest.mark.spec("G-52", "G-53")
def test_sessions_whose_token_did_not_open_take_no_place_of_others(world: World) -> None:
    us = world.store("us", limits=Limits(leader_reads=1, unauthenticated=1))
    wrote(world.store("eu"))
    with us.session("garbage").read(policy=ReadPolicy(1.0)):
        assert (us._state.unauthenticated, us._state.leader_reads) == (1, 0)
        with pytest.raises(Overloaded), us.session("garbage").read(policy=ReadPolicy(1.0)):
            pass
        us._state.enter_leader(authenticated=True)
        with pytest.raises(Overloaded):
            us._state.enter_leader(authenticated=True)
        with us.session().read(policy=ReadPolicy.leader(wait_s=1.0)):  # by policy: not counted
            pass
        with us.session(subject="bob").write():
            pass
    assert (us._state.unauthenticated, us._state.leader_reads) == (0, 1)


def test_configuration_refuses_to_forget_too_early(world: World) -> None:
    with pytest.raises(ConfigError):
        world.store("eu", token_ttl_s=960.0, max_staleness_s=900.0, max_clock_skew_s=60.0)


def test_a_replica_that_is_not_shown_to_be_fresh_does_not_serve(world: World) -> None:
    us = world.store("us")
    world.store("eu")
    world.cluster.cut_off("us")
    world.now_s += 10_000
    with pytest.raises(GateError), us.session().read():
        pass
    with (read := us.session().read(policy=ReadPolicy(unproven="serve"))) as db:
        assert db.get("k") is None
    assert read.receipt.unproven


def test_a_cancelled_read_leaves_no_waiter() -> None:
    async def main() -> None:
        cluster = MemoryCluster(("eu", "us"), lag_s=0.0)
        eu, us = (
            AsyncCausalStore(MemoryEngine(cluster=cluster, site=site), keyring=KEYS, audience="shop")
            for site in ("eu", "us")
        )
        async with eu, us:
            cluster.pause("us")
            async with (alice := eu.session(subject="alice")).write() as tx:
                tx.put("k", "new")

            async def read() -> Any:
                async with us.session(alice.token(), subject="alice").read(policy=ReadPolicy(60.0)) as db:
                    return db.get("k")

            tasks = [asyncio.create_task(read()) for _ in range(4)]
            while us._state.waiting["us", "alice"] < 4:  # noqa: ASYNC110 - the tasks have no event to tell of it
                await asyncio.sleep(0)
            for task in tasks[:3]:
                task.cancel()
            await asyncio.gather(*tasks[:3], return_exceptions=True)
            assert us._state.waiting["us", "alice"] == 1
            cluster.catch_up("us")
            assert await tasks[3] == "new"
            assert not us._state.waiting
            assert us._lines["us"].poller is None
            assert not us._lines["us"].queue

    asyncio.run(main())


def test_a_leader_read_waits_for_whoever_gets_there_and_not_for_one_that_stands_still(world: World) -> None:
    """Each site numbers something that the other lacks: the nearest is paused, the other is whole once the lag is over."""
    eu, us = world.store("eu"), world.store("us")
    wrote(eu, "first")
    wrote(us, "second")
    world.now_s += 1.0
    for site in ("eu", "us"):
        world.cluster.catch_up(site)
    world.cluster.pause("eu")
    tokens = [wrote(us, "theirs").token(), wrote(eu, "mine").token()]
    session = eu.session(*tokens, subject="alice", policy=ReadPolicy.leader(wait_s=3.0))
    with (read := session.read()) as db:
        assert db.get("k") is not None
    assert read.receipt.endpoint == "us"
    assert read.receipt.waited_s < 1.0
