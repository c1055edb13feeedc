"""What the gate may say, and whether a snapshot bears it out. Values and one check; `core/gate.py` decides."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

import attrs

from causal.core.policy import Strategy
from causal.core.position import LeaderMark, Loss
from causal.core.view import EndpointView

if TYPE_CHECKING:
    from collections.abc import Mapping

    from causal.core.demand import Demand
    from causal.core.policy import ReadPolicy
    from causal.core.watermark import Watermark

How = Literal["covered", "leader", "fallback", "window", "quorum", "bounded", "eventual", "stale"]
UNCHECKED: Final = frozenset({"window", "eventual", "stale"})
"""The ways of serving that promise nothing: their snapshots are not judged, and their receipts say so."""
_OPEN: Final = (0, None)
"""An origin of which no end is said."""


@attrs.define(hash=False)
class Serve:
    """Read at this endpoint; the snapshot must cover `need`. A value, not frozen only because every read makes one.

    `known` is what the decision believed of the endpoint. `clipped` are seen positions that were lost and no longer count. `unproven`
    says that a leader read goes without the head of an origin whose leader cannot be asked, as the policy allows.
    """

    endpoint: str
    how: How
    need: Mapping[int, int]
    known: EndpointView = attrs.field(eq=False, repr=False)
    clipped: tuple[Loss, ...] = ()
    unproven: bool = False
    borne_out: tuple[object, object] | None = attrs.field(default=None, eq=False, repr=False, init=False)
    """The watermarks, and the ends known, that have borne it out last: one value, as threads share decisions."""


@attrs.frozen
class Probe:
    """Ask these endpoints for their watermarks, now, and decide again.

    An answer that takes longer than `within_s` is not worth waiting for: others can serve. None: what follows depends on it.
    Units: seconds.
    """

    endpoints: tuple[str, ...]
    reason: str
    within_s: float | None = None


@attrs.frozen
class Wait:
    """Wait at this endpoint until it covers `need` or `for_s` is over, then decide again. Units: seconds."""

    endpoint: str
    need: Mapping[int, int]
    for_s: float
    reason: str


@attrs.frozen
class Refuse:
    """Do not serve. `lost` names own writes that are lost; `doubt` a mark whose dropped writes can no longer be judged."""

    why: Literal["lost", "doubt", "timeout", "no endpoint"]
    reason: str
    lost: tuple[Loss, ...] = ()
    doubt: LeaderMark | None = None


Decision = Serve | Probe | Wait | Refuse


def bears_out(serve: Serve, watermarks: Mapping[int, Watermark], ends: Mapping[int, int]) -> bool:
    """Return whether a snapshot's own watermarks cover `serve.need`, from the incarnation that was decided on (I4).

    It may not be past an end, as the server itself knows it or as `ends` do, which may have been learned since the decision. Nor may
    the ground have moved under the decision: an endpoint that no longer numbers what it did, or lacks some of an origin that nobody
    has judged it by, is not shown to be fresh (I5). Demands on shards that the snapshot does not hold were judged by what was known
    of the same endpoint.
    """
    before = serve.borne_out
    if before is not None and before[0] is watermarks and before[1] is ends:
        return True  # the same values as last time, and values do not change
    known = serve.known
    held = known.shards
    for shard, mark in watermarks.items():
        if held is not None and shard not in held:
            continue  # of a server that holds more shards than are concerned
        if mark.diverged or known.incarnations.get(shard) != mark.incarnation:
            return False
        for origin, (here, end) in mark.origins.items():
            key = shard << 32 | origin
            if here > ends.get(key, here) or ((end is None or here < end) and key not in known.applied):
                return False
    for key in known.leads:
        mine, origin = watermarks.get(key >> 32), key & 0xFFFFFFFF
        if mine is not None and (
            key in ends or origin not in mine.leads or mine.origins.get(origin, _OPEN)[1] is not None
        ):
            return False
    need = serve.need
    for key in need:
        mine = watermarks.get(key >> 32)
        if mine is None:
            if known.applied.get(key, -1) < need[key]:
                return False
            continue
        place = mine.origins.get(key & 0xFFFFFFFF)
        if place is None or place[0] < need[key]:  # past its end it would have diverged
            return False
    serve.borne_out = watermarks, ends
    return True


def outlived(
    serve: Serve, demand: Demand, policy: ReadPolicy, now: float, max_staleness_s: float, *, write: bool
) -> bool:
    """Return whether what showed an endpoint to be fresh is too old by now, when the snapshot was taken (I5).

    A pause between the decision and the snapshot voids a staleness bound. Heads asked for the request show more than freshness, on the
    shards that they are of; and a write's leader is gated on the demand alone. Units: seconds of the view's clock.
    """
    current = serve.how == "leader" and demand.shards <= at_leaders(demand, policy)
    if serve.how in UNCHECKED or current or write:
        return False
    bounded = policy.strategy is Strategy.BOUNDED
    return serve.known.fresh_at < now - (min(policy.bound_s, max_staleness_s) if bounded else max_staleness_s)


def at_leaders(demand: Demand, policy: ReadPolicy) -> frozenset[int]:
    """Return the shards that are read at their leaders: all that the block concerns by policy, those of a mark in any case."""
    return demand.leader_shards | demand.shards if policy.strategy is Strategy.LEADER else demand.leader_shards


@lru_cache(256)
def is_behind(name: str) -> str:
    """Say why an endpoint is waited for: one text, however many wait for this reason."""
    return f"{name} is behind"


@lru_cache(256)
def is_unproven(name: str, limit_s: float) -> str:
    """Say why an endpoint is not served, or waited for, though nothing demanded is missing there."""
    return f"{name} is not shown to be less than {limit_s:g} s stale"


@lru_cache(256)
def is_older(name: str) -> str:
    """Say why an endpoint is asked."""
    return f"what is known of {name} is older than the request"
