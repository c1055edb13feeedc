"""`kill -9` of writers and of replicators at random moments, and many processes on one directory.

After each round: no acknowledged write is lost, none is half there, offsets are dense, no origin was started anew, a watermark never
says more than is there, and both sites come to the same end.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from causal.core.frontier import Frontier
from causal.core.position import Position
from causal.stores.sqlite import SQLiteLink
from tests.stores.crash_nursery import engine, transact
from tests.stores.sqlite_world import fast_directory

KILLS = 2000 if settings.get_current_profile_name() == "deep" else 200


class Nursery:
    """The process that forks and kills."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("crash_nursery.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.kills = 0

    def die(self, path: Path, kind: str, site: str, statement: int) -> tuple[bool, list[tuple[str, str]]]:
        """Run one worker that dies at a statement; return whether it came that far, and what it acknowledged."""
        worker = {"kind": kind, "site": site, "seed": statement, "statement": statement}
        (answer,) = self._ask(path, worker)
        assert answer["killed"] or answer["code"] == 0, f"it failed: {worker}"
        return answer["killed"], answer["acks"]

    def play(self, path: Path, *workers: dict[str, Any]) -> list[list[tuple[str, str]]]:
        answers = self._ask(path, *workers)
        assert all(answer["killed"] for answer in answers), f"a worker ended by itself: {workers}"
        self.kills += len(answers)
        return [answer["acks"] for answer in answers]

    def _ask(self, path: Path, *workers: dict[str, Any]) -> list[dict[str, Any]]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"path": str(path), "workers": workers}) + "\n")
        line = self.process.stdout.readline()
        assert line, "the nursery is gone; see its error output"
        answers: list[dict[str, Any]] = json.loads(line)
        return answers

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def path() -> Iterator[Path]:
    with fast_directory() as path:
        yield path


def offsets_of(path: Path, site: str) -> dict[int, list[int]]:
    """What is in a site's log, looked up with plain SQL; to be called with no link open."""
    db = sqlite3.connect(path / f"{site}.sqlite")
    logged: dict[int, list[int]] = {}
    for origin, offset in db.execute("SELECT origin, offset FROM log ORDER BY origin, offset"):
        logged.setdefault(origin, []).append(offset)
    db.close()
    return logged


def everything(link: SQLiteLink, site: str) -> tuple[dict[int, int], dict[str, Any]]:
    """A snapshot of a site: how far it says to be, and what it shows."""
    handle = link.read(site, (0,))
    applied = {origin: place for origin, (place, _) in handle.watermarks[0].origins.items()}
    data = dict(handle.connection.scan())
    handle.close()
    return applied, data


def check_whole(data: dict[str, Any]) -> None:
    """The keys of one transaction are of one transaction."""
    assert data.get("first") == data.get("last")
    if data:
        assert data["count"] == data["first"][1]
        assert f"write/{data['first'][0]}" in data


def check(path: Path, acknowledged: dict[int, str], *, catch_up: bool = False) -> None:
    """Judge eu, which alone is written at, and us, by what eu acknowledged: offset -> name."""
    link = engine(str(path), "us").open()
    watching = engine(str(path), "eu").open()
    at_eu, shown_at_eu = everything(watching, "eu")
    at_us, shown_at_us = everything(link, "us")
    assert set(at_eu) == {1, 2}, "kill -9 loses nothing, so no origin is started anew"
    assert at_eu[1] >= max(acknowledged, default=0)
    writes = {k: v for k, v in shown_at_eu.items() if k.startswith("write/")}
    assert len(writes) == at_eu[1], "each transaction has a key of its own"
    assert {f"write/{name}" for name in acknowledged.values()} <= writes.keys()
    assert shown_at_eu.get("count", 0) == at_eu[1], "each transaction saw the one before it"
    replicated = {k for k in shown_at_us if k.startswith("write/")}
    assert at_us[1] <= at_eu[1]
    assert len(replicated) == at_us[1] == shown_at_us.get("count", 0), "the watermark says exactly what is there"
    assert {f"write/{name}" for offset, name in acknowledged.items() if offset <= at_us[1]} <= replicated
    check_whole(shown_at_eu)
    check_whole(shown_at_us)
    if catch_up:
        link.catch_up("us")
        assert everything(link, "us") == everything(watching, "eu")
    link.close()
    watching.close()
    for site in ("eu", "us"):
        for logged in offsets_of(path, site).values():
            assert logged == list(range(logged[0], logged[-1] + 1))


