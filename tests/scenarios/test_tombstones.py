"""What is deleted stays deleted, and is forgotten one day; histories that end, end once and for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest

from causal import WriteLost
from causal.stores.sqlite.files.directory import Directory
from causal.stores.sqlite.files.registry import Members, Registry
from causal.stores.sqlite.files.shard import Rows
from causal.stores.sqlite.replication import collect, members
from tests.scenarios.disk_stage import DiskStage, on_disk
from tests.scenarios.stage import Visit
from tests.scenarios.story import Story, told

Recorded = Callable[[str, str], None]


def deletes(visit: Visit, key: str) -> None:
    """Let somebody delete a key."""
    with visit.session.write() as tx:
        tx.delete(key)
    visit.tell(f"{visit.who} at {visit.site} deletes {key}")


def test_what_is_deleted_does_not_come_back(recorded: Recorded) -> None:
    def has_the_delete(rows: Rows, known: Members, index: int) -> int:
        return max(stamp for _, _, _, _, stamp in rows)

    @on_disk("eu", "us", "ap")
    def play(tell: Story, stage: DiskStage) -> None:
        stage.visit("alice", "eu").writes("photo", "old.jpg")
        stage.step()
        stage.engines["eu"].cut_off("ap")
        tell("ap is cut off.")
        stage.visit("bob", "ap").writes("photo", "retouched.jpg")
        stage.pass_s(1)
        deletes(stage.visit("alice", "eu"), "photo")
        stage.pass_s(1)
        for who, site in (("alice", "eu"), ("dave", "us")):
            stage.visit(who, site).writes(who, "was here")
        stage.engines["eu"].rejoin("ap")
        stage.link("ap").catch_up("ap")
        tell(
            "ap is back, and hears of the delete first: every site has it now. Bob's photo, older than that, is to come."
        )
        stage.visit("bob", "ap").writes("bob", "was here")
        for site in ("eu", "us"):
            stage.link(site).collect()
        stage.step()
        pages = [stage.visit("carol", site).reads("photo") for site in ("eu", "us", "ap")]
        tell.never(
            pages == ["retouched.jpg", "retouched.jpg", None],
            "eu and us had forgotten that the photo was deleted. It is back there, for good, and ap differs from them.",
        )
        assert pages == [None, None, None]
        stage.collect()
        tell(f"When no older write can come any more, it is forgotten. eu keeps {sorted(stage.keys('eu'))}.")
        assert "photo" not in stage.keys("eu") | stage.keys("us") | stage.keys("ap")

    rule = (
        "that a key was deleted is kept until every site is past the delete on every live origin, not only on its own."
    )
    without = patch.object(collect, "_past", has_the_delete)
    recorded("tombstones/comes-back", told("What is deleted does not come back", play, rule, without))


def test_what_is_deleted_is_forgotten_one_day(recorded: Recorded) -> None:
    def silent(*_: object) -> None:
        """Log nothing for others."""

    @on_disk("eu", "us")
    def play(tell: Story, stage: DiskStage) -> None:
        alice = stage.visit("alice", "eu")
        alice.writes("photo", "old.jpg")
        deletes(alice, "photo")
        tell("us takes writes too, but nobody writes there. Years pass; each site has all there is.")
        stage.step()
        stage.collect(rounds=100)
        tell.never("photo" in stage.keys("eu"), "eu still keeps what was deleted, in case us brings an older write.")
        tell(f"eu keeps {sorted(stage.keys('eu')) or 'nothing'}.")

    rule = (
        "a site that is idle logs an entry without keys when a delete waits for it: nothing older will come from there."
    )
    without = patch.object(collect, "_send_heartbeat", silent)
    recorded("tombstones/idle", told("What is deleted is forgotten one day", play, rule, without))


@pytest.mark.spec("L-2")
def test_a_history_ends_at_what_the_most_advanced_holds(recorded: Recorded) -> None:
    @contextmanager
    def at_what_who_decides_holds() -> Iterator[None]:
        def decide(directory: Directory, here: str) -> None:
            for (index, origin), it in directory.members().origins.items():
                if not it.live and it.end is None:
                    rows = directory.file(here, index).rows()
                    directory.registry.set_end(index, origin, next(row[1] for row in rows if row[0] == origin))
            members.announce(directory, here)

        with patch.object(members, "decide_ends", decide), patch("causal.stores.sqlite.link.decide_ends", decide):
            yield

    @on_disk("eu", "ap", "sa", "us")
    def play(tell: Story, stage: DiskStage) -> None:
        alice = stage.visit("alice", "eu")
        alice.writes("photo", "old.jpg")
        stage.step()
        alice.writes("photo", "new.jpg")
        stage.step("us")
        stage.engines["eu"].cut_off("eu")
        stage.stores.pop("eu").close()
        tell("us has both writes, ap and sa the first of them. eu is lost for good. ap takes it out of the directory.")
        stage.engines["ap"].leave("eu")
        stage.step()
        page = stage.visit("alice", "us", alice.token).reads("photo")
        tell.never(
            isinstance(page, WriteLost),
            "Origin 1 was ended at what ap has of it. us has Alice's photo, and may not say so.",
        )
        assert page == "new.jpg"
        assert stage.visit("bob", "ap").reads("photo") == "new.jpg"

    rule = "an origin ends at what the most advanced of all members holds, after that has been handed on."
    title = "A history ends at what the most advanced holds"
    recorded("tombstones/most-advanced", told(title, play, rule, at_what_who_decides_holds()))


@pytest.mark.spec("L-4")
def test_who_returns_gets_another_name(recorded: Recorded) -> None:
    new_origin = Registry.new_origin

    def its_old_one(self: Registry, site: str, index: int) -> int:
        had = [o for (shard, o), it in self.members().origins.items() if shard == index and it.site == site]
        if not had:
            return new_origin(self, site, index)
        self._write(("UPDATE origin SET live = 1 WHERE shard = ? AND origin = ?", (index, had[0])))
        return had[0]

    def not_recorded(self: Registry, index: int, origin: int, end: int) -> None:
        """Let it go on for ever."""

    @contextmanager
    def as_if_it_had_never_left() -> Iterator[None]:
        with patch.object(Registry, "set_end", not_recorded), patch.object(Registry, "new_origin", its_old_one):
            yield

    @on_disk("eu", "us")
    def play(tell: Story, stage: DiskStage) -> None:
        alice = stage.visit("alice", "eu")
        alice.writes("photo", "old.jpg")
        stage.step()
        stage.engines["us"].cut_off("eu")
        alice.writes("photo", "new.jpg")
        stage.engines["us"].leave("eu")
        stage.close()
        for path in stage.path.glob("eu.sqlite*"):
            path.unlink()
        tell("eu is cut off with the second write, and us takes it out of the directory. Then eu's disk is lost.")
        stage.engines["us"].rejoin("eu")
        stage.open("us", "eu")
        tell("eu returns with a new disk, and copies what us has.")
        bob = stage.visit("bob", "eu")
        bob.writes("title", "by bob")
        stage.step()
        page = stage.visit("alice", "eu", alice.token).reads("photo")
        tell.never(
            page == "old.jpg", "Origin 1 just goes on: 0/1@2 is Bob's now, covers Alice's token, and hides her loss."
        )
        assert isinstance(page, WriteLost)
        assert stage.visit("bob", "us", bob.token).reads("title") == "by bob"

    rule = "a history that was left ends, once and for ever; who returns writes under a new origin."
    recorded("tombstones/returns", told("Who returns gets another name", play, rule, as_if_it_had_never_left()))
