"""What is known of one endpoint, as a value that is replaced as news comes in.

Owns the words of that knowledge. How it comes to be known is in `core/view.py`, and what it shows in `core/evidence.py`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from causal.core.watermark import Watermark

T = TypeVar("T")

NEVER: Final = -math.inf


@attrs.frozen(eq=False)
class EndpointView:
    """What is known of one endpoint.

    `applied` and `leads` use packed (shard, origin) keys. `asked` maps a shard to the number of the newest question about it:
    numbers that the caller draws from one counter, when it *sends* a question and when a request arrives, so that "asked after
    the request" never hangs on a clock's resolution. `fresh_at`: everything acknowledged before this local time is here.
    `down`: why it cannot be used, or None, found out by question `tried`, at `tried_at`. `rank`: its place in the link's list.

    Units: seconds of the caller's clock. Thread-safety: immutable.
    """

    name: str
    latency_s: float = 0.0
    applied: Mapping[int, int] = attrs.field(factory=dict)
    leads: frozenset[int] = frozenset()
    incarnations: Mapping[int, Hashable] = attrs.field(factory=dict)
    asked: Mapping[int, int] = attrs.field(factory=dict)
    asked_at: float = NEVER
    fresh_at: float = NEVER
    down: str | None = None
    tried: int = -1
    tried_at: float = NEVER
    rates: Mapping[int, float] = attrs.field(factory=dict)
    stalled_at: float | None = None
    rank: int = 0
    marks: Mapping[int, Watermark] = attrs.field(factory=dict, repr=False)
    """The newest answer, by shard: the same object, the next time, says that nothing changed."""
    weakest: int | None = None
    """The origin that `fresh_at` hangs on: as long as nothing is heard of it, nothing else makes this endpoint fresher."""
    shards: frozenset[int] | None = None
    """What it holds, if that is not all of the store: nothing is asked of it, and nothing held against it, on any other shard."""
    serves: bool = True
    """Whether it may be read. A witness is only asked."""
    outlived: frozenset[int] = frozenset()
    """What it says that it numbers, not knowing that it has ended."""

    def holds(self, shard: int) -> bool:
        """Return whether it has a copy of a shard."""
        return self.shards is None or shard in self.shards

    def meets(self, other: EndpointView) -> bool:
        """Return whether it shares a shard with another endpoint."""
        return self.shards is None or other.shards is None or not self.shards.isdisjoint(other.shards)

    def on(self, shards: frozenset[int]) -> EndpointView:
        """Return what is known of it on these shards alone. It has yet to be judged on them."""
        if self.shards == shards:
            return self
        return attrs.evolve(
            self,
            applied=narrowed(self.applied, shards),
            leads=frozenset(key for key in self.leads if key >> 32 in shards),
            incarnations={s: life for s, life in self.incarnations.items() if s in shards},
            asked={s: n for s, n in self.asked.items() if s in shards},
            rates=narrowed(self.rates, shards),
            marks={s: mark for s, mark in self.marks.items() if s in shards},
            shards=shards if self.shards is None else shards & self.shards,
            outlived=frozenset(key for key in self.outlived if key >> 32 in shards),
        )

    def covers(self, need: Mapping[int, int]) -> bool:
        """Return whether everything in `need` (packed keys) is applied here. Complexity: linear in `need`."""
        get = self.applied.get
        for key, offset in need.items():
            if get(key, -1) < offset:
                return False
        return True

    def advanced(self, key: int, offset: int) -> EndpointView:
        """Return this view of the endpoint after a write that it acknowledged."""
        return self._but({**self.applied, key: offset}, self.fresh_at, self.down, self.weakest)

    def rated(self, fresh_at: float, down: str | None, weakest: int | None) -> EndpointView:
        """Return this view of the endpoint after it was judged."""
        return self._but(self.applied, fresh_at, down, weakest)

    def succeeded(self, over: AbstractSet[int]) -> EndpointView:
        """Return this view of the endpoint after origins have ended: it may go on saying that it numbers them, and does not."""
        gone = self.leads & over
        return attrs.evolve(self, leads=self.leads - gone, outlived=self.outlived | gone) if gone else self

    def _but(self, applied: Mapping[int, int], fresh_at: float, down: str | None, weakest: int | None) -> EndpointView:
        # Spelled out, because every write and every answer makes some: `attrs.evolve` is far slower.
        return EndpointView(
            self.name,
            self.latency_s,
            applied,
            self.leads,
            self.incarnations,
            self.asked,
            self.asked_at,
            fresh_at,
            down,
            self.tried,
            self.tried_at,
            self.rates,
            self.stalled_at,
            self.rank,
            self.marks,
            weakest,
            self.shards,
            self.serves,
            self.outlived,
        )

    def asked_since(self, shards: Iterable[int], arrived: int) -> bool:
        """Return whether every shard was asked about by a question numbered after `arrived`; of a witness, every one that it holds."""
        get = self.asked.get
        if not self.serves:
            shards = [shard for shard in shards if self.holds(shard)]
        return all(get(shard, -1) > arrived for shard in shards)

    def replaced(self, shards: Iterable[int], ends: Mapping[int, int]) -> bool:
        """Return whether, on any of these shards, it says that it numbers something, and all of that has ended.

        Not if it numbers nothing, or says itself what has ended: it knows, and may begin another origin with its next write.
        """
        claims = self.leads | self.outlived
        if claims.isdisjoint(ends):
            return False
        numbering = {key >> 32 for key in claims if key not in ends}
        return any(shard not in numbering and any(key >> 32 == shard for key in claims) for shard in shards)

    def heard_since(self, shards: Iterable[int], arrived: int) -> bool:
        """Return whether a question numbered after `arrived` was answered on every shard, or not answered at all."""
        return self.tried > arrived and (self.down is not None or self.asked_since(shards, arrived))

    def eta_s(self, need: Mapping[int, int], now: float, patience_s: float) -> float | None:
        """Return how long until `need` is covered at the observed rates; None if there is no evidence; inf if it has stopped moving."""
        if self.stalled_at is not None and now - self.stalled_at > patience_s:
            return math.inf
        longest: float | None = None
        for key, offset in need.items():
            gap = offset - self.applied.get(key, -1)
            rate = self.rates.get(key)
            if gap > 0 and rate:
                longest = max(longest or 0.0, gap / rate)
        return longest


def narrowed(by_key: Mapping[int, T], shards: frozenset[int]) -> dict[int, T]:
    """Return what of a mapping by packed keys is of these shards."""
    return {key: value for key, value in by_key.items() if key >> 32 in shards}
