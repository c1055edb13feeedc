"""What a block's connection is good for: everything that psycopg does, in both stores, and nothing of it is left for the next block."""

import gc
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from causal.errors import StoreError
from causal.stores.postgres import PoolSettings
from tests.stores.postgres_stage import (
    PostgresCluster,
    Stores,
    engine,
    eventually,
    fail,
    get,
    get_at,
    in_order,
    inside,
    put,
    started,
    stores,
)

__all__ = ["stores"]


@pytest.fixture(scope="module")
def shared() -> Iterator[PostgresCluster]:
    yield from started(replicas=1)


@pytest.fixture
def cluster(shared: PostgresCluster) -> Iterator[PostgresCluster]:
    yield from in_order(shared)


ONE = PoolSettings(max_size=1, max_waiting=1)
"""Every block has the same connection as the one before."""


@pytest.fixture(params=["read committed", "repeatable read"])
def session(request: pytest.FixtureRequest, cluster: PostgresCluster, stores: Stores) -> Any:
    return stores(engine(cluster, isolation=request.param, pool=ONE)).session()


def test_a_block_gives_a_plain_psycopg_connection(session: Any) -> None:
    with session.write() as connection:
        connection.execute("INSERT INTO item VALUES (%s, %s), (%s, %s)", ("a", 1, "b", 2))
    get_at(session, "a", "replica-1")
    with (block := session.read()) as connection:
        assert connection.execute("SELECT n FROM item WHERE key = %(key)s", {"key": "b"}).fetchone() == (2,)
        assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
        assert [row[0] for row in connection.execute("SELECT key FROM item ORDER BY key")] == ["a", "b"]
    assert block.receipt.endpoint == "replica-1"


def test_the_pools_arguments_reach_the_driver(cluster: PostgresCluster, stores: Stores) -> None:
    pool = PoolSettings(kwargs={"row_factory": dict_row, "application_name": "shop"})
    session = stores(engine(cluster, pool=pool)).session()
    put(session, "a", 1)
    with session.read() as connection:
        rows = connection.execute("SELECT n, current_setting('application_name') AS name FROM item").fetchall()
    assert rows == [{"n": 1, "name": "shop"}]


def test_statements_are_prepared_by_the_driver_within_and_across_blocks(session: Any) -> None:
    put(session, "a", 1)
    prepared = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%%item%%' AND NOT from_sql"
    for _ in range(3):
        with session.read() as connection:
            for _ in range(4):
                sql = "SELECT n FROM item WHERE key = %s"
                assert connection.execute(sql, ("a",)).fetchone() == (1,)
    with session.read() as connection:
        assert connection.execute(prepared, prepare=False).fetchone() == (1,)


def test_a_server_side_cursor(session: Any) -> None:
    with session.write() as connection:
        connection.execute("INSERT INTO item SELECT n::text, n FROM generate_series(1, 100) n")
    with session.read() as connection, connection.cursor("named") as cursor:
        cursor.execute("SELECT n FROM item ORDER BY n")
        assert cursor.fetchmany(2) == [(1,), (2,)]
        assert len(cursor.fetchall()) == 98


@pytest.mark.filterwarnings("ignore:.*close")  # the driver's own warning to whoever leaves one open
def test_a_server_side_cursor_that_is_left_open(session: Any) -> None:
    for _ in range(2):
        with session.read() as connection:
            cursor = connection.cursor("named")
            cursor.execute("SELECT generate_series(1, 1000)")
            assert cursor.fetchone() == (1,)
        del cursor
    gc.collect()


def test_copy_in_and_out(session: Any) -> None:
    with session.write() as connection, connection.cursor() as cursor, cursor.copy("COPY item FROM STDIN") as copy:
        for n in range(100):
            copy.write_row((str(n), n))
    out = "COPY (SELECT n FROM item ORDER BY n) TO STDOUT"
    with session.read() as connection, connection.cursor() as cursor, cursor.copy(out) as copy:
        assert [bytes(line) for line in copy][:2] == [b"0\n", b"1\n"]
    with session.read() as connection:
        assert connection.execute("SELECT count(*) FROM item").fetchone() == (100,)


def test_savepoints(session: Any) -> None:
    with session.write() as connection:
        connection.execute("INSERT INTO item VALUES ('a', 1)")
        with pytest.raises(psycopg.errors.UniqueViolation), connection.transaction():
            connection.execute("INSERT INTO item VALUES ('a', 2)")
        with connection.transaction(force_rollback=True):
            connection.execute("INSERT INTO item VALUES ('b', 2)")
        with connection.transaction():
            connection.execute("INSERT INTO item VALUES ('c', 3)")
    with session.read() as connection, connection.transaction():
        assert connection.execute("SELECT key FROM item ORDER BY key").fetchall() == [("a",), ("c",)]


