"""The recording of histories: what a line says, of every engine and in both loops; and that whoever is recorded never notices."""

import asyncio
import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from causal import (
    AsyncCausalStore,
    CausalStore,
    CommitUnknown,
    ConfigError,
    Frontier,
    GateTimeout,
    Keyring,
    NoEndpoint,
    ReadPolicy,
    Recorder,
    WriteLost,
)
from causal.blocks import Read
from causal.engine import KeyVersion
from causal.stores.memory import MemoryCluster, MemoryEngine
from causal.write_blocks import Write
from tests.fake_engine import KEYS, FakeEngine, Handle, Server, near_and_far
from tests.fake_engine import Time as FakeTime
from tests.stores.worlds import MakeWorld, World, make_world

__all__ = ["make_world"]

Lines = list[dict[str, Any]]


class Kept(list[dict[str, Any]]):
    """What a recorder was told, and the recorder."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.recorder = Recorder(self.append, **settings)

    def of(self, *ops: str) -> Lines:
        """The lines of some kinds, so far."""
        self.recorder.flush()
        return [line for line in self if line["op"] in (ops or ("read", "write"))]


def store_of(world: World, site: str, history: Any, **settings: Any) -> CausalStore[Any, Any]:
    given = {"keyring": KEYS, "audience": "shop", "sleep": lambda s: None, "history": history, **settings}
    return CausalStore(world.engines[site], monotonic=world.time.monotonic, wall=world.time.wall_s, **given)


def brief(line: dict[str, Any], *fields: str) -> tuple[Any, ...]:
    return tuple(line.get(field) for field in fields)


@pytest.fixture
def kept() -> Kept:
    return Kept()


@contextmanager
def memory(
    *sites: str, history: Any, **settings: Any
) -> Iterator[tuple[MemoryCluster, Sequence[CausalStore[Any, Any]]]]:
    """Stores of a cluster whose replication is by hand."""
    engine = MemoryEngine(sites)
    for site in sites:
        engine.pause(site)
    given = {"keyring": KEYS, "audience": "shop", "history": history, "policy": ReadPolicy(0.0), **settings}
    yield engine.cluster, [CausalStore(engine.at(site), **given) for site in sites]


# --- what a line says ------------------------------------------------------------------------------------------------


def story(world: World, history: Any) -> None:
    """A session that meets every kind of version."""
    with store_of(world, "eu", history) as store:
        session = store.session(subject="alice")
        with session.write() as tx:
            assert tx.get("a") is None
            tx.put("a", 1)
            assert tx.get("a") == 1
            tx.put("b", 2)
            assert tx.get("b") == 2
        with session.read() as db:
            assert (db.get("a"), db.get("a"), db.get("nothing")) == (1, 1, None)
        with session.write() as tx:
            with session.read() as db:
                assert db.get("a") == 1
            tx.delete("a")
        with session.read() as db:
            assert db.get("a") is None
            assert dict(db.scan()) == {"b": 2}


async def async_story(world: World, history: Any) -> None:
    clocks: Any = {"monotonic": world.time.monotonic, "wall": world.time.wall_s}
    async with AsyncCausalStore(world.engines["eu"], keyring=KEYS, audience="shop", history=history, **clocks) as store:
        session = store.session(subject="alice")
        async with session.write() as tx:
            assert tx.get("a") is None
            tx.put("a", 1)
            assert tx.get("a") == 1
            tx.put("b", 2)
            assert tx.get("b") == 2
        async with session.read() as db:
            assert (db.get("a"), db.get("a"), db.get("nothing")) == (1, 1, None)
        async with session.write() as tx:
            async with session.read() as db:
                assert db.get("a") == 1
            tx.delete("a")
        async with session.read() as db:
            assert db.get("a") is None
            assert dict(db.scan()) == {"b": 2}


def is_the_story(lines: Lines) -> None:
    o = lines[1]["version"][0]
    assert [brief(line, "op", "seq", "key", "value", "version", "how", "delete") for line in lines] == [
        ("read", 1, "a", None, None, "transaction", None),
        ("write", 2, "a", f"{o}@1", [o, 1], "covered", None),
        ("write", 3, "b", f"{o}@1", [o, 1], "covered", None),
        ("read", 4, "a", f"{o}@1", [o, 1], "covered", None),
        ("read", 5, "nothing", None, None, "covered", None),
        ("read", 6, "a", f"{o}@1", [o, 1], "transaction", None),
        ("write", 7, "a", None, [o, 2], "covered", True),
        ("read", 8, "a", None, [o, 2], "covered", None),
        ("read", 9, "b", f"{o}@1", [o, 1], "covered", None),
    ]
    first, second = lines[1]["stamp"], lines[6]["stamp"]
    assert first < second
    assert [line.get("stamp") for line in lines] == [None, first, first, first, None, first, second, second, first]
    assert {line["session"] for line in lines} == {lines[0]["session"]}
    assert {brief(line, "endpoint", "held", "shard", "after", "ok") for line in lines} == {("eu", True, 0, None, None)}
    marks = [line["watermark"][str(o)] for line in lines]
    assert marks == [0, 0, 0, 1, 1, 1, 1, 2, 2]


def test_a_session_leaves_its_story(make_world: MakeWorld, kept: Kept) -> None:
    story(make_world(), kept.recorder)
    is_the_story(kept.of())


def test_an_asynchronous_one_the_same(make_world: MakeWorld, kept: Kept) -> None:
    asyncio.run(async_story(make_world(), kept.recorder))
    is_the_story(kept.of())


def test_a_path_or_a_function_is_enough(make_world: MakeWorld, tmp_path: Path) -> None:
    world, lines = make_world(), Kept()
    story(world, tmp_path / "history.jsonl")
    text = (tmp_path / "history.jsonl").read_text()
    is_the_story([row for row in map(json.loads, text.splitlines()) if row["op"] in {"read", "write"}])
    store_of(world, "eu", lines.append).close()
    assert not lines


def test_another_store_is_read_in_the_same_session(kept: Kept) -> None:
    with memory("eu", history=kept.recorder) as (_, [store]):
        other = CausalStore(MemoryEngine(("us",), store=7), keyring=KEYS, audience="shop", number=7)
        session = store.session(subject="alice")
        with session.write() as tx:
            tx.put("a", 1)
        with session.read(other) as db:
            db.get("a")
        assert [brief(line, "op", "seq", "shard") for line in kept.of()] == [("write", 1, 0), ("read", 2, 7 << 16)]


def test_each_shard_is_named(make_world: MakeWorld, kept: Kept) -> None:
    with store_of(make_world(shards=("main", "other")), "eu", kept.recorder) as store:
        session = store.session(subject="alice")
        with session.write(shard="other") as tx:
            with session.read(shard="main") as db:
                db.get("a")
            tx.put("a", 1)
    assert [brief(line, "op", "seq", "shard", "after") for line in kept.of()] == [
        ("read", 1, 0, None),
        ("write", 2, 1, None),
    ]


def test_a_weaker_promise_is_said(kept: Kept) -> None:
    with memory("eu", "us", history=kept.recorder) as (_, [eu, us]):
        alice = eu.session(subject="alice")
        with alice.write() as tx:
            tx.put("a", 1)
        again = us.session(alice.token(), subject="alice")
        with again.read(policy=ReadPolicy.eventual()) as db:
            assert db.get("a") is None
        with again.read() as db:
            assert db.get("a") == 1
    fields = ("value", "endpoint", "how", "held")
    assert [brief(line, *fields) for line in kept.of("read")] == [
        (None, "us", "eventual", False),
        ("1@1", "eu", "fallback", True),
    ]


# --- refused, in doubt, lost -----------------------------------------------------------------------------------------


def test_what_is_refused_has_no_effect_and_no_key(kept: Kept) -> None:
    with memory("eu", "us", history=kept.recorder) as (_, [eu, us]):
        alice = eu.session(subject="alice")
        with alice.write() as tx:
            tx.put("a", 1)
        again = us.session(alice.token(), subject="alice")
        with pytest.raises(GateTimeout), again.read(policy=ReadPolicy(0.0, then="error")):
            pass
        with pytest.raises(GateTimeout), again.write(wait_s=0.0):
            pass
        with pytest.raises(ConfigError), again.read(shard="nowhere"):
            pass  # asked wrongly: no history
    lines = [line for line in kept.of() if line["session"].endswith("-2")]
    assert [brief(line, "op", "seq", "key", "ok", "how", "held") for line in lines] == [
        ("read", 1, "*", False, "refused", False),
        ("write", 2, "*", False, "refused", False),
    ]


def test_a_write_that_is_refused_as_it_ends_had_no_effect(kept: Kept) -> None:
    with memory("eu", "us", history=kept.recorder) as (_, [eu, us]):
        bob = us.session(subject="bob")
        with bob.write() as tx:
            tx.put("b", 1)
        alice = eu.session(subject="alice")
        block = alice.write()
        tx = block.__enter__()
        tx.get("a")
        tx.put("a", 1)
        alice.join(bob.own)  # which this leader lacks
        with pytest.raises(GateTimeout):
            block.__exit__(None, None, None)
    assert [brief(line, "op", "key", "ok", "version") for line in kept.of()[1:]] == [
        ("read", "a", None, None),
        ("write", "a", False, None),
    ]


def test_what_its_user_takes_back_was_no_write(kept: Kept) -> None:
    with (
        memory("eu", history=kept.recorder) as (_, [store]),
        contextlib.suppress(ZeroDivisionError),
        store.session().write() as tx,
    ):
        tx.get("a")
        tx.put("a", 1)
        tx.put("b", 1 // 0 if tx.get("b") is None else 1)
    assert [brief(line, "op", "key") for line in kept.of()] == [("read", "a"), ("read", "b")]


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("loop", ["sync", "async"])
def test_a_commit_without_an_answer_is_in_doubt(committed: bool, loop: str, kept: Kept) -> None:
    engine = MemoryEngine(("eu",))
    engine.cluster.lose_answer("eu", committed=committed)

    async def run() -> None:
        async with AsyncCausalStore(engine, keyring=KEYS, audience="shop", history=kept.recorder) as store:
            with pytest.raises(CommitUnknown):
                async with store.session().write() as tx:
                    tx.put("a", 1)

    if loop == "async":
        asyncio.run(run())
    else:
        store = CausalStore(engine, keyring=KEYS, audience="shop", history=kept.recorder)
        with pytest.raises(CommitUnknown), store.session().write() as tx:
            tx.put("a", 1)
    (line,) = kept.of()
    assert brief(line, "op", "key", "version", "stamp") == ("write", "a", None, None)
    assert line["ok"] is None
    assert line["value"] is not None


def test_an_interrupted_commit_is_in_doubt(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with memory("eu", history=kept.recorder) as (cluster, [store]):
        monkeypatch.setattr(cluster, "append", interrupted)
        with pytest.raises(KeyboardInterrupt), store.session().write() as tx:
            tx.put("a", 1)
    assert [line["ok"] for line in kept.of()] == [None]


def test_losses_and_ends_are_said(kept: Kept) -> None:
    with memory("eu", "us", history=kept.recorder) as (cluster, [eu, us]):
        alice = eu.session(subject="alice")
        with alice.write() as tx:
            tx.put("a", 1)
        cluster.catch_up("us")
        with alice.write() as tx:
            tx.put("a", 2)
        for site in ("eu", "us"):
            cluster.resume(site)
        cluster.fail_over("eu")
        us.head()
        again = us.session(alice.token(), subject="alice")
        for _ in range(2):
            with pytest.raises(WriteLost) as caught, again.read():
                pass
        again.forget(caught.value.lost)
        with again.read() as db:
            assert db.get("a") == 1
    named = kept.of("lost", "forget", "end", "read")
    assert [brief(line, "op", "seq", "shard", "origin", "offset", "version", "ok") for line in named] == [
        ("end", None, 0, 1, 1, None, None),
        ("lost", 1, 0, None, None, [1, 2], None),
        ("read", 2, 0, None, None, None, False),
        ("lost", 3, 0, None, None, [1, 2], None),
        ("read", 4, 0, None, None, None, False),
        ("forget", 5, 0, None, None, [1, 2], None),
        ("read", 6, 0, None, None, [1, 1], None),
    ]


def test_an_end_is_learned_from_what_is_read(kept: Kept) -> None:
    with memory("eu", "us", history=kept.recorder) as (cluster, [eu, us]):
        for site in ("eu", "us"):
            cluster.resume(site)
        with eu.session().write() as tx:
            tx.put("a", 1)
        cluster.catch_up("us")
        cluster.fail_over("eu")
        with us.session().read() as db:
            db.get("a")
        with us.session().read() as db:
            db.get("a")
    assert [brief(line, "origin", "offset") for line in kept.of("end")] == [(1, 1)]


# --- which session, in which order -----------------------------------------------------------------------------------


def test_blocks_in_parallel_say_what_they_could_know(kept: Kept) -> None:
    with memory("eu", history=kept.recorder) as (_, [store]):
        session = store.session(subject="alice")
        with session.write() as tx:
            tx.put("a", 1)  # 1
        with session.read() as slow:
            with session.write() as tx:
                tx.put("a", 2)  # 2
            with session.read() as db:
                db.get("a")  # 3
            slow.get("a")  # 4, of a snapshot before 2
            slow.get("b")  # 5
        with session.read() as db:
            db.get("a")  # 6
    assert [brief(line, "seq", "after", "version") for line in kept.of()] == [
        (1, None, [1, 1]),
        (2, None, [1, 2]),
        (3, None, [1, 2]),
        (4, 1, [1, 1]),
        (5, 1, None),
        (6, None, [1, 2]),
    ]


def test_a_write_follows_what_its_session_learned_while_it_was_open(kept: Kept) -> None:
    with memory("eu", history=kept.recorder) as (_, [store]):
        session = store.session(subject="alice")
        with session.write() as tx:
            tx.get("b")  # 2, which began before 1 was answered
            done = threading.Thread(target=lambda: read(session, "a"))
            done.start()
            done.join()  # 1
            tx.put("b", 1)  # 3
    assert [brief(line, "op", "seq", "after") for line in kept.of()] == [
        ("read", 1, None),
        ("read", 2, 0),
        ("write", 3, None),
    ]


def read(session: Any, key: str) -> Any:
    with session.read() as db:
        return db.get(key)


def test_tokens_tie_requests_together(kept: Kept) -> None:
    with memory("eu", history=kept.recorder) as (_, [store]):
        alice = store.session(subject="alice")
        assert alice.token() is None
        with alice.write() as tx:
            tx.put("a", 1)
        text = alice.token()
        assert text == alice.token()
        job = alice.token(subject="job")
        assert job is not None
        bob = store.session(text, subject="bob")  # not his
        read(bob, "a")
        again = store.session(None, text, "", subject="alice")
        read(again, "a")
        read(store.session(job, subject="job"), "a")
    lines = kept.of("meta", "read", "write")
    given = [brief(line, "session", "seq", "token_out") for line in lines if "token_out" in line]
    (name, seq, out), (same, _, for_job) = given
    assert name == same
    assert seq == 1
    assert [line.get("token_in") for line in lines if line["op"] == "read"] == [None, out, for_job]
    who = [line["session"].split(".")[0] for line in lines if line["op"] == "read"]
    assert name.split(".")[0] == who[1]
    assert len(set(who)) == 3


def test_a_token_that_joins_later_counts_from_then_on(kept: Kept) -> None:
    with memory("eu", history=kept.recorder) as (_, [store]):
        alice = store.session(subject="alice")
        with alice.write() as tx:
            tx.put("a", 1)
        again = store.session(subject="alice")
        read(again, "a")
        again.join(alice.token())
        read(again, "a")
    (out,) = [line["token_out"] for line in kept.of("meta") if "token_out" in line]
    assert [line.get("token_in") for line in kept.of("read")] == [None, out]


def test_a_session_that_joins_a_token_with_every_reply_does_not_repeat_them_all(kept: Kept) -> None:
    with memory("eu", history=kept.recorder) as (_, [store]):
        session, other = store.session(subject="alice"), store.session(subject="alice")
        for nth in range(200):
            with other.write() as tx:
                tx.put("a", nth)
            session.join(other.token())
        read(session, "a")
    assert len(kept.of("read")[-1]["token_in"]) < 2000


def test_nothing_that_should_stay_secret_is_written(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("plain", "hidden", "open")]
    hidden = Recorder(paths[1], names=False)
    loud = Recorder(paths[2], tokens=True, values=True)
    texts = []
    for recorder in (Recorder(paths[0]), hidden, loud):
        with memory("eu", history=recorder) as (_, [store]), store:
            alice = store.session(subject="alice@example.org")
            with alice.write() as tx:
                tx.put("photo/1", "secret.jpg")
            texts.append(alice.token())
            read(store.session(texts[-1], subject="alice@example.org"), "photo/1")
    plain, dark, light = (path.read_text() for path in paths)
    for text in (plain, dark):
        assert "alice" not in text
        assert "secret" not in text
        assert not any(str(token) in text for token in texts)
    assert "photo/1" in plain
    assert "photo/1" not in dark
    assert [json.loads(line)["value"] for line in light.splitlines() if '"read"' in line] == ["secret.jpg"]
    assert str(texts[2]) in light
    assert "alice" not in light
    assert paths[0].stat().st_mode & 0o077 == 0


def test_values_that_are_no_scalars_stay_digests() -> None:
    kept = Kept(values=True)
    with memory("eu", history=kept.recorder) as (_, [store]), store.session().write() as tx:
        for key, value in enumerate((1, 1.5, True, "x", None, [1], "x" * 1000, float("nan"), 2**70)):
            tx.put(str(key), value)
    assert [line["value"] for line in kept.of()] == [1, 1.5, True, "x", *["1@1"] * 5]


def test_a_digest_needs_the_key(tmp_path: Path) -> None:
    names = []
    for keyring, key in (
        (KEYS, None),
        (KEYS, None),
        (Keyring.generate(), None),
        (KEYS, b"k" * 16),
        (Keyring.generate(), b"k" * 16),
    ):
        kept = Kept(key=key)
        with memory("eu", history=kept.recorder, keyring=keyring) as (_, [store]):
            read(store.session(subject="alice"), "a")
        names.append(kept.of()[0]["session"].split(".")[0])
    assert names[0] == names[1]
    assert names[3] == names[4]
    assert len(set(names)) == 3


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_a_sample_is_of_subjects_and_the_same_everywhere() -> None:
    here, there = Kept(sample=0.3), Kept(sample=0.3)
    for kept in (here, there):
        with memory("eu", history=kept.recorder) as (_, [store]):
            for _ in range(2):
                for n in range(200):
                    read(store.session(subject=f"user {n}"), "a")
    names = [[line["session"].split(".")[0] for line in kept.of()] for kept in (here, there)]
    assert names[0] == names[1]
    assert names[0][: len(names[0]) // 2] == names[0][len(names[0]) // 2 :]
    assert 30 < len(set(names[0])) < 90
    (said,) = [line for line in here.of("meta") if "skipped" in line]
    assert said["sessions"] + said["skipped"] == 400
    assert said["sessions"] == len(names[0])


def test_who_is_not_in_the_sample_meets_no_recording() -> None:
    kept = Kept(sample=0)
    with memory("eu", history=kept.recorder) as (_, [store]):
        for subject in ("alice", None):
            session = store.session(subject=subject)
            assert type(session.read()) is Read
            assert type(session.write()) is Write
            read(session, "a")
    assert not kept.of()


def test_nobody_is_recorded_unless_asked(make_world: MakeWorld) -> None:
    session = store_of(make_world(), "eu", None).session(subject="alice")
    block = session.read()
    assert type(block) is Read
    with block as db:
        assert getattr(db, "tell", None) is None
        assert "Traced" not in type(db).__name__


def test_what_a_store_promises_is_said(kept: Kept) -> None:
    with memory("eu", history=kept.recorder) as (_, [store]):
        read(store.session(), "a")
    head = [line for line in kept.of("meta") if "guarantees" in line]
    assert [brief(line, "store", "dependencies") for line in head] == [(0, True)]
    assert set(head[0]["guarantees"]) == {
        "READ_YOUR_WRITES",
        "MONOTONIC_READS",
        "MONOTONIC_WRITES",
        "WRITES_FOLLOW_READS",
    }


def test_an_engine_that_names_no_versions_is_counted(kept: Kept) -> None:
    time, engine = FakeTime(), near_and_far()
    store = time.store(engine, history=kept.recorder)
    session = store.session(subject="alice")
    with session.write():
        pass
    with session.read():
        pass
    with session.read(policy=ReadPolicy.leader()):
        pass
    engine.servers["near"].up = engine.servers["far"].up = False
    with pytest.raises(NoEndpoint), session.read():
        pass
    store.close()
    assert [brief(line, "op", "key", "ok") for line in kept.of()] == [("read", "*", False)]
    assert [line["unnamed"] for line in kept if "unnamed" in line][-1] == 3


def test_a_lost_write_is_said_even_where_only_a_route_hears_of_it(kept: Kept) -> None:
    engine = FakeEngine(Server("one", {0: {1: (10, None)}}, {0: {1}}))
    store = FakeTime().store(engine, history=kept.recorder)
    session = store.session(subject="alice")
    with session.write():
        pass
    engine.servers["one"].origins[0] = {1: (10, 10), 2: (0, None)}
    engine.servers["one"].leads[0] = {2}
    engine.servers["one"].life += 1
    store.head()
    with pytest.raises(WriteLost):
        session.route()
    assert [brief(line, "op", "version", "origin", "offset") for line in kept.of("lost", "end")] == [
        ("end", None, 1, 10),
        ("lost", [1, 11], None, None),
    ]


# --- never in the way ------------------------------------------------------------------------------------------------


def test_a_file_stops_growing_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "history.jsonl"
    recorder = Recorder(path, max_bytes=2000)
    with memory("eu", history=recorder) as (_, [store]), store:
        session = store.session(subject="alice")
        for _ in range(50):
            read(session, "a")
            recorder.flush()
        full = path.stat().st_size
        for _ in range(50):
            read(session, "a")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    kept = [row for row in rows if row["op"] == "read"]
    assert [row["seq"] for row in kept] == list(range(1, len(kept) + 1))
    assert rows[-1]["dropped"] == recorder.dropped == 100 - len(kept) > 0
    assert path.stat().st_size < full + 300
    assert full < 2000 + 50 * 200
    assert sum(row["op"] != "read" for row in rows) < 60
    assert len([one for one in caplog.records if "grows no more" in one.message]) == 1


def test_what_waits_is_bounded(kept: Kept) -> None:
    small = Kept(max_pending=10)
    with memory("eu", history=small.recorder) as (_, [store]):
        session = store.session(subject="alice")
        with small.recorder._writing:  # a disk that does not answer
            for _ in range(100):
                read(session, "a")
    assert len(small.of()) == 10
    assert [line["dropped"] for line in small if "dropped" in line] == [90]


def test_a_scan_of_more_than_can_wait_keeps_no_more_than_that() -> None:
    small = Kept(max_pending=10)
    with memory("eu", history=small.recorder) as (_, [store]):
        session = store.session(subject="alice")
        for nth in range(5):
            with session.write() as tx:
                for key in range(10):
                    tx.put(f"{nth}{key}", 1)
            small.recorder.flush()
        block = session.read()
        with block as db:
            assert len(list(db.scan())) == 50
            assert len(block._note._shown) <= 11  # type: ignore[attr-defined]
    assert not small.of("read")
    assert small.recorder.dropped >= 11


def test_a_function_that_raises_is_not_heard_of_again(caplog: pytest.LogCaptureFixture) -> None:
    def broken(line: dict[str, Any]) -> None:
        raise RuntimeError("not the user's")

    recorder = Recorder(broken)
    with caplog.at_level(logging.WARNING, logger="causal"), memory("eu", history=recorder) as (_, [store]), store:
        session = store.session(subject="alice")
        for _ in range(5):
            assert read(session, "a") is None
    assert recorder.failed >= 5
    assert [one.message for one in caplog.records] == [
        "the history function raised RuntimeError; said once, counted from now on"
    ]


def _mistaken(*_: object) -> Any:
    raise RuntimeError("the engine's")


@pytest.mark.parametrize(
    ("trace", "written"),
    [
        (_mistaken, list),
        (lambda tell: None, _mistaken),
        (lambda tell: tell(KeyVersion(0, "\udc80", (1, 1), None, b"")), list),
        (lambda tell: tell(KeyVersion(0, b"key", (1, 1), None, b"")), list),  # type: ignore[arg-type]
        (lambda tell: tell(KeyVersion(0, [], (1, 1), None, b"")), list),  # type: ignore[arg-type]
    ],
)
@pytest.mark.parametrize("names", [True, False])
def test_an_engine_that_errs_in_what_it_tells_is_nobodys_error(
    trace: Any, written: Any, names: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handle, "trace", staticmethod(trace), raising=False)
    monkeypatch.setattr(Handle, "written", staticmethod(written), raising=False)
    recorder = Recorder(tmp_path / "history.jsonl", names=names)
    engine = near_and_far()
    with FakeTime().store(engine, history=recorder) as store:
        session = store.session(subject="alice")
        with session.write():
            pass
        assert session.own
        with session.read():
            pass
        assert not engine.open_handles
    thread = recorder._thread
    assert thread is None or thread.is_alive()
    recorder.close()


def test_a_full_disk_is_nobodys_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "history.jsonl"
    recorder, write, broken = Recorder(path), os.write, [True]

    def torn(fd: int, data: bytes) -> int:
        if not broken:
            return write(fd, data)
        if not broken.pop():
            raise OSError(28, "No space left on device")
        broken.append(False)
        return write(fd, data[:10])

    with memory("eu", history=recorder) as (_, [store]), store:
        session = store.session(subject="alice")
        monkeypatch.setattr(os, "write", torn)
        read(session, "a")
        recorder.flush()
        read(session, "b")
    torn_line, *whole = path.read_text().splitlines()
    assert len(torn_line) == 10
    rows = [json.loads(line) for line in whole]
    assert [row["key"] for row in rows if row["op"] == "read"] == ["b"]
    assert [row["dropped"] > 0 for row in rows if "dropped" in row] == [True]


@pytest.mark.parametrize(
    ("target", "settings"),
    [
        (5, {}),
        (None, {}),
        ("nowhere/at/all", {}),
        ("x", {"sample": -0.1}),
        ("x", {"sample": 1.1}),
        ("x", {"sample": True}),
        ("x", {"sample": float("nan")}),
        ("x", {"max_bytes": 0}),
        ("x", {"max_pending": 1.5}),
        ("x", {"key": b"short"}),
        ("x", {"key": "text" * 8}),
    ],
)
def test_a_setting_that_cannot_be_right(
    target: Any, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError):
        Recorder(target, **settings)


def test_a_store_refuses_what_is_no_history() -> None:
    with pytest.raises(ConfigError, match="history"):
        CausalStore(MemoryEngine(), keyring=KEYS, audience="shop", history=5)  # type: ignore[arg-type]


def test_threads_of_one_session_share_one_numbering(kept: Kept) -> None:
    # What another thread has just written is demanded a moment before its leader is known to have it.
    with memory("eu", history=kept.recorder, policy=ReadPolicy(60.0)) as (_, [store]):
        session = store.session(subject="alice")

        def work() -> None:
            for n in range(50):
                with session.write() as tx:
                    tx.put("a", n)
                read(session, "a")

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = kept.of()
    assert [line["seq"] for line in lines] == list(range(1, 401))
    assert sorted(line["version"][1] for line in lines if line["op"] == "write") == list(range(1, 201))
    own = 0
    known: dict[int, int] = {0: 0}
    for line in lines:  # what had been answered before a block began is in what it shows
        offset = line["version"][1]
        assert offset >= known[line.get("after", line["seq"] - 1)], line
        own = max(own, offset)
        known[line["seq"]] = own


def test_a_writer_ends_when_there_is_nothing_to_write(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("causal.recorder._IDLE_S", 0.0)
    with memory("eu", history=kept.recorder) as (_, [store]):
        session = store.session(subject="alice")
        for n in range(3):
            read(session, str(n))
            thread = kept.recorder._thread
            if thread is not None:
                thread.join(10)
            assert kept.recorder._thread is None
    assert [line["key"] for line in kept if line["op"] == "read"] == ["0", "1", "2"]


FORKS = """
import os, sys
from causal import CausalStore, Keyring, Recorder
from causal.stores.memory import MemoryEngine

