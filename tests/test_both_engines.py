"""The same application on both engines: one suite over SQLiteEngine and PostgresEngine.

What differs is two small classes for each: how the application reads and writes its data on the connection that a block gives it, and
`Stage`, which makes servers lag and fail. Everything else (sessions, tokens, receipts, blocks, errors, run_read, asyncio) is the same code.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from causal import AsyncCausalStore, CausalStore, Keyring, ReadPolicy
from causal.errors import BadSignature, CausalError, GateError, MalformedToken, TokenError, WriteLost
from causal.stores.sqlite import SQLiteEngine
from tests.stores.sqlite_world import fast_directory

LEADER, ONE, OTHER = "leader", "one", "other"
QUICK = ReadPolicy(wait_s=0.05)
EVENTUAL = ReadPolicy.eventual()
DEADLINE_S = 30.0


# --- what an application has of its own: its data on a connection -----------------------------------------------------


class Notes(Protocol):
    """The application's data, in one shard."""

    def get(self, name: str) -> str | None: ...
    def put(self, name: str, text: str) -> None: ...


class KeyValueNotes:
    """On the embedded store."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def get(self, name: str) -> str | None:
        return self.connection.get(f"note/{name}")

    def put(self, name: str, text: str) -> None:
        self.connection.put(f"note/{name}", text)

    async def aget(self, name: str) -> str | None:
        return self.get(name)

    async def aput(self, name: str, text: str) -> None:
        self.put(name, text)


class SqlNotes:
    """On PostgreSQL."""

    TABLE = "CREATE TABLE note (name text PRIMARY KEY, text text NOT NULL)"
    GET = "SELECT text FROM note WHERE name = %s"
    PUT = "INSERT INTO note VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET text = excluded.text"

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def get(self, name: str) -> str | None:
        row = self.connection.execute(self.GET, [name]).fetchone()
        return None if row is None else row[0]

    def put(self, name: str, text: str) -> None:
        self.connection.execute(self.PUT, [name, text])

    async def aget(self, name: str) -> str | None:
        cursor = await self.connection.execute(self.GET, [name])
        row = await cursor.fetchone()
        return None if row is None else row[0]

    async def aput(self, name: str, text: str) -> None:
        await self.connection.execute(self.PUT, [name, text])


# --- the application -----------------------------------------------------------------------------------------------


class Application:
    """One process of the application, which stands beside a server and prefers to read there."""

    def __init__(self, store: CausalStore[Any, Any], notes: Callable[[Any], Any]) -> None:
        self.store, self.notes = store, notes

    def write(self, token: str | None, name: str, text: str, *, shard: str = "main", who: str = "alice") -> str | None:
        """Serve a request that writes a note; return the token of the reply."""
        session = self.store.session(token, subject=who)
        with session.write(shard=shard) as connection:
            self.notes(connection).put(name, text)
        return session.token()

    def read(
        self,
        token: str | None,
        name: str,
        *,
        shard: str = "main",
        who: str = "alice",
        policy: ReadPolicy | None = None,
    ) -> tuple[str | None, str | None]:
        """Serve a request that reads a note; return it, and the token of the reply."""
        session = self.store.session(token, subject=who)
        with session.read(shard=shard, policy=policy) as connection:
            found = self.notes(connection).get(name)
        return found, session.token()

    def write_again(self, token: str | None, name: str, text: str) -> str | None:
        """Write, again where the error says so: what an application does after a failover."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                return self.write(token, name, text)
            except CausalError as error:
                if not error.retryable or time.monotonic() > deadline:
                    raise


# --- the stages: what a test does to the servers --------------------------------------------------------------------


