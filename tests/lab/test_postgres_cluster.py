"""A cluster of real servers does what is asked of it, and is gone afterwards whatever happened."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from causal.controls import Controls
from causal.errors import ConfigError, StoreError
from causal.lab.postgres import PostgresCluster, Server, watchdog
from causal.lab.postgres.account import Account
from causal.lab.postgres.binaries import NEEDED, VARIABLE, Binaries
from causal.lab.postgres.template import crc32c

DEBIAN = Path("/usr/lib/postgresql/15/bin")
has_debian = pytest.mark.skipif(not (DEBIAN / "initdb").exists(), reason=f"no PostgreSQL 15 in {DEBIAN}")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root lends servers another account")
has_proc = pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="looks at processes through /proc")


def eventually(condition: Callable[[], bool], timeout_s: float = 60) -> bool:
    """Whether something comes about; what takes longer hangs, however busy the machine is."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def rows(server: Server) -> list[int]:
    return [x for (x,) in server.query("SELECT x FROM t ORDER BY x")]


@pytest.fixture
def cluster(causal_postgres: PostgresCluster) -> PostgresCluster:
    causal_postgres.primary.query("CREATE TABLE t (x int)")
    causal_postgres.primary.query("INSERT INTO t VALUES (%s)", 1)
    causal_postgres.wait_caught_up()
    return causal_postgres


def write(server: Server, x: int) -> None:
    server.query("INSERT INTO t VALUES (%s)", x)


def test_a_write_reaches_the_standbys(cluster: PostgresCluster) -> None:
    assert list(cluster.servers) == ["primary", "replica-1", "replica-2"]
    assert [rows(server) for server in cluster.servers.values()] == [[1], [1], [1]]
    assert [server.in_recovery for server in cluster.servers.values()] == [False, True, True]
    assert all(server.running for server in cluster.servers.values())


def test_an_application_connects_as_itself(cluster: PostgresCluster) -> None:
    with psycopg.connect(cluster.primary.dsn) as connection:
        row = connection.execute(
            "SELECT current_user, current_database(), rolsuper FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
        connection.execute("CREATE TABLE mine (x int)")
    assert row == ("app", "app", False)


def test_it_speaks_as_every_engine_does(cluster: PostgresCluster) -> None:
    assert isinstance(cluster, Controls)
    with pytest.raises(ConfigError, match="no server 'r1': there are primary, replica-1"):
        cluster.pause("r1")


def test_a_paused_standby_falls_behind_and_catches_up_on_request(cluster: PostgresCluster) -> None:
    paused, other = cluster.replicas
    cluster.pause("replica-1")
    cluster.pause("replica-1")
    write(cluster.primary, 2)
    assert eventually(lambda: rows(other) == [1, 2])
    assert rows(paused) == [1]
    with pytest.raises(StoreError, match=r"replica-1 has replayed .* after 0.1 s: replay is paused"):
        cluster.wait_caught_up(timeout_s=0.1)
    cluster.catch_up("replica-1")
    assert rows(paused) == [1, 2]
    assert paused.paused
    write(cluster.primary, 3)
    assert rows(paused) == [1, 2]
    cluster.resume("replica-1")
    cluster.resume("replica-1")
    cluster.wait_caught_up()
    assert rows(paused) == [1, 2, 3]


def test_a_primary_has_nothing_to_pause(cluster: PostgresCluster) -> None:
    for word in (cluster.pause, cluster.resume, cluster.catch_up):
        word("primary")
    write(cluster.primary, 2)
    assert rows(cluster.primary) == [1, 2]


def test_lag_holds_a_write_back_until_it_is_lifted(cluster: PostgresCluster) -> None:
    late, other = cluster.replicas
    late.set_lag(600)
    write(cluster.primary, 2)
    assert eventually(lambda: rows(other) == [1, 2])
    assert rows(late) == [1]
    assert late.lag_s == 600
    with pytest.raises(StoreError, match="its lag is 600 s"):
        cluster.wait_caught_up(timeout_s=0.1)
    cluster.catch_up("replica-1")
    assert rows(late) == [1, 2]
    write(cluster.primary, 3)
    assert eventually(lambda: rows(other) == [1, 2, 3])
    late.pause()  # while it waits for its time
    late.set_lag(0)
    assert rows(late) == [1, 2]
    late.resume()
    cluster.wait_caught_up()
    assert rows(late) == [1, 2, 3]
    with pytest.raises(ConfigError):
        late.set_lag(-1)


def states(server: Server) -> set[str]:
    found = set()
    for pid in watchdog.inside(server.data):
        with contextlib.suppress(FileNotFoundError):
            found.add(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0])
    return found


