"""What a session must not forget: what a block committed or showed, however the block ends; and causes in other shards."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import attrs
import psycopg
import pytest

from causal import AsyncCausalStore, Keyring, ReadPolicy
from causal.errors import ConfigError, NoEndpoint, StoreError
from causal.lab.postgres import PostgresCluster, Proxy
from causal.state import StoreState
from causal.stores.postgres import PoolSettings, PostgresEngine, install, script
from tests.stores.poolers import pgbouncer
from tests.stores.postgres_stage import (
    Stores,
    bare,
    engine,
    eventually,
    get,
    get_at,
    in_order,
    inside,
    put,
    started,
    stores,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["stores"]

ANY = ReadPolicy(wait_s=0.2, unproven="serve")
B = "INSERT INTO item VALUES ('b', 2)"


@pytest.fixture(scope="module")
def shared() -> Iterator[PostgresCluster]:
    yield from started(replicas=1)


@pytest.fixture
def cluster(shared: PostgresCluster) -> Iterator[PostgresCluster]:
    yield from in_order(shared)


@pytest.fixture
def proxy(cluster: PostgresCluster) -> Iterator[Proxy]:
    with Proxy(cluster.primary) as proxy:
        yield proxy


def swallow(connection: Any) -> None:
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")


@pytest.mark.parametrize("after", ["", "swallowed"])
def test_what_a_block_committed_midway_is_not_forgotten_with_its_connection(
    cluster: PostgresCluster, proxy: Proxy, stores: Stores, after: str
) -> None:
    store = stores(engine(cluster, primary=proxy.dsn))
    session = store.session()
    put(session, "a", 1)
    cluster.wait_caught_up()
    cluster.pause("replica-1")
    steps: list[Any] = [B, lambda c: c.commit(), lambda _: proxy.drop(), *([swallow] if after else [])]
    with within():
        if after:  # nobody knows whether the user had ended the transaction
            with pytest.raises(StoreError, match="the connection was lost"):
                inside(session.write(), *steps)
        else:
            inside(session.write(), *steps)
    n, receipt = get(session, "b", policy=ANY)
    assert n == 2, receipt
    n, receipt = get(store.session(session.token()), "b", policy=ANY)
    assert n == 2, receipt


@pytest.mark.parametrize("kind", ["read", "write"])
def test_a_cancelled_end_forgets_nothing_that_was_shown(cluster: PostgresCluster, proxy: Proxy, kind: str) -> None:
    async def main() -> None:
        keys = Keyring.generate()
        async with AsyncCausalStore(
            engine(cluster, primary=proxy.dsn, timeout_s=30.0), keyring=keys, audience="test"
        ) as store:
            put_at(cluster, "a", 1)
            cluster.wait_caught_up()
            cluster.pause("replica-1")
            put_at(cluster, "b", 2)
            session = store.session()
            shown = asyncio.Event()

            async def look() -> None:
                policy = ReadPolicy.leader()
                block = session.read(policy=policy) if kind == "read" else session.write()
                async with block as connection:
                    rows = await connection.execute("SELECT n FROM item WHERE key = 'b'")
                    assert await rows.fetchone() == (2,)
                    proxy.hang()
                    shown.set()
                    if kind == "write":
                        raise ZeroDivisionError

            task = asyncio.ensure_future(look())
            await shown.wait()
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            proxy.resume()
            async with (block := session.read(policy=ANY)) as connection:
                rows = await connection.execute("SELECT n FROM item WHERE key = 'b'")
                row = await rows.fetchone()
            assert row == (2,), block.receipt

    asyncio.run(asyncio.wait_for(main(), 60))


def put_at(cluster: PostgresCluster, key: str, n: int) -> None:
    bare(cluster.primary, "INSERT INTO item VALUES (%s, %s)", key, n)


@pytest.fixture(scope="module")
def second() -> Iterator[PostgresCluster]:
    yield from started(replicas=1)


@pytest.fixture
def other(second: PostgresCluster) -> Iterator[PostgresCluster]:
    yield from in_order(second)


def test_a_read_whose_standby_dies_demands_the_causes_of_what_it_showed(
    cluster: PostgresCluster, other: PostgresCluster, stores: Stores
) -> None:
    shards = {
        "posts": {"primary": cluster.primary.dsn, "replicas": [s.dsn for s in cluster.replicas]},
        "replies": {"primary": other.primary.dsn, "replicas": [s.dsn for s in other.replicas]},
    }
    writer = stores(PostgresEngine(shards=shards, timeout_s=2.0))
    store = stores(PostgresEngine(shards=shards, timeout_s=2.0))
    cluster.pause("replica-1")
    alice = writer.session()
    with alice.write(shard="posts") as connection:
        connection.execute("INSERT INTO item VALUES ('post', 1)")
    with alice.write(shard="replies") as connection:
        connection.execute("INSERT INTO item VALUES ('reply', 1)")
    other.wait_caught_up()
    bob = store.session()
    with (block := bob.read(shard="replies", policy=ANY)) as connection:
        assert connection.execute("SELECT n FROM item WHERE key = 'reply'").fetchone() == (1,)
        other.replicas[0].kill()
    assert block.receipt.endpoint == "replies/replica-1"
    n, receipt = get(bob, "post", shard="posts", policy=ANY)
    assert n == 1, receipt


@pytest.mark.parametrize("ends", ["commits", "writes", "discards", "midway", "fails"])
def test_a_write_block_that_was_shown_an_effect_demands_its_cause(
    cluster: PostgresCluster, other: PostgresCluster, stores: Stores, ends: str
) -> None:
    shards = {
        "posts": {"primary": cluster.primary.dsn, "replicas": [s.dsn for s in cluster.replicas]},
        "replies": {"primary": other.primary.dsn, "replicas": [s.dsn for s in other.replicas]},
    }
    writer = stores(PostgresEngine(shards=shards, timeout_s=2.0))
    store = stores(PostgresEngine(shards=shards, timeout_s=2.0))
    before = store.session()
    for shard in shards:
        with before.read(shard=shard, policy=ANY) as connection:
            connection.execute("SELECT 1")
    cluster.pause("replica-1")
    alice = writer.session()
    with alice.write(shard="posts") as connection:
        connection.execute("INSERT INTO item VALUES ('post', 1)")
    with alice.write(shard="replies") as connection:
        connection.execute("INSERT INTO item VALUES ('reply', 1)")
    bob = store.session()
    try:
        with bob.write(shard="replies") as connection:
            assert connection.execute("SELECT n FROM item WHERE key = 'reply'").fetchone() == (1,)
            if ends == "discards":  # what is prepared there, too
                connection.execute("DEALLOCATE ALL")
            if ends in ("writes", "discards", "midway"):
                connection.execute("INSERT INTO item VALUES ('bob', 1)")
            if ends == "midway":
                connection.commit()
            if ends == "fails":
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert not bob.seen.marks
    n, receipt = get(bob, "post", shard="posts", policy=ANY)
    assert n == 1, receipt
    with bob.write(shard="replies") as connection:
        connection.execute("SELECT 1")


def test_nothing_is_installed_into_what_somebody_else_has_made(cluster: PostgresCluster) -> None:
    """Whoever may create a schema could lay triggers where a superuser's function is to write."""
    bare(cluster.primary, "DROP DATABASE IF EXISTS trap")
    bare(cluster.primary, "DROP ROLE IF EXISTS mallory")
    bare(cluster.primary, "CREATE ROLE mallory LOGIN")
    bare(cluster.primary, "CREATE DATABASE trap OWNER mallory")
    admin = psycopg.conninfo.make_conninfo(cluster.primary.admin_dsn, dbname="trap")
    with psycopg.connect(psycopg.conninfo.make_conninfo(admin, user="mallory")) as connection:
        connection.execute("CREATE SCHEMA causal")
        table = script().partition("CREATE TABLE IF NOT EXISTS causal.lineage")
        connection.execute((table[1] + table[2].partition(");\n")[0] + ")").encode())
        connection.execute(
            "CREATE FUNCTION causal.trap() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN ALTER ROLE mallory SUPERUSER; RETURN NEW; END $$"
        )
        connection.execute(
            "CREATE TRIGGER trap BEFORE INSERT ON causal.lineage FOR EACH ROW EXECUTE FUNCTION causal.trap()"
        )
    with pytest.raises(ConfigError, match="mallory"):
        install(admin)
    with psycopg.connect(admin) as connection:
        row = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'").fetchone()
        assert row == (False,)


