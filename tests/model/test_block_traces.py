"""Recorded runs of write blocks that read, that are undone, and whose sessions learn more before they commit.

A read inside a write block is a read: what it showed, its session has seen, whatever becomes of the write. And a write demands what its
session knows when it commits, not when it began.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from causal import GateTimeout, ReadPolicy
from tests.model.recording import Failing, Row, Shop, embedded
from tests.model.test_models import needs_tlc
from tests.model.test_traces import changed, nth, same_by_tlc, trace


def told(shop: Shop) -> list[Row]:
    """Let a shop's users tell each other of photos and posts, in write blocks of all kinds. The two sites hear nothing of each other."""
    shop.write("alice", "eu", "photos", "photo", "new.jpg")
    shop.write("alice", "eu", "posts", "post", "look!")
    # Bob thinks better of his answer, but has read the post, which depends on the photo.
    assert shop.write("bob", "eu", "posts", "answer", "nice", reads=["post"], undone=True) == ["look!"]
    # Carol answers what she has read in the same block: who reads her answer depends on all of it.
    assert shop.write("carol", "eu", "posts", "answer", "where?", reads=["post", "answer"]) == ["look!", None]
    assert shop.read("dave", "eu", "posts", "answer") == "where?"
    # Erin begins to write where the post is not, and reads it elsewhere meanwhile: whether she may go on is the model's to judge.
    with suppress(GateTimeout):
        shop.write("erin", "us", "posts", "answer", "here!", meanwhile=("eu", "posts", "post"))
    # Nor, perhaps, may ivy be shown in her block what she knows to be old.
    with suppress(GateTimeout):
        shop.write("ivy", "us", "posts", "answer", "hm", meanwhile=("eu", "posts", "post"), then="post")
    # Frank does the same where all of that is there: his write depends on what he has read meanwhile.
    shown = shop.write("frank", "eu", "photos", "album", "alps", meanwhile=("eu", "posts", "answer"), then="photo")
    assert shown == ["new.jpg"]
    assert shop.read("greta", "eu", "photos", "album") == "alps"
    shop.ship("us")
    shop.read("erin", "us", "posts", "answer")
    return shop.rows


def embedded_rows(folder: Path) -> list[Row]:
    shop = embedded(folder, policy=ReadPolicy(0.01))
    with shop.stores["eu"], shop.stores["us"]:
        for site, engine in shop.engines.items():
            engine.pause(site)
        return told(shop)


def memory_rows(_: Path) -> list[Row]:
    return told(Failing(sites=("eu", "us")))


@pytest.fixture(scope="module", params=[embedded_rows, memory_rows])
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    rows: list[Row] = request.param(tmp_path_factory.mktemp("shop"))
    return rows


@pytest.fixture(scope="module")
def whole(recorded: list[Row]) -> "trace.Run":
    return trace.events(recorded)


def test_they_keep_to_the_model(whole: "trace.Run") -> None:
    assert trace.rejected(whole) is None, whole.events[trace.rejected(whole) - 1]
    assert [e.op for e in whole.events if e.op not in ("commit", "ack")] == [
        *["read"] * 5,
        "refuse",
        "read",
        "refuse",
        *["read"] * 4,
    ]


# --- what is rejected ------------------------------------------------------------------------------------------------------


Mutated = Iterator[tuple["trace.Run", int]]


def unseen(run: "trace.Run") -> Mutated:
    """What bob's block showed, and what that depends on, his session does not know, for he has written nothing."""
    place = nth(run, "read", 0)
    event = run.events[place]
    assert event.left
    yield changed(run, place, left=(0,) * run.places), place
    for at, n in enumerate(event.left, 1):
        if n:
            yield changed(run, place, left=trace.put(event.left, at, 0)), place


def undepending(run: "trace.Run") -> Mutated:
    """Who reads carol's answer does not learn of what she had read in her block; nor she, when she is acknowledged."""
    photo = run.events[nth(run, "commit", 0)]
    for place in (nth(run, "ack", 2), nth(run, "read", 3)):
        yield changed(run, place, left=trace.put(run.events[place].left, photo.at, 0)), place


