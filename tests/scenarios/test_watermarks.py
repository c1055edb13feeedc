"""What a server's word is worth: servers that restart behind what they said, and histories that ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import attrs
import pytest

from causal import ReadPolicy, Watermark
from causal.core import view
from causal.core.decision import Serve, bears_out
from tests.scenarios.stage import Stage, watermarks_say
from tests.scenarios.story import Story, told

Recorded = Callable[[str, str], None]


def replaced_behind(tell: Story, stage: Stage) -> None:
    """The twist of two stories."""
    stage.cluster.pause("us")
    stage.restart("us", back=1)
    tell("us is replaced by an older copy of itself, which lacks the photo. Nobody is told.")


@pytest.mark.spec("G-19")
def test_a_snapshot_is_judged_by_its_own_watermark(recorded: Recorded) -> None:
    @contextmanager
    def by_what_was_known() -> Iterator[None]:
        with patch("causal.request.bears_out", lambda *_: True), patch("causal.blocks.bears_out", lambda *_: True):
            yield

    def play(tell: Story) -> None:
        stage = Stage(tell, "eu", "us", lag_s=0.0)
        alice = stage.visit("alice", "eu")
        alice.writes("photo", "new.jpg")
        alice = stage.visit("alice", "us", alice.token)
        alice.reads("photo")
        tell("The process at us knows now that us has applied 0/1@1, and need not ask again.")
        replaced_behind(tell, stage)
        page = stage.visit("alice", "us", alice.token).reads("photo")
        tell.never(page is None, "A page that covers, says the receipt, without Alice's photo.")
        assert page == "new.jpg"

    rule = "what was known only plans a read; the snapshot's own watermark, of the same life of the server, must bear it out."
    title = "A server goes back between two reads"
    recorded("watermarks/snapshot", told(title, play, rule, by_what_was_known()))


@pytest.mark.spec("G-7", "L-15")
def test_a_watermark_is_of_one_life_of_a_server(recorded: Recorded) -> None:
    def of_the_server(mark: Watermark) -> Watermark:
        return attrs.evolve(mark, incarnation="whichever life")

    def play(tell: Story) -> None:
        stage = Stage(tell, "eu", "us", lag_s=0.0)
        stage.pass_s(60)
        stage.visit("alice", "eu").writes("photo", "new.jpg")
        stage.pass_s(60)
        stage.visit("bob", "us").reads("photo", policy=ReadPolicy.bounded(5))
        tell("By what eu answered, us has shown that it misses nothing older than this.")
        replaced_behind(tell, stage)
        stage.pass_s(4)
        tell("4 s later, Carol asks for a page that is at most 5 s old.")
        page = stage.visit("carol", "us").reads("photo", policy=ReadPolicy.bounded(5))
        tell.never(page is None, "The receipt says at most 5 s old, and the page lacks a photo of a minute ago.")

    rule = "a watermark, and what it shows of freshness, is of one life of one server; a new life must show it again."
    title = "A server goes back, and with it what it has shown"
    recorded("watermarks/incarnation", told(title, play, rule, watermarks_say(of_the_server)))


@pytest.mark.spec("L-3")
def test_ended_is_not_applied(recorded: Recorded) -> None:
    def complete(mark: Watermark) -> Watermark:
        origins = {o: (applied if end is None else end, end) for o, (applied, end) in mark.origins.items()}
        return attrs.evolve(mark, origins=origins)

    def play(tell: Story) -> None:
        stage = Stage(tell, "eu", "us", "ap", lag_s=60.0)
        alice = stage.visit("alice", "eu")
        alice.writes("photo", "old.jpg")
        stage.cluster.catch_up("us")
        alice.writes("photo", "new.jpg")
        stage.cluster.catch_up("ap")
        stage.cluster.fail_over("eu")
        tell("ap has both writes, us has 0/1@1. eu crashes and goes on as origin 4.")
        tell("Its origin 1 is closed at 2: that is what ap, the most advanced, has of it.")
        page = stage.visit("alice", "us", alice.token).reads("photo")
        tell.never(page == "old.jpg", "us counts as having all of the closed origin 1, and shows Alice her old photo.")
        assert page == "new.jpg"

    rule = (
        "a watermark says of an ended origin both where it ends and what is applied here; up to its end one is behind."
    )
    recorded("watermarks/ended", told("Ended is not applied", play, rule, watermarks_say(complete)))


@pytest.mark.spec("G-11")
def test_who_holds_a_lost_write_is_not_current(recorded: Recorded) -> None:
    judged = view.judged

    @contextmanager
    def whatever_ended() -> Iterator[None]:
        def never(endpoint: view.EndpointView, _: Any, *evidence: Any) -> view.EndpointView:
            return judged(endpoint, {}, *evidence)

        def unaware(serve: Serve, watermarks: Any, *_: object) -> bool:
            return bears_out(serve, watermarks, {})

        nothing = property(lambda _: False, lambda *_: None)
        with (
            patch.object(view, "judged", never),
            patch.object(Watermark, "diverged", nothing),
            patch("causal.request.bears_out", unaware),
            patch("causal.blocks.bears_out", unaware),
        ):
            yield

    def play(tell: Story) -> None:
        stage = Stage(tell, "eu", "us", lag_s=0.0)
        alice = stage.visit("alice", "eu")
        alice.writes("photo", "old.jpg")
        alice.writes("photo", "lost.jpg")
        stage.cluster.pause("us")
        stage.cluster.forget_tail("eu", 1)
        stage.cluster.resume("us")
        tell(
            "eu restarts from a backup: its origin 1 ends at 1. us has applied 0/1@2, which exists nowhere else any more."
        )
        page = stage.visit("bob", "us").reads("photo")
        tell.never(
            page == "lost.jpg", "Bob is shown a photo, as current, that was lost and that nobody will see again."
        )
        assert page == "old.jpg"

    rule = "an endpoint that holds writes past the end of a history, in the newest lineage known, is not served."
    recorded("watermarks/diverged", told("A replica that is ahead of a lost history", play, rule, whatever_ended()))
