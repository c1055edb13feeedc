"""Files that were emptied, exchanged or lost: refused with nothing changed, or copied from another site; never emptied in silence."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from causal.controls import Lag
from causal.core.position import Position
from causal.errors import StoreError
from causal.stores.sqlite.files import directory as sqlite_directory
from causal.stores.sqlite.files import registry, schema
from causal.stores.sqlite.files.directory import Directory
from causal.stores.sqlite.files.registry import FileRecord
from causal.stores.sqlite.files.shard import ShardFile
from causal.stores.sqlite.replication import members, recover
from causal.stores.sqlite.replication.replicate import Replicator
from tests.stores.sqlite_world import World, world

__all__ = ["world"]


def outside(path: Path, *statements: str) -> None:
    """Change a file from outside, while nothing has it open, and leave no -wal behind."""
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


def contents(path: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in path.iterdir() if p.is_file()}


def tableless(path: Path) -> None:
    path.unlink()
    outside(path, "CREATE TABLE t (a)", "DROP TABLE t")


def truncated(path: Path) -> None:
    os.truncate(path, 0)


# --- the registry --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", [truncated, tableless])
@pytest.mark.parametrize("shards", [("main",), ("posts", "replies")])
@pytest.mark.parametrize("opened", ["eu", "us", "asia"])
def test_an_empty_registry_is_not_made_anew_beside_the_files_of_its_sites(
    world: World, empty: Callable[[Path], None], shards: tuple[str, ...], opened: str
) -> None:
    world.open("eu", "us", shards=shards)
    world.put("eu", "only-eu", 1)
    world.close()
    kept = (world.path / "cluster.sqlite").read_bytes()
    empty(world.path / "cluster.sqlite")
    before = contents(world.path)
    with pytest.raises(StoreError, match=r"cluster\.sqlite is empty: restore it"):
        world.open(opened, shards=shards)
    assert contents(world.path) == before
    (world.path / "cluster.sqlite").write_bytes(kept)
    world.open("eu", shards=shards)
    assert world.get("eu", "only-eu") == 1


def test_a_missing_registry_is_noticed_whatever_the_shards_are_called(world: World) -> None:
    world.open("eu", shards=("posts",))
    world.close()
    (world.path / "cluster.sqlite").unlink()
    before = contents(world.path)
    with pytest.raises(StoreError, match=r"cluster\.sqlite is missing"):
        world.open("eu", shards=("posts",))
    assert contents(world.path) == before


@pytest.mark.parametrize(
    "lost",
    [
        "DELETE FROM meta",
        "DELETE FROM meta WHERE name = 'cluster'",
        "DELETE FROM meta WHERE name = 'inode'",
        "DELETE FROM meta WHERE name = 'base'",
        "DELETE FROM site",
        "DELETE FROM site WHERE name = 'us'",
        "DELETE FROM shard",
    ],
)
def test_a_registry_that_lacks_rows_is_refused(world: World, lost: str) -> None:
    world.open("eu", "us")
    world.put("eu", "k", 1)
    world.close()
    path = world.path / "cluster.sqlite"
    outside(path, lost)
    before = contents(world.path)
    for site in ("eu", "us", "asia"):
        with pytest.raises(StoreError, match=r"cluster\.sqlite is (empty|damaged).*restore it"):
            world.open(site)
    assert contents(world.path) == before


def test_a_registry_that_was_only_begun_is_finished(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(registry.Registry, "_identify", killed)
    with pytest.raises(KeyboardInterrupt):
        world.open("eu")
    monkeypatch.undo()
    world.open("eu")
    assert world.put("eu", "k", 1).position == Position(0, 1, 1)


@pytest.mark.parametrize("member", [True, False])
def test_the_registry_of_another_directory_empties_no_file(world: World, member: bool) -> None:
    world.open("eu", "us")
    world.put("eu", "only-eu", 1)
    world.close()
    other = World(world.path / "other")
    other.open("asia", *(["eu"] if member else []))
    if member:
        other.engines["asia"].leave("eu")
    other.close()
    kept = (world.path / "cluster.sqlite").read_bytes()
    shutil.copy(other.path / "cluster.sqlite", world.path / "cluster.sqlite")
    before = (world.path / "eu.sqlite").read_bytes()
    with pytest.raises(StoreError, match=r"eu\.sqlite belongs to site 'eu', shard 'main' of cluster"):
        world.open("eu")
    assert (world.path / "eu.sqlite").read_bytes() == before
    (world.path / "cluster.sqlite").write_bytes(kept)
    world.open("eu")
    assert world.get("eu", "only-eu") == 1


def test_a_registry_from_before_a_site_joined_empties_none_of_its_files(world: World) -> None:
    world.open("eu")
    world.close()
    older = (world.path / "cluster.sqlite").read_bytes()
    world.open("us")
    world.put("us", "only-us", 1)
    world.close()
    newer = (world.path / "cluster.sqlite").read_bytes()
    (world.path / "cluster.sqlite").write_bytes(older)
    with pytest.raises(StoreError, match=r"us\.sqlite holds data of a site that cluster\.sqlite does not know"):
        world.open("us")
    (world.path / "cluster.sqlite").write_bytes(newer)
    world.open("us")
    assert world.get("us", "only-us") == 1


# --- a site's own file ---------------------------------------------------------------------------------------------


def without_meta(path: Path) -> None:
    outside(path, "DELETE FROM meta")


@pytest.mark.parametrize("empty", [truncated, tableless, without_meta])
@pytest.mark.parametrize("sites", [("eu",), ("eu", "us")])
def test_a_sites_empty_file_is_refused_and_left_alone(
    world: World, empty: Callable[[Path], None], sites: tuple[str, ...]
) -> None:
    world.open(*sites)
    world.put("eu", "k", 1)
    world.settle()
    world.close()
    path = world.path / "eu.sqlite"
    empty(path)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"eu\.sqlite is empty: restore it, or remove it and its -wal"):
        world.open("eu")
    assert path.read_bytes() == before
    if sites == ("eu", "us"):  # what the error advises
        path.unlink()
        world.open("eu")
        assert world.get("eu", "k") == 1


def test_a_truncated_file_keeps_its_log_for_who_looks_into_it(world: World) -> None:
    """SQLite removes the -wal of an empty file when it opens it."""
    world.open("eu")
    world.put("eu", "k", 1)
    shutil.copy(world.path / "eu.sqlite-wal", world.path / "kept")
    world.close()
    truncated(world.path / "eu.sqlite")
    (world.path / "kept").rename(world.path / "eu.sqlite-wal")
    with pytest.raises(StoreError, match="is empty"):
        world.open("eu")
    assert (world.path / "eu.sqlite-wal").stat().st_size > 0


def test_a_file_that_is_gone_with_no_copy_elsewhere_is_not_made_anew(world: World) -> None:
    world.open("eu")
    world.put("eu", "k", 1)
    world.close()
    kept = (world.path / "eu.sqlite").read_bytes()
    (world.path / "eu.sqlite").unlink()
    for _ in range(2):
        with pytest.raises(StoreError, match=r"eu\.sqlite is gone, and no other site has a copy: restore it"):
            world.open("eu")
        assert not (world.path / "eu.sqlite").exists()
    (world.path / "eu.sqlite").write_bytes(kept)
    world.open("eu")
    assert world.get("eu", "k") == 1


def test_copying_a_file_that_is_gone_can_be_repeated(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.open("eu", "us")
    world.put("eu", "k", 1)
    world.settle()
    world.close()
    (world.path / "eu.sqlite").unlink()

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(recover, "_start", killed)
    with caplog.at_level(logging.WARNING, "causal"), pytest.raises(KeyboardInterrupt):
        world.open("eu")
    assert "eu.sqlite is gone: it is copied" in caplog.text
    monkeypatch.undo()
    world.open("eu")
    assert world.get("eu", "k") == 1
    record = world.links["eu"].directory.registry.file("eu", 0)
    assert record == FileRecord((world.path / "eu.sqlite").stat().st_ino, 1, relaxed=False)


def test_what_was_made_is_never_empty_on_the_disk(world: World) -> None:
    """So an empty file is one that somebody emptied, even while all that it holds is in its -wal."""
    for name, make in (("a", schema.open_registry), ("b", schema.open_shard)):
        db = make(world.path / name)
        assert (world.path / name).stat().st_size > 0
        db.close()


# --- other sites' files --------------------------------------------------------------------------------------------


def scrambled(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = bytes(byte ^ 0xFF for byte in data[4096:])
    path.write_bytes(bytes(data))


def newer(path: Path) -> None:
    outside(path, "PRAGMA user_version = 2")


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def gone(path: Path) -> None:
    path.unlink()


def of_another_directory(path: Path) -> None:
    outside(path, "UPDATE meta SET value = 'other' WHERE name = 'cluster'")


DAMAGES = [truncated, tableless, without_meta, scrambled, newer, a_directory, gone, of_another_directory]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_neighbours_damaged_file_is_out_of_reach_and_no_more(
    world: World, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    world.open("eu", "us")
    world.put("eu", "k", 1)
    world.put("us", "k2", 2)
    world.settle()
    world.close()
    damage(world.path / "us.sqlite")
    with caplog.at_level(logging.WARNING, "causal"):
        world.open("eu", durability="relaxed")
        assert world.everything("eu") == {"k": 1, "k2": 2}
        assert world.put("eu", "k", 2).position == Position(0, 1, 2)
        for _ in range(3):
            world.step("eu")
            assert world.links["eu"].collect() == 0
        assert world.watermark("eu").leads == {1}
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 1, said
    assert said[0].startswith("us counts as unreachable: ")
    for use in (lambda: world.links["eu"].probe("us", 1.0), lambda: world.get("eu", "k", at="us")):
        if damage is not gone:  # whoever opens a site whose file was removed lets it copy another's
            with pytest.raises(StoreError, match=r"us\.sqlite"):
                use()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_new_site_copies_from_the_members_that_can_be_read(world: World, damage: Callable[[Path], None]) -> None:
    world.open("eu", "us")
    world.put("eu", "k", 1)
    world.settle()
    world.close()
    damage(world.path / "us.sqlite")
    world.open("asia")
    assert world.get("asia", "k") == 1


def test_a_new_site_copies_from_another_where_a_copy_shows_its_damage_late(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.open("eu", "us")
    world.put("us", "theirs", 1)
    world.step("eu")
    world.put("us", "more", 1)  # so us holds the most
    with world.links["us"].directory.file("us", 0).writing() as db:
        db.execute("UPDATE data SET seen = x'00'")
    with caplog.at_level(logging.WARNING, "causal"):
        world.open("asia")
    assert "asia cannot be copied from us" in caplog.text
    assert world.get("asia", "theirs") == 1


def test_a_site_with_nobody_to_copy_from_says_what_is_wrong_with_the_last(world: World) -> None:
    world.open("eu")
    world.put("eu", "k", 1)
    with world.links["eu"].directory.file("eu", 0).writing() as db:
        db.execute("UPDATE data SET seen = x'00'")
    with pytest.raises(StoreError, match="damaged"):
        world.open("us")
    with pytest.raises(StoreError, match="not a live site"):
        world.links["eu"].read("us", (0,))


def test_a_damaged_neighbour_that_is_well_again_is_heard_again(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.open("eu", "us")
    world.put("us", "k", 1)
    world.close()
    path = world.path / "us.sqlite"
    kept = (world.path / "us.sqlite").rename(world.path / "kept")
    path.write_bytes(b"")
    with caplog.at_level(logging.WARNING, "causal"):
        world.open("eu")
        world.step("eu")
        assert world.get("eu", "k") is None
        path.unlink()
        kept.rename(path)
        world.step("eu")
        assert world.get("eu", "k") == 1
        path.unlink()
        path.mkdir()
        world.links["eu"].directory._forget("us")
        world.step("eu")
    assert caplog.text.count("us counts as unreachable") == 2, "a new complaint is said anew"
    path.rmdir()


def test_a_neighbour_whose_file_is_locked_is_out_of_reach(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Locked for writes it cannot be told of a new origin yet; locked altogether it is not even heard, and not asked all the time."""
    world.open("eu", "us", durability="relaxed")
    world.put("eu", "k", 1)
    world.settle()
    world.close()
    with world.engine("eu", durability="relaxed")._shared() as directory:
        record = directory.registry.file("eu", 0)
        assert record is not None
        directory.registry.set_file("eu", 0, FileRecord(record.inode, record.life, relaxed=True))  # as after a crash
    monkeypatch.setattr(schema, "BUSY_S", 0.0)
    other = sqlite3.connect(world.path / "us.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with caplog.at_level(logging.WARNING, "causal"):
        world.open("eu")
        assert world.watermark("eu").leads == {3}
        world.step("eu")
    assert caplog.text.count("us could not be told of origins yet") == 1
    world.close()
    other.execute("ROLLBACK")
    world.open("eu")
    assert 3 in world.watermark("eu", at="us").origins
    world.close()
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(sqlite_directory, "_LOCKED_S", 1000.0)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "causal"):
        world.open("eu")
        monkeypatch.setattr(ShardFile, "__init__", None)  # whoever is left alone is not even opened
        world.step("eu")
        assert world.get("eu", "k") == 1
        monkeypatch.undo()
    assert caplog.text.count("us counts as unreachable") == 1
    other.execute("ROLLBACK")
    other.close()
    world.links["eu"].directory._locked.clear()
    world.put("eu", "k", 2)
    world.open("us")
    world.step("us")
    assert world.get("us", "k") == 2


