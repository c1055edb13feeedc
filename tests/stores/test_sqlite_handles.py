"""Reads and writes of one site: snapshots, what they show, offsets, stamps, dependencies, errors."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from typing import Any

import pytest

from causal.core.frontier import Frontier
from causal.core.position import Position
from causal.core.watermark import Verdict
from causal.errors import ConfigError, StoreError, Unreachable
from causal.stores.sqlite import SQLiteEngine
from causal.stores.sqlite.blocks import reading, writing
from tests.stores.sqlite_world import World, frontier, world

__all__ = ["world"]


@pytest.fixture
def eu(world: World) -> World:
    world.open("eu")
    return world


def test_what_is_written_is_read(eu: World) -> None:
    value = {"a": [1, 2.5, None, True, b"x", "ü"], "nested": {"k": {}}}
    commit = eu.put("eu", "k", value)
    assert commit.position == Position(0, 1, 1)
    assert eu.look("eu", "k") == (value, Frontier([Position(0, 1, 1)]))
    assert eu.get("eu", "other") is None


def test_offsets_are_dense_and_an_empty_block_takes_none(eu: World) -> None:
    assert [eu.put("eu", "k", n).position for n in range(3)] == [Position(0, 1, n) for n in (1, 2, 3)]
    empty = eu.links["eu"].write("eu", 0, Frontier())
    assert empty.connection.get("k") == 2
    assert empty.commit(Frontier()).position is None
    assert eu.put("eu", "k", 9).position == Position(0, 1, 4)


def test_a_rolled_back_block_leaves_nothing(eu: World) -> None:
    handle = eu.links["eu"].write("eu", 0, Frontier())
    handle.connection.put("k", 1)
    handle.rollback()
    handle.rollback()
    assert eu.get("eu", "k") is None
    assert eu.put("eu", "k", 2).position == Position(0, 1, 1)


def test_a_write_block_reads_its_own_writes(eu: World) -> None:
    for key in ("a1", "a2", "a4", "b"):
        eu.put("eu", key, key)
    handle = eu.links["eu"].write("eu", 0, Frontier())
    tx = handle.connection
    tx.put("a3", "new")
    tx.put("a4", "changed")
    tx.delete("a1")
    assert (tx.get("a1"), tx.get("a1", 7), tx.get("a3"), tx.get("a2")) == (None, 7, "new", "a2")
    assert list(tx.scan("a")) == [("a2", "a2"), ("a3", "new"), ("a4", "changed")]
    handle.rollback()
    assert [k for k, _ in eu.everything("eu").items()] == ["a1", "a2", "a4", "b"]


def test_a_snapshot_stays_as_it_was_with_its_watermark(eu: World) -> None:
    eu.put("eu", "k", "old")
    handle = eu.links["eu"].read("eu", (0,))
    eu.put("eu", "k", "new")
    assert handle.watermarks[0].origins[1] == (1, None)
    assert handle.connection.get("k") == "old"
    assert list(handle.connection.scan()) == [("k", "old")]
    handle.close()
    assert eu.watermark("eu").origins[1] == (2, None)
    assert eu.get("eu", "k") == "new"


class Meddled(sqlite3.Cursor):
    """A cursor that lets someone else commit after every statement."""

    meddle: Callable[[], object]

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:  # type: ignore[override]
        rows = super().execute(sql, *values).fetchall()
        if sql != "COMMIT":
            self.meddle()
        return Answered(rows)  # type: ignore[return-value]


class Answered:
    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def fetchall(self) -> list[Any]:
        return self.rows

    def fetchone(self) -> Any:
        return self.rows[0] if self.rows else None


def test_the_watermark_is_of_the_very_state_that_is_shown(eu: World) -> None:
    """Someone commits after every single statement of the read: what it says to hold is still exactly what it shows."""
    file = eu.links["eu"].directory.file("eu", 0)

    def count() -> None:
        handle = eu.links["eu"].write("eu", 0, Frontier())
        handle.connection.put("count", handle.connection.get("count", 0) + 1)
        handle.commit(Frontier())

    count()
    ordinary = file.borrow()
    cursor = ordinary.connection.cursor(Meddled)
    cursor.meddle = count
    file._idle.append(cursor)
    handle = eu.links["eu"].read("eu", (0,))
    shown = handle.connection.get("count")
    assert handle.watermarks[0].origins[1] == (shown, None)
    assert handle.seen() == Frontier([Position(0, 1, shown)])
    handle.close()
    assert eu.get("eu", "count") > shown


def test_what_is_remembered_of_a_moment_is_of_that_moment(eu: World) -> None:
    """A probe remembers a watermark by the number of its moment, and an older snapshot may still have that number."""
    file = eu.links["eu"].directory.file("eu", 0)
    eu.put("eu", "k", 1)
    older = file.borrow()
    older.execute("BEGIN")
    older.execute("SELECT * FROM data").fetchall()
    cursor = file.borrow().connection.cursor(Meddled)
    cursor.meddle = lambda: eu.put("eu", "k", 2)
    file._idle.append(cursor)
    file.now()
    assert file.watermarks(older)[0].origins[1] == (1, None)
    older.execute("COMMIT")
    file.give_back(older)


def test_a_transaction_that_was_rolled_back_leaves_nothing_remembered(eu: World) -> None:
    """Its moment had a number, which the next commit gets."""
    eu.put("eu", "k", 1)
    file = eu.links["eu"].directory.file("eu", 0)
    connection = file.begin_write()
    connection.execute("UPDATE watermark SET applied = 77")
    file.end_write(connection)
    handle = eu.links["eu"].write("eu", 0, Frontier())
    handle.connection.put("k", 2)
    handle.rollback()
    eu.put("eu", "k", 2)
    reading = eu.links["eu"].read("eu", (0,))
    assert reading.watermarks[0].origins[1] == (2, None)
    reading.close()


def test_an_abandoned_scan_does_not_keep_its_snapshot(eu: World) -> None:
    for n in range(1000):
        eu.put("eu", f"k{n:04}", n) if n == 0 else None
    big = eu.links["eu"].write("eu", 0, Frontier())
    for n in range(1000):
        big.connection.put(f"k{n:04}", n)
    big.commit(Frontier())
    handle = eu.links["eu"].read("eu", (0,))
    scan = handle.connection.scan()
    assert next(scan) == ("k0000", 0)
    handle.close()
    eu.put("eu", "k0000", "new")
    for _ in range(3):  # the pooled connection is used again, and must not go on in the old snapshot
        assert eu.get("eu", "k0000") == "new"
    with pytest.raises(StoreError, match="ended"):
        list(scan)


def test_scan_is_sorted_by_key_and_bounded_by_prefix(eu: World) -> None:
    keys = ["a", "a/", "a/1", "a/10", "a/2", "b", "ä", "\U0001f600", "~"]
    for key in keys:
        eu.put("eu", key, key)
    handle = eu.links["eu"].read("eu", (0,))
    assert [k for k, _ in handle.connection.scan()] == sorted(keys)
    assert [k for k, _ in handle.connection.scan("a/")] == ["a/", "a/1", "a/10", "a/2"]
    assert list(handle.connection.scan("zz")) == []
    handle.close()


def test_a_read_reports_every_version_it_showed_tombstones_included(eu: World) -> None:
    eu.put("eu", "a/1", 1)
    eu.delete("eu", "a/2")
    eu.put("eu", "b", 2)
    handle = eu.links["eu"].read("eu", (0,))
    assert handle.seen() == Frontier()
    assert handle.connection.get("a/2", "gone") == "gone"
    assert handle.seen() == Frontier([Position(0, 1, 2)])
    list(handle.connection.scan("a/"))
    assert handle.seen() == Frontier([Position(0, 1, 2)])
    handle.connection.get("b")
    assert handle.seen() == Frontier([Position(0, 1, 3)])
    handle.close()


def test_what_many_versions_teach_is_joined(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions and dependencies of all of them, also where a scan is long and forgets the single versions."""
    world.open("eu", "us")
    expected = Frontier()
    for n in range(300):
        deps = Frontier([Position(5 << 16, n % 7, n)])
        expected |= frontier(world.put(("eu", "us")[n % 2], f"k{n:03}", n, deps=deps))
    world.settle()
    for many in (4096, 10):
        monkeypatch.setattr(reading, "_MANY", many)
        monkeypatch.setattr(reading, "_CHUNK", 50)
        handle = world.links["us"].read("us", (0,))
        assert len(list(handle.connection.scan("k"))) == 300
        assert handle.seen() == expected
        handle.connection.get("k000")
        assert handle.seen() == expected
        handle.close()
    handle = world.links["us"].read("us", (0,))
    assert [handle.connection.get(key) for key in ("k000", "k001")] == [0, 1]
    assert handle.seen() == frontier_of(world, "k000") | frontier_of(world, "k001")
    handle.close()


