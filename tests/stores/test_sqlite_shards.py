"""Several shards: each its own file and log at every site, with dependencies between them."""

from __future__ import annotations

import threading
from time import time_ns

import pytest

from causal.controls import Lag
from causal.core.frontier import Frontier
from causal.core.position import Position
from causal.core.watermark import Verdict
from causal.stores.sqlite import SQLiteEngine
from causal.stores.sqlite.blocks import cut
from causal.stores.sqlite.files.shard import ShardFile
from causal.stores.sqlite.replication.apply import Coverage, pull
from tests.stores.sqlite_world import World, frontier, world

__all__ = ["world"]

POSTS, REPLIES = 0, 1


@pytest.fixture
def two(world: World) -> World:
    world.open("eu", "us", shards=("posts", "replies"))
    return world


def test_each_shard_has_its_own_file_and_log_at_every_site(two: World) -> None:
    two.put("eu", "k", "post", shard=POSTS)
    two.put("eu", "k", "reply", shard=REPLIES)
    assert two.put("eu", "k", "reply 2", shard=REPLIES).position == Position(REPLIES, 1, 2)
    assert (two.get("eu", "k", shard=POSTS), two.get("eu", "k", shard=REPLIES)) == ("post", "reply 2")
    names = {p.name for p in two.path.glob("*.sqlite")}
    assert names == {"cluster.sqlite", *(f"{s}.{n}.sqlite" for s in ("eu", "us") for n in ("posts", "replies"))}


def test_causes_come_first_across_shards(two: World) -> None:
    """The five steps of the counterexample to per-shard tokens: b reads shard 1 and then a stale shard 0. Here it cannot."""
    a = frontier(two.put("eu", "post", "hello", shard=POSTS))
    reply = frontier(two.put("eu", "reply", "hi", shard=REPLIES, deps=a))
    us = two.links["us"].directory
    coverage = Coverage(0)  # only the replica of the replies gets to run: its entry has to wait for the other shard's
    coverage.learn(POSTS, us.file("us", POSTS).rows())
    done = pull(us.file("us", REPLIES), us.file("eu", REPLIES), coverage, None, time_ns)
    assert done.applied == 0
    assert two.get("us", "reply", shard=REPLIES) is None
    # With both shards replicated, the post comes first; and who reads the reply demands the post.
    assert two.step("us") == 2
    shown, seen = two.look("us", "reply", shard=REPLIES)
    assert (shown, seen) == ("hi", reply)
    assert seen.entries[POSTS << 32 | 1] == 1
    assert two.watermark("us", shard=POSTS).judge(seen).verdict is Verdict.APPLIED


def test_a_reply_waits_for_a_post_that_is_not_due(world: World) -> None:
    lag = Lag(0.05, sigma=2.0, seed=3)
    world.open("eu", "us", shards=("posts", "replies"), lag_s=lag)
    n = next(n for n in range(1, 99) if lag.delay_s("us", POSTS, 1, n) > 2 * lag.delay_s("us", REPLIES, 1, n) + 0.1)
    for i in range(n):
        post = frontier(world.put("eu", "post", i, shard=POSTS))
        world.put("eu", "reply", i, shard=REPLIES, deps=post)
    for _ in range(400):
        world.pass_s(0.005)
        world.step("us")
        posts, replies = (world.watermark("us", shard=s).origins[1][0] for s in (POSTS, REPLIES))
        assert replies <= posts
    assert (posts, replies) == (n, n)


def test_shards_are_numbered_once_and_adding_one_shifts_nothing(world: World) -> None:
    """A shard keeps its number, and its data, when others are added before it."""
    world.open("eu", "us", shards=("orders", "users"))
    world.put("eu", "k", "orders", shard=0)
    world.put("eu", "k", "users", shard=1)
    world.close()
    world.open("eu", shards=("accounts", "users", "orders"))
    assert world.engines["eu"].shards == {"accounts": 2, "users": 1, "orders": 0}
    assert [world.get("eu", "k", shard=n) for n in range(3)] == ["orders", "users", None]
    world.put("eu", "k", "accounts", shard=2)
    world.open("us", shards=("accounts",))
    assert world.engines["us"].shards == {"accounts": 2}
    world.settle()
    assert world.get("us", "k", shard=2) == "accounts"


