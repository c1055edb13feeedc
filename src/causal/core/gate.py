"""The gate: one pure decision on how a read (or write) goes on. Serve, probe, wait or refuse, each with its reason.

Owns the rules of the gate (I4 to I6, I9). Knows no clock, no link and no loop: the two loops in `store.py` and
`async_store.py` carry decisions out, and judge the snapshot they then get by the same `need` (`Serve.need`).

HAZARD: a decision is only a plan. What makes a read safe is that the snapshot's own watermark covers `Serve.need`; a loop that skips
that check serves stale reads whenever a server restarts between the decision and the snapshot.
"""

from __future__ import annotations

import math
from operator import itemgetter
from typing import TYPE_CHECKING, Final

import attrs

from causal.core.covered import covered
from causal.core.decision import (
    UNCHECKED,
    Decision,
    How,
    Probe,
    Refuse,
    Serve,
    Wait,
    at_leaders,
    bears_out,
    is_behind,
    is_older,
    is_unproven,
    outlived,
)
from causal.core.demand import Demand, considered, joined
from causal.core.evidence import refreshing
from causal.core.frontier import ANY_ORIGIN, Loss
from causal.core.lost import settled, succeeded
from causal.core.policy import ReadPolicy, Strategy
from causal.core.view import EndpointView, View

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "UNCHECKED",
    "Decision",
    "Demand",
    "How",
    "Probe",
    "Refuse",
    "Serve",
    "Wait",
    "at_leaders",
    "bears_out",
    "considered",
    "covered",
    "decide",
    "outlived",
]

RETRY_S: Final = 1.0
"""How long an endpoint that failed is left alone while others serve; a request tries it once anyway before it is refused."""

RECONSIDER_S: Final = 0.02
"""How long one of several equally near replicas is waited for, at least, before the others are looked at again: an eighth of what is left
of the budget, so that many who wait for long do not decide all the time."""

NO_LEADER: Final = (
    "what is derived has no leader to fall back to: wait longer, allow a stale read (then='stale', ReadPolicy.eventual()), or take what "
    "the session changed from the source (causal.derived.mixed)"
)
TICK_S: Final = 1e-6
"""A budget of less is spent: added to a clock's reading it may be rounded away, and waiting for it would not end."""


def decide(
    demand: Demand, view: View, policy: ReadPolicy, elapsed_s: float, *, now: float, max_staleness_s: float
) -> Decision:
    """Decide how a request goes on, `elapsed_s` after it arrived.

    Invariant: Serve for the session strategy names an endpoint that is known to cover the whole demand, or (fallback) one that numbers
    all of it; in both cases `Serve.need` is what its snapshot must cover (I4).
    Units: seconds of the clock behind `view`. Complexity: linear in endpoints x demanded positions; the common case stops at the first.
    """
    part = view if view.parts is None else view.on(demand.shards)
    serve = covered(demand, part, policy, now, max_staleness_s)
    return serve if serve is not None else _Case(demand, part, policy, elapsed_s, now, max_staleness_s, view).decide()


