"""Sites that join, leave and return; copies that are put back; what is collected and when."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from causal.core.frontier import Frontier
from causal.core.position import Position
from causal.core.watermark import Verdict
from causal.errors import ConfigError, StoreError, Unreachable
from causal.stores.sqlite.files import schema
from causal.stores.sqlite.files.directory import Directory
from causal.stores.sqlite.files.registry import JOINING, LEFT, LIVE, Members
from causal.stores.sqlite.replication import rebuild, recover
from causal.stores.sqlite.replication.members import fence
from tests.stores.sqlite_world import World, frontier, world

__all__ = ["world"]


def names(world: World, site: str) -> list[str]:
    world.links[site].refresh()
    return [endpoint.name for endpoint in world.links[site].endpoints]


def logged(world: World, site: str) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    with world.links[site].directory.file(site, 0).snapshot() as db:
        for origin, offset in db.execute("SELECT origin, offset FROM log ORDER BY 1, 2"):
            found.setdefault(origin, []).append(offset)
    return found


def stored_keys(world: World, site: str) -> set[str]:
    """The keys in a site's file, those of tombstones included."""
    with world.links[site].directory.file(site, 0).snapshot() as db:
        return {key for (key,) in db.execute("SELECT key FROM data")}


# --- joining -----------------------------------------------------------------------------------------------------


def test_a_new_site_copies_everything_before_it_can_be_read(world: World) -> None:
    world.open("eu")
    mine = frontier(world.put("eu", "k", 1))
    world.delete("eu", "gone")
    world.open("us")
    assert world.look("us", "k") == (1, mine)
    assert stored_keys(world, "us") == {"k", "gone"}, "a tombstone is copied, too: an older write could still come"
    assert world.watermark("us").origins == {1: (2, None), 2: (0, None)}
    assert world.watermark("eu").origins == {1: (2, None), 2: (0, None)}, "eu knows of us's origin at once"
    assert names(world, "eu") == ["eu", "us"]


def test_a_site_that_cannot_copy_is_not_there(world: World) -> None:
    """Unreadable before it covers; and it holds up collection from the moment it is known."""
    world.open("eu")
    world.put("eu", "k", 1)
    world.engines["eu"].cut_off("eu")
    with pytest.raises(Unreachable, match="copy"):
        world.open("us")
    assert names(world, "eu") == ["eu"]
    assert world.links["eu"].directory.members().sites == {"eu": LIVE, "us": JOINING}
    world.links["eu"].collect()
    assert logged(world, "eu") == {1: [1]}
    world.engines["eu"].rejoin("eu")
    with pytest.raises(Unreachable):
        world.links["eu"].read("us", (0,))
    world.open("us")
    assert world.get("us", "k") == 1
    world.links["eu"].collect()
    assert logged(world, "eu") == {}


def test_a_join_that_was_interrupted_is_finished(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.open("eu")
    world.put("eu", "k", 1)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rebuild, "merge", interrupted)
    with pytest.raises(KeyboardInterrupt):
        world.open("us")
    monkeypatch.undo()
    with pytest.raises(Unreachable):
        world.links["eu"].read("us", (0,))
    world.open("us")
    assert world.get("us", "k") == 1


def test_a_file_that_is_being_rebuilt_serves_nobody(world: World) -> None:
    world.open("eu", "us")
    with world.links["us"].directory.file("us", 0).writing() as db:
        rebuild.begin_rebuilding(db)
    for use in (
        lambda: world.get("us", "k"),
        lambda: world.put("us", "k", 1),
        lambda: world.watermark("us"),
        lambda: world.watermark("eu", at="us"),
    ):
        with pytest.raises(Unreachable, match="rebuilt"):
            use()


def test_a_joining_site_takes_the_most_advanced_members_copy(world: World) -> None:
    world.open("eu", "us")
    world.put("eu", "k", 1)
    world.open("asia")
    assert world.get("asia", "k") == 1
    assert world.get("us", "k") is None


# --- leaving and returning -----------------------------------------------------------------------------------------


