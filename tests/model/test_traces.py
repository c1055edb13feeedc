"""Recorded runs are accepted by the model, step by step; one that was tampered with is rejected at the very event.

By both checkers: TLC steps a cursor over runs as constants (Trace.tla), the mirror does the same in plain Python. Runs in which histories
end, or commits are in doubt, are in test_failover_traces.py.
"""

import importlib
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from causal import ReadPolicy
from tests.model.recording import Row, embedded, simulated
from tests.model.test_models import FOLDER, needs_tlc

sys.path.append(str(FOLDER))
run = importlib.import_module("run")
trace = importlib.import_module("mirror.trace")


# --- recording -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """The post and its photo, at two sites that replicate when they are told to."""
    shop = embedded(tmp_path_factory.mktemp("shop"))
    with shop.stores["eu"], shop.stores["us"]:
        for site, engine in shop.engines.items():
            engine.pause(site)
        # Both sites ask each other while nothing is written: for as long as may be stale, neither has to be shown to be fresh again.
        assert shop.read("bob", "us", "posts", "post") is None
        assert shop.read("alice", "eu", "posts", "post") is None
        shop.write("alice", "eu", "photos", "photo", "new.jpg")
        shop.write("alice", "eu", "posts", "post", "look!")
        assert shop.read("carol", "us", "posts", "post") is None
        shop.ship("us")
        assert shop.read("bob", "us", "posts", "post") == "look!"
        assert shop.read("bob", "us", "photos", "photo") == "new.jpg"
        shop.write("bob", "us", "posts", "answer", "nice")
        shop.write("bob", "us", "photos", "photo", "cropped.jpg")
        assert shop.read("alice", "eu", "photos", "photo") == "new.jpg"
        shop.ship("eu")
        assert shop.read("alice", "eu", "posts", "answer") == "nice"
        assert shop.read("alice", "eu", "photos", "photo") == "cropped.jpg"
        shop.write("alice", "eu", "photos", "photo", "final.jpg")
        shop.read(
            "alice", "us", "photos", "photo", ReadPolicy(wait_s=0.01)
        )  # us is behind; what it is shown is the model's to judge
        assert shop.read("alice", "us", "photos", "photo", ReadPolicy.eventual()) == "cropped.jpg"
        shop.ship("us")
        assert shop.read("bob", "us", "photos", "photo") == "final.jpg"
    assert len(shop.rows) == 16
    return shop.rows


SEEDS = (*range(12), 22, 41)
"""22 and 41 are worlds in which a store that drops dependencies is found out."""


# --- the checkers --------------------------------------------------------------------------------------------------------


def same_by_tlc(runs: list["trace.Run"], folder: Path) -> None:
    """TLC goes over each run exactly as far as the mirror: never beyond, and over as many states."""
    shutil.copy(FOLDER / "Trace.tla", folder)
    (folder / "TraceData.tla").write_text(trace.module(runs), encoding="utf-8")
    found = run.understood(run.tlc("Trace", trace.CONFIG, folder=folder))
    assert found.violated is None
    assert found.states == sum(map(trace.stops, runs))


# --- what is accepted ------------------------------------------------------------------------------------------------------


def test_the_embedded_store_keeps_to_the_model(recorded: list[Row]) -> None:
    assert trace.rejected(trace.events(recorded)) is None


@pytest.mark.parametrize("seed", SEEDS)
def test_the_simulator_keeps_to_the_model(seed: int) -> None:
    made = trace.events(simulated(seed))
    assert trace.rejected(made) is None, made.events[trace.rejected(made) - 1]


@pytest.mark.parametrize("mix", ["clocks", "network", "servers", "members", "clients", "caches", "suspended", "stale"])
def test_it_does_whatever_breaks_that_the_model_knows_nothing_of(mix: str) -> None:
    """What fails over, and what is in doubt, is in test_failover_traces.py."""
    for seed in range(4):
        made = trace.events(simulated(seed, mix=mix))
        assert trace.rejected(made) is None, (seed, made.events[trace.rejected(made) - 1])


@needs_tlc
def test_tlc_says_so_too(recorded: list[Row], tmp_path: Path) -> None:
    runs = [trace.events(recorded), trace.events(simulated(4))]
    assert len(runs[1].events) > 150
    assert [trace.stops(one) for one in runs] == [len(one.events) + 1 for one in runs]
    same_by_tlc(runs, tmp_path)


# --- what is rejected ------------------------------------------------------------------------------------------------------


def nth(run: "trace.Run", op: str, number: int) -> int:
    """Return the place of the n-th event of a kind, from 0 on."""
    return [place for place, e in enumerate(run.events) if e.op == op][number]


