"""Who leads: stores that take writes at several sites, and what counts as evidence of leadership."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import attrs
import pytest

from causal import Position, ReadPolicy, WriteLost
from causal.core import view
from causal.core.gate import Decision, Demand, Refuse, decide
from causal.core.view import EndpointView, View
from causal.session import Written
from tests.scenarios.stage import Stage, key_of
from tests.scenarios.story import Story, told

Recorded = Callable[[str, str], None]


def whoever_takes_writes(known: View, key: int) -> EndpointView | None:
    """Leadership by shard alone: the nearest endpoint that numbers anything of the shard."""
    return next((e for e in known.endpoints if any(led >> 32 == key >> 32 for led in e.leads)), None)


@pytest.mark.spec("G-9", "L-7")
def test_a_write_that_another_leader_numbered_is_not_lost(recorded: Recorded) -> None:
    def play(tell: Story) -> None:
        stage = Stage(tell, "eu", "us")
        tell("Two sites take writes of one shard: eu numbers origin 1, us origin 2.")
        alice = stage.visit("alice", "eu")
        alice.writes("photo", "new.jpg")
        stage.cluster.pause("us")
        tell("us stands still: it has nothing of origin 1 yet.")
        page = stage.visit("alice", "us", alice.token).reads("photo")
        tell.never(isinstance(page, WriteLost), "Alice is told that her photo is lost. It is safe at eu.")
        tell("us takes writes, but does not number origin 1: what it lacks of it is behind, not lost.")
        assert page == "new.jpg"

    rule = "leadership is per shard and origin: only the endpoint that numbers an origin says where it stops."
    without = patch.object(View, "leader", whoever_takes_writes)
    recorded("leaders/false-loss", told("A write that another leader numbered is not lost", play, rule, without))


@pytest.mark.spec("G-36")
def test_a_leader_read_asks_every_leader(recorded: Recorded) -> None:
    def play(tell: Story) -> None:
        stage = Stage(tell, "eu", "us")
        tell("Two sites take writes of one shard: eu numbers origin 1, us origin 2.")
        stage.visit("alice", "eu").writes("price", "12")
        tell("The write is still on its way to us, when Bob must know the price and asks for the leader's word.")
        page = stage.visit("bob", "us").reads("price", policy=ReadPolicy.leader())
        tell.never(page is None, "a read at the leader that misses an acknowledged write")
        assert page == "12"

    rule = "a read at the leader asks the head of every live origin after the request, and covers all of them."
    without = patch.object(View, "leader", whoever_takes_writes)
    recorded("leaders/leader-read", told("With several leaders, a leader read asks each of them", play, rule, without))


@pytest.mark.spec("G-12", "G-38")
def test_a_leader_that_cannot_be_asked(recorded: Recorded) -> None:
    live = View.live

    def only_who_answers(known: View) -> set[int]:
        return {key for key in live(known) if known.leader(key) is not None}

    def play(tell: Story) -> None:
        stage = Stage(tell, "eu", "us")
        tell("Two sites take writes of one shard: eu numbers origin 1, us origin 2.")
        stage.visit("alice", "eu").writes("price", "12")
        stage.cluster.cut_off("eu")
        tell("eu is cut off before the write has left it. Bob asks for the leader's word.")
        bob = stage.visit("bob", "us")
        page = bob.reads("price", policy=ReadPolicy.leader())
        tell.never(page is None, "a read at the leader, said to hold, that misses an acknowledged write")
        tell("Whoever prefers an answer says so, and the receipt says what it is worth.")
        assert bob.reads("price", policy=attrs.evolve(ReadPolicy.leader(), unproven="serve")) is None
        stage.cluster.rejoin("eu")
        tell("eu is back.")
        assert bob.reads("price", policy=ReadPolicy.leader()) == "12"

    rule = "an origin counts as long as it has not ended, whether or not its leader answers; then the policy decides."
    without = patch.object(View, "live", only_who_answers)
    recorded("leaders/unreachable", told("One of two leaders cannot be asked", play, rule, without))


@pytest.mark.spec("L-10")
def test_a_token_from_a_dead_branch_demotes_nobody(recorded: Recorded) -> None:
    def believing_tokens(demand: Demand, known: View, *policy: Any, **time: Any) -> Decision:
        decision = decide(demand, known, *policy, **time)
        if isinstance(decision, Refuse):
            known.ends.update({key_of(loss.position): loss.end for loss in decision.lost})  # type: ignore[attr-defined]
        return decision

    def play(tell: Story) -> None:
        stage = Stage(tell, "eu", "us", lag_s=0.0)
        stage.visit("bob", "eu").writes("stock", "9")
        mallory = stage.visit("mallory", "eu")
        mallory.session.join(Written([Position(0, 1, 99)]))
        tell(
            "Mallory's token is from a branch of eu's history that died without a word: it says 0/1@99, where eu is at 0/1@1."
        )
        stage.visit("mallory", "eu", mallory.token).reads("stock")
        tell("That is Mallory's loss alone. eu leads on.")
        bob = stage.visit("bob", "eu")
        bob.writes("stock", "8")
        page = stage.visit("bob", "eu", bob.token).reads("stock", policy=ReadPolicy.leader())
        tell.never(
            page != "8", "One old token has ended eu's history in the eyes of everybody: nobody is served any more."
        )

    rule = "a token never ends a history or demotes a leader for others: only what endpoints say does."
    title = "An old token from a dead branch demotes nobody"
    recorded("leaders/dead-branch", told(title, play, rule, patch("causal.request.decide", believing_tokens)))


@pytest.mark.spec("G-14")
def test_a_leader_that_a_replica_has_not_heard_of(recorded: Recorded) -> None:
    judged = view.judged

    def by_what_it_has_heard_of(endpoint: EndpointView, *evidence: Any) -> EndpointView:
        *evidence, live = evidence
        return judged(endpoint, *evidence, live & endpoint.applied.keys())

    def play(tell: Story) -> None:
        stage = Stage(tell, "eu", "us", lag_s=0.0)
        stage.visit("alice", "eu").writes("price", "12")
        stage.cluster.pause("us")
        stage.cluster.fail_over("eu")
        tell("us has all of origin 1 when eu is deposed. It goes on as origin 3, of which us has not heard.")
        stage.visit("alice", "eu").writes("price", "15")
        stage.pass_s(60)
        page = stage.visit("bob", "us").reads("price", policy=ReadPolicy.bounded(5))
        tell.never(page == "12", "us has all that it has heard of, and counts as fresh. The price is a minute old.")
        assert page == "15"

    rule = "how fresh an endpoint is, is judged by every live origin that any endpoint has heard of."
    without = patch.object(view, "judged", by_what_it_has_heard_of)
    recorded("leaders/unheard", told("A new leader that a replica has not heard of", play, rule, without))