@has_proc
def test_a_server_that_is_cut_off_stands_still(cluster: PostgresCluster) -> None:
    with psycopg.connect(cluster.replicas[0].dsn):
        cluster.cut_off("replica-1")
        assert eventually(lambda: states(cluster.replicas[0]) == {"T"})
        assert cluster.replicas[0].running
        write(cluster.primary, 2)
        cluster.rejoin("replica-1")
        assert "T" not in states(cluster.replicas[0])
    cluster.wait_caught_up()
    assert rows(cluster.replicas[0]) == [1, 2]


def test_a_frozen_server_is_configured_killed_and_stopped_all_the_same(cluster: PostgresCluster) -> None:
    first, second = cluster.replicas
    first.freeze()
    first.set_lag(0)
    first.kill()
    second.freeze()
    second.stop()
    assert not first.running
    assert not second.running


def segment(key: str) -> bool | None:
    """Whether there is shared memory of that key on this machine; None where the system does not say. Both write keys in their own way."""
    listed = Path("/proc/sysvipc/shm")
    if not listed.exists():
        return None
    keys = {int(line.split()[0]) & 0xFFFFFFFF for line in listed.read_text().splitlines()[1:]}
    return int(key) & 0xFFFFFFFF in keys


@has_proc
def test_a_killed_server_leaves_nothing_and_recovers(cluster: PostgresCluster) -> None:
    primary = cluster.primary
    key = (primary.data / "postmaster.pid").read_text().splitlines()[6].split()[0]
    assert segment(key) is not False
    primary.kill()
    primary.kill()
    assert not primary.running
    assert watchdog.inside(primary.data) == []
    assert not segment(key)
    with pytest.raises(psycopg.OperationalError):
        primary.query("SELECT 1")
    (primary.data / "postmaster.pid").write_text(
        f"{cluster.replicas[0].pid}\n{primary.data}\n"
    )  # the number is another's by now
    primary.start()
    assert rows(primary) == [1]
    assert "not properly shut down" in primary.log
    write(primary, 2)
    cluster.wait_caught_up(30)
    assert rows(cluster.replicas[1]) == [1, 2]


def test_a_crashed_backend_takes_the_sessions_along_but_not_the_postmaster(cluster: PostgresCluster) -> None:
    for server in (cluster.primary, cluster.replicas[0]):
        pid = server.pid
        with psycopg.connect(server.dsn) as session:
            server.crash_backend()
            with pytest.raises(psycopg.OperationalError):
                session.execute("SELECT 1")
        assert server.pid == pid
        assert "all server processes terminated; reinitializing" in server.log
    write(cluster.primary, 2)
    cluster.wait_caught_up(30)
    assert rows(cluster.replicas[0]) == [1, 2]


@pytest.mark.parametrize("mode", ["smart", "fast", "immediate"])
def test_a_stopped_server_starts_again(cluster: PostgresCluster, mode: str) -> None:
    cluster.replicas[0].stop(mode)
    assert not cluster.replicas[0].running
    write(cluster.primary, 2)
    cluster.replicas[0].start()
    cluster.wait_caught_up()
    assert rows(cluster.replicas[0]) == [1, 2]


