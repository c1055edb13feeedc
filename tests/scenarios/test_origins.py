"""Histories that forget, and must not keep their name: a log says one thing under one origin, for ever."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest

from causal import GateError, Unreachable, WriteLost
from causal.core.frontier import Frontier
from causal.engine import Commit
from causal.stores.sqlite.blocks import writing
from causal.stores.sqlite.blocks.writing import WriteTransaction
from causal.stores.sqlite.files.directory import Directory
from causal.stores.sqlite.files.registry import Registry
from causal.stores.sqlite.files.shard import ShardFile
from causal.stores.sqlite.replication import recover
from tests.scenarios.disk_stage import DiskStage, on_disk
from tests.scenarios.stage import Visit, positions
from tests.scenarios.story import Story, told

Recorded = Callable[[str, str], None]

RANDOM_NUMBER = "causal.stores.sqlite.files.registry.secrets.randbelow"


def nothing(*_: object) -> None:
    """See no sign, or leave none."""


def test_two_processes_write_one_log(recorded: Recorded) -> None:
    class Early(WriteTransaction):
        """A write that takes the next number when it begins, and the write lock when it commits."""

        given = 0

        def __init__(self, file: ShardFile, *settings: Any, **options: Any) -> None:
            super().__init__(file, *settings, **options)
            assert self._db is not None
            file.end_write(self._db)
            Early.given += 1
            self.offset = Early.given

        def commit(self, deps: Frontier) -> Commit:
            self._db = self._file.begin_write()
            self.connection._cursor = self._db.cursor()
            (origin,) = self.watermarks[self._file.shard].leads
            self._rows = [(row[0], self.offset - 1, *row[2:]) if row[0] == origin else row for row in self._rows]
            return super().commit(deps)

    @contextmanager
    def numbers_before_the_lock() -> Iterator[None]:
        highest = writing._ADVANCE.replace("applied = ?", "applied = max(applied, ?)")
        with patch("causal.stores.sqlite.link.WriteTransaction", Early), patch.object(writing, "_ADVANCE", highest):
            yield

    @on_disk("eu", "us")
    def play(tell: Story, stage: DiskStage) -> None:
        tell("Two processes, P1 and P2, write at eu, and so in one log.")
        p1, p2 = stage.process("eu"), stage.process("eu")
        alice, bob = stage.visit("alice", "eu", process=p2), stage.visit("bob", "eu", process=p1)
        with alice.session.write() as tx:
            tx.put("photo", "new.jpg")
            tell("Alice's write block is open at P2. Bob writes at P1 meanwhile.")
            bob.tell = Story()
            waits = False
            try:
                bob.writes("title", "by bob")
            except Unreachable:
                waits = True
            bob.tell = tell
            tell("He has to wait for hers to end." if waits else f"He need not wait: {positions(bob.session.own)}.")
            stage.step()
        tell(f"Her write block ends: {positions(alice.session.own)}.")
        if waits:
            bob.writes("title", "by bob")
        stage.step()
        page = stage.visit("alice", "us", alice.token).reads("photo")
        tell.never(
            page is None,
            "us went on from Bob's write, which was numbered after hers; it says it has hers, and never will.",
        )
        assert page == "new.jpg"

    rule = "an offset is given out inside the write lock, which all processes share: what is numbered first is there first."
    with patch("causal.stores.sqlite.files.schema.BUSY_S", 0.0):
        told_of = told("Two processes write one log", play, rule, numbers_before_the_lock())
    recorded("origins/two-processes", told_of)


@pytest.mark.spec("L-1")
def test_a_disk_that_was_not_waited_for(recorded: Recorded) -> None:
    @on_disk("eu", durability="relaxed")
    def play(tell: Story, stage: DiskStage) -> None:
        tell("eu acknowledges writes before the disk has them.")
        alice = stage.visit("alice", "eu")
        alice.writes("photo", "old.jpg")
        disk = stage.disk_now("eu")
        alice.writes("photo", "new.jpg")
        stage.power_fails(eu=disk)
        stage.open("eu")
        tell("The power fails. The disk had the first of Alice's writes, not the second. eu starts again.")
        stage.visit("bob", "eu").writes("title", "by bob")
        page = stage.visit("alice", "eu", alice.token).reads("photo")
        tell.never(
            page == "old.jpg",
            "0/1@2 is Bob's write now. Alice's token is covered by it, and her photo is gone in silence.",
        )
        assert isinstance(page, WriteLost)

    rule = "writing without waiting for the disk is noted first; who was not closed in order after that starts a new origin."
    without = patch.object(Directory, "used_relaxed", nothing)
    recorded("origins/power-failure", told("A disk that was not waited for", play, rule, without))


def life_goes_on(tell: Story, stage: DiskStage, alice: Visit) -> None:
    """Bob writes at eu, which has forgotten a write that us has. Neither his nor Alice's may be hidden by the other."""
    bob = stage.visit("bob", "eu")
    bob.writes("title", "by bob")
    stage.step()
    page = stage.visit("bob", "us", bob.token).reads("title")
    tell.never(page is None, "us has another 0/1@2 already. It covers Bob's token, and will never ask for his write.")
    assert page == "by bob"
    assert stage.visit("alice", "eu", alice.token).reads("photo") == "new.jpg"


