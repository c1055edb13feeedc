"""What one process knows of every endpoint: watermarks, heads, freshness, progress. Immutable values, replaced as news comes in.

Owns the evidence that decisions rest on. Makes none: `core/gate.py` does. Times are readings of one local clock that the caller passes.

Freshness is shown without comparing clocks (I5): a leader that was *asked* at local time t and answered head h proves that an endpoint
which has applied h misses nothing that was acknowledged before t. HAZARD: this believes that whoever numbers an origin is its only
numberer. A deposed leader that does not know it yet "proves" its followers fresh; fence it, or keep max_staleness short.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import compress
from operator import is_not
from typing import TYPE_CHECKING, Final

import attrs

from causal.core.endpoint import NEVER, EndpointView, narrowed
from causal.core.evidence import PAST_AN_END, judged, nearest_first, pace, sampled
from causal.core.position import MAX_OFFSET, pack

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from causal.core.watermark import Watermark

__all__ = ["NEVER", "EndpointView", "View"]

_ALL: Final[Mapping[str, frozenset[int]]] = {}
_NOBODY: Final[frozenset[str]] = frozenset()


@attrs.frozen(eq=False)
class View:
    """What is known of all endpoints, nearest first.

    `ends` is the newest lineage known: where each ended origin stops. `heads` maps a live origin to samples `(asked at, head)` of the
    endpoint that numbers it, oldest first; `leaders` says which endpoint that is. `tails` keeps the samples of origins that have ended.

    Invariant: within one incarnation of an endpoint, what is applied never shrinks, even if answers arrive out of order.
    Thread-safety: immutable; replace the whole. Complexity: `observe` is endpoints x origins, where nothing begins or ends less.
    """

    endpoints: tuple[EndpointView, ...] = ()
    ends: Mapping[int, int] = attrs.field(factory=dict)
    heads: Mapping[int, tuple[tuple[float, int], ...]] = attrs.field(factory=dict)
    leaders: Mapping[int, str] = attrs.field(factory=dict)
    tails: Mapping[int, tuple[tuple[float, int], ...]] = attrs.field(factory=dict)
    alive: AbstractSet[int] | None = attrs.field(default=None, repr=False)
    """What `live` returned of an earlier view, while it is still so; None after what calls for judging every endpoint anew."""
    parts: dict[frozenset[int], View] | None = attrs.field(default=None, repr=False)
    """What `on` has returned, where some endpoint holds only some of the shards; else None."""

    def on(self, shards: frozenset[int]) -> View:
        """Return what a store of these shards alone would know: of the endpoints that hold all of them, and of nothing else.

        The view itself where every endpoint holds every shard: there, the origins of other shards count against an endpoint, too.
        """
        parts = self.parts
        if parts is None:
            return self
        part = parts.get(shards)
        if part is None:
            live = {key for key in self.live() if key >> 32 in shards}
            ends, heads, tails = narrowed(self.ends, shards), narrowed(self.heads, shards), narrowed(self.tails, shards)
            # A witness is of use for any of them: it says what it numbers, and is not read.
            holding = [
                e
                for e in self.endpoints
                if e.shards is None or e.shards >= shards or not (e.serves or e.shards.isdisjoint(shards))
            ]
            # Who holds just these was judged on them already.
            endpoints = nearest_first(
                e if e.shards == shards else judged(e.on(shards), ends, tails, heads, live) for e in holding
            )
            parts[shards] = part = View(endpoints, ends, heads, narrowed(self.leaders, shards), tails, live)
        return part

    def _apart(self, endpoint: EndpointView) -> dict[frozenset[int], View] | None:
        """Return the parts that still hold after news of one endpoint: those of shards that it does not hold."""
        if self.parts is None:
            return None
        mine = endpoint.shards
        return {} if mine is None else {s: part for s, part in self.parts.copy().items() if s.isdisjoint(mine)}

    def live(self) -> AbstractSet[int]:
        """Return every origin that is known, at whatever endpoint, and not known to have ended."""
        if self.alive is not None:
            return self.alive
        return {key for e in self.endpoints for key in e.applied if key not in self.ends} | self.leaders.keys()

    def leader(self, key: int) -> EndpointView | None:
        """Return the endpoint that numbers an origin, if it answers and still says so."""
        endpoint = self.of(self.leaders.get(key, ""))
        return endpoint if endpoint is not None and endpoint.down is None and key in endpoint.leads else None

    def of(self, name: str) -> EndpointView | None:
        """Return what is known of one endpoint."""
        for endpoint in self.endpoints:
            if endpoint.name == name:
                return endpoint
        return None

    def known(
        self,
        endpoints: Iterable[tuple[str, float]],
        held: Mapping[str, frozenset[int]] = _ALL,
        witnesses: AbstractSet[str] = _NOBODY,
    ) -> View:
        """Return this view over exactly these endpoints, given as (name, expected latency): sites join and leave.

        `held` says which shards those hold that do not hold all. Of one that holds others than before, nothing is known. `witnesses`
        are those that are only asked.
        """
        old = {e.name: e for e in self.endpoints}
        listed = [(n, s, rank) for rank, (n, s) in enumerate(endpoints)]
        if len(listed) == len(old):
            for n, s, rank in listed:
                e = old.get(n)
                if e is None or e.rank != rank or e.latency_s != s or e.shards != held.get(n):
                    break
                if e.serves is (n in witnesses):
                    break
            else:
                return self
        kept = []
        for n, s, rank in listed:
            e, shards = old.get(n), held.get(n)
            if e is None or e.shards != shards:
                e = EndpointView(n, shards=shards)
            kept.append(attrs.evolve(e, latency_s=s, rank=rank, serves=n not in witnesses))
        return attrs.evolve(self, endpoints=nearest_first(kept), alive=None, parts={} if held else None)

    def failed(self, name: str, reason: str, *, asked: int, now: float) -> View:
        """Return this view with one endpoint marked unusable until it is observed again."""
        before = self.of(name)
        if before is None:
            return self
        after = attrs.evolve(before, down=reason, tried=max(asked, before.tried), tried_at=now)
        endpoints = tuple(after if e is before else e for e in self.endpoints)
        return attrs.evolve(self, endpoints=endpoints, parts=self._apart(after))

    def advanced(self, name: str, key: int, offset: int) -> View:
        """Return this view after an endpoint acknowledged a write of an origin that it numbers."""
        for place, e in enumerate(self.endpoints):
            if e.name == name and e.applied.get(key, -1) < offset and (key in e.leads or key in e.outlived):
                after = e.advanced(key, offset)
                if offset > self.ends.get(key, offset):  # a deposed leader went on, past the end
                    after = after.rated(after.fresh_at, PAST_AN_END, after.weakest)
                endpoints = (*self.endpoints[:place], after, *self.endpoints[place + 1 :])
                alive = None if key in self.ends else self.alive
                parts = self._apart(after)
                return View(endpoints, self.ends, self.heads, self.leaders, self.tails, alive, parts)
        return self

    def observe(
        self, name: str, watermarks: Mapping[int, Watermark], *, asked: int, asked_at: float, now: float
    ) -> View:
        """Return this view after an endpoint answered question number `asked`, which was sent at `asked_at`.

        A new incarnation of any shard forgets everything that was known under the old one. A late answer of another incarnation than
        the one that answered a newer question is of a life that is over, or will be asked again: it says nothing. One of the same
        incarnation says nothing of who numbers what: that may have changed hands since.
        """
        news = self._went_on(name, watermarks, asked, asked_at, now)
        if news is not None:
            return news
        before = self.of(name) or EndpointView(name)
        if any(
            before.incarnations.get(s, w.incarnation) != w.incarnation and asked < before.asked.get(s, -1)
            for s, w in watermarks.items()
        ):
            return self
        changed = {
            before.incarnations[s]
            for s, w in watermarks.items()
            if before.incarnations.get(s, w.incarnation) != w.incarnation
        }
        stale = {s for s, i in before.incarnations.items() if i in changed}
        applied = {k: v for k, v in before.applied.items() if k >> 32 not in stale}
        late = {s for s in watermarks if asked < before.asked.get(s, -1)}
        leads = {k for k in before.leads if (k >> 32 not in watermarks or k >> 32 in late) and k >> 32 not in stale}
        outlived = {
            k for k in before.outlived if (k >> 32 not in watermarks or k >> 32 in late) and k >> 32 not in stale
        }
        questions = {s: n for s, n in before.asked.items() if s not in stale}
        ends, heads, leaders, tails = dict(self.ends), dict(self.heads), dict(self.leaders), dict(self.tails)
        for shard, mark in watermarks.items():
            questions[shard] = max(questions.get(shard, -1), asked)
            for origin, (offset, end) in mark.origins.items():
                key = pack(shard, origin)
                applied[key] = max(offset, applied.get(key, -1))
                if end is not None:
                    ends[key] = min(end, ends.get(key, end))
                    leaders.pop(key, None)
                    if key in heads:
                        tails[key] = heads.pop(key)
                elif origin not in mark.leads or shard in late:
                    continue
                elif key in ends:
                    outlived.add(key)
                else:
                    leads.add(key)
                    other = self.leader(key)
                    if other is None or other.name == name or other.asked.get(shard, -1) < asked:
                        leaders[key] = name
                    heads[key] = sampled(heads.get(key, ()), asked_at, offset)
        others = [e for e in self.endpoints if e.name != name]
        over = ends.keys() - self.ends.keys()
        if over:
            outlived |= leads & over
            leads -= over
            others = [e.succeeded(over) for e in others]
        moved = [k for k, v in before.applied.items() if applied.get(k, -1) > v]
        rates, stalled_at = pace(before, moved, applied, heads, asked_at, now)
        after = EndpointView(
            name,
            before.latency_s,
            applied,
            frozenset(leads),
            {
                **{s: i for s, i in before.incarnations.items() if s not in stale},
                **{s: w.incarnation for s, w in watermarks.items()},
            },
            questions,
            max(asked_at, before.asked_at),
            NEVER,
            None,
            max(asked, before.tried),
            asked_at,
            rates,
            stalled_at,
            before.rank,
            {} if late or stale else {**before.marks, **watermarks},
            None,
            before.shards,
            before.serves,
            frozenset(outlived),
        )
        news = View((*others, after), ends, heads, leaders, tails)
        live = news.live()
        endpoints = nearest_first(
            [judged(e, ends, tails, heads, live) if self.alive is None or e.meets(after) else e for e in news.endpoints]
        )
        parts = self._apart(after) if self.alive is not None or self.parts is None else {}
        if parts and any(e.down is PAST_AN_END for e in endpoints):
            parts = {}  # who is past an end is down for all shards that it holds
        return View(endpoints, ends, heads, leaders, tails, live, parts)

    def _went_on(
        self, name: str, watermarks: Mapping[int, Watermark], asked: int, asked_at: float, now: float
    ) -> View | None:
        """Take in the common answer: the same life, the newest question, and no origin that begins, ends or changes hands.

        None if it is not common. It says exactly what `observe` would say, at a fraction of the cost: only of what moved.
        """
        if self.alive is None:
            return None
        place = 0
        for before in self.endpoints:
            if before.name == name:
                break
            place += 1
        else:
            return None
        if before.down is not None or asked_at < before.asked_at or max(before.asked.values(), default=asked) > asked:
            return None
        here, ends, leads, marks = before.applied, self.ends, before.leads, before.marks
        alike = len(before.asked) == len(watermarks) and watermarks.keys() == marks.keys()
        progress = _NONE if watermarks is marks and alike and not leads else self._progress(before, watermarks, alike)
        if progress is None:
            return None
        moved, led = progress
        heads = self.heads
        if led:
            heads = dict(heads)
            for key, offset in led.items():
                heads[key] = sampled(heads.get(key, ()), asked_at, offset)
        applied = {**here, **moved} if moved else here
        rates, stalled_at = pace(before, moved, applied, heads, asked_at, now)
        asked_of = dict.fromkeys(watermarks, asked)
        after = EndpointView(
            name,
            before.latency_s,
            applied,
            leads,
            before.incarnations,
            asked_of if alike else {**before.asked, **asked_of},
            asked_at,
            before.fresh_at,
            None,
            max(asked, before.tried),
            asked_at,
            rates,
            stalled_at,
            before.rank,
            watermarks if alike else {**marks, **watermarks},
            before.weakest,
            before.shards,
            before.serves,
            before.outlived,
        )
        live = self.live()
        endpoints = (*self.endpoints[:place], after, *self.endpoints[place + 1 :])
        if led:
            endpoints = tuple(
                [
                    judged(e, ends, self.tails, heads, live)
                    if e.weakest in led or (e.weakest is None and e.meets(after))
                    else e
                    for e in endpoints
                ]
            )
        if after.weakest is None or after.weakest in moved or not ends.keys().isdisjoint(moved):
            endpoints = (*endpoints[:place], judged(after, ends, self.tails, heads, live), *endpoints[place + 1 :])
        return View(endpoints, ends, heads, self.leaders, self.tails, live, self._apart(after))

    def _progress(
        self, before: EndpointView, watermarks: Mapping[int, Watermark], alike: bool
    ) -> tuple[dict[int, int], dict[int, int]] | None:
        """Return what has moved at an endpoint, and the heads of what it numbers; None where an origin begins, ends or changes hands."""
        here, ends, leads, marks, lives = before.applied, self.ends, before.leads, before.marks, before.incarnations
        outlived = before.outlived
        for key in outlived:
            told, origin = watermarks.get(key >> 32), key & 0xFFFFFFFF
            if told is not None and (origin not in told.leads or origin not in told.origins):
                return None
        news: Iterable[int] = watermarks
        if alike:
            news = list(compress(watermarks, map(is_not, watermarks.values(), map(marks.__getitem__, watermarks))))
            if leads:
                news = dict.fromkeys([*news, *(key >> 32 for key in leads)])
        moved: dict[int, int] = {}
        led: dict[int, int] = {}
        for shard in news:
            mark = watermarks.get(shard)
            if mark is None:
                continue
            mine = mark.leads
            if not mine and marks.get(shard) is mark:
                continue
            if shard not in lives or lives[shard] != mark.incarnation:
                return None
            for origin, (offset, end) in mark.origins.items():
                key = shard << 32 | origin
                known = here.get(key)
                if known is None:
                    return None
                if end is not None:
                    if ends.get(key, MAX_OFFSET) > end or key in leads or key in outlived:
                        return None
                elif origin in mine and key not in ends:
                    if key not in leads or self.leaders.get(key) != before.name:
                        return None
                    led[key] = offset
                elif key in leads or (origin in mine and key not in outlived):
                    return None
                if offset > known:
                    moved[key] = offset
        if leads and len(led) != sum(key >> 32 in watermarks for key in leads):
            return None
        return moved, led


_NONE: Final[tuple[dict[int, int], dict[int, int]]] = {}, {}
"""Nothing has moved."""
