"""What is lost: demanded positions that no endpoint will ever apply (I6).

Owns the judgement, made before anybody is chosen: an own write that is lost is said at once, for reads and writes; what others lost no
longer counts; and who would lose whatever is written there. Knows nothing of policies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from causal.core.decision import Probe, Refuse
from causal.core.position import ANY_ORIGIN, Loss, Position

if TYPE_CHECKING:
    from collections.abc import Mapping

    from causal.core.demand import Demand
    from causal.core.view import View


def settled(demand: Demand, view: View) -> tuple[Mapping[int, int], Refuse | None, tuple[Loss, ...]]:
    """Return the need without lost seen positions; refuse if an own position is lost or can no longer be judged.

    Complexity: linear in the demand and in the origins that have ended.
    """
    ends = dict(view.ends)
    for key in demand.need:
        leader = view.leader(key)
        # Past the head of the very endpoint that numbers the origin, asked after the token arrived: never acknowledged, or forgotten.
        if key not in ends and leader is not None and leader.asked_since((key >> 32,), demand.arrived):
            ends[key] = leader.applied.get(key, -1)
    lost = tuple(_loss(k, v, ends[k]) for k, v in demand.own.items() if k in ends and v > ends[k])
    if lost:
        return {}, Refuse("lost", "acknowledged writes are past the end of their history", lost), ()
    doubt = _doubt(demand, view)
    if doubt is not None:
        return {}, doubt, ()
    clipped = tuple(_loss(k, v, ends[k]) for k, v in demand.need.items() if k in ends and v > ends[k])
    if not clipped:
        return demand.need, None, ()
    return {k: min(v, ends.get(k, v)) for k, v in demand.need.items()}, None, clipped


def succeeded(demand: Demand, view: View) -> Probe | Refuse | None:
    """Ask the leader of a write that is known to number, on that shard, only what has ended; refuse if it still does.

    What it acknowledged would be lost at once: it has not heard that somebody has taken over.
    """
    leader, shard = view.of(demand.at or ""), demand.writes
    if leader is None or leader.down is not None or shard is None or not leader.replaced((shard,), view.ends):
        return None
    if not leader.asked_since((shard,), demand.arrived):
        return Probe((leader.name,), f"somebody has taken over from {leader.name}, unless it has begun anew by now")
    return Refuse("no endpoint", f"somebody has taken over from {leader.name}: all that it numbers here has ended")


def _doubt(demand: Demand, view: View) -> Refuse | None:
    """Refuse if a history that held folded own writes has ended: exactly those are named, for `forget`."""
    mark, shards = demand.mark, demand.leader_shards
    if mark is None or not mark.origins:
        return None
    ended = {k & 0xFFFFFFFF for k in view.ends if k >> 32 in shards and mark.recalls(k & 0xFFFFFFFF)}
    if not ended:
        return None
    doubt = attrs.evolve(mark, origins=mark.origins if ANY_ORIGIN in mark.origins else frozenset(ended))
    return Refuse("doubt", "a history that held folded own writes has ended: some may be lost", doubt=doubt)


def _loss(key: int, offset: int, end: int) -> Loss:
    return Loss(Position(key >> 32, key & 0xFFFFFFFF, offset), end)
