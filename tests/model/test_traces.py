"""Recorded runs are accepted by the model, step by step; one that was tampered with is rejected at the very event.

By both checkers: TLC steps a cursor over the run as a constant (Trace.tla), the mirror does the same in plain Python.
"""

import importlib
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from causal import CausalStore, Keyring, ReadPolicy, Recorder, Session
from causal.core.frontier import Frontier
from causal.lab.faults import MIXES
from causal.lab.planet.recording import Recording
from causal.lab.planet.small import small_world
from causal.lab.simulator import simulate
from causal.stores.sqlite import SQLiteEngine
from tests.model.test_models import FOLDER, needs_tlc

sys.path.append(str(FOLDER))
run = importlib.import_module("run")
trace = importlib.import_module("mirror.trace")

Row = dict[str, Any]


# --- recording -----------------------------------------------------------------------------------------------------------


def places(frontier: Frontier) -> list[tuple[int, int, int]]:
    return [(p.shard, p.origin, p.offset) for p in frontier]


class Shop:
    """Users of an embedded store with two sites, whose operations are recorded, with what their sessions demanded before and after."""

    def __init__(self, path: Path) -> None:
        self.rows: list[Row] = []
        self.keys = Keyring.generate()
        self.tokens: dict[str, str | None] = {}
        self.recorders = {site: Recorder(self.line) for site in ("eu", "us")}
        far = {"eu": {"us": 0.001}, "us": {"eu": 0.001}}  # each site is nearest to itself
        self.engines = {
            site: SQLiteEngine(
                path / "data", site=site, shards=("photos", "posts"), replicate="manual", rtt_s=far[site]
            )
            for site in ("eu", "us")
        }
        self.stores = {
            site: CausalStore(engine, keyring=self.keys, audience="shop", history=self.recorders[site])
            for site, engine in self.engines.items()
        }

    def line(self, line: Row) -> None:
        if line["op"] in ("read", "write"):
            self.rows.append(line)

    def session(self, who: str, site: str) -> Session[Any, Any]:
        return self.stores[site].session(self.tokens.get(who), subject=who)

    def done(self, who: str, site: str, session: Session[Any, Any], came: Frontier) -> None:
        self.recorders[site].flush()
        self.tokens[who] = session.token()
        self.rows[-1] |= {"session": who, "in": places(came), "out": places(session.own | session.seen)}

    def write(self, who: str, site: str, shard: str, key: str, value: str) -> None:
        session = self.session(who, site)
        came = session.own | session.seen
        with session.write(shard=shard) as tx:
            tx.put(key, value)
        self.done(who, site, session, came)

    def read(self, who: str, site: str, shard: str, key: str, policy: ReadPolicy | None = None) -> Any:
        session = self.session(who, site)
        came = session.own | session.seen
        with session.read(shard=shard, policy=policy) as db:
            value = db.get(key)
        self.done(who, site, session, came)
        return value

    def ship(self, site: str) -> None:
        """Let a site apply what the others have."""
        engine = self.engines[site]
        engine.resume(site)
        engine.catch_up(site)
        engine.pause(site)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """The post and its photo, at two sites that replicate when they are told to."""
    shop = Shop(tmp_path_factory.mktemp("shop"))
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


def simulated(seed: int, limit: int | None = None, mix: str = "calm") -> list[Row]:
    """The rows of a simulated run, without jobs (which go on from what another session knew)."""
    rows: list[Row] = []
    world = small_world(seed)
    world = attrs.evolve(world, population=tuple(attrs.evolve(users, jobs=0.0) for users in world.population))
    simulate(world, "token", faults=MIXES[mix], seed=seed, recording=Recording(rows.append), live=False)
    return [row for row in rows if row["op"] in ("read", "write")][:limit]


# --- the checkers --------------------------------------------------------------------------------------------------------


def by_tlc(recorded: "trace.Run", folder: Path) -> int | None:
    """Return what `trace.rejected` returns, as TLC sees it."""
    shutil.copy(FOLDER / "Trace.tla", folder)
    (folder / "TraceData.tla").write_text(trace.module(recorded), encoding="utf-8")
    found = run.understood(run.tlc("Trace", trace.CONFIG, folder=folder))
    assert found.violated in (None, "NotAtTheEnd")
    assert found.violated is None or found.depth == len(recorded.events) + 1
    return None if found.violated else found.depth


# --- what is accepted ------------------------------------------------------------------------------------------------------


def test_the_embedded_store_keeps_to_the_model(recorded: list[Row]) -> None:
    assert trace.rejected(trace.events(recorded)) is None


@needs_tlc
def test_tlc_says_so_too(recorded: list[Row], tmp_path: Path) -> None:
    assert by_tlc(trace.events(recorded), tmp_path) is None


@pytest.mark.parametrize("seed", SEEDS)
def test_the_simulator_keeps_to_the_model(seed: int) -> None:
    made = trace.events(simulated(seed))
    assert trace.rejected(made) is None, made.events[trace.rejected(made) - 1]


@pytest.mark.parametrize("mix", ["clocks", "network", "servers", "members", "clients", "caches", "suspended", "stale"])
def test_it_does_whatever_breaks_that_the_model_knows_nothing_of(mix: str) -> None:
    """Only of lost histories, and of writes in doubt that others see, does Trace.tla have no word."""
    for seed in range(4):
        made = trace.events(simulated(seed, mix=mix))
        assert trace.rejected(made) is None, (seed, made.events[trace.rejected(made) - 1])


@needs_tlc
def test_tlc_says_so_of_the_simulator_too(tmp_path: Path) -> None:
    made = trace.events(simulated(4))
    assert len(made.events) > 150
    assert by_tlc(made, tmp_path) is None


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


def forgotten_token(run: "trace.Run") -> Iterator[tuple["trace.Run", int]]:
    """A session comes back with less than it was given."""
    place = nth(run, "read", 4)
    yield changed(run, place, came=(0,) * run.places), place


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
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_tlc_rejects_it_at_the_same_event(mutation: Mutation, recorded: list[Row], tmp_path: Path) -> None:
    mutated, place = next(mutation(trace.events(recorded)))
    assert by_tlc(mutated, tmp_path) == place + 1


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
