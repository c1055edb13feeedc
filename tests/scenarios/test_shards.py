"""Several shards: numbered once, and at every site and in every block no effect without its cause."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from causal import GateTimeout
from causal.core.demand import Demand
from causal.session import SessionState
from causal.stores.sqlite import SQLiteEngine
from causal.stores.sqlite.blocks import cut
from causal.stores.sqlite.blocks.reading import ReadTransaction
from causal.stores.sqlite.files.directory import Directory
from causal.stores.sqlite.files.shard import ShardFile
from causal.stores.sqlite.replication import rebuild
from causal.stores.sqlite.replication.apply import Coverage, Pulled
from causal.stores.sqlite.replication.replicate import replicate
from tests.scenarios.disk_stage import DiskStage, LagBy, on_disk
from tests.scenarios.story import Story, told

Recorded = Callable[[str, str], None]

POSTS, REPLIES = 0, 1
TWO_SHARDS = "Two shards: 0 holds the posts, 1 the replies."


def posts_late(site: str, shard: int, origin: int, offset: int) -> float | None:
    return 60.0 if shard == POSTS else None


def covered_always(*_: object) -> bool:
    return True


def test_a_shard_is_numbered_once(recorded: Recorded) -> None:
    def by_its_place(self: SQLiteEngine) -> dict[str, int]:
        return {name: place for place, name in enumerate(self._names)}

    @on_disk()
    def play(tell: Story, stage: DiskStage) -> None:
        stage.open("eu", "us", shards=("orders", "users"))
        alice = stage.visit("alice", "eu")
        alice.writes("alice", "a lamp", "orders")
        alice.writes("alice", "Main Street 1", "users")
        stage.step()
        stage.close()
        stage.open("eu", "us", shards=("accounts", "orders", "users"))
        tell("A new version has a shard more. Somebody puts it first: accounts, orders, users.")
        page = stage.visit("alice", "us", alice.token).reads("alice", "orders")
        tell.never(
            page == "Main Street 1", "Every name after the new one has become another shard: these are the users."
        )
        assert page == "a lamp"

    rule = "a shard is numbered when its name is first used; the directory keeps the number, and gives it to no other."
    without = patch.object(SQLiteEngine, "shards", property(by_its_place))
    recorded("shards/numbers", told("A shard's name is put in front of others", play, rule, without))


def test_causes_come_first_across_shards(recorded: Recorded) -> None:
    @on_disk("eu", "us", shards=("posts", "replies"), lag_s=LagBy(0.05, slow=posts_late))
    def play(tell: Story, stage: DiskStage) -> None:
        tell(f"{TWO_SHARDS} Today posts take 60 s from eu to us, replies 50 ms.")
        alice = stage.visit("alice", "eu")
        alice.writes("post", "who comes?", "posts")
        alice.writes("reply", "me!", "replies")
        stage.pass_s(1)
        reply, post = stage.page("bob", "us", "reply", "post", shards=(REPLIES, POSTS))
        tell.never(reply == "me!" and post is None, "One block shows Bob a reply without what it replies to.")
        stage.pass_s(60)
        assert stage.page("bob", "us", "reply", "post", shards=(REPLIES, POSTS)) == ("me!", "who comes?")

    rule = "a write is applied when all that it depends on is, in whichever shard that is."
    without = patch.object(Coverage, "covers", covered_always)
    recorded("shards/causes", told("A reply is faster than its post", play, rule, without))


def test_a_write_is_gated_on_every_shard(recorded: Recorded) -> None:
    honest = SessionState.demand

    def of_its_shard(session: SessionState, store: Any, shard: int, now: float, *, write: bool) -> Demand:
        made = honest(session, store, shard, now, write=write)
        own, need = ({k: v for k, v in all_of.items() if k >> 32 == shard} for all_of in (made.own, made.need))
        return Demand(own, need, shards=frozenset({shard}))

    @on_disk("eu", "us", shards=("posts", "replies"), lag_s=LagBy(0.05, slow=posts_late))
    def play(tell: Story, stage: DiskStage) -> None:
        tell(f"{TWO_SHARDS} Today posts take 60 s from eu to us, replies 50 ms.")
        stage.visit("alice", "eu").writes("post", "who comes?", "posts")
        bob = stage.visit("bob", "eu")
        bob.reads("post", "posts")
        bob = stage.visit("bob", "us", bob.token)
        refused = bob.writes("reply", "me!", "replies")
        reply, post = stage.page("carol", "us", "reply", "post", shards=(REPLIES, POSTS))
        tell.never(
            reply == "me!" and post is None, "us took a reply to a post that it has not got, and shows it to Carol."
        )
        assert isinstance(refused, GateTimeout)
        stage.pass_s(60)
        bob.writes("reply", "me!", "replies")
        assert stage.page("carol", "us", "reply", "post", shards=(REPLIES, POSTS)) == ("me!", "who comes?")

    rule = "a session's whole frontier counts for each of its blocks, not only the shard that it reads or writes."
    without = patch.object(SessionState, "demand", of_its_shard)
    recorded("shards/whole-frontier", told("A reply is written where its post is not", play, rule, without))


def test_a_site_applies_shards_that_its_process_does_not_use(recorded: Recorded) -> None:
    files = Directory.files

    def used(directory: Directory, site: str) -> list[ShardFile]:
        return [file for file in files(directory, site) if site == "eu" or file.index == REPLIES]

    def only_what_is_used(directory: Directory, site: str, **due: Any) -> Pulled:
        with patch.object(Directory, "files", used):
            return replicate(directory, site, **due)

    @on_disk()
    def play(tell: Story, stage: DiskStage) -> None:
        stage.open("eu", shards=("posts", "replies"))
        stage.open("us", shards=("replies",))
        tell(f"{TWO_SHARDS} The process at us is configured with the replies only.")
        alice = stage.visit("alice", "eu")
        alice.writes("post", "who comes?", "posts")
        alice.writes("reply", "me!", "replies")
        stage.pass_s(3600)
        (reply,) = stage.page("bob", "us", "reply", shards=(REPLIES,))
        tell.never(reply is None, "The reply waits at us for a post that never comes, and all later ones behind it.")
        assert reply == "me!"

    rule = "a site applies every shard of its directory, whichever its process uses: they may be what others depend on."
    without = patch("causal.stores.sqlite.link.replicate", only_what_is_used)
    recorded("shards/unused", told("A shard that a process does not use", play, rule, without))


def test_a_block_over_shards_is_of_one_moment(recorded: Recorded) -> None:
    @on_disk("eu", shards=("posts", "replies"))
    def play(tell: Story, stage: DiskStage) -> None:
        tell(TWO_SHARDS)
        snapshots = []

        class Meddled(ReadTransaction):
            def __init__(self, file: ShardFile) -> None:
                super().__init__(file)
                snapshots.append(file.index)
                if len(snapshots) == 1:
                    tell("Bob's block has its snapshot of the posts, not yet that of the replies.")
                    alice = stage.visit("alice", "eu")
                    alice.writes("post", "who comes?", "posts")
                    alice.writes("reply", "me!", "replies")

        with patch.object(cut, "ReadTransaction", Meddled):
            post, reply = stage.page("bob", "eu", "post", "reply", shards=(POSTS, REPLIES))
        tell.never(
            reply == "me!" and post is None, "The block is of two moments, and shows the reply without its post."
        )
        assert (post, reply) == ("who comes?", "me!")
        tell(f"Its snapshots were opened again: {len(snapshots)} in all.")

    rule = (
        "the snapshots of a block stand for one moment: if a file has moved since it was opened, all are opened again."
    )
    without = patch.object(cut, "parts_stand_still", covered_always)
    recorded("shards/one-moment", told("A write between two snapshots of one block", play, rule, without))


def test_a_site_that_joins_has_the_causes_of_what_it_has(recorded: Recorded) -> None:
    def merged_only(directory: Directory, site: str) -> None:
        for file in directory.files(site):
            for source in directory.peers(site):
                rebuild.merge(file, directory.file(source, file.index))
            with file.writing() as db:
                rebuild.finish_rebuilding(db)

    @on_disk("eu", shards=("posts", "replies"))
    def play(tell: Story, stage: DiskStage) -> None:
        tell(f"{TWO_SHARDS} us joins, and copies one after the other from eu.")
        merge = rebuild.merge

        def slowly(target: ShardFile, source: ShardFile) -> None:
            merge(target, source)
            if target.index == POSTS and target.site == "us":
                tell("us has copied the posts, and is about to copy the replies.")
                alice = stage.visit("alice", "eu")
                alice.writes("post", "who comes?", "posts")
                alice.writes("reply", "me!", "replies")

        with patch.object(rebuild, "merge", slowly):
            stage.open("us")
        reply, post = stage.page("bob", "us", "reply", "post", shards=(REPLIES, POSTS))
        tell.never(reply == "me!" and post is None, "us is open, with a reply to a post that it has not got.")
        assert (reply, post) == ("me!", "who comes?")

    rule = "a site that joins is not readable before it holds all that the site it copied from holds by then, in every shard."
    without = patch("causal.stores.sqlite.replication.members.rebuild", merged_only)
    recorded("shards/joining", told("A site joins while others write", play, rule, without))
