"""Read and write blocks: which reads belong to which transaction, and what is left behind however a block ends."""

import asyncio
import contextvars
import json
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, nullcontext, suppress
from typing import Any

import pytest

from causal import (
    CommitUnknown,
    ConfigError,
    Frontier,
    GateError,
    GateTimeout,
    Guarantee,
    Limits,
    Overloaded,
    Position,
    ReadPolicy,
    Receipt,
    StoreError,
    WriteLost,
)
from causal.blocks import enclosing
from causal.core.frontier import pack
from causal.core.watermark import Watermark
from causal.engine import Commit
from causal.errors import Unreachable
from causal.session import Written
from tests.fake_engine import FakeEngine, Handle, Server, Time, idle, near_and_far


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    """One site with two shards; every handle that a test opened must have ended."""
    site = Server("here", {0: {1: (10, None)}, 1: {1: (10, None)}}, {0: {1}, 1: {1}})
    engine = FakeEngine(site, shards={"x": 0, "y": 1})
    yield engine
    assert not engine.open_handles


def how(session: Any, *args: Any, **kwargs: Any) -> str:
    with (read := session.read(*args, **kwargs)):
        pass
    return str(read.receipt.how)


# --- inside a write block --------------------------------------------------------------------------------------------


def test_a_read_inside_a_write_block_uses_its_transaction(time: Time, engine: FakeEngine) -> None:
    store = time.store(engine)
    session = store.session(subject="alice")
    with session.write(shard="x") as tx:
        with (read := session.read(shard="x")) as db:
            assert db is tx
        assert read.receipt.how == "transaction"
        assert read.receipt.endpoint == "here"
        assert read.receipt.held
        assert engine.open_handles  # the transaction is not the read's to end
        with suppress(RuntimeError), session.read(shard="x"):
            raise RuntimeError
        assert engine.open_handles
    assert how(session, shard="x") == "covered"


def test_only_of_its_own_session_shard_and_store(time: Time, engine: FakeEngine) -> None:
    store, other = time.store(engine), time.store(engine)
    session = store.session(subject="alice")
    with session.write(shard="x"):
        assert how(session, shard="y") == "covered"
        assert how(session, other, shard="x") == "covered"
        assert how(store.session(subject="alice"), shard="x") == "covered"
        with session.write(shard="y"):
            assert how(session, shard="x") == how(session, shard="y") == "transaction"
        with store.session(subject="alice").write(shard="x"):
            assert how(session, shard="x") == "transaction"
        with pytest.raises(ConfigError, match="already inside"), session.write(shard="x"):
            pass
        assert how(session, shard="x") == "transaction"


