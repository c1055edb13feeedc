"""What samples of heads show: how fresh an endpoint is, how fast it catches up, and in which order endpoints are asked.

Owns the arithmetic of evidence; `core/view.py` owns the evidence. Times are readings of one local clock that the caller passes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from causal.core.endpoint import NEVER, narrowed
from causal.core.position import MAX_OFFSET

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from causal.core.endpoint import EndpointView

    Samples = Mapping[int, tuple[tuple[float, int], ...]]


SAMPLES: Final = 24
PAST_AN_END: Final = "holds writes past the end of a lost history"


def pace(
    before: EndpointView,
    moved: Iterable[int],
    applied: Mapping[int, int],
    heads: Samples,
    asked_at: float,
    now: float,
) -> tuple[Mapping[int, float], float | None]:
    """Return how fast an endpoint catches up with each origin, and since when it has not moved though it is behind."""
    was = before.applied
    caught = [k for k in moved if (samples := heads.get(k)) and was.get(k, MAX_OFFSET) < samples[-1][1]]
    rates = before.rates
    if caught or rates:
        rates = {k: r for k, r in rates.items() if k in applied}
        for key in caught:
            # Only from one backlog into the next: who has caught up in between may have idled for most of the time.
            if applied[key] < heads[key][-1][1] and asked_at > before.asked_at:
                rate = (applied[key] - was[key]) / (asked_at - before.asked_at)
                rates[key] = rate if key not in rates else (rates[key] + rate) / 2
            else:
                rates.pop(key, None)
    if caught:
        return rates, None
    for key, samples in heads.items():
        if was.get(key, MAX_OFFSET) < samples[-1][1]:
            return rates, before.stalled_at if before.stalled_at is not None else now
    return rates, None


def nearest_first(endpoints: Iterable[EndpointView]) -> tuple[EndpointView, ...]:
    """Order by latency; at equal latency a replica comes before a leader, to keep reads off it; then as the link lists them.

    Witnesses come last: nothing is near that is never read.
    """
    return tuple(sorted(endpoints, key=lambda e: (not e.serves, e.latency_s, bool(e.leads), e.rank)))


def sampled(samples: tuple[tuple[float, int], ...], asked_at: float, head: int) -> tuple[tuple[float, int], ...]:
    """Add a head sample. A later question with the same answer replaces the earlier one; old samples thin out."""
    if samples and asked_at < samples[-1][0]:
        return samples
    if samples and samples[-1][1] == head:
        return (*samples[:-1], (asked_at, head))
    samples = (*samples, (asked_at, head))
    return samples if len(samples) <= SAMPLES else samples[: SAMPLES * 2 // 3 : 2] + samples[SAMPLES * 2 // 3 :]


def judged(
    endpoint: EndpointView, ends: Mapping[int, int], tails: Samples, heads: Samples, live: Iterable[int]
) -> EndpointView:
    """Recompute how fresh an endpoint is shown to be, and whether it shows a history that was lost.

    An origin that it has never heard of counts, too, if any endpoint has; and an ended one, until what survives of it is applied. Of
    the shards that it holds, that is: those of others are nothing to it.
    """
    if endpoint.shards is not None:  # what it does not hold, it cannot lack
        ends, live = narrowed(ends, endpoint.shards), {key for key in live if key >> 32 in endpoint.shards}
    down, fresh_at, weakest = endpoint.down, NEVER if not endpoint.asked else math.inf, None
    applied, leads = endpoint.applied, endpoint.leads
    for key, end in ends.items():
        here = applied.get(key, -1)
        if here > end:
            down = PAST_AN_END
        elif here < end and (at := shown(here, tails.get(key, ()))) < fresh_at:
            fresh_at, weakest = at, key
    for key in live:
        if key in leads:
            continue
        here, samples = applied.get(key, -1), heads.get(key)
        if samples:
            at, head = samples[-1]
            if head > here:
                at = shown(here, samples)
        else:
            at = NEVER
        if at < fresh_at:
            fresh_at, weakest = at, key
    if fresh_at == math.inf and not leads:
        fresh_at = endpoint.asked_at
    if fresh_at == endpoint.fresh_at and down == endpoint.down and weakest == endpoint.weakest:
        return endpoint
    return endpoint.rated(fresh_at, down, weakest)


def shown(here: int, samples: tuple[tuple[float, int], ...]) -> float:
    """Return the newest time at which an origin's head was no more than what is applied here. Samples are in the order of time."""
    for t, head in reversed(samples):
        if head <= here or head == 0:
            return t
    return NEVER


def refreshing(endpoint: EndpointView, live: Iterable[int], heads: Samples, oldest: float) -> dict[int, int] | None:
    """Return what an endpoint must apply to be shown fresh since `oldest`; None where no head was asked for since then."""
    fresh: dict[int, int] = {}
    for key in live:
        if key not in endpoint.leads:
            recent = [head for at, head in heads.get(key, ()) if at >= oldest]
            if not recent:
                return None
            fresh[key] = min(recent)
    return fresh
