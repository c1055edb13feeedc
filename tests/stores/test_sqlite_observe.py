"""Looking at a directory without taking part: what is shown is what is there, and not a byte of it changes."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import causal
from causal.async_store import AsyncCausalStore
from causal.core.frontier import Frontier
from causal.core.keyring import Keyring
from causal.core.position import Position
from causal.errors import ConfigError, StoreError, Unreachable
from causal.store import CausalStore
from causal.stores.sqlite import SQLiteEngine, SQLiteLink, observe
from causal.stores.sqlite.blocks.reading import ReadTransaction
from causal.stores.sqlite.files.schema import SCHEMA
from causal.stores.sqlite.files.shard import ShardFile
from tests.stores.sqlite_world import World, world

__all__ = ["world"]


def everything(path: Path) -> dict[str, tuple[bytes, int, int]]:
    return {
        p.name: (p.read_bytes(), p.stat().st_mtime_ns, p.stat().st_ino) for p in [*path.iterdir(), path] if p.is_file()
    } | {".": (b"", path.stat().st_mtime_ns, path.stat().st_ino)}


@contextmanager
def untouched(path: Path) -> Iterator[None]:
    before = everything(path)
    yield
    assert everything(path) == before


def observing(path: Path, site: str, *shards: str) -> SQLiteEngine:
    return SQLiteEngine(path, site=site, observe=True, shards=shards or ("main",))


def shown(link: SQLiteLink, site: str, *shards: int) -> dict[str, Any]:
    handle = link.read(site, shards or (0,))
    try:
        return dict(handle.connection.scan())
    finally:
        handle.close()


def changed(world: World) -> None:
    """A store with something to recover, replicate, mend and collect, and nothing closed."""
    world.open("eu", "us", shards=("main", "other"), durability="relaxed")
    world.put("eu", "k", 1)
    world.settle()
    world.put("eu", "k", 2)
    world.put("eu", "other", 3, shard=1)
    world.delete("us", "gone")


def look_at_all(path: Path) -> None:
    eu = observing(path, "eu", "main", "other")
    assert dict(eu.shards) == {"main": 0, "other": 1}
    link = eu.open()
    assert [e.name for e in link.endpoints] == ["eu", "us"]
    assert link.leader(0) == "eu"
    assert link.position(None) == Frontier([Position(0, 1, 2), Position(1, 1, 1)])
    assert link.probe("eu", 1.0)[0].origins == {1: (2, None), 2: (0, None)}
    assert link.probe("us", 1.0)[0].origins == {1: (1, None), 2: (1, None)}
    assert link.probe("eu", 1.0)[1].leads == {1}
    assert shown(link, "eu") == {"k": 2}
    assert shown(link, "us") == {"k": 1}
    assert shown(link, "eu", 0, 1) == {"k": 2, "other": 3}
    handle = link.read("eu", (0,))
    assert handle.connection.get("k") == 2
    assert handle.seen() == Frontier([Position(0, 1, 2)])
    handle.close()
    link.close()


def test_a_closed_directory(world: World) -> None:
    changed(world)
    world.close()
    assert not list(world.path.glob("*-wal"))
    with untouched(world.path):
        look_at_all(world.path)


def test_a_copy_with_logs_and_nothing_else(world: World) -> None:
    """Taken under a running process: what is not checkpointed is in the -wal only, and nobody has made a -shm."""
    changed(world)
    copy = world.path / "copy"
    copy.mkdir()
    for path in [*world.path.glob("*.sqlite"), *world.path.glob("*-wal")]:
        shutil.copy(path, copy / path.name)
    assert (copy / "eu.sqlite-wal").stat().st_size > 0
    with untouched(copy):
        look_at_all(copy)


HOLD = """
import sys
from causal.core.frontier import Frontier
from causal.stores.sqlite import SQLiteEngine
link = SQLiteEngine(sys.argv[1], site="eu", shards=("main", "other"), replicate="manual").open()
handle = link.write("eu", 0, Frontier())
handle.connection.put("held", 1)
handle.commit(Frontier())
handle = link.write("eu", 0, Frontier())
handle.connection.put("held", 2)
print("ready", flush=True)
sys.stdin.read()
handle.commit(Frontier())
link.close()
"""


def test_a_directory_that_another_process_has_open(world: World) -> None:
    """It is in the middle of a write, too."""
    changed(world)
    world.close()
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(world.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        link = observing(world.path, "us").open()
        with untouched(world.path):
            assert shown(link, "eu") == {"k": 2, "held": 1}
            assert shown(link, "us") == {"k": 1}
        other.communicate("")
    assert other.returncode == 0
    assert shown(link, "eu") == {"k": 2, "held": 2}


READ_ONLY = """
import os, sys
from causal.core.frontier import Frontier
from causal.stores.sqlite import SQLiteEngine
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
link = SQLiteEngine(sys.argv[1], site="eu", observe=True).open()
print(link.read("eu", (0,)).connection.get("k"), link.probe("us", 1.0)[0].origins[1])
"""


def test_a_directory_that_cannot_be_written(world: World) -> None:
    changed(world)
    world.close()
    for path in [world.path, *world.path.iterdir()]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    with untouched(world.path):
        result = subprocess.run(
            [sys.executable, "-c", READ_ONLY, str(world.path)],
            capture_output=True,
            check=False,
            text=True,
            cwd="/",
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(Path(causal.__file__).parents[1])},
        )
    world.path.chmod(0o755)
    if "Error" in result.stderr and "causal/stores" not in result.stderr:
        pytest.skip(f"an unprivileged process cannot run here: {result.stderr.splitlines()[-1]}")
    assert result.stdout == "2 (1, None)\n", result.stderr


def test_nothing_is_written_and_nothing_is_controlled(world: World) -> None:
    changed(world)
    world.close()
    engine = observing(world.path, "eu")
    link = engine.open()
    with untouched(world.path):
        for use in (
            lambda: link.write("eu", 0, Frontier()),
            lambda: link.write("us", 0, Frontier()),
            lambda: engine.pause("eu"),
            lambda: engine.resume("eu"),
            lambda: engine.cut_off("eu"),
            lambda: engine.rejoin("eu"),
            lambda: engine.catch_up("eu"),
            lambda: engine.leave("us"),
            engine.step,
            engine.collect,
        ):
            with pytest.raises(ConfigError, match="only observed"):
                use()


def test_nothing_is_made_by_looking(world: World) -> None:
    with pytest.raises(ConfigError, match="holds no store"):
        observing(world.path / "none", "eu").open()
    assert not (world.path / "none").exists()
    changed(world)
    world.close()
    with untouched(world.path):
        with pytest.raises(ConfigError, match=r"no live site 'asia'.*eu, us"):
            observing(world.path, "asia").open()
        with pytest.raises(ConfigError, match=r"no shard 'tips'.*main, other"):
            _ = observing(world.path, "eu", "tips").shards
        with pytest.raises(ConfigError, match="no shard 7"):
            observing(world.path, "eu").open().read("eu", (7,))
        with pytest.raises(ConfigError, match="opened as store 3"):
            observing(world.path, "eu").open(3)
        with pytest.raises(ConfigError, match="not a connection"):
            observing(world.path, "eu").open().position(object())


def test_who_cannot_be_reached_cannot_be_looked_at(world: World) -> None:
    world.open("eu", "us", "asia")
    world.engines["eu"].cut_off("us")
    world.engines["eu"].leave("asia")
    world.close()
    eu, us = observing(world.path, "eu").open(), observing(world.path, "us").open()
    with untouched(world.path):
        for use in (lambda: eu.probe("us", 1.0), lambda: eu.read("us", (0,)), lambda: us.probe("eu", 1.0)):
            with pytest.raises(Unreachable, match="cut off"):
                use()
        assert us.probe("us", 1.0)
        with pytest.raises(Unreachable, match="not a live site"):
            eu.probe("asia", 1.0)
        assert [e.name for e in us.endpoints] == ["us", "eu"]


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def removed(path: Path) -> None:
    path.unlink()


def made_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def of_a_newer_version(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    db.close()


def scribbled(path: Path) -> None:
    path.write_bytes(b"not a database" * 1000)


def without_meta(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("DELETE FROM meta")
    db.commit()
    db.close()


@pytest.mark.parametrize("damage", [emptied, removed, made_a_directory, of_a_newer_version, scribbled, without_meta])
@pytest.mark.parametrize("name", ["us.sqlite", "cluster.sqlite"])
def test_damage_is_said(world: World, name: str, damage: Callable[[Path], None]) -> None:
    changed(world)
    world.close()
    damage(world.path / name)
    with untouched(world.path), pytest.raises((StoreError, ConfigError), match=name):
        observing(world.path, "eu").open().probe("us", 1.0)
    if name == "us.sqlite":
        assert shown(observing(world.path, "eu").open(), "eu") == {"k": 2}


# --- one moment ----------------------------------------------------------------------------------------------------


WRITE = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("UPDATE data SET value = x'182a'")
db.execute("UPDATE moment SET number = number + 1")
db.close()
"""