def unlearned(run: "trace.Run") -> Mutated:
    """Who reads frank's album does not learn of what he had read elsewhere before he committed; nor he."""
    post = run.events[nth(run, "commit", 1)]
    place = nth(run, "ack", 3)
    assert run.events[place].left[post.at - 1]
    yield changed(run, place, left=trace.put(run.events[place].left, post.at, 0)), place
    place = nth(run, "read", 8)
    yield changed(run, place, left=trace.put(run.events[place].left, post.at, 0)), place


def judged_at_the_begin(run: "trace.Run") -> Mutated:
    """Erin's write is let in by what she demanded when it began; or says that this is all that she demands."""
    refused = nth(run, "refuse", 0)
    post = run.events[nth(run, "commit", 1)]
    mark = trace.put(run.events[nth(run, "read", 0)].mark, post.at, 1)
    here = next(at for at, n in enumerate(mark, 1) if n == 1 and at != post.at)
    let_in = run.events[refused]._replace(op="commit", at=here, offset=2, stamp=99, mark=mark, left=())
    began = let_in._replace(came=(0,) * run.places)
    for write in (let_in, began):
        yield run._replace(events=(*run.events[:refused], write, *run.events[refused + 1 :])), refused


def shown_again(run: "trace.Run") -> Mutated:
    """Ivy is shown in her block that there is no post, which she has read elsewhere."""
    refused, post = nth(run, "refuse", 1), run.events[nth(run, "commit", 1)]
    mark = trace.put(run.events[nth(run, "read", 0)].mark, post.at, 1)
    stale = run.events[refused]._replace(op="read", key=post.key, mark=mark, held=True)
    assert stale.came[post.at - 1] == post.offset
    for came in (stale.came, ()):
        write = stale._replace(came=came)
        yield run._replace(events=(*run.events[:refused], write, *run.events[refused + 1 :])), refused


def hasty_block(run: "trace.Run") -> Mutated:
    """A read inside a block shows what its leader does not hold, or less than it does."""
    place = nth(run, "read", 0)
    event = run.events[place]
    nothing = {"at": 0, "offset": 0, "stamp": 0}
    yield changed(run, place, **nothing), place
    yield changed(run, place, mark=trace.put(event.mark, event.at, 1)), place
    yield changed(run, place, mark=trace.put(event.mark, event.at, event.offset + 1)), place


MUTATIONS: tuple[Callable[["trace.Run"], Mutated], ...] = (
    unseen,
    undepending,
    unlearned,
    judged_at_the_begin,
    shown_again,
    hasty_block,
)


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutated_run_is_rejected_at_the_event(mutation: Callable[["trace.Run"], Mutated], whole: "trace.Run") -> None:
    for number, (mutated, place) in enumerate(mutation(whole)):
        assert trace.rejected(mutated) == place + 1, number


@needs_tlc
def test_tlc_says_the_same(whole: "trace.Run", tmp_path: Path) -> None:
    same_by_tlc([whole, *(mutated for mutation in MUTATIONS for mutated, _ in mutation(whole))], tmp_path)


# --- by chance -------------------------------------------------------------------------------------------------------------


def test_it_happens_by_chance_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs of test_failover_traces.py come by all of it: blocks that read and commit, are undone, or have learned too much."""
    met: dict[str, int] = dict.fromkeys(("read", "undone", "meanwhile", "refused"), 0)

    def block(shop: Failing, *write: Any, **how: Any) -> Any:
        try:
            given = Shop.block(shop, *write, **how)
        except GateTimeout as error:
            met["refused"] += "since this write block began" in str(error)
            raise
        met["undone" if how.get("undone") else "read"] += bool(how.get("reads"))
        met["meanwhile"] += "meanwhile" in how
        return given

    monkeypatch.setattr(Failing, "block", block)
    for seed in range(20):
        Failing(seed).live(100)
    assert min(met.values()) > 2, met
