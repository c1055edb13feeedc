"""Crashes and restarts of real servers: a life that ends may take commits along, and a life's number must not outlive it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from causal.core.watermark import Verdict
from causal.errors import GateError, WriteLost
from causal.lab.postgres import PostgresCluster
from tests.stores.postgres_world import fill, here, judged, linked, opened, passed, prepared, put, served, until

if TYPE_CHECKING:
    from collections.abc import Iterator

OFF = "SET LOCAL synchronous_commit = off"


@pytest.fixture(scope="module")
def cluster() -> Iterator[PostgresCluster]:
    settings = {
        "wal_writer_delay": "10s",
        "wal_writer_flush_after": "100MB",
    }  # what is not flushed stays so, until a crash
    with PostgresCluster(1, settings=settings) as cluster:
        yield prepared(cluster)


ROW = iter(range(1, 1000))


def lose(cluster: PostgresCluster, session: object, how: str) -> tuple[object, int]:
    """Write a row asynchronously and crash: return the position of what is gone."""
    row = next(ROW)
    position = put(session, row, OFF)
    if how == "kill":
        cluster.primary.kill()
        cluster.primary.start()
    else:
        cluster.primary.crash_backend()
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
