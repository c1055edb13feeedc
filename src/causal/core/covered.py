"""The common case of a decision: somebody near is known to hold the whole demand. The hot path of `core/gate.py`.

Owns what counts as common. Says nothing of what follows where it does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from causal.core.decision import Serve
from causal.core.endpoint import NEVER
from causal.core.policy import ReadPolicy, Strategy

if TYPE_CHECKING:
    from causal.core.demand import Demand
    from causal.core.view import View


def covered(
    demand: Demand, view: View, policy: ReadPolicy, now: float, max_staleness_s: float, at: str | None = None
) -> Serve | None:
    """Return the nearest endpoint that is known to cover the whole demand, if the case is the common one: the hot path of `decide`.

    It is not the common one if that endpoint is the leader of what is demanded and others are nearer: see `_Case.spared`.
    `at` names the leader of a write, which alone may serve it and is gated on the demand alone (I9).
    """
    if (
        policy.strategy is not Strategy.SESSION
        or demand.leader_shards
        or demand.floor is not None
        or demand.at is not None
    ):
        return None
    if view.parts is not None:
        view = view.on(demand.shards)
    limit = NEVER if policy.unproven == "serve" or at is not None else now - max_staleness_s
    need = demand.need
    for endpoint in view.endpoints:
        if (at is not None and endpoint.name != at) or not endpoint.serves:
            continue
        if endpoint.fresh_at >= limit and endpoint.down is None and endpoint.asked:
            if at is not None and view.ends and endpoint.replaced(demand.shards, view.ends):
                return None  # not the common case: see `succeeded`
            memo: Serve | None = demand.memo
            if memo is not None and memo.known is endpoint:
                return memo  # the same demand, the same knowledge: both are immutable, so the same answer
            applied = endpoint.applied
            for key in need:
                if applied.get(key, -1) < need[key]:
                    break
            else:
                leader = not need or view.ends or not endpoint.leads.isdisjoint(need)
                if endpoint.leads and leader and at is None and endpoint is not view.endpoints[0]:
                    return None  # not the common case: see `_Case.spared`
                demand.memo = serve = Serve(endpoint.name, "covered", need, endpoint)
                return serve
    return None
