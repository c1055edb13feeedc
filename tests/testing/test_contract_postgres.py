"""The engine over PostgreSQL keeps the contract, on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from causal.testing import EngineContract, Stage
from causal.testing.contract import interleaved
from causal.testing.contract.watermarks import Watermarks
from tests.testing.stages import PostgresStage

pytest.importorskip("psycopg")


class Servers:
    """One cluster for all tests, as long as no test promotes its standby."""

    def __init__(self) -> None:
        self.cluster: Any = None

    def get(self) -> Any:
        from causal.lab.postgres import PostgresCluster

        if self.cluster is not None and self.cluster.replicas[0].reshaped:
            self.close()
        if self.cluster is None:
            self.cluster = PostgresCluster(1)
            self.cluster.start()
        return self.cluster

    def close(self) -> None:
        if self.cluster is not None:
            self.cluster.close()
            self.cluster = None


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    made = Servers()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def acknowledged(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write in the middle of a read is acknowledged before that goes on: neither holds what the other waits for.

    HAZARD: a primary's log holds a commit a moment before anybody sees it. A read there beside a commit that is under way may be given
    that commit's place, and not show it. No session can demand it yet; what a cache keeps of such a read says too much.
    """
    if "whenever_a_write_comes" in request.node.name:
        monkeypatch.setattr(interleaved, "_TURN_S", 60.0)


class TestPostgres(EngineContract):
    servers: Servers

    @pytest.fixture(autouse=True)
    def _servers(self, servers: Servers) -> None:
        self.servers = servers

    def stage(self) -> Stage:
        return PostgresStage(self.servers.get())


class OneSnapshot(PostgresStage):
    """Where a block reads one snapshot. What servers forget has nothing to do with that, and takes its time."""

    forgetting = Stage.forgetting

    def __init__(self, cluster: Any) -> None:
        super().__init__(cluster, "repeatable read")


class TestRepeatableRead(Watermarks):
    """Snapshots and watermarks, where a block reads one snapshot."""

    servers: Servers

    @pytest.fixture(autouse=True)
    def _servers(self, servers: Servers) -> None:
        self.servers = servers

    def stage(self) -> Stage:
        return OneSnapshot(self.servers.get())