def changed(run: "trace.Run", place: int, **fields: Any) -> "trace.Run":
    event = run.events[place]._replace(**fields)
    assert event != run.events[place]
    return run._replace(events=(*run.events[:place], event, *run.events[place + 1 :]))


def stale_read(run: "trace.Run") -> Iterator[tuple["trace.Run", int]]:
    """Alice, who has seen bob's photo, is shown her own, which it replaced; then nothing at all."""
    place = nth(run, "read", 7)
    first = run.events[nth(run, "commit", 0)]
    assert run.events[place].key == first.key
    yield changed(run, place, at=first.at, offset=first.offset, stamp=first.stamp), place
    yield changed(run, place, at=0, offset=0, stamp=0), place


def dropped_dependency(run: "trace.Run") -> Iterator[tuple["trace.Run", int]]:
    """Bob reads the post, and his session does not learn of the photo that it depends on."""
    place = nth(run, "read", 3)
    photo = run.events[nth(run, "commit", 0)]
    left = run.events[place].left
    yield changed(run, place, left=(*left[: photo.at - 1], 0, *left[photo.at :])), place


def low_watermark(run: "trace.Run") -> Iterator[tuple["trace.Run", int]]:
    """Bob, whose token demands the photo, is served where it is not applied, and shown nothing: true to that watermark, and too early."""
    place = nth(run, "read", 4)
    event = run.events[place]
    mark = (*event.mark[: event.at - 1], 0, *event.mark[event.at :])
    yield changed(run, place, mark=mark, at=0, offset=0, stamp=0), place
    yield changed(run, place, mark=mark), place


def foreign_acknowledgement(run: "trace.Run") -> Iterator[tuple["trace.Run", int]]:
    """A write is acknowledged to somebody else; or before it was committed."""
    place = nth(run, "ack", 1)
    commit, ack = run.events[place - 1 : place + 1]
    assert (commit.op, commit.who) == ("commit", ack.who)
    yield changed(run, place, who=next(e.who for e in run.events if e.who != ack.who)), place
    yield run._replace(events=(*run.events[: place - 1], ack, commit, *run.events[place + 1 :])), place - 1


def weak_acknowledgement(run: "trace.Run") -> Iterator[tuple["trace.Run", int]]:
    """An acknowledgement that does not cover the write; then one that forgets what the session demanded before."""
    place = nth(run, "ack", 1)
    event = run.events[place]
    for other in (event.at, run.events[nth(run, "commit", 0)].at):
        left = (*event.left[: other - 1], 0, *event.left[other:])
        yield changed(run, place, left=left), place


def forgetful_read(run: "trace.Run") -> Iterator[tuple["trace.Run", int]]:
    """A read leaves a session with less than it came with: the post, when it is shown the photo; or both, when it is shown nothing new.

    It need not come back with less to be found out, nor come back at all.
    """
    place = nth(run, "read", 4)
    event = run.events[place]
    post = next(at for at, n in enumerate(event.came, 1) if n and at != event.at)
    left = trace.put(event.left, post, 0)
    forgotten = changed(run, place, left=left)
    yield forgotten, place
    yield forgotten._replace(events=forgotten.events[: place + 1]), place
    yield changed(forgotten, place + 1, came=left), place
    place = nth(run, "read", 5)
    for at, n in enumerate(run.events[place].came, 1):
        if n:
            yield changed(run, place, left=trace.put(run.events[place].left, at, 0)), place


def forgetful_acknowledgement(run: "trace.Run") -> Iterator[tuple["trace.Run", int]]:
    """Whatever a session comes with when it writes, it leaves with, too."""
    for number in range(5):
        place = nth(run, "ack", number)
        for at, n in enumerate(run.events[place].came, 1):
            if n:
                yield changed(run, place, left=trace.put(run.events[place].left, at, n - 1)), place


def inflated_token(run: "trace.Run") -> Iterator[tuple["trace.Run", int]]:
    """A session is left with, or comes with, what nobody has written: after the last read, too; or what is written only later."""
    for op, number in (("read", 0), ("read", 3), ("read", -1), ("ack", 0), ("ack", 3)):
        place = nth(run, op, number)
        event = run.events[place]
        yield changed(run, place, left=(99,) * run.places), place
        yield changed(run, place, left=tuple(n + 9 for n in event.left)), place
        yield changed(run, place, came=(99,) * run.places), place
    commit = run.events[nth(run, "commit", 1)]
    place = nth(run, "ack", 0)
    assert place < nth(run, "commit", 1)
    yield changed(run, place, left=trace.put(run.events[place].left, commit.at, commit.offset)), place