@pytest.mark.timeout(600)
def test_kill_9_of_writers_and_replicators(nursery: Nursery, path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    acknowledged: dict[int, str] = {}
    for site in ("eu", "us"):
        engine(str(path), site).open().close()
    start = nursery.kills
    round_ = 0
    while nursery.kills - start < KILLS:
        round_ += 1
        workers: list[dict[str, Any]] = []
        for kind, site in (("write", "eu"), ("write", "eu"), ("replicate", "us")):
            # None: killed while it opens the directory; else in the middle of its work.
            acks = dice.choice([0, 1, 2, 5])
            worker = {"kind": kind, "site": site, "seed": round_ * 10 + len(workers), "acks": acks}
            workers.append({**worker, "then_us": dice.randrange(30_000 if acks == 0 else 3_000)})
        for answer, worker in zip(nursery.play(path, *workers), workers, strict=True):
            if worker["kind"] == "write":
                acknowledged.update({int(offset): name for offset, name in answer})

        check(path, acknowledged, catch_up=dice.random() < 0.3)
    print(f"{nursery.kills - start} kills, {len(acknowledged)} acknowledged writes")
    assert len(acknowledged) > KILLS / 10


def test_a_writer_may_die_at_every_statement(nursery: Nursery, path: Path) -> None:
    for site in ("eu", "us"):
        engine(str(path), site).open().close()
    acknowledged: dict[int, str] = {}
    for statement in range(1, 1000):
        died, acks = nursery.die(path, "write three", "eu", statement)
        acknowledged.update({int(offset): name for offset, name in acks})
        check(path, acknowledged, catch_up=statement % 10 == 0)
        if not died:
            break
    assert statement > 30
    assert len(acknowledged) > 30


def test_a_replicator_may_die_at_every_statement(nursery: Nursery, path: Path) -> None:
    for site in ("eu", "us"):
        engine(str(path), site).open().close()
    acknowledged: dict[int, str] = {}
    for statement in range(1, 1000):
        link = engine(str(path), "eu").open()
        name = f"eu/0/{statement}"
        acknowledged[put(link, name)] = name
        link.close()
        died, _ = nursery.die(path, "replicate once", "us", statement)
        check(path, acknowledged, catch_up=True)
        if not died:
            break
    assert statement > 30


def put(link: SQLiteLink, name: str) -> int:
    """What a writer in the nursery does, here."""
    reading, writing = os.pipe()
    transact(link, "eu", name, writing)
    os.close(writing)
    offset = int(os.read(reading, 100).split()[0])
    os.close(reading)
    return offset


@pytest.mark.parametrize("kind", ["join", "leave", "return"])
def test_a_site_may_die_at_every_statement_of_its_coming_and_going(nursery: Nursery, kind: str) -> None:
    every = 4 if settings.get_current_profile_name() == "dev" else 1
    for statement in range(random.randrange(every) + 1, 1000, every):
        print(f"statement {statement}")
        with fast_directory() as path:
            link = engine(str(path), "eu").open()
            count = put(link, "eu/0/0")
            if kind != "join":
                engine(str(path), "us").open().close()
            count = put(link, "eu/0/1")
            if kind == "return":
                engine(str(path), "eu").leave("us")
                count = put(link, "eu/0/2")
            link.close()
            died, _ = nursery.die(path, "leave" if kind == "leave" else "replicate once", "us", statement)
            eu = engine(str(path), "eu").open()
            assert everything(eu, "eu")[1]["count"] == count
            if "us" in {endpoint.name for endpoint in eu.endpoints}:
                check_whole(everything(eu, "us")[1])
            us = engine(str(path), "us").open()  # what was begun is finished, or begun again
            us.catch_up("us")
            eu.catch_up("eu")
            assert everything(us, "us")[1] == everything(eu, "eu")[1]
            position = position_after_a_put(us)
            eu.catch_up("eu")
            assert everything(eu, "eu")[1]["from us"] == 1
            assert everything(eu, "eu")[0][position.origin] == position.offset
            us.close()
            eu.close()
        if not died:
            break
    assert statement > 30


def position_after_a_put(link: SQLiteLink) -> Position:
    handle = link.write("us", 0, Frontier())
    handle.connection.put("from us", 1)
    position = handle.commit(Frontier()).position
    assert position is not None
    return position


@pytest.mark.timeout(600)
def test_kill_9_while_a_site_joins(nursery: Nursery, path: Path) -> None:
    """It is never readable before it holds everything, and a later opening finishes what was begun."""
    dice = random.Random(5)
    eu = engine(str(path), "eu").open()
    handle = eu.write("eu", 0, Frontier())
    for n in range(2000):
        handle.connection.put(f"k{n}", n)
    handle.commit(Frontier())
    eu.close()
    for n in range(KILLS // 10):
        site = f"s{n}"
        nursery.play(path, {"kind": "reopen", "site": site, "seed": 0, "acks": 0, "then_us": dice.randrange(40_000)})
        watching = engine(str(path), "eu").open()
        if site in {endpoint.name for endpoint in watching.endpoints}:
            assert len(everything(watching, site)[1]) == 2000
        watching.close()
        link = engine(str(path), site).open()
        assert len(everything(link, site)[1]) == 2000
        link.close()


def test_many_processes_write_at_one_site(nursery: Nursery, path: Path) -> None:
    """Offsets are given out inside the write lock, so nobody ships 105 before 103."""
    for site in ("eu", "us"):
        engine(str(path), site).open().close()
    writers = [{"kind": "write", "site": "eu", "seed": n, "acks": 30, "then_us": 0} for n in range(4)]
    readers = [{"kind": "replicate", "site": "us", "seed": 9, "acks": 50, "then_us": 0}]
    *answers, _ = nursery.play(path, *writers, *readers)
    offsets = [int(offset) for answer in answers for offset, _ in answer]
    assert len(offsets) == len(set(offsets)) >= 120
    link = engine(str(path), "us").open()
    link.catch_up("us")
    applied, data = everything(link, "us")
    assert set(offsets) <= set(range(1, applied[1] + 1))
    assert {f"write/{name}" for answer in answers for _, name in answer} <= data.keys()
    assert data["count"] == applied[1]
    check_whole(data)
    link.close()