def test_a_site_that_leaves_gives_others_its_writes_first(world: World) -> None:
    world.open("eu", "us", "asia", lag_s=10)
    mine = frontier(world.put("eu", "k", 1))
    world.engines["us"].leave("eu")
    assert names(world, "us") == ["us", "asia"]
    for site in ("us", "asia"):
        assert world.get(site, "k") == 1
        assert world.watermark(site).origins[1] == (1, 1)
        assert world.watermark(site).judge(mine).verdict is Verdict.APPLIED
    with pytest.raises(Unreachable, match="left"):
        world.put("eu", "k", 2)
    with pytest.raises(Unreachable):
        world.links["us"].read("eu", (0,))


def test_what_only_a_lost_site_held_is_lost_and_said_so(world: World) -> None:
    world.open("eu", "us", "asia")
    world.put("eu", "k", 1)
    world.step("us")
    world.engines["us"].cut_off("eu")
    lost = frontier(world.put("eu", "k", 2))
    world.engines["us"].leave("eu")
    for site in ("us", "asia"):  # us held the most; whoever decides the end holds it, too
        assert world.watermark(site).origins[1] == (1, 1)
        assert world.get(site, "k") == 1
        assert world.watermark(site).judge(lost).verdict is Verdict.LOST
    # eu does not know yet, and goes on; when it hears of it, it shows that its history is a lost one.
    assert world.put("eu", "k", 3).position == Position(0, 1, 3)
    assert world.watermark("eu").judge(lost).verdict is Verdict.APPLIED
    world.engines["us"].rejoin("eu")
    world.step("eu")
    assert world.watermark("eu").diverged
    with pytest.raises(Unreachable, match="left"):
        world.put("eu", "k", 4)


def test_a_site_leads_no_origin_that_has_ended(world: World) -> None:
    world.open("eu", "us")
    with world.links["eu"].directory.file("eu", 0).writing() as db:
        db.execute('UPDATE watermark SET "end" = 0 WHERE origin = 1')
    assert world.watermark("eu").leads == frozenset()
    with pytest.raises(Unreachable, match="left"):
        world.put("eu", "k", 1)


def test_an_origin_ends_at_what_the_most_advanced_member_holds(world: World) -> None:
    """Even where whoever decides cannot get there yet: here a write waits for one that is ended by the same decision."""
    world.open("c-eu", "d-us")
    world.engines["c-eu"].cut_off("d-us")
    lost = frontier(world.put("d-us", "k", 1))
    late = frontier(world.put("c-eu", "after", 1, deps=lost))
    world.open("b-joiner")  # copies the state of c-eu, where the write was taken without its cause
    world.open("a-decider", lag_s=9)
    with world.links["a-decider"].directory.file("a-decider", 0).writing() as db:
        db.execute("DELETE FROM data")  # as if it had joined before that write
        db.execute("DELETE FROM log")
        db.execute("UPDATE watermark SET applied = 0, stamp = 0 WHERE origin = 1")
    decider = world.engines["a-decider"]
    decider.leave("c-eu")
    assert world.watermark("a-decider").judge(late).verdict is Verdict.BEHIND
    decider.leave("d-us")
    assert world.watermark("b-joiner").origins[1] == (1, 1)
    assert world.watermark("b-joiner").judge(lost).verdict is Verdict.LOST
    world.pass_s(10)
    world.step("a-decider")
    assert world.everything("a-decider") == world.everything("b-joiner") == {"after": 1}


def test_a_write_that_depends_on_a_lost_one_is_applied(world: World) -> None:
    """One lost write must not hold up everyone who saw it."""
    world.open("eu", "us", "asia")
    world.engines["us"].cut_off("eu")
    lost = frontier(world.put("eu", "k", 2))
    world.put("us", "after", 1, deps=lost)
    assert world.step("asia") == 0
    world.engines["us"].leave("eu")
    assert world.step("asia") == 1
    assert world.get("asia", "after") == 1