def inflated_watermark(run: "trace.Run") -> Iterator[tuple["trace.Run", int]]:
    """A watermark covers what nobody has numbered: of a read, and of a leader, that has its own write and no more."""
    for op, number in (
        ("read", 0),
        ("read", 4),
        ("read", 7),
        ("read", -1),
        ("commit", 0),
        ("commit", 3),
        ("commit", -1),
    ):
        place = nth(run, op, number)
        event = run.events[place]
        for at, here in enumerate(event.mark, 1):
            if here != trace.UNKNOWN:
                yield changed(run, place, mark=trace.put(event.mark, at, here + 5)), place
                last = max((v.offset for v in run.events[: place + 1] if v.op == "commit" and v.at == at), default=1)
                yield changed(run, place, mark=trace.put(event.mark, at, last + 1)), place
    place = nth(run, "commit", -1)
    event = run.events[place]  # a number is left out, and covered all the same
    yield changed(run, place, offset=event.offset + 1, mark=trace.put(event.mark, event.at, event.offset)), place


def forgotten_token(run: "trace.Run") -> Iterator[tuple["trace.Run", int]]:
    """A session comes back with less than it was given; even where the policy promises nothing."""
    for number in (4, 9):
        place = nth(run, "read", number)
        yield changed(run, place, came=(0,) * run.places), place
    assert not run.events[place].held


def ungated_write(run: "trace.Run") -> Iterator[tuple["trace.Run", int]]:
    """A leader takes a write of a session whose demand it does not cover; and a write that takes a number twice."""
    place = nth(run, "commit", 2)
    event = run.events[place]
    yield changed(run, place, mark=tuple(min(m, 0) for m in event.mark)), place
    place = nth(run, "commit", 4)
    yield changed(run, place, offset=run.events[place].offset - 1), place


def old_stamp(run: "trace.Run") -> Iterator[tuple["trace.Run", int]]:
    """A write is stamped below the version that its leader holds: it would lose to what its writer has seen."""
    place = nth(run, "commit", 4)
    yield changed(run, place, stamp=1), place


MUTATIONS = (
    stale_read,
    dropped_dependency,
    low_watermark,
    foreign_acknowledgement,
    weak_acknowledgement,
    forgetful_read,
    forgetful_acknowledgement,
    inflated_token,
    inflated_watermark,
    forgotten_token,
    ungated_write,
    old_stamp,
)
Mutation = Callable[["trace.Run"], Iterator[tuple["trace.Run", int]]]


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutated_run_is_rejected_at_the_event(mutation: Mutation, recorded: list[Row]) -> None:
    for mutated, place in mutation(trace.events(recorded)):
        assert trace.rejected(mutated) == place + 1


@needs_tlc
def test_tlc_rejects_each_at_the_same_event(recorded: list[Row], tmp_path: Path) -> None:
    whole = trace.events(recorded)
    same_by_tlc([mutated for mutation in MUTATIONS for mutated, _ in mutation(whole)], tmp_path)


def test_who_has_not_heard_of_an_origin_of_its_shard_does_not_cover_it(recorded: list[Row]) -> None:
    rows = [dict(row) for row in recorded]
    whole = trace.events(rows)
    read = [row for row in rows if row["op"] == "read"][4]
    origin, offset = read["version"]
    assert (read["shard"], origin, offset) in map(tuple, read["in"])
    read["watermark"] = {o: n for o, n in read["watermark"].items() if int(o) != origin}
    for name in ("version", "stamp"):
        del read[name]
    assert trace.rejected(trace.events(rows)) == nth(whole, "read", 4) + 1


@pytest.mark.parametrize("seed", SEEDS)
def test_each_stale_read_of_a_simulated_run_is_found(seed: int) -> None:
    """Wherever a read that was gated shows nothing, or is served below its token, in place of what it showed."""
    whole = trace.events(simulated(seed, limit=120))
    reads = [n for n, e in enumerate(whole.events) if e.op == "read" and e.offset][:20]
    assert reads or seed
    for place in reads:
        assert trace.rejected(changed(whole, place, at=0, offset=0, stamp=0)) == place + 1


def test_what_a_policy_did_not_promise_is_not_demanded(recorded: list[Row]) -> None:
    eventual = [row["held"] for row in recorded if row["op"] == "read"]
    assert eventual.count(False) == 1
    place = nth(trace.events(recorded), "read", eventual.index(False))
    assert trace.rejected(changed(trace.events(recorded), place, held=True)) == place + 1
