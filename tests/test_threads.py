"""One session and one store in many threads, which change places between any two bytecodes: nothing is lost, nothing is left."""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from causal import (
    CausalStore,
    Frontier,
    GateTimeout,
    Key,
    Keyring,
    MalformedToken,
    Overloaded,
    Position,
    ReadPolicy,
    Token,
    TokenError,
    UnknownKey,
    Written,
    asking,
)
from causal.core.frontier import Loss, pack
from causal.core.policy import Limits
from causal.engine import Commit
from causal.request import Request
from causal.stores.memory import MemoryCluster, MemoryEngine
from tests.fake_engine import KEYS, FakeEngine, Server, Time, idle, near_and_far
from tests.interleaved import interleaved

SESSION = ("session.py",)
EVERYWHERE = (
    "session.py",
    "state.py",
    "store.py",
    "request.py",
    "blocks.py",
    "claims.py",
    "keys.py",
    "core/keyring.py",
    "core/waiting.py",
)
NOW = 1_700_000_000
SHARDS = ("a", "b", "c", "d")

Store = CausalStore[Any, Any]


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slowly so many threads get on beside each other, nobody takes a server for one that does not answer."""
    for name in ("PROBE_TIMEOUT_S", "LEAST_S"):
        monkeypatch.setattr(asking, name, 60.0)


def store(cluster: MemoryCluster, site: str, **settings: Any) -> Store:
    given = {"keyring": KEYS, "audience": "shop", "policy": ReadPolicy(wait_s=60.0), **settings}
    made: Store = CausalStore(MemoryEngine(cluster=cluster, site=site), **given)
    return made.__enter__()


def opened(text: str | None, subject: str | None = "alice") -> Token:
    assert text is not None
    return KEYS.open(text, subject=subject, audience="shop", now=NOW)


# --- one session -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_no_own_write_is_ever_lost_from_a_session_or_its_token(seed: int) -> None:
    """Each thread writes a shard of its own, so that no later write can hide a lost one."""
    cluster = MemoryCluster(("eu", "us"), shards=SHARDS)
    with store(cluster, "eu") as eu, store(cluster, "us") as us:
        session = eu.session(subject="alice")

        def writes(shard: str) -> Callable[[], None]:
            def work() -> None:
                key = pack(eu.shards[shard], 1)
                for n in range(1, 9):
                    with session.write(shard=shard) as tx:
                        tx.put(shard, n)
                    assert session.own.entries[key] == n
                    assert opened(session.token()).own.entries[key] >= n
                    with session.read(us, shard=shard) as db:
                        assert db.get(shard) == n

            return work

        def others() -> None:
            for n in range(1, 40):
                lost = Position(9 << 16, 7, n)
                session.join(Frontier((lost, Position(9 << 16, n, n))))
                session.forget([Loss(lost, n - 1)])
                session.join(KEYS.seal(opened(session.token()), subject="alice", audience="shop"), None)
                assert len(session._state._cache) <= 2 * len(SHARDS)
                assert len(session._state.grants) <= len(SHARDS)

        def looks() -> None:
            before = Frontier()
            for _ in range(40):
                own = session.own
                assert own >= before
                before = own
                if session.token() is not None:
                    assert opened(session.token()).own >= own

        interleaved(*(writes(shard) for shard in SHARDS), others, looks, files=SESSION, seed=seed)
        assert session.own == Frontier(Position(eu.shards[shard], 1, 8) for shard in SHARDS)
        assert {Position(9 << 16, n, n) for n in range(1, 40)} - {Position(9 << 16, 7, 7)} <= set(session.seen)
        assert idle(eu)
        assert idle(us)


def test_a_session_keeps_up_with_itself_on_every_path_at_once() -> None:
    cluster = MemoryCluster(("eu", "us"), shards=SHARDS)
    with store(cluster, "eu") as eu, store(cluster, "us") as us:
        session = eu.session(subject="alice")

        def works(shard: str) -> Callable[[], None]:
            def work() -> None:
                for n in range(1, 6):
                    with session.write(shard=shard) as tx:
                        tx.put(shard, n)
                        with session.read(shard=shard) as db:
                            assert db.get(shard) == n
                    for _ in range(2):
                        with (block := session.read(us, shard=shard)) as db:
                            assert db.get(shard) == n
                        assert block.receipt.held
                    assert us.session(session.token(), subject="alice").route(shard=shard).held

            return work

        interleaved(*(works(shard) for shard in SHARDS), files=EVERYWHERE, one_in=16)
        assert idle(eu)
        assert idle(us)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_makes_a_session_grow_or_shrink_undoes_nothing_of_the_others(seed: int) -> None:
    shop = CausalStore[Any, Any](MemoryEngine(shards=tuple("0123456")), keyring=KEYS, audience="shop").__enter__()
    session = shop.session()
    state, rounds = session._state, 24

    def key(shard: int) -> int:
        return pack(shard, 1)

    def acknowledges() -> None:
        for n in range(1, rounds):
            state.acknowledged(Commit(Position(0, 1, n), Frontier((Position(1, 1, n),))), NOW)
            assert state.own.entries[key(0)] == state.seen.entries[key(1)] == n
            for write in (False, True):
                assert state.demand(shop._state, 0, NOW, write=write).need.items() >= {(key(0), n), (key(1), n)}

    def presents() -> None:
        for n in range(1, rounds):
            token = Token(Frontier((Position(2, 1, n),)), Frontier((Position(3, 1, n),)), expires_at=NOW + 9000)
            session.join(KEYS.seal(token, subject=None, audience="shop"))
            assert state.own.entries[key(2)] == state.seen.entries[key(3)] == n

    def joins() -> None:
        for n in range(1, rounds):
            session.join(Written((Position(4, 1, n),)), Frontier((Position(5, 1, n),)))
            assert state.own.entries[key(4)] == state.seen.entries[key(5)] == n

    def forgets() -> None:
        for n in range(2, rounds):
            mine = Position(6, 1, n)
            state.acknowledged(Commit(mine), NOW)
            session.forget([Loss(mine, n - 1)])
            assert state.own.entries[key(6)] == n - 1

    def marks() -> None:
        for n in range(1, rounds):
            state.mark(n, NOW + 9000 + n)
            assert state.seen.marks[n].until == NOW + 9000 + n

    def demands() -> None:
        for n in range(rounds):
            state.demand(shop._state, 0, NOW, write=n % 2 == 0)
            session.token(subject=f"user {n}")

    interleaved(acknowledges, presents, joins, forgets, marks, demands, demands, files=SESSION, seed=seed, one_in=2)
    assert session.own == Frontier(Position(shard, 1, rounds - 1 - (shard == 6)) for shard in (0, 2, 4, 6))
    assert session.seen.exact == Frontier(Position(shard, 1, rounds - 1) for shard in (1, 3, 5))
    assert {*session.seen.marks} == {*range(1, rounds)}
    assert opened(session.token(), None).own == session.own


def test_a_write_does_not_depend_on_what_its_leader_was_not_judged_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread of the session reads something just before the commit."""
    here = Server("here", {0: {1: (10, None), 2: (3, None)}}, {0: {1}})
    there = Server("there", {0: {1: (10, None), 2: (4, None)}}, {0: {2}}, latency_s=0.05)
    engine = FakeEngine(here, there, dependencies=True)
    session = Time().store(engine).session()
    elsewhere, dependencies = Frontier((Position(0, 2, 4),)), Request.dependencies

    def late(request: Request, seen: Frontier) -> Frontier:
        session.join(elsewhere)
        return dependencies(request, seen)

    monkeypatch.setattr(Request, "dependencies", late)
    block = session.write()
    block.__enter__()
    (handle,) = engine.open_handles
    with pytest.raises(GateTimeout):
        block.__exit__(None, None, None)
    assert handle.ended == "rolled back"