def frontier_of(world: World, key: str) -> Frontier:
    return world.look("us", key)[1]


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO watermark VALUES (99, 0, NULL, 0, 0, x'')",
        "UPDATE watermark SET applied = 5",
        'UPDATE watermark SET "end" = 0',
        "DELETE FROM watermark",
    ],
)
def test_every_change_of_a_watermark_is_a_new_moment(eu: World, change: str) -> None:
    """A read asks for the number of the moment only: no change may keep it."""
    file = eu.links["eu"].directory.file("eu", 0)
    with file.writing() as db:
        before = db.execute("SELECT number FROM moment").fetchone()
        db.execute(change)
        after = db.execute("SELECT number FROM moment").fetchone()
    assert after > before


def test_how_durable_a_commit_is(world: World) -> None:
    """synchronous = FULL (2) waits for the disk at every commit; NORMAL (1) at checkpoints, which cannot damage a file."""
    world.open("eu")
    file = world.links["eu"].directory.file("eu", 0)
    for durability, level in (("full", 2), ("relaxed", 1)):
        connection = file.begin_write(durability)
        assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        file.end_write(connection, durability)
    assert world.links["eu"]._settings.durability == "full"


def test_a_connection_is_of_no_use_after_its_block(eu: World) -> None:
    reading = eu.links["eu"].read("eu", (0,))
    db = reading.connection
    reading.close()
    reading.close()
    writing = eu.links["eu"].write("eu", 0, Frontier())
    tx = writing.connection
    tx.put("k", 1)
    writing.commit(Frontier())
    uses: list[Any] = [
        lambda: db.get("k"),
        lambda: list(db.scan()),
        lambda: tx.get("k"),
        lambda: tx.put("k", 1),
        lambda: tx.delete("k"),
        lambda: list(tx.scan()),
    ]
    for use in uses:
        with pytest.raises(StoreError, match="ended"):
            use()


