"""The same on other stores: the embedded one, one that records, and one that is derived from another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from causal import CausalStore
from causal.caches import CausalCache, LRUBackend
from causal.derived import DerivedEngine, EmbeddedFeed, SearchIndex
from causal.stores.sqlite import SQLiteEngine
from tests.caches.stage import KEYS


@pytest.mark.parametrize("recorded", [False, True])
def test_the_embedded_store(tmp_path: Path, recorded: bool) -> None:
    settings: dict[str, Any] = {"keyring": KEYS, "audience": "shop"}
    if recorded:
        settings["history"] = tmp_path / "history.jsonl"
    engines = {site: SQLiteEngine(tmp_path / "data", site=site, replicate="manual") for site in ("eu", "us")}
    with CausalStore(engines["eu"], **settings) as eu, CausalStore(engines["us"], **settings) as us:
        for store in (eu, us):
            store.head()
        backend = LRUBackend()
        accounts: list[Any] = []
        at_eu, at_us = (CausalCache(store, backend, on_account=accounts.append) for store in (eu, us))

        def load(db: Any) -> Any:
            return db.get("photo")

        alice, bob = eu.session(subject="alice"), us.session(subject="bob")
        for _ in range(2):
            assert at_us.get(bob, "photo", load) is None
        block = at_eu.write(alice, "photo")
        with block as tx:
            tx.put("photo", "new")
            assert at_eu.get(alice, "photo", load) == "new"
            block.set("photo", "new")
        assert block.accounts[0].outcome == "written"
        again = us.session(alice.token(), subject="alice")
        for reader in (again, bob):
            assert at_us.get(reader, "photo", load) == "new"
            assert accounts[-1].outcome == "hit"
        with alice.write() as tx:
            tx.put("photo", "newer")
        assert at_us.get(us.session(alice.token(), subject="alice"), "photo", load) == "newer"
        assert accounts[-1].outcome == "behind"
    if recorded:
        lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
        assert sum(line["op"] == "write" for line in lines) == 2


def test_a_cache_over_a_derived_store(tmp_path: Path) -> None:
    source = SQLiteEngine(tmp_path / "data", site="eu")
    index = SearchIndex(
        tmp_path / "index", fields=["text"], sorts=["at"], feed=EmbeddedFeed(lambda _, value: dict(value))
    )
    with (
        CausalStore(source, keyring=KEYS, audience="shop") as store,
        CausalStore(DerivedEngine(source, index, feed="manual"), keyring=KEYS, audience="shop") as search,
    ):
        accounts: list[Any] = []
        cache = CausalCache(search, LRUBackend(), on_account=accounts.append)
        alice, bob = store.session(subject="alice"), store.session(subject="bob")

        def found(db: Any) -> list[str]:
            return [hit.key for hit in db.search("coffee")]

        with alice.write() as tx:
            tx.put("post/1", {"text": "My first coffee", "at": 1})
        search.engine.feed()  # type: ignore[attr-defined]
        for outcome in ("miss", "hit"):
            assert cache.get(bob, "coffee", found) == ["post/1"]
            assert accounts[-1].outcome == outcome
        with alice.write() as tx:
            tx.put("post/2", {"text": "More coffee", "at": 2})
        search.engine.feed()  # type: ignore[attr-defined]
        assert sorted(cache.get(alice, "coffee", found)) == ["post/1", "post/2"]
        assert accounts[-1].outcome == "behind"
        assert accounts[-1].stored
