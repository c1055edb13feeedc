"""What a site's process holds from its start to its end: one of each, shared by all requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from causal import Guarantee
from causal.caches import CausalCache
from examples.shop import stores
from examples.shop.controls import Controls
from examples.shop.index import recent, search_store
from examples.shop.jobs import Jobs
from examples.shop.web.plain_cache import PlainCache

if TYPE_CHECKING:
    from examples.shop.settings import Settings


class Shop:
    """A site. Thread-safety: safe."""

    def __init__(self, settings: Settings, site: str) -> None:
        self.settings = settings
        self.site = site
        self.controls = Controls(settings.directory)
        self.rows = stores.rows(settings)
        self.store = stores.shop(settings, self.controls, site)
        self.search = search_store(settings, self.store)
        self.recent = recent(settings)
        self.jobs = Jobs(settings, self.store)
        self.orders, self.outbox = self.jobs.orders, self.jobs.outbox
        # Hits promise that own writes are there. Promising monotonic reads as well would cost a hit for each page that shows news.
        self.cache = CausalCache(self.store, stores.cache_backend(settings), guarantees=Guarantee.READ_YOUR_WRITES)
        self.plain_cache = PlainCache(settings.valkey)

    def open(self) -> None:
        """Connect: else the first page pays for it."""
        self.store.head()
        self.search.head()

    def close(self) -> None:
        """Close what is open."""
        self.search.close()
        self.store.close()
