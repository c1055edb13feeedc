"""The session of what runs now, and what blocks say to whoever keeps what they showed."""

import asyncio
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from causal import (
    AsyncCausalStore,
    CausalStore,
    ConfigError,
    GateTimeout,
    Keyring,
    ReadPolicy,
    current_session,
    propagate,
)
from causal.context import Carried, carried, carrying
from causal.stores.memory import MemoryCluster, MemoryEngine
from causal.stores.sqlite import SQLiteEngine

KEYS = Keyring.generate()


@pytest.fixture
def cluster() -> MemoryCluster:
    made = MemoryCluster(("eu", "us"))
    made.pause("us")
    return made


def store(cluster: MemoryCluster, site: str, **settings: Any) -> CausalStore[Any, Any]:
    given = {"keyring": KEYS, "audience": "shop", **settings}
    return CausalStore(MemoryEngine(cluster=cluster, site=site), **given).__enter__()


def test_a_session_is_made_when_it_is_first_asked_for_and_once(cluster: MemoryCluster) -> None:
    eu = store(cluster, "eu")
    made: list[object] = []

    def make() -> object:
        made.append(eu.session(subject="alice"))
        return made[-1]

    with carrying(Carried(make)) as what:
        assert what is carried()
        assert what.begun is None
        with ThreadPoolExecutor(8) as pool:
            found = set(pool.map(propagate(lambda _: id(current_session())), range(100)))
    assert found == {id(made[0])}
    assert len(made) == 1
    with pytest.raises(ConfigError, match="propagate"):
        current_session()


def test_who_makes_a_session_is_not_kept_waiting_for_it(cluster: MemoryCluster) -> None:
    eu = store(cluster, "eu")
    asks = [True, False]

    def make() -> object:
        if asks.pop(0):
            current_session()  # a subject that looks its user up in the store
        return eu.session(subject="alice")

    what = Carried(make)
    found: list[object] = []

    def thread() -> None:
        with carrying(what):
            for _ in range(2):
                try:
                    found.append(current_session().subject)
                except ConfigError as error:
                    found.append(str(error))

    worker = threading.Thread(target=thread, daemon=True)
    worker.start()
    worker.join(30)
    assert not worker.is_alive()
    assert found == ["what the session is made of (its subject, on_event) asked for the session itself", "alice"]


def test_what_is_propagated_is_awaited_with_its_own_session(cluster: MemoryCluster) -> None:
    eu = store(cluster, "eu")
    alice, bob = (Carried(lambda name=name: eu.session(subject=name)) for name in ("alice", "bob"))

    async def whose() -> str:
        before = current_session().subject
        await asyncio.sleep(0)
        return f"{before} {current_session().subject}"

    def generator() -> Any:
        yield current_session()

    async def main() -> list[str]:
        with carrying(alice):
            ours = propagate(whose)
        with carrying(bob):
            return [*(await asyncio.gather(ours(), whose())), await ours(), await whose()]

    assert asyncio.run(main()) == ["alice alice", "bob bob", "alice alice", "bob bob"]
    with pytest.raises(ConfigError, match="generator"):
        propagate(generator)


def test_a_thread_knows_no_session_unless_it_is_propagated(cluster: MemoryCluster) -> None:
    eu = store(cluster, "eu")
    with carrying(Carried(lambda: eu.session(subject="alice"))), ThreadPoolExecutor(1) as pool:
        session = current_session()
        with pytest.raises(ConfigError):
            pool.submit(current_session).result()
        carries = propagate(current_session)
        assert pool.submit(carries).result() is session
        with pytest.raises(ConfigError):  # and leaves nothing behind in the pool's thread
            pool.submit(current_session).result()
        with carrying(None), pytest.raises(ConfigError):
            current_session()
        assert current_session() is session