def test_a_reader_of_what_is_demanded_sees_its_version_move_along() -> None:
    """Or a write could depend on more than its leader was judged by, and not know it."""
    session = CausalStore[Any, Any](MemoryEngine(), keyring=KEYS, audience="shop").session()
    state, done = session._state, threading.Event()

    def joins() -> None:
        for n in range(1, 100):
            session.join(Frontier((Position(0, 2, n),)))
        done.set()

    def looks() -> None:
        while not done.is_set():
            before = state.version
            joined = state.joined
            again = state.version
            if joined:
                assert again >= joined.entries[pack(0, 2)]
            assert again >= before

    interleaved(joins, looks, files=SESSION, one_in=2)


def test_a_token_for_somebody_else_is_not_the_one_that_was_presented_before_login() -> None:
    """The session becomes Bob's while a token for Bob is made."""
    shop = CausalStore[Any, Any](MemoryEngine(), keyring=KEYS, audience="shop", wall=lambda: NOW)
    text = KEYS.seal(Token(Frontier((Position(0, 1, 1),)), expires_at=NOW + 9000), subject="alice", audience="shop")
    for seed in range(20):
        session, made = shop.session(text, subject="alice"), list[str | None]()

        def makes() -> None:
            made.extend(session.token(subject="bob") for _ in range(3))  # noqa: B023

        def rebinds() -> None:
            for _ in range(seed % 12):  # noqa: B023
                assert session.own  # noqa: B023
            session.rebind("bob")  # noqa: B023

        interleaved(makes, rebinds, files=("session.py", "claims.py"), seed=seed, one_in=3)
        for one in made:
            assert opened(one, "bob").own


