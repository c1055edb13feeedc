"""Copies of a data directory that are put back: what was written since is gone, under the same timeline and with the same numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from causal.core.watermark import Verdict
from causal.errors import GateError, WriteLost
from causal.lab.postgres import PostgresCluster
from causal.lab.postgres.template import copy_tree
from tests.stores.postgres_world import fill, here, judged, linked, opened, passed, prepared, put, served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def cluster() -> Iterator[PostgresCluster]:
    with PostgresCluster(1) as cluster:
        yield prepared(cluster)


def base_backup(cluster: PostgresCluster, path: Path) -> None:
    common = cluster._common
    assert common is not None
    command = [common.binaries.program("pg_basebackup"), "-D", path, "--checkpoint=fast", "--no-sync"]
    common.account.run([*command, "-d", cluster.primary._admin_dsn("postgres")], "the base backup")


@pytest.mark.parametrize("kind", ["snapshot", "cold copy", "base backup"])
def test_what_was_written_after_the_copy_is_said_lost(cluster: PostgresCluster, kind: str) -> None:
    primary, replica = cluster.primary, cluster.replicas[0]
    copy = primary.folder / "copy"
    with opened(cluster) as store:
        alice = store.session()
        kept = put(alice, 1)
        if kind == "base backup":
            base_backup(cluster, copy)
        elif kind == "snapshot":  # of the disk, while the server runs
            primary.freeze()
            copy_tree(primary.data, copy)
            primary.thaw()
        else:
            primary.stop()
            primary.snapshot(copy)
            primary.start()
            store.head()
        lost = put(alice, 2)
        cluster.wait_caught_up()
        assert here(replica, 2)
        primary.kill()
        primary.restore(copy)
        primary.start()
        fill(primary, 300)
        assert passed(primary, lost.offset)
        assert not here(primary, 2)

        link = store._link()
        assert judged(link, "replica-1", lost, 2) <= {
            Verdict.APPLIED,
            Verdict.BEHIND,
            Verdict.UNKNOWN,
        }  # it has the row: whatever it says is true
        verdicts = judged(link, "primary", lost, 2)
        # A copy of the same life knows where it ends; one of an earlier life has never heard of the position's.
        assert verdicts == {Verdict.UNKNOWN if kind == "cold copy" else Verdict.LOST}
        assert judged(link, "primary", kept, 1) == {Verdict.APPLIED}
        with pytest.raises(WriteLost if verdicts == {Verdict.LOST} else GateError), alice.write():
            pass
        if verdicts == {Verdict.LOST}:
            with pytest.raises(WriteLost):
                served(alice, 2)
        with linked(cluster) as fresh:
            assert Verdict.APPLIED not in judged(fresh, "primary", lost, 2)
        put(bob := store.session(), 3)
        assert served(bob, 3) == "primary"