class Stage:
    """Servers of one engine, and processes of the application beside them: at the leader, and at two replicas."""

    notes: Callable[[Any], Any]

    def __init__(self) -> None:
        self.keyring = Keyring.generate()
        self.stores: list[CausalStore[Any, Any]] = []

    def engine(self, near: str) -> Any:
        raise NotImplementedError("each engine is made in its own way")

    def at(self, near: str, **settings: Any) -> Application:
        """Start a process of the application; nothing is shared with the others but the keys."""
        store: CausalStore[Any, Any] = CausalStore(
            self.engine(near), keyring=self.keyring, audience="notes", **{"policy": QUICK} | settings
        )
        self.stores.append(store)
        self.warm_up(store, near)
        return Application(store, self.notes)

    def warm_up(self, store: CausalStore[Any, Any], near: str) -> None:
        """Let a process serve before anything happens: it knows its servers, and that the one beside it is fresh."""
        for shard in store.engine.shards:
            deadline, served = time.monotonic() + DEADLINE_S, None
            while near != LEADER and served != self.beside(near, shard):
                assert time.monotonic() < deadline
                store.head()
                with (block := store.session(subject="nobody").read(shard=shard)) as connection:
                    assert self.notes(connection).get("nothing") is None
                served = block.receipt.endpoint

    def beside(self, near: str, shard: str) -> str:
        """Return the endpoint that a process prefers."""
        raise NotImplementedError("each engine is made in its own way")

    def async_store(self, near: str) -> AsyncCausalStore[Any, Any]:
        return AsyncCausalStore(self.engine(near), keyring=self.keyring, audience="notes", policy=QUICK)

    def close(self) -> None:
        for store in self.stores:
            store.close()

    def with_other_shard(self) -> None:
        """Add a shard, `other`, before a store is opened."""
        raise NotImplementedError("each engine is made in its own way")

    def pause(self, near: str) -> None:
        raise NotImplementedError("each engine is made in its own way")

    def resume(self, near: str) -> None:
        raise NotImplementedError("each engine is made in its own way")

    def catch_up(self, near: str) -> None:
        raise NotImplementedError("each engine is made in its own way")

    def cut_off_leader(self) -> None:
        raise NotImplementedError("each engine is made in its own way")

    def rejoin_leader(self) -> None:
        raise NotImplementedError("each engine is made in its own way")

    def losing(self) -> contextlib.AbstractContextManager[None]:
        """What is acknowledged inside the block reaches nobody else, and then its only holder fails."""
        raise NotImplementedError("each engine is made in its own way")


class SQLiteStage(Stage):
    """Three sites on files. The leader's origin is that of its site."""

    notes = KeyValueNotes

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory
        self.shards = ["main"]
        self.sites = {LEADER: "eu", ONE: "us", OTHER: "ap"}
        self.controls = self.engine(LEADER)
        for near in self.sites:  # every site joins before anything is written
            self.engine(near).open().close()

    def with_other_shard(self) -> None:
        self.shards = ["main", "other"]
        for near in self.sites:
            self.engine(near).open().close()

    def engine(self, near: str) -> SQLiteEngine:
        return SQLiteEngine(self.directory, site=self.sites[near], shards=self.shards)

    def beside(self, near: str, shard: str) -> str:
        return self.sites[near]

    def pause(self, near: str) -> None:
        self.controls.pause(self.sites[near])

    def resume(self, near: str) -> None:
        self.controls.resume(self.sites[near])

    def catch_up(self, near: str) -> None:
        self.controls.catch_up(self.sites[near])

    def cut_off_leader(self) -> None:
        self.controls.cut_off(self.sites[LEADER])

    def rejoin_leader(self) -> None:
        self.controls.rejoin(self.sites[LEADER])

    @contextlib.contextmanager
    def losing(self) -> Iterator[None]:
        """The leader's files are put back from a copy."""
        self.close()
        copy = self.directory.parent / f"{self.directory.name}-copy"
        shutil.copytree(self.directory, copy)
        self.cut_off_leader()
        yield
        self.close()
        for file in copy.glob("eu*"):
            shutil.copy(file, self.directory / file.name)
        for file in self.directory.glob("eu*"):
            if not (copy / file.name).exists():
                file.unlink()
        shutil.rmtree(copy)
        self.rejoin_leader()


