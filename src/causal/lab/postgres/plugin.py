"""What the pytest fixture `causal_postgres` does: clusters that tests share one after the other, each as on the first day.

Owns the clusters of a test session. The fixture itself is in the module `_causal_pytest`, which imports this one when a test asks for it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import pytest

from causal.lab.postgres.binaries import INSTALL, NoBinaries
from causal.lab.postgres.cluster import PostgresCluster

if TYPE_CHECKING:
    from collections.abc import Generator

_KEPT: Final = 2
"""Clusters of different kinds that are kept running, so that tests that alternate do not start one each."""


class Clusters:
    """The clusters of one test session. Thread-safety: one test at a time."""

    def __init__(self) -> None:
        self._kept: dict[str, PostgresCluster] = {}

    @contextlib.contextmanager
    def lend(self, **options: Any) -> Generator[PostgresCluster]:
        """Lend a running cluster to one test, and clean up after it. Skips the test where something is not installed."""
        try:
            import psycopg  # noqa: F401 - whether it is there, and finds libpq
        except ImportError as error:
            pytest.skip(f"causal_postgres: {error}; {INSTALL}")
        kind = repr(sorted(options.items()))
        cluster = self._kept.pop(kind, None) or self._start(options)
        try:
            yield cluster
            fresh = cluster.reset()
        except BaseException:
            cluster.close()
            raise
        if fresh:
            self._kept[kind] = cluster  # whoever was used last goes last
        else:
            cluster.close()

    def _start(self, options: dict[str, Any]) -> PostgresCluster:
        try:
            cluster = PostgresCluster(**options)
        except NoBinaries as error:
            pytest.skip(f"causal_postgres: {error}")
        while len(self._kept) >= _KEPT:
            self._kept.pop(next(iter(self._kept))).close()
        cluster.start()
        return cluster

    def close(self) -> None:
        """End all."""
        while self._kept:
            self._kept.popitem()[1].close()


def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return what a test asks `PostgresCluster` for: by its marker, the command line or the configuration file."""
    replicas = request.config.getoption("--causal-postgres-replicas")
    if replicas is None:
        replicas = int(request.config.getini("causal_postgres_replicas"))
    asked: dict[str, Any] = {"replicas": replicas}
    for mark in reversed(list(request.node.iter_markers("causal_postgres"))):  # the nearest last
        if mark.args:
            raise pytest.UsageError(f"@pytest.mark.causal_postgres takes named arguments only, not {mark.args!r}")
        asked |= mark.kwargs
    return asked