class Copying:
    """Does something in the middle of the first copies of a site's file, between its first page and the rest."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, then: Callable[[], object], times: int = 1) -> None:
        self.copies = 0

        def copyfileobj(source: Any, target: Any) -> None:
            target.write(source.read(4096))
            if "eu.sqlite" in source.name:
                self.copies += 1
                if self.copies <= times:
                    then()
            target.write(source.read())

        monkeypatch.setattr(shutil, "copyfileobj", copyfileobj)


def test_a_log_that_begins_anew_meanwhile_is_looked_at_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.open("eu")
    world.put("eu", "k", 1)
    world.close()
    writer = sqlite3.connect(world.path / "eu.sqlite", isolation_level=None)
    writer.execute("UPDATE data SET value = x'02'")  # now there is a -wal

    values = itertools.count(3)

    def begin_anew() -> None:
        writer.execute("PRAGMA wal_checkpoint(RESTART)")
        writer.execute("UPDATE data SET value = ?", (bytes([next(values)]),))

    copying = Copying(monkeypatch, begin_anew)
    link = observing(world.path, "eu").open()
    assert shown(link, "eu") == {"k": 3}
    assert copying.copies == 2
    copying = Copying(monkeypatch, begin_anew, times=observe._TRIES)
    with pytest.raises(Unreachable, match="did not stand still"):
        link.probe("eu", 1.0)
    assert copying.copies == observe._TRIES
    assert shown(link, "eu") == {"k": next(values) - 1}
    writer.close()


def test_a_log_that_grows_meanwhile_is_not(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.open("eu")
    world.put("eu", "k", 1)
    world.close()
    writer = sqlite3.connect(world.path / "eu.sqlite", isolation_level=None)
    writer.execute("UPDATE data SET value = x'02'")

    def go_on() -> None:
        writer.execute("UPDATE data SET value = x'03'")
        writer.execute("PRAGMA wal_checkpoint(PASSIVE)")  # into the file that is being copied

    copying = Copying(monkeypatch, go_on)
    assert shown(observing(world.path, "eu").open(), "eu") == {"k": 3}
    assert copying.copies == 1
    writer.close()


def test_a_file_that_is_written_and_closed_meanwhile_is_looked_at_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log would be gone again when the copy is done; the lock keeps it until then."""
    world.open("eu")
    world.put("eu", "k", 1)
    world.close()
    path = world.path / "eu.sqlite"
    copying = Copying(monkeypatch, lambda: subprocess.run([sys.executable, "-c", WRITE, str(path)], check=True))
    assert shown(observing(world.path, "eu").open(), "eu") == {"k": 42}
    assert copying.copies == 2
    assert (world.path / "eu.sqlite-wal").exists()


