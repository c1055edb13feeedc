"""An index of the embedded store, read by the gate: what it claims is there, and what is demanded of it is waited for or refused."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from causal import (
    AsyncCausalStore,
    CausalStore,
    ConfigError,
    GateTimeout,
    NoEndpoint,
    ReadPolicy,
    StoreError,
    WriteLost,
)
from causal.core.frontier import Frontier
from causal.derived import DerivedEngine, EmbeddedFeed, SearchIndex
from causal.derived.contract import Place
from causal.derived.fts import file as index_file
from causal.errors import Unreachable
from causal.stores.sqlite.blocks.reading import ReadTransaction
from tests.derived.shelf import AT_ONCE, KEYS, TO_LEADER, Shelf, delete, document, found, keys, put, shelf

__all__ = ["shelf"]


def positions(shelf: Shelf) -> dict[int, Place]:
    """The checkpoint of the only shard."""
    opened = shelf.index.open({"main": 0})
    try:
        return dict(opened.checkpoint().places[0])
    finally:
        opened.close()


# --- the contract --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [AT_ONCE, ReadPolicy.eventual(), ReadPolicy(0.02, then="stale"), TO_LEADER])
def test_until_it_has_a_checkpoint_nothing_is_served(shelf: Shelf, policy: ReadPolicy) -> None:
    with pytest.raises(NoEndpoint, match="no checkpoint"), shelf.eu.session().read(shelf.search, policy=policy):
        pass
    shelf.feed()
    assert found(shelf.eu.session(), shelf.search, policy=policy) == []


def test_what_the_session_wrote_is_there_or_the_read_is_refused(shelf: Shelf) -> None:
    alice, bob = shelf.eu.session(), shelf.eu.session()
    shelf.feed()
    put(alice, "1", "coffee")
    assert found(bob, shelf.search) == []
    with pytest.raises(GateTimeout, match="mixed") as refused, alice.read(shelf.search, policy=TO_LEADER):
        pass
    assert refused.value.receipt is not None
    assert dict(refused.value.receipt.considered)["search"] == "BEHIND 1"
    assert shelf.feed() == 1
    with (block := alice.read(shelf.search)) as index:
        assert keys(index.search("COFFEE")) == ["1"]
    assert (block.receipt.how, block.receipt.endpoint, block.receipt.held) == ("covered", "search", True)


def test_an_eventual_read_is_called_so(shelf: Shelf) -> None:
    alice = shelf.eu.session()
    put(alice, "1", "coffee")
    shelf.feed()
    put(alice, "2", "coffee")
    with (block := alice.read(shelf.search, policy=ReadPolicy.eventual())) as index:
        assert keys(index.search("coffee")) == ["1"]
    assert (block.receipt.how, block.receipt.held) == ("eventual", False)


def test_data_and_checkpoint_are_one_transaction(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = shelf.eu.session()
    put(alice, "1", "coffee")
    shelf.feed()
    put(alice, "2", "coffee")
    before, calls = positions(shelf), iter((False, True))

    def fails(*args: Any) -> None:
        if next(calls, True):
            raise OSError("the disk is gone")
        return real(*args)

    put(alice, "3", "coffee")
    for name in ("put", "_keep"):
        with monkeypatch.context() as patch:
            real, calls = getattr(index_file, name), iter((name == "_keep",))
            patch.setattr(index_file, name, fails)
            with pytest.raises(OSError, match="disk"):
                shelf.feed()
        assert positions(shelf) == before
        assert found(shelf.eu.session(), shelf.search, policy=ReadPolicy.eventual()) == ["1"]
    assert shelf.feed() == 2
    assert found(alice, shelf.search) == ["1", "2", "3"]


CHILD = """
    import os, signal, sys
    from causal.derived.fts import file
    from tests.derived.shelf import *
    path, name, nth = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    real = getattr(file, name)
    def dies(*args):
        global nth
        nth -= 1
        if nth < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args)
    setattr(file, name, dies)
    engine = SQLiteEngine(path / "data", site="eu", replicate="manual")
    index = SearchIndex(path / "eu.search", fields=["title", "text"], sorts=["created"], feed=EmbeddedFeed(document))
    DerivedEngine(engine, index, feed="manual").feed()