def test_a_write_block_is_not_propagated(cluster: MemoryCluster) -> None:
    eu = store(cluster, "eu")
    with carrying(Carried(lambda: eu.session(subject="alice"))):
        session = current_session()

        def reads() -> object:
            with current_session().read() as db:
                return db.get("k")

        with session.write() as tx:
            tx.put("k", "uncommitted")
            assert session.writing == 1
            assert reads() == "uncommitted"
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(propagate(reads)).result() is None
        assert session.writing == 0
        with pytest.raises(ValueError, match="undone"), session.write():
            raise ValueError("undone")
        assert session.writing == 0


def test_one_session_at_two_stores(tmp_path: Path) -> None:
    engine = SQLiteEngine(tmp_path, site="eu")
    one = CausalStore(engine, keyring=KEYS, audience="shop")
    two = AsyncCausalStore(engine, keyring=KEYS, audience="shop")
    other = CausalStore(SQLiteEngine(tmp_path / "other", site="eu"), keyring=KEYS, audience="shop", number=1)

    async def use() -> None:
        session = two.session(subject="alice")
        async with session.write() as tx:
            tx.put("k", 1)
        with session.at(one).read() as db:
            assert db.get("k") == 1
        with session.at(other).write() as tx:
            tx.put("k", 2)
        assert {p.shard >> 16 for p in session.own} == {0, 1}
        assert session.changed
        assert session.token() == session.at(one).token()
        assert session.at(two).at(one).at(two).own == session.own
        await two.close()

    with one, other:
        asyncio.run(use())


def test_a_session_at_a_store_of_another_audience_is_sealed_for_that(cluster: MemoryCluster) -> None:
    shop, office = store(cluster, "eu"), store(cluster, "eu", audience="office")
    with (first := shop.session(subject="alice")).write() as tx:
        tx.put("k", 1)
    session = shop.session(first.token(), subject="alice")
    assert session.token() == first.token()
    there = session.at(office).token()
    assert not office.session(there, subject="alice").rejected
    assert not shop.session(session.token(), subject="alice").rejected
    assert shop.session(there, subject="alice").rejected


def test_a_session_has_a_policy_of_its_own(cluster: MemoryCluster) -> None:
    eu, us = store(cluster, "eu"), store(cluster, "us")
    with (writer := eu.session(subject="alice")).write() as tx:
        tx.put("k", 1)
    strict = us.session(writer.token(), subject="alice", policy=ReadPolicy(0.0, then="error"))
    with pytest.raises(GateTimeout), strict.read():
        pass
    with pytest.raises(GateTimeout):
        strict.route()
    with (r := strict.read(policy=ReadPolicy.leader())) as db:  # a block's own comes first
        assert db.get("k") == 1
    assert r.receipt.endpoint == "eu"
    with pytest.raises(ConfigError, match="policy is a ReadPolicy"):
        us.session(policy="leader")  # type: ignore[arg-type]


def test_a_reply_that_was_sealed_for_another(cluster: MemoryCluster) -> None:
    eu = store(cluster, "eu")
    with (service := eu.session(subject="service")).write() as tx:
        tx.put("k", 1)
    alice = eu.session(subject="alice")
    alice.join(service.token(), subject="service")
    assert alice.seen | alice.own >= service.own
    assert not alice.rejected
    assert alice.changed
    alice.join(service.token())
    assert len(alice.rejected) == 1


def test_what_a_read_block_says_to_whoever_keeps_what_it_showed(cluster: MemoryCluster) -> None:
    eu, us = store(cluster, "eu"), store(cluster, "us")
    with (writer := eu.session(subject="alice")).write() as tx:
        tx.put("k", 1)
    assert (commit := tx_commit(eu, writer)) is not None
    before = us._state.monotonic()
    cluster.catch_up("us")
    block = us.session(writer.token(), subject="alice").read(policy=ReadPolicy.leader())
    with pytest.raises(ConfigError, match="entered"):
        block.fresh_at  # noqa: B018
    with block as db:
        assert db.get("k") == 1
        assert block.watermarks is not None
        (mark,) = block.watermarks.values()
        assert mark.origins[commit.origin][0] >= commit.offset
        assert before <= block.fresh_at <= us._state.monotonic()
    assert block.watermarks is None
    assert block.showed.offset(commit.shard, commit.origin) is not None
    eventual = us.session(subject="bob").read(policy=ReadPolicy.eventual())
    with eventual:
        assert eventual.fresh_at == -math.inf
    alone = store(MemoryCluster(("eu",)), "eu")  # who numbers everything is always current: as of when it was asked
    for _ in range(2):  # decided on, and granted
        with (only := alone.session(subject="bob").read()):
            assert -math.inf < only.fresh_at <= alone._state.monotonic()
    session = us.session(subject="bob")
    with session.write(), (inner := session.read()):
        assert inner.watermarks is None