recorder = Recorder(sys.argv[1])
store = CausalStore(MemoryEngine(("eu",)), keyring=Keyring.generate(), audience="shop", history=recorder)
session = store.session(subject="alice")
for key in ("before", "pending"):
    with session.write() as tx:
        tx.put(key, 1)
with recorder.lock:  # whatever a thread of the parent's may hold
    child = os.fork()
    if child == 0:
        with session.read() as db:
            db.get("child")
        recorder.flush()
        os._exit(0)
os.waitpid(child, 0)
with session.read() as db:
    db.get("parent")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_is_a_source_of_its_own_and_the_rest_is_written_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", FORKS, str(path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    ops = [row for row in rows if row["op"] in {"read", "write"}]
    assert sorted(row["key"] for row in ops) == ["before", "child", "parent", "pending"]
    by_key = {row["key"]: row for row in ops}
    parent, child = by_key["parent"], by_key["child"]
    assert (parent["session"], parent["seq"]) == (by_key["before"]["session"], 3)
    assert child["session"] != parent["session"]
    assert child["session"].split(".")[0] == parent["session"].split(".")[0]
    assert child["seq"] == 1
    assert len({row["source"] for row in rows if "format" in row}) == 2


def test_recorders_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    for _ in range(2):
        recorder = Recorder(path)
        with memory("eu", history=recorder) as (_, [store]):
            read(store.session(subject="alice"), "a")
        recorder.close()
        recorder.close()
        with memory("eu", history=recorder) as (_, [store]), store:
            read(store.session(subject="alice"), "b")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["key"] for row in rows if row["op"] == "read"] == ["a", "b"] * 2


def test_a_frontier_that_joins_is_no_token(kept: Kept) -> None:
    with memory("eu", history=kept.recorder) as (_, [store]):
        session = store.session()
        session.join(Frontier(), None)
        read(session, "a")
    assert "token_in" not in kept.of()[0]


def test_an_asynchronous_block_that_is_refused(kept: Kept) -> None:
    async def run() -> None:
        engine = MemoryEngine(("eu", "us"))
        engine.pause("us")
        store: Callable[[str], AsyncCausalStore[Any, Any]] = lambda site: AsyncCausalStore(  # noqa: E731
            engine.at(site), keyring=KEYS, audience="shop", history=kept.recorder
        )
        async with store("eu") as eu, store("us") as us:
            alice = eu.session(subject="alice")
            async with alice.write() as tx:
                tx.put("a", 1)
            again = us.session(alice.token(), subject="alice")
            with pytest.raises(GateTimeout):
                async with again.read(policy=ReadPolicy(0.0, then="error")):
                    pass
            with pytest.raises(GateTimeout):
                async with again.write(wait_s=0.0):
                    pass

    asyncio.run(run())
    assert [brief(line, "op", "ok") for line in kept.of()[1:]] == [("read", False), ("write", False)]
