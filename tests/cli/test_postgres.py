"""`causal postgres`, as a user calls it, on real servers."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

psycopg = pytest.importorskip("psycopg")

from causal.cli.main import main  # noqa: E402
from causal.lab.postgres import PostgresCluster, Proxy  # noqa: E402
from causal.lab.postgres.binaries import Binaries, NoBinaries  # noqa: E402
from causal.stores.postgres import script  # noqa: E402
from causal.stores.postgres.examine import readable  # noqa: E402

try:
    Binaries.find()
except NoBinaries as missing:
    pytest.skip(str(missing), allow_module_level=True)


def postgres(*argv: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, ["postgres", *argv], env=env)


def asked(*argv: str) -> tuple[list[dict[str, Any]], list[str], int]:
    """What `check --json` says of each server, and of all, and its exit code."""
    result = postgres("check", "--json", *argv)
    assert result.stdout, result.exception
    *servers, last = [json.loads(line) for line in result.stdout.splitlines()]
    return servers, last["problems"], result.exit_code


def dsns(cluster: PostgresCluster) -> list[str]:
    return [server.dsn for server in cluster.servers.values()]


def installed(cluster: PostgresCluster, *argv: str) -> None:
    result = postgres("install", cluster.primary.admin_dsn, *argv)
    assert result.exit_code == 0, result.output
    cluster.wait_caught_up()


# --- install -------------------------------------------------------------------------------------------------------


def test_install_then_check(causal_postgres: PostgresCluster) -> None:
    installed(causal_postgres, "--role", "app")
    installed(causal_postgres, "--role", "app")  # again changes nothing
    servers, problems, code = asked(*dsns(causal_postgres))
    assert (problems, code) == ([], 0)
    assert [one["role"] for one in servers] == ["primary", "standby", "standby"]
    assert {one["user"] for one in servers} == {"app"}
    assert [(one["installed"], one["stamps"], one["grants"], one["problem"]) for one in servers] == [
        (True, True, [], None)
    ] * 3
    (row,) = causal_postgres.primary.query("SELECT origin, timeline FROM causal.lineage")
    assert {(int(one["origin"]), one["timeline"]) for one in servers} == {row}
    assert [len(one["lineage"]) for one in servers] == [1, 1, 1]
    assert len({one["system"] for one in servers}) == 1
    people = postgres("check", *dsns(causal_postgres))
    assert people.exit_code == 0
    assert "Nothing stands in the way." in people.stdout
    assert all(len(line) <= 110 for line in people.stdout.splitlines())


def test_without_stamps(causal_postgres: PostgresCluster) -> None:
    installed(causal_postgres, "--no-stamps")
    servers, problems, code = asked(*dsns(causal_postgres))
    assert ([one["stamps"] for one in servers], problems, code) == ([False] * 3, [], 0)
    assert "no stamps" in postgres("check", *dsns(causal_postgres)).stdout


def test_the_script_is_what_is_installed(causal_postgres: PostgresCluster) -> None:
    result = postgres("install", "--sql", "--role", "app", "--no-stamps")
    assert result.exit_code == 0, result.output
    assert result.stdout == script(("app",), stamps=False)
    assert json.loads(postgres("install", "--sql", "--json").stdout)["sql"] == script()
    with psycopg.connect(causal_postgres.primary.admin_dsn) as connection:
        connection.execute(result.stdout)
    causal_postgres.wait_caught_up()
    servers, _, code = asked(*dsns(causal_postgres))
    assert ([one["grants"] for one in servers], code) == ([[]] * 3, 0)
    assert "no origin yet" in servers[0]["problem"]  # and none was made by asking
    assert causal_postgres.primary.query("SELECT count(*) FROM causal.lineage") == [(0,)]


def test_install_at_a_standby_and_as_somebody(causal_postgres: PostgresCluster) -> None:
    for dsn, said in (
        (causal_postgres.replicas[0].admin_dsn, "this is a standby: install at the primary"),
        (causal_postgres.primary.dsn, 'run GRANT pg_monitor TO "app"'),
        (causal_postgres.primary.admin_dsn, 'role "nobody" does not exist'),
    ):
        result = postgres("install", dsn, "--role", "nobody")
        assert said in str(result.exception), result.output
        assert result.stdout == ""


# --- DSNs ----------------------------------------------------------------------------------------------------------


def test_a_dsn_from_the_environment(causal_postgres: PostgresCluster) -> None:
    env = {"OWNER_DSN": causal_postgres.primary.admin_dsn, "REPLICA_DSN": causal_postgres.replicas[0].dsn}
    assert postgres("install", "--env", "OWNER_DSN", env=env).exit_code == 0
    causal_postgres.wait_caught_up()
    result = postgres("check", "--env", "REPLICA_DSN", causal_postgres.primary.dsn, "--json", env=env)
    assert result.exit_code == 0, result.output
    assert [json.loads(line).get("name") for line in result.stdout.splitlines()] == ["server 1", "REPLICA_DSN", None]
    unset = postgres("check", "--env", "NO_SUCH_DSN")
    assert (unset.exit_code, "NO_SUCH_DSN is not set" in unset.output) == (2, True)


@pytest.mark.parametrize("argv", [("check",), ("install",), ("install", "host=/a", "--env", "B")])
def test_too_few_or_too_many(argv: tuple[str, ...]) -> None:
    assert postgres(*argv, env={"B": "host=/b"}).exit_code == 2


@pytest.mark.parametrize("command", ["check", "install"])
def test_a_dsn_that_cannot_be_read_is_not_shown(command: str) -> None:
    result = postgres(command, "password=hunter2 hunter3")
    assert result.exit_code == 2
    assert "it may hold a password" in result.output
    assert "hunter" not in result.output


def test_a_connection_gives_up_in_time() -> None:
    assert readable("host=/a") == "host=/a connect_timeout=10"
    assert readable("postgresql://h/d?connect_timeout=3") == "postgresql://h/d?connect_timeout=3"


# --- what is wrong, is said ----------------------------------------------------------------------------------------


def test_grants_that_are_missing_are_named_and_suffice(causal_postgres: PostgresCluster) -> None:
    installed(causal_postgres, "--role", "postgres")
    servers, _, code = asked(*dsns(causal_postgres))
    assert code == 1
    wanted = servers[0]["grants"]
    assert wanted == servers[1]["grants"]
    assert wanted == [
        'GRANT USAGE ON SCHEMA causal TO "app";',
        'GRANT SELECT ON causal.lineage TO "app";',
        'GRANT EXECUTE ON FUNCTION causal.begin_origin() TO "app";',
        'GRANT EXECUTE ON FUNCTION causal.receiver() TO "app";',
        'GRANT SELECT, INSERT, UPDATE ON causal.dependency TO "app";',
    ]
    assert all(statement in postgres("check", *dsns(causal_postgres)).stdout for statement in wanted)
    for count, statement in enumerate(wanted, 1):
        causal_postgres.primary.query(statement)
        (one,), _, code = asked(causal_postgres.primary.dsn)
        assert (one["grants"], code) == (wanted[count:], int(count < len(wanted)))


def test_an_owner_that_cannot_see_the_timeline(causal_postgres: PostgresCluster) -> None:
    installed(causal_postgres, "--role", "app")
    causal_postgres.primary.query('CREATE ROLE "the owner"')
    causal_postgres.primary.query('GRANT USAGE, CREATE ON SCHEMA causal TO "the owner"')
    causal_postgres.primary.query('ALTER FUNCTION causal.receiver() OWNER TO "the owner"')
    try:
        causal_postgres.wait_caught_up()
        servers, _, code = asked(causal_postgres.replicas[0].dsn)
        assert ('GRANT pg_monitor TO "the owner";' in servers[0]["grants"], code) == (True, 1)
    finally:
        causal_postgres.primary.query('DROP OWNED BY "the owner"')
        causal_postgres.primary.query('DROP ROLE "the owner"')


def test_nothing_installed(causal_postgres: PostgresCluster) -> None:
    servers, problems, code = asked(*dsns(causal_postgres))
    assert code == 1
    assert [one["grants"] for one in servers] == [[], *[['GRANT pg_monitor TO "app";']] * 2]
    (problem,) = problems
    assert problem.startswith("Not installed: server 1, server 2, server 3. Failovers are told apart by timeline")


def test_servers_that_are_no_cluster(causal_postgres: PostgresCluster) -> None:
    installed(causal_postgres)
    _, problems, code = asked(causal_postgres.replicas[0].dsn)
    assert (problems, code) == (["No primary is among them: nobody takes writes. Name it, too."], 1)
    causal_postgres.replicas[0].promote()
    _, problems, code = asked(*dsns(causal_postgres))
    assert problems[0].startswith("Several take writes: server 1, server 2.")
    assert code == 1
    servers, _, _ = asked(causal_postgres.replicas[0].dsn)
    assert (servers[0]["role"], servers[0]["timeline"]) == ("primary", 2)


def test_servers_of_two_clusters(causal_postgres: PostgresCluster) -> None:
    installed(causal_postgres)
    with PostgresCluster(0) as other:
        installed(other)
        _, problems, code = asked(causal_postgres.replicas[0].dsn, other.primary.dsn)
    assert (["not of one cluster" in one for one in problems], code) == ([True], 1)


@pytest.mark.causal_postgres(replicas=0, tcp=True, hba=["host all all 127.0.0.1/32 scram-sha-256"], password="right")
def test_a_wrong_password_is_said_and_not_shown(causal_postgres: PostgresCluster) -> None:
    wrong = causal_postgres.primary.dsn.replace("password=right", "password=hunter2")
    servers, _, code = asked(wrong)
    assert (servers[0]["reached"], code) == (False, 1)
    assert "password authentication failed" in servers[0]["problem"]
    assert "password authentication failed" in postgres("check", wrong).stdout
    install = postgres("install", wrong)
    assert "password authentication failed" in str(install.exception)
    assert "hunter2" not in f"{servers}{install.exception}{install.output}"


def test_a_server_that_does_not_answer_costs_its_time_and_no_more(causal_postgres: PostgresCluster) -> None:
    installed(causal_postgres)
    with Proxy(causal_postgres.replicas[0]) as proxy:
        proxy.hang()
        servers, _, code = asked("--timeout", "2", proxy.dsn, causal_postgres.primary.dsn)  # the other needs some, too
    assert ([one["reached"] for one in servers], code) == ([False, True], 1)
    assert "no answer in time" in servers[0]["problem"]


# --- a cluster, and what is not installed --------------------------------------------------------------------------


def process(code: str, *argv: str, **settings: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", code, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings
    )


RUN = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\nfrom causal.cli import run; sys.exit(run())"


@pytest.mark.parametrize("bare", [False, True])
def test_a_cluster_until_ctrl_c(*, bare: bool) -> None:
    argv = ["postgres", "cluster", "--replicas", "1", "--lag", "50ms", "--json", *(["--bare"] if bare else [])]
    running = process(RUN, *argv)
    try:
        assert running.stdout is not None
        said = json.loads(running.stdout.readline())
        assert (said["lag_s"], said["installed"], sorted(said["servers"])) == (0.05, not bare, ["primary", "replica-1"])
        servers, _, code = asked(*said["servers"].values())
        assert ([one["role"] for one in servers], code) == (["primary", "standby"], int(bare))
        with psycopg.connect(said["servers"]["replica-1"]) as connection:
            assert connection.execute("SHOW recovery_min_apply_delay").fetchone() == ("50ms",)
        sockets = Path(psycopg.conninfo.conninfo_to_dict(said["servers"]["primary"])["host"])
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
        assert (running.returncode, out, err) == (0, "", "")
        assert not sockets.exists()
    finally:
        running.kill()
        running.communicate()


@pytest.mark.parametrize("lag", ["lognormal:50ms:0.8", "soon"])
def test_a_lag_that_no_server_has(lag: str) -> None:
    assert postgres("cluster", "--lag", lag).exit_code == 2


@pytest.mark.parametrize(
    ("argv", "extra"),
    [
        (("postgres", "install", "--sql"), "postgres"),
        (("postgres", "check", "host=/a"), "postgres"),
        (("postgres", "cluster"), "lab-postgres"),
    ],
)
@pytest.mark.parametrize("missing", ["psycopg", "psycopg_pool"])
def test_without_the_driver_a_hint_and_no_traceback(argv: tuple[str, ...], extra: str, missing: str) -> None:
    running = process(f"import sys; sys.modules[{missing!r}] = None\n{RUN}", *argv)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (2, "")
    assert err.endswith(f'Error: PostgreSQL needs {missing}: pip install "causal-tokens[{extra}]"\n')


def test_help_needs_no_driver() -> None:
    running = process(f"import sys; sys.modules['psycopg'] = None\n{RUN}", "postgres", "--help")
    out, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (0, "")
    assert all(word in out for word in ("install", "check", "cluster"))


def test_without_server_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAUSAL_POSTGRES_BIN", str(tmp_path))
    assert "no PostgreSQL server programs in" in str(postgres("cluster").exception)