def test_never_of_another_thread_even_in_a_copied_context(time: Time, engine: FakeEngine) -> None:
    session = time.store(engine).session()
    found: list[str] = []
    with session.write(shard="x"):
        for target in (how, contextvars.copy_context().run):
            args: tuple[Any, ...] = (session,) if target is how else (how, session)
            thread = threading.Thread(target=lambda t=target, a=args: found.append(t(*a, shard="x")))  # type: ignore[misc]
            thread.start()
            thread.join()
    assert found == ["covered", "covered"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_never_of_a_forked_child(time: Time, engine: FakeEngine) -> None:
    session = time.store(engine).session()
    with session.write(shard="x"):
        child = os.fork()
        if not child:
            code = 1
            with suppress(BaseException):
                code = 0 if how(session, shard="x") == "covered" else 1
            os._exit(code)
        assert os.waitpid(child, 0)[1] == 0


def test_never_of_a_child_task_nor_of_a_thread_of_it(time: Time, engine: FakeEngine) -> None:
    async def main() -> list[str]:
        store = time.async_store(engine)
        session, found = store.session(), list[str]()

        async def look() -> None:
            async with (read := session.read(shard="x")):
                found.append(read.receipt.how)

        async with store, session.write(shard="x"):
            await look()
            await asyncio.create_task(look())
            async with asyncio.TaskGroup() as group:
                group.create_task(look())
            await asyncio.gather(look())
            await look()
        await look()
        return found

    assert asyncio.run(main()) == ["transaction", "covered", "covered", "covered", "transaction", "covered"]


def test_a_synchronous_block_in_a_task_is_that_tasks(time: Time, engine: FakeEngine) -> None:
    session = time.store(engine).session()

    async def main() -> list[str]:
        async def look() -> str:
            return how(session, shard="x")

        with session.write(shard="x"):
            mine = how(session, shard="x")
            other = await asyncio.create_task(look())
            thread = await asyncio.to_thread(how, session, shard="x")
        return [mine, other, thread]

    assert asyncio.run(main()) == ["transaction", "covered", "covered"]


def test_a_block_left_in_another_context_is_forgotten_in_this_one(time: Time, engine: FakeEngine) -> None:
    session = time.store(engine).session()
    for _ in range(3):
        block = session.write(shard="x")
        block.__enter__()
        contextvars.copy_context().run(block.__exit__, None, None, None)
        assert how(session, shard="x") == "covered"
    assert len(enclosing.get()) <= 1
    with session.write(shard="x"):
        assert how(session, shard="x") == "transaction"
    assert not enclosing.get()


def test_blocks_may_end_in_any_order(time: Time, engine: FakeEngine) -> None:
    session = time.store(engine).session()
    x, y = session.write(shard="x"), session.write(shard="y")
    x.__enter__()
    y.__enter__()
    x.__exit__(None, None, None)
    assert how(session, shard="y") == "transaction"
    assert how(session, shard="x") == "covered"
    y.__exit__(None, None, None)
    assert not enclosing.get()


# --- how a write ends ------------------------------------------------------------------------------------------------


def test_what_a_commit_acknowledges_is_the_sessions_own(time: Time, engine: FakeEngine) -> None:
    session = time.store(engine).session()
    with session.write(shard="x"):
        pass
    assert session.own == Frontier((Position(0, 1, 11),))
    assert not session.seen
    assert session.changed


def test_the_acknowledgement_returns_dependencies(time: Time, engine: FakeEngine) -> None:
    engine.answer = lambda handle: Commit(Position(0, 1, 11), Frontier((Position(1, 1, 7),)))
    session = time.store(engine).session()
    with session.write(shard="x"):
        pass
    assert session.seen == Frontier((Position(1, 1, 7),))


@pytest.mark.parametrize("ends", ["commit", "raise"])
def test_what_a_write_block_read_is_seen_however_it_ends(time: Time, engine: FakeEngine, ends: str) -> None:
    engine.answer = lambda handle: Commit(Position(0, 1, 11))
    session = time.store(engine).session()
    engine.servers["here"].shown = Frontier((Position(1, 1, 7),))
    with suppress(RuntimeError), session.write(shard="x"):
        if ends == "raise":
            raise RuntimeError
    assert session.seen == Frontier((Position(1, 1, 7),))
    assert bool(session.own) == (ends == "commit")


def test_a_write_depends_on_all_that_the_session_knows_and_the_block_read(time: Time, engine: FakeEngine) -> None:
    session = time.store(engine).session()
    foreign = Frontier((Position(7 << 16, 3, 5),))
    session.join(foreign, Frontier((Position(1, 1, 4),)))
    engine.servers["here"].shown = Frontier((Position(0, 1, 2),))
    with session.write(shard="x"):
        (handle,) = engine.open_handles
    assert handle.deps == foreign | Frontier((Position(1, 1, 4), Position(0, 1, 2)))


@pytest.mark.parametrize("folded", ["floor", "mark"])
def test_what_was_folded_is_depended_on_as_what_the_write_was_gated_on(time: Time, folded: str) -> None:
    """A floor or a mark stands for positions that are no longer listed: who reads the write must not lose them (I8)."""
    here = Server("here", {0: {1: (10, None), 2: (8, None)}}, {0: {1}})
    there = Server("there", {0: {1: (9, None), 2: (8, None)}}, {0: {2}}, latency_s=0.01)
    engine = FakeEngine(here, there, dependencies=True, clock_offsets=True)
    store = time.store(engine)
    session = store.session()
    if folded == "floor":
        session.join(Frontier.of({}, {0: 7}))
    else:
        session.join(Frontier().mark(0, int(time.wall()) + 100))
    with session.write():
        (handle,) = engine.open_handles
    assert handle.deps.entries[pack(0, 2)] >= (7 if folded == "floor" else 8)


def test_also_where_one_leader_numbers_everything(time: Time) -> None:
    """It is current by construction, but nobody knows where it is before it was asked."""
    leader = Server("leader", {0: {1: (10, None)}, 1: {1: (10, None)}}, {0: {1}, 1: {1}})
    engine = FakeEngine(leader, shards={"x": 0, "y": 1}, dependencies=True)
    store, elsewhere = time.store(engine), time.store(engine)
    session = store.session()
    leader.origins[0] = {1: (11, None)}  # by somebody else: this is what the mark folded
    session.join(elsewhere.head().exact.on(1), Frontier().mark(0, int(time.wall()) + 100))
    with session.write(shard="y"):
        (handle,) = engine.open_handles
    assert handle.deps.entries[pack(0, 1)] == 11


@pytest.mark.parametrize("folded", ["floor", "mark"])
def test_what_is_folded_once_a_write_began_it_cannot_depend_on(time: Time, folded: str) -> None:
    here = Server("here", {0: {1: (10, None)}, 1: {1: (10, None)}}, {0: {1}, 1: {1}})
    engine = FakeEngine(here, shards={"x": 0, "y": 1}, dependencies=True, clock_offsets=True)
    session = time.store(engine).session()
    block = session.write(shard="y")
    block.__enter__()
    if folded == "floor":
        session.join(Frontier.of({}, {0: 7}))
    else:
        session.join(Frontier().mark(0, int(time.wall()) + 100, exact={1}))
    with pytest.raises(GateTimeout):
        block.__exit__(None, None, None)
    assert here.origins[1] == {1: (10, None)}
    assert not engine.open_handles


def gone_meanwhile() -> tuple[FakeEngine, Frontier]:
    """Two leaders, and the demand of a session that folded its own writes at the second one."""
    here = Server("here", {0: {1: (10, None), 2: (8, None)}}, {0: {1}})
    there = Server("there", {0: {1: (10, None), 2: (8, None)}}, {0: {2}}, latency_s=0.01)
    return FakeEngine(here, there), Frontier().mark(0, 10**10, origins={2})


def test_what_comes_into_doubt_while_a_write_block_is_open_ends_its_transaction(time: Time) -> None:
    """The history of folded own writes ends: nothing was sent, so nothing is in doubt but them, and the lock is free again."""
    engine, folded = gone_meanwhile()
    store = time.store(engine)
    session = store.session()
    session.join(folded)
    block = session.write()
    block.__enter__()
    (handle,) = engine.open_handles
    for server in engine.servers.values():
        server.origins[0] = {1: (10, None), 2: (8, 8)}
    session.join(store.head(), Frontier((Position(0, 1, 9),)))
    with pytest.raises(CommitUnknown) as caught:
        block.__exit__(None, None, None)
    assert handle.ended == "rolled back"
    assert block.receipt.refused == "CommitUnknown"
    session.forget(caught.value.lost)
    with session.write():
        pass
    assert not engine.open_handles


def test_and_that_of_an_asynchronous_one(time: Time) -> None:
    engine, folded = gone_meanwhile()

    async def play() -> None:
        store = time.async_store(engine)
        session = store.session()
        session.join(folded)
        block = session.write()
        await block.__aenter__()
        (handle,) = engine.open_handles
        for server in engine.servers.values():
            server.origins[0] = {1: (10, None), 2: (8, 8)}
        session.join(await store.head(), Frontier((Position(0, 1, 9),)))
        with pytest.raises(CommitUnknown):
            await block.__aexit__(None, None, None)
        assert handle.ended == "rolled back"
        await store.close()

    asyncio.run(play())


def test_a_block_that_raises_is_rolled_back(time: Time, engine: FakeEngine) -> None:
    session = time.store(engine).session()
    handles: list[Handle] = []
    with suppress(RuntimeError), session.write(shard="x"):
        handles += engine.open_handles
        raise RuntimeError
    assert [handle.ended for handle in handles] == ["rolled back"]
    assert session.token() is None


def test_nothing_written_is_nothing_demanded(time: Time, engine: FakeEngine) -> None:
    engine.answer = lambda handle: Commit(None)
    session = time.store(engine).session()
    with session.write(shard="x"):
        pass
    assert session.token() is None
    assert not session.changed


def test_a_commit_that_failed_is_not_in_doubt(time: Time, engine: FakeEngine) -> None:
    def full(handle: Handle) -> Commit:
        raise StoreError("the disk is full")

    engine.answer = full
    session = time.store(engine).session()
    with pytest.raises(StoreError), session.write(shard="x"):
        pass
    assert session.token() is None


@pytest.mark.spec("L-14")
@pytest.mark.parametrize("doubt", [CommitUnknown("no answer"), KeyboardInterrupt(), SystemExit(), None])
def test_a_commit_in_doubt_marks_its_shard_for_the_leader(
    time: Time, engine: FakeEngine, doubt: BaseException | None
) -> None:
    """Without an answer, interrupted, or committed without a position (which raises nothing)."""

    def answer(handle: Handle) -> Commit:
        if doubt is None:
            return Commit(None, captured=False)
        raise doubt

    engine.answer = answer
    session = time.store(engine).session()
    write = session.write(shard="x")
    with pytest.raises(type(doubt)) if doubt is not None else nullcontext(), write:
        pass
    mark = session.seen.marks[0]
    assert mark.exact == {1}
    assert mark.until == int(time.wall() + 900 + 60) + 1
    assert how(session, shard="x") == "leader"
    assert how(session, shard="y") == "covered"
    if isinstance(doubt, CommitUnknown):
        assert write.receipt.refused == "CommitUnknown"
        assert not doubt.receipt.held
    time.sleep(970)
    assert how(session, shard="x") == "covered"
    assert session.token() is None


def test_a_commit_that_cannot_be_accounted_for_is_in_doubt(time: Time, engine: FakeEngine) -> None:
    """It has happened, and the session does not know where: an engine that numbers beyond all numbers."""
    engine.answer = lambda handle: Commit(Position(0, 1, 2**64))
    session = time.store(engine).session()
    with pytest.raises(ConfigError), session.write(shard="x"):
        pass
    assert session.seen.marks[0].exact == {1}
    assert not engine.open_handles

    async def main() -> None:
        session = time.async_store(engine).session()
        with pytest.raises(ConfigError):
            async with session.write(shard="x"):
                pass
        assert session.seen.marks[0].exact == {1}
        assert not engine.open_handles

    asyncio.run(main())


def test_a_cancelled_commit_is_in_doubt(time: Time, engine: FakeEngine) -> None:
    def cancelled(handle: Handle) -> Commit:
        raise asyncio.CancelledError

    engine.answer = cancelled

    async def main() -> Any:
        async with time.async_store(engine) as store:
            session = store.session()
            with suppress(asyncio.CancelledError):
                async with session.write(shard="x"):
                    pass
            return session.seen.marks

    assert asyncio.run(main())[0].exact == {1}


# --- how a read ends -------------------------------------------------------------------------------------------------


def test_what_a_read_showed_is_seen_even_if_its_block_raises(time: Time, engine: FakeEngine) -> None:
    session = time.store(engine).session()
    engine.servers["here"].shown = Frontier((Position(0, 1, 9),))
    for _ in range(2):  # the second goes the way of the first
        with suppress(RuntimeError), session.read(shard="x"):
            raise RuntimeError
    assert session.seen == Frontier((Position(0, 1, 9),))


@pytest.mark.parametrize("reads", [1, 2])
def test_an_endpoint_that_is_lost_in_a_block_is_gone_round_by_the_next(time: Time, reads: int) -> None:
    engine = near_and_far()
    store = time.store(engine)
    session = store.session()
    for _ in range(reads - 1):
        assert how(session) == "covered"
    with suppress(Unreachable), session.read() as server:
        assert server.name == "near"
        raise Unreachable("the connection broke")
    with session.read() as server:
        assert server.name == "far"
    assert idle(store)


def test_a_receipt_exists_once_a_block_was_entered(time: Time, engine: FakeEngine) -> None:
    session = time.store(engine).session()
    for block in (session.read(shard="x"), session.write(shard="x")):
        with pytest.raises(ConfigError):
            block.receipt  # noqa: B018
        with block:  # type: ignore[attr-defined]
            assert block.receipt.how == "covered"
        assert block.receipt.kind == ("read" if block.__class__.__name__ == "Read" else "write")


def test_a_shard_must_be_named_where_there_are_several(time: Time, engine: FakeEngine) -> None:
    session = time.store(engine).session()
    for enter in (session.read(), session.write(), session.read(shard="z"), session.write(shard="z")):
        with pytest.raises(ConfigError):
            enter.__enter__()  # type: ignore[attr-defined]


def test_every_receipt_is_plain_json(time: Time) -> None:
    engine = near_and_far()
    told: list[Receipt] = []
    store = time.store(engine, on_receipt=told.append)
    session = store.session()
    session.join(Frontier((Position(0, 1, 60),)))
    with session.read(policy=ReadPolicy(then="stale")):
        pass
    engine.servers["far"].origins[0] = {1: (10, 10), 2: (0, None)}
    engine.servers["near"].origins[0] = {1: (10, 10), 2: (0, None)}
    engine.servers["far"].leads = {0: {2}}
    engine.servers["far"].life += 1
    with session.write():
        assert how(session) == "transaction"
    how(session)
    for server in engine.servers.values():
        server.up = False
    with pytest.raises(GateError):
        how(session)
    assert {r.kind for r in told} == {"read", "write"}
    assert any(r.clipped for r in told)
    assert any(r.refused for r in told)
    for receipt in told:
        plain = json.loads(json.dumps(receipt.as_dict()))
        assert plain["how"] == receipt.how
        assert str(receipt)
        assert all(reason for reason in receipt.reasons)


def test_who_listens_to_receipts_cannot_make_a_committed_write_look_failed(
    time: Time, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(receipt: Receipt) -> None:
        raise RuntimeError("secret")

    session = time.store(engine, on_receipt=broken).session()
    with session.write(shard="x"):
        pass
    assert how(session, shard="x") == "covered"
    assert session.own
    assert "on_receipt raised RuntimeError" in caplog.text
    assert "secret" not in caplog.text


def test_each_block_is_told_of_once(time: Time, engine: FakeEngine) -> None:
    told: list[Receipt] = []
    session = time.store(engine, on_receipt=told.append).session()
    for n in range(1, 4):  # the second and third go the way of the first
        assert how(session, shard="x") == "covered"
        assert len(told) == n
    with session.write(shard="x"):
        assert how(session, shard="x") == "transaction"
    assert [(r.kind, r.how) for r in told[3:]] == [("write", "covered")]


# --- a read that goes the way of the last one --------------------------------------------------------------------------


def granted(session: Any) -> Any:
    return session._state.grants.get(0)


def test_the_next_read_goes_straight_there_while_nothing_changes(time: Time) -> None:
    engine = near_and_far()
    session = time.store(engine).session()
    for _ in range(3):
        assert how(session) == "covered"
    assert engine.calls == [("probe", "near"), ("probe", "far"), ("read", "near"), ("read", "near"), ("read", "near")]
    assert granted(session) is not None


@pytest.mark.parametrize("offset", [9, 10])
def test_but_its_own_snapshot_is_judged(time: Time, offset: int) -> None:
    engine = near_and_far()
    session = time.store(engine).session()
    session.join(Frontier((Position(0, 1, 10),)))
    assert how(session) == "covered"
    near = engine.servers["near"]
    near.origins[0], near.life = {1: (offset, None)}, 2
    before = len(engine.calls)
    with session.read() as server:
        assert server.name == ("near" if offset == 10 else "far")
        assert len(engine.open_handles) == 1
    # The grant's snapshot is judged anew by what it showed, and used if that is enough; if not, the gate looks further.
    calls = engine.calls[before:]
    if offset == 10:
        assert calls == [("read", "near")]
    else:
        assert calls[:2] == [("read", "near"), ("probe", "near")]
        assert calls[-1] == ("read", "far")


class Unchanged(Server):
    """Gives the same values every time, as engines do while nothing changes."""

    def watermarks(self, shards: Iterable[int] | None = None) -> dict[int, Watermark]:
        marks: dict[int, Watermark] = self.__dict__.setdefault("marks", super().watermarks())
        return marks


@pytest.mark.spec("G-21")
def test_but_an_end_that_is_heard_of_meanwhile_counts(time: Time) -> None:
    """The server shows the very values that bore the last read out. They are past an end by now."""
    engine = near_and_far(11)
    engine.servers["near"] = Unchanged("near", {0: {1: (11, None)}})
    far, store = engine.servers["far"], time.store(engine)
    session = store.session()
    assert [how(session), how(session)] == ["covered", "covered"]
    assert granted(session) is not None
    far.origins[0], far.leads[0], far.life = {1: (10, 10), 2: (0, None)}, {2}, 2

    def hears(kind: str, name: str) -> None:
        if (kind, name) == ("read", "near") and not store._state.view.ends:
            store._state.observe("far", far.watermarks(), store._state.number_now(), time.monotonic())

    engine.before = hears
    with session.read() as server:
        assert server is far
    assert store._state.view.ends


def test_but_a_policy_of_its_own_is_asked(time: Time) -> None:
    session = time.store(near_and_far()).session()
    assert [how(session), how(session, policy=ReadPolicy.leader()), how(session)] == ["covered", "leader", "covered"]


def test_but_a_session_that_knows_more_demands_more(time: Time) -> None:
    engine = near_and_far()
    session = time.store(engine).session()
    assert how(session) == "covered"
    engine.servers["far"].origins[0] = {1: (11, None)}
    session.join(Frontier((Position(0, 1, 11),)))
    with session.read() as server:
        assert server.name == "far"


def test_but_freshness_runs_out(time: Time) -> None:
    engine = near_and_far()
    session = time.store(engine).session()
    assert how(session) == "covered"
    engine.servers["far"].origins[0] = {1: (500, None)}
    time.sleep(900)
    with session.read() as server:
        assert server.name == "near"  # exactly max_staleness_s is not more
    time.sleep(0.001)
    with session.read() as server:
        assert server.name == "far"


def test_but_no_limit_and_no_shorter_bound_is_gone_round(time: Time) -> None:
    engine = near_and_far()
    store = time.store(engine, policy=ReadPolicy(0.0), limits=Limits(leader_reads=1))
    session = store.session()
    session.join(Frontier((Position(0, 1, 11),)))
    engine.servers["far"].origins[0] = {1: (11, None)}
    assert how(session) == "fallback"
    with session.read():
        assert store._state.leader_reads == 1
        with pytest.raises(Overloaded), session.read():
            pass
    assert idle(store)

    engine = near_and_far()
    session = time.store(engine, policy=ReadPolicy.bounded(1.0)).session()
    assert how(session) == "bounded"
    engine.servers["far"].origins[0] = {1: (500, None)}
    time.sleep(2.0)
    with session.read() as server:
        assert server.name == "far"


def test_but_not_where_the_policy_is_the_leader_and_it_has_moved(time: Time) -> None:
    engine = near_and_far()
    session = time.store(engine, policy=ReadPolicy.leader()).session()
    for _ in range(2):
        with session.read() as server:
            assert server.name == "far"
    near, far = engine.servers["near"], engine.servers["far"]
    far.leads, far.origins[0] = {}, {1: (10, 10)}  # it stepped down, and has not heard who follows
    near.leads, near.origins[0] = {0: {2}}, {1: (10, 10), 2: (5, None)}
    with session.read() as server:
        assert server.name == "near"


def test_but_a_closed_store_opens_again(time: Time) -> None:
    engine = near_and_far()
    store = time.store(engine)
    session = store.session()
    assert how(session) == "covered"
    store.close()
    assert engine.open_links == 0
    assert how(session) == "covered"
    assert engine.open_links == 1


def test_but_an_endpoint_that_fails_is_gone_round(time: Time) -> None:
    engine = near_and_far()
    session = time.store(engine).session()
    assert how(session) == "covered"
    engine.servers["near"].up = False
    with session.read() as server:
        assert server.name == "far"


# --- entering fails --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["read", "write"])
def test_a_block_that_could_not_be_entered_leaves_nothing(time: Time, kind: str) -> None:
    engine = near_and_far()
    store = time.store(engine)
    session = store.session()
    session.join(Frontier((Position(0, 1, 11),)), store.position(None))
    block = session.read(policy=ReadPolicy(then="error")) if kind == "read" else session.write()
    session.join(Frontier((Position(0, 9, 1),)))
    with pytest.raises(GateTimeout) as caught:
        block.__enter__()  # type: ignore[attr-defined]
    assert caught.value.receipt.kind == kind
    assert caught.value.receipt.refused == "GateTimeout"
    assert block.receipt.how == "refused"
    assert idle(store)
    assert not enclosing.get()


def test_an_engine_that_breaks_its_contract_leaves_nothing(time: Time) -> None:
    engine = near_and_far()
    store = time.store(engine)

    def before(kind: str, name: str) -> None:
        if kind != "probe":
            raise ZeroDivisionError

    engine.before = before
    for enter in (store.session().read(), store.session().write()):
        with pytest.raises(ZeroDivisionError):
            enter.__enter__()  # type: ignore[attr-defined]
    assert idle(store)


def test_stacked_blocks_unwind(time: Time, engine: FakeEngine) -> None:
    session = time.store(engine).session()
    with suppress(RuntimeError), ExitStack() as stack:
        for shard in ("x", "y"):
            stack.enter_context(session.write(shard=shard))
            stack.enter_context(session.read(shard=shard))
        raise RuntimeError
    assert not session.own


def test_an_own_write_that_is_lost_is_said_inside_a_write_block(time: Time) -> None:
    origins: dict[int, Any] = {0: {1: (9, 9), 2: (5, None)}}
    store = time.store(FakeEngine(Server("here", origins, {0: {2}})), guarantees=Guarantee.READ_YOUR_WRITES)
    session = store.session(subject="alice")
    session.join(Written([Position(0, 1, 10)]))
    with session.write():
        with pytest.raises(WriteLost) as caught, session.read():
            pass
        assert [loss.end for loss in caught.value.lost] == [9]
        with (promises_nothing := session.read(policy=ReadPolicy.eventual())):
            pass
        assert not promises_nothing.receipt.held
    session.forget(caught.value.lost)
    with session.write():
        assert how(session) == "transaction"
    assert idle(store)


@pytest.mark.parametrize("unproven", ["refuse", "serve"])
def test_a_leader_that_is_not_shown_to_be_fresh_is_said_inside_a_write_block(time: Time, unproven: Any) -> None:
    """Nothing is demanded any more of what is older than that, and it need not be here (I5)."""
    here = Server("here", {0: {1: (10, None), 2: (3, None)}}, {0: {1}})
    there = Server("there", {0: {1: (10, None), 2: (4, None)}}, {0: {2}}, latency_s=0.05)
    store = time.store(FakeEngine(here, there), policy=ReadPolicy(unproven=unproven))
    here.origins[0][2] = (4, None)
    store._probe(store._link(), "here")
    there.origins[0][2] = (5, None)
    session = store.session()
    for shown in (True, False):
        with session.write(), (read := session.read()):
            pass
        assert (read.receipt.how, read.receipt.unproven) == ("transaction", not shown)
        assert read.receipt.held is (shown or unproven == "serve")
        time.sleep(901)
    with session.write():
        here.origins[0][2] = (5, None)
        store.head()  # shows what is here now: the transaction began before
        with (read := session.read()):
            pass
        assert read.receipt.unproven


def test_what_others_lost_no_longer_counts_inside_a_write_block(time: Time) -> None:
    origins: dict[int, Any] = {0: {1: (9, 9), 2: (5, None)}}
    store = time.store(FakeEngine(Server("here", origins, {0: {2}})), guarantees=Guarantee.MONOTONIC_READS)
    session = store.session(subject="alice")
    session.join(Frontier([Position(0, 1, 10)]))
    with session.write():
        assert how(session) == "transaction"


def test_a_write_whose_session_has_lost_another_meanwhile_is_not_acknowledged(time: Time, engine: FakeEngine) -> None:
    store = time.store(engine)
    session = store.session(subject="alice")
    here = engine.servers["here"]
    block = session.write(shard="x")
    block.__enter__()
    session.join(Written([Position(0, 1, 11)]))
    here.origins[0] = {1: (10, 10), 2: (0, None)}
    here.leads[0] = {2}
    store._probe(store._link(), "here")
    with pytest.raises(WriteLost):
        block.__exit__(None, None, None)
    assert idle(store)
    assert engine.calls.count(("write", "here")) == 1
