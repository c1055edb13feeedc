"""The pytest plugin of causal-tokens: `def test_x(causal_postgres)` gets a cluster of real PostgreSQL servers.

    def test_a_reader_waits(causal_postgres):
        causal_postgres.replicas[0].pause()

    @pytest.mark.causal_postgres(replicas=1, lag_s=0.2, settings={"synchronous_commit": "off"})
    def test_what_a_crash_forgets(causal_postgres): ...

It stands outside the package because pytest imports it at the start of every run of everybody who has the package installed, and to
import anything inside would import the package first. What it does is in `causal.lab.postgres.plugin`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    from causal.lab.postgres.cluster import PostgresCluster
    from causal.lab.postgres.plugin import Clusters


def pytest_addoption(parser: pytest.Parser) -> None:
    """Say how many replicas a cluster has."""
    text = "how many streaming standbys the causal_postgres fixture starts (default 2)"
    parser.addini("causal_postgres_replicas", text, default="2")
    parser.getgroup("causal").addoption("--causal-postgres-replicas", type=int, metavar="N", help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    text = (
        "causal_postgres(replicas=2, lag_s=0.0, settings={}, ...): what PostgresCluster the causal_postgres fixture is"
    )
    config.addinivalue_line("markers", text)


@pytest.fixture(scope="session")
def _causal_postgres_clusters() -> Generator[Clusters]:
    from causal.lab.postgres.plugin import Clusters

    clusters = Clusters()
    yield clusters
    clusters.close()


@pytest.fixture
def causal_postgres(request: pytest.FixtureRequest, _causal_postgres_clusters: Clusters) -> Generator[PostgresCluster]:
    """A primary and streaming standbys (`causal.lab.postgres.PostgresCluster`), shared by tests that ask for the same kind.

    After a test everything it did is undone: its tables and roles, lag, pauses, settings, servers that it stopped. What cannot be undone
    (a promotion, a restored snapshot) costs the next test a new cluster. Where psycopg or PostgreSQL's programs are missing, the test
    is skipped and says what to install.
    """
    from causal.lab.postgres.plugin import options

    with _causal_postgres_clusters.lend(**options(request)) as cluster:
        yield cluster