def test_bad_keys_and_values_are_refused_where_they_are_given(eu: World) -> None:
    handle = eu.links["eu"].write("eu", 0, Frontier())
    for key in ("", "x" * 1025, 7, None, "\ud800"):
        for use in (handle.connection.get, handle.connection.delete, lambda k: handle.connection.put(k, 1)):
            with pytest.raises(ConfigError):
                use(key)
    for value in (object(), lambda: None):
        with pytest.raises(ConfigError):
            handle.connection.put("k", value)
    with pytest.raises(ConfigError):
        handle.connection.scan(7)
    handle.rollback()


# --- dependencies ------------------------------------------------------------------------------------------------


def test_dependencies_are_stored_returned_and_shown(eu: World) -> None:
    foreign = Frontier([Position(5 << 16, 9, 77)])
    first = eu.put("eu", "a", 1, deps=foreign)
    assert first.deps == foreign
    assert eu.look("eu", "a")[1] == foreign | Frontier([Position(0, 1, 1)])


def test_dependencies_accumulate_along_the_log(eu: World) -> None:
    one, two = Frontier([Position(5 << 16, 9, 1)]), Frontier([Position(6 << 16, 9, 2)])
    eu.put("eu", "a", 1, deps=one)
    second = eu.put("eu", "b", 1, deps=two)
    third = eu.put("eu", "c", 1)
    assert second.deps == third.deps == one | two
    assert eu.look("eu", "c")[1] == one | two | Frontier([Position(0, 1, 3)])


def test_a_position_stands_for_all_before_it_in_its_log(eu: World) -> None:
    mine = frontier(eu.put("eu", "a", 1))
    assert eu.put("eu", "b", 1, deps=mine).deps == Frontier()


def test_reads_inside_the_transaction_become_dependencies(world: World) -> None:
    world.open("eu", "us")
    theirs = frontier(world.put("us", "a", 1))
    world.step("eu")
    handle = world.links["eu"].write("eu", 0, Frontier())
    handle.connection.get("a")
    handle.connection.put("b", 1)
    assert handle.commit(Frontier()).deps == theirs


def test_a_write_cannot_depend_on_a_later_one(eu: World) -> None:
    with pytest.raises(StoreError, match="later"):
        eu.put("eu", "a", 1, deps=Frontier([Position(0, 1, 5)]))
    assert eu.put("eu", "a", 1).position == Position(0, 1, 1)


# --- stamps --------------------------------------------------------------------------------------------------------


