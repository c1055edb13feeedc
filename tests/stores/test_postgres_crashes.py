"""Crashes and restarts of real servers: a life that ends may take commits along, and a life's number must not outlive it."""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING

import psycopg
import pytest

from causal.core.frontier import Frontier
from causal.core.watermark import Verdict
from causal.errors import GateError, Unreachable, WriteLost
from causal.lab.postgres import PostgresCluster
from tests.stores.postgres_world import (
    PATIENT,
    SHARD,
    fill,
    here,
    judged,
    left_alone,
    linked,
    opened,
    passed,
    prepared,
    put,
    served,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

OFF = "SET LOCAL synchronous_commit = off"


@pytest.fixture(scope="module")
def cluster() -> Iterator[PostgresCluster]:
    settings = {
        "wal_writer_flush_after": "100MB",
        "autovacuum": False,
    }  # what is not flushed stays so, until a crash
    with PostgresCluster(1, settings=settings) as cluster:
        yield prepared(cluster)


ROW = iter(range(1, 1000))


def lose(cluster: PostgresCluster, session: object, how: str) -> tuple[object, int]:
    """Write a row asynchronously and crash: return the position of what is gone."""
    row, primary = next(ROW), cluster.primary
    with left_alone(primary) as stopped:
        position = put(session, row, OFF)
        if how == "kill":
            primary.kill()
            primary.start()
        else:  # as `crash_backend`, but for whom it strikes: who is stopped would hold the recovery up
            with psycopg.connect(primary.admin_dsn) as witness:
                for pid in stopped:
                    os.kill(pid, signal.SIGKILL)
                assert select.select([witness.pgconn.socket], [], [], 60)[0]
            until(primary._answers, "recovery")
    assert not here(cluster.primary, row), "nothing was lost: the test is void"
    return position, row


@pytest.mark.parametrize("how", ["kill", "backend"])
def test_an_asynchronous_commit_that_a_crash_drops_is_said_lost(cluster: PostgresCluster, how: str) -> None:
    with opened(cluster) as store:
        alice = store.session()
        put(alice, next(ROW))
        position, row = lose(cluster, alice, how)
        fill(cluster.primary, 50, start=10_000 * row)
        assert passed(cluster.primary, position.offset)  # whoever compares numbers is told that it is there
        until(lambda: passed(cluster.replicas[0], position.offset))
        for attempt in (alice.read, alice.write):
            with pytest.raises(WriteLost) as lost, attempt():
                pass
            assert [loss.position for loss in lost.value.lost] == [position]
        alice.forget(lost.value.lost)
        put(alice, row)
        served(alice, row)


@pytest.mark.parametrize("how", ["kill", "backend"])
def test_a_new_life_of_a_primary_is_not_taken_for_the_one_that_was_known(cluster: PostgresCluster, how: str) -> None:
    """Nobody has asked since the crash, and pooled connections are new: the first block itself meets the other life."""
    with linked(cluster) as link, opened(cluster) as store:
        link.probe("primary", 5)
        position, row = lose(cluster, store.session(), how)
        fill(cluster.primary, 50, start=10_000 * row)
        assert passed(cluster.primary, position.offset)
        assert Verdict.APPLIED not in judged(link, "primary", position, row)
        assert judged(link, "primary", position, row) == {Verdict.LOST}


@pytest.mark.parametrize("how", ["kill", "backend"])
def test_a_block_that_meets_a_new_life_first_is_not_served_by_its_number(cluster: PostgresCluster, how: str) -> None:
    with opened(cluster) as writer, opened(cluster) as store:
        position, row = lose(cluster, bob := writer.session(), how)
        fill(cluster.primary, 50, start=10_000 * row)
        reader = store.session(bob.token())
        assert passed(cluster.primary, position.offset)
        with pytest.raises(GateError):
            served(reader, row)


@pytest.mark.parametrize("how", ["kill", "backend"])
def test_a_write_that_meets_a_new_life_first_is_given_no_place_in_the_old_one(
    cluster: PostgresCluster, how: str
) -> None:
    with opened(cluster) as writer, opened(cluster) as store, linked(cluster) as link:  # which have no connection yet
        link.probe("primary", 5)
        lost, _ = lose(cluster, writer.session(), how)
        with pytest.raises(Unreachable, match="another life"):
            link.write("primary", SHARD, Frontier())
        position = put(alice := store.session(), row := next(ROW), wait_s=20.0)  # a connection is refused first
        assert position.origin != lost.origin
        assert served(alice, row)
        until(lambda: judged(store._link(), "replica-1", position, row) == {Verdict.APPLIED})


def test_a_clean_restart_loses_nothing(cluster: PostgresCluster) -> None:
    replica = cluster.replicas[0]
    with opened(cluster) as store:
        alice, row = store.session(), next(ROW)
        position = put(alice, row)
        until(lambda: judged(store._link(), "replica-1", position, row) == {Verdict.APPLIED})
        cluster.primary.stop()
        assert (
            served(alice, row, PATIENT) == "replica-1"
        )  # while the primary is down, what was proven or is proven to be there
        cluster.primary.start()
        cluster.wait_caught_up()
        for name in ("replica-1", "primary"):
            until(lambda name=name: judged(store._link(), name, position, row) == {Verdict.APPLIED}, name)
        assert served(alice, row, PATIENT) == "replica-1"
        later = put(alice, second := next(ROW))
        assert later.origin != position.origin
        until(lambda: here(replica, second))
        assert served(alice, second)
        with linked(cluster) as link:  # one who has not been there before
            for name in ("replica-1", "primary"):
                assert judged(link, name, position, row) <= {Verdict.APPLIED, Verdict.BEHIND}
                until(lambda name=name: judged(link, name, position, row) == {Verdict.APPLIED}, name)


@pytest.mark.parametrize("how", ["restart", "backend"])
def test_a_standby_that_comes_back_behind_its_own_watermark_is_known_for_where_it_is(
    cluster: PostgresCluster, how: str
) -> None:
    """Twice over: the position is of the newest origin, and of one that has ended where the standby is not yet."""
    replica = cluster.replicas[0]
    with opened(cluster) as store:
        link = store._link()
        replica.query("CHECKPOINT")  # it replays from its last restart point, which is before all of this
        put(alice := store.session(), ended := next(ROW))
        (old,) = alice.own
        cluster.primary.stop()
        cluster.primary.start()
        store.head()
        new = put(alice, newest := next(ROW))
        assert new.origin != old.origin
        until(lambda: here(replica, newest))
        until(lambda: Verdict.APPLIED in judged(link, "replica-1", new, newest))
        assert judged(link, "replica-1", old, ended) == {Verdict.APPLIED}
        try:
            if how == "restart":
                replica.kill()
                replica.set_lag(3600)
                replica.start()
            else:  # the postmaster lives on: by its start, it is the same
                replica.set_lag(3600)
                replica.crash_backend()
            assert not here(replica, ended), "it is not behind: the test is void"
            assert not passed(replica, old.offset)
            for position, row in ((old, ended), (new, newest)):
                assert Verdict.APPLIED not in judged(link, "replica-1", position, row)
            assert served(alice, newest) == "primary"
            assert served(alice, ended) == "primary"
        finally:
            replica.set_lag(0)
        until(lambda: judged(link, "replica-1", new, newest) == {Verdict.APPLIED})
        assert judged(link, "replica-1", old, ended) == {Verdict.APPLIED}


def test_with_the_primary_down_a_new_process_reads_what_a_standby_must_have(cluster: PostgresCluster) -> None:
    replica = cluster.replicas[0]
    with opened(cluster) as store:
        old = put(alice := store.session(), row := next(ROW))
        until(lambda: here(replica, row))
        cluster.primary.query("CHECKPOINT")
        cluster.wait_caught_up()
        replica.query("CHECKPOINT")  # a restart point: the control file says how far it must have come
        new = put(alice, late := next(ROW))
        until(lambda: here(replica, late))
        link = store._link()
        until(lambda: judged(link, "replica-1", new, late) == {Verdict.APPLIED})
        cluster.primary.kill()
        until(lambda: not replica.query("SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming'"))
        try:
            for _ in range(3):
                assert judged(link, "replica-1", new, late) == {Verdict.APPLIED}  # proven before
            assert served(alice, late, PATIENT) == "replica-1"
            with linked(cluster, timeout_s=1.0) as fresh:
                for _ in range(3):
                    assert judged(fresh, "replica-1", old, row) == {Verdict.APPLIED}
                assert judged(fresh, "replica-1", new, late) <= {Verdict.APPLIED, Verdict.BEHIND}
        finally:
            cluster.primary.start()
            cluster.wait_caught_up()


@pytest.mark.parametrize("how", ["kill", "backend"])
def test_a_crash_that_nobody_saw_before_a_clean_restart_leaves_it_in_doubt(cluster: PostgresCluster, how: str) -> None:
    with opened(cluster) as writer:
        position, row = lose(cluster, bob := writer.session(), how)
        token = bob.token()
    fill(cluster.primary, 50, start=10_000 * row)
    cluster.primary.stop()
    cluster.primary.start()
    assert passed(cluster.primary, position.offset)
    with opened(cluster) as store:
        assert judged(store._link(), "primary", position, row) == {Verdict.UNKNOWN}
        with pytest.raises(GateError):
            served(store.session(token), row)
        put(store.session(), row)


def test_clean_restarts_that_nobody_saw_lose_nothing(cluster: PostgresCluster) -> None:
    with opened(cluster) as writer:
        position = put(bob := writer.session(), row := next(ROW))
        token = bob.token()
    for _ in range(2):
        cluster.primary.stop()
        cluster.primary.start()
        fill(cluster.primary, 5, start=10_000 * next(ROW))
    cluster.primary.query("CHECKPOINT")
    with opened(cluster) as store:
        assert judged(store._link(), "primary", position, row) == {Verdict.APPLIED}
        assert served(store.session(token), row)


def test_rows_that_a_dump_took_to_another_cluster_vouch_for_nothing_there(cluster: PostgresCluster) -> None:
    with opened(cluster) as store:
        put(store.session(), next(ROW))
        put(bob := store.session(), next(ROW))
        (position,) = bob.own
    rows = cluster.primary.query("SELECT l::text FROM causal.lineage l ORDER BY seq")
    with PostgresCluster(0) as other:
        prepared(other)
        other.primary.query("DELETE FROM causal.lineage")
        for (row,) in rows:
            other.primary.query("INSERT INTO causal.lineage SELECT (%s::causal.lineage).*", row)
        other.primary.query("UPDATE causal.unbroken SET origin = %s", position.origin)
        for start in (1, 2):
            fill(other.primary, 200, start=1000 * start)
            other.primary.query("SELECT pg_switch_wal()")
        while not passed(other.primary, position.offset):
            other.primary.query("SELECT pg_switch_wal(), pg_logical_emit_message(true, '', 'x')")
        with opened(other) as elsewhere:
            assert judged(elsewhere._link(), "primary", position, -1) == {Verdict.UNKNOWN}