def test_pipeline_mode(session: Any) -> None:
    with session.write() as connection, connection.pipeline():
        for n in range(10):
            connection.execute("INSERT INTO item VALUES (%s, %s)", (str(n), n))
    with session.read() as connection, connection.pipeline():
        cursors = [connection.execute("SELECT n FROM item WHERE key = %s", (str(n),)) for n in range(10)]
        assert [cursor.fetchone()[0] for cursor in cursors] == list(range(10))
    assert get(session, "9")[0] == 9


def test_a_commit_inside_a_block_and_going_on(session: Any, cluster: PostgresCluster) -> None:
    with session.write() as connection:
        connection.execute("INSERT INTO item VALUES ('a', 1)")
        connection.commit()
        connection.execute("INSERT INTO item VALUES ('b', 2)")
    assert [get(session, key)[0] for key in "ab"] == [1, 2]
    c, d = "INSERT INTO item VALUES ('c', 3)", "INSERT INTO item VALUES ('d', 4)"
    with pytest.raises(ZeroDivisionError):
        inside(session.write(), c, lambda connection: connection.commit(), d, fail)
    assert [get(session, key)[0] for key in "cd"] == [3, None]
    cluster.replicas[0].pause()
    with session.write() as connection:
        connection.execute("INSERT INTO item VALUES ('e', 5)")
        connection.commit()
    n, receipt = get(session, "e")
    assert n == 5
    assert receipt.endpoint == "primary"  # committed by hand, it is demanded all the same


def test_a_read_block_takes_no_writes(session: Any) -> None:
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), session.read() as connection:
        connection.execute("INSERT INTO item VALUES ('a', 1)")
    assert get(session, "a")[0] is None


def test_an_error_inside_a_block_is_the_users(session: Any) -> None:
    for block in (session.read, session.write):
        with pytest.raises(psycopg.errors.DivisionByZero), block() as connection:
            connection.execute("SELECT 1/0")
        with pytest.raises(ZeroDivisionError):
            inside(block(), "SELECT 1", fail)
    put(session, "a", 1)
    assert get(session, "a")[0] == 1


def test_a_swallowed_error_is_no_silent_success(session: Any) -> None:

    def swallow(connection: Any) -> None:
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1/0")

    with pytest.raises(StoreError, match="nothing was written: an earlier statement failed"):
        inside(session.write(), "INSERT INTO item VALUES ('a', 1)", swallow)
    assert get(session, "a")[0] is None
    put(session, "a", 2)
    assert get(session, "a")[0] == 2


def test_a_swallowed_error_in_a_read_is_the_users_choice(session: Any) -> None:
    with session.read() as connection, pytest.raises(psycopg.errors.DivisionByZero):
        connection.execute("SELECT 1/0")
    assert get(session, "a")[0] is None


def test_a_deferred_constraint_that_fails_at_commit(session: Any) -> None:
    with session.write() as connection:
        connection.execute("CREATE TABLE whole (key text PRIMARY KEY)")
        connection.execute("CREATE TABLE part (whole text REFERENCES whole DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        inside(session.write(), "INSERT INTO part VALUES ('none')", "INSERT INTO item VALUES ('a', 1)")
    assert get(session, "a")[0] is None
    put(session, "a", 1)
    assert get(session, "a")[0] == 1


def test_a_serialization_failure_is_the_users_to_repeat(cluster: PostgresCluster, stores: Stores) -> None:
    store = stores(engine(cluster, isolation="repeatable read"))
    session = store.session()
    put(session, "a", 1)
    with pytest.raises(psycopg.errors.SerializationFailure):
        inside(
            session.write(),
            "SELECT n FROM item",
            lambda _: put(store.session(), "a", 2),
            "UPDATE item SET n = n + 1",
        )
    assert get(session, "a")[0] == 2  # what the failed transaction may have shown counts as shown
    assert not store._state.view.of("primary").down


def test_a_read_inside_a_write_block_sees_its_writes(session: Any) -> None:
    with session.write() as connection:
        connection.execute("INSERT INTO item VALUES ('a', 1)")
        n, receipt = get(session, "a")
        assert n == 1
        assert receipt.how == "transaction"
    shown: list[Any] = []
    with pytest.raises(ZeroDivisionError):
        inside(session.write(), "UPDATE item SET n = 2", lambda _: shown.append(get(session, "a")[0]), fail)
    assert shown == [2]
    assert get(session, "a")[0] == 1


def test_isolation_is_the_engines_whatever_the_roles_default(cluster: PostgresCluster, stores: Stores) -> None:
    cluster.primary.query("ALTER ROLE app SET default_transaction_isolation = 'serializable'")
    cluster.primary.query("ALTER ROLE app SET default_transaction_read_only = on")
    cluster.wait_caught_up()
    for isolation in ("read committed", "repeatable read"):
        session = stores(engine(cluster, isolation=isolation)).session()
        put(session, "a", 1)
        for block in (session.write, session.read):
            with block() as connection:
                connection.execute("SELECT 1")
                assert connection.execute("SHOW transaction_isolation").fetchone() == (isolation,)
        assert get(session, "a")[0] == 1


def test_what_a_block_leaves_in_its_transaction_is_gone(session: Any) -> None:
    with session.write() as connection:
        connection.execute("SET LOCAL work_mem = '1234kB'")
        connection.execute("CREATE TEMPORARY TABLE scratch ON COMMIT DROP AS SELECT 1")
        connection.execute("SELECT pg_advisory_xact_lock(1)")
    with session.write() as connection:
        assert connection.execute("SHOW work_mem").fetchone() != ("1234kB",)
        assert connection.execute("SELECT to_regclass('scratch')").fetchone() == (None,)
        assert connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)