class PostgresStage(Stage):
    """A primary and two standbys; the other shard is another cluster, which is started when a test asks for it."""

    notes = SqlNotes

    def __init__(self, cluster: Any, second: Callable[[], Any]) -> None:
        super().__init__()
        self.main, self.second = cluster, second
        self.other: Any = None
        self.replicas = dict(zip((ONE, OTHER), ("replica-1", "replica-2"), strict=True))
        self.prepare(cluster)

    def prepare(self, cluster: Any) -> None:
        from causal.stores.postgres import install

        install(cluster.primary.admin_dsn, ("app",))
        cluster.primary.query(f"{SqlNotes.TABLE}; GRANT ALL ON note TO app")
        cluster.wait_caught_up()

    def with_other_shard(self) -> None:
        self.other = self.second()
        self.prepare(self.other)

    def engine(self, near: str) -> Any:
        from causal.stores.postgres import PostgresEngine, Replica

        def shard(cluster: Any) -> dict[str, Any]:
            beside = self.replicas.get(near, "primary")
            servers = {
                name: Replica(server.dsn, latency_s=0.0 if name == beside else 0.001)
                for name, server in cluster.servers.items()
            }
            return {"primary": servers.pop("primary"), "replicas": servers}

        shards = {"main": shard(self.main)} | ({} if self.other is None else {"other": shard(self.other)})
        return PostgresEngine(shards=shards, order="listed", timeout_s=2.0)

    def beside(self, near: str, shard: str) -> str:
        return self.replicas[near] if self.other is None else f"{shard}/{self.replicas[near]}"

    def clusters(self) -> list[Any]:
        return [self.main] if self.other is None else [self.main, self.other]

    def pause(self, near: str) -> None:
        for cluster in self.clusters():
            cluster.pause(self.replicas[near])

    def resume(self, near: str) -> None:
        for cluster in self.clusters():
            cluster.resume(self.replicas[near])

    def catch_up(self, near: str) -> None:
        for cluster in self.clusters():
            cluster.catch_up(self.replicas[near])

    def cut_off_leader(self) -> None:
        self.main.cut_off("primary")

    def rejoin_leader(self) -> None:
        self.main.rejoin("primary")

    @contextlib.contextmanager
    def losing(self) -> Iterator[None]:
        """The primary dies before its standbys have its last log, and one of them is promoted."""
        one, other = self.main.replicas
        one.disconnect()
        other.disconnect()
        yield
        self.main.primary.kill()
        one.promote()
        other.follow(one)


@pytest.fixture(params=["sqlite", "postgres"])
def stage(request: pytest.FixtureRequest) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:
        made: Stage
        if request.param == "sqlite":
            made = SQLiteStage(stack.enter_context(fast_directory()))
        else:
            pytest.importorskip("psycopg")
            cluster = request.getfixturevalue("causal_postgres")
            from causal.lab.postgres import PostgresCluster

            made = PostgresStage(cluster, lambda: stack.enter_context(PostgresCluster(2)))
        stack.callback(made.close)
        yield made


# --- the suite -----------------------------------------------------------------------------------------------------


def test_own_writes_are_read_though_the_replica_stands_still(stage: Stage) -> None:
    leader, near = stage.at(LEADER), stage.at(ONE)
    stage.pause(ONE)
    token = leader.write(None, "photo", "new.jpg")
    assert near.read(None, "photo")[0] is None, "the control is to show the bug"
    found, again = near.read(token, "photo")
    assert found == "new.jpg"
    assert near.read(again, "photo")[0] == "new.jpg"
    stage.catch_up(ONE)
    session = near.store.session(token, subject="alice")
    with (block := session.read(shard="main")) as connection:
        assert near.notes(connection).get("photo") == "new.jpg"
    assert (block.receipt.how, block.receipt.held, block.receipt.kind) == ("covered", True, "read")


def test_reads_never_go_back_from_one_replica_to_another(stage: Stage) -> None:
    leader, one, other = stage.at(LEADER), stage.at(ONE), stage.at(OTHER)
    stage.pause(OTHER)
    leader.write(None, "photo", "new.jpg")
    stage.catch_up(ONE)
    found, token = one.read(None, "photo", who="bob")
    assert (found, token is None) == ("new.jpg", False)
    assert other.read(None, "photo", who="bob")[0] is None
    assert other.read(token, "photo", who="bob")[0] == "new.jpg"


