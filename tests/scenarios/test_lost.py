"""What is lost, and what may be: said to whom it belongs to, at once, and to nobody else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import attrs
import pytest

from causal import CommitUnknown, Frontier, Loss, WriteLost
from causal.core.demand import Demand
from causal.engine import Commit
from causal.request import Request
from causal.session import SessionState
from causal.stores.memory.link import MemoryWrite
from tests.scenarios.stage import Stage
from tests.scenarios.story import Story, told

Recorded = Callable[[str, str], None]


@contextmanager
def demands(change: Callable[[Demand], None]) -> Iterator[None]:
    """Let every session demand something else than it should."""
    honest = SessionState.demand

    def demand(session: SessionState, *args: Any, **kwargs: Any) -> Demand:
        made = honest(session, *args, **kwargs)
        change(made)
        return made

    with patch.object(SessionState, "demand", demand):
        yield


@pytest.mark.spec("L-9")
def test_one_lost_write_does_not_poison_who_saw_it(recorded: Recorded) -> None:
    def all_is_own(demand: Demand) -> None:
        demand.own = demand.need

    def play(tell: Story) -> None:
        stage = Stage(tell, "eu", "us", shards=("posts", "replies"))
        tell("Two shards: 0 holds the posts, 1 the replies. A reply keeps with it what its writer knew.")
        sara = stage.visit("sara", "eu")
        sara.writes("post", "1", "posts")
        stage.cluster.catch_up("us")
        sara.writes("post", "2", "posts")
        sara.writes("reply", "to 2", "replies")
        stage.cluster.forget_tail("eu", 1, shard="posts")
        tell("eu loses the disk of its posts, not that of its replies: origin 1 of shard 0 ends at 1.")
        stage.pass_s(1)
        refused = 0
        for bob in (stage.visit(f"bob {n}", "us") for n in range(1, 6)):
            bob.reads("reply", "replies")
            page = bob.reads("post", "posts")
            refused += isinstance(page, WriteLost)
            assert isinstance(page, WriteLost) or page == "1"
        tell.never(
            refused > 0, f"{refused} of 5 readers are told that their write is lost. None of them wrote anything."
        )
        tell("Each read demanded at most what survives of origin 1, and its receipt notes what was clipped.")
        assert isinstance(sara.reads("post", "posts"), WriteLost)

    rule = "a position that was only seen is clipped to the end of its history when it is lost; only its writer gets WriteLost."
    recorded(
        "lost/poison", told("One lost write, and everybody who saw a reply to it", play, rule, demands(all_is_own))
    )


@pytest.mark.spec("L-5")
def test_a_lost_write_is_said_to_its_writer(recorded: Recorded) -> None:
    def nothing_is_own(demand: Demand) -> None:
        demand.own = {}

    def play(tell: Story) -> None:
        stage = Stage(tell, "eu", "us")
        alice = stage.visit("alice", "eu")
        alice.writes("photo", "old.jpg")
        stage.cluster.catch_up("us")
        alice.writes("photo", "new.jpg")
        stage.cluster.fail_over("eu")
        tell("eu crashes with a write that no other site has: origin 1 ends at 1, eu goes on as origin 3.")
        page = stage.visit("alice", "us", alice.token).reads("photo")
        tell.never(page == "old.jpg", "Her acknowledged photo is gone, and the page looks as if all were well.")
        assert isinstance(page, WriteLost)
        alice = stage.visit("alice", "eu", alice.token)
        assert isinstance(alice.writes("photo", "newer.jpg"), WriteLost)
        alice.session.forget(page.lost)
        tell("Alice is told, and goes on: session.forget(error.lost).")
        assert alice.reads("photo") == "old.jpg"

    rule = "an own position past the end of its history raises WriteLost, at once, for reads and for writes."
    recorded("lost/said", told("A lost write is said to its writer", play, rule, demands(nothing_is_own)))


@pytest.mark.spec("L-11")
def test_accepting_a_loss_accepts_exactly_that(recorded: Recorded) -> None:
    def start_again(session: SessionState, lost: Iterable[Loss]) -> None:
        session.own = session.seen = Frontier()
        session._moved()

    def play(tell: Story) -> None:
        stage = Stage(tell, "eu", "us", shards=("photos", "orders"), lag_s=60.0)
        tell("Two shards: 0 holds the photos, 1 the orders.")
        alice = stage.visit("alice", "eu")
        alice.writes("photo", "new.jpg", "photos")
        alice.writes("order", "a lamp", "orders")
        stage.cluster.forget_tail("eu", 0, shard="photos")
        tell("eu loses the disk of its photos: origin 1 of shard 0 ends at 0.")
        page = alice.reads("photo", "photos")
        assert isinstance(page, WriteLost)
        alice.session.forget(page.lost)
        tell("Alice accepts the loss of her photo.")
        page = stage.visit("alice", "us", alice.token).reads("order", "orders")
        tell.never(page is None, "With the photo, her order is forgotten as well, which is not lost at all.")
        assert page == "a lamp"

    rule = "session.forget(error.lost) clips the lost positions, and nothing else that the session demands."
    without = patch.object(SessionState, "forget", start_again)
    recorded("lost/forget", told("Accepting a loss accepts exactly that", play, rule, without))


# --- in doubt ----------------------------------------------------------------------------------------------------------


def nothing(*_: object) -> None:
    """Take no note."""


def test_a_commit_without_an_answer(recorded: Recorded) -> None:
    def play(tell: Story) -> None:
        stage = Stage(tell, "eu", "us", lag_s=60.0)
        stage.cluster.lose_answer("eu", committed=True)
        alice = stage.visit("alice", "eu")
        assert isinstance(alice.writes("order 1", "a lamp"), CommitUnknown)
        tell(
            "It was committed, but the answer did not arrive. Alice's next page comes from us, where she looks for her order."
        )
        alice = stage.visit("alice", "us", alice.token)
        if alice.reads("order 1") is None:
            alice.writes("order 2", "a lamp")
            tell.never(True, "She does not find it, and orders again: two lamps.")
        tell("There it is: she need not order again.")

    rule = "a commit without an answer is in doubt: CommitUnknown is raised, and the session reads at the leaders for a while."
    without = patch.object(Request, "in_doubt", nothing)
    recorded("lost/in-doubt", told("A commit is sent and no answer comes", play, rule, without))


@contextmanager
def positions_not_captured() -> Iterator[None]:
    """Let commits succeed, and the question where they are fail."""
    commit = MemoryWrite.commit

    def committed(write: MemoryWrite, deps: Frontier) -> Commit:
        return attrs.evolve(commit(write, deps), position=None, deps=Frontier(), captured=False)

    with patch.object(MemoryWrite, "commit", committed):
        yield


def order_once(tell: Story) -> None:
    """Order a lamp as a shop does that tries again after an error."""
    stage = Stage(tell, "eu", "us", lag_s=60.0)
    alice = stage.visit("alice", "eu")
    with positions_not_captured():
        tell("The write will be committed, but the connection breaks before its position is read.")
        for attempt in ("order 1", "order 2"):
            if alice.writes(attempt, "a lamp") is None:
                break
    tell.never(attempt == "order 2", "The shop took the error for a failure, and ordered again: two lamps.")
    page = stage.visit("alice", "us", alice.token).reads("order 1")
    tell.never(page is None, "Alice's order is missing from her page.")
    assert page == "a lamp"


def test_a_commit_whose_position_is_not_known(recorded: Recorded) -> None:
    rule = "after a commit whose position could not be learned, the session reads at the leaders for a while."
    without = patch.object(Request, "in_doubt", nothing)
    recorded("lost/not-captured", told("Committed, but nobody knows where", order_once, rule, without))


def test_a_commit_whose_position_is_not_known_did_not_fail(recorded: Recorded) -> None:
    def no_position_no_success(request: Request, commit: Commit) -> None:
        if not commit.captured:
            raise CommitUnknown("the position of a commit could not be read")

    rule = "a commit whose position could not be learned is a commit: nothing is raised."
    without = patch.object(Request, "committed", no_position_no_success)
    recorded("lost/not-raised", told("Committed, so nothing is raised", order_once, rule, without))
