"""Sites of an embedded store with an index beside one of them, all driven by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from causal import CausalStore, Keyring, ReadPolicy, Session
from causal.derived import DerivedEngine, EmbeddedFeed, Hit, SearchIndex
from causal.stores.sqlite import SQLiteEngine

AT_ONCE = ReadPolicy(0.02, then="error")
"""Of a time that only passes while somebody sleeps."""
TO_LEADER = ReadPolicy(0.02)
KEYS = Keyring.generate()


def document(key: str, value: Any) -> dict[str, Any] | None:
    """What is derived of a row: posts are searched, all else is not."""
    if not key.startswith("post/"):
        return None
    return {"title": value["title"], "text": value.get("text"), "created": value.get("created"), "by": value.get("by")}


class Shelf:
    """Two sites, eu and us, that replicate by hand, and an index of eu's, fed by hand."""

    def __init__(
        self,
        path: Path,
        *,
        shards: Sequence[str] = ("main",),
        derives: Sequence[str] | None = None,
        first_origin: int | None = 1,
    ) -> None:
        self.path, self.now = path, 1000.0
        self.stack = ExitStack()
        self.engines = {
            site: SQLiteEngine(path / "data", site=site, shards=shards, replicate="manual", first_origin=first_origin)
            for site in ("eu", "us")
        }
        self.eu, self.us = (self.store(self.engines[site]) for site in ("eu", "us"))
        self.index = SearchIndex(
            path / "eu.search", fields=["title", "text"], sorts=["created"], feed=EmbeddedFeed(document)
        )
        self.derived = DerivedEngine(self.engines["eu"], self.index, shards=derives, feed="manual")
        self.search: Any = self.store(self.derived)
        for store in (self.eu, self.us):
            self.stack.enter_context(store)

    def store(self, engine: Any, **settings: Any) -> CausalStore[Any, Any]:
        store: CausalStore[Any, Any] = CausalStore(
            engine,
            keyring=KEYS,
            audience="shop",
            policy=AT_ONCE,
            monotonic=lambda: self.now,
            sleep=self.sleep,
            **settings,
        )
        self.stack.callback(store.close)
        return store

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def feed(self) -> int:
        done = self.derived.feed()
        self.search.__enter__()  # from here on it knows heads that the index has, and so how fresh that is
        return done

    def replicate(self) -> None:
        for site in ("eu", "us"):
            self.engines["eu"].catch_up(site)


def put(session: Session[Any, Any], key: str, title: str, *, shard: str | None = None, **more: Any) -> None:
    with session.write(shard=shard) as tx:
        tx.put(f"post/{key}", {"title": title, **more})


def delete(session: Session[Any, Any], key: str) -> None:
    with session.write() as tx:
        tx.delete(f"post/{key}")


def keys(hits: Sequence[Hit]) -> list[str]:
    return [hit.key.removeprefix("post/") for hit in hits]


def found(session: Session[Any, Any], search: Any, text: str = "", **how: Any) -> list[str]:
    """What a gated read of the index finds, in the order of keys."""
    with session.read(search, **how) as index:
        return sorted(keys(index.search(text, limit=1000)))


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    made = Shelf(tmp_path)
    with made.stack:
        yield made