def test_who_returns_gets_a_new_origin_and_none_of_what_was_lost(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.open("eu", "us")
    world.put("eu", "k", "kept")
    world.step("us")
    world.engines["us"].cut_off("eu")
    lost = frontier(world.put("eu", "k", "lost"))
    world.put("eu", "only here", 1)
    world.engines["us"].leave("eu")
    world.put("us", "new", 1)
    world.close("eu")
    world.engines["us"].rejoin("eu")
    with caplog.at_level(logging.WARNING, "causal"):
        world.open("eu")
    assert "kept in" in caplog.text
    assert len(list(world.path.glob("eu.lost-*"))) == 1
    assert world.everything("eu") == {"k": "kept", "new": 1}
    mark = world.watermark("eu")
    assert mark.judge(lost).verdict is Verdict.LOST
    assert mark.leads == {3}
    assert world.put("eu", "k", "again").position == Position(0, 3, 1)
    world.settle()
    assert world.everything("us") == {"k": "again", "new": 1}


def test_the_last_site_cannot_leave(world: World) -> None:
    world.open("eu")
    with pytest.raises(ConfigError):
        world.engines["eu"].leave("eu")
    with pytest.raises(ConfigError):
        world.engines["eu"].leave("nowhere")


def test_an_end_is_decided_only_when_all_live_members_can_be_asked(world: World) -> None:
    world.open("eu", "us", "asia")
    mine = frontier(world.put("eu", "k", 1))
    world.step("asia")
    world.engines["us"].cut_off("asia")  # it holds eu's write, but cannot be asked
    world.engines["us"].cut_off("eu")
    world.engines["us"].leave("eu")
    world.step("us")
    assert world.watermark("us").judge(mine).verdict is Verdict.BEHIND, "in doubt: never applied, never lost"
    world.engines["us"].rejoin("asia")
    world.step("us")
    assert world.watermark("us").origins[1] == (1, 1)
    assert world.watermark("us").judge(mine).verdict is Verdict.APPLIED
    assert world.get("us", "k") == 1


# --- histories that forget --------------------------------------------------------------------------------------------


def crash(world: World, site: str) -> None:
    """End a process without closing its link: the locks die, nothing else is done."""
    link = world.links.pop(site)
    link.directory.release(lambda _: None)


def test_kill_9_with_full_durability_goes_on_under_the_same_origin(world: World) -> None:
    world.open("eu")
    world.put("eu", "k", 1)
    crash(world, "eu")
    world.open("eu")
    assert world.put("eu", "k", 2).position == Position(0, 1, 2)


def test_relaxed_durability_and_an_unclean_stop_start_a_new_origin(world: World) -> None:
    world.open("eu", durability="relaxed")
    mine = frontier(world.put("eu", "k", 1))
    mark_before = world.watermark("eu")
    crash(world, "eu")
    world.open("eu", durability="relaxed")
    mark = world.watermark("eu")
    assert mark.incarnation != mark_before.incarnation, "what was known of the old life says nothing of the new one"
    assert mark.origins == {1: (1, 1), 2: (0, None)}
    assert mark.judge(mine).verdict is Verdict.APPLIED
    assert mark.judge(Frontier([Position(0, 1, 2)])).verdict is Verdict.LOST
    assert world.put("eu", "k", 2).position == Position(0, 2, 1)
    assert world.get("eu", "k") == 2


def test_relaxed_durability_is_noted_again_when_the_site_returns(world: World) -> None:
    """What a process noted once is forgotten when its site leaves and comes back while it runs."""
    world.open("eu", "us", durability="relaxed")
    world.put("eu", "k", 1)
    world.engines["us"].leave("eu")
    world.engine("eu").open().close()
    world.put("eu", "k", 2)
    record = world.links["eu"].directory.registry.file("eu", 0)
    assert record is not None
    assert record.relaxed


def test_relaxed_durability_and_a_clean_stop_go_on(world: World) -> None:
    world.open("eu", durability="relaxed")
    world.put("eu", "k", 1)
    world.close("eu")
    world.open("eu", durability="relaxed")
    assert world.put("eu", "k", 2).position == Position(0, 1, 2)


def test_what_others_hold_of_a_forgotten_history_survives(world: World) -> None:
    """Two writes acknowledged, one replicated, both forgotten by the disk: the first survives, the second is lost."""
    world.open("eu", "us", durability="relaxed")
    world.put("eu", "a", 1)
    world.close()
    shutil.copytree(world.path, world.path / "copy")
    world.open("eu", "us", durability="relaxed")
    world.put("eu", "b", 2)
    world.step("us")
    lost = frontier(world.put("eu", "c", 3))
    crash(world, "eu")
    crash(world, "us")
    put_back(world, "eu.sqlite")
    world.open("eu")
    world.open("us")
    for site in ("eu", "us"):
        world.step(site)
        assert world.everything(site) == {"a": 1, "b": 2}
        assert world.watermark(site).judge(Frontier([Position(0, 1, 2)])).verdict is Verdict.APPLIED
        assert world.watermark(site).judge(lost).verdict is Verdict.LOST
    assert world.put("eu", "c", 4).position == Position(0, 3, 1)


def put_back(world: World, *files: str) -> None:
    """Restore files from the copy, as a person would: the old ones away, with their -wal, then the copies in their place."""
    for name in files:
        for old in (name, f"{name}-wal", f"{name}-shm"):
            (world.path / old).unlink(missing_ok=True)
        for new in (name, f"{name}-wal"):
            if (world.path / "copy" / new).exists():
                shutil.copy(world.path / "copy" / new, world.path / new)


def copied(world: World) -> None:
    """Copy the directory while nothing has it open."""
    world.close()
    shutil.copytree(world.path, world.path / "copy", dirs_exist_ok=True)


def test_an_old_copy_of_a_file_is_noticed(world: World) -> None:
    world.open("eu")
    world.put("eu", "k", 1)
    copied(world)
    world.open("eu")
    forgotten = frontier(world.put("eu", "k", 2))
    world.close()
    put_back(world, "eu.sqlite")
    world.open("eu")
    mark = world.watermark("eu")
    assert mark.origins == {1: (1, 1), 2: (0, None)}
    assert mark.judge(forgotten).verdict is Verdict.LOST
    assert world.put("eu", "k", 3).position == Position(0, 2, 1)


def test_an_old_copy_gets_from_others_what_their_logs_no_longer_hold(world: World) -> None:
    world.open("eu", "us")
    world.put("eu", "old", 1)
    world.put("us", "theirs", 1)
    world.put("us", "deleted", 1)
    world.settle()
    copied(world)
    world.open("eu", "us")
    for n in range(3):
        world.put("eu", f"eu{n}", n)
        world.put("us", f"us{n}", n)
    world.delete("us", "deleted")
    world.settle()
    for _ in range(3):
        for site in ("eu", "us"):
            world.links[site].collect()
        world.settle()
    assert logged(world, "us").get(1) is None
    assert "deleted" not in stored_keys(world, "us")
    world.close()
    put_back(world, "eu.sqlite")
    world.open("eu", "us")
    world.settle()
    assert world.everything("eu") == world.everything("us")
    assert "deleted" not in stored_keys(world, "eu")
    assert world.watermark("eu").leads == {3}
    world.put("eu", "k", 1)
    world.put("us", "l", 1)
    world.settle()
    assert world.everything("eu") == world.everything("us")


def test_a_site_that_has_forgotten_finds_out_from_others_at_the_latest(world: World) -> None:
    """Nothing of its own showed it when it opened, and nobody could be asked."""
    world.open("eu", "us")
    world.put("eu", "a", 1)
    world.put("eu", "b", 2)
    world.step("us")
    with world.links["eu"].directory.file("eu", 0).writing() as db:  # as an older copy in place would have it
        db.execute("UPDATE watermark SET applied = 1, stamp = 0 WHERE origin = 1")
        db.execute("DELETE FROM log WHERE offset > 1")
        db.execute("DELETE FROM data WHERE key = 'b'")
    assert world.step("eu") == 0
    assert world.watermark("eu").leads == {3}
    world.step("eu")
    assert world.everything("eu") == {"a": 1, "b": 2}
    assert world.watermark("us").origins[1] == world.watermark("eu").origins[1] == (2, 2)
    assert world.put("eu", "c", 3).position == Position(0, 3, 1)


def test_a_lost_file_is_copied_from_another_site(world: World) -> None:
    world.open("eu", "us")
    kept = frontier(world.put("eu", "k", 1))
    world.settle()
    lost = frontier(world.put("eu", "l", 2))
    world.close()
    for path in world.path.glob("eu.sqlite*"):
        path.unlink()
    world.open("eu")
    assert world.everything("eu") == {"k": 1}
    assert world.watermark("eu").judge(kept).verdict is Verdict.APPLIED
    assert world.watermark("eu").judge(lost).verdict is Verdict.LOST
    assert world.put("eu", "k", 2).position == Position(0, 3, 1)


def test_a_restored_directory_gives_no_origin_out_twice(world: World) -> None:
    world.open("eu")
    world.put("eu", "k", 1)
    copied(world)
    world.open("eu", durability="relaxed")
    world.put("eu", "k", 1)
    crash(world, "eu")
    world.open("eu")
    second = world.put("eu", "k", 2).position
    assert second == Position(0, 2, 1)
    world.close()
    put_back(world, "eu.sqlite", "cluster.sqlite")
    world.open("eu")
    mark = world.watermark("eu")
    assert mark.judge(Frontier([second])).verdict is Verdict.UNKNOWN, "origin 2 is of a history that was undone"
    assert 2 not in mark.origins
    third = world.put("eu", "k", 3).position
    assert third is not None
    assert third.origin not in {1, 2}


def test_a_restored_registry_takes_in_what_files_know(world: World) -> None:
    world.open("eu")
    copied(world)
    world.open("eu", durability="relaxed")
    world.put("eu", "k", 1)
    crash(world, "eu")
    world.open("eu")
    mine = frontier(world.put("eu", "k", 2))
    world.close()
    put_back(world, "cluster.sqlite")
    world.open("eu")
    mark = world.watermark("eu")
    assert mark.judge(mine).verdict is Verdict.APPLIED
    assert all(end is not None for origin, (_, end) in mark.origins.items() if origin not in mark.leads)


def test_an_end_that_a_file_knows_is_not_unlearned(world: World) -> None:
    """From a registry that was restored, and does not know it any more."""
    world.open("eu", "us")
    directory = world.links["eu"].directory
    with directory.file("eu", 0).writing() as db:
        db.execute('UPDATE watermark SET "end" = 3 WHERE origin = 2')
        recover.learn(db, directory.members(), 0)
    assert world.watermark("eu").origins[2] == (0, 3)


def test_a_file_that_is_replaced_while_it_is_open_takes_no_writes(world: World) -> None:
    world.open("eu")
    world.put("eu", "k", 1)
    path = world.path / "eu.sqlite"
    path.rename(world.path / "away.sqlite")
    with pytest.raises(StoreError, match="gone"):
        world.put("eu", "k", 2)
    path.write_bytes(b"")
    with pytest.raises(StoreError, match="replaced"):
        world.put("eu", "k", 2)
    path.unlink()
    (world.path / "away.sqlite").rename(path)
    assert world.put("eu", "k", 2).position == Position(0, 1, 2)


def test_a_file_of_another_site_or_directory_is_refused(world: World, tmp_path: Path) -> None:
    world.open("eu", "us")
    world.put("eu", "k", 1)
    world.settle()
    world.close()
    shutil.copy(world.path / "us.sqlite", world.path / "eu.sqlite")
    with pytest.raises(StoreError, match="belongs to site 'us'"):
        world.open("eu")


# --- collection ----------------------------------------------------------------------------------------------------


def test_log_entries_go_when_every_member_has_applied_them(world: World) -> None:
    world.open("eu", "us", "asia")
    for n in range(3):
        world.put("eu", "k", n)
    world.step("us")
    world.links["eu"].collect()
    assert logged(world, "eu") == {1: [1, 2, 3]}
    world.step("asia")
    for site in ("eu", "us"):
        world.links[site].collect()
        assert logged(world, site) == {}
    world.put("eu", "k", 9)
    world.settle()
    assert world.get("asia", "k") == 9


def test_a_member_out_of_reach_stops_collection(world: World) -> None:
    world.open("eu", "us")
    world.put("eu", "k", 1)
    world.settle()
    world.engines["eu"].cut_off("us")
    world.links["eu"].collect()
    assert logged(world, "eu") == {1: [1]}


def test_tombstones_go_when_nothing_older_can_arrive(world: World) -> None:
    """Asia's older put is unshipped while everyone has applied the delete. It must not come back."""
    world.open("eu", "us", "asia")
    world.put("eu", "k", "first")
    world.settle()
    world.engines["eu"].cut_off("asia")
    world.put("asia", "k", "older")
    world.pass_s(1)
    world.delete("eu", "k")
    world.step("us")
    world.engines["eu"].rejoin("asia")
    world.links["asia"].catch_up("asia")
    for _ in range(3):  # everyone holds the delete, but asia's put is still on its way to eu and us
        world.links["eu"].collect()
        world.links["us"].collect()
    assert "k" in stored_keys(world, "eu")
    assert "k" in stored_keys(world, "us")
    world.settle()
    for _ in range(3):
        for site in ("eu", "us", "asia"):
            world.links[site].collect()
        world.settle()
    for site in ("eu", "us", "asia"):
        assert stored_keys(world, site) == set()
        assert world.get(site, "k") is None


def test_the_thread_keeps_a_tombstone_for_as_long_as_caches_may_show_what_was_deleted(world: World) -> None:
    world.open("eu", "us")
    world.put("eu", "k", 1)
    world.settle()
    world.delete("eu", "k")
    world.put("us", "other", 1)
    world.settle()
    link = world.links["eu"]
    link._eager = False  # as with a thread
    for second in (1.0, 957.0):
        world.pass_s(second)
        link._collect_at = 0.0
        link.step()
        world.settle()
        assert "k" in stored_keys(world, "eu")
        assert world.look("eu", "k")[1]  # that it is gone is news
    world.pass_s(3.0)
    link._collect_at = 0.0
    link.step()
    assert "k" not in stored_keys(world, "eu")


def test_one_member_that_is_not_past_a_tombstone_keeps_it_everywhere(world: World) -> None:
    """Asia is past the delete on every origin, eu and us are not past it on asia's."""
    world.open("eu", "us", "asia")
    world.engines["eu"].cut_off("asia")
    world.put("asia", "k", "older")
    world.pass_s(1)
    world.delete("eu", "k")
    world.step("us")
    world.pass_s(1)
    for site in ("eu", "us"):
        world.put(site, site, 1)
    world.engines["eu"].rejoin("asia")
    world.links["asia"].catch_up("asia")
    world.put("asia", "asia", 1)
    for site in ("eu", "us", "asia"):
        assert world.links[site].collect() == 0
    world.settle()
    assert {world.get(site, "k") for site in ("eu", "us", "asia")} == {None}
    assert [world.links[site].collect() for site in ("eu", "us", "asia")] == [1, 1, 1]


def test_idle_origins_send_heartbeats_while_tombstones_wait_and_only_then(world: World) -> None:
    world.open("eu", "us")
    world.put("eu", "k", 1)
    world.settle()
    for site in ("eu", "us"):
        world.links[site].collect()
    assert world.watermark("us").origins[2] == (0, None)
    world.delete("eu", "k")
    world.settle()
    assert world.links["us"].collect() == 0
    assert world.watermark("us").origins[2] == (1, None), "us has written nothing, but says how far its stamps are"
    world.settle()
    assert world.links["eu"].collect() == 1
    assert world.links["us"].collect() == 1
    for _ in range(3):
        for site in ("eu", "us"):
            world.links[site].collect()
        world.settle()
    assert world.watermark("us").origins == {1: (2, None), 2: (1, None)}


def test_an_ended_origin_does_not_hold_up_tombstones(world: World) -> None:
    world.open("eu", "us", "asia")
    world.put("asia", "k", 1)
    world.settle()
    world.engines["eu"].leave("asia")
    world.pass_s(1)
    world.delete("eu", "k")
    for _ in range(3):
        world.settle()
        for site in ("eu", "us"):
            world.links[site].collect()
    assert stored_keys(world, "eu") == stored_keys(world, "us") == set()


def test_a_site_that_could_not_be_taken_out_takes_writes_as_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of its shards is locked by a long write block, and so only the other one was fenced."""
    monkeypatch.setattr(schema, "BUSY_S", 0.01)
    world.open("eu", "us", shards=("main", "other"))
    handle = world.links["us"].write("us", 1, Frontier())
    with pytest.raises(Unreachable, match="locked"):
        world.engines["eu"].leave("us")
    handle.rollback()
    assert names(world, "eu") == ["eu", "us"]
    for shard in (0, 1):
        assert world.put("us", "k", 1, shard=shard).position == Position(shard, 2, 1)


def test_a_site_numbers_its_origins_again_when_who_took_it_out_has_died(world: World) -> None:
    world.open("eu", "us")
    world.put("us", "k", 1)
    file = world.links["eu"].directory.file("us", 0)
    with file.writing() as db:
        db.execute("UPDATE watermark SET mine = 0")
    world.step("us")
    assert world.put("us", "k", 2).position == Position(0, 2, 2)


def test_a_site_that_left_is_not_emptied_before_it_can_hand_over_what_is_in_doubt(world: World) -> None:
    """It is opened again while it is still cut off: that is refused, and must cost nothing."""
    world.open("eu", "us", "asia")
    for site in ("eu", "asia"):
        world.engines["us"].cut_off(site)
    world.put("eu", "k", 1)
    world.engines["us"].leave("eu")
    world.close("eu")
    with pytest.raises(Unreachable, match="cannot reach"):
        world.open("eu")
    for site in ("eu", "asia"):
        world.engines["us"].rejoin(site)
    world.open("eu")
    world.settle()
    assert [world.get(site, "k") for site in ("eu", "us", "asia")] == [1, 1, 1]


def test_who_returns_hands_over_what_is_still_in_doubt(world: World) -> None:
    world.open("eu", "us", "asia")
    for site in ("eu", "asia"):
        world.engines["us"].cut_off(site)
    mine = frontier(world.put("eu", "k", 1))
    world.engines["us"].leave("eu")
    assert world.watermark("us").judge(mine).verdict is Verdict.BEHIND
    world.close("eu")
    world.engines["us"].rejoin("eu")
    world.open("eu")
    assert world.everything("us") == world.everything("eu") == {"k": 1}
    assert world.watermark("us").judge(mine).verdict is Verdict.APPLIED


def test_states_of_sites(world: World) -> None:
    world.open("eu", "us")
    world.engines["eu"].leave("us")
    assert world.links["eu"].directory.members().sites == {"eu": LIVE, "us": LEFT}


# --- what happens in between ------------------------------------------------------------------------------------------


def test_a_rebuild_that_failed_is_finished_by_whoever_replicates(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy was merged, so nothing is lacking any more; only the sign that it is not finished still stands."""
    world.open("eu", "us")
    for n in range(3):
        world.put("eu", f"k{n}", n)
        world.step("us")
    monkeypatch.setattr(rebuild, "replicate", lambda *_: (_ for _ in ()).throw(Unreachable("cut off meanwhile")))
    with pytest.raises(Unreachable, match="cut off meanwhile"):
        rebuild.restart(world.links["us"].directory, "us")
    monkeypatch.undo()
    with pytest.raises(Unreachable, match="being rebuilt"):
        world.get("us", "k0")
    world.step("us")
    assert world.everything("us") == {"k0": 0, "k1": 1, "k2": 2}


def test_who_is_fenced_is_not_fenced_again_after_it_has_returned(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process hears that its site has left; before it acts on that, the site is back, under a new origin that takes writes."""
    world.open("eu", "us")
    world.engines["eu"].cut_off("us")
    world.engines["eu"].leave("us")
    world.engines["eu"].rejoin("us")
    directory = world.links["us"].directory
    left = directory.members()
    assert left.sites["us"] == LEFT
    answers = list[Members]()
    monkeypatch.setattr(directory, "members", lambda: answers.pop() if answers else Directory.members(directory))
    before = world.links.pop("us")
    try:
        world.open("us")
        answers.append(left)
        fence(directory, "us")
        assert world.put("us", "k", 1).position is not None
    finally:
        before.close()


def test_a_site_that_joins_halfway_does_not_keep_the_others_tombstones(world: World) -> None:
    """Asia copies eu, which has collected, and has no tombstone that would make it say how far its stamps are: us waits for that."""
    world.open("eu", "us")
    world.delete("eu", "k")
    world.settle()
    world.links["us"].collect()
    world.settle()
    assert world.links["eu"].collect() == 1
    world.open("asia")
    assert (stored_keys(world, "asia"), stored_keys(world, "us")) == (set(), {"k"})
    for _ in range(3):
        for site in ("eu", "us", "asia"):
            world.links[site].collect()
        world.settle()
    assert stored_keys(world, "us") == set()