def test_a_disk_that_lies(recorded: Recorded) -> None:
    honest = recover._forgotten

    def asking_nobody(directory: Directory, *file: Any) -> str | None:
        with patch.object(Directory, "peers", nobody):
            return honest(directory, *file)

    def nobody(*_: object) -> list[str]:
        return []

    @on_disk("eu", "us")
    def play(tell: Story, stage: DiskStage) -> None:
        alice = stage.visit("alice", "eu")
        alice.writes("photo", "old.jpg")
        disk = stage.disk_now("eu")
        alice.writes("photo", "new.jpg")
        stage.step()
        stage.power_fails(eu=disk)
        stage.open("us", "eu")
        tell(
            "eu waits for its disk, and us has both writes. The power fails, and the disk turns out to have the first."
        )
        life_goes_on(tell, stage, alice)

    rule = (
        "nobody can hold more of a live origin than who numbers it: whose peers do has forgotten, and starts a new one."
    )
    without = patch.object(recover, "_forgotten", asking_nobody)
    recorded("origins/disk-lies", told("A disk that lies", play, rule, without))


@pytest.mark.spec("L-1")
def test_a_file_that_was_put_back(recorded: Recorded) -> None:
    @on_disk("eu", "us")
    def play(tell: Story, stage: DiskStage) -> None:
        alice = stage.visit("alice", "eu")
        alice.writes("photo", "old.jpg")
        stage.step()
        stage.back_up()
        stage.open("eu", "us")
        alice = stage.visit("alice", "eu", alice.token)
        alice.writes("photo", "new.jpg")
        stage.step()
        tell("us has both. Then eu's file is put back from a copy that was made after the first.")
        stage.put_back("eu.sqlite")
        stage.open("eu", "us")
        life_goes_on(tell, stage, alice)

    rule = "a file that is not the one that was closed last starts a new origin, and learns from others what it has forgotten."
    without = patch.object(recover, "_forgotten", nothing)
    recorded("origins/put-back", told("A file is put back from a copy", play, rule, without))


def test_a_directory_that_was_put_back(recorded: Recorded) -> None:
    put_meta = Registry._put_meta

    def counts_on(self: Registry, **values: Any) -> None:
        put_meta(self, **(values if "cluster" in values else {"inode": values["inode"]}))

    @on_disk("eu")
    def play(tell: Story, stage: DiskStage) -> None:
        stage.back_up()
        stage.open("eu", "us")
        tell("The directory is copied. After that, us joins.")
        alice = stage.visit("alice", "us")
        alice.writes("photo", "new.jpg")
        stage.close()
        for path in stage.path.glob("us.*"):
            path.unlink()
        stage.put_back("eu.sqlite", "cluster.sqlite")
        stage.open("eu")
        tell("The whole directory is put back from the copy: us was never there, and nothing says that origin 2 was.")
        stage.visit("bob", "eu").writes("title", "by bob")
        page = stage.visit("alice", "eu", alice.token).reads("photo")
        tell.never(
            page is None, "Origin 2 was given out again. Its first write is Bob's now, and covers Alice's token."
        )
        assert isinstance(page, GateError)

    rule = (
        "a registry that is a copy starts a new run of origins at random: what it has given out since, it cannot know."
    )
    without = patch.object(Registry, "_put_meta", counts_on)
    with patch(RANDOM_NUMBER, random.Random(1).randrange):
        told_of = told("A whole directory is put back", play, rule, without)
    recorded("origins/directory", told_of)


def test_a_directory_that_was_made_anew(recorded: Recorded) -> None:
    def always_the_same(below: int) -> int:
        return 0

    @on_disk(first_origin=None)
    def play(tell: Story, stage: DiskStage) -> None:
        stage.open("eu")
        alice = stage.visit("alice", "eu")
        alice.writes("photo", "new.jpg")
        stage.close()
        for path in stage.path.iterdir():
            path.unlink()
        stage.open("eu")
        tell("The directory is removed, and made anew. Alice still has her token.")
        stage.visit("bob", "eu").writes("title", "by bob")
        page = stage.visit("alice", "eu", alice.token).reads("photo")
        tell.never(page is None, "The new directory numbers as the old one did: Bob's write covers Alice's token.")
        assert isinstance(page, GateError)

    rule = (
        "a new directory starts its origins at random: a token of another one is of a history that is not known here."
    )
    without = patch(RANDOM_NUMBER, always_the_same)
    with patch(RANDOM_NUMBER, random.Random(2).randrange):
        told_of = told("A directory is made anew", play, rule, without)
    recorded("origins/made-anew", told_of)
