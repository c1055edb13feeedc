"""Positions of real commits: whoever has applied one has the row, always; and every standby gets there, however idle the primary is."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any

import attrs
import psycopg
import pytest

from causal.core.watermark import Verdict
from causal.errors import ConfigError
from causal.lab.postgres import PostgresCluster, Server
from causal.stores.postgres.lsn import PAGE, parse
from tests.stores.postgres_world import PATIENT, SHARD, here, judged, left_alone, opened, prepared, put, served, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from causal import CausalStore

ROW = itertools.count(1)
SEGMENT = 16 << 20


@pytest.fixture(scope="module")
def cluster() -> Iterator[PostgresCluster]:
    with PostgresCluster(1, settings={"wal_writer_delay": "10s", "autovacuum": False}) as cluster:
        yield prepared(cluster)


@pytest.fixture
def store(cluster: PostgresCluster) -> Iterator[CausalStore[Any, Any]]:
    with opened(cluster) as store:
        yield store


@pytest.fixture
def alone(cluster: PostgresCluster) -> Iterator[None]:
    """Nobody but the test writes or flushes the log."""
    with left_alone(cluster.primary):
        yield


def replayed(server: Server) -> int:
    return parse(server.wal())


def nudge(server: Server) -> None:
    """Flush what asynchronous commits left in memory, which the wal writer would do in its own time."""
    server.flushed()


DELAYED = "SELECT 1 FROM pg_stat_activity WHERE backend_type = 'startup' AND wait_event = 'RecoveryApplyDelay'"
SYNCHRONOUS = ["on", "local", "remote_write", "remote_apply"]
WAYS = [(mode, way) for mode in [*SYNCHRONOUS, "off"] for way in ("role", "block")]


@pytest.mark.parametrize(("mode", "way"), WAYS, ids=[f"{mode}-{way}" for mode, way in WAYS])
def test_whoever_has_replayed_the_position_has_the_row(cluster: PostgresCluster, mode: str, way: str) -> None:
    """By the standby's own replay position, beside an open transaction of somebody else."""
    primary, standby = cluster.primary, cluster.replicas[0]
    names = '"replica-1"' if mode in {"on", "remote_write", "remote_apply"} else ""
    primary.configure(synchronous_standby_names=names)
    first = [f"SET LOCAL synchronous_commit = {mode}"] if way == "block" else []
    if way == "role":
        primary.query(f"ALTER ROLE app SET synchronous_commit = {mode}")
    waits = mode != "remote_apply"  # that one is acknowledged once it is applied
    try:
        with opened(cluster) as store, psycopg.connect(primary.admin_dsn) as bulk:
            bulk.execute("INSERT INTO t SELECT -g, repeat('x', 500) FROM generate_series(1, 20) g")
            if waits:
                cluster.wait_caught_up()
                standby.set_lag(3600)  # replay stops right before the commit: whatever was taken too early is reached
            position = put(store.session(), row := next(ROW), *first)
            assert here(primary, row)
            if mode == "off":
                nudge(primary)
            if waits:
                until(lambda: standby.query(DELAYED), "the commit at the standby")
                assert not here(standby, row)
                assert replayed(standby) < position.offset
                standby.set_lag(0)
            until(lambda: replayed(standby) >= position.offset, "the position")
            assert here(standby, row), f"replayed past {position} without row {row}"
            bulk.rollback()
    finally:
        standby.set_lag(0)
        primary.query("ALTER ROLE app RESET synchronous_commit")
        primary.configure(synchronous_standby_names=None)
        cluster.wait_caught_up()


def test_with_replay_paused_nobody_is_told_that_it_is_there(
    cluster: PostgresCluster, store: CausalStore[Any, Any]
) -> None:
    cluster.pause("replica-1")
    try:
        position = put(alice := store.session(), row := next(ROW))
        assert judged(store._link(), "replica-1", position, row) == {Verdict.BEHIND}
        assert served(alice, row) == "primary"
        assert not here(cluster.replicas[0], row)
    finally:
        cluster.resume("replica-1")
    until(lambda: judged(store._link(), "replica-1", position, row) == {Verdict.APPLIED})
    assert served(alice, row, PATIENT) == "replica-1"


