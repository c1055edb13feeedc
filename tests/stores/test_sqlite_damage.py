"""Files that were emptied, exchanged or lost: refused with nothing changed, or copied from another site; never emptied in silence."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from causal.core.position import Position
from causal.errors import StoreError
from causal.stores.sqlite.files import registry, schema
from causal.stores.sqlite.files.registry import FileRecord
from causal.stores.sqlite.replication import recover
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
    world: World, empty: object, shards: tuple[str, ...], opened: str
) -> None:
    world.open("eu", "us", shards=shards)
    world.put("eu", "only-eu", 1)
    world.close()
    kept = (world.path / "cluster.sqlite").read_bytes()
    empty(world.path / "cluster.sqlite")  # type: ignore[operator]
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
def test_a_sites_empty_file_is_refused_and_left_alone(world: World, empty: object, sites: tuple[str, ...]) -> None:
    world.open(*sites)
    world.put("eu", "k", 1)
    world.settle()
    world.close()
    path = world.path / "eu.sqlite"
    empty(path)  # type: ignore[operator]
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

    def killed(*_: object) -> None:
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