def test_a_damaged_site_can_be_taken_out(world: World) -> None:
    world.open("eu", "us")
    mine = world.put("us", "k", 1).position
    assert mine is not None
    world.settle()
    world.close()
    truncated(world.path / "us.sqlite")
    world.open("eu")
    world.engines["eu"].leave("us")
    assert world.watermark("eu").origins[mine.origin] == (1, 1)
    assert world.links["eu"].collect() == 0
    world.put("eu", "k", 2)


def test_a_neighbours_full_disk_does_not_take_a_leaving_sites_writes(world: World) -> None:
    """Who leaves hands over its writes first; where nobody can take them it stays."""
    world.open("eu", "us")
    world.put("eu", "k", "x" * 100_000)
    full(world, "us")
    with pytest.raises(StoreError, match=r"us\.sqlite.*full"):
        world.engines["us"].leave("eu")
    world.open("asia")
    world.engines["us"].leave("eu")
    assert world.get("asia", "k") == "x" * 100_000


def test_writes_whose_fate_is_open_are_kept_aside_when_their_site_returns(world: World) -> None:
    world.open("eu", "us", "asia")
    world.engines["us"].cut_off("eu")
    world.put("eu", "only-eu", 1)
    world.engines["us"].cut_off("asia")
    world.engines["us"].leave("eu")
    assert world.links["us"].directory.members().origins[0, 1].end is None
    world.close("eu")
    world.engines["us"].rejoin("eu")
    world.open("eu")
    assert world.links["us"].directory.members().origins[0, 1].end is None, "asia cannot be asked"
    db = sqlite3.connect(world.path / "eu.lost-0")
    assert db.execute("SELECT count(*) FROM data WHERE key = 'only-eu'").fetchone() == (1,)
    db.close()