def test_each_thread_is_told_of_its_own_bad_token() -> None:
    shop = CausalStore[Any, Any](
        MemoryEngine(), keyring=Keyring([Key(1, bytes(32))]), audience="shop", policy=ReadPolicy(bad_token="raise")
    )
    session = shop.session()
    unknown = Keyring([Key(2, bytes(32))]).seal(Token(expires_at=NOW), subject=None, audience="shop")

    def presents(text: str, error: type[TokenError]) -> Callable[[], None]:
        def work() -> None:
            for _ in range(20):
                with pytest.raises(error):
                    session.join(text)

        return work

    interleaved(
        presents("garbage", MalformedToken), presents(unknown, UnknownKey), files=("session.py", "claims.py"), one_in=3
    )
    assert len(session.rejected) == 40


# --- one store -------------------------------------------------------------------------------------------------------


def test_counters_numbers_and_news_of_a_store_are_each_threads_own_affair() -> None:
    servers = [Server(name, {0: {1: (0, None)}}, {0: {1}} if name == "far" else {}) for name in ("far", "near", "next")]
    shop = Time().store(FakeEngine(*servers, leader="far"), limits=Limits(2, 2, 2, 2))
    state, drawn, rounds = shop._state, list[int](), 40

    def enters(enter: Callable[[], None], leave: Callable[[], None]) -> Callable[[], None]:
        inside: list[int] = []

        def work() -> None:
            for n in range(rounds):
                with suppress(Overloaded):
                    enter()
                    inside.append(n)
                    assert len(inside) <= 2
                    inside.pop()
                    leave()

        return work

    waits = enters(lambda: state.enter_wait("near", "alice"), lambda: state.leave_wait("near", "alice"))
    leads = enters(lambda: state.enter_leader(authenticated=True), lambda: state.leave_leader(authenticated=True))
    strays = enters(lambda: state.enter_leader(authenticated=False), lambda: state.leave_leader(authenticated=False))

    def draws() -> None:
        for _ in range(rounds):
            mine = [state.number_now() for _ in range(5)]
            assert mine == sorted({*mine})
            drawn.extend(mine)

    def commits() -> None:
        for n in range(1, rounds):
            state.committed("far", Position(0, 1, n))
            assert state.applied("far")[pack(0, 1)] == n

    def hears(name: str) -> Callable[[], None]:
        def work() -> None:
            (server,) = (server for server in servers if server.name == name)
            for n in range(1, rounds):
                server.origins[0] = {1: (n, None)}
                state.observe(name, server.watermarks(), 1000 + n, 1.0)
                assert state.applied(name)[pack(0, 1)] == n
                state.failed(name, ValueError(f"{n}"), 1000 + n)
                known = state.view.of(name)
                assert known is not None
                assert known.down == f"{n}"

        return work

    for works in ([waits] * 3, [leads] * 3, [strays] * 3, [draws, draws, commits, hears("near"), hears("next")]):
        interleaved(*works, files=("state.py",), one_in=2)
    assert len({*drawn}) == 2 * 5 * rounds
    assert idle(shop)


