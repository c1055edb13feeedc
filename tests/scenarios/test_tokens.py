"""What a client carries: several tokens, tokens that cannot be opened, tokens that had to be made shorter."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import Any
from unittest.mock import patch

import attrs
import pytest

from causal import CausalStore, CommitUnknown, Frontier, Keyring, LeaderMark, ReadPolicy
from causal.claims import Claims
from causal.sealing import Sealing
from causal.session import SessionState
from causal.state import StoreState
from tests.scenarios.stage import FIRST_KEY, SECOND_KEY, Stage, positions
from tests.scenarios.story import Story, told

Recorded = Callable[[str, str], None]

seal = SessionState.token
present = Claims._present


# --- a carrier is a set ------------------------------------------------------------------------------------------------


def the_last_one(claims: Claims, texts: Iterable[str | None], *, first: bool = False) -> None:
    """What a server does that reads one cookie."""
    present(claims, list(texts)[-1:], first=first)


def test_two_tabs_of_one_browser(recorded: Recorded) -> None:
    def play(tell: Story) -> None:
        stage = Stage(tell, "eu", "us")
        stage.visit("bob", "us").writes("news", "rain")
        stage.pass_s(1)
        tell("Alice opens two tabs. Both send their requests before either has an answer.")
        one, two = stage.visit("alice", "eu"), stage.visit("alice", "us")
        one.writes("photo", "new.jpg")
        two.reads("news")
        tell("Both answers bring a token. That of the second tab, which knows nothing of the photo, arrives last.")
        alice = stage.visit("alice", "us", one.token, two.token)
        tell(f"Her next request carries both, and demands {positions(alice.session.own | alice.session.seen)}.")
        page = alice.reads("photo")
        tell.never(
            page is None, "The token that arrived last has replaced the other, and Alice's photo is not on her page."
        )
        assert page == "new.jpg"

    rule = "a carrier is a set: all tokens that are presented together are joined."
    recorded(
        "tokens/two-tabs", told("Two tabs, one browser", play, rule, patch.object(Claims, "_present", the_last_one))
    )


@attrs.define
class Browser:
    """A browser whose tabs send requests in parallel, about one a second each; one in ten writes, and either site may serve.

    A request takes some milliseconds there, and some back. `keep(jar, sent, wrote, token)` is what an answer does to the cookies.
    """

    stores: tuple[CausalStore[Any, Any], ...]
    keep: Callable[[dict[str, str], Iterable[str], bool, str], None]
    random: random.Random = attrs.field(factory=lambda: random.Random(12))
    jar: dict[str, str] = attrs.field(factory=dict)
    acknowledged: Frontier = attrs.field(factory=Frontier)
    forgetful: int = 0
    most: int = 0

    def run(self, tabs: int, requests: int) -> None:
        due: list[tuple[float, int, Callable[[float], tuple[float, Any] | None]]] = []
        for tab in range(tabs):
            heappush(due, (self.random.uniform(0, 100), tab, self.send))
        made = tabs
        for _ in range(3 * requests):
            at_ms, _, step = heappop(due)
            later_ms, then = step(at_ms)  # type: ignore[misc]
            made += 1
            heappush(due, (at_ms + later_ms, made, then))

    def send(self, _: float) -> tuple[float, Any]:
        sent, acknowledged, writes = dict(self.jar), self.acknowledged, self.random.random() < 0.1

        def serve(_: float) -> tuple[float, Any]:
            session = self.random.choice(self.stores).session(*sent.values(), subject="alice")
            self.forgetful += not session.own >= acknowledged
            if writes:
                with session.write() as tx:
                    tx.put("k", 1)
            else:
                with session.read() as db:
                    db.get("k")

            def receive(_: float) -> tuple[float, Any]:
                token = session.token()
                if token is not None:
                    self.keep(self.jar, sent, writes, token)
                self.most = max(self.most, len(self.jar))
                if writes:
                    self.acknowledged |= session.own
                return self.random.uniform(200, 1800), self.send

            return self.random.uniform(1, 50), receive

        return self.random.uniform(1, 50), serve


def one_cookie(jar: dict[str, str], sent: Iterable[str], wrote: bool, token: str) -> None:
    jar["token"] = token


def one_for_reads_one_for_writes(jar: dict[str, str], sent: Iterable[str], wrote: bool, token: str) -> None:
    jar["wrote" if wrote else "read"] = token


def a_set(jar: dict[str, str], sent: Iterable[str], wrote: bool, token: str) -> None:
    for name in sent:
        jar.pop(name, None)
    jar[token] = token


def test_how_often_a_cookie_forgets(recorded: Recorded) -> None:
    lines = ["Requests that carry less than an own write which was acknowledged before they were sent, of 2,000:", ""]
    lines += [f"{'cookies':<46}{'2 tabs':>8}{'4 tabs':>8}{'at most':>9}"]
    names = {
        "one": one_cookie,
        "one that reads set, one that writes set": one_for_reads_one_for_writes,
        "one for each answer, replacing those it had": a_set,
    }
    forgetful: dict[str, list[int]] = {}
    most = 0
    for name, keep in names.items():
        forgetful[name] = []
        for tabs in (2, 4):
            browser = Browser(tuple(Stage(Story(), "eu", "us", lag_s=0.0).stores.values()), keep)
            browser.run(tabs, 2000)
            forgetful[name].append(browser.forgetful)
            most = browser.most
        lines.append(f"{name:<46}{forgetful[name][0]:>8}{forgetful[name][1]:>8}{most:>9}")
    assert forgetful["one"] > forgetful["one that reads set, one that writes set"] > [0, 0]
    assert forgetful["one for each answer, replacing those it had"] == [0, 0]
    assert most <= 4
    recorded("tokens/cookies", "\n".join(lines))


# --- tokens that cannot be opened --------------------------------------------------------------------------------------


def test_a_token_that_cannot_be_opened(recorded: Recorded) -> None:
    def without_marks(session: SessionState, store: Sealing, subject: str | None) -> str | None:
        seen, session.seen = session.seen, session.seen.exact
        try:
            return seal(session, store, subject)
        finally:
            session.seen = seen

    def play(tell: Story) -> None:
        stage = Stage(tell, "eu", "us", shards=("posts", "likes"))
        eu = stage.process("eu", keyring=Keyring([SECOND_KEY, FIRST_KEY]))
        tell("Two shards: 0 holds the posts, 1 the likes. eu seals with key 2 already, which us does not have yet.")
        stage.visit("bob", "us").writes("likes", 7, "likes")
        stage.pass_s(1)
        stage.cluster.pause("us")
        tell("us falls behind.")
        alice = stage.visit("alice", "eu", process=eu)
        alice.writes("post", "hello", "posts")
        alice = stage.visit("alice", "us", alice.token)
        tell(f"us cannot open Alice's token: {type(alice.session.rejected[0].error).__name__}.")
        alice.reads("likes", "likes")
        tell(
            "With this page she gets a fresh token, in place of the one that could not be opened. She goes on to the posts."
        )
        page = stage.visit("alice", "us", alice.token).reads("post", "posts")
        tell.never(page is None, "The fresh token says nothing of the post that the other one demanded.")
        assert page == "hello"

    rule = "after a token that cannot be opened, the fresh one demands the leader for all that the other may have demanded."
    title = "Replacing a token that cannot be opened"
    recorded("tokens/unopenable", told(title, play, rule, patch.object(SessionState, "token", without_marks)))


# --- shorter tokens ----------------------------------------------------------------------------------------------------


def test_only_age_prunes(recorded: Recorded) -> None:
    def pruned(session: SessionState, store: StoreState, subject: str | None) -> str | None:
        everywhere = [k for k, v in session.own.entries.items() if all(e.covers({k: v}) for e in store.view.endpoints)]
        session.own = session.own.without(everywhere)
        session._moved()
        return seal(session, store, subject)

    def play(tell: Story) -> None:
        stage = Stage(tell, "eu", "us", "ap", lag_s=0.0)
        stage.cluster.pause("ap")
        old = stage.process("eu", knows=("eu", "us"))
        tell(
            "A deployment is underway: ap, which is behind, has just been added. A process at eu knows of eu and us only."
        )
        alice = stage.visit("alice", "eu", process=old)
        alice.writes("photo", "new.jpg")
        alice.reads("photo", policy=attrs.evolve(ReadPolicy.quorum(2), unproven="serve"))
        tell("It has asked both: eu and us have applied the photo. Alice takes her token to ap.")
        page = stage.visit("alice", "ap", alice.token).reads("photo")
        tell.never(page is None, "Her token demands nothing any more, and ap shows her a page without her photo.")
        assert page == "new.jpg"

    rule = "nothing is dropped from a token because every known endpoint has it: nobody knows every endpoint. Only age prunes."
    without = patch.object(SessionState, "token", pruned)
    recorded("tokens/pruning", told("Pruned by a membership that nobody has", play, rule, without))


SHARDS = tuple(f"shard {n}" for n in range(12))


def writes_much(tell: Story, stage: Stage) -> str | None:
    """Let Alice write to so many shards that her token does not fit."""
    alice = stage.visit("alice", "eu", process=stage.process("eu", max_token_chars=40))
    for shard in SHARDS:
        with alice.session.write(shard=shard) as tx:
            tx.put("note", "new")
    tell(
        f"alice at eu writes a note to each of {len(alice.session.own)} shards. Her token may take 40 characters only."
    )
    (mark,) = stage.visit("alice", "eu", alice.token).session.seen.marks.values()
    doubtful = ", and remembers that it holds own writes which may yet be lost" if mark.origins else ""
    tell(f"So it says: leaders only, for {round(mark.until - stage.time.wall_s())} s{doubtful}.")
    return alice.token


@pytest.mark.spec("L-13")
def test_a_leader_mark_remembers_the_origins(recorded: Recorded) -> None:
    def forgetful(until: int, exact: frozenset[int] = frozenset(), origins: object = None) -> LeaderMark:
        return LeaderMark(until, exact)

    def play(tell: Story) -> None:
        stage = Stage(tell, "eu", "us", shards=SHARDS, lag_s=60.0)
        token = writes_much(tell, stage)
        stage.cluster.fail_over("eu")
        tell("eu crashes before us has any of it: its origin 1 ends at 0 everywhere. It goes on under new ones.")
        alice = stage.visit("alice", "us", token)
        page = alice.reads("note", "shard 0")
        tell.never(
            page is None, "All of her notes are lost, the leaders are as current as can be, and nobody says a word."
        )
        assert isinstance(page, CommitUnknown)
        alice.session.forget(page.lost)
        tell("Alice accepts it: session.forget(error.lost).")
        assert alice.reads("note", "shard 0") is None

    rule = "a leader mark remembers the origins of folded own writes; where one has ended, the session is told that they may be lost."
    without = patch("causal.core.token.LeaderMark", forgetful)
    recorded("tokens/mark-origins", told("A leader mark, and the leader fails", play, rule, without))


def test_a_leader_mark_ends(recorded: Recorded) -> None:
    def sliding(session: SessionState, store: Sealing, subject: str | None) -> str | None:
        for number in session.seen.lapse(store.wall()).marks:
            session.mark(number, store.until())
        return seal(session, store, subject)

    def play(tell: Story) -> None:
        stage = Stage(tell, "eu", "us", shards=SHARDS, lag_s=0.0)
        token = writes_much(tell, stage)
        bob = stage.visit("bob", "us")
        for page in range(1, 5):
            stage.pass_s(400)
            bob.writes("news", page, "shard 0")
            alice = stage.visit("alice", "us", token)
            alice.reads("news", "shard 0")
            assert alice.token != token
            token = alice.token
        marks = stage.visit("alice", "us", token).session.seen.lapse(stage.time.wall_s()).marks
        tell.never(bool(marks), "As long as Alice comes back, she is sent to the leaders, for ever.")
        tell(
            "Each page brought a new token, and none of them moved the end of the mark: replicas may serve Alice again."
        )

    rule = "until when a leader mark holds is fixed when it is made; sealing it again does not move it."
    without = patch.object(SessionState, "token", sliding)
    recorded("tokens/mark-ends", told("A leader mark ends", play, rule, without))
