"""Copies that are put back: what their sites have forgotten besides their own last writes, and what copies know that was given up."""

from __future__ import annotations

import os
import shutil

import pytest

from causal.core.watermark import Verdict
from causal.errors import StoreError, Unreachable
from tests.stores.sqlite_world import World, frontier, world

__all__ = ["world"]

SITES = ("eu", "us", "asia")


def save(world: World, name: str, *, to: str) -> None:
    """Copy a file, with everything closed."""
    shutil.copy(world.path / name, world.path / to)


def put_back(world: World, copy: str, name: str) -> None:
    """Move a copy in, with everything closed."""
    os.replace(world.path / copy, world.path / name)


def settle_and_collect(world: World, *sites: str) -> None:
    for _ in range(4):
        world.settle()
        for site in sites:
            world.links[site].collect()


def test_a_new_origin_writes_nothing_below_a_tombstone_that_was_removed(world: World) -> None:
    """us forgets the stamps of asia, whose clock is ahead. eu has removed asia's tombstone, and asia has not."""

    def ahead() -> int:
        return world.now_ns + 10**12

    world.open("asia", wall=ahead)
    world.open("eu", "us")
    world.put("asia", "k", 1)
    world.settle()
    world.close()
    save(world, "us.sqlite", to="copy")
    world.open("asia", wall=ahead)
    world.open("eu", "us")
    for n in range(3):
        world.put("asia", "other", n)
    world.delete("asia", "k")
    settle_and_collect(world, "eu", "us")
    world.close()
    put_back(world, "copy", "us.sqlite")
    world.engines["eu"].cut_off("asia")
    world.open("us")
    world.put("us", "k", "new")
    world.engines["eu"].rejoin("asia")
    world.open("asia", wall=ahead)
    world.open("eu")
    world.settle()
    assert [world.everything(site) for site in SITES] == [{"k": "new", "other": 2}] * 3


def test_a_new_origin_does_not_hold_up_tombstones(world: World) -> None:
    """It may begin above them, and others do not know that before it has logged something."""
    world.open(*SITES)
    world.put("eu", "k", 1)
    world.delete("eu", "k")
    settle_and_collect(world, *SITES)
    world.close()
    save(world, "us.sqlite", to="copy")
    world.open(*SITES)
    world.put("eu", "k", 2)
    world.delete("eu", "k")
    world.settle()
    for site in ("us", "asia"):
        world.put(site, "live", site)
    world.settle()
    assert world.links["eu"].collect() == 1, "asia has it still"
    world.close()
    put_back(world, "copy", "us.sqlite")
    world.open(*SITES)
    settle_and_collect(world, *SITES)
    for site in SITES:
        with world.links[site].directory.file(site, 0).snapshot() as db:
            assert db.execute("SELECT key FROM data").fetchall() == [("live",)]


def test_an_end_is_moved_back_when_the_only_file_with_what_survived_is_put_back(world: World) -> None:
    world.open("eu", "us", durability="relaxed")
    world.close()
    save(world, "eu.sqlite", to="copy")
    world.open("eu", "us", durability="relaxed")
    mine = frontier(world.put("eu", "k", 1))
    link = world.links.pop("eu")
    link.directory.release(lambda _: None)  # as after a crash
    world.links.pop("us").directory.release(lambda _: None)
    world.open("eu")
    assert world.watermark("eu").judge(mine).verdict is Verdict.APPLIED, "its origin has ended after it"
    world.close()
    put_back(world, "copy", "eu.sqlite")
    world.open("eu", "us")
    world.settle()
    for site in ("eu", "us"):
        assert world.watermark(site).judge(mine).verdict is Verdict.LOST
    world.put("eu", "later", 1, deps=mine)
    world.settle()
    assert world.everything("us") == world.everything("eu") == {"later": 1}, "what depends on it is not held up"


def test_a_copy_that_holds_more_than_survived_is_refused(world: World) -> None:
    """An old copy is put back, then a newer one: it holds what was said to be lost, and nobody else does."""
    world.open("eu", "us")
    world.close()
    save(world, "eu.sqlite", to="old")
    world.open("eu", "us")
    world.engines["us"].cut_off("us")
    mine = frontier(world.put("eu", "k", 1))
    world.close()
    save(world, "eu.sqlite", to="newer")
    put_back(world, "old", "eu.sqlite")
    world.engines["us"].rejoin("us")
    world.open("eu", "us")
    world.settle()
    assert world.watermark("us").judge(mine).verdict is Verdict.LOST
    world.put("us", "other", 1)
    world.settle()
    world.close()
    put_back(world, "newer", "eu.sqlite")
    for _ in range(2):
        with pytest.raises(StoreError, match=r"eu\.sqlite .* given up"):
            world.open("eu")
    (world.path / "eu.sqlite").unlink()
    world.open("eu", "us")
    world.settle()
    for site in ("eu", "us"):
        assert world.watermark(site).judge(mine).verdict is Verdict.LOST
        assert world.everything(site) == {"other": 1}


@pytest.mark.parametrize("same", ["all", "sites"])
def test_a_directory_that_was_put_back_is_noticed_where_inodes_are_given_again(world: World, same: str) -> None:
    """A file system may give the copies the inodes of the files that were removed: of all, or of some."""
    world.open("eu", "us")
    world.put("eu", "k", 1)
    world.settle()
    world.close()
    shutil.copytree(world.path, world.path / "copy")
    world.open("eu", "us")
    lost = frontier(world.put("eu", "k", 2))
    world.close()
    for file in (world.path / "copy").iterdir():
        path = world.path / file.name
        if file.suffix == ".lock" or (same == "sites" and file.name == "cluster.sqlite"):
            os.replace(file, path)
        else:
            with path.open("r+b") as old:  # the same inode, with what the copy holds
                old.truncate()
                old.write(file.read_bytes())
    world.open("eu", "us")
    world.put("eu", "other", 1)
    world.settle()
    for site in ("eu", "us"):
        assert world.watermark(site).judge(lost).verdict is Verdict.LOST
        assert world.everything(site) == {"k": 1, "other": 1}


def test_sites_that_each_lack_another_shard_copy_it_from_each_other(world: World) -> None:
    shards = ("main", "other")
    world.open("eu", "us", shards=shards)
    for shard in (0, 1):
        world.put("eu", "k", shard, shard=shard)
    world.settle()
    world.close()
    for name in ("eu.sqlite", "us.other.sqlite"):
        (world.path / name).unlink()
    world.engines["us"].cut_off("us")
    with pytest.raises(Unreachable):
        world.open("eu", shards=shards)
    with pytest.raises(Unreachable):
        world.open("us", shards=shards)
    world.engines["us"].rejoin("us")
    world.open("eu", "us", shards=shards)
    world.settle()
    for site in ("eu", "us"):
        assert [world.everything(site, shard=shard) for shard in (0, 1)] == [{"k": 0}, {"k": 1}]
