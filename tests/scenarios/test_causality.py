"""Effects without causes: what per-shard tokens alone do not prevent, and what dependencies do."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import patch

import attrs

from causal import Frontier
from causal.engine import Commit
from causal.session import SessionState
from tests.scenarios.stage import LagOf, Stage
from tests.scenarios.story import Story, told

Recorded = Callable[[str, str], None]


def test_tokens_by_shard_are_not_causal(recorded: Recorded) -> None:
    def nothing(deps: Frontier, store: int, applied: Frontier) -> Frontier:
        return Frontier()

    def play(tell: Story) -> None:
        stage = Stage(tell, "eu", "us", shards=("posts", "replies"), lag_s=LagOf(0.05, by_shard={0: 60.0}))
        tell("Two shards: 0 holds the posts, 1 the replies. Today posts take 60 s from eu to us, replies 50 ms.")
        alice = stage.visit("alice", "eu")
        alice.writes("post", "who comes?", "posts")
        alice.writes("reply", "me!", "replies")
        stage.pass_s(1)
        bob = stage.visit("bob", "us")
        reply = bob.reads("reply", "replies")
        post = bob.reads("post", "posts")
        tell.never(
            reply == "me!" and post is None, "Bob is shown the reply, and then a page without what it replies to."
        )
        stage.pass_s(60)
        bob = stage.visit("bob", "us", bob.token)
        assert (bob.reads("reply", "replies"), bob.reads("post", "posts")) == ("me!", "who comes?")

    rule = "each version keeps its writer's frontier; it is applied, and demanded by who reads it, with all of that."
    without = patch("causal.stores.memory.cluster.stored_deps", nothing)
    recorded("causality/five-steps", told("A reply without its post", play, rule, without))


def test_a_write_returns_what_it_depends_on(recorded: Recorded) -> None:
    acknowledged = SessionState.acknowledged

    def position_only(session: SessionState, commit: Commit, now: float, *_: object) -> None:
        acknowledged(session, attrs.evolve(commit, deps=Frontier()), now)

    def play(tell: Story) -> None:
        feed = Stage(tell, "eu", "us")
        names = Stage(tell, "eu", "us", number=1, time=feed.time, lag_s=60.0)
        tell("Two stores: 0 holds a feed, 1 the names, which take 60 s from eu to us. Its one shard is number 65536.")
        alice = feed.visit("alice", "eu")
        alice.writes("name", "A", of=names)
        alice.writes("top", "B")
        bob = feed.visit("bob", "eu")
        bob.writes("top", "C")
        tell("Bob's C comes after Alice's B in one log, and B after A: so Bob's session follows A from now on.")
        bob = feed.visit("bob", "us", bob.token)
        name = bob.reads("name", of=names)
        alice.writes("more", "D")
        feed.pass_s(1)
        more, top = bob.reads("more"), bob.reads("top")
        tell.never(
            name is None and (more, top) == ("D", "C"),
            "Bob's C is over Alice's B, so for Bob she wrote B before; A came before B, and yet he read that it was not there.",
        )
        assert (name, more, top) == ("A", "D", "C")

    rule = "the acknowledgement of a write returns the dependencies that have accumulated in its log, and the writer joins them."
    title = "Seven operations that are not causal memory"
    recorded(
        "causality/seven-steps", told(title, play, rule, patch.object(SessionState, "acknowledged", position_only))
    )
