"""Damage, newer files, full disks, read-only directories: one clear error that names the file, and nothing lost."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from causal.core.frontier import Frontier
from causal.core.position import Position
from causal.errors import CommitUnknown, ConfigError, StoreError
from causal.stores.sqlite import SQLiteEngine, SQLiteLink
from causal.stores.sqlite.files import schema
from causal.stores.sqlite.files.locks import try_flock
from causal.stores.sqlite.files.shard import ShardFile
from tests.stores.sqlite_world import World, world

__all__ = ["world"]


def outside(world: World, file: str, *statements: str) -> None:
    """Change a file from outside, while nothing has it open."""
    db = sqlite3.connect(world.path / file)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


@pytest.mark.parametrize("file", ["eu.sqlite", "cluster.sqlite"])
def test_a_newer_schema_is_refused_and_left_alone(world: World, file: str) -> None:
    world.open("eu")
    world.put("eu", "k", 1)
    world.close()
    outside(world, file, "PRAGMA user_version = 2")
    before = (world.path / file).read_bytes()
    with pytest.raises(StoreError, match="newer") as caught:
        world.open("eu")
    assert file in str(caught.value)
    assert (world.path / file).read_bytes() == before
    outside(world, file, "PRAGMA user_version = 1")
    world.open("eu")
    assert world.get("eu", "k") == 1


@pytest.mark.parametrize("file", ["eu.sqlite", "cluster.sqlite"])
def test_what_is_not_a_database_is_refused_and_left_alone(world: World, file: str) -> None:
    world.open("eu")
    world.close()
    (world.path / file).write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreError, match="not a database") as caught:
        world.open("eu")
    assert file in str(caught.value)
    assert (world.path / file).read_bytes() == b"not a database at all" * 100


@pytest.mark.parametrize("file", ["eu.sqlite", "cluster.sqlite"])
def test_someone_elses_database_is_refused_and_left_alone(world: World, file: str) -> None:
    db = sqlite3.connect(world.path / file)
    db.execute("CREATE TABLE photos (name TEXT)")
    db.close()
    with pytest.raises(StoreError, match="something else"):
        world.open("eu")


def test_a_damaged_page_is_said_when_it_is_met(world: World) -> None:
    world.open("eu")
    handle = world.links["eu"].write("eu", 0, Frontier())
    for n in range(500):
        handle.connection.put(f"k{n:03}", "x" * 100)
    handle.commit(Frontier())
    world.close()
    path = world.path / "eu.sqlite"
    data = bytearray(path.read_bytes())
    for page in range(4, len(data) // 4096):
        data[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    path.write_bytes(bytes(data))

    def read_all() -> None:
        world.open("eu")
        world.everything("eu")

    with pytest.raises(StoreError, match=r"eu\.sqlite.*damaged"):
        read_all()


def test_damage_at_one_site_does_not_stop_another(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.open("eu", "us")
    world.put("eu", "k", 1)
    world.settle()
    world.close()
    (world.path / "us.sqlite").write_bytes(b"rubbish" * 1000)
    with caplog.at_level(logging.WARNING, "causal"):
        world.open("eu")
    assert "us.sqlite" in caplog.text
    assert world.get("eu", "k") == 1
    assert world.put("eu", "k", 2).position == Position(0, 1, 2)
    world.step("eu")
    with pytest.raises(StoreError, match=r"us\.sqlite"):
        world.get("eu", "k", at="us")


def test_a_damaged_value_or_dependency_is_said(world: World) -> None:
    world.open("eu")
    world.put("eu", "v", 1)
    world.put("eu", "d", 1)
    world.put("eu", "s", 1)
    with world.links["eu"].directory.file("eu", 0).writing() as db:
        db.execute("UPDATE data SET value = x'ff' WHERE key = 'v'")
        db.execute("UPDATE data SET seen = x'000000010000000000000002ffff' WHERE key = 'd'")
        db.execute("UPDATE data SET seen = x'00' WHERE key = 's'")
    with pytest.raises(StoreError, match="damaged"):
        world.get("eu", "v")
    for key in ("d", "s"):
        with pytest.raises(StoreError, match="damaged"):
            world.look("eu", key)


def test_a_full_disk_refuses_the_write_and_loses_nothing(world: World) -> None:
    world.open("eu")
    world.put("eu", "k", "kept")
    link = world.links["eu"]
    file = link.directory.file("eu", 0)
    connection = file.begin_write()
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")  # SQLite's own full disk
    file.end_write(connection)
    with pytest.raises(StoreError, match="full") as caught:
        world.put("eu", "k", "x" * 100_000)
    assert not isinstance(caught.value, CommitUnknown)
    assert world.get("eu", "k") == "kept"
    assert world.put("eu", "k", "small").position == Position(0, 1, 2)


def mounted(path: Path, *options: str) -> bool:
    path.mkdir()
    mount = shutil.which("mount")
    return (
        mount is not None
        and subprocess.run([mount, *options, str(path)], capture_output=True, check=False).returncode == 0
    )


def fill(link: SQLiteLink, acknowledged: list[str]) -> None:
    for n in range(200):
        handle = link.write("eu", 0, Frontier())
        handle.connection.put(f"k{n}", "x" * 5000)
        handle.commit(Frontier())
        acknowledged.append(f"k{n}")


def test_a_really_full_disk(world: World) -> None:
    """The same on a file system of 300 KiB, where COMMIT itself may meet the end of the disk."""
    small = world.path / "small"
    if not mounted(small, "-t", "tmpfs", "-o", "size=300k", "tmpfs"):
        pytest.skip("this user may not mount a file system")
    try:
        link = SQLiteEngine(small, site="eu", replicate="manual").open()
        acknowledged: list[str] = []
        with pytest.raises(StoreError, match=r"eu\.sqlite.*full"):
            fill(link, acknowledged)
        reading = link.read("eu", (0,))
        assert [k for k, _ in reading.connection.scan()] == sorted(acknowledged)
        assert max(place for place, _ in reading.watermarks[0].origins.values()) == len(acknowledged) > 0
        reading.close()
        link.close()
        with pytest.raises(StoreError, match=r"full|cannot"):
            fill(SQLiteEngine(small, site="eu", replicate="manual").open(), [])
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


READ_ONLY = """
import os, sys
from causal.errors import StoreError
from causal.stores.sqlite import SQLiteEngine
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    SQLiteEngine(sys.argv[1], site="eu").open()
except StoreError as error:
    print(error)
