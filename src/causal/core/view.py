"""What one process knows of every endpoint: watermarks, heads, freshness, progress. Immutable values, replaced as news comes in.

Owns the evidence that decisions rest on. Makes none: `core/gate.py` does. Times are readings of one local clock that the caller passes.

Freshness is shown without comparing clocks (I5): a leader that was *asked* at local time t and answered head h proves that an endpoint
which has applied h misses nothing that was acknowledged before t. HAZARD: this believes that whoever numbers an origin is its only
numberer. A deposed leader that does not know it yet "proves" its followers fresh; fence it, or keep max_staleness short.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import attrs

from causal.core.position import MAX_OFFSET, pack

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from causal.core.watermark import Watermark

NEVER: Final = -math.inf
_SAMPLES: Final = 24


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
    """The newest answer, by shard: an equal object, the next time, says that nothing changed."""

    def covers(self, need: Mapping[int, int]) -> bool:
        """Return whether everything in `need` (packed keys) is applied here. Complexity: linear in `need`."""
        get = self.applied.get
        for key, offset in need.items():
            if get(key, -1) < offset:
                return False
        return True

    def advanced(self, key: int, offset: int) -> EndpointView:
        """Return this view of the endpoint after a write that it acknowledged. Spelled out, because every write makes one."""
        return EndpointView(
            self.name,
            self.latency_s,
            {**self.applied, key: offset},
            self.leads,
            self.incarnations,
            self.asked,
            self.asked_at,
            self.fresh_at,
            self.down,
            self.tried,
            self.tried_at,
            self.rates,
            self.stalled_at,
            self.rank,
            self.marks,
        )

    def asked_since(self, shards: Iterable[int], arrived: int) -> bool:
        """Return whether every shard was asked about by a question numbered after `arrived`."""
        get = self.asked.get
        return all(get(shard, -1) > arrived for shard in shards)

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
    """What `live` returned of an earlier view, while it is still so."""

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

    def known(self, endpoints: Iterable[tuple[str, float]]) -> View:
        """Return this view over exactly these endpoints, given as (name, expected latency): sites join and leave."""
        old = {e.name: e for e in self.endpoints}
        listed = enumerate(endpoints)
        kept = [attrs.evolve(old.get(n) or EndpointView(n), latency_s=s, rank=i) for i, (n, s) in listed]
        if {(e.name, e.latency_s, e.rank) for e in kept} == {(e.name, e.latency_s, e.rank) for e in self.endpoints}:
            return self
        return attrs.evolve(self, endpoints=_nearest_first(kept), alive=None)

    def failed(self, name: str, reason: str, *, asked: int, now: float) -> View:
        """Return this view with one endpoint marked unusable until it is observed again."""
        return attrs.evolve(
            self,
            endpoints=tuple(
                attrs.evolve(e, down=reason, tried=max(asked, e.tried), tried_at=now) if e.name == name else e
                for e in self.endpoints
            ),
        )

    def advanced(self, name: str, key: int, offset: int) -> View:
        """Return this view after an endpoint acknowledged a write of an origin that it numbers."""
        for place, e in enumerate(self.endpoints):
            if e.name == name and e.applied.get(key, -1) < offset and key in e.leads:
                after = e.advanced(key, offset)
                endpoints = (*self.endpoints[:place], after, *self.endpoints[place + 1 :])
                return View(endpoints, self.ends, self.heads, self.leaders, self.tails, self.alive)
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
                elif origin in mark.leads and key not in ends and shard not in late:
                    leads.add(key)
                    other = self.leader(key)
                    if other is None or other.name == name or other.asked.get(shard, -1) < asked:
                        leaders[key] = name
                    heads[key] = _sampled(heads.get(key, ()), asked_at, offset)
        rates, stalled_at = _pace(before, applied, heads, asked_at, now)
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
            asked,
            asked_at,
            rates,
            stalled_at,
            before.rank,
            {} if late or stale else {**before.marks, **watermarks},
        )
        news = View((*(e for e in self.endpoints if e.name != name), after), ends, heads, leaders, tails)
        live = news.live()
        judged = _nearest_first([_judged(e, news, live) for e in news.endpoints])
        return View(judged, ends, heads, leaders, tails, live)

    def _went_on(
        self, name: str, watermarks: Mapping[int, Watermark], asked: int, asked_at: float, now: float
    ) -> View | None:
        """Take in the common answer: the same life, the newest question, and no origin that begins, ends or changes hands.

        None if it is not common. It says exactly what `observe` would say, at a fraction of the cost: only of what moved.
        """
        place, before = 0, None
        for place, before in enumerate(self.endpoints):
            if before.name == name:
                break
        else:
            return None
        if before.down is not None or asked_at < before.asked_at or max(before.asked.values(), default=asked) > asked:
            return None
        here, ends, leads, marks, lives = before.applied, self.ends, before.leads, before.marks, before.incarnations
        moved: dict[int, int] = {}
        led: list[tuple[int, int]] = []
        for shard, mark in watermarks.items():
            mine = mark.leads
            if marks.get(shard) is mark and not mine:
                continue
            if shard not in lives or lives[shard] != mark.incarnation:
                return None
            for origin, (offset, end) in mark.origins.items():
                key = shard << 32 | origin
                known = here.get(key)
                if known is None:
                    return None
                if end is not None:
                    if ends.get(key, MAX_OFFSET) > end or key in leads:
                        return None
                elif origin in mine and key not in ends:
                    if key not in leads or self.leaders.get(key) != name:
                        return None
                    led.append((key, offset))
                elif key in leads:
                    return None
                if offset > known:
                    moved[key] = offset
        if leads and len(led) != sum(key >> 32 in watermarks for key in leads):
            return None
        applied = {**here, **moved} if moved else here
        heads = self.heads
        if led:
            heads = dict(heads)
            for key, offset in led:
                heads[key] = _sampled(heads.get(key, ()), asked_at, offset)
        rates, stalled_at = _pace(before, applied, heads, asked_at, now)
        after = EndpointView(
            name,
            before.latency_s,
            applied,
            leads,
            lives,
            {**before.asked, **dict.fromkeys(watermarks, asked)},
            asked_at,
            before.fresh_at,
            None,
            asked,
            asked_at,
            rates,
            stalled_at,
            before.rank,
            {**marks, **watermarks},
        )
        live = self.live()
        endpoints = (*self.endpoints[:place], after, *self.endpoints[place + 1 :])
        news = View(endpoints, ends, heads, self.leaders, self.tails, live)
        if led:  # a newer head judges everybody anew
            endpoints = tuple([_judged(e, news, live) for e in endpoints])
        else:
            endpoints = (*endpoints[:place], _judged(after, news, live), *endpoints[place + 1 :])
        return View(endpoints, ends, heads, self.leaders, self.tails, live)


def _pace(
    before: EndpointView,
    applied: Mapping[int, int],
    heads: Mapping[int, tuple[tuple[float, int], ...]],
    asked_at: float,
    now: float,
) -> tuple[Mapping[int, float], float | None]:
    """Return how fast an endpoint catches up with each origin, and since when it has not moved though it is behind."""
    behind = [k for k, v in before.applied.items() if (samples := heads.get(k)) and samples[-1][1] > v]
    moved = [k for k in behind if applied.get(k, -1) > before.applied[k]]
    rates = {k: r for k, r in before.rates.items() if k in applied} if before.rates else {}
    for key in moved:
        # Only from one backlog into the next: who has caught up in between may have idled for most of the time.
        if applied[key] < heads[key][-1][1] and asked_at > before.asked_at:
            rate = (applied[key] - before.applied[key]) / (asked_at - before.asked_at)
            rates[key] = rate if key not in rates else (rates[key] + rate) / 2
        else:
            rates.pop(key, None)
    return rates, None if moved or not behind else before.stalled_at if before.stalled_at is not None else now


def _nearest_first(endpoints: Iterable[EndpointView]) -> tuple[EndpointView, ...]:
    """Order by latency; at equal latency a replica comes before a leader, to keep reads off it; then as the link lists them."""
    return tuple(sorted(endpoints, key=lambda e: (e.latency_s, bool(e.leads), e.rank)))


def _sampled(samples: tuple[tuple[float, int], ...], asked_at: float, head: int) -> tuple[tuple[float, int], ...]:
    """Add a head sample. A later question with the same answer replaces the earlier one; old samples thin out."""
    if samples and asked_at < samples[-1][0]:
        return samples
    if samples and samples[-1][1] == head:
        return (*samples[:-1], (asked_at, head))
    samples = (*samples, (asked_at, head))
    return samples if len(samples) <= _SAMPLES else samples[: _SAMPLES * 2 // 3 : 2] + samples[_SAMPLES * 2 // 3 :]


def _judged(endpoint: EndpointView, view: View, live: Iterable[int]) -> EndpointView:
    """Recompute how fresh an endpoint is shown to be, and whether it shows a history that was lost.

    An origin that it has never heard of counts, too, if any endpoint has; and an ended one, until what survives of it is applied.
    """
    down, fresh_at = endpoint.down, NEVER if not endpoint.asked else math.inf
    for key, end in view.ends.items():
        here = endpoint.applied.get(key, -1)
        if here > end:
            down = "holds writes past the end of a lost history"
        elif here < end:
            fresh_at = min(fresh_at, _shown(here, view.tails.get(key, ())))
    for key in live:
        if key not in endpoint.leads:
            fresh_at = min(fresh_at, _shown(endpoint.applied.get(key, -1), view.heads.get(key, ())))
    if fresh_at == math.inf and not endpoint.leads:
        fresh_at = endpoint.asked_at
    if fresh_at == endpoint.fresh_at and down == endpoint.down:
        return endpoint
    return attrs.evolve(endpoint, fresh_at=fresh_at, down=down)


def _shown(here: int, samples: tuple[tuple[float, int], ...]) -> float:
    """Return the newest time at which an origin's head was no more than what is applied here. Samples are in the order of time."""
    for t, head in reversed(samples):
        if head <= here or head == 0:
            return t
    return NEVER