@pytest.mark.parametrize("which", ["primary", "standby"])
def test_a_server_of_another_cluster_takes_nothing_and_holds_nobody_up(
    cluster: PostgresCluster, other: PostgresCluster, stores: Stores, which: str
) -> None:
    """As a slip in a configuration makes it a replica."""
    stranger = other.primary if which == "primary" else other.replicas[0]
    bare(other.primary, "INSERT INTO item VALUES ('theirs', 1)")
    other.wait_caught_up()
    store = stores(engine(cluster, replicas=[stranger.dsn, cluster.replicas[0].dsn]))
    session = store.session()
    put(session, "a", 1)
    assert bare(cluster.primary, "SELECT n FROM item WHERE key = 'a'") == [(1,)]
    for policy in (None, ANY, ReadPolicy.leader(), ReadPolicy.eventual()):
        for reader in (session, store.session()):
            n, receipt = get(reader, "theirs", policy=policy)
            assert n is None, receipt
            assert receipt.endpoint != "replica-1"
    assert any(name == "replica-1" and "another cluster" in why for name, why in receipt.considered)


def test_a_pool_that_is_used_up_is_gone_round(cluster: PostgresCluster, stores: Stores) -> None:
    """Though its server answers questions, in the background, all the while."""
    standby = cluster.replicas[0].dsn
    store = stores(engine(cluster, replicas=[standby, standby], timeout_s=1.0, pool=PoolSettings(max_size=1)))
    session = store.session()
    put(session, "a", 1)
    cluster.wait_caught_up()
    with contextlib.ExitStack() as blocks:
        used = []
        for _ in range(3):
            blocks.enter_context(block := session.read())
            used.append(block.receipt.endpoint)
            assert block.receipt.attempts <= 3
        assert sorted(used) == ["primary", "replica-1", "replica-2"]
        with pytest.raises(NoEndpoint) as refused, session.read():
            pass
        assert refused.value.receipt.attempts <= 4
    with session.read():
        pass