def test_what_a_user_resets_between_blocks(cluster: PostgresCluster, stores: Stores) -> None:
    """What outlasts a transaction stays on its connection, as in psycopg's own pools, unless `reset` says otherwise."""

    def reset(connection: Any) -> None:
        connection.execute("UNLISTEN *")
        connection.execute("RESET ALL")
        connection.execute("DISCARD TEMP")
        connection.execute("SELECT pg_advisory_unlock_all()")
        connection.commit()

    async def areset(connection: Any) -> None:
        await connection.execute("UNLISTEN *")
        await connection.execute("RESET ALL")
        await connection.execute("DISCARD TEMP")
        await connection.execute("SELECT pg_advisory_unlock_all()")
        await connection.commit()

    def left(session: Any) -> list[Any]:
        with session.write() as connection:
            connection.execute("SET work_mem = '1234kB'")
            connection.execute("LISTEN news")
            connection.execute("CREATE TEMPORARY TABLE scratch (n int)")
            connection.execute("SELECT pg_advisory_lock(1)")
        with session.write() as connection:
            return [
                connection.execute("SHOW work_mem").fetchone() == ("1234kB",),
                connection.execute("SELECT count(*) FROM pg_listening_channels()").fetchone() == (1,),
                connection.execute("SELECT to_regclass('scratch') IS NOT NULL").fetchone() == (True,),
                connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (1,),
            ]

    assert left(stores(engine(cluster, pool=ONE)).session()) == [True] * 4
    for connection in cluster.primary.query("SELECT pid FROM pg_locks WHERE locktype = 'advisory'"):
        cluster.primary.query("SELECT pg_terminate_backend(%s)", *connection)
    own = reset if stores.kind == "sync" else areset
    pool = PoolSettings(max_size=1, max_waiting=1, reset=own)
    session = stores(engine(cluster, pool=pool)).session()
    assert left(session) == [False] * 4
    assert get(session, "a")[0] is None


def test_autocommit_reads(cluster: PostgresCluster, stores: Stores) -> None:
    store = stores(engine(cluster, autocommit=True, pool=ONE))
    session = store.session()
    put(session, "a", 1)
    get_at(session, "a", "replica-1")
    with (block := session.read()) as connection:
        assert connection.execute("SELECT n FROM item").fetchone() == (1,)
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        put(store.session(), "a", 2)
        assert eventually(lambda: connection.execute("SELECT n FROM item").fetchone() == (2,))
    assert block.receipt.endpoint == "replica-1"
    with pytest.raises(ZeroDivisionError):  # a write block has a transaction all the same, and the next one, too
        inside(session.write(), lambda connection: connection.commit(), "UPDATE item SET n = 0", fail)
    cluster.replicas[0].pause()
    with session.write() as connection:
        connection.execute("UPDATE item SET n = n + 1")
    n, receipt = get(session, "a")
    assert (n, receipt.endpoint) == (3, "primary")


def test_a_block_left_in_the_middle_of_a_statement(session: Any) -> None:
    """An unread COPY or an open pipeline costs the connection, not the next block."""
    put(session, "a", 1)
    for _ in range(2):
        with session.read() as connection:
            connection.pgconn.send_query(b"SELECT pg_sleep(0)")
        assert get(session, "a")[0] == 1


@pytest.mark.parametrize("forgets", ["DEALLOCATE ALL", "DISCARD ALL", "driver"])
def test_prepared_statements_that_a_block_throws_away(session: Any, forgets: str) -> None:
    """The library's own on that connection go with the rest: what is asked with every block is prepared again."""
    for block in (session.write, session.read, session.write, session.read):
        with (entered := block()) as connection:
            if forgets == "driver":  # after these, psycopg itself sends DEALLOCATE ALL
                for _ in range(7):
                    connection.execute("SELECT n FROM item WHERE key = %s", ("a",))
                connection.execute("ROLLBACK")
                connection.execute("SELECT n FROM item WHERE key = %s", ("a",))
            elif forgets == "DISCARD ALL":
                connection.commit()
                connection.set_autocommit(True)
                connection.execute(forgets)
                connection.set_autocommit(False)
            else:
                connection.execute(forgets)
        assert entered.receipt.attempts == 1
        assert not session._state.joined.marks  # nothing is in doubt