def test_a_file_that_somebody_is_just_closing_is_looked_at_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.open("eu")
    world.put("eu", "k", 1)
    world.close()
    locked: list[object] = []
    real = observe.fcntl.lockf

    def lockf(*arguments: Any) -> None:
        locked.append(arguments)
        if len(locked) == 1:
            raise BlockingIOError
        real(*arguments)

    monkeypatch.setattr(observe.fcntl, "lockf", lockf)
    assert shown(observing(world.path, "eu").open(), "eu") == {"k": 1}


def test_what_this_process_has_open_is_not_copied(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing the copied file would let go of SQLite's locks on it."""
    changed(world)

    def forbidden(*_: object) -> None:
        raise AssertionError("a file was opened by other means than SQLite")

    monkeypatch.setattr(observe, "_copy", forbidden)
    look_at_all(world.path)
    names = {path.name for path in world.path.iterdir()}
    look_at_all(world.path)
    assert {path.name for path in world.path.iterdir()} == names


def test_shards_that_do_not_stand_still_are_not_held(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(world)
    world.close()
    monkeypatch.setattr("causal.stores.sqlite.blocks.cut.parts_stand_still", lambda *_: False)
    with untouched(world.path), pytest.raises(Unreachable, match="did not stand still"):
        observing(world.path, "eu").open().read("eu", (0, 1))


def test_shards_that_change_meanwhile_are_looked_at_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(world)
    world.close()
    link = observing(world.path, "eu").open()
    real = ReadTransaction.__init__
    opened: list[object] = []

    def opening(transaction: ReadTransaction, file: ShardFile) -> None:
        real(transaction, file)
        opened.append(file)
        if len(opened) == 1:
            db = sqlite3.connect(world.path / "eu.sqlite")
            db.execute("UPDATE data SET value = x'182a'")
            db.execute("UPDATE watermark SET stamp = stamp + 1, applied = applied + 1 WHERE mine")
            db.commit()
            db.close()

    monkeypatch.setattr(ReadTransaction, "__init__", opening)
    assert shown(link, "eu", 0, 1) == {"k": 42, "other": 3}
    assert len(opened) == 4


def test_a_file_that_is_written_meanwhile_without_a_log_is_looked_at_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is emptied again before the copy is done."""
    world.open("eu")
    world.put("eu", "k", 1)
    world.close()
    copying = Copying(monkeypatch, lambda: os.utime(world.path / "eu.sqlite", ns=(1, 1)))
    assert shown(observing(world.path, "eu").open(), "eu") == {"k": 1}
    assert copying.copies == 2


# --- through a store -------------------------------------------------------------------------------------------------


def test_a_store_over_it_reads_and_refuses_writes(world: World) -> None:
    changed(world)
    world.settle()
    world.close()
    keys = Keyring.generate()
    with (
        untouched(world.path),
        CausalStore(observing(world.path, "eu", "main", "other"), keyring=keys, audience="shop") as store,
    ):
        session = store.session(subject="alice")
        with session.read(shard="main") as db:
            assert db.get("k") == 2
        with pytest.raises(ConfigError, match="only observed"):
            session.write(shard="main").__enter__()


def test_an_asynchronous_store_does_the_same(world: World) -> None:
    changed(world)
    world.settle()
    world.close()

    async def main() -> None:
        engine = observing(world.path, "us", "main", "other")
        store = AsyncCausalStore(engine, keyring=Keyring.generate(), audience="shop")
        session = store.session(subject="alice")
        async with session.read(shard="main") as db:
            assert db.get("k") == 2
        with pytest.raises(ConfigError, match="only observed"):
            await session.write(shard="main").__aenter__()
        await store.close()

    with untouched(world.path):
        asyncio.run(main())