@pytest.mark.parametrize(("files", "one_in"), [(("store.py", "core/waiting.py"), 2), (("core/waiting.py",), 1)])
@pytest.mark.parametrize("seed", range(2))
def test_nobody_is_forgotten_in_a_line_that_many_enter_and_leave(
    seed: int, files: tuple[str, ...], one_in: int
) -> None:
    engine = near_and_far(0)
    near, far = engine.servers["near"], engine.servers["far"]
    far.origins[0] = {1: (10_000, None)}
    with CausalStore[Any, Any](engine, keyring=KEYS, audience="shop") as shop:
        running = [*range(4)]

        def reads(n: int) -> Callable[[], None]:
            def work() -> None:
                try:
                    for round_ in range(20 // one_in):
                        session = shop.session()
                        session.join(Frontier((Position(0, 1, near.origins[0][1][0] + 1 + n % 2),)))
                        patience_s = 3600.0 if (n + round_) % 3 else 0.001
                        with suppress(GateTimeout), session.read(policy=ReadPolicy(patience_s, then="error")) as server:
                            assert server is near
                finally:
                    running.remove(n)

            return work

        def replicates() -> None:
            while running:
                if shop._state.waiters["near"] >= min(3, len(running)):
                    near.origins[0] = {1: (near.origins[0][1][0] + 1, None)}

        works = [reads(n) for n in range(4)]
        interleaved(*works, replicates, files=files, seed=seed, one_in=one_in)
        assert idle(shop)
        assert not shop._lines["near"].polling
        assert not shop._lines["near"].queue._heaps


@pytest.mark.parametrize("ends", ["its time is up", "it is served"])
def test_who_polls_for_others_hands_that_on_when_it_goes(ends: str) -> None:
    engine = near_and_far()
    near, far = engine.servers["near"], engine.servers["far"]
    patient = ReadPolicy(3600.0, then="error")
    with CausalStore[Any, Any](engine, keyring=KEYS, audience="shop") as shop:
        line, found = shop._line("near"), list[str]()
        far.origins[0] = {1: (13, None)}

        def reads(offset: int, policy: ReadPolicy) -> threading.Thread:
            def work() -> None:
                session = shop.session()
                session.join(Frontier((Position(0, 1, offset),)))
                with suppress(GateTimeout), session.read(policy=policy) as server:
                    found.append(server.name)

            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            return thread

        first = reads(11, patient if ends == "it is served" else ReadPolicy(0.02, then="error"))
        while not line.polling and first.is_alive():
            pass
        others = [reads(offset, patient) for offset in (12, 13)]
        if ends == "it is served":
            while len(line.queue) < 3:
                pass
            near.origins[0] = {1: (11, None)}
        first.join(60)
        assert not first.is_alive()
        while len(line.queue) < 2:
            pass
        near.origins[0] = {1: (13, None)}
        for thread in others:
            thread.join(60)
            assert not thread.is_alive()
        assert found == ["near"] * (3 if ends == "it is served" else 2)
        assert idle(shop)
        assert not line.polling


def test_a_store_that_is_closed_while_it_is_read_grants_nothing() -> None:
    class Closing(CausalStore[Any, Any]):
        """Another thread closes it at some look at its link."""

        looks = 99

        @property
        def _live(self) -> Any:
            self.looks -= 1
            if self.looks == 0:
                self.link = None
            return self.link

        @_live.setter
        def _live(self, link: Any) -> None:
            self.link = link

    with Closing(MemoryEngine(), keyring=KEYS, audience="shop") as shop:
        for looks in range(1, 8):
            session = shop.session()
            shop.looks = looks
            for _ in range(3):
                with session.read() as db:
                    assert db.get("k") is None
            assert all(grant.link is not None for grant in session._state.grants.values())


@pytest.mark.parametrize("seed", range(3))
def test_all_who_wait_are_served_and_nothing_is_left(seed: int) -> None:
    cluster = MemoryCluster(("eu", "us"))
    limits = Limits(waiters_per_endpoint=5, waiters_per_subject=4, leader_reads=2, unauthenticated=1)
    with store(cluster, "eu") as eu, store(cluster, "us", limits=limits) as us:
        refused, waited = list[Overloaded](), list[int]()
        ended = threading.Semaphore(0)

        def reads(n: int) -> Callable[[], None]:
            policies = (None, None, ReadPolicy(0.0), ReadPolicy(0.001, then="error"), ReadPolicy(60.0))

            def work() -> None:
                try:
                    for policy in policies[n % 2 :]:
                        with (alice := eu.session(subject=f"user {n % 3}")).write() as tx:
                            tx.put("k", n)
                        texts = (alice.token(), "garbage" if n % 5 == 0 else None)
                        try:
                            with us.session(*texts, subject=alice.subject).read(policy=policy) as db:
                                assert db.get("k") is not None
                        except Overloaded as error:
                            refused.append(error)
                        except GateTimeout:
                            assert policy is not None
                            assert policy.then == "error"
                finally:
                    ended.release()

            return work

        def replicates() -> None:
            for running in range(8, 0, -1):
                while not ended.acquire(timeout=0.001):
                    if (waiting := us._state.waiters["us"]) >= min(3, running):
                        waited.append(waiting)
                        cluster.catch_up("us")

        cluster.pause("us")
        interleaved(
            *(reads(n) for n in range(8)), replicates, files=("store.py", "state.py", "core/waiting.py"), seed=seed
        )
        for one in (eu, us):
            assert idle(one)
            assert not any(line.polling or line.asking or line.queue._heaps for line in one._lines.values())
            assert not any(thread.name.startswith("causal poll") for thread in threading.enumerate())
        assert max(waited) >= 3


def test_an_answer_that_is_shared_was_asked_for_after_each_arrived() -> None:
    """A leader read shows everything that was acknowledged before it began, whoever sent the question."""
    cluster = MemoryCluster(("eu", "us"))
    with store(cluster, "eu") as eu, store(cluster, "us", policy=ReadPolicy.leader()) as us:
        acknowledged = 0
        done = threading.Event()

        def writes() -> None:
            nonlocal acknowledged
            for n in range(1, 80):
                with eu.session().write() as tx:
                    tx.put("k", n)
                acknowledged = n
            done.set()

        def reads() -> None:
            while not done.is_set():
                least = acknowledged
                with us.session().read() as db:
                    assert (db.get("k") or 0) >= least

        interleaved(writes, *[reads] * 5, files=("store.py", "state.py"), one_in=8)
        assert idle(us)


# --- one keyring -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["signed", "encrypted"])
def test_keys_come_and_go_while_tokens_are_made_and_opened(profile: Any) -> None:
    keys = Keyring([Key(0, bytes(32))], profile=profile, cache=16)

    def rotates(first: int) -> Callable[[], None]:
        def work() -> None:
            for key_id in range(first, 30, 3):
                keys.add(Key(key_id, bytes([key_id] * 32)))
                keys.promote(key_id)
                keys.promote(0)
                if key_id > 3:
                    keys.drop(key_id - 3)

        return work

    def uses(first: int) -> Callable[[], None]:
        def work() -> None:
            for n in range(first, 200, 4):
                token = Token(Frontier.of({1: n}), expires_at=NOW + 3600 * n)
                with suppress(UnknownKey):  # dropped since
                    text = keys.seal(token, subject="alice", audience="shop")
                    for _ in range(2):
                        assert keys.open(text, subject="alice", audience="shop", now=NOW - 1) == token
                ring = keys._ring
                assert len(ring.opened) + len(ring.older) <= 16 + 4
                assert len(ring.primary._ciphers) <= 64 + 4

        return work

    interleaved(
        *(rotates(n) for n in (1, 2, 3)),
        *(uses(n) for n in range(4)),
        files=("keys.py", "core/keyring.py"),
    )
    assert keys.key_ids == (0, 27, 28, 29)


def test_a_promotion_is_not_undone_by_a_key_that_comes_or_goes() -> None:
    keys, rotating = Keyring([Key(0, bytes(32)), Key(1, bytes(32))]), [2, 3]

    def promotes() -> None:
        while rotating:
            for key_id in (1, 0):
                keys.promote(key_id)
                assert keys.primary_id == key_id

    def rotates(key_id: int) -> Callable[[], None]:
        def work() -> None:
            for _ in range(12):
                keys.add(Key(key_id, bytes(32)))
                keys.drop(key_id)
            rotating.remove(key_id)

        return work

    interleaved(promotes, rotates(2), rotates(3), files=("keys.py", "core/keyring.py"))


def test_no_token_of_a_key_that_was_dropped_opens_from_a_cache() -> None:
    keys, other = Keyring([Key(0, bytes(32))]), Key(1, bytes(32))
    text = Keyring([other]).seal(Token(expires_at=NOW), subject=None, audience="shop")
    done = threading.Event()

    def opens() -> None:
        while not done.is_set():
            with suppress(UnknownKey):
                keys.open(text, subject=None, audience="shop", now=NOW - 1)

    def rotates() -> None:
        for _ in range(30):
            keys.add(other)
            keys.open(text, subject=None, audience="shop", now=NOW - 1)
            keys.drop(1)
            for _ in range(5):
                with pytest.raises(UnknownKey):
                    keys.open(text, subject=None, audience="shop", now=NOW - 1)
        done.set()

    interleaved(rotates, opens, opens, files=("keys.py", "core/keyring.py"))


def test_tokens_that_do_not_open_are_counted_once_each_and_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1000.0
    monkeypatch.setattr("causal.keys.time.monotonic", lambda: now)
    keys = Keyring.generate()
    text = Keyring.generate().seal(Token(expires_at=NOW), subject=None, audience="shop")

    def fails() -> None:
        for _ in range(25):
            with pytest.raises(TokenError):
                keys.open(text, subject=None, audience="shop", now=NOW)

    with caplog.at_level(logging.WARNING, "causal"):
        interleaved(*[fails] * 4, files=("keys.py",), one_in=2)
        assert len(caplog.records) == 1
        now += 61.0
        interleaved(*[fails] * 4, files=("keys.py",), one_in=2)
    assert len(caplog.records) == 2
    told = sum(int(record.getMessage().split()[0]) for record in caplog.records)
    assert told + keys._unopened_since == 200
