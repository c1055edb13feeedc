"""A pytest plugin: `def test_x(causal_postgres)` gets a cluster of real servers, as new as on the first day.

Owns the fixture, its marker and its option. Everything else is imported when a test asks for the fixture; where psycopg or PostgreSQL's
programs are missing, that test is skipped and says what to install.

    def test_a_reader_waits(causal_postgres):
        causal_postgres.replicas[0].pause()

    @pytest.mark.causal_postgres(replicas=1, lag_s=0.2, settings={"synchronous_commit": "off"})
    def test_what_a_crash_forgets(causal_postgres): ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from causal.lab.postgres.cluster import PostgresCluster

_MARKER: Final = "causal_postgres"
_KEPT: Final = 2
"""Clusters of different kinds that are kept running, so that tests that alternate do not start one each."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Say how many replicas a cluster has."""
    text = "how many streaming standbys the causal_postgres fixture starts (default 2)"
    parser.addini("causal_postgres_replicas", text, default="2")
    parser.getgroup("causal").addoption("--causal-postgres-replicas", type=int, metavar="N", help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(replicas=2, lag_s=0.0, settings={{}}, ...): what PostgresCluster the causal_postgres fixture is",
    )


@pytest.fixture(scope="session")
def _causal_postgres_clusters() -> Iterator[dict[str, PostgresCluster]]:
    clusters: dict[str, PostgresCluster] = {}
    yield clusters
    for cluster in clusters.values():
        cluster.close()


@pytest.fixture
def causal_postgres(
    request: pytest.FixtureRequest, _causal_postgres_clusters: dict[str, PostgresCluster]
) -> Generator[PostgresCluster]:
    """A primary and streaming standbys (`causal.lab.postgres.PostgresCluster`), shared by tests that ask for the same kind.

    After a test everything it did is undone: its tables and roles, lag, pauses, settings, servers that it stopped. What cannot be undone
    (a promotion, a restored snapshot) costs the next test a new cluster.
    """
    try:
        import psycopg  # noqa: F401 - only whether it is there

        from causal.errors import ConfigError
        from causal.lab.postgres.cluster import PostgresCluster
    except ImportError as error:
        pytest.skip(f'causal_postgres: {error}; pip install "causal-tokens[lab-postgres]"')
    options = _options(request)
    try:
        cluster = PostgresCluster(**options)
    except ConfigError as error:
        if "no PostgreSQL server programs found" not in str(error):
            raise
        pytest.skip(f"causal_postgres: {error}")
    kind = repr(sorted(options.items()))
    kept = _causal_postgres_clusters
    if kind not in kept:
        while len(kept) >= _KEPT:
            kept.pop(next(iter(kept))).close()
        cluster.start()
        kept[kind] = cluster
    cluster = kept.pop(kind)  # whoever was used last goes last
    try:
        yield cluster
        fresh = cluster.reset()
    except BaseException:
        cluster.close()
        raise
    if fresh:
        kept[kind] = cluster
    else:
        cluster.close()


def _options(request: pytest.FixtureRequest) -> dict[str, Any]:
    given = request.config.getoption("--causal-postgres-replicas")
    if given is None:
        given = int(request.config.getini("causal_postgres_replicas"))
    options: dict[str, Any] = {"replicas": given}
    for mark in reversed(list(request.node.iter_markers(_MARKER))):  # the nearest last
        if mark.args:
            raise pytest.UsageError(f"@pytest.mark.{_MARKER} takes named arguments only, not {mark.args!r}")
        options |= mark.kwargs
    return options