else:
    print("opened")
"""


def test_a_directory_that_cannot_be_written_is_refused(world: World) -> None:
    """Root may write everywhere; so another process gives that up first."""
    world.open("eu")
    world.put("eu", "k", 1)
    world.close()
    for path in [world.path, *world.path.iterdir()]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    shown = subprocess.run(
        [sys.executable, "-c", READ_ONLY, str(world.path)],
        capture_output=True,
        check=False,
        text=True,
        cwd="/",
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    world.path.chmod(0o755)
    for path in world.path.iterdir():
        path.chmod(0o644)
    if "Error" in shown.stderr and not shown.stdout:
        pytest.skip(f"an unprivileged process cannot run here: {shown.stderr.splitlines()[-1]}")
    assert "cannot be" in shown.stdout
    assert str(world.path) in shown.stdout
    world.open("eu")
    assert world.get("eu", "k") == 1


def test_a_path_that_is_no_directory_is_refused(world: World) -> None:
    file = world.path / "file"
    file.write_text("x")
    for path in (file, file / "below"):
        with pytest.raises(StoreError, match="directory"):
            SQLiteEngine(path, site="eu").open()


class Failing:
    """A connection whose COMMIT fails as a broken disk would have it."""

    def __init__(self, connection: sqlite3.Connection, code: int) -> None:
        self._connection, self._code = connection, code

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)

    def execute(self, sql: str, *values: object) -> object:
        if sql == "COMMIT":
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = self._code
            raise error
        return self._connection.execute(sql, *values)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (sqlite3.SQLITE_IOERR_FSYNC, CommitUnknown),
        (sqlite3.SQLITE_IOERR_WRITE, CommitUnknown),
        (sqlite3.SQLITE_FULL, StoreError),
    ],
)
def test_a_commit_that_the_disk_did_not_confirm_is_in_doubt(world: World, code: int, expected: type[Exception]) -> None:
    world.open("eu")
    handle = world.links["eu"].write("eu", 0, Frontier())
    handle.connection.put("k", 1)
    handle._db = Failing(handle._db, code)  # type: ignore[assignment, arg-type]
    with pytest.raises(expected, match=r"eu\.sqlite"):
        handle.commit(Frontier())
    assert world.put("eu", "k", 2).position is not None, "the lock is free again"


def test_a_busy_file_is_out_of_reach_not_broken(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.open("eu")
    world.close()
    monkeypatch.setattr(schema, "BUSY_S", 0.01)
    world.open("eu")
    other = sqlite3.connect(world.path / "eu.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked") as caught:
        world.put("eu", "k", 1)
    assert caught.value.retryable
    other.execute("ROLLBACK")
    other.close()
    assert world.put("eu", "k", 1).position is not None


FORKED = """
import os, sys
from causal.errors import ConfigError
from causal.stores.sqlite import SQLiteEngine
engine = SQLiteEngine(sys.argv[1], site="eu", replicate="manual")
before = os.fork()
if before == 0:
    engine.open().close()
    os._exit(0)