def test_a_shard_that_was_added_while_a_site_was_away_does_not_keep_it_from_handing_over(world: World) -> None:
    world.open("eu", "us", "asia")
    world.engines["us"].cut_off("eu")
    world.put("eu", "only-eu", 1)
    world.engines["us"].cut_off("asia")
    world.engines["us"].leave("eu")
    world.close("eu", "us")
    world.open("us", shards=("main", "new"))
    for site in ("eu", "asia"):
        world.engines["us"].rejoin(site)
    world.open("eu")
    assert world.get("us", "only-eu") == 1


def test_an_origin_does_not_end_if_a_member_cannot_be_read_any_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even if it could a moment ago."""
    world.open("eu", "us", "asia")
    real = Directory.heard
    monkeypatch.setattr(
        Directory, "heard", lambda it, site, index=None: None if (site, index) == ("us", 0) else real(it, site, index)
    )
    world.engines["asia"].leave("eu")
    assert world.links["asia"].directory.members().origins[0, 1].end is None
    monkeypatch.undo()
    world.step("asia")
    assert world.links["asia"].directory.members().origins[0, 1].end == 0


# --- one's own disk ------------------------------------------------------------------------------------------------


def full(world: World, site: str, pages: int = 2) -> None:
    """Let a site's file grow no more, for as long as its pooled connection lives."""
    file = world.links[site].directory.file(site, 0)
    connection = file.begin_write()
    now = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {now + pages}")
    file.end_write(connection)