def test_a_block_is_not_run_again_where_it_was_lost(cluster: PostgresCluster, stores: Stores) -> None:
    """Though that server answers questions again before the next try."""
    standby = cluster.replicas[0]
    store = stores(engine(cluster, replicas=[standby.dsn, standby.dsn]))
    store.head()
    get_at(store.session(), "a", "replica-1")
    seen: list[int] = []

    def lose(connection: Any) -> None:
        seen.append(connection.info.backend_pid)
        if len(seen) == 1:
            standby.query("SELECT pg_terminate_backend(%s)", seen[0])
            connection.execute("SELECT 1")

    lost: list[str] = []
    real_failed = StoreState.failed

    def answers_at_once(self: StoreState, name: str, error: Exception, asked: int) -> Any:
        view = real_failed(self, name, error, asked)
        if "ended this block" in str(error):  # as the feed may find before anybody tries again
            lost.append(name)
            marks = view.of(name).marks
            return self.observe(name, marks, self.number_now(), self.monotonic())
        return view

    block = store.session().read()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(StoreState, "failed", answers_at_once)
        if hasattr(store, "real"):

            async def alose(connection: Any) -> None:
                seen.append(connection.info.backend_pid)
                if len(seen) == 1:
                    standby.query("SELECT pg_terminate_backend(%s)", seen[0])
                    await connection.execute("SELECT 1")

            block.run(alose)
        else:
            block.run(lose)
    assert len(seen) == 2
    assert {*lost, block.receipt.endpoint} == {"replica-1", "replica-2"}


@pytest.fixture(scope="module")
def wide() -> Iterator[PostgresCluster]:
    yield from started(replicas=2)


@attrs.frozen
class Behind:
    """What PgBouncer is told of a balancer."""

    name: str
    address: str
    port: int


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
def test_a_read_block_that_begins_another_transaction_at_another_server_says_so(
    wide: PostgresCluster, stores: Stores, isolation: str
) -> None:
    """A pooler in front of several servers gives each transaction to whichever backend is free; only the first was checked."""
    with Proxy(*wide.replicas) as proxy:
        port = int(psycopg.conninfo.conninfo_to_dict(proxy.dsn)["port"])
        with pgbouncer([Behind("standbys", "127.0.0.1/socket", port)]) as dsns:
            store = stores(engine(wide, replicas=[dsns["standbys"]], isolation=isolation, timeout_s=5.0))
            session = store.session()
            put(session, "a", 1)
            wide.wait_caught_up()
            wide.pause("replica-2")
            try:
                put(session, "a", 2)
                told: list[str] = []
                for _ in range(20):  # the gate may go to the primary, which is asked directly
                    shown: list[Any] = []
                    look = lambda c, to=shown: to.append(c.execute("SELECT n FROM item WHERE key = 'a'").fetchone())  # noqa: E731
                    with psycopg.connect(dsns["standbys"]) as someone:
                        takes_the_backend = lambda _, by=someone: by.execute("SELECT 1")  # noqa: E731
                        try:
                            inside(session.read(policy=ANY), look, lambda c: c.commit(), takes_the_backend, look)
                        except ConfigError as error:
                            told.append(str(error))
                        else:
                            assert shown == [(2,), (2,)]
                assert told
                assert all("one block for each transaction" in said for said in told)
                assert get(session, "a")[0] == 2
            finally:
                wide.resume("replica-2")


def test_a_role_whose_transactions_are_serializable_by_default(cluster: PostgresCluster, stores: Stores) -> None:
    """A hot standby knows no such transactions: nothing of ours may be one."""
    cluster.primary.query("ALTER ROLE app SET default_transaction_isolation = serializable")
    cluster.wait_caught_up()
    for autocommit in (False, True):
        store = stores(engine(cluster, autocommit=autocommit))
        if not autocommit:
            put(store.session(), "a", 1)
            cluster.wait_caught_up()

        def served(store: Any = store) -> str:
            with (block := store.session().read()):
                pass
            return str(block.receipt.endpoint)

        eventually(lambda: store.session().route().endpoint == "replica-1")  # noqa: B023
        eventually(lambda: served() == "replica-1")