"""


@pytest.mark.parametrize(("name", "nth"), [("put", 0), ("put", 2), ("_keep", 0), ("create", 0)])
@pytest.mark.parametrize("fed", [False, True], ids=["while building", "while following"])
def test_a_feeder_that_is_killed_leaves_an_index_that_claims_what_it_holds(
    shelf: Shelf, name: str, nth: int, fed: bool
) -> None:
    alice = shelf.eu.session()
    put(alice, "1", "coffee")
    if fed:
        shelf.feed()
    for n in "234":
        put(alice, n, "coffee")
    script = textwrap.dedent(CHILD)
    done = subprocess.run(
        [sys.executable, "-c", script, str(shelf.path), name, str(nth)],
        check=False,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == (0 if fed and name == "create" else -signal.SIGKILL)
    try:
        there = found(alice, shelf.search)
    except (GateTimeout, NoEndpoint):
        there = None
    assert there == (["1", "2", "3", "4"] if done.returncode == 0 else None)
    shelf.feed()
    assert found(alice, shelf.search) == ["1", "2", "3", "4"]


def test_a_child_that_is_forked_while_its_parent_feeds_keeps_nobody_from_feeding(shelf: Shelf) -> None:
    alice = shelf.eu.session()
    put(alice, "1", "coffee")
    shelf.feed()
    opened = shelf.index.open({"main": 0})
    read, write = os.pipe()
    lives, living = os.pipe()
    with opened.fed_by_me() as mine:
        assert mine
        child = os.fork()
        if not child:
            os.close(write)
            os.write(living, b"x")
            os.read(read, 1)  # until the parent closes its end
            os._exit(0)
    os.read(lives, 1)  # it has seen to what it was born with
    try:
        put(alice, "2", "coffee")
        shelf.feed()
        assert found(alice, shelf.search) == ["1", "2"]
    finally:
        os.close(write)
        os.waitpid(child, 0)
        for end in (read, lives, living):
            os.close(end)
        opened.close()


def test_what_is_taken_in_twice_is_taken_in_once(shelf: Shelf) -> None:
    alice = shelf.eu.session()
    put(alice, "1", "coffee")
    shelf.feed()
    opened = shelf.index.open({"main": 0})
    old = opened.generation()
    assert old is not None
    put(alice, "1", "tea")
    shelf.feed()
    stale = [(0, "post/1", document("post/1", {"title": "coffee"}))]
    assert not opened.apply(old, stale, old.places, Frontier())  # a feeder that was asleep for long
    now = opened.generation()
    assert now is not None
    assert opened.apply(now, [(0, "post/1", document("post/1", {"title": "tea"}))] * 2, now.places, now.deps)
    opened.close()
    with alice.read(shelf.search) as index:
        assert keys(index.search("tea")) == ["1"]
        assert index.search("coffee") == []
        assert index.count() == 1


def test_two_feeders_come_to_the_same(shelf: Shelf) -> None:
    alice = shelf.eu.session()
    with shelf.derived.feeding() as one, shelf.derived.feeding() as two:
        for n in range(10):
            put(alice, str(n), "coffee")
            assert (one.step(), two.step()) == (1, 0)
    assert len(found(alice, shelf.search)) == 10


# --- the source --------------------------------------------------------------------------------------------------------


def test_rows_that_are_not_to_be_found_are_not_there(shelf: Shelf) -> None:
    alice = shelf.eu.session()
    with alice.write() as tx:
        tx.put("user/1", {"title": "coffee"})
        tx.put("post/1", {"title": "coffee"})
    shelf.feed()
    assert found(alice, shelf.search) == ["1"]
    with alice.write() as tx:
        tx.put("post/1", {"title": "tea", "text": None})
    shelf.feed()
    assert found(alice, shelf.search, "coffee") == []
    delete(alice, "1")
    assert shelf.feed() == 1
    assert found(alice, shelf.search) == []


@pytest.mark.parametrize("fed_between", [False, True])
def test_of_concurrent_writes_the_index_has_the_one_that_the_site_has(shelf: Shelf, fed_between: bool) -> None:
    at_eu, at_us = shelf.eu.session(), shelf.us.session()
    put(at_us, "1", "earlier")
    put(at_eu, "1", "later")
    put(at_eu, "2", "earlier")
    put(at_us, "2", "later")
    if fed_between:
        shelf.feed()
    shelf.replicate()
    shelf.feed()
    at_eu.join(at_us.own)
    with at_eu.read() as db, at_eu.read(shelf.search) as index:
        for key, value in db.scan("post/"):
            assert index.get(key) == document(key, value)
            assert key in [hit.key for hit in index.search(value["title"])]
        assert index.count() == 2


def test_a_write_at_another_site_is_unknown_until_it_has_come_and_was_taken_in(shelf: Shelf) -> None:
    shelf.feed()
    alice = shelf.us.session()
    put(alice, "1", "coffee")
    with pytest.raises(GateTimeout), alice.read(shelf.search):
        pass
    shelf.feed()
    with pytest.raises(GateTimeout), alice.read(shelf.search):
        pass
    shelf.replicate()
    with pytest.raises(GateTimeout), alice.read(shelf.search):
        pass
    shelf.feed()
    assert found(alice, shelf.search) == ["1"]


@pytest.mark.parametrize("sites", [("eu",), ("eu", "us")])
def test_a_log_that_was_collected_past_the_checkpoint_loses_nothing(shelf: Shelf, sites: tuple[str, ...]) -> None:
    alice = shelf.eu.session()
    for n in "1234":
        put(alice, n, "coffee")
    shelf.feed()
    delete(alice, "1")
    put(alice, "2", "tea")
    put(alice, "5", "coffee")
    shelf.replicate()
    for _ in range(3):  # a heartbeat lets tombstones go
        for site in sites:
            shelf.engines[site].collect()
        shelf.replicate()
    delete(alice, "3")
    shelf.feed()
    assert found(alice, shelf.search, "coffee") == ["4", "5"]
    assert found(alice, shelf.search) == ["2", "4", "5"]


def test_another_directory_is_another_history(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, first_origin=None)
    with shelf.stack:
        alice = shelf.eu.session()
        put(alice, "1", "coffee")
        shelf.feed()
        assert found(alice, shelf.search) == ["1"]
    shutil.rmtree(tmp_path / "data")
    again = Shelf(tmp_path, first_origin=None)
    with again.stack:
        bob = again.eu.session()
        put(bob, "2", "tea")
        with pytest.raises((GateTimeout, NoEndpoint)), bob.read(again.search):
            pass
        again.feed()
        assert found(bob, again.search) == ["2"]


def test_an_index_that_was_fed_elsewhere_waits_until_its_site_has_caught_up(
    shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    alice = shelf.us.session()
    shelf.replicate()
    shelf.feed()
    there = DerivedEngine(shelf.engines["us"], shelf.index, feed="manual")
    put(alice, "1", "coffee")
    assert there.feed() == 1
    put(shelf.eu.session(), "2", "coffee")
    assert shelf.feed() == 0  # eu lacks what the index has
    assert "caught up" in caplog.text
    assert found(alice, shelf.search) == ["1"]
    shelf.replicate()
    assert shelf.feed() == 1
    assert found(alice, shelf.search) == ["1", "2"]


def test_what_its_site_has_lost_the_index_loses_too(tmp_path: Path) -> None:
    data = tmp_path / "data"
    shelf = Shelf(tmp_path)
    with shelf.stack:
        put(shelf.eu.session(), "1", "coffee")
        shelf.replicate()
    shutil.copy(data / "eu.sqlite", tmp_path / "backup")
    again = Shelf(tmp_path)
    with again.stack:
        alice = again.eu.session()
        put(alice, "2", "coffee")
        again.feed()
        assert found(alice, again.search) == ["1", "2"]
    for name in ("eu.sqlite-wal", "eu.sqlite-shm"):
        (data / name).unlink(missing_ok=True)
    shutil.move(tmp_path / "backup", data / "eu.sqlite")  # put back, as a backup is
    last = Shelf(tmp_path)
    with last.stack:
        bob = last.eu.session()
        with pytest.raises((NoEndpoint, GateTimeout)), bob.read(last.search):
            pass
        last.feed()
        assert found(bob, last.search) == ["1"]
        with pytest.raises(WriteLost), last.eu.session(alice.token()).read(last.search):
            pass
        put(bob, "3", "coffee")
        last.feed()
        assert found(bob, last.search) == ["1", "3"]


def test_a_row_of_which_no_document_can_be_made_is_not_passed_over(shelf: Shelf) -> None:
    alice = shelf.eu.session()
    shelf.feed()
    with alice.write() as tx:
        tx.put("post/1", {"title": "coffee"})
        tx.put("post/2", {})
    for _ in range(2):
        with pytest.raises(StoreError, match="post/2"):
            shelf.feed()
    with pytest.raises(GateTimeout), alice.read(shelf.search):
        pass


# --- what reads show, and how fresh it is -----------------------------------------------------------------------------------


def test_what_a_search_does_not_find_is_news_too(shelf: Shelf) -> None:
    alice = shelf.eu.session()
    put(alice, "1", "coffee")
    shelf.replicate()
    delete(alice, "1")
    shelf.feed()
    bob = shelf.us.session()
    assert found(bob, shelf.search) == []
    with (block := bob.read(policy=TO_LEADER)) as db:  # us has not heard of the delete
        assert db.get("post/1") is None
    assert block.receipt.endpoint == "eu"


def test_what_a_row_depends_on_in_another_shard_travels(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, shards=("posts", "users"), derives=("posts",))
    with shelf.stack:
        alice, bob = shelf.eu.session(), shelf.us.session()
        with alice.write(shard="users") as tx:
            tx.put("alice", "Alice")
        put(alice, "1", "coffee", shard="posts")
        shelf.feed()
        assert found(bob, shelf.search) == ["1"]
        assert shelf.us.shards["users"] in {key >> 32 for key in bob.seen.entries}
        with (block := bob.read(shard="users", policy=TO_LEADER)) as db:
            assert db.get("alice") == "Alice"
        assert block.receipt.endpoint == "eu"


def test_a_demand_on_a_shard_that_is_not_derived_from_holds_nothing_up(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, shards=("posts", "users"), derives=("posts",))
    with shelf.stack:
        alice = shelf.eu.session()
        shelf.feed()
        with alice.write(shard="users") as tx:
            tx.put("alice", "Alice")
        assert found(alice, shelf.search) == []


def test_an_index_of_several_shards_is_read_whole(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, shards=("posts", "replies"))
    with shelf.stack:
        alice = shelf.eu.session()
        put(alice, "1", "coffee", shard="posts")
        shelf.feed()
        put(alice, "1", "coffee too", shard="replies")
        for shard in (None, "posts", "replies"):
            with pytest.raises(GateTimeout), alice.read(shelf.search, shard=shard):
                pass
        shelf.feed()
        with alice.read(shelf.search) as index:
            assert [(hit.shard, hit.key) for hit in index.search("coffee")] == [
                ("posts", "post/1"),
                ("replies", "post/1"),
            ]
            assert index.count("coffee", shard="replies") == 1
            assert index.get("post/1", shard="replies") == document("post/1", {"title": "coffee too"})
            with pytest.raises(ConfigError, match="posts, replies"):
                index.get("post/1")


def test_an_index_of_several_shards_is_of_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the snapshots of two shards a post is written to the first, and a reply to the second."""
    shelf = Shelf(tmp_path, shards=("posts", "replies"))
    with shelf.stack:
        shelf.feed()
        alice, opened = shelf.eu.session(), ReadTransaction.__init__

        def in_between(self: ReadTransaction, file: Any) -> None:
            opened(self, file)
            if not alice.own and file.shard == shelf.eu.shards["posts"]:
                put(alice, "1", "coffee", shard="posts")
                put(alice, "1", "coffee too", shard="replies")

        monkeypatch.setattr(ReadTransaction, "__init__", in_between)
        shelf.feed()
        assert alice.own
        with shelf.eu.session().read(shelf.search, policy=ReadPolicy.eventual()) as index:
            shown = [hit.shard for hit in index.search("coffee")]
        assert shown in ([], ["posts", "replies"])