@attrs.define
class _Case:
    """The uncommon cases of one decision."""

    demand: Demand
    view: View
    policy: ReadPolicy
    elapsed_s: float
    now: float
    max_staleness_s: float
    whole: View
    """Of which `view` is the part that the demand concerns."""
    unproven: bool = False

    def decide(self) -> Decision:
        decision = self.choose()
        if isinstance(decision, Refuse) and decision.why in ("timeout", "no endpoint"):
            # What failed before this request may be back: ask once before refusing.
            untried = tuple(e.name for e in self.view.endpoints if e.down is not None and e.tried < self.demand.arrived)
            if untried:
                return Probe(untried, "before refusing, try what failed earlier")
        return decision

    def choose(self) -> Decision:
        match self.policy.strategy:
            case Strategy.EVENTUAL:
                return self.nearest("eventual")
            case Strategy.WINDOW:
                return self.window()
            case Strategy.BOUNDED:
                return self.bounded()
        need, refusal, clipped = settled(self.demand, self.view)
        if refusal is not None:
            return refusal
        replaced = succeeded(self.demand, self.view) if self.view.ends else None
        if replaced is not None:
            return replaced
        how: How = "covered"
        if self.policy.strategy is Strategy.QUORUM:
            how, quorum = "quorum", self.quorum()
            if isinstance(quorum, (Probe, Refuse)):
                return quorum
            need = joined(need if self.policy.token else {}, quorum)
        if self.demand.floor is not None:
            need = joined(need, self.floored(self.demand.floor))
        shards = at_leaders(self.demand, self.policy)
        if shards:
            how = "leader"
            # What an ended origin left behind counts as much: its leader is gone, its acknowledged writes are not.
            need = joined(need, {k: end for k, end in self.view.ends.items() if k >> 32 in shards})
            heads = self.heads(shards)
            if isinstance(heads, EndpointView):
                return Serve(heads.name, how, need, heads, clipped)
            if not isinstance(heads, dict):
                return heads
            need = joined(need, heads)
        return self.gated(need, how, clipped)

    # --- demands that must be asked for --------------------------------------------------------------------------

    def heads(self, shards: frozenset[int]) -> dict[int, int] | EndpointView | Probe | Refuse:
        """Return every live origin's head, asked after the request, on the shards that are read at the leader.

        Where one endpoint numbers every live origin, it is current by construction: it is returned itself, unasked.
        """
        live, arrived = self.view.live(), self.demand.arrived
        keys = [k for k in live if k >> 32 in shards]
        leaders = {k: self.view.leader(k) for k in keys}
        names = {e.name if e is not None else None for e in leaders.values()}
        recalled = self.demand.mark.origins - {ANY_ORIGIN} if self.demand.mark is not None else frozenset()
        heard = self.whole.live() | self.whole.ends.keys() if recalled else ()  # of which shards they were is not known
        unheard = recalled - {k & 0xFFFFFFFF for k in heard}
        only = leaders[keys[0]] if len(names) == 1 and not unheard else None
        if only is not None and not only.serves:
            only = None  # current by construction, and not to be read: its head is
        marked = not self.demand.leader_shards.isdisjoint(shards)
        others = tuple(e.name for e in self.usable() if e is not only and not e.asked_since(shards, arrived))
        if marked and others and only is not None:  # it stands for positions of any origin, known here or not
            return Probe(others, "a leader mark asks everybody: somebody may number what is not known here")
        if (
            only is not None
            and self.demand.at is None  # a write is to depend on those heads, of all shards: it must know them
            and not only.asked_since(shards, arrived)
            and (self.demand.shards <= shards or self.proven(only))
            and all(e.asked for e in self.usable())  # who was never asked may number what nobody else has heard of
        ):
            return only
        everyone = None in names or not names or marked or bool(unheard)
        asks = (e for e in self.usable() if everyone or not e.asked or e.name in names)
        unasked = tuple(e.name for e in asks if not e.asked_since(shards, arrived))
        if unasked:
            return Probe(unasked, "a leader read asks every origin's head after the request")
        if unheard:
            return Refuse("no endpoint", f"origin {min(unheard)}, which held an own write, is known to no endpoint")
        heads: dict[int, int] = {}
        for key, leader in leaders.items():
            if leader is not None and leader.asked_since((key >> 32,), arrived):
                heads[key] = leader.applied[key]
            elif self.policy.unproven == "refuse":
                return Refuse(
                    "no endpoint", f"origin {key & 0xFFFFFFFF} of shard {key >> 32} has no leader that can be asked"
                )
            else:
                self.unproven = True
        if not keys and not self.usable():
            return Refuse("no endpoint", "no endpoint can be asked")
        return heads

    def quorum(self) -> Mapping[int, int] | Probe | Refuse:
        nearest = self.readable()[: self.policy.replicas]
        if len(nearest) < self.policy.replicas:
            return Refuse(
                "no endpoint",
                f"a quorum of {self.policy.replicas} needs more endpoints than the {len(nearest)} that answer",
            )
        unasked = tuple(e.name for e in nearest if not e.asked_since(self.demand.shards, self.demand.arrived))
        if unasked:
            return Probe(unasked, "a quorum asks its endpoints after the request")
        need: Mapping[int, int] = {}
        for endpoint in nearest:
            need = joined(need, {k: v for k, v in endpoint.applied.items() if k >> 32 in self.demand.shards})
        return need

    def floored(self, floor: int) -> dict[int, int]:
        """Return the floor as positions: every origin of the store, an ended one up to its end (what is past it exists no more)."""
        stores, ends = {s >> 16 for s in self.demand.shards}, self.view.ends
        keys = {k for e in self.view.endpoints for k in e.applied if k >> 48 in stores}
        return {k: min(floor, ends.get(k, floor)) for k in keys}

    # --- who covers ----------------------------------------------------------------------------------------------

    def gated(self, need: Mapping[int, int], how: How, clipped: tuple[Loss, ...]) -> Decision:
        """Serve where the need is covered; else probe, wait, fall back or refuse, in this order."""
        candidates = [e for e in self.servable() if e.down is None and e.asked]
        if how == "leader":  # prefer who numbers an origin
            candidates.sort(key=lambda e: not e.leads)
        # Heads asked for the request show that an endpoint is current, on the shards that they are of.
        if how != "leader" or not self.demand.shards <= at_leaders(self.demand, self.policy):
            candidates = [e for e in candidates if self.proven(e)]
        covering = [e for e in candidates if e.covers(need)]
        best = covering[0] if covering else None
        for endpoint in covering:
            if how != "covered" or not self.spared(endpoint, need):
                return Serve(endpoint.name, how, need, endpoint, clipped, self.unproven)
        left_s = self.policy.wait_s - self.elapsed_s
        if left_s > TICK_S:
            step = self.probe_or_wait(need, left_s, best, how)
            if step is not None:
                return step
        if best is not None and self.policy.then == "leader":
            return Serve(best.name, "fallback", need, best, clipped, self.unproven)
        if self.policy.then == "stale" and self.demand.at is None:
            return self.nearest("stale")
        if self.policy.then == "leader" and self.demand.at is None:
            return self.fallback(need, clipped)
        return self.refused(f"not covered after {self.elapsed_s * 1000:.0f} ms")

    def spared(self, endpoint: EndpointView, need: Mapping[int, int]) -> bool:
        """Whether an endpoint is read only if nobody else gets there in time: it is the leader of what is demanded, not a replica.

        Where no live origin is demanded, whoever numbers writes is. The nearest endpoint is read whatever it numbers.
        """
        leads = endpoint.leads
        if not leads or self.demand.at is not None or endpoint is self.view.endpoints[0]:
            return False
        live = need.keys() - self.view.ends.keys()
        return not live or not leads.isdisjoint(live)

    def probe_or_wait(
        self, need: Mapping[int, int], left_s: float, best: EndpointView | None, how: How
    ) -> Probe | Wait | None:
        """Nearest first: ask it if it was not asked since the request, wait if it may get there in time, else look further.

        Equally near replicas are asked before any is waited for, and looked at again while it is: one that stands still holds nobody up.
        `best`, if any, covers already: nobody beyond it is of use.
        """
        waits: list[tuple[tuple[float, float], Wait]] = []
        nearest_s, spares = math.inf, how != "leader"
        for endpoint in self.servable():
            if endpoint is best or (spares and (endpoint.latency_s > nearest_s or (waits and endpoint.leads))):
                break  # a fallback is left; a read at the leaders has none, and waits for whoever gets there
            if not endpoint.asked_since(self.demand.shards, self.demand.arrived):
                return Probe((endpoint.name,), is_older(endpoint.name), self.within((endpoint.name,), need, left_s))
            lacking = self.evidence(endpoint, need)
            if lacking is None:
                leaders = self.unheard_leaders()
                if leaders:
                    within_s = self.within(leaders, need, left_s)
                    return Probe(leaders, is_unproven(endpoint.name, self.limit_s), within_s)
                continue
            eta_s = endpoint.eta_s(lacking, self.now, self.policy.wait_s)
            if eta_s is None or eta_s <= left_s:
                behind = lacking is need or not endpoint.covers(need)
                reason = is_behind(endpoint.name) if behind else is_unproven(endpoint.name, self.limit_s)
                # Of those that nothing is known of, the one that was not heard of for longer: the other was waited for last.
                order = (math.inf if eta_s is None else eta_s, endpoint.asked_at)
                waits.append((order, Wait(endpoint.name, lacking, left_s, reason)))
                nearest_s = endpoint.latency_s
        if len(waits) < 2:
            return waits[0][1] if waits else None
        return attrs.evolve(min(waits, key=itemgetter(0))[1], for_s=min(left_s, max(RECONSIDER_S, left_s / 8)))

    def unheard_leaders(self) -> tuple[str, ...]:
        """Return whose heads may show that an endpoint is current. Where nobody is known to number an origin, anybody may by now."""
        anybody, unasked = any(self.view.leader(k) is None for k in self.view.live()), self.usable()
        shards, arrived = self.demand.shards, self.demand.arrived
        return tuple(e.name for e in unasked if (e.leads or anybody) and not e.asked_since(shards, arrived))

    def within(self, names: tuple[str, ...], need: Mapping[int, int], left_s: float) -> float | None:
        """Return how long to wait for these to answer: no longer than is left where others can do without them."""
        falls_back = self.policy.then == "leader"
        for e in self.servable():
            if e.name not in names and e.down is None and e.asked and self.proven(e):
                if not falls_back:
                    return left_s / 2  # the others, who may get there, are to have some of it, too
                if e.covers(need) or e.leads >= need.keys() - self.view.ends.keys():
                    return left_s
        return None

    def evidence(self, endpoint: EndpointView, need: Mapping[int, int]) -> Mapping[int, int] | None:
        """Return what an endpoint must apply to be served; None if its staleness cannot be shown by anything known."""
        if self.proven(endpoint):
            return need
        fresh = refreshing(endpoint, self.view.live(), self.view.heads, self.now - self.limit_s)
        lacking = None if fresh is None else joined(joined(need, self.view.ends), fresh)
        return None if lacking is None or endpoint.covers(lacking) else lacking

    def fallback(self, need: Mapping[int, int], clipped: tuple[Loss, ...]) -> Decision:
        """Go to the endpoint that covers by construction: the one that numbers every demanded origin."""
        wanted = {k for k in need if k not in self.view.ends}
        usable = self.readable()
        some = [e for e in usable if (e.leads & wanted if wanted else e.leads)]
        if self.led_elsewhere:
            return self.refused(f"not covered after {self.elapsed_s * 1000:.0f} ms, and {NO_LEADER}")
        if not some or any(self.view.leader(k) is None for k in wanted):
            some = usable  # who numbers it now is not known: somebody may have taken over
        unasked = [e for e in some if not e.asked_since(self.demand.shards, self.demand.arrived)]
        for endpoint in unasked:
            if endpoint.down is None and endpoint.leads and endpoint.leads >= wanted and self.proven(endpoint):
                return Serve(endpoint.name, "fallback", need, endpoint, clipped)
        if unasked:
            return Probe(tuple(e.name for e in unasked), "no endpoint numbers every demanded origin")
        return self.refused(f"not covered after {self.elapsed_s * 1000:.0f} ms, and no leader covers it")

    # --- the strategies that promise less ------------------------------------------------------------------------

    def nearest(self, how: How) -> Decision:
        for endpoint in self.readable():
            if endpoint.down is None:
                return Serve(endpoint.name, how, {}, endpoint)
        return Refuse("no endpoint", "no endpoint can be reached")

    def window(self) -> Decision:
        if self.demand.wrote_ago_s < self.policy.window_s:
            for endpoint in self.readable():
                if endpoint.leads & self.demand.own.keys():
                    return Serve(endpoint.name, "window", {}, endpoint)
            if self.led_elsewhere:
                return Refuse("no endpoint", f"the leader is to be read, and {NO_LEADER}")
        return self.nearest("window")

    def bounded(self) -> Decision:
        """Serve who is shown to be at most `bound_s` stale; else ask the leaders, then gate on what they answered."""
        for endpoint in self.readable():
            if endpoint.down is None and endpoint.fresh_at >= self.now - self.limit_s:
                return Serve(endpoint.name, "bounded", {}, endpoint)
        ask = tuple(e.name for e in self.usable() if not e.asked_since(self.demand.shards, self.demand.arrived))
        if ask:
            return Probe(ask, f"nobody is shown to be at most {self.policy.bound_s:g} s stale")
        heads = {k: samples[-1][1] for k, samples in self.view.heads.items() if k >> 32 in self.demand.shards}
        return self.gated(heads, "bounded", ())

    def usable(self) -> list[EndpointView]:
        """The endpoints worth asking: those that answer, and those whose failure is old enough to ask again."""
        return [
            e
            for e in self.view.endpoints
            if e.down is None or (e.tried < self.demand.arrived and e.tried_at < self.now - RETRY_S)
        ]

    def readable(self) -> list[EndpointView]:
        """Those of them that are not only asked."""
        return [e for e in self.usable() if e.serves]

    def servable(self) -> list[EndpointView]:
        at = self.demand.at
        return [e for e in self.readable() if at is None or e.name == at]

    @property
    def led_elsewhere(self) -> bool:
        """Whether only witnesses number what is written here: a derived store has no leader that could be read instead."""
        endpoints = self.view.endpoints
        return not endpoints[-1].serves and not any(e.serves and e.leads for e in endpoints) if endpoints else False

    def proven(self, endpoint: EndpointView) -> bool:
        """Whether an endpoint may be served at all (I5). A write goes to its leader, which is gated on the demand alone (I9)."""
        if self.policy.unproven == "serve" or self.demand.at is not None:
            return True
        return endpoint.fresh_at >= self.now - self.limit_s

    @property
    def limit_s(self) -> float:
        bounded = self.policy.strategy is Strategy.BOUNDED
        return min(self.policy.bound_s, self.max_staleness_s) if bounded else self.max_staleness_s

    def refused(self, reason: str) -> Refuse:
        return Refuse(
            "timeout" if any(self.proven(e) and e.down is None for e in self.servable()) else "no endpoint", reason
        )