def test_own_writes_come_in_their_order(stage: Stage) -> None:
    """A second write is refused, or made where the first one is: nobody sees it without that."""
    leader, one, other = stage.at(LEADER), stage.at(ONE), stage.at(OTHER)
    stage.pause(OTHER)
    token = leader.write(None, "first", "1")
    with contextlib.suppress(GateError):
        other.write(token, "second", "2")
    for process in (leader, one, other):
        with process.store.session(subject="bob").read(shard="main", policy=EVENTUAL) as connection:
            notes = stage.notes(connection)
            assert notes.get("second") is None or notes.get("first") == "1"
    stage.resume(OTHER)
    stage.catch_up(OTHER)
    session = other.store.session(token, subject="alice")
    with session.write(shard="main") as connection:
        assert other.notes(connection).get("first") == "1"
        other.notes(connection).put("second", "3")
    assert leader.read(session.token(), "second")[0] == "3"


def test_effects_are_not_seen_without_their_causes_across_shards(stage: Stage) -> None:
    """bob comments on alice's photo, in another shard; carol has a token of the comment alone, and opens the photo."""
    stage.with_other_shard()
    leader, near = stage.at(LEADER), stage.at(ONE)
    stage.pause(ONE)
    leader.write(None, "photo", "new.jpg")
    found, token = leader.read(None, "photo", who="bob")
    assert found == "new.jpg"
    leader.write(token, "comment", "nice", shard="other", who="bob")
    found, token = leader.read(None, "comment", shard="other", who="carol")
    assert found == "nice"
    assert near.read(None, "photo", who="carol")[0] is None
    assert near.read(token, "photo", who="carol")[0] == "new.jpg"


def test_what_others_wrote_outside_is_joined(stage: Stage) -> None:
    leader, near = stage.at(LEADER), stage.at(ONE)
    stage.pause(ONE)
    leader.write(None, "photo", "new.jpg")
    assert near.read(None, "photo", who="bob")[0] is None
    session = near.store.session(subject="bob")
    session.join(near.store.head())
    with session.read(shard="main") as connection:
        assert near.notes(connection).get("photo") == "new.jpg"


def test_a_write_block_sees_itself_and_is_undone_by_an_error(stage: Stage) -> None:
    leader = stage.at(LEADER)
    session = leader.store.session(subject="alice")
    seen = None
    with contextlib.suppress(ZeroDivisionError), session.write(shard="main") as connection:
        leader.notes(connection).put("photo", "new.jpg")
        with session.read(shard="main") as inside:
            seen = leader.notes(inside).get("photo")
        raise ZeroDivisionError
    assert seen == "new.jpg"
    assert leader.read(session.token(), "photo")[0] is None


def test_run_read_and_route(stage: Stage) -> None:
    leader = stage.at(LEADER)
    token = leader.write(None, "photo", "new.jpg")
    session = leader.store.session(token, subject="alice")
    block = session.read(shard="main")
    assert block.run(lambda connection, name: leader.notes(connection).get(name), "photo") == "new.jpg"
    assert session.run_read(lambda connection: leader.notes(connection).get("photo")) == "new.jpg"
    assert session.route(shard="main").held


def test_a_token_that_is_no_good(stage: Stage) -> None:
    leader, near, strict = stage.at(LEADER), stage.at(ONE), stage.at(ONE, policy=ReadPolicy(bad_token="raise"))
    stage.pause(ONE)
    token = leader.write(None, "photo", "new.jpg")
    assert token is not None
    changed = token[:-1] + ("A" if token[-1] != "A" else "Q")
    for text, who, why in (
        (changed, "alice", BadSignature),
        (token, "mallory", BadSignature),
        ("garbage", "alice", MalformedToken),
    ):
        session = near.store.session(text, subject=who)
        assert [type(one.error) for one in session.rejected] == [why]
        with (block := session.read(shard="main")) as connection:
            assert near.notes(connection).get("photo") == "new.jpg", "it could have demanded anything"
        assert block.receipt.how == "leader"
    with pytest.raises(TokenError):
        strict.store.session(changed, subject="alice")