def test_catching_up_on_a_full_disk_fails(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.open("eu", "us", shards=("main", "other"))
    world.put("eu", "k", "x" * 100_000)
    world.put("eu", "l", 1, shard=1)
    full(world, "us")
    for call in (world.engines["us"].catch_up, world.links["us"].catch_up):
        with pytest.raises(StoreError, match=r"us\.sqlite.*full"):
            call("us")
    assert world.get("us", "l", shard=1) == 1, "what could be applied was"
    with pytest.raises(StoreError, match="full"):
        world.step("us")
    full(world, "us", pages=1_000_000)
    world.step("us")
    assert world.get("us", "k") == "x" * 100_000


def test_a_peers_damaged_log_is_said_once_and_holds_up_nothing_else(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.open("eu", "us", "asia")
    world.put("eu", "k", 1)
    world.put("asia", "l", 2)
    file = world.links["eu"].directory.file("eu", 0)
    with file.writing() as db:
        good = db.execute("SELECT changes FROM log").fetchone()
        db.execute("UPDATE log SET changes = x'ff'")
    with caplog.at_level(logging.WARNING, "causal"):
        for _ in range(3):
            world.step("us")
    assert world.everything("us") == {"l": 2}
    assert (
        caplog.text.count("replication from eu to us goes on without eu.sqlite: a logged transaction is damaged") == 1
    )
    with file.writing() as db:
        db.execute("UPDATE log SET changes = ?", good)
    world.step("us")
    assert world.everything("us") == {"k": 1, "l": 2}


def test_a_background_failure_is_logged_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    tries = threading.Semaphore(0)

    def fail() -> NoReturn:
        tries.release()
        raise StoreError("the disk is full")

    world.open("eu")
    with caplog.at_level(logging.WARNING, "causal"):
        thread = Replicator(world.links["eu"].directory, "eu", fail, lambda: 0, Lag())
        for _ in range(5):
            assert tries.acquire(timeout=60)
        thread.stop()
    assert [r.getMessage() for r in caplog.records] == ["replication at eu failed and goes on: the disk is full"]


# --- shards that are just added --------------------------------------------------------------------------------------


def test_adding_a_shard_disturbs_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Others see the shard's number before its files are there, and go on without."""
    world.open("eu", "us", "asia")
    world.put("eu", "k", 1)
    looked: list[str] = []

    def look(*_: object) -> None:
        for site in ("eu", "us"):
            world.step(site)
            world.links[site].collect()
            world.watermark(site, at="asia")
            looked.append(site)

    def recovering(directory: Directory, site: str, name: str, index: int, **options: bool) -> None:
        look()
        recover.recover(directory, site, name, index, **options)
        look()

    real = recover._start

    def starting(*arguments: Any, **options: bool) -> None:
        look()  # the tables are there, and empty
        real(*arguments, **options)

    monkeypatch.setattr(members, "recover", recovering)
    monkeypatch.setattr(recover, "_start", starting)
    with caplog.at_level(logging.INFO, "causal"):
        world.engine("asia", shards=("main", "new")).open().close()
    assert not caplog.records
    assert len(looked) == 3 * 6
    assert world.get("us", "k") == 1
    assert 1 in world.links["eu"].probe("us", 1.0)


def test_a_neighbour_that_cannot_have_a_new_shard_yet_does_not_stop_it(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.open("eu", "us")
    world.close()
    blocked = world.path / "us.new.sqlite"
    blocked.mkdir()
    with caplog.at_level(logging.WARNING, "causal"):
        world.open("eu", shards=("main", "new"))
    assert caplog.text.count("us has no file of shard new yet") == 1
    assert world.put("eu", "k", 1, shard=1).position is not None
    world.step("eu")
    with pytest.raises(StoreError, match=r"us\.new\.sqlite"):
        world.open("us", shards=("main", "new"))
    (world.path / "eu.newer.sqlite").mkdir()
    with pytest.raises(StoreError, match=r"eu\.newer\.sqlite"):
        world.engine("eu", shards=("main", "newer")).open()
    blocked.rmdir()
    (world.path / "eu.newer.sqlite").rmdir()
    world.open("us", shards=("main", "new"))
    world.step("us")
    assert world.get("us", "k", shard=1) == 1