def test_an_effect_wins_over_its_cause_whatever_the_clocks_say(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_alarm", writing._Alarm())  # one that has said nothing yet
    world.open("eu", "us")
    world.pass_s(600)  # eu's clock is ten minutes fast
    world.put("eu", "k", "cause")
    world.pass_s(-600)
    world.step("us")
    assert world.get("us", "k") == "cause"
    with caplog.at_level(logging.WARNING, "causal"):
        assert world.put("us", "k", "effect").position is not None  # a fast clock blocks nothing
    assert "ahead" in caplog.text
    world.settle()
    assert world.get("us", "k") == world.get("eu", "k") == "effect"


def test_stamps_of_a_log_strictly_increase_when_the_clock_goes_back(world: World) -> None:
    world.open("eu", "us")
    for n in range(3):
        world.put("eu", "k", n)
        world.pass_s(-1000)
    world.close("eu")
    world.open("eu")  # another life, with a new clock
    world.put("eu", "k", "last")
    world.settle()
    assert world.get("us", "k") == world.get("eu", "k") == "last"


def test_the_store_ends_before_its_stamps_do(world: World) -> None:
    world.open("eu")
    world.now_ns = 2**47 * 10**6 + 1
    with pytest.raises(Exception, match=r"stamp|range|clock|time"):
        world.put("eu", "k", 1)
    world.now_ns = 1_700_000_000 * 10**9
    assert world.get("eu", "k") is None


# --- the write lock --------------------------------------------------------------------------------------------------


def test_writes_of_many_threads_are_numbered_one_by_one(eu: World) -> None:
    offsets: list[int] = []

    def work(n: int) -> None:
        for i in range(20):
            commit = eu.put("eu", f"k{n}/{i}", i)
            assert commit.position is not None
            offsets.append(commit.position.offset)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(offsets) == list(range(1, 81))
    assert len(eu.everything("eu")) == 80


def test_a_write_block_that_is_held_makes_others_wait_then_fail(eu: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("causal.stores.sqlite.files.schema.BUSY_S", 0.01)
    holder = eu.links["eu"].write("eu", 0, Frontier())
    with pytest.raises(Unreachable, match="held"):
        eu.links["eu"].write("eu", 0, Frontier())
    holder.rollback()
    assert eu.put("eu", "k", 1).position is not None


def test_the_write_handle_shows_the_watermark_inside_the_lock(eu: World) -> None:
    eu.put("eu", "k", 1)
    handle = eu.links["eu"].write("eu", 0, Frontier())
    mark = handle.watermarks[0]
    handle.rollback()
    assert mark.leads == frozenset({1})
    assert mark.judge(Frontier([Position(0, 1, 1)])).verdict is Verdict.APPLIED
    assert mark.judge(Frontier([Position(0, 1, 2)])).verdict is Verdict.BEHIND


def test_position_covers_what_a_writer_committed(eu: World) -> None:
    handle = eu.links["eu"].write("eu", 0, Frontier())
    handle.connection.put("k", 1)
    handle.commit(Frontier())
    link = eu.links["eu"]
    assert link.position(handle.connection) == Frontier([Position(0, 1, 1)])
    eu.put("eu", "k", 2)
    assert link.position(handle.connection) == Frontier([Position(0, 1, 1)])
    assert link.position(None) == Frontier([Position(0, 1, 2)])
    with pytest.raises(ConfigError):
        link.position(object())


# --- configuration -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"site": ""},
        {"site": "../x"},
        {"site": "cluster"},
        {"site": "a.b"},
        {"shards": ()},
        {"shards": "main"},
        {"shards": ("a", "a")},
        {"shards": ("a/b",)},
        {"durability": "some"},
        {"replicate": "never"},
        {"lag_s": -1},
        {"rtt_s": -1},
        {"first_origin": -1},
    ],
)
def test_bad_settings_are_refused_where_they_are_given(options: dict[str, Any], world: World) -> None:
    with pytest.raises(ConfigError):
        SQLiteEngine(world.path, **{"site": "eu", **options})


def test_a_directory_keeps_its_store_number(world: World) -> None:
    world.open("eu", store=3)
    assert world.put("eu", "k", 1, shard=3 << 16).position == Position(3 << 16, 1, 1)
    world.close()
    with pytest.raises(ConfigError, match="store 3"):
        world.open("eu", store=4)
    assert world.open("eu", store=3).probe("eu", 1).keys() == {3 << 16}


def test_an_unknown_shard_is_refused(eu: World) -> None:
    for shard in (1, 1 << 16):
        with pytest.raises(ConfigError, match="shard"):
            eu.links["eu"].read("eu", (shard,))
        with pytest.raises(ConfigError, match="shard"):
            eu.links["eu"].write("eu", shard, Frontier())


def test_a_closed_link_is_refused(eu: World) -> None:
    link = eu.links["eu"]
    link.close()
    link.close()
    for use in (lambda: link.read("eu", (0,)), lambda: link.write("eu", 0, Frontier()), lambda: link.probe("eu", 1)):
        with pytest.raises((ConfigError, StoreError), match="closed"):
            use()


def test_the_origins_of_a_new_directory_are_random(world: World) -> None:
    """A token of a directory that was removed must not be judged by the history of its successor."""
    world.open("eu", first_origin=None)
    origin = next(iter(world.watermark("eu").origins))
    world.close()
    for path in world.path.iterdir():
        path.unlink()
    world.open("eu", first_origin=None)
    again = world.watermark("eu")
    assert origin not in again.origins
    assert again.judge(Frontier([Position(0, origin, 1)])).verdict is Verdict.UNKNOWN
