"""How a write comes to another site: whole, in order, after what it depends on; and not at all to a site that is not complete."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from causal import Frontier, ReadPolicy
from causal.kv import decode_changes, encode_changes
from causal.request import Request
from causal.stores.sqlite.files.directory import Directory
from causal.stores.sqlite.files.shard import Rows
from causal.stores.sqlite.replication import apply, rebuild
from causal.stores.sqlite.replication.apply import Coverage, Entry, Ready
from tests.scenarios.disk_stage import DiskStage, LagBy, on_disk
from tests.scenarios.story import Story, told

Recorded = Callable[[str, str], None]


def covered_always(*_: object) -> bool:
    return True


def test_a_fast_clock_does_not_undo_what_is_acknowledged(recorded: Recorded) -> None:
    def by_the_clock(now: int, *_: int) -> int:
        return now

    @on_disk("eu", "us", skew_s={"eu": 600})
    def play(tell: Story, stage: DiskStage) -> None:
        tell("eu's clock is 600 s fast.")
        stage.visit("bob", "eu").writes("title", "by bob")
        stage.step()
        stage.close()
        stage.open("us")
        tell("us has Bob's write, and starts again. No clock there knows of eu's.")
        alice = stage.visit("alice", "us")
        alice.reads("title")
        alice.writes("title", "by alice")
        stage.open("eu")
        stage.step()
        pages = [stage.visit("carol", site).reads("title") for site in ("us", "eu")]
        tell.never(pages == ["by alice", "by bob"], "At eu her write lost against what it replaced: the sites differ.")
        assert pages == ["by alice", "by alice"]

    rule = "a write's stamp is above that of every write that its file holds, which the file itself remembers."
    without = patch("causal.stores.sqlite.blocks.writing.next_stamp", by_the_clock)
    recorded("replication/stamps", told("A fast clock, and a site that starts again", play, rule, without))


def test_a_transaction_arrives_whole(recorded: Recorded) -> None:
    store = apply._store

    def key_by_key(db: sqlite3.Connection, origin: int, entry: Entry, changes: dict[str, bytes | None]) -> None:
        for nth, (key, value) in enumerate(changes.items()):
            if nth:
                db.execute("DELETE FROM log WHERE (origin, offset) = (?, ?)", (origin, entry[0]))
            store(db, origin, (*entry[:4], encode_changes({key: value})), {key: value})
            db.execute("COMMIT")
            db.execute("BEGIN IMMEDIATE")

    @on_disk("eu", "us")
    def play(tell: Story, stage: DiskStage) -> None:
        alice = stage.visit("alice", "eu")
        with alice.session.write() as tx:
            tx.put("alice", 50)
            tx.put("bob", 50)
        stage.step()
        tell("Alice and Bob have 50 each, at every site. Alice gives Bob 10, in one block at eu.")
        with alice.session.write() as tx:
            tx.put("alice", 40)
            tx.put("bob", 60)
        stored: list[str] = []
        pages: list[tuple[int, ...]] = []

        def in_between(statement: str) -> None:
            stored.extend([statement] * statement.startswith("INSERT INTO data"))
            if len(stored) == 2 and not pages:
                tell("us is applying it: one of the two is stored, the other is next.")
                pages.append(stage.page("carol", "us", "alice", "bob"))

        with stage.file("us").writing() as db:
            db.set_trace_callback(in_between)
        stage.step()
        pages.append(stage.page("carol", "us", "alice", "bob"))
        tell.never(sum(pages[0]) != 100, f"They have {sum(pages[0])} together: half of a transaction is shown.")
        assert pages == [(50, 50), (40, 60)]

    rule = "a transaction of another site is applied in one transaction, which also moves the watermark."
    without = patch.object(apply, "_store", key_by_key)
    recorded("replication/whole", told("A transaction arrives whole", play, rule, without))


def test_writes_arrive_in_order(recorded: Recorded) -> None:
    @contextmanager
    def overtaking() -> Iterator[None]:
        def due(entries: list[Entry], shard: int, origin: int, coverage: Coverage, *rest: Any) -> list[Ready]:
            due_ns, now_ns, _ = rest
            arrived = [entry for entry in entries if due_ns is None or due_ns(origin, entry[0], entry[2]) <= now_ns]
            return [(entry, decode_changes(entry[4])) for entry in arrived]

        def applied(target: Any, origin: int, entries: Iterable[Ready]) -> tuple[int, int]:
            with target.writing() as db:
                for entry, changes in entries:
                    apply._store(db, origin, entry, changes)
                    db.execute(apply._ADVANCE, (entry[0], entry[1], entry[3], origin))
            return 1, entry[0]

        with patch.object(apply, "_ready", due), patch.object(apply, "_apply", applied):
            yield

    def first_is_slow(site: str, shard: int, origin: int, offset: int) -> float | None:
        return 60.0 if offset == 1 else None

    @on_disk("eu", "us", lag_s=LagBy(0.05, slow=first_is_slow))
    def play(tell: Story, stage: DiskStage) -> None:
        tell("The first write from eu takes 60 s to us, every other one 50 ms.")
        alice = stage.visit("alice", "eu")
        alice.writes("photo", "new.jpg")
        stage.visit("bob", "eu").writes("title", "by bob")
        stage.pass_s(1)
        page = stage.visit("alice", "us", alice.token).reads("photo")
        tell.never(page is None, "us has applied 0/1@2, so it must have 0/1@1, says the receipt. It never will.")
        assert page == "new.jpg"
        assert stage.page("carol", "us", "photo", "title") == (None, None)
        stage.pass_s(60)
        assert stage.page("carol", "us", "photo", "title") == ("new.jpg", "by bob")

    rule = "of a log only the very next entry is applied: a watermark of 2 says that 1 is there."
    recorded("replication/in-order", told("The second write is faster than the first", play, rule, overtaking()))


def slow_to_ap(site: str, shard: int, origin: int, offset: int) -> float | None:
    """What eu writes takes a minute to ap."""
    return 60.0 if (site, origin) == ("ap", 1) else None


def test_what_a_write_depends_on_comes_first(recorded: Recorded) -> None:
    @on_disk("eu", "us", "ap", lag_s=LagBy(0.05, slow=slow_to_ap))
    def play(tell: Story, stage: DiskStage) -> None:
        tell("eu's writes take 60 s to ap, and 50 ms to us. us's take 50 ms to both.")
        stage.visit("alice", "eu").writes("post", "who comes?")
        stage.pass_s(1)
        bob = stage.visit("bob", "us")
        bob.reads("post")
        bob.writes("reply", "me!")
        stage.pass_s(1)
        post, reply = stage.page("carol", "ap", "post", "reply")
        tell.never(reply == "me!" and post is None, "ap shows Carol a reply without what it replies to.")
        stage.pass_s(60)
        assert stage.page("carol", "ap", "post", "reply") == ("who comes?", "me!")

    rule = "a write is applied when the site has all that its writer knew."
    without = patch.object(Coverage, "covers", covered_always)
    recorded("replication/after-its-causes", told("A reply takes a shorter way than its post", play, rule, without))


def test_what_was_folded_is_depended_on(recorded: Recorded) -> None:
    def exact_only(request: Request, seen: Frontier) -> Frontier:
        return request.session.joined.exact | seen

    @on_disk("eu", "us", "ap", lag_s=LagBy(0.05, slow=slow_to_ap))
    def play(tell: Story, stage: DiskStage) -> None:
        tell("eu's writes take 60 s to ap, and 50 ms to us. us's take 50 ms to both.")
        stage.visit("alice", "eu").writes("post", "who comes?")
        stage.pass_s(1)
        bob = stage.visit("bob", "us")
        bob.reads("post")
        bob = stage.visit("bob", "us", f"{bob.token}?")
        (mark,) = bob.session.seen.marks.values()
        tell(
            f"Bob's token is damaged. What it said is unknown: leaders only, for {mark.until - stage.time.wall_s():.0f} s."
        )
        bob.writes("reply", "me!")
        stage.pass_s(1)
        post, reply = stage.page("carol", "ap", "post", "reply")
        tell.never(
            reply == "me!" and post is None, "ap does not know what the reply was to wait for, and shows it alone."
        )
        stage.pass_s(60)
        assert stage.page("carol", "ap", "post", "reply") == ("who comes?", "me!")

    rule = (
        "with a write go the exact places that it was gated on, never the mark or floor that they had been folded into."
    )
    without = patch.object(Request, "dependencies", exact_only)
    recorded("replication/folded", told("What a token has folded", play, rule, without))


def test_a_write_that_depends_on_a_lost_one(recorded: Recorded) -> None:
    learn = Coverage.learn

    def without_ends(self: Coverage, shard: int, rows: Rows) -> None:
        learn(self, shard, [(origin, applied, None, mine, stamp) for origin, applied, _, mine, stamp in rows])

    @on_disk("eu", "us", shards=("posts", "replies"), lag_s=60.0)
    def play(tell: Story, stage: DiskStage) -> None:
        tell("Two shards: 0 holds the posts, 1 the replies.")
        alice = stage.visit("alice", "us")
        alice.writes("post", "who comes?", "posts")
        alice.writes("reply", "me!", "replies")
        stage.close()
        for path in stage.path.glob("us.posts.sqlite*"):
            path.unlink()
        stage.open("us", "eu")
        tell(
            "us loses its file of the posts before eu has any of it: origin 2 of shard 0 ends at 0. The replies are there."
        )
        stage.visit("bob", "us").writes("news", "of today", "replies")
        stage.pass_s(3600)
        page = stage.page("carol", "eu", "reply", "news", shards=(1,))
        tell.never(
            page == (None, None),
            "us's replies stand still at eu, for ever: the first waits for a post that nobody has.",
        )
        assert page == ("me!", "of today")

    rule = "what depends on a history that has ended waits for no more of it than there is."
    without = patch.object(Coverage, "learn", without_ends)
    recorded("replication/lost-cause", told("A write that depends on a lost one", play, rule, without))


def test_a_site_that_joins_is_not_readable_before_it_is_complete(recorded: Recorded) -> None:
    def at_once(directory: Directory, site: str) -> None:
        for file in directory.files(site):
            with file.writing() as db:
                rebuild.finish_rebuilding(db)

    @on_disk("eu")
    def play(tell: Story, stage: DiskStage) -> None:
        stage.visit("alice", "eu").writes("photo", "old.jpg")
        stage.sleep(365 * 86400.0)
        stage.collect()
        with stage.file("eu").snapshot() as db:
            assert db.execute("SELECT count(*) FROM log").fetchone() == (0,)
        tell("A year passes. Everybody has the photo: no token demands it any more, and no log keeps it.")
        stage.engines["eu"].cut_off("eu")
        tell("us joins, while eu cannot be reached.")
        if stage.opens("us"):
            page = stage.visit("bob", "us").reads("photo", policy=ReadPolicy.eventual())
            tell.never(page is None, "Bob takes any page that some site once showed. This one none ever did.")
        stage.engines["eu"].rejoin("eu")
        tell("eu is back.")
        assert stage.opens("us")
        assert stage.visit("bob", "us").reads("photo", policy=ReadPolicy.eventual()) == "old.jpg"

    rule = "a site that joins copies what a member has, and is no endpoint and serves nobody before it has all of it."
    without = patch("causal.stores.sqlite.replication.members.rebuild", at_once)
    recorded("replication/joining", told("A site joins", play, rule, without))