def tx_commit(at: CausalStore, session: object) -> object:
    """The position of one more write."""
    with (w := at.session(subject="alice").write()) as tx:
        assert w.commit is None
        tx.put("k", 1)
    assert w.commit is not None
    session.join(at.head())  # type: ignore[attr-defined]
    return w.commit.position


def test_blocks_of_many_threads_are_counted(cluster: MemoryCluster) -> None:
    session = store(cluster, "eu").session(subject="alice")
    together = threading.Barrier(4)

    def writes(n: int) -> None:
        together.wait()
        for i in range(20):
            with session.write() as tx:
                tx.put(f"k{n}", i)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(writes, range(4)))
    assert session.writing == 0


def test_a_write_block_counts_as_open_until_its_outcome_is_joined(
    cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = store(cluster, "eu").session(subject="alice")
    state = session._state
    during: list[int] = []
    told: list[tuple[int, bool]] = []
    acknowledged = type(state).acknowledged

    def watched(self: object, *args: object, **settings: object) -> None:
        during.append(state.writing)
        acknowledged(self, *args, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(type(state), "acknowledged", watched)
    state.on_write = lambda state: told.append((state.writing, bool(state.own)))
    with session.write() as tx:
        tx.put("k", 1)
    assert during == [1]  # whoever waits for it to close finds its position
    assert told == [(0, True)]
    with pytest.raises(ValueError, match="undone"), session.write():
        raise ValueError("undone")
    session.join(session.own)
    assert len(told) == 2
    asynchronous = AsyncCausalStore(MemoryEngine(cluster=cluster, site="eu"), keyring=KEYS, audience="shop")

    async def writes() -> None:
        async with session.at(asynchronous).write() as tx:
            tx.put("k", 2)
        await asynchronous.close()

    asyncio.run(writes())
    assert during == [1, 1]
    assert told[2:] == [(0, True)]
    with store(cluster, "eu").session(subject="bob").write() as tx:
        tx.put("k", 3)
    session.join(store(cluster, "eu").position(None))  # of an object mapper, say
    assert len(told) == 4


def test_read_blocks_are_counted_until_what_they_showed_is_joined(cluster: MemoryCluster) -> None:
    eu = store(cluster, "eu")
    with eu.session(subject="bob").write() as tx:
        tx.put("k", 1)
    session = eu.session(subject="alice")
    for _ in range(3):  # the first is decided on, the others are granted
        with session.read() as db, session.read():
            assert session.reading == 2
            db.get("k")
        assert session.reading == 0
    with pytest.raises(ValueError, match="mine"), session.read():
        raise ValueError("mine")
    with session.write(), session.read():
        assert session.reading == 0  # it is the write block's
    strict = store(cluster, "us", policy=ReadPolicy(0.0, then="error")).session(session.token(), subject="alice")
    with pytest.raises(GateTimeout), strict.read():
        pass
    asynchronous = AsyncCausalStore(MemoryEngine(cluster=cluster, site="eu"), keyring=KEYS, audience="shop")

    async def reads() -> None:
        async with session.at(asynchronous).read():
            assert session.reading == 1
        await asynchronous.close()

    asyncio.run(reads())
    assert (session.reading, strict.reading) == (0, 0)