def insert_lsn(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
    assert row is not None
    return parse(row[0])


def message(connection: psycopg.Connection[Any], size: int) -> int:
    """Write that much into the log, within the transaction; return where it ends."""
    connection.execute("SELECT pg_logical_emit_message(true, 'x', repeat('x', %s))", (size,))
    return insert_lsn(connection)


@pytest.mark.usefixtures("alone")
def test_a_commit_that_ends_on_a_pages_edge_is_reached_while_nothing_else_is_written(
    cluster: PostgresCluster, store: CausalStore[Any, Any]
) -> None:
    """By chance one commit in a thousand: here a message fills the page up to where the commit's record fits exactly."""
    standby, session, commit = cluster.replicas[0], store.session(), 40
    with psycopg.connect(cluster.primary.admin_dsn, autocommit=True) as writer:
        for _ in range(20):
            with session.write() as connection:
                connection.execute("INSERT INTO t VALUES (%s)", (row := next(ROW),))
                before = insert_lsn(connection)
                at = message(connection, 300)
                overhead = at - before - 300  # of a message of that size, and of any that is a multiple of 8 larger
                left = (-(at + commit)) % PAGE
                if left > overhead + 300:
                    at = message(connection, left - overhead)
            raw = insert_lsn(writer)
            if raw % PAGE == 24:
                break
            commit = raw - at if raw // PAGE == at // PAGE else commit
        else:
            pytest.fail("no commit ended on a page's edge")
        position = max(session.own, key=lambda p: p.offset)
        assert position.offset == raw - 24
        assert store.position(writer).offset(SHARD, position.origin) == position.offset
        assert store.head().offset(SHARD, position.origin) == position.offset
        until(lambda: replayed(standby) >= position.offset, "an idle standby")
        assert here(standby, row)
        assert replayed(standby) < raw  # what is not rounded is not reached
        until(lambda: judged(store._link(), "replica-1", position, row) == {Verdict.APPLIED})
        assert served(session, row, PATIENT) == "replica-1"


@pytest.mark.usefixtures("alone")
def test_a_segments_start_is_reached_while_nothing_else_is_written(
    cluster: PostgresCluster, store: CausalStore[Any, Any]
) -> None:
    primary, standby = cluster.primary, cluster.replicas[0]
    put(store.session(), row := next(ROW))
    with psycopg.connect(primary.admin_dsn, autocommit=True) as writer:
        writer.execute("SELECT pg_switch_wal()")
        raw = insert_lsn(writer)
        assert raw % SEGMENT in {0, 40}
        position = store.position(writer)
        (only,) = position
        assert only.offset % SEGMENT == 0
        assert store.head().offset(SHARD, only.origin) == only.offset
        until(lambda: replayed(standby) >= only.offset, "an idle standby")
        reader = store.session()
        reader.join(position)
        assert served(reader, row, PATIENT) == "replica-1"
        # A reader at the primary is shown no more than an idle standby gets to.
        with (late := store.session()).write() as connection:
            assert connection.execute("SELECT 1 FROM t WHERE id = %s", (row,)).fetchone()
        assert served(late, row, PATIENT) == "replica-1"


@attrs.define
class Wrapped:
    """As ORMs wrap a driver's connection."""

    driver_connection: Any


@attrs.define
class Outer:
    connection: Any


@pytest.mark.parametrize("autocommit", [True, False])
def test_positions_of_writes_made_outside(
    cluster: PostgresCluster, store: CausalStore[Any, Any], autocommit: bool
) -> None:
    cluster.pause("replica-1")
    try:
        with psycopg.connect(cluster.primary.dsn, autocommit=autocommit) as raw:
            for mode, connection in itertools.product(("on", "off"), (raw, Wrapped(raw), Outer(Wrapped(raw)))):
                raw.execute(f"SET synchronous_commit = {mode}")
                raw.execute("INSERT INTO t VALUES (%s)", (row := next(ROW),))
                if not autocommit:
                    with pytest.raises(ConfigError, match="commit first"):
                        store.position(connection)
                    raw.commit()
                session = store.session()
                session.join(store.position(connection))
                assert list(session.own)
                assert served(session, row) == "primary"
                (position,) = session.own
                assert judged(store._link(), "replica-1", position, row) == {Verdict.BEHIND}
                someone = store.session()
                someone.join(store.head())
                assert served(someone, row) == "primary"
    finally:
        cluster.resume("replica-1")
    with psycopg.connect(cluster.replicas[0].dsn) as standby, pytest.raises(ConfigError, match="standby"):
        store.position(standby)
    with pytest.raises(ConfigError, match="not a psycopg connection"):
        store.position(object())


def test_the_position_of_a_write_outside_after_a_restart_that_nobody_saw(
    cluster: PostgresCluster, store: CausalStore[Any, Any]
) -> None:
    store.head()
    cluster.primary.stop()
    cluster.primary.start()
    with psycopg.connect(cluster.primary.dsn, autocommit=True) as raw:
        raw.execute("INSERT INTO t VALUES (%s)", (row := next(ROW),))
        session = store.session()
        session.join(store.position(raw))
        assert served(session, row)
    cluster.wait_caught_up()


def test_a_block_that_wrote_nothing_has_no_position(store: CausalStore[Any, Any]) -> None:
    put(store.session(), row := next(ROW))
    with (session := store.session()).write() as connection:
        assert connection.execute("SELECT 1 FROM t WHERE id = %s", (row,)).fetchone()
    assert not list(session.own)
    assert list(session.seen)  # but it has seen something
    assert served(session, row)
    with pytest.raises(psycopg.errors.UniqueViolation), session.write() as connection:
        connection.execute("INSERT INTO t VALUES (%s)", (row,))
    assert not list(session.own)


@pytest.mark.parametrize("after", ["", "SELECT 1", "INSERT INTO t VALUES (-{row})"])
@pytest.mark.parametrize("mode", ["on", "off"])
def test_a_block_that_commits_midway_owns_all_that_it_committed(
    cluster: PostgresCluster, store: CausalStore[Any, Any], after: str, mode: str
) -> None:
    cluster.pause("replica-1")
    try:
        with (session := store.session()).write() as connection:
            connection.execute(f"SET LOCAL synchronous_commit = {mode}")
            connection.execute("INSERT INTO t VALUES (%s)", (row := next(ROW),))
            connection.commit()
            if after:
                connection.execute(after.format(row=10_000_000 + row))
        (position,) = session.own
        assert judged(store._link(), "replica-1", position, row) == {Verdict.BEHIND}
        assert served(store.session(session.token()), row) == "primary"
    finally:
        cluster.resume("replica-1")
    nudge(cluster.primary)
    until(lambda: replayed(cluster.replicas[0]) >= position.offset)
    assert here(cluster.replicas[0], row)


def test_a_position_beside_somebodys_bulk_waits_for_nothing_of_it(
    cluster: PostgresCluster, store: CausalStore[Any, Any]
) -> None:
    """The insert position is past what the bulk has put into memory only, which nobody sends before it is flushed."""
    ready, done = threading.Event(), threading.Event()

    def bulk() -> None:
        with psycopg.connect(cluster.primary.admin_dsn) as connection:
            for n in itertools.count():
                connection.execute("INSERT INTO t VALUES (%s, repeat('y', 50))", (-50_000 - n,))
                ready.set()
                if done.is_set():
                    connection.rollback()
                    return

    thread = threading.Thread(target=bulk)
    thread.start()
    try:
        assert ready.wait(20)
        session = store.session()
        with psycopg.connect(cluster.primary.admin_dsn, autocommit=True) as witness:
            for _ in range(30):
                position = put(session, row := next(ROW))
                flushed = witness.execute("SELECT pg_current_wal_flush_lsn()").fetchone()
                assert flushed is not None
                assert position.offset <= parse(flushed[0])
    finally:
        done.set()
        thread.join()
    until(lambda: judged(store._link(), "replica-1", position, row) == {Verdict.APPLIED})


@pytest.mark.usefixtures("alone")
def test_an_asynchronous_commit_is_not_taken_for_one_that_is_flushed(
    cluster: PostgresCluster, store: CausalStore[Any, Any]
) -> None:
    position = put(session := store.session(), row := next(ROW), "SET LOCAL synchronous_commit = off")
    flushed = parse(cluster.primary.query("SELECT pg_current_wal_flush_lsn()")[0][0])
    assert flushed < position.offset  # nobody has flushed it: whoever takes that for the position demands too little
    assert judged(store._link(), "replica-1", position, row) == {Verdict.BEHIND}
    nudge(cluster.primary)
    until(lambda: judged(store._link(), "replica-1", position, row) == {Verdict.APPLIED})
    assert served(session, row)
