"""Any interleaving of writes, replication, feeds, crashes, collections and rebuilds: the index is its site at one of its moments."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

from causal import CausalError, GateTimeout, NoEndpoint, Overloaded, ReadPolicy
from causal.derived import mixed
from causal.derived.fts import file as index_file
from tests.derived.shelf import TO_LEADER, Shelf, delete, document, put

SEEDS = 40
STEPS = 150
WORDS = ("coffee", "tea", "water", "milk")
KEY_COUNT = 6


class Crashed(Exception):
    """A feeder that died."""


class Story:
    """Sessions at both sites and a feeder that may die; every moment of eu's data is kept, by what it had applied."""

    def __init__(self, path: Path, seed: int) -> None:
        self.chance = Random(seed)
        self.shelf = Shelf(path)
        self.sessions = [
            (self.shelf.eu.session(), "eu"),
            (self.shelf.us.session(), "us"),
            (self.shelf.eu.session(), "eu"),
        ]
        self.moments: dict[tuple[tuple[int, int], ...], dict[str, Any]] = {}
        self.own: list[dict[str, Any]] = [{} for _ in self.sessions]
        self.mixed = self.gated = 0

    def look(self) -> None:
        """Keep what eu holds now."""
        handle = self.shelf.eu._link().read("eu", (0,))
        rows = {key: made for key, value in handle.connection.scan() if (made := document(key, value)) is not None}
        marks = {origin: place[0] for origin, place in handle.watermarks[0].origins.items()}
        self.moments[tuple(sorted(marks.items()))] = rows
        handle.close()

    def write(self) -> None:
        nth = self.chance.randrange(len(self.sessions))
        session, _ = self.sessions[nth]
        key = str(self.chance.randrange(KEY_COUNT))
        try:
            if self.chance.random() < 0.3:
                delete(session, key)
            else:
                put(session, key, " ".join(self.chance.choices(WORDS, k=3)), created=self.chance.randrange(9))
        except (GateTimeout, NoEndpoint):
            return  # its site lacks what the session has seen
        (position,) = session.own.entries.items()  # a session writes at one site
        self.own[nth][f"post/{key}"] = position

    def replicate(self) -> None:
        self.shelf.engines["eu"].catch_up(self.chance.choice(("eu", "us")))

    def collect(self) -> None:
        self.shelf.engines[self.chance.choice(("eu", "us"))].collect()

    def feed(self) -> None:
        self.shelf.derived.feed()

    def rebuild(self) -> None:
        self.shelf.derived.rebuild()

    def crash(self) -> None:
        """A feeder dies at any call, in a step or a rebuild."""
        left = self.chance.randrange(6)
        real = {name: getattr(index_file, name) for name in ("put", "_keep", "create", "drop")}

        def dying(name: str) -> Any:
            def dies(*args: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    raise Crashed
                return real[name](*args)

            return dies

        for name in real:
            setattr(index_file, name, dying(name))
        try:
            self.chance.choice((self.feed, self.rebuild))()
        except Crashed:
            pass
        finally:
            for name, whole in real.items():
                setattr(index_file, name, whole)

    def read(self) -> None:
        """A gated read covers what is demanded, and is one moment of eu."""
        session, _ = self.chance.choice(self.sessions)
        try:
            with (block := session.read(self.shelf.search)) as index:
                assert block.watermarks is not None
                marks = block.watermarks[0].origins
                held = {hit.key: hit.document for hit in index.search(limit=1000)}
                found = {hit.key for hit in index.search("coffee", limit=1000)}
                demand = {key & 0xFFFFFFFF: offset for key, offset in (session.own | session.seen).entries.items()}
        except (GateTimeout, NoEndpoint):
            return
        self.gated += 1
        assert all(marks[origin][0] >= offset for origin, offset in demand.items())
        assert held == self.moments[tuple(sorted((origin, at) for origin, (at, _) in marks.items()))]
        assert found == {key for key, made in held.items() if "coffee" in made["title"].split()}

    def mix(self) -> None:
        """A mixed page has each row that the session changed as the source has it, and all others as index or source have them."""
        nth = self.chance.randrange(len(self.sessions))
        session, _ = self.sessions[nth]
        lag = self.chance.choice((None, ReadPolicy.eventual()))
        store = self.chance.choice((self.shelf.eu, self.shelf.us))
        try:
            with (block := session.read(self.shelf.search, policy=ReadPolicy.eventual())) as index:
                assert block.watermarks is not None
                marks = block.watermarks[0].origins
                before = {hit.key: hit.document for hit in index.search(limit=1000)}
            page = mixed(session, self.shelf.search, store, limit=1000, lag=lag, policy=TO_LEADER)
            with session.read(store, policy=TO_LEADER) as db:
                now = {key: made for key, value in db.scan() if (made := document(key, value)) is not None}
        except (GateTimeout, NoEndpoint, Overloaded):
            return
        self.mixed += bool(page.source)
        held = {hit.key: hit.document for hit in page.hits}
        assert page.total == len(held)
        for key, (origin, offset) in self.own[nth].items():
            lacks = marks.get(origin & 0xFFFFFFFF, (-1, None))[0] < offset
            assert held.get(key) == (now if lacks else held).get(key), key
        for key in before.keys() | now.keys() | held.keys():
            assert held.get(key) in (before.get(key), now.get(key)), key
        found = mixed(
            session, self.shelf.search, store, "coffee", limit=1000, lag=ReadPolicy.eventual(), policy=TO_LEADER
        )
        there = {hit.key: hit.document for hit in found.hits}
        assert all("coffee" in made["title"].split() for made in there.values())
        for key, made in now.items():  # it has seen all of that by now
            assert there.get(key) == (made if "coffee" in made["title"].split() else None)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_index_is_its_site_at_one_of_its_moments(tmp_path: Path, seed: int) -> None:
    story = Story(tmp_path, seed)
    deeds = [story.write] * 6 + [story.read] * 3 + [story.mix] * 3 + [story.feed] * 3 + [story.replicate] * 2
    deeds += [story.collect, story.rebuild, story.crash]
    with story.shelf.stack:
        story.look()
        story.shelf.feed()
        for _ in range(STEPS):
            story.chance.choice(deeds)()
            story.look()
        for _ in range(2):
            for site in ("eu", "us"):
                story.shelf.engines["eu"].catch_up(site)
        story.look()
        story.feed()
        for session, _ in story.sessions:
            with session.read(story.shelf.search) as index:
                assert {hit.key: hit.document for hit in index.search(limit=1000)} == list(story.moments.values())[-1]
    assert story.gated
    assert story.mixed


def test_it_is_rebuilt_while_it_is_written_to_fed_and_read(tmp_path: Path) -> None:
    """Each row counts up: what a reader has seen of it, no later page of the same reader falls behind."""
    shelf = Shelf(tmp_path)
    with shelf.stack:
        writer = shelf.eu.session()
        for key in range(50):
            put(writer, str(key), "coffee", created=0)
        shelf.feed()
        over, wrong = threading.Event(), list[BaseException]()
        lives = set[object]()

        def guarded(deed: Any) -> Any:
            def run() -> None:
                try:
                    while not over.is_set():
                        deed()
                except BaseException as error:  # noqa: BLE001 - told by the test's own thread
                    wrong.append(error)
                    over.set()

            return threading.Thread(target=run)

        counts, chance = [0] * 50, Random(1)

        def write() -> None:
            key = chance.randrange(50)
            counts[key] += 1
            put(writer, str(key), "coffee", created=counts[key])

        def feed() -> None:
            with shelf.derived.feeding() as feeding:
                for _ in range(20):
                    feeding.step()

        def read() -> None:
            session, last = shelf.eu.session(), [0] * 50
            for _ in range(10):
                with (block := session.read(shelf.search, policy=ReadPolicy.eventual())) as index:
                    marks = block.watermarks
                    assert marks is not None
                    lives.add(marks[0].incarnation)
                    hits = index.search("coffee", order="created", limit=100)
                    assert index.count("coffee") == len(hits) == 50
                now = [0] * 50
                for hit in hits:
                    now[int(hit.key.removeprefix("post/"))] = hit.document["created"]
                assert all(a <= b for a, b in zip(last, now, strict=True))
                last = now
            try:
                page = mixed(writer, shelf.search, shelf.eu, "coffee", limit=100)
            except CausalError as error:
                raise AssertionError(error.receipt if isinstance(error, GateTimeout) else error) from error
            assert page.total == 50

        threads = [guarded(deed) for deed in (write, feed, read)]
        for thread in threads:
            thread.start()
        try:
            deadline = time.monotonic() + 60
            while len(lives) < 3 and not over.is_set():
                shelf.derived.rebuild()
                assert time.monotonic() < deadline
        finally:
            over.set()
            for thread in threads:
                thread.join()
        if wrong:
            raise wrong[0]
        shelf.feed()
        with writer.read(shelf.search) as index:
            for key in range(50):
                assert index.get(f"post/{key}")["created"] == counts[key]


def test_a_generation_that_is_behind_is_not_published(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    with shelf.stack:
        alice = shelf.eu.session()
        put(alice, "1", "coffee")
        shelf.feed()
        opened = shelf.index.open({"main": 0})
        current = opened.generation()
        assert current is not None
        built = opened.begin()
        opened.apply(built, (), {0: dict(current.places[0])}, current.deps)
        put(alice, "2", "coffee")
        shelf.feed()
        assert not opened.publish(built.number)
        now = opened.generation()
        assert now is not None
        assert now.number == current.number
        assert opened.sweep() == [{}]
        opened.close()