def test_a_shard_is_added_while_others_have_the_directory_open(world: World) -> None:
    world.open("eu", "us")
    late = SQLiteEngine(world.path, site="eu", shards=("main", "late"), replicate="manual", wall=lambda: world.now_ns)
    assert late.shards == {"main": 0, "late": 1}
    world.links["late"] = late.open()
    world.put("late", "k", 1, shard=1, at="eu")
    world.step("us")
    assert world.get("us", "k", shard=1) == 1


def test_a_process_replicates_shards_that_it_does_not_use(world: World) -> None:
    """Else an entry that depends on them could never be applied."""
    world.open("eu", shards=("a", "b"))
    world.open("us", shards=("b",))
    cause = frontier(world.put("eu", "k", 1, shard=0))
    world.put("eu", "k", 2, shard=1, deps=cause)
    world.settle()
    assert world.get("us", "k", shard=1) == 2


def test_a_block_over_several_shards_is_one_moment(two: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit to both shards falls between the two snapshots; the block must not show the reply without the post."""
    opened = 0

    class Meddled(cut.ReadTransaction):
        def __init__(self, file: ShardFile) -> None:
            nonlocal opened
            super().__init__(file)
            opened += 1
            if opened == 1:  # after the snapshot of the posts, before that of the replies
                post = frontier(two.put("eu", "post", "hello", shard=POSTS))
                two.put("eu", "reply", "hi", shard=REPLIES, deps=post)

    monkeypatch.setattr(cut, "ReadTransaction", Meddled)
    handle = two.links["eu"].read("eu", (POSTS, REPLIES))
    assert dict(handle.connection.scan()) == {"post": "hello", "reply": "hi"}
    assert opened == 4
    assert {s: w.origins[1][0] for s, w in handle.watermarks.items()} == {POSTS: 1, REPLIES: 1}
    handle.close()


def test_a_block_over_several_shards_ends_under_constant_writing(two: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the files never stand still, the write locks are held while the snapshots are opened."""
    locked = threading.Event()

    class Meddled(cut.ReadTransaction):
        def __init__(self, file: ShardFile) -> None:
            super().__init__(file)
            if not file.try_lock():
                locked.set()
                return
            file.unlock()
            two.put("eu", "k", "again", shard=POSTS)

    monkeypatch.setattr(cut, "ReadTransaction", Meddled)
    handle = two.links["eu"].read("eu", (POSTS, REPLIES))
    assert locked.is_set()
    assert handle.connection.get("k") == "again"
    handle.close()
    monkeypatch.undo()
    assert two.put("eu", "k", 1, shard=POSTS).position is not None  # the locks are free again


def test_of_several_shards_the_first_that_has_a_key_answers(two: World) -> None:
    two.put("eu", "both", "post", shard=POSTS)
    two.put("eu", "both", "reply", shard=REPLIES)
    two.put("eu", "reply", 1, shard=REPLIES)
    handle = two.links["eu"].read("eu", (POSTS, REPLIES))
    assert (handle.connection.get("both"), handle.connection.get("reply"), handle.connection.get("no", 7)) == (
        "post",
        1,
        7,
    )
    assert list(handle.connection.scan()) == [("both", "post"), ("reply", 1)]
    assert handle.seen() == Frontier([Position(POSTS, 1, 1), Position(REPLIES, 1, 2)])
    handle.close()


def test_a_write_handle_shows_the_other_shards_too(two: World) -> None:
    """A session's whole demand is judged before it writes (I8, I9)."""
    two.put("us", "k", 1, shard=REPLIES)
    handle = two.links["us"].write("us", POSTS, Frontier())
    assert {s: w.origins[2][0] for s, w in handle.watermarks.items()} == {POSTS: 0, REPLIES: 1}
    handle.rollback()


def test_a_floor_or_a_mark_in_dependencies_is_replaced_by_what_it_stood_for(two: World) -> None:
    two.put("us", "k", 1, shard=REPLIES)
    marked = Frontier().mark(0, 2_000_000_000)
    commit = two.put("us", "k", 1, shard=POSTS, deps=marked)
    assert not commit.deps.marks
    assert commit.deps >= Frontier([Position(REPLIES, 2, 1)])