def test_a_read_that_nobody_can_serve_is_refused_and_may_be_tried_again(stage: Stage) -> None:
    leader, near = stage.at(LEADER), stage.at(ONE)
    stage.pause(ONE)
    stage.pause(OTHER)
    token = leader.write(None, "photo", "new.jpg")
    stage.cut_off_leader()
    try:
        with pytest.raises(GateError) as refused:
            near.read(token, "photo")
        assert refused.value.retryable
        assert refused.value.receipt is not None
        assert not refused.value.receipt.held
        assert near.read(None, "photo", policy=EVENTUAL)[0] is None, "who does not ask for it is served"
    finally:
        stage.rejoin_leader()
    stage.catch_up(ONE)
    assert near.read(token, "photo", policy=ReadPolicy(wait_s=DEADLINE_S))[0] == "new.jpg"


def test_a_write_that_a_failover_lost_is_said_and_can_be_accepted(stage: Stage) -> None:
    leader, near = stage.at(LEADER), stage.at(ONE)
    kept = leader.write(None, "photo", "old.jpg")
    stage.catch_up(ONE)
    stage.catch_up(OTHER)
    with stage.losing():
        token = leader.write(kept, "photo", "new.jpg")
    for where in (near, leader):
        session = where.store.session(token, subject="alice")
        lost = refusal(where, session)
        assert isinstance(lost, WriteLost)
        assert len(lost.lost) == 1
        assert not lost.retryable
        with pytest.raises(WriteLost), session.write(shard="main"):
            pass
        session.forget(lost.lost)
        with session.read(shard="main") as connection:
            assert where.notes(connection).get("photo") == "old.jpg"
    token = leader.write_again(session.token(), "photo", "again.jpg")
    found, token = near.read(token, "photo", policy=ReadPolicy(wait_s=DEADLINE_S))
    assert found == "again.jpg"
    assert near.read(kept, "photo")[0] is not None, "what survived is still demanded, and served"


def refusal(where: Application, session: Any) -> CausalError:
    """Return what a read is refused with, once it is no more a matter of time."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            with session.read(shard="main") as connection:
                pytest.fail(f"served {where.notes(connection).get('photo')}")
        except CausalError as error:
            if not error.retryable or time.monotonic() > deadline:
                return error


def test_the_same_in_asyncio(stage: Stage) -> None:
    async def reply(token: str | None, name: str) -> tuple[str | None, str | None]:
        async with stage.async_store(ONE) as store:
            session = store.session(token, subject="alice")
            async with session.read(shard="main") as connection:
                found = await stage.notes(connection).aget(name)
            assert await session.run_read(lambda c: stage.notes(c).aget(name)) == found
            async with session.write(shard="main") as connection:
                await stage.notes(connection).aput("other", "asynchronous")
            return found, session.token()

    leader, other = stage.at(LEADER), stage.at(OTHER)
    stage.pause(OTHER)
    token = leader.write(None, "photo", "new.jpg")
    stage.catch_up(ONE)
    found, token = asyncio.run(reply(token, "photo"))
    assert found == "new.jpg"
    assert other.read(None, "photo")[0] is None
    assert other.read(token, "other")[0] == "asynchronous"


def test_own_writes_are_read_in_asyncio_though_the_replica_stands_still(stage: Stage) -> None:
    async def warm_up(store: AsyncCausalStore[Any, Any]) -> None:
        deadline, served = time.monotonic() + DEADLINE_S, None
        while served != stage.beside(ONE, "main"):
            assert time.monotonic() < deadline
            await store.head()
            async with (block := store.session(subject="nobody").read(shard="main")) as connection:
                assert await stage.notes(connection).aget("nothing") is None
            served = block.receipt.endpoint

    async def main() -> None:
        leader = stage.at(LEADER)
        async with stage.async_store(ONE) as store:
            await warm_up(store)
            stage.pause(ONE)
            token = leader.write(None, "photo", "new.jpg")
            for text, expected in ((None, None), (token, "new.jpg")):
                session = store.session(text, subject="alice")
                async with session.read(shard="main") as connection:
                    assert await stage.notes(connection).aget("photo") == expected

    asyncio.run(main())
