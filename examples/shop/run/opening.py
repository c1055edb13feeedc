"""Before the shop opens: its first rows, its index, and its queue."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from examples.shop import index, stores
from examples.shop.data.seed import plant
from examples.shop.jobs import open_queue
from examples.shop.settings import SITES

if TYPE_CHECKING:
    from examples.shop.controls import Controls
    from examples.shop.settings import Settings


def open_shop(settings: Settings, controls: Controls) -> None:
    """Write what is in the shop at first, and return when everybody has it."""
    rows = stores.rows(settings)
    with ExitStack() as stack:
        here = [stack.enter_context(stores.shop(settings, controls, site)) for site in SITES]
        engines: list[Any] = [store.engine for store in here]
        for store in stores.orders(settings, controls):
            stack.enter_context(store)  # on the embedded store, whoever opens a site first makes it
        plant(here[0], rows)
        if settings.databases is None:
            for engine in engines:
                engine.catch_up(engine.site)
        index.take_in(settings, here[0])
        open_queue(settings, here[0])