def test_an_index_that_is_not_shown_to_be_fresh_is_not_served(shelf: Shelf) -> None:
    shelf.replicate()
    shelf.feed()
    shelf.search = shelf.store(shelf.derived, max_staleness_s=60.0)
    assert found(shelf.eu.session(), shelf.search) == []
    shelf.engines["eu"].cut_off("us")
    put(shelf.us.session(), "1", "coffee")
    shelf.now += 59
    assert found(shelf.eu.session(), shelf.search) == []
    shelf.now += 3
    with pytest.raises(NoEndpoint, match="us"), shelf.eu.session().read(shelf.search):
        pass
    assert found(shelf.eu.session(), shelf.search, policy=ReadPolicy(0.02, then="error", unproven="serve")) == []
    shelf.engines["eu"].rejoin("us")
    shelf.now += 2
    with pytest.raises(NoEndpoint), shelf.eu.session().read(shelf.search):
        pass
    shelf.replicate()
    shelf.feed()
    shelf.now += 2
    assert found(shelf.eu.session(), shelf.search) == ["1"]


def test_a_leader_read_is_of_what_every_leader_has_now(shelf: Shelf) -> None:
    shelf.feed()
    alice, bob = shelf.us.session(), shelf.eu.session()
    put(alice, "1", "coffee")
    with pytest.raises(GateTimeout), bob.read(shelf.search, policy=ReadPolicy.leader(wait_s=0.02)):
        pass
    shelf.replicate()
    shelf.feed()
    with (block := bob.read(shelf.search, policy=ReadPolicy.leader(wait_s=0.02))) as index:
        assert keys(index.search("coffee")) == ["1"]
    assert block.receipt.how == "leader"