def test_failover_and_the_way_back(cluster: PostgresCluster) -> None:
    old, new, third = cluster.primary, *cluster.replicas
    new.pause()
    third.pause()
    write(old, 2)
    place = old.flushed()
    received = (
        "SELECT pg_last_wal_receive_lsn() >= %s::pg_lsn"  # whoever got more than the new primary could not follow it
    )
    assert eventually(lambda: all(server.query(received, place) == [(True,)] for server in (new, third)))
    old.kill()
    new.promote()
    assert new.in_recovery is False
    write(new, 3)
    third.resume()
    third.follow(new)
    old.rewind(new)
    assert old.in_recovery
    assert [server.upstream for server in (old, new, third)] == [new, None, new]
    cluster.wait_caught_up(30)
    assert [rows(server) for server in cluster.servers.values()] == [[1, 2, 3]] * 3
    with pytest.raises(ConfigError, match="replica-1 takes writes"):
        new.follow(old)


def test_a_write_that_nobody_received_is_lost_in_a_failover_and_rewound(cluster: PostgresCluster) -> None:
    old, new, third = cluster.primary, *cluster.replicas
    for replica in (new, third):
        replica.stop()
    write(old, 2)
    old.kill()
    new.start()
    new.promote()
    write(new, 3)
    old.rewind(new)
    third.follow(new)
    third.start()
    cluster.wait_caught_up(30)
    assert [rows(server) for server in cluster.servers.values()] == [[1, 3]] * 3


def test_a_restored_snapshot_is_as_old_as_it_was_taken(cluster: PostgresCluster, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="primary runs"):
        cluster.primary.snapshot(tmp_path / "early")
    cluster.primary.stop()
    cluster.primary.snapshot(tmp_path / "early")
    cluster.primary.start()
    write(cluster.primary, 2)
    cluster.wait_caught_up(30)
    cluster.primary.kill()
    cluster.primary.restore(tmp_path / "early")
    cluster.primary.start()
    assert rows(cluster.primary) == [1]
    assert rows(cluster.replicas[0]) == [1, 2]
    cluster.primary.kill()  # to stop it would take a minute: a standby is ahead of it
    with pytest.raises(ConfigError, match="exists already"):
        cluster.primary.snapshot(tmp_path / "early")
    with pytest.raises(ConfigError, match="not a copy"):
        cluster.primary.restore(tmp_path)


def test_a_standby_is_added_while_the_primary_works(cluster: PostgresCluster) -> None:
    added = cluster.add_replica()
    assert added.name == "replica-3"
    assert cluster.replicas[-1] is added
    assert rows(added) == [1]
    write(cluster.primary, 2)
    cluster.wait_caught_up()
    assert rows(added) == [1, 2]
    with pytest.raises(ConfigError, match="taken"):
        cluster.add_replica("replica-3")


def test_settings_reach_new_sessions_or_are_refused(cluster: PostgresCluster) -> None:
    cluster.primary.configure(work_mem="7MB", synchronous_commit=False)
    assert cluster.primary.query("SELECT current_setting('work_mem'), current_setting('synchronous_commit')") == [
        ("7MB", "off")
    ]
    with pytest.raises(ConfigError, match="work_mem = plenty"):
        cluster.primary.configure(work_mem="plenty")
    cluster.primary.configure(work_mem=None)
    with pytest.raises(ConfigError, match="max_connections"):
        cluster.primary.configure(max_connections=200)
    cluster.primary.stop()
    cluster.primary.start()
    assert cluster.primary.query("SELECT current_setting('max_connections')") == [("200",)]


def test_a_server_that_cannot_start_says_what_it_said(cluster: PostgresCluster) -> None:
    cluster.replicas[0].stop()
    cluster.replicas[0].configure(shared_buffers="lots")
    with pytest.raises(StoreError, match=r"invalid value for parameter .shared_buffers.: .lots."):
        cluster.replicas[0].start()
    assert not cluster.replicas[0].running


def test_it_gives_its_place_in_the_log(cluster: PostgresCluster) -> None:
    assert cluster.replicas[0].reached(cluster.primary.flushed()) in {True, False}
    cluster.wait_caught_up()
    place = cluster.replicas[0].wal()
    write(cluster.primary, 2)
    assert not cluster.replicas[0].paused
    cluster.wait_caught_up()
    assert cluster.replicas[0].wal() != place
    assert cluster.replicas[0].reached(place)


