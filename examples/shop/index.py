"""The search index: what of a post or a product can be found, and the process that keeps the index up to date.

The indexer works in batches, as they do: what was written since the last one is not in the index. How long that is, is the shop's lag.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from causal import CausalStore, KeyFile
from causal.derived import DerivedEngine, EmbeddedFeed, SearchIndex
from examples.shop import stores
from examples.shop.settings import AUDIENCE, SITES

if TYPE_CHECKING:
    from collections.abc import Callable

    from examples.shop.controls import Controls
    from examples.shop.settings import Settings

LOOK_S: Final = 0.05
RECENT: Final = 50


def document(key: str, row: dict[str, Any]) -> dict[str, Any] | None:
    """Return what can be found of a row."""
    kind, _, name = key.partition("/")
    if kind == "post":
        return {"kind": kind, "id": name, "title": row["by"], "text": row["text"]}
    if kind == "product":
        return {"kind": kind, "id": name, "title": row["title"], "text": row["about"]}
    return None


def search_store(settings: Settings, source: CausalStore[Any, Any]) -> CausalStore[Any, Any]:
    """Return the index as a store: it has its source's number, because it speaks of its source's positions."""
    return CausalStore(_engine(settings, source), keyring=KeyFile(settings.keys), audience=AUDIENCE)


def _engine(settings: Settings, source: CausalStore[Any, Any]) -> DerivedEngine[Any]:
    shard = stores.rows(settings).PUBLIC
    index = SearchIndex(settings.directory / "search.db", fields=("title", "text"), feed=_feed(settings))
    engine: Any = source.engine
    return DerivedEngine(engine, index, shards=None if shard is None else (shard,), feed="manual")


def _feed(settings: Settings) -> Any:
    if settings.databases is None:
        return EmbeddedFeed(document)
    from causal.derived.postgres import PostgresFeed
    from examples.shop.data import tables

    return PostgresFeed(tables.FOUND, key="id", tables=tables.FOUND_IN, document=dict)


def recent(settings: Settings) -> Callable[[str | None], Any]:
    """Return what tells which keys a user may have changed of late, where the source cannot list them itself."""
    if settings.databases is None:
        return lambda _: None
    return lambda user: lambda db: [row["id"] for row in stores.rows(settings).posts(db, user)[:RECENT]]


def keep(settings: Settings, controls: Controls, ended: Callable[[], bool]) -> None:
    """Take in what is new, every so often, until it is to end."""
    last = time.monotonic()
    with _engine(settings, stores.shop(settings, controls, SITES[0])).feeding() as feeding:
        while not ended():
            if time.monotonic() - last >= controls.state().lag_s:
                feeding.step()
                last = time.monotonic()
            feeding.wait(LOOK_S)


def take_in(settings: Settings, source: CausalStore[Any, Any]) -> None:
    """Take in everything that there is."""
    with _engine(settings, source).feeding() as feeding:
        feeding.step()