def test_an_index_that_was_put_back_is_another_life(shelf: Shelf, tmp_path: Path) -> None:
    alice = shelf.eu.session()
    put(alice, "1", "coffee")
    shelf.feed()
    opened = shelf.index.open({"main": 0})
    before = opened.checkpoint()
    opened.close()
    shelf.search.close()
    shutil.copy(tmp_path / "eu.search", tmp_path / "old")
    put(alice, "2", "coffee")
    shelf.feed()
    assert found(alice, shelf.search) == ["1", "2"]
    shutil.move(tmp_path / "old", tmp_path / "eu.search")  # while it is open
    shelf.search.head()
    with pytest.raises(NoEndpoint, match="replaced"):
        found(shelf.eu.session(alice.token()), shelf.search, policy=ReadPolicy.leader(wait_s=0.02))
    shelf.search.close()
    for name in ("eu.search-wal", "eu.search-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    with pytest.raises(GateTimeout), alice.read(shelf.search):
        pass
    opened = shelf.index.open({"main": 0})
    after = opened.checkpoint()
    opened.close()
    assert after.places == before.places
    assert after.life != before.life
    shelf.feed()
    assert found(alice, shelf.search) == ["1", "2"]


def test_what_only_the_index_has_is_not_safe_from_a_failover(shelf: Shelf) -> None:
    """A token may leave out what no failover can lose: the source's own servers have to have it for that."""
    alice = shelf.eu.session()
    put(alice, "1", "coffee")
    shelf.feed()
    shelf.search.head()
    assert not shelf.search._state.replicated() >= alice.own
    shelf.replicate()
    shelf.search.head()
    assert shelf.search._state.replicated() >= alice.own


# --- what it refuses -----------------------------------------------------------------------------------------------------------


def test_an_index_takes_no_writes(shelf: Shelf) -> None:
    shelf.feed()
    with pytest.raises(ConfigError, match="write to its source"), shelf.eu.session().write(shelf.search):
        pass
    with pytest.raises(ConfigError, match="write to its source"):
        shelf.search.position(None)


def test_another_layout_is_said_and_rebuilt(shelf: Shelf) -> None:
    alice = shelf.eu.session()
    put(alice, "1", "coffee")
    shelf.feed()
    other = SearchIndex(shelf.index.path, fields=["title"], feed=EmbeddedFeed(document), version=2)
    engine = DerivedEngine(shelf.engines["eu"], other, feed="manual")
    search = shelf.store(engine)
    with pytest.raises(Unreachable, match="rebuild"):
        engine.feed()
    with pytest.raises(NoEndpoint, match="rebuild"), alice.read(search):
        pass
    engine.rebuild()
    assert found(alice, search) == ["1"]
    with pytest.raises((NoEndpoint, GateTimeout)), alice.read(shelf.search):
        pass


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda e, i: DerivedEngine(e, i, name="us"), "named|name"),
        (lambda e, i: DerivedEngine(e, i, shards=["nowhere"]).shards, "no shard"),
        (lambda e, i: DerivedEngine(e, i, shards="main"), "list of names"),
        (lambda e, i: DerivedEngine(e, i, name=""), "name"),
        (lambda e, i: DerivedEngine(e, i, feed="now"), "'thread' or 'manual'"),
        (lambda e, i: SearchIndex("x", fields="title", feed=i.feed), "lists"),
        (lambda e, i: SearchIndex("x", fields=["rank"], feed=i.feed), "rank"),
        (lambda e, i: SearchIndex("x", fields=["a", "A"], feed=i.feed), "twice"),
        (lambda e, i: SearchIndex("x", fields=["a b"], feed=i.feed), "a b"),
        (lambda e, i: SearchIndex("x", fields=["a"], feed=i.feed, tokenize="a'b"), "quotes"),
        (lambda e, i: EmbeddedFeed(None), "function"),
        (lambda e, i: i.feed.open(i.open({"main": 0}), object(), {"main": 0}, 0), "SQLiteEngine"),
        (lambda e, i: i.source_view(object(), 0), "connection"),
    ],
)
def test_what_cannot_be_right_is_refused(shelf: Shelf, make: Any, complaint: str) -> None:
    shelf.feed()

    def opened() -> None:
        with shelf.store(make(shelf.engines["eu"], shelf.index)):
            pass

    with pytest.raises(ConfigError, match=complaint):
        opened()


