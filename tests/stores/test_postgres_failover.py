"""Failovers of real servers: what a promotion lost is said lost, by whoever knows; nobody who may lack it says that it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from causal.core.watermark import Verdict
from causal.errors import GateError, StoreError, Unreachable, WriteLost
from causal.lab.postgres import PostgresCluster
from causal.stores.postgres.install import install
from tests.stores.postgres_world import (
    ERROR,
    PATIENT,
    READ,
    SHARD,
    ask_all,
    fill,
    here,
    judged,
    linked,
    marked,
    opened,
    passed,
    prepared,
    put,
    served,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from causal.core.position import Position

LOST, BEHIND, UNKNOWN, APPLIED = Verdict.LOST, Verdict.BEHIND, Verdict.UNKNOWN, Verdict.APPLIED


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[PostgresCluster]:
    with PostgresCluster(getattr(request, "param", 2)) as cluster:
        yield prepared(cluster)


def fail_over(cluster: PostgresCluster, session: Any, *lacking: str, row: int = 2) -> Position:
    """Write a row that those do not get, kill the primary and promote the first of them: return the position of what is lost."""
    for name in lacking:
        cluster.servers[name].stop()
    position = put(session, row)
    for server in cluster.replicas:
        if server.running:
            until(lambda server=server: here(server, row))
    cluster.primary.kill()
    for name in lacking:
        cluster.servers[name].start()
        assert not here(cluster.servers[name], row)
    cluster.servers[lacking[0]].promote()
    return position


def test_what_a_promotion_lost_is_said_lost_and_whoever_still_has_it_is_not_served(cluster: PostgresCluster) -> None:
    new, ahead = cluster.replicas
    with opened(cluster) as store:
        alice = store.session()
        put(alice, 1)
        position = fail_over(cluster, alice, "replica-1")
        bob = store.session(alice.token())
        fill(new, 1000)
        assert passed(new, position.offset)  # whoever compares numbers is told that it is there
        assert not here(new, 2)

        for attempt in (alice.read, alice.write):
            with pytest.raises(WriteLost) as lost, attempt():
                pass
            assert [loss.position for loss in lost.value.lost] == [position]

        # Who only saw it is not held up, and is told.
        watcher = store.session()
        watcher.join(alice.own)
        with (block := watcher.read(policy=PATIENT)) as connection:
            assert connection.execute("SELECT count(*) FROM t WHERE pad = 'filler'").fetchone() == (1000,)
        assert block.receipt.endpoint == "replica-1"
        assert [loss.position for loss in block.receipt.clipped] == [position]

        alice.forget(lost.value.lost)
        later = put(alice, 3)
        assert later.origin != position.origin
        assert served(alice, 3) == "replica-1"

        # The other standby is past the fork: it has the lost row, and cannot follow. Nobody is sent there, whatever they demand.
        assert here(ahead, 2)
        ahead.follow(new)
        until(lambda: "forked off current database system timeline" in ahead.log, "the refusal to follow")
        for policy in (None, READ):
            for session in (store.session(), bob, alice):
                try:
                    with (block := session.read(policy=policy)):
                        assert block.receipt.endpoint == "replica-1", (policy, block.receipt)
                except WriteLost:
                    assert session is bob
            store.head()  # asks everybody: from now on nobody is sent there even if unproven answers will do
        assert LOST in judged(store._link(), "replica-1", position, 2)


def test_a_demoted_primary_that_still_answers_serves_nobody_who_knows_of_the_new_one(cluster: PostgresCluster) -> None:
    new, follower = cluster.replicas
    old = cluster.primary
    with opened(cluster, "replica-2") as ignorant, opened(cluster) as store:
        put(store.session(), 1)
        cluster.wait_caught_up()
        alice = store.session()
        put(alice, 2)
        cluster.wait_caught_up()
        new.promote()  # the old one goes on, with a follower

        # One who has not heard goes on writing to the old one: taken, and lost as soon as anybody knows.
        carol = ignorant.session()
        position = put(carol, 3)
        until(lambda: here(follower, 3))
        assert served(carol, 3)

        with linked(cluster) as link:
            assert marked(link, "primary").leads  # alone, it looks as it always did
            ask_all(link)
            with pytest.raises(
                Unreachable, match=r"takes writes on timeline 1, but replica-1 was promoted to timeline 2"
            ):
                link.probe("primary", 5)
            assert link.leader(SHARD) == "replica-1"

        store.head()  # asks everybody
        fresh = put(bob := store.session(), 4)
        assert here(new, 4)
        assert not here(old, 4)
        assert served(bob, 4) == "replica-1"
        fill(old, 500)
        fill(new, 400, start=2_000_000)
        until(lambda: passed(follower, fresh.offset) and passed(old, fresh.offset), "the old one's number")
        with linked(cluster) as link:
            for name in ("primary", "replica-2"):
                assert APPLIED not in judged(link, name, fresh, 4)
        for session in (store.session(), store.session(bob.token())):
            for _ in range(
                5
            ):  # what is not demanded is not stale either: followers of the old one are not shown to be fresh
                with (block := session.read()):
                    assert block.receipt.endpoint == "replica-1", block.receipt
        with pytest.raises(WriteLost) as lost, store.session(carol.token()).read():
            pass
        assert [loss.position for loss in lost.value.lost] == [position]
        ignorant.engine  # noqa: B018 - it still believes the old one; what it is told there is true of that history
        assert served(carol, 3)


@pytest.mark.parametrize("cluster", [3], indirect=True)
def test_two_standbys_promoted_at_once_never_serve_each_others_tokens(cluster: PostgresCluster) -> None:
    one, two, third = cluster.replicas
    with opened(cluster) as store:
        put(store.session(), 1)
    cluster.primary.stop()
    until(lambda: len({server.wal() for server in cluster.replicas}) == 1, "the same place")
    one.promote()
    two.promote()
    histories = [(server.data / "pg_wal" / "00000002.history").read_bytes() for server in (one, two)]
    assert histories[0] == histories[1]  # nothing that a server keeps of its own tells them apart

    third.follow(two)
    with (
        opened(cluster, "primary", primary="replica-1") as first,
        opened(cluster, "replica-3", primary="replica-2") as second,
    ):
        first._link(), second._link()
        mine = put(alice := first.session(), 2)
        fill(two, 100)
        theirs = put(bob := second.session(), 3)
        assert mine.origin != theirs.origin
        until(lambda: passed(third, mine.offset), "the third")
        assert passed(two, mine.offset)
        link = second._link()
        for name in ("replica-2", "replica-3"):
            assert judged(link, name, mine, 2) == {UNKNOWN}
        fill(one, 200)
        assert passed(one, theirs.offset)
        assert judged(first._link(), "replica-1", theirs, 3) == {UNKNOWN}
        with pytest.raises(GateError):
            served(second.session(alice.token()), 2)
        with pytest.raises(GateError):
            served(first.session(bob.token()), 3)
        assert served(alice, 2)
        assert served(bob, 3)


def test_a_standby_of_a_new_primary_whose_origin_is_not_there_yet_proves_nothing(cluster: PostgresCluster) -> None:
    new, follower = cluster.replicas
    with opened(cluster, timeout_s=1.0) as store, linked(cluster, "replica-2", timeout_s=1.0) as lately:
        alice = store.session()
        put(alice, 1)
        ask_all(lately)
        position = fail_over(cluster, alice, "replica-1", "replica-2")
        with psycopg.connect(new.admin_dsn) as holder:
            holder.execute("SELECT pg_advisory_lock(6003317742519041347)")  # nobody can begin the origin
            follower.follow(new)
            fill(new, 100)
            until(lambda: passed(follower, position.offset) and here(follower, 1_000_099), "the follower")
            with linked(cluster, "replica-2", timeout_s=1.0) as fresh:
                for link in (lately, fresh, store._link()):
                    assert judged(link, "replica-2", position, 2) == {BEHIND}
            with pytest.raises(GateError):
                served(alice, 2)
            # What a reader is shown there is of a history that has no name yet: the session is told to read at the leader.
            reader = store.session()
            with (block := reader.read(policy=ERROR)) as connection:
                assert connection.execute("SELECT 1 FROM t WHERE id = 1000099").fetchone()
            assert block.receipt.endpoint == "replica-2"
            assert reader.seen.marked(SHARD)
            # The new primary dies before anybody has begun its origin: what the follower must have come to is not where it is. It dies
            # with the lock: questions that were given up wait for that in their backends, and one of them would begin the origin.
            new.kill()
            holder.close()
        until(lambda: not follower.query("SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming'"))
        assert passed(follower, position.offset)
        with linked(cluster, "replica-2", timeout_s=1.0) as fresh:
            assert judged(fresh, "replica-2", position, 2) == {BEHIND}
        new.start()
        store.head()
        until(lambda: judged(store._link(), "replica-2", position, 2) == {LOST}, "the row of the new origin")
        with pytest.raises(WriteLost):
            served(alice, 2)


@pytest.mark.parametrize("cluster", [1], indirect=True)
@pytest.mark.parametrize("history", [True, False], ids=["told", "untold"])
@pytest.mark.parametrize("how", ["at once", "stop", "kill"])
def test_a_promotion_that_nobody_saw_before_a_restart(cluster: PostgresCluster, how: str, history: bool) -> None:
    new = cluster.replicas[0]
    if not history:  # whoever owns the functions may not read the history file
        cluster.primary.query("DROP SCHEMA causal CASCADE")
        cluster.primary.query("GRANT pg_monitor TO app")
        install(cluster.primary.dsn)
        cluster.wait_caught_up()
    with opened(cluster) as store:
        alice = store.session()
        before = put(alice, 1)
        cluster.wait_caught_up()
        position = fail_over(cluster, alice, "replica-1")
        fill(new, 100)
        if how != "at once":
            new.kill() if how == "kill" else new.stop()
            new.start()
        assert passed(new, position.offset)
        if history or how == "at once":  # the very life that was promoted knows where its recovery ended
            assert judged(store._link(), "replica-1", position, 2) == {LOST}
            assert judged(store._link(), "replica-1", before, 1) == {APPLIED}
            with pytest.raises(WriteLost):
                served(alice, 2)
        else:  # nobody can know
            assert judged(store._link(), "replica-1", position, 2) == {UNKNOWN}
            assert judged(store._link(), "replica-1", before, 1) == {UNKNOWN}
            with pytest.raises(GateError):
                served(alice, 2)


@pytest.mark.parametrize("cluster", [1], indirect=True)
def test_a_connection_of_a_standby_is_not_used_once_it_was_promoted(cluster: PostgresCluster) -> None:
    replica = cluster.replicas[0]
    with linked(cluster) as link:
        first = link.read("replica-1", (SHARD,))
        held = link.read("replica-1", (SHARD,))
        first.close()  # one is idle in the pool, one is in use
        cluster.primary.kill()
        replica.promote()
        held.connection.execute("SELECT 1")
        with pytest.raises(Unreachable):  # nor can the leader say what it showed: that is gone
            held.end()
        held.close()
        with pytest.raises(Unreachable, match="changed its role"):
            link.read("replica-1", (SHARD,))
        assert marked(link, "replica-1").leads
        with_leads = link.read("replica-1", (SHARD,))
        assert with_leads.watermarks[SHARD].leads
        assert with_leads.connection is not first.connection
        assert first.connection.closed
        assert held.connection.closed
        with_leads.close()
        with pytest.raises(StoreError):
            link.probe("primary", 1)


def test_a_write_finds_who_was_promoted_though_nobody_has_looked_since(cluster: PostgresCluster) -> None:
    with opened(cluster) as store:
        session = store.session()
        put(session, 1)
        cluster.wait_caught_up()
        cluster.primary.kill()
        cluster.replicas[1].promote()
        with (block := session.write()) as connection:
            connection.execute("INSERT INTO t VALUES (2)")
        assert block.receipt.endpoint == "replica-2"
        assert served(session, 2) == "replica-2"
