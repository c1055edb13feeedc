"""Commits without an answer, and answers without a position: the doubt is said, and no later read forgets the write."""

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from causal import AsyncCausalStore, CommitUnknown, Frontier, Keyring
from causal.engine import Commit
from causal.errors import StoreError
from causal.lab.postgres import Proxy
from causal.stores.postgres import PoolSettings
from causal.stores.postgres.blocks import Manner, Writing
from causal.stores.postgres.exchange import Cut, ask
from causal.stores.postgres.server import Server
from tests.stores.postgres_stage import (
    PostgresCluster,
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

__all__ = ["stores"]


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


def there(cluster: PostgresCluster, key: str) -> bool:
    return bool(bare(cluster.primary, "SELECT 1 FROM item WHERE key = %s", key))


@pytest.mark.parametrize("how", ["hang", "freeze"])
def test_a_commit_that_hangs(cluster: PostgresCluster, proxy: Proxy, stores: Stores, how: str) -> None:
    store = stores(engine(cluster, primary=proxy.dsn, timeout_s=1.0, commit_timeout_s=1.0))
    session = store.session(subject="alice")
    put(session, "a", 1)
    cluster.wait_caught_up()
    assert get_at(session, "a", "replica-1") == 1
    goes = proxy.hang if how == "hang" else cluster.primary.freeze
    with within(), pytest.raises(CommitUnknown, match="primary did not answer a commit: no answer in time"):
        inside(session.write(), "INSERT INTO item VALUES ('b', 2)", lambda _: goes())
    with within(), pytest.raises(Exception, match="primary"):
        get(session, "b")  # a standby could not show that the write is not there
    proxy.resume()
    cluster.primary.thaw()
    eventually(lambda: there(cluster, "b"))  # it came through after all: the doubt was real
    cluster.wait_caught_up()
    n, receipt = get(session, "b")
    assert (n, receipt.endpoint) == (2, "primary")
    n, receipt = get(store.session(session.token(), subject="alice"), "b")  # the doubt travels
    assert (n, receipt.endpoint) == (2, "primary")
    assert get_at(store.session(), "a", "replica-1") == 1  # it is nobody else's


@pytest.mark.parametrize("how", ["swallow", "cut"])
def test_a_commit_whose_connection_ends(cluster: PostgresCluster, proxy: Proxy, stores: Stores, how: str) -> None:
    store = stores(engine(cluster, primary=proxy.dsn))
    session = store.session()
    cluster.replicas[0].pause()
    put(session, "a", 1)
    with within(), pytest.raises(CommitUnknown, match="primary did not answer a commit: the connection was lost"):
        inside(session.write(), "INSERT INTO item VALUES ('b', 2)", lambda _: getattr(proxy, how)())
    proxy.resume()
    if how == "swallow":
        eventually(lambda: there(cluster, "b"))
    n, receipt = get(session, "b")
    assert (n, receipt.endpoint) == (2 if how == "swallow" else None, "primary")
    session.join(store.head())  # what exists now is demanded from now on
    put(session, "b", 3)  # the write can be tried again
    assert get(session, "b")[0] == 3


def test_a_statement_that_loses_its_connection_is_no_doubt(
    cluster: PostgresCluster, proxy: Proxy, stores: Stores
) -> None:
    session = stores(engine(cluster, primary=proxy.dsn)).session()
    b = "INSERT INTO item VALUES ('b', 2)"
    with within(), pytest.raises(psycopg.OperationalError):
        inside(session.write(), b, lambda _: proxy.drop(), "SELECT 1")

    def swallow(connection: Any) -> None:
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")

    with within(), pytest.raises(StoreError, match="the connection was lost"):
        inside(session.write(), b, lambda _: proxy.drop(), swallow)
    put(session, "a", 1)
    assert get(session, "a")[0] == 1
    assert get(session, "b")[0] is None


def test_a_commit_that_is_cancelled(cluster: PostgresCluster, proxy: Proxy) -> None:
    """A cancelled task leaves no connection behind, and its session in doubt."""

    async def main() -> None:
        one = PoolSettings(max_size=1)
        keys = Keyring.generate()
        async with AsyncCausalStore(
            engine(cluster, primary=proxy.dsn, pool=one, commit_timeout_s=60.0), keyring=keys, audience="test"
        ) as store:
            session = store.session()
            written = asyncio.Event()

            async def write() -> None:
                async with session.write() as connection:
                    await connection.execute("INSERT INTO item VALUES ('b', 2)")
                    proxy.hang()
                    written.set()

            task = asyncio.ensure_future(write())
            await written.wait()
            await asyncio.sleep(0)  # it sends its COMMIT, and waits
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert session._state.joined.marks
            proxy.resume()
            async with session.write() as connection:
                await connection.execute("INSERT INTO item VALUES ('c', 3)")
            async with (block := session.read()) as connection:
                rows = await (await connection.execute("SELECT n FROM item WHERE key = 'c'")).fetchall()
            assert rows == [(3,)]
            assert block.receipt.endpoint == "primary"

    with within():
        asyncio.run(main())


def test_a_commit_may_take_longer_than_a_check(cluster: PostgresCluster, stores: Stores) -> None:
    session = stores(engine(cluster, timeout_s=1.0)).session()
    with session.write() as connection:
        connection.execute("CREATE TABLE part (n int)")
        connection.execute(
            "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1.5); RETURN NULL; END'"
        )
        connection.execute(
            "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON part DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION slowly()"
        )
        connection.execute("INSERT INTO part VALUES (1)")
    with session.read() as connection:
        assert connection.execute("SELECT n FROM part").fetchone() == (1,)
    bare(cluster.primary, "DROP FUNCTION slowly CASCADE")


# --- answers cut short -----------------------------------------------------------------------------------------------


@pytest.fixture
def server(cluster: PostgresCluster) -> Iterator[Server]:
    server = Server("primary", cluster.primary.dsn, 0)
    server.poll(5.0)
    yield server
    server.close()


def commit_cut_short(
    cluster: PostgresCluster, server: Server, whole: int | None, sql: str = "INSERT INTO item VALUES ('x', 1)"
) -> Commit:
    """The acknowledgement of a real commit whose answer ends after this many results; None: it is whole."""
    from causal.stores.postgres.exchange import drive
    from causal.stores.postgres.pools import introduction

    with psycopg.connect(cluster.primary.dsn) as connection:
        drive(introduction(server, connection), connection.pgconn, 5.0)
        backend, ground = server.backend(connection), server.ground
        assert backend is not None
        assert ground is not None
        block = Writing(server, connection, backend, ground, Manner())
        drive(block.begin(writing=True), connection.pgconn, 5.0)
        connection.execute(sql.encode())
        steps = block.commit(Frontier())
        results = ask(connection.pgconn, next(steps), 5.0)
        try:
            if whole is None:
                steps.send(results)
            else:
                connection.pgconn.finish()
                steps.throw(Cut("the connection was lost: here", results[:whole], lost=True))
        except StopIteration as done:
            assert block.usable == (whole is None)
            commit: Commit = done.value
            return commit
        raise AssertionError("a commit asked for more")


def test_an_answer_that_ends_before_the_commits(cluster: PostgresCluster, server: Server) -> None:
    for whole in (0, 1):
        with pytest.raises(CommitUnknown, match="did not answer a commit"):
            commit_cut_short(cluster, server, whole)
        assert there(cluster, "x")
        bare(cluster.primary, "TRUNCATE item")


def test_an_answer_that_ends_after_the_commits(cluster: PostgresCluster, server: Server) -> None:
    """It is known to be committed, but not where: acknowledged, and not captured."""
    commit = commit_cut_short(cluster, server, 2)
    assert (commit.position, commit.captured) == (None, False)
    assert there(cluster, "x")
    nothing = commit_cut_short(cluster, server, 2, "SELECT 1")
    assert (nothing.position, nothing.captured) == (None, False)  # what it showed is not known, either


def test_a_whole_answer(cluster: PostgresCluster, server: Server) -> None:
    commit = commit_cut_short(cluster, server, None)
    assert commit.position is not None
    assert commit.captured
    nothing = commit_cut_short(cluster, server, None, "SELECT 1")
    assert (nothing.position, nothing.captured) == (None, True)


def test_a_commit_that_is_not_captured_marks_the_session(
    cluster: PostgresCluster, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stores(engine(cluster))
    session = store.session()
    put(session, "a", 1)
    cluster.replicas[0].pause()
    real = Writing.commit

    def without_a_place(self: Any, deps: Frontier) -> Any:
        steps = real(self, deps)
        results = yield next(steps)
        self.pgconn.finish()
        try:
            steps.throw(Cut("the connection was lost: here", results[:2], lost=True))
        except StopIteration as done:
            return done.value

    with monkeypatch.context() as patched:
        patched.setattr(Writing, "commit", without_a_place)
        put(session, "a", 2)  # no error: it is committed
    n, receipt = get(session, "a")
    assert (n, receipt.endpoint) == (2, "primary")
