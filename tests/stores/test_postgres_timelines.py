"""Without the origins installed: timelines alone. What they still tell, and what they cannot, as the documentation says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from causal.core.watermark import Verdict
from causal.errors import StoreError, WriteLost
from causal.lab.postgres import PostgresCluster
from causal.stores.postgres.lineage import of_timeline
from tests.stores.postgres_world import (
    PATIENT,
    ask_all,
    fill,
    here,
    judged,
    left_alone,
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

APPLIED, BEHIND, LOST, UNKNOWN = Verdict.APPLIED, Verdict.BEHIND, Verdict.LOST, Verdict.UNKNOWN


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[PostgresCluster]:
    with PostgresCluster(getattr(request, "param", 1)) as cluster:
        yield prepared(cluster, installed=False)


@pytest.mark.parametrize("cluster", [2], indirect=True)
def test_a_promotion_that_was_witnessed_is_told_and_any_other_is_in_doubt(cluster: PostgresCluster) -> None:
    new, follower = cluster.replicas
    system = cluster.primary.query("SELECT system_identifier FROM pg_control_system()")[0][0]
    with opened(cluster) as store:
        alice = store.session()
        kept = put(alice, 1)
        assert kept.origin == of_timeline(system, 1)
        with psycopg.connect(cluster.primary.dsn) as outside:
            assert store.position(outside).offset(0, kept.origin)
        cluster.wait_caught_up()
        for name in ("replica-1", "replica-2"):
            until(lambda name=name: judged(store._link(), name, kept, 1) == {APPLIED})
        new.stop()
        follower.stop()
        lost = put(alice, 2)
        cluster.primary.kill()
        new.start()
        follower.start()
        for _ in range(3):  # nothing is received: what was there before is there still, again and again
            assert judged(store._link(), "replica-1", lost, 2) <= {BEHIND, UNKNOWN}
        ask_all(store._link())
        new.promote()
        follower.follow(new)
        fill(new, 200)
        assert passed(new, lost.offset)
        until(lambda: passed(follower, lost.offset))
        with linked(cluster) as stranger:  # has never heard of the timeline before
            for name in ("replica-1", "replica-2"):
                assert judged(stranger, name, lost, 2) == {UNKNOWN}
                assert judged(stranger, name, kept, 1) == {UNKNOWN}
        for name in ("replica-2", "replica-1"):
            assert APPLIED not in judged(store._link(), name, lost, 2)
        store.head()
        assert judged(store._link(), "replica-1", lost, 2) == {LOST}
        with pytest.raises(WriteLost):
            served(alice, 2)
        bob = store.session()
        put(bob, 3)
        until(lambda: here(follower, 3))
        assert served(bob, 3)


def test_a_standby_that_receives_nothing_any_more_serves_what_was_proven_again_and_again(
    cluster: PostgresCluster,
) -> None:
    with opened(cluster) as store:
        alice = store.session()
        position = put(alice, 1)
        until(lambda: judged(store._link(), "replica-1", position, 1) == {APPLIED})
        cluster.primary.kill()
        until(lambda: not cluster.replicas[0].query("SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming'"))
        for _ in range(4):
            marked(store._link(), "replica-1")
            assert judged(store._link(), "replica-1", position, 1) == {APPLIED}
            assert served(alice, 1, PATIENT) == "replica-1"
        # It is promoted: that this timeline ended, and where, was witnessed, though nobody saw it receive for a while.
        cluster.replicas[0].promote()
        assert judged(store._link(), "replica-1", position, 1) == {APPLIED}
        later = put(store.session(), 2)
        assert later.origin != position.origin


def test_what_timelines_cannot_tell(cluster: PostgresCluster) -> None:
    """The documented limit, and so the control of the tests with origins: a crash that drops asynchronous commits keeps the timeline."""
    with opened(cluster) as store:
        with left_alone(cluster.primary):
            position = put(store.session(), 1, "SET LOCAL synchronous_commit = off")
            cluster.primary.kill()
        cluster.primary.start()
        assert not here(cluster.primary, 1)
        fill(cluster.primary, 100)
        mark = marked(store._link(), "primary")
        assert mark.verdict(position.origin, position.offset) is APPLIED


def test_without_the_privilege_the_error_says_what_to_grant(cluster: PostgresCluster) -> None:
    cluster.primary.query("REVOKE pg_monitor FROM app")
    cluster.wait_caught_up()
    with linked(cluster) as link, pytest.raises(StoreError, match=r"GRANT pg_monitor TO app"):
        link.probe("replica-1", 5)