def test_a_file_of_something_else_is_left_alone(shelf: Shelf, tmp_path: Path) -> None:
    index = SearchIndex(tmp_path / "data" / "eu.sqlite", fields=["title"], feed=EmbeddedFeed(document))
    with pytest.raises(ConfigError, match="something else"):
        index.open({"main": 0})


@pytest.mark.parametrize("value", [{"title": 1}, {"title": "a", "created": b"b"}, {"title": "a", "created": object()}])
def test_a_document_that_cannot_be_searched_or_stored_is_refused(shelf: Shelf, value: dict[str, Any]) -> None:
    feed = EmbeddedFeed(lambda key, _: value)
    index = SearchIndex(shelf.path / "other", fields=["title"], sorts=["created"], feed=feed)
    put(shelf.eu.session(), "1", "coffee")
    with pytest.raises(ConfigError):
        DerivedEngine(shelf.engines["eu"], index, feed="manual").feed()


# --- in the background, and in a loop ------------------------------------------------------------------------------------------


def test_a_thread_feeds_it_while_its_store_is_open(shelf: Shelf) -> None:
    alice = shelf.eu.session()
    put(alice, "0", "coffee")
    engine = DerivedEngine(shelf.engines["eu"], shelf.index)
    with CausalStore(engine, keyring=KEYS, audience="shop", policy=ReadPolicy(10.0, then="error")) as search:
        for n in range(5):
            put(alice, str(n), "coffee")
            with alice.read(search) as index:
                assert index.count("coffee") == n + 1
    assert not any(one.name.startswith("causal-feeder") for one in threading.enumerate())


def test_a_loop_reads_it_too(shelf: Shelf) -> None:
    asyncio.run(in_a_loop(shelf))


async def in_a_loop(shelf: Shelf) -> None:
    alice = shelf.eu.session()
    shelf.feed()
    put(alice, "1", "coffee")
    async with (
        AsyncCausalStore(shelf.engines["eu"], keyring=KEYS, audience="shop", policy=AT_ONCE) as store,
        AsyncCausalStore(shelf.derived, keyring=KEYS, audience="shop", policy=AT_ONCE) as search,
    ):
        session = store.session(alice.token())
        with pytest.raises((GateTimeout, NoEndpoint)):
            async with session.read(search):
                pass
        shelf.feed()
        async with session.read(search) as index:
            assert keys(index.search("coffee")) == ["1"]
        with pytest.raises(ConfigError):
            async with session.write(search):
                pass
