"""A simulated cache at a site: values with the watermark of the snapshot that they were read from.

Owns what may be served from a cache. A token-aware one judges each value, like an endpoint, by what the session demands of its shard; a
plain one looks at its age alone.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from causal.core.watermark import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from causal.claims import Claims
    from causal.core.watermark import Watermark
    from causal.lab.planet.logs import Entry
    from causal.lab.planet.process import Shown
    from causal.lab.planet.timeline import Timeline
    from causal.lab.planet.topology import Cache
    from causal.state import StoreState


class Item:
    """One cached value. Units: seconds. `fresh_at`: everything acknowledged before that is in the snapshot."""

    __slots__ = ("entry", "filled_at", "fresh_at", "marks")

    def __init__(self, entry: Entry | None, marks: Mapping[int, Watermark], fresh_at: float, filled_at: float) -> None:
        self.entry = entry
        self.marks = marks
        self.fresh_at = fresh_at
        self.filled_at = filled_at


class SiteCache:
    """The least recently used entries go first. Thread-safety: none."""

    def __init__(self, settings: Cache) -> None:
        self._settings = settings
        self._items: OrderedDict[int, Item] = OrderedDict()

    def get(self, key: int, claims: Claims, state: StoreState, shard: int, *, aware: bool) -> Item | None:
        """Return what is cached of a key and may be served to a session."""
        item = self._items.get(key)
        if item is None:
            return None
        now = state.monotonic()
        if item.filled_at < now - self._settings.ttl_s:
            del self._items[key]
            return None
        if aware and not _may_serve(item, claims, state, shard):
            return None
        self._items.move_to_end(key)
        return item

    def fill(self, key: int, shown: Shown, timeline: Timeline, later_s: float) -> None:
        """Put what was read into the cache, now or later, whatever is there by then."""
        serve = shown.request.serve
        assert serve is not None
        item = Item(shown.entry, shown.marks, serve.known.fresh_at, timeline.now)

        def put() -> None:
            self._items[key] = item
            self._items.move_to_end(key)
            if len(self._items) > self._settings.entries:
                self._items.popitem(last=False)

        if later_s:
            timeline.after(later_s, put)
        else:
            put()

    def drop(self, key: int) -> None:
        """Evict a key."""
        self._items.pop(key, None)


def _may_serve(item: Item, claims: Claims, state: StoreState, shard: int) -> bool:
    """Whether a value's snapshot holds what the session demands of its shard, and nothing that was lost, and is not too old."""
    if item.fresh_at < state.monotonic() - state.max_staleness_s:
        return False
    mark = item.marks[shard]
    ends = state.view.ends
    for origin, (applied, _) in mark.origins.items():
        end = ends.get(shard << 32 | origin)
        if end is not None and applied > end:
            return False
    judgement = mark.judge(claims._state.joined.on(shard))
    return judgement.verdict is Verdict.APPLIED and not judgement.marked