def test_a_pause_is_lifted_by_a_reset(cluster: PostgresCluster) -> None:
    pids = [server.pid for server in cluster.servers.values()]
    cluster.replicas[0].pause()
    assert cluster.reset()
    assert not cluster.replicas[0].paused
    assert [server.pid for server in cluster.servers.values()] == pids


def system_identifier(cluster: PostgresCluster) -> int:
    return int(cluster.primary.query("SELECT system_identifier FROM pg_control_system()")[0][0])


def test_a_second_cluster_beside_the_first_is_another(
    cluster: PostgresCluster,
) -> None:
    with PostgresCluster(replicas=1, lag_s=0.01, tcp=True, fsync=True) as second:
        assert system_identifier(second) != system_identifier(cluster)
        assert second.primary.dsn.startswith("host=127.0.0.1 port=")
        with psycopg.connect(second.replicas[0].dsn) as connection:
            assert connection.execute("SHOW recovery_min_apply_delay").fetchone() == ("10ms",)
            assert connection.execute("SHOW fsync").fetchone() == ("on",)
        with pytest.raises(psycopg.OperationalError, match="rejects connection"):
            psycopg.connect(second.primary.dsn, user="postgres").close()
        sockets = Path(second.primary.admin_dsn.split()[0].removeprefix("host="))
        assert sockets.stat().st_mode & 0o777 == 0o700
        folder = second.primary.folder
        second.primary.stop()
        second.primary.start()
        assert second.replicas[0].query("SELECT 1") == [(1,)]
    assert not folder.exists()
    assert rows(cluster.primary) == [1]


@has_debian
def test_passwords_tls_and_an_older_version() -> None:
    with PostgresCluster(
        replicas=1, binaries=DEBIAN, ssl=True, password="it's", hba=["hostssl all all 127.0.0.1/32 scram-sha-256"]
    ) as cluster:
        assert cluster.binaries.major == 15
        checked = f"{cluster.primary.dsn} sslmode=verify-full sslrootcert={cluster.certificate}"
        with psycopg.connect(checked) as connection:
            assert connection.pgconn.ssl_in_use
        with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
            psycopg.connect(f"{cluster.primary.dsn} sslmode=disable").close()
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(cluster.primary.dsn.replace("it", "its"), sslmode="require").close()
        cluster.primary.query("CREATE TABLE t (x int)")
        write(cluster.primary, 1)
        cluster.replicas[0].pause()
        write(cluster.primary, 2)
        cluster.catch_up("replica-1")
        assert rows(cluster.replicas[0]) == [1, 2]
        cluster.primary.kill()
        cluster.replicas[0].promote()
        cluster.primary.rewind(cluster.replicas[0])
        assert rows(cluster.primary) == [1, 2]


def test_programs_without_tls_say_so() -> None:
    wheel = Binaries.find()
    built = subprocess.run([wheel.program("pg_config"), "--configure"], capture_output=True, text=True, check=False)
    if "ssl" in built.stdout:
        pytest.skip("these programs are built with TLS")
    with pytest.raises(ConfigError, match="built without TLS"), PostgresCluster(replicas=0, ssl=True):
        pass


@as_root
def test_programs_that_the_servers_account_cannot_reach_are_copied(tmp_path: Path) -> None:
    found = Binaries.find()
    if not (found.directory.parent / "share").is_dir():
        pytest.skip("these programs are spread over the system, not in one folder")
    closed = tmp_path / "root's"
    closed.mkdir(mode=0o700)
    there = found.copy_to(closed)
    account = Account.choose()
    assert account.barred_from(there.directory) is not None
    assert not there.usable_by(account)
    with PostgresCluster(replicas=1, binaries=there.directory) as cluster:
        assert cluster.primary.query("SELECT 1") == [(1,)]
        executable = os.readlink(f"/proc/{cluster.primary.pid}/exe")
        assert not executable.startswith(str(closed))
        assert os.stat(executable).st_uid == 0
    assert closed.stat().st_mode & 0o777 == 0o700