assert os.waitpid(before, 0)[1] == 0
link = engine.open()
after = os.fork()
if after == 0:
    try:
        engine.open()
    except ConfigError as error:
        print(error, flush=True)
        os._exit(0)
    os._exit(1)
assert os.waitpid(after, 0)[1] == 0
link.close()
"""


def test_an_engine_may_cross_a_fork_an_open_directory_may_not(world: World) -> None:
    shown = subprocess.run([sys.executable, "-c", FORKED, str(world.path)], capture_output=True, check=False, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "fork" in shown.stdout


ORPHAN = """
import os, sys, time
from causal.stores.sqlite import SQLiteEngine
link = SQLiteEngine(sys.argv[1], site="eu", durability="relaxed").open()
handle = link.write("eu", 0, __import__("causal").Frontier())
handle.connection.put("k", 1)
handle.commit(__import__("causal").Frontier())
parent = os.getpid()
if os.fork():
    os._exit(0)  # the parent is gone without closing anything
while os.getppid() == parent:
    time.sleep(0.001)
print("ready", flush=True)
sys.stdin.read()
os._exit(0)
"""


def test_a_forked_child_that_outlives_its_parent_holds_no_lock_of_it(world: World) -> None:
    """Else nobody would notice that the parent ended uncleanly, and nobody could replicate in its place."""
    orphan = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", ORPHAN, str(world.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with orphan:  # ends it, too
        assert orphan.stdout is not None
        assert orphan.stdout.readline() == "ready\n"
        world.open("eu")
        assert len(world.watermark("eu").origins) == 2, "an unclean stop with relaxed durability: a new origin"
        with (world.path / "eu.replicator").open("a") as lock:
            assert try_flock(lock.fileno())


def test_a_missing_registry_is_not_made_anew_beside_the_files_of_its_sites(world: World) -> None:
    world.open("eu")
    world.put("eu", "k", 1)
    world.close()
    for path in world.path.glob("cluster.sqlite*"):
        path.unlink()
    with pytest.raises(StoreError, match=r"cluster\.sqlite is missing"):
        world.open("us")


def test_handles_that_outlive_their_link_end_well(world: World) -> None:
    world.open("eu")
    world.put("eu", "k", 1)
    reading = world.links["eu"].read("eu", (0,))
    writing = world.links["eu"].write("eu", 0, Frontier())
    writing.connection.put("k", 2)
    world.close("eu")
    assert reading.connection.get("k") == 1
    reading.close()
    assert writing.commit(Frontier()).position == Position(0, 1, 2)
    world.open("eu")
    assert world.get("eu", "k") == 2


def test_closing_a_directory_that_is_gone_only_warns(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.open("eu", durability="relaxed")
    world.put("eu", "k", 1)
    for path in world.path.iterdir():
        path.unlink()
    world.path.rmdir()
    with caplog.at_level(logging.WARNING, "causal"):
        world.close("eu")
    assert "not in order" in caplog.text


def test_no_error_names_a_key_or_a_value(world: World) -> None:
    world.open("eu")
    secret = "a-secret-value"
    errors: list[BaseException] = []
    handle = world.links["eu"].write("eu", 0, Frontier())
    for use in (
        lambda: handle.connection.put("a-secret-key" * 200, 1),
        lambda: handle.connection.put("k", {secret: object()}),
    ):
        with pytest.raises(ConfigError) as caught:
            use()
        errors.append(caught.value)
    handle.rollback()
    assert not any("secret" in str(error) for error in errors)


def test_the_engine_leaves_a_file_of_the_same_name_alone_until_it_is_opened(world: World) -> None:
    SQLiteEngine(world.path / "later", site="eu")
    assert not (world.path / "later").exists()
    assert ShardFile.__doc__