@as_root
def test_a_folder_that_the_servers_account_cannot_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    with (
        pytest.raises(ConfigError, match="may not enter"),
        PostgresCluster(replicas=0, directory=tmp_path / "closed"),
    ):
        pass
    assert list((tmp_path / "closed").iterdir()) == []


@pytest.fixture
def open_folder() -> Iterator[Path]:
    folder = Path("/tmp") / f"causal-test-{os.getpid()}" / ("deep" * 20)
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder.parent)


def test_a_deep_folder_still_gets_short_socket_paths(open_folder: Path) -> None:
    with PostgresCluster(replicas=0, directory=open_folder) as cluster:
        assert cluster.primary.data.is_relative_to(open_folder)
        assert cluster.primary.query("SELECT 1") == [(1,)]
        sockets = Path(str(cluster.primary.address)).parent
        assert sockets.exists()
    assert list(open_folder.iterdir()) == []
    assert not sockets.exists()


def test_programs_are_looked_for_where_one_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Binaries.find()
    assert found.major >= 14
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(ConfigError, match="postgres, initdb"):
        Binaries.find()
    assert Binaries.find(found.directory) == found
    monkeypatch.setenv(VARIABLE, str(found.directory))
    assert Binaries.find() == found
    for name in NEEDED:
        (tmp_path / name).write_text('#!/bin/sh\necho "postgres (PostgreSQL) 13.9"\n')
        (tmp_path / name).chmod(0o755)
    with pytest.raises(ConfigError, match="PostgreSQL 14 or newer"):
        Binaries.find(tmp_path)


def test_where_there_are_no_programs_the_error_says_what_brings_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr("causal.lab.postgres.binaries._places", lambda: iter(()))
    with pytest.raises(ConfigError, match=r"pip install .causal-tokens\[lab-postgres\]"):
        PostgresCluster()


def test_the_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720 and every table of checksums


def test_a_forked_process_leaves_its_parents_servers_alone() -> None:
    child = """
import os, sys
from causal.lab.postgres import PostgresCluster
with PostgresCluster(replicas=0) as cluster:
    child = os.fork()
    if not child:
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    print(cluster.primary.query("SELECT 1"))
"""
    done = subprocess.run(
        [sys.executable, "-c", child],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout == "[(1,)]\n", done.stderr


WHILE_THERE = "[time.sleep(0.02) for n in range(1500) if cluster.primary.folder.exists()]"
HELD = """
import os, sys, time
from causal.lab.postgres import PostgresCluster
with PostgresCluster(replicas=1) as cluster:
    cluster.replicas[0].freeze()
    print(cluster.primary.folder.parent.parent, flush=True)
    {then}
"""


def clean(root: Path) -> bool:
    return not root.exists() and watchdog.inside(root) == []


@has_proc
@pytest.mark.parametrize(
    ("how", "then"),
    [
        (signal.SIGKILL, "time.sleep(60)"),
        (signal.SIGTERM, "time.sleep(60)"),
        (signal.SIGINT, "time.sleep(60)"),
        (None, "raise RuntimeError"),
        (None, "os._exit(3)"),
        (None, "sys.exit(0 if os.fork() else 0)"),
        # The child holds the pipe open that tells of the parent's end, until the files are gone or the test has failed.
        (signal.SIGKILL, f"os.fork() or {WHILE_THERE} and os._exit(0); time.sleep(60)"),
    ],
    ids=["killed", "terminated", "interrupted", "raised", "exited", "forked", "outlived"],
)
def test_however_the_parent_ends_nothing_is_left(how: signal.Signals | None, then: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HELD.format(then=then)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as parent:
        assert parent.stdout is not None
        root = Path(parent.stdout.readline().strip())
        assert root.name.startswith("causal-pg-")
        if how is not None:
            assert len(watchdog.inside(root)) > 8
            parent.send_signal(how)
    assert eventually(lambda: clean(root))
