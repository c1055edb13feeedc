"""The gate: pinned decisions, each rule with the case that needs it, and random ones against a dumb twin."""

import math
from collections.abc import Mapping
from typing import Any

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from causal.core.decision import Decision, Probe, Refuse, Serve, Wait, bears_out
from causal.core.demand import Demand, considered
from causal.core.frontier import ANY_ORIGIN, FOREVER, Frontier, LeaderMark, Position, pack
from causal.core.gate import RETRY_S, covered, decide
from causal.core.policy import ReadPolicy, Strategy
from causal.core.view import View
from causal.core.watermark import Watermark

NOW = 1000.0
STALENESS_S = 900.0
ARRIVED = 100
"""The number of the request: questions below it were sent before it arrived, questions above it after."""

Origins = Mapping[int, tuple[int, int | None]]


@attrs.frozen
class Known:
    """What one endpoint answered to one question about shard 0 (and `other` shards)."""

    origins: Origins
    leads: frozenset[int] = frozenset()
    asked: int = 1
    asked_at: float = NOW - 10
    latency_s: float = 0.0
    life: int = 1
    down: str | None = None
    other: Mapping[int, Origins] = attrs.field(factory=dict)
    other_leads: Mapping[int, frozenset[int]] = attrs.field(factory=dict)

    def watermarks(self, name: str) -> dict[int, Watermark]:
        shards = {0: self.origins, **self.other}
        leads = {0: self.leads, **self.other_leads}
        return {s: Watermark(s, dict(o), (name, self.life), leads.get(s, frozenset())) for s, o in shards.items()}


def view_of(**endpoints: Known) -> View:
    """In the order of their latencies; who numbers an origin is taken in first, so that the others can be judged."""
    view = View().known([(name, known.latency_s) for name, known in endpoints.items()])
    for name, known in sorted(endpoints.items(), key=lambda item: not item[1].leads):
        view = view.observe(name, known.watermarks(name), asked=known.asked, asked_at=known.asked_at, now=NOW)
        if known.down:
            view = view.failed(name, known.down, asked=known.asked, now=known.asked_at)
    return view


def leader(*offsets: int | None, **more: Any) -> Known:
    """The endpoint that numbers origin 1, far away."""
    (offset,) = offsets
    return Known({1: (offset or 0, None)}, frozenset({1}), **{"latency_s": 0.05, **more})


def replica(offset: int, **more: Any) -> Known:
    return Known({1: (offset, None)}, **more)


def at(offset: int, *, own: bool = True, origin: int = 1, **more: Any) -> Demand:
    key = {pack(0, origin): offset}
    return Demand(key if own else {}, {} if own else key, **{"shards": frozenset({0}), "arrived": ARRIVED, **more})


NOTHING = Demand({}, {}, shards=frozenset({0}), arrived=ARRIVED)
MARKED = Demand({}, {}, shards=frozenset({0}), leader_shards=frozenset({0}), mark=LeaderMark(FOREVER), arrived=ARRIVED)


def gate(demand: Demand, view: View, policy: ReadPolicy | None = None, elapsed_s: float = 0.0) -> Decision:
    return decide(demand, view, policy or ReadPolicy(), elapsed_s, now=NOW, max_staleness_s=STALENESS_S)


def serves(decision: Decision) -> tuple[str, str]:
    assert isinstance(decision, Serve), decision
    return decision.endpoint, decision.how


# --- the four steps of a session read ------------------------------------------------------------------------------------


def test_nothing_demanded_goes_to_the_nearest_eligible_replica() -> None:
    assert serves(gate(NOTHING, view_of(far=leader(10), near=replica(10)))) == ("near", "covered")


@pytest.mark.spec("G-39")
def test_a_known_watermark_that_covers_costs_no_question() -> None:
    view = view_of(far=leader(10), near=replica(9), mid=replica(10, latency_s=0.01))
    decision = gate(at(10), view)
    assert serves(decision) == ("mid", "covered")
    assert isinstance(decision, Serve)
    assert decision.need == {pack(0, 1): 10}
    assert serves(gate(at(10), view, ReadPolicy(unproven="serve"))) == ("mid", "covered")  # however fresh the nearest


@pytest.mark.spec("G-39", "G-41", "G-45")
def test_an_old_watermark_is_asked_again_then_waited_for_then_left_for_the_leader() -> None:
    demand, policy = at(12), ReadPolicy(0.1)
    view = view_of(far=leader(10), near=replica(10))
    assert gate(demand, view) == Probe(("near",), "what is known of near is older than the request", 0.1)
    view = view_of(far=leader(10), near=replica(10, asked=101))
    wait = gate(demand, view, policy, elapsed_s=0.03)
    assert isinstance(wait, Wait)
    assert (wait.endpoint, dict(wait.need), round(wait.for_s, 6)) == ("near", {pack(0, 1): 12}, 0.07)
    decision = gate(demand, view, policy, elapsed_s=0.1)
    assert serves(decision) == ("far", "fallback")
    assert isinstance(decision, Serve)
    assert decision.need == {pack(0, 1): 12}  # it covers by construction, and must show that it does


@pytest.mark.spec("G-41")
@pytest.mark.parametrize(
    ("then", "other", "within_s"),
    [
        ("leader", leader(12), 0.07),  # it is known to cover
        ("leader", leader(10), 0.07),  # it numbers what is demanded: it covers by construction
        ("leader", replica(11), None),  # it may not get there, and then all hangs on the leader
        ("leader", leader(12, down="gone"), None),
        ("stale", replica(11), 0.035),
        ("error", replica(11), 0.035),  # which may get there, if it is asked in time
        ("error", leader(10, down="gone"), None),
    ],
)
def test_an_answer_is_waited_for_no_longer_than_is_left_where_others_can_serve(
    then: Any, other: Known, within_s: float | None
) -> None:
    view = view_of(near=replica(10), other=other, head=leader(11, latency_s=1.0, down="gone"))
    probe = gate(at(12), view, ReadPolicy(0.1, then, "serve"), elapsed_s=0.03)
    assert isinstance(probe, Probe)
    assert probe.endpoints == ("near",)
    assert probe.within_s == (within_s and pytest.approx(within_s))


def test_what_a_write_hangs_on_is_waited_for() -> None:
    view = view_of(near=replica(12), far=leader(10))
    probe = gate(at(12).again(ARRIVED, at="far"), view)
    assert probe == Probe(("far",), "what is known of far is older than the request", None)


@pytest.mark.spec("G-44", "G-47")
@pytest.mark.parametrize(
    ("then", "expected"),
    [("leader", ("far", "fallback")), ("stale", ("near", "stale")), ("error", "timeout")],
)
def test_a_spent_budget_does_what_the_policy_says(then: Any, expected: Any) -> None:
    view = view_of(far=leader(10), near=replica(10, asked=101))
    decision = gate(at(12), view, ReadPolicy(0.1, then=then), elapsed_s=0.1)
    assert (decision.why if isinstance(decision, Refuse) else serves(decision)) == expected


@pytest.mark.spec("G-40")
def test_who_numbers_writes_is_spared_while_someone_nearer_may_get_there() -> None:
    """After a write, the leader alone is known to hold it: read-your-writes must not send every reader there."""
    demand = at(11)
    view = view_of(far=leader(11), near=replica(10), mid=replica(10, latency_s=0.01))
    assert covered(demand, view, ReadPolicy(), NOW, STALENESS_S) is None
    assert gate(demand, view) == Probe(("near",), "what is known of near is older than the request", 0.1)
    caught_up = view_of(far=leader(11), near=replica(11, asked=101), mid=replica(10, latency_s=0.01))
    assert serves(gate(demand, caught_up)) == ("near", "covered")
    behind = view_of(far=leader(11), near=replica(10, asked=101), mid=replica(10, latency_s=0.01))
    assert isinstance(gate(demand, behind), Wait)
    assert serves(gate(demand, behind, elapsed_s=0.1)) == ("far", "fallback")
    gone = view_of(far=leader(11), near=replica(10, down="gone", asked=101))
    assert serves(gate(demand, gone)) == ("far", "fallback")
    # ... and where the policy sends nobody to a leader, it is not read for being known, either
    assert isinstance(gate(demand, behind, ReadPolicy(then="error"), elapsed_s=0.1), Refuse)
    assert serves(gate(demand, behind, ReadPolicy(then="stale"), elapsed_s=0.1)) == ("near", "stale")


@pytest.mark.spec("G-40")
@pytest.mark.parametrize("then", ["leader", "stale", "error"])
def test_who_numbers_only_what_nobody_demands_is_a_replica(then: Any) -> None:
    """Where every site takes writes, the leader of one origin follows the others, and is read like any replica."""
    other = Known({1: (11, None), 2: (5, None)}, frozenset({2}))
    policy = ReadPolicy(then=then)
    view = view_of(near=replica(10, asked=101), mid=other, far=leader(11))
    assert serves(gate(at(11), view, policy)) == ("mid", "covered")
    # ... even beyond the leader of what is demanded
    beyond = Known({1: (11, None), 2: (5, None)}, frozenset({2}), latency_s=0.09)
    whose = Known({1: (11, None), 2: (5, None)}, frozenset({1}), latency_s=0.05)
    view = view_of(near=replica(10, asked=101), far=whose, mid=beyond)
    assert [endpoint.name for endpoint in view.endpoints] == ["near", "far", "mid"]
    assert serves(gate(at(11), view, policy)) == ("mid", "covered")
    # ... but not where it has both: what has ended has no leader any more, and whoever numbers writes goes on in its place
    view = view_of(near=Known({1: (10, 11)}, asked=101), far=Known({1: (11, 11), 2: (3, None)}, frozenset({2})))
    assert isinstance(gate(at(11), view, policy), Wait)


def test_who_numbers_writes_is_not_spared_where_nobody_is_nearer() -> None:
    here = view_of(here=leader(11, latency_s=0.0), far=replica(11, latency_s=0.05))
    assert serves(gate(at(11), here)) == ("here", "covered")
    assert serves(gate(at(11, at="far"), view_of(far=leader(11), near=replica(11)))) == ("far", "covered")  # a write


def test_reads_come_back_from_the_leader_once_replicas_are_shown_to_be_fresh_again() -> None:
    """A quiet process asks nobody, and after max_staleness knows no fresh replica: it must ask, not stay at the leader."""
    old = NOW - STALENESS_S - 1
    view = view_of(far=leader(10, asked_at=old), near=replica(10, asked_at=old))
    assert gate(NOTHING, view) == Probe(("near",), "what is known of near is older than the request", 0.1)
    view = view.observe("near", replica(10).watermarks("near"), asked=101, asked_at=NOW, now=NOW)
    assert gate(NOTHING, view) == Probe(("far",), "near is not shown to be less than 900 s stale")
    view = view.observe("far", leader(10).watermarks("far"), asked=102, asked_at=NOW, now=NOW)
    assert serves(gate(NOTHING, view)) == ("near", "covered")


@pytest.mark.spec("G-43")
def test_who_does_not_move_is_not_waited_for() -> None:
    view = view_of(far=leader(20), near=replica(10, asked=101))
    view = view.observe("near", replica(10).watermarks("near"), asked=102, asked_at=NOW - 5, now=NOW - 5)
    assert serves(gate(at(20), view)) == ("far", "fallback")  # known to cover
    assert gate(at(21), view) == Probe(("far",), "what is known of far is older than the request")  # near has stalled
    assert serves(gate(at(21), view, ReadPolicy(0.0))) == ("far", "fallback")


@pytest.mark.spec("G-43")
def test_who_cannot_make_it_in_time_is_not_waited_for() -> None:
    view = view_of(far=leader(25), near=replica(10, asked=101, asked_at=NOW - 10))
    view = view.observe("near", replica(20).watermarks("near"), asked=102, asked_at=NOW - 9, now=NOW)
    # 10 a second, and 6 to go
    assert isinstance(gate(at(26), view, ReadPolicy(0.7)), Wait)
    assert gate(at(26), view, ReadPolicy(0.5)) == Probe(("far",), "what is known of far is older than the request")


@pytest.mark.spec("G-43")
def test_of_several_equally_near_the_likeliest_is_waited_for_and_not_for_all_of_the_time() -> None:
    far, old = leader(25, latency_s=0.1), replica(10, asked=101, asked_at=NOW - 10)
    view = view_of(far=far, a=old, b=attrs.evolve(old, latency_s=0.0))
    view = told(view, "b", replica(15, asked_at=NOW - 9), asked=102)  # 5 a second
    view = told(view, "a", replica(20, asked_at=NOW - 9), asked=103)  # 10 a second
    for wait_s, for_s in ((2.0, 0.25), (4.0, 0.5)):
        wait = gate(at(24), view, ReadPolicy(wait_s))
        assert isinstance(wait, Wait)
        assert (wait.endpoint, wait.for_s) == ("a", for_s)
    alone = gate(at(24), view_of(far=far, a=old), ReadPolicy(2.0))
    assert isinstance(alone, Wait)
    assert alone.for_s == 2.0


@pytest.mark.spec("L-8", "G-47")
def test_an_unknown_origin_is_never_served_and_never_called_lost() -> None:
    view = view_of(far=leader(10, asked=101), near=replica(10, asked=101))
    for policy in (ReadPolicy(), ReadPolicy(then="error"), ReadPolicy.leader(), ReadPolicy.quorum(1)):
        decision = gate(at(1, origin=99), view, policy, elapsed_s=1.0)
        assert isinstance(decision, Refuse)
        assert decision.why == "timeout"


@pytest.mark.spec("G-46")
def test_no_one_endpoint_numbers_everything_so_all_who_number_some_of_it_are_asked() -> None:
    a = Known({1: (10, None), 2: (3, None)}, frozenset({1}))
    b = Known({1: (9, None), 2: (5, None)}, frozenset({2}), latency_s=0.1)
    demand = Demand({pack(0, 1): 11, pack(0, 2): 6}, {}, shards=frozenset({0}), arrived=ARRIVED)
    decision = gate(demand, view_of(a=a, b=b), elapsed_s=1.0)
    assert isinstance(decision, Probe)
    assert set(decision.endpoints) == {"a", "b"}
    decision = gate(demand, view_of(a=attrs.evolve(a, asked=101), b=attrs.evolve(b, asked=102)), elapsed_s=1.0)
    assert isinstance(decision, Refuse)


@pytest.mark.spec("G-46")
def test_who_has_taken_over_is_found_out() -> None:
    """The leader is gone and a replica may have been promoted: nobody known to number the demand is no reason to give up."""
    view = view_of(old=leader(10, down="gone", asked_at=NOW), near=replica(10), mid=replica(10, latency_s=0.01))
    decision = gate(at(11), view, ReadPolicy(0.0))
    assert isinstance(decision, Probe)
    assert set(decision.endpoints) == {"near", "mid"}


# --- what is lost (I6) ---------------------------------------------------------------------------------------------------

LINEAGE = {1: (8, 8), 2: (0, None)}


@pytest.mark.spec("G-30", "L-5")
@pytest.mark.parametrize(
    "policy",
    [ReadPolicy(), ReadPolicy(then="stale"), ReadPolicy.leader(), ReadPolicy.quorum(1), ReadPolicy(unproven="serve")],
)
@pytest.mark.parametrize("where", [None, "far"])
def test_an_own_position_past_its_end_is_lost_at_once_for_reads_and_writes(
    policy: ReadPolicy, where: str | None
) -> None:
    view = view_of(far=Known(LINEAGE, frozenset({2}), latency_s=0.05), near=Known(LINEAGE))
    decision = gate(at(9, at=where), view, policy)
    assert isinstance(decision, Refuse)
    assert decision.why == "lost"
    assert [(loss.position, loss.end) for loss in decision.lost] == [(Position(0, 1, 9), 8)]
    assert not isinstance(gate(at(8, at=where), view, policy), Refuse)


@pytest.mark.spec("G-6", "L-6", "L-7")
def test_past_the_head_of_who_numbers_it_is_lost_only_if_asked_after_the_request() -> None:
    before = view_of(far=leader(10, asked=100), near=replica(10, asked=101))
    assert not isinstance(gate(at(11), before, elapsed_s=1.0), Refuse)
    after = view_of(far=leader(10, asked=101), near=replica(10, asked=101))
    decision = gate(at(11), after)
    assert isinstance(decision, Refuse)
    assert [(loss.position, loss.end) for loss in decision.lost] == [(Position(0, 1, 11), 10)]


@pytest.mark.spec("L-7")
def test_past_the_head_of_anyone_else_is_only_behind() -> None:
    view = view_of(us=Known({1: (10, None), 2: (90, None)}, frozenset({2}), asked=101))
    assert isinstance(gate(at(100), view, ReadPolicy(unproven="serve")), Wait)  # `us` says nothing of 1's head


@pytest.mark.spec("L-7", "L-8")
def test_who_numbered_it_once_and_has_forgotten_it_says_nothing_of_its_head() -> None:
    view = view_of(far=leader(10), near=replica(10))
    restored = Known({5: (3, None)}, frozenset({5}), life=2)
    view = view.observe("far", restored.watermarks("far"), asked=101, asked_at=NOW, now=NOW)
    assert not isinstance(gate(at(11), view), Refuse)


@pytest.mark.spec("L-9", "L-16")
def test_a_seen_position_that_is_lost_is_clipped_and_noted() -> None:
    view = view_of(far=Known(LINEAGE, frozenset({2}), latency_s=0.05), near=Known(LINEAGE))
    decision = gate(at(60, own=False), view)
    assert isinstance(decision, Serve)
    assert decision.need == {pack(0, 1): 8}
    assert [(loss.position, loss.end) for loss in decision.clipped] == [(Position(0, 1, 60), 8)]


@pytest.mark.spec("G-11")
def test_a_replica_ahead_of_an_end_is_not_served_by_anything_that_promises() -> None:
    view = view_of(far=Known(LINEAGE, frozenset({2}), latency_s=0.05), near=Known({1: (9, None)}))
    for policy in (
        ReadPolicy(),
        ReadPolicy.leader(),
        ReadPolicy.quorum(1),
        ReadPolicy.bounded(100),
        ReadPolicy(unproven="serve"),
    ):
        decision = gate(NOTHING, view, policy)
        assert isinstance(decision, Probe) or serves(decision)[0] == "far"


@pytest.mark.spec("G-31", "L-13")
def test_a_mark_that_remembers_a_lost_history_is_in_doubt_and_names_exactly_that() -> None:
    view = view_of(far=Known({1: (8, 8), 2: (3, None)}, frozenset({2})))
    for origins, named in (({1, 2}, {1}), ({ANY_ORIGIN}, {ANY_ORIGIN})):
        mark = LeaderMark(FOREVER, frozenset(), frozenset(origins))
        decision = gate(
            Demand({}, {}, shards=MARKED.shards, leader_shards=MARKED.shards, mark=mark, arrived=ARRIVED), view
        )
        assert isinstance(decision, Refuse)
        assert decision.why == "doubt"
        assert decision.doubt is not None
        assert decision.doubt.origins == named
    mark = LeaderMark(FOREVER, frozenset(), frozenset({2}))
    decision = gate(Demand({}, {}, shards=MARKED.shards, leader_shards=MARKED.shards, mark=mark, arrived=ARRIVED), view)
    assert isinstance(decision, Serve)


# --- freshness (I5) ------------------------------------------------------------------------------------------------------


@pytest.mark.spec("G-17", "G-39", "G-47")
def test_a_replica_that_is_not_shown_to_be_fresh_is_not_eligible() -> None:
    old = NOW - STALENESS_S - 1
    view = view_of(far=leader(10, asked_at=old), near=replica(10, asked_at=old))
    assert serves(gate(NOTHING, view, ReadPolicy(0.0))) == ("far", "fallback")  # the leader itself is
    assert serves(gate(NOTHING, view, ReadPolicy(unproven="serve"))) == ("near", "covered")
    alone = view_of(far=leader(10, asked_at=old, down="gone"), near=replica(10, asked_at=old))
    assert gate(NOTHING, alone) == Probe(("near",), "what is known of near is older than the request")
    asked = view_of(far=leader(10, asked_at=old, asked=101, down="gone"), near=replica(10, asked=101))
    assert isinstance(decision := gate(NOTHING, asked), Refuse)
    assert decision.why == "no endpoint"
    edge = view_of(far=leader(10, asked_at=NOW - STALENESS_S, latency_s=1.0), near=replica(10))
    assert serves(gate(NOTHING, edge)) == ("near", "covered")


@pytest.mark.spec("G-42")
def test_who_shows_freshness_is_asked_for_where_that_is_not_known() -> None:
    """Somebody took over origin 2 unheard. Asking only the leaders that are known may take all the time, at every request, for ever."""
    both = {1: (10, None), 2: (5, None)}
    near = Known(both, asked=101)
    heir = Known({1: (10, None)}, latency_s=0.01)
    far = Known(both, frozenset({1}), latency_s=0.05)
    assert gate(at(10), view_of(near=near, heir=heir, far=far)) == Probe(
        ("heir", "far"), "near is not shown to be less than 900 s stale"
    )
    known = attrs.evolve(heir, origins=both, leads=frozenset({2}), asked=102)
    assert serves(gate(at(10), view_of(near=near, heir=known, far=attrs.evolve(far, asked=103)))) == ("near", "covered")


@pytest.mark.spec("G-42")
def test_what_shows_freshness_is_asked_of_the_leader() -> None:
    old = NOW - STALENESS_S - 1
    us = Known({1: (10, None), 2: (4, None)}, frozenset({2}), asked=101)
    eu = Known({1: (10, None), 2: (3, None)}, frozenset({1}), latency_s=0.05, asked_at=old)
    decision = gate(NOTHING, view_of(eu=eu, us=us))
    assert decision == Probe(("eu",), "us is not shown to be less than 900 s stale")


@pytest.mark.spec("G-28")
def test_a_bound_is_a_bound_whoever_is_gone() -> None:
    """With the other site's leader gone, nobody can show more than what it said last: that is no second old."""
    eu = Known({1: (10, None), 2: (4, None)}, frozenset({1}), latency_s=0.05, down="gone", asked=101, asked_at=NOW - 30)
    us = Known({1: (10, None), 2: (4, None)}, frozenset({2}), asked=101)
    for elapsed_s in (0.0, 1.0):
        assert isinstance(gate(NOTHING, view_of(eu=eu, us=us), ReadPolicy.bounded(1.0), elapsed_s), Refuse)
    assert serves(gate(NOTHING, view_of(eu=eu, us=us), ReadPolicy.bounded(30.0))) == ("us", "bounded")
    assert isinstance(gate(NOTHING, view_of(eu=eu, us=us), ReadPolicy.bounded(29.5)), Refuse)


# --- leaders -------------------------------------------------------------------------------------------------------------


def test_a_leader_read_goes_unasked_to_who_numbers_everything() -> None:
    assert serves(gate(NOTHING, view_of(far=leader(10), near=replica(10)), ReadPolicy.leader())) == ("far", "leader")


@pytest.mark.spec("G-36", "G-38")
def test_with_several_live_origins_a_leader_read_asks_every_head() -> None:
    eu = Known({1: (10, None), 2: (4, None)}, frozenset({1}), latency_s=0.05)
    us = Known({1: (9, None), 2: (5, None)}, frozenset({2}))
    for demand, policy in ((NOTHING, ReadPolicy.leader()), (MARKED, ReadPolicy())):
        decision = gate(demand, view_of(eu=eu, us=us), policy)
        assert isinstance(decision, Probe)
        assert set(decision.endpoints) == {"eu", "us"}
        asked = view_of(eu=attrs.evolve(eu, asked=101), us=attrs.evolve(us, asked=102))
        assert isinstance(gate(demand, asked, policy), Wait)  # neither holds both
        behind = view_of(
            eu=attrs.evolve(eu, asked=101, origins={1: (10, None), 2: (5, None)}), us=attrs.evolve(us, asked=102)
        )
        assert serves(gate(demand, behind, policy)) == ("eu", "leader")
        gone = view_of(eu=attrs.evolve(eu, asked=101, down="gone"), us=attrs.evolve(us, asked=102))
        decision = gate(demand, gone, policy)
        assert isinstance(decision, Refuse)
        assert decision.why == "no endpoint"
        decision = gate(demand, gone, attrs.evolve(policy, unproven="serve"))
        assert serves(decision) == ("us", "leader")
        assert isinstance(decision, Serve)
        assert decision.unproven


@pytest.mark.spec("G-36")
def test_what_an_ended_origin_left_behind_is_part_of_a_leader_read() -> None:
    """A mark may stand for a position of it: the exact token would wait for that (I3)."""
    near = Known({1: (10, None), 3: (100, 110)}, frozenset({1}))
    far = Known({1: (10, None), 3: (110, 110)}, latency_s=0.05, asked=101)
    for demand, policy in ((NOTHING, ReadPolicy.leader()), (MARKED, ReadPolicy())):
        decision = gate(demand, view_of(near=near, far=far), policy)
        assert isinstance(decision, Serve)
        assert decision.need[pack(0, 3)] == 110
        assert not bears_out(decision, near.watermarks("near"), {})


def test_a_leader_policy_asks_for_its_own_shard_whatever_a_mark_is_on() -> None:
    """A mark on shard 1 must not make a sticky leader read of shard 0 a read of any replica that is fresh enough."""
    a = Known({1: (10, None)}, other={1: {2: (5, None)}}, other_leads={1: frozenset({2})}, asked=101)
    b = Known({1: (10, None)}, frozenset({1}), other={1: {2: (5, None)}}, latency_s=0.05)
    view = view_of(a=a, b=b)
    b = attrs.evolve(b, origins={1: (20, None)})
    view = view.observe("b", b.watermarks("b"), asked=102, asked_at=NOW - 5, now=NOW)
    demand = marked({0}, {1})
    assert serves(gate(demand, view)) == ("a", "leader")
    assert serves(gate(demand, view, ReadPolicy.leader())) == ("b", "leader")


def marked(shards: set[int], at_leader: set[int], floor: int | None = None) -> Demand:
    mark = LeaderMark(FOREVER)
    return Demand(
        {}, {}, shards=frozenset(shards), leader_shards=frozenset(at_leader), mark=mark, floor=floor, arrived=ARRIVED
    )


@pytest.mark.spec("G-35")
@pytest.mark.parametrize("asked", [1, 101])
def test_heads_of_one_shard_show_nothing_of_another(asked: int) -> None:
    old = NOW - STALENESS_S - 1
    a = Known({1: (10, None)}, other={1: {2: (5, None)}}, other_leads={1: frozenset({2})}, asked=asked)
    b = Known({1: (20, None)}, frozenset({1}), other={1: {2: (5, None)}}, latency_s=0.05, asked_at=old)
    decision = gate(marked({0}, {1}), view_of(a=a, b=b))
    assert not isinstance(decision, Serve) or decision.endpoint == "b"
    b = attrs.evolve(b, asked=101, asked_at=NOW)  # only `a` is left to be asked: it numbers all of shard 1
    decision = gate(marked({0}, {1}), view_of(a=a, b=b))
    assert not isinstance(decision, Serve) or decision.endpoint == "b"


@pytest.mark.spec("G-37")
def test_a_mark_that_remembers_an_origin_nobody_knows_waits_for_who_does() -> None:
    mark = LeaderMark(FOREVER, frozenset(), frozenset({9}))
    demand = Demand({}, {}, shards=MARKED.shards, leader_shards=MARKED.shards, mark=mark, arrived=ARRIVED)
    assert gate(demand, view_of(far=leader(10))) == Probe(
        ("far",), "a leader read asks every origin's head after the request"
    )
    decision = gate(demand, view_of(far=leader(10, asked=101)))
    assert isinstance(decision, Refuse)
    assert decision.why == "no endpoint"


@pytest.mark.spec("G-35")
def test_who_was_never_asked_may_number_something_that_the_only_known_leader_lacks() -> None:
    for name, latency_s in (("new", 0.0), ("new", 0.1)):
        view = view_of(eu=leader(10)).known([("eu", 0.05), (name, latency_s)])
        for demand, policy in ((NOTHING, ReadPolicy.leader()), (MARKED, ReadPolicy())):
            decision = gate(demand, view, policy)
            assert isinstance(decision, Probe)
            assert set(decision.endpoints) == ({"new"} if demand is MARKED else {"eu", "new"})
            gone = view.failed("new", "gone", asked=102, now=NOW)
            assert serves(gate(demand, gone, policy)) == ("eu", "leader")


@pytest.mark.spec("G-34")
def test_a_mark_asks_whoever_may_have_begun_to_number_something() -> None:
    """Two were promoted at once: the second one's origin is known to nobody else, and may hold what was folded."""
    eu, us = leader(10), replica(10, latency_s=0.1)
    view = view_of(eu=eu, us=us)
    asks = Probe(("us",), "a leader mark asks everybody: somebody may number what is not known here")
    assert gate(MARKED, view) == asks
    assert serves(gate(NOTHING, view, ReadPolicy.leader())) == (
        "eu",
        "leader",
    )  # by policy: what the known leader holds
    same = view.observe("us", us.watermarks("us"), asked=101, asked_at=NOW, now=NOW)
    assert serves(gate(MARKED, same)) == ("eu", "leader")
    rival = Known({1: (10, None), 2: (1, None)}, frozenset({2}), latency_s=0.1)
    two = view.observe("us", rival.watermarks("us"), asked=101, asked_at=NOW, now=NOW)
    assert gate(MARKED, two) == Probe(("eu",), "a leader read asks every origin's head after the request")
    both = two.observe("eu", eu.watermarks("eu"), asked=102, asked_at=NOW, now=NOW)
    decision = gate(MARKED, both)
    assert serves(decision) == ("us", "leader")
    assert isinstance(decision, Serve)
    assert decision.need == {pack(0, 1): 10, pack(0, 2): 1}


def test_who_was_never_asked_may_number_something() -> None:
    view = view_of(eu=leader(10, asked=101)).known([("eu", 0.05), ("new", 0.0)])
    decision = gate(MARKED, view)
    assert isinstance(decision, Probe)
    assert decision.endpoints == ("new",)
    view = view.failed("new", "gone", asked=102, now=NOW)
    assert serves(gate(MARKED, view)) == ("eu", "leader")


@pytest.mark.spec("G-5")
def test_a_floor_is_part_of_every_read_leaders_included() -> None:
    full = Known({1: (105, None), 3: (103, 103)}, frozenset({1}), other={1: {2: (104, None)}})
    for floor, covers in ((104, True), (105, False)):
        floored = Demand({}, {}, shards=frozenset({0}), floor=floor, arrived=ARRIVED)
        assert isinstance(gate(floored, view_of(near=full), ReadPolicy(unproven="serve")), Serve) == covers
        decision = gate(marked({0}, {0}, floor), view_of(near=full), ReadPolicy(unproven="serve"))
        assert isinstance(decision, Serve)
        assert bears_out(decision, full.watermarks("near"), {}) == covers


@pytest.mark.spec("G-35")
def test_nobody_goes_to_a_leader_unasked_for_a_write_or_where_it_is_only_asked() -> None:
    decision = gate(NOTHING, view_of(far=leader(10, asked=101), near=replica(10)), ReadPolicy.leader())
    assert isinstance(decision, Serve)
    assert decision.need == {pack(0, 1): 10}  # it was asked: that is its head
    view = view_of(far=leader(10), near=replica(10, asked=101))
    decision = gate(MARKED.again(ARRIVED, at="far"), view)
    assert decision == Probe(("far",), "a leader read asks every origin's head after the request")
    view = View().known([("far", 0.05), ("near", 0.0)], witnesses={"far"})
    for name, known in (("far", leader(10)), ("near", replica(10, asked=101))):
        view = told(view, name, known, asked=known.asked)
    decision = gate(NOTHING, view, ReadPolicy.leader())
    assert decision == Probe(("far",), "a leader read asks every origin's head after the request")
    view = told(view, "far", leader(10), asked=102)
    assert serves(gate(NOTHING, view, ReadPolicy.leader())) == ("near", "leader")


@pytest.mark.spec("G-54")
@pytest.mark.parametrize("policy", [ReadPolicy(0.0), ReadPolicy.leader_window(5.0)])
def test_what_is_derived_has_no_leader_to_fall_back_to(policy: ReadPolicy) -> None:
    def index_of(source: Known, index: Known) -> View:
        view = View().known([("source", 0.05), ("index", 0.0)], witnesses={"source"})
        return told(told(view, "source", source, asked=2), "index", index, asked=3)

    decision = gate(at(12, wrote_ago_s=0.0), index_of(leader(12), replica(10)), policy)
    assert isinstance(decision, Refuse)
    assert decision.why == "no endpoint"
    copy = Known({1: (10, None), 2: (3, None)}, frozenset({2}))
    decision = gate(at(12, wrote_ago_s=0.0), index_of(replica(12), copy), attrs.evolve(policy, unproven="serve"))
    assert not isinstance(decision, Refuse)  # it numbers something itself


# --- the other strategies ------------------------------------------------------------------------------------------------


@pytest.mark.spec("G-32", "G-33")
def test_a_quorum_asks_the_nearest_and_gates_on_what_they_hold() -> None:
    a, b, c = replica(10), replica(12, latency_s=0.01), leader(15)
    decision = gate(NOTHING, view_of(a=a, b=b, c=c), ReadPolicy.quorum(2))
    assert isinstance(decision, Probe)
    assert decision.endpoints == ("a", "b")
    view = view_of(a=attrs.evolve(a, asked=101), b=attrs.evolve(b, asked=102), c=c)
    view = view.observe("c", leader(12).watermarks("c"), asked=1, asked_at=NOW - 20, now=NOW)
    view = view_of(a=attrs.evolve(a, asked=101), b=attrs.evolve(b, asked=102), c=leader(12))
    decision = gate(NOTHING, view, ReadPolicy.quorum(2))
    assert serves(decision) == ("b", "quorum")
    assert isinstance(decision, Serve)
    assert decision.need == {pack(0, 1): 12}
    assert isinstance(gate(NOTHING, view_of(a=a), ReadPolicy.quorum(2)), Refuse)


@pytest.mark.spec("G-33")
def test_a_quorum_without_the_token_forgets_the_session() -> None:
    view = view_of(a=replica(10, asked=101), c=leader(10))
    decision = gate(at(12), view, ReadPolicy.quorum(1, token=False))
    assert serves(decision) == ("a", "quorum")
    assert not isinstance(gate(at(12), view, ReadPolicy.quorum(1)), Serve)


@pytest.mark.spec("G-27")
def test_a_window_reads_the_leader_for_a_while_after_a_write() -> None:
    view, policy = view_of(far=leader(10), near=replica(3)), ReadPolicy.leader_window(5.0)
    for ago_s, where in ((0.0, "far"), (4.9, "far"), (5.0, "near"), (math.inf, "near")):
        assert serves(gate(at(10, wrote_ago_s=ago_s), view, policy)) == (where, "window")


@pytest.mark.spec("G-26")
def test_eventual_reads_the_nearest_that_answers() -> None:
    view = view_of(
        far=leader(10), near=replica(0, asked_at=NOW - 10**6), nearest=replica(0, latency_s=-1.0, down="gone")
    )
    assert serves(gate(at(10), view, ReadPolicy.eventual())) == ("near", "eventual")


@pytest.mark.spec("G-28", "G-29")
def test_a_bounded_read_asks_the_leaders_when_nobody_is_shown_to_be_fresh_enough() -> None:
    us = Known({1: (10, None), 2: (4, None)}, frozenset({2}), asked_at=NOW - 30)
    eu = Known({1: (10, None), 2: (4, None)}, frozenset({1}), latency_s=0.05, asked_at=NOW - 30)
    decision = gate(NOTHING, view_of(eu=eu, us=us), ReadPolicy.bounded(1.0))
    assert isinstance(decision, Probe)
    assert set(decision.endpoints) == {"eu", "us"}
    assert serves(gate(NOTHING, view_of(eu=eu, us=us), ReadPolicy.bounded(30.0))) == ("us", "bounded")
    fresh = view_of(
        eu=attrs.evolve(eu, asked=101, asked_at=NOW - 0.5, origins={1: (12, None), 2: (4, None)}),
        us=attrs.evolve(us, asked=101, asked_at=NOW - 0.5),
    )
    decision = gate(NOTHING, fresh, ReadPolicy.bounded(1.0))
    assert serves(decision) == ("eu", "bounded")


# --- writes (I9) ---------------------------------------------------------------------------------------------------------


@pytest.mark.spec("G-49", "G-50")
def test_a_write_goes_to_its_leader_or_nowhere() -> None:
    view = view_of(far=leader(10), near=replica(12))
    assert serves(gate(at(10, at="far"), view)) == ("far", "covered")
    asked = view_of(us=Known({1: (10, None), 2: (3, None)}, frozenset({2}), asked=101), eu=leader(11))
    assert isinstance(gate(at(11, at="us"), asked), Wait)  # it depends on what eu numbers
    decision = gate(at(11, at="us"), asked, ReadPolicy(then="error"), elapsed_s=1.0)
    assert isinstance(decision, Refuse)
    assert decision.why == "timeout"
    for then in ("leader", "stale"):  # nothing sends a write elsewhere
        assert isinstance(gate(at(11, at="us"), asked, ReadPolicy(then=then), elapsed_s=1.0), Refuse)


def heard(asked: int = 1, leads: frozenset[int] = frozenset({1}), **more: Any) -> View:
    """`far` numbers origin 1, or so it says; `near` has heard where that ended."""
    far = leader(10, asked=asked, **more)
    return view_of(far=attrs.evolve(far, leads=leads), near=Known({1: (10, 10), 2: (0, None)}, frozenset({2}), asked=2))


@pytest.mark.spec("G-55")
@pytest.mark.parametrize("asked_first", [True, False])
def test_a_write_is_not_sent_to_who_numbers_only_what_has_ended(asked_first: bool) -> None:
    view, write = heard(), at(10, at="far", writes=0)
    if asked_first:  # before the end was known, or after
        view = view.observe("far", leader(10).watermarks("far"), asked=3, asked_at=NOW, now=NOW)
    probe = gate(write, view)
    assert isinstance(probe, Probe)
    assert probe.endpoints == ("far",)
    assert "taken over" in probe.reason
    still = view.observe("far", leader(10).watermarks("far"), asked=101, asked_at=NOW, now=NOW)
    for elapsed_s in (0.0, 1.0):
        refusal = gate(write, still, elapsed_s=elapsed_s)
        assert isinstance(refusal, Refuse)
        assert refusal.why == "no endpoint"
        assert "taken over" in refusal.reason
    lost = gate(at(11, at="far", writes=0), view)
    assert isinstance(lost, Refuse)
    assert lost.why == "lost"  # that first
    assert isinstance(gate(at(10, at="far", writes=1), view), Serve)  # it is of another shard


@pytest.mark.spec("G-55")
def test_a_write_goes_to_who_has_begun_anew_or_knows_that_its_history_has_ended() -> None:
    write = at(10, at="far", writes=0)
    anew = Known({1: (10, 10), 3: (0, None)}, frozenset({3})).watermarks("far")
    silent = Known({1: (10, 10)}).watermarks("far")
    knows = Known({1: (10, 10)}, frozenset({1})).watermarks("far")
    forgets = Known({1: (10, None)}).watermarks("far")
    both = Known({1: (10, None), 3: (0, None)}, frozenset({1, 3})).watermarks("far")
    for answer in (anew, silent, knows, forgets, both):
        for asked in (3, 101):
            for before in (
                heard(),
                heard().observe("far", leader(10).watermarks("far"), asked=3, asked_at=NOW, now=NOW),
            ):
                view = before.observe("far", answer, asked=asked, asked_at=NOW, now=NOW)
                assert serves(gate(write, view)) == ("far", "covered")
                late = view.observe("far", leader(10).watermarks("far"), asked=2, asked_at=NOW, now=NOW)
                assert serves(gate(write, late)) == (
                    "far",
                    "covered",
                )  # an older answer says nothing of who numbers what


@pytest.mark.spec("G-55")
def test_what_another_life_numbered_is_forgotten_and_what_a_part_of_a_view_knows_is_not() -> None:
    write, of_shard_1 = at(10, at="far", writes=0), {1: Watermark(1, {3: (7, None)}, ("far", 1), frozenset({3}))}
    told = heard().observe("far", leader(10).watermarks("far"), asked=3, asked_at=NOW, now=NOW)
    told = told.observe("far", of_shard_1, asked=4, asked_at=NOW, now=NOW)
    assert isinstance(gate(write, told), Probe)
    another = {1: attrs.evolve(of_shard_1[1], incarnation=("far", 2))}
    known = told.observe("far", another, asked=5, asked_at=NOW, now=NOW).of("far")
    assert known is not None
    assert not known.replaced((0,), told.ends)
    whole = told.of("far")
    assert whole is not None
    assert whole.on(frozenset({0})).replaced((0,), told.ends)
    assert not whole.on(frozenset({1})).replaced((0, 1), told.ends)


@pytest.mark.spec("G-55")
def test_the_common_case_of_a_write_is_not_one_at_who_was_replaced() -> None:
    demand = at(10)
    view = view_of(far=leader(10), near=replica(10, asked=2))
    plain = covered(demand, view, ReadPolicy(), NOW, STALENESS_S, at="far")
    assert plain is not None
    assert covered(demand, view, ReadPolicy(), NOW, STALENESS_S, at="far") is plain
    told = view.observe("near", Known({1: (10, 10)}).watermarks("near"), asked=3, asked_at=NOW, now=NOW)
    replaced = told.of("far")
    assert replaced is not None
    assert (replaced.applied, replaced.leads) == (
        plain.known.applied,
        frozenset(),
    )  # nothing was heard of it but by another
    assert covered(demand, told, ReadPolicy(), NOW, STALENESS_S, at="far") is None
    assert covered(at(10), told, ReadPolicy(), NOW, STALENESS_S, at="near") is not None


@pytest.mark.spec("G-17", "G-50")
def test_a_write_needs_no_freshness() -> None:
    view = view_of(us=Known({1: (10, None), 2: (3, None)}, frozenset({2}), asked_at=NOW - 10**6))
    assert serves(gate(attrs_at(NOTHING, "us"), view)) == ("us", "covered")


def attrs_at(demand: Demand, name: str) -> Demand:
    return demand.again(demand.arrived, at=name)


# --- endpoints that fail -------------------------------------------------------------------------------------------------


@pytest.mark.spec("G-48")
def test_who_failed_is_left_alone_for_a_while_but_tried_before_refusing() -> None:
    gone = replica(10, down="gone", asked_at=NOW - RETRY_S / 2)
    assert serves(gate(NOTHING, view_of(far=leader(10), near=gone))) == ("far", "fallback")
    decision = gate(NOTHING, view_of(near=gone))
    assert decision == Probe(("near",), "before refusing, try what failed earlier")
    assert isinstance(gate(NOTHING, view_of(near=attrs.evolve(gone, asked=101))), Refuse)


def test_no_endpoint_is_no_crash() -> None:
    for policy in (
        ReadPolicy(),
        ReadPolicy.leader(),
        ReadPolicy.quorum(1),
        ReadPolicy.bounded(1),
        ReadPolicy.eventual(),
    ):
        for demand in (NOTHING, MARKED, at(3)):
            decision = gate(demand, View(), policy)
            assert isinstance(decision, Refuse)
            assert decision.why == "no endpoint"


def test_a_receipt_says_what_spoke_against_each_endpoint() -> None:
    view = view_of(
        leader=Known({1: (10, None), 3: (8, 8)}, frozenset({1})),
        behind=replica(7),
        gone=replica(9, down="no answer"),
    )
    said = dict(considered(at(10), view, NOW, STALENESS_S))
    assert said == {"leader": "covers", "behind": "BEHIND 3 when last asked", "gone": "no answer"}
    assert dict(considered(at(1, origin=9), view, NOW, STALENESS_S))["leader"] == "UNKNOWN 1 origin(s)"
    assert dict(considered(at(9, origin=3), view, NOW, STALENESS_S))["leader"] == "LOST 1 position(s)"
    assert dict(considered(NOTHING, view, NOW + 10**6, STALENESS_S))["behind"].startswith("not shown to be")
    assert dict(considered(NOTHING, view.known([("new", 0.0)]), NOW, STALENESS_S)) == {"new": "never asked"}


def test_a_receipt_says_what_spoke_against_an_endpoint_besides_what_others_lost() -> None:
    """What others lost no longer counts: an endpoint that lacks nothing else covers, and one that lacks more is said to lack that."""
    view = view_of(leader=Known({1: (10, None), 3: (8, 8)}, frozenset({1})), behind=Known({1: (7, None), 3: (8, 8)}))
    lost = {pack(0, 3): 9}

    def said(own: Mapping[int, int]) -> dict[str, str]:
        return dict(considered(Demand(own, lost, shards=frozenset({0}), arrived=ARRIVED), view, NOW, STALENESS_S))

    assert said({})["leader"] == "covers"
    assert said({pack(0, 1): 10}) == {"leader": "covers", "behind": "BEHIND 3 when last asked"}
    assert said({pack(0, 9): 1})["leader"] == "UNKNOWN 1 origin(s)"
    assert said(lost)["leader"] == "LOST 1 position(s)"


# --- the snapshot has the last word (I4) -----------------------------------------------------------------------------------


def borne_out(
    snapshot: Known, need: Mapping[int, int], known: Known | None = None, shards: tuple[int, ...] = (0,)
) -> bool:
    known = known or snapshot
    endpoint = view_of(e=known).of("e")
    assert endpoint is not None
    marks = {s: m for s, m in snapshot.watermarks("e").items() if s in shards}
    return bears_out(Serve("e", "covered", need, endpoint), marks, {})


@pytest.mark.spec("G-19", "G-20", "G-21")
def test_a_snapshot_is_judged_by_its_own_watermark() -> None:
    need = {pack(0, 1): 10}
    assert borne_out(replica(10), need)
    assert not borne_out(replica(9), need, known=replica(10))
    assert not borne_out(replica(10, life=2), need, known=replica(10))
    assert not borne_out(Known({}), need, known=replica(10))
    assert not borne_out(Known({1: (10, 9)}), {}, known=replica(10))
    assert not borne_out(Known({1: (9, 9)}), need, known=replica(10))
    assert borne_out(Known({1: (10, 10)}), need, known=replica(10))


@pytest.mark.spec("G-11", "G-21")
def test_a_snapshot_past_an_end_that_is_known_from_others_is_not_read() -> None:
    """Who does not know that its history has ended goes on: it may be past the end by now."""
    known = view_of(e=replica(10)).of("e")
    assert known is not None
    serve = Serve("e", "covered", {pack(0, 1): 10}, known)
    at_the_end, past_it = replica(10).watermarks("e"), replica(11).watermarks("e")
    assert bears_out(serve, past_it, {})
    assert not bears_out(serve, past_it, {pack(0, 1): 10})  # not although it was borne out before anybody knew
    assert bears_out(serve, at_the_end, {pack(0, 1): 10, pack(0, 2): 3, pack(1, 1): 3})


@pytest.mark.spec("G-10", "G-23")
def test_who_was_succeeded_since_the_decision_is_decided_anew() -> None:
    """It says that it numbers what has ended: it is not current by construction any more."""
    known = view_of(e=leader(10)).of("e")
    assert known is not None
    serve, shown = Serve("e", "leader", {}, known), leader(10).watermarks("e")
    assert bears_out(serve, shown, {pack(0, 2): 10})
    assert not bears_out(serve, shown, {pack(0, 1): 10})


@pytest.mark.spec("G-22", "G-23")
def test_a_snapshot_that_shows_who_moved_is_decided_anew() -> None:
    assert not borne_out(replica(10), {}, known=leader(10))
    assert not borne_out(Known({1: (10, None), 2: (0, None)}), {}, known=replica(10))
    assert not borne_out(Known({1: (10, None), 2: (3, 5)}), {}, known=replica(10))
    assert borne_out(Known({1: (10, None), 2: (5, 5)}), {}, known=replica(10))


@pytest.mark.spec("G-19")
def test_shards_that_a_snapshot_lacks_were_judged_by_what_was_known() -> None:
    both = replica(10, other={1: {1: (5, None)}})
    assert borne_out(both, {pack(0, 1): 10, pack(1, 1): 5})
    assert not borne_out(both, {pack(0, 1): 10, pack(1, 1): 6})


def test_what_was_borne_out_once_is_not_judged_twice_and_nothing_else_profits() -> None:
    known = view_of(e=replica(10)).of("e")
    assert known is not None
    serve = Serve("e", "covered", {pack(0, 1): 10}, known)
    good, bad = replica(10).watermarks("e"), replica(9).watermarks("e")
    assert bears_out(serve, good, {})
    assert not bears_out(serve, bad, {})
    assert bears_out(serve, good, {})
    assert not bears_out(serve, bad, {})


# --- each rule has an edge -------------------------------------------------------------------------------------------------


def test_what_a_demand_remembers_is_not_used_for_another_life_of_the_same_endpoint() -> None:
    demand = at(10)
    view = view_of(e=leader(10))
    assert covered(demand, view, ReadPolicy(), NOW, STALENESS_S) is not None
    view = told(view, "e", leader(9, life=2), asked=50)
    assert covered(demand, view, ReadPolicy(), NOW, STALENESS_S) is None


def test_a_covered_write_is_at_its_leader_however_near_others_are() -> None:
    view = view_of(far=leader(10), near=replica(10))
    serve = covered(at(10), view, ReadPolicy(), NOW, STALENESS_S, at="far")
    assert serve is not None
    assert serve.endpoint == "far"
    assert covered(at(10), view, ReadPolicy(), NOW, STALENESS_S, at="gone") is None


def told(view: View, name: str, known: Known, *, asked: int) -> View:
    return view.observe(name, known.watermarks(name), asked=asked, asked_at=known.asked_at, now=NOW)


def test_a_leader_policy_does_not_forget_a_mark_on_another_shard() -> None:
    one = Known({1: (10, None)}, frozenset({1}), other={1: {2: (4, None)}}, asked=101)
    two = Known({1: (10, None)}, other={1: {2: (5, None)}}, other_leads={1: frozenset({2})}, asked=102)
    decision = gate(marked({0}, {1}), view_of(one=one, two=two), ReadPolicy.leader())
    assert serves(decision) == ("two", "leader")


@pytest.mark.spec("L-16")
@pytest.mark.parametrize("past", [1, 2])
def test_a_seen_position_one_past_an_end_is_past_it(past: int) -> None:
    view = view_of(e=Known({1: (8, 8), 2: (3, None)}, frozenset({2})))
    decision = gate(at(8 + past, own=False), view)
    assert isinstance(decision, Serve)
    assert decision.need == {pack(0, 1): 8}


@pytest.mark.spec("L-13")
def test_a_mark_is_in_doubt_only_about_the_shards_that_it_is_on() -> None:
    """Origin 3 has ended on shard 0, whose positions are listed; what was folded is of shard 1, where it is alive."""
    one = Known({1: (10, None), 3: (8, 8)}, frozenset({1}), other={1: {3: (4, None)}}, other_leads={1: frozenset({3})})
    mark = LeaderMark(FOREVER, frozenset({0}), frozenset({3}))
    demand = Demand({}, {}, shards=frozenset({0}), leader_shards=frozenset({1}), mark=mark, arrived=ARRIVED)
    assert serves(gate(demand, view_of(one=one))) == ("one", "leader")


def test_a_recalled_origin_that_has_ended_elsewhere_is_known() -> None:
    one = Known({1: (10, None), 3: (8, 8)}, frozenset({1}), other={1: {1: (4, None)}}, other_leads={1: frozenset({1})})
    mark = LeaderMark(FOREVER, frozenset({0}), frozenset({3}))
    demand = Demand({}, {}, shards=frozenset({0}), leader_shards=frozenset({1}), mark=mark, arrived=ARRIVED)
    assert serves(gate(demand, view_of(one=one))) == ("one", "leader")


@pytest.mark.spec("G-36")
def test_whoever_may_have_taken_over_an_origin_is_asked_for_its_head() -> None:
    a = Known({1: (10, None), 2: (5, None)}, frozenset({1}), asked=101)
    gone = Known({1: (10, None), 2: (5, None)}, frozenset({2}), down="gone")
    decision = gate(MARKED, view_of(a=a, gone=gone, c=Known({1: (10, None), 2: (5, None)})))
    assert isinstance(decision, Probe)
    assert "c" in decision.endpoints


def test_whoever_may_know_a_recalled_origin_is_asked() -> None:
    mark = LeaderMark(FOREVER, frozenset(), frozenset({9}))
    demand = Demand({}, {}, shards=MARKED.shards, leader_shards=MARKED.shards, mark=mark, arrived=ARRIVED)
    decision = gate(demand, view_of(far=leader(10, asked=101), near=replica(10)))
    assert isinstance(decision, Probe)
    assert decision.endpoints == ("near",)


@pytest.mark.spec("G-5")
def test_a_floor_is_over_the_origins_that_any_endpoint_knows() -> None:
    near = Known({1: (105, None)}, frozenset({1}), asked=101)
    far = Known({1: (105, None), 2: (90, None)}, frozenset({2}), latency_s=0.05, asked=102)
    demand = Demand({}, {}, shards=frozenset({0}), floor=100, arrived=ARRIVED)
    assert isinstance(gate(demand, view_of(near=near, far=far), ReadPolicy(unproven="serve")), Wait)


@pytest.mark.spec("G-45")
def test_who_numbers_what_is_demanded_is_no_fallback_if_it_is_not_shown_to_be_fresh() -> None:
    old = Known({1: (9, None), 2: (5, None)}, frozenset({1}))
    other = Known({1: (9, None), 2: (50, None)}, frozenset({2}))
    view = view_of(old=old, other=other)
    decision = gate(at(10), view, ReadPolicy(0.0))
    assert not isinstance(decision, Serve)
    assert serves(gate(at(10), view, ReadPolicy(0.0, unproven="serve"))) == ("old", "fallback")


@pytest.mark.spec("G-45")
def test_a_fallback_numbers_all_that_is_demanded_and_what_has_ended_is_no_matter() -> None:
    one = Known({1: (9, None), 2: (5, None), 3: (8, 8)}, frozenset({1}))
    two = Known({1: (9, None), 2: (5, None), 3: (8, 8)}, frozenset({2}), latency_s=0.05)
    both = Demand({pack(0, 1): 10, pack(0, 2): 6}, {}, shards=frozenset({0}), arrived=ARRIVED)
    assert isinstance(gate(both, view_of(one=one, two=two), ReadPolicy(0.0)), Probe)
    ended = Demand({pack(0, 1): 10, pack(0, 3): 8}, {}, shards=frozenset({0}), arrived=ARRIVED)
    assert serves(gate(ended, view_of(one=one, two=two), ReadPolicy(0.0))) == ("one", "fallback")


@pytest.mark.spec("G-29")
def test_a_bound_is_gated_on_the_newest_heads() -> None:
    view = view_of(far=leader(10, asked=101, asked_at=NOW - 500))
    view = told(view, "near", replica(10), asked=102)
    view = told(view, "far", leader(20, asked_at=NOW), asked=103).known([("near", 0.0), ("far", 0.05)])
    decision = gate(NOTHING, view.failed("far", "gone", asked=104, now=NOW), ReadPolicy(unproven="serve", **BOUNDED))
    assert isinstance(decision, (Wait, Refuse))


BOUNDED: dict[str, Any] = {"strategy": Strategy.BOUNDED, "bound_s": 1.0}


@pytest.mark.spec("G-28")
def test_no_bound_is_wider_than_max_staleness() -> None:
    """Or a read with a bound could forget what every token may have forgotten by then."""
    view = view_of(far=leader(10, asked_at=NOW - 1000, down="gone"), near=replica(10))
    assert not isinstance(gate(NOTHING, view, ReadPolicy.bounded(2000)), Serve)


# --- random ones, against a dumb twin ----------------------------------------------------------------------------------------

small = st.integers(0, 3)
origins = st.dictionaries(st.integers(1, 3), st.tuples(small, st.one_of(st.none(), small)), max_size=3)
names = st.sampled_from(["a", "b", "c"])
shard_sets = st.frozensets(st.integers(0, 1), max_size=2)


@st.composite
def knowns(draw: st.DrawFn) -> Known:
    mine, other = draw(origins), draw(origins)
    return Known(
        mine,
        frozenset(draw(st.lists(st.sampled_from(sorted(mine)), unique=True)) if mine else []),
        asked=draw(st.sampled_from([1, 50, 100, 101, 150])),
        asked_at=draw(st.sampled_from([NOW - 2000, NOW - 900, NOW - 1, NOW])),
        latency_s=draw(st.sampled_from([0.0, 0.05])),
        life=draw(st.integers(1, 2)),
        down=draw(st.sampled_from([None, None, None, "gone"])),
        other={1: other},
        other_leads={1: frozenset(draw(st.lists(st.sampled_from(sorted(other)), unique=True)) if other else [])},
    )


@st.composite
def views(draw: st.DrawFn) -> View:
    view = View().known([(name, draw(st.sampled_from([0.0, 0.05]))) for name in "abc"])
    for _ in range(draw(st.integers(0, 5))):
        name, known = draw(names), draw(knowns())
        view = view.observe(name, known.watermarks(name), asked=known.asked, asked_at=known.asked_at, now=NOW)
        if known.down:
            view = view.failed(name, known.down, asked=known.asked, now=known.asked_at)
    return view


keys = st.builds(pack, st.integers(0, 1), st.integers(1, 3))
frontiers = st.dictionaries(keys, small, max_size=3)


@st.composite
def demands(draw: st.DrawFn, *, plain: bool = False) -> Demand:
    own, seen, led = draw(frontiers), draw(frontiers), frozenset() if plain else draw(shard_sets)
    mark = LeaderMark(FOREVER, frozenset(), draw(st.frozensets(st.sampled_from([1, 2, ANY_ORIGIN]), max_size=1)))
    return Demand(
        own,
        seen,
        shards=frozenset({0, *(k >> 32 for k in (*own, *seen))}),
        leader_shards=led,
        mark=mark if led else None,
        floor=None if plain else draw(st.one_of(st.none(), st.none(), small)),
        at=None if plain else draw(st.one_of(st.none(), st.none(), names)),
        arrived=ARRIVED,
        wrote_ago_s=draw(st.sampled_from([0.0, math.inf])),
    )


policies = st.builds(
    ReadPolicy,
    st.sampled_from([0.0, 0.1]),
    st.sampled_from(["leader", "error", "stale"]),
    st.sampled_from(["refuse", "refuse", "serve"]),
    strategy=st.sampled_from([*Strategy, Strategy.SESSION, Strategy.SESSION]),
    window_s=st.just(1.0),
    bound_s=st.sampled_from([0.5, 1000.0]),
    replicas=st.integers(1, 3),
    token=st.booleans(),
)


def plainly_covers(marks: Mapping[int, Watermark], key: int, offset: int) -> bool:
    """The covering rule, said as plainly as it can be."""
    place = marks[key >> 32].origins.get(key & 0xFFFFFFFF)
    if place is None:
        return False
    applied, end = place
    if end is not None and (offset > end or applied > end):
        return False
    return applied >= offset


@given(demands(), views(), policies, st.sampled_from([0.0, 0.05, 1.0]), st.data())
def test_a_promise_is_kept_by_every_snapshot_that_is_accepted(
    demand: Demand, view: View, policy: ReadPolicy, elapsed_s: float, data: st.DataObject
) -> None:
    decision = gate(demand, view, policy, elapsed_s)
    if not isinstance(decision, Serve) or decision.how not in ("covered", "leader", "fallback", "quorum"):
        return
    assume(decision.how != "quorum" or policy.token)
    assert demand.at in (None, decision.endpoint)
    assert decision.known is view.of(decision.endpoint)
    assert decision.known.down is None
    known = decision.known
    near_enough = {
        s: Watermark(
            s,
            {
                key & 0xFFFFFFFF: (
                    data.draw(st.integers(max(0, n - 1), n + 1)),
                    data.draw(st.sampled_from([None, None, 0, n])),
                )
                for key, n in known.applied.items()
                if key >> 32 == s and data.draw(st.integers(0, 9))
            },
            data.draw(st.sampled_from([life, life, life, "another life"])),
            frozenset(k & 0xFFFFFFFF for k in known.leads if k >> 32 == s),
        )
        for s, life in known.incarnations.items()
    }
    if not near_enough or not bears_out(decision, near_enough, view.ends):
        return
    clipped = {pack(loss.position.shard, loss.position.origin): loss.end for loss in decision.clipped}
    assert not any(offset > clipped.get(key, offset) for key, offset in demand.own.items())
    assert all(m.incarnation == known.incarnations[s] for s, m in near_enough.items())
    for key, offset in demand.need.items():
        if key >> 32 in near_enough:
            assert plainly_covers(near_enough, key, min(offset, clipped.get(key, offset)))
        else:
            assert known.applied.get(key, -1) >= min(offset, clipped.get(key, offset))
    if demand.floor is not None:
        for s, mark in near_enough.items():
            for origin in mark.origins:
                end = view.ends.get(pack(s, origin), math.inf)
                assert plainly_covers(near_enough, pack(s, origin), int(min(demand.floor, end)))
    if decision.how == "covered" and demand.at is None and policy.unproven == "refuse":
        assert known.fresh_at >= NOW - STALENESS_S


@pytest.mark.spec("G-39")
@given(demands(plain=True), views(), st.sampled_from(["refuse", "serve"]))
def test_the_common_case_is_the_first_endpoint_that_a_plain_loop_finds(
    demand: Demand, view: View, unproven: Any
) -> None:
    expected = None
    for endpoint in view.endpoints:
        fresh = unproven == "serve" or endpoint.fresh_at >= NOW - STALENESS_S
        if fresh and endpoint.down is None and endpoint.asked:
            marks = {s: {} for s in (0, 1)}
            for key, n in endpoint.applied.items():
                marks[key >> 32][key & 0xFFFFFFFF] = n
            if all(marks[key >> 32].get(key & 0xFFFFFFFF, -1) >= offset for key, offset in demand.need.items()):
                live = demand.need.keys() - view.ends.keys()
                spared = (
                    endpoint.name != view.endpoints[0].name and endpoint.leads and (not live or endpoint.leads & live)
                )
                if view.ends and endpoint.leads and endpoint.name != view.endpoints[0].name:
                    return  # not the common case
                expected = None if spared else endpoint.name
                break
    for _ in range(2):  # the second time from what the demand remembers
        found = covered(demand, view, ReadPolicy(unproven=unproven), NOW, STALENESS_S)
        assert (found and found.endpoint) == expected
    decision = gate(demand, view, ReadPolicy(unproven=unproven))
    if expected is not None:
        assert serves(decision) == (expected, "covered")


@given(demands(), views(), policies)
def test_in_a_world_that_stands_still_every_request_ends_soon(demand: Demand, view: View, policy: ReadPolicy) -> None:
    """Whoever is asked answers the same or fails; a wait is waited out. No question is asked twice."""
    truth = {e.name: e for e in view.endpoints}
    number, elapsed_s, asked = 200, 0.0, set[str]()
    for _ in range(12):
        decision = gate(demand, view, policy, elapsed_s)
        match decision:
            case Probe(endpoints, reason):
                assert endpoints
                assert reason
                assert asked.isdisjoint(endpoints), (asked, decision)
                for name in endpoints:
                    asked.add(name)
                    number += 1
                    known = truth[name]
                    marks = {
                        s: Watermark(
                            s,
                            {k & 0xFFFFFFFF: (n, view.ends.get(k)) for k, n in known.applied.items() if k >> 32 == s},
                            life,
                            frozenset(k & 0xFFFFFFFF for k in known.leads if k >> 32 == s),
                        )
                        for s, life in known.incarnations.items()
                    }
                    view = (
                        view.observe(name, marks, asked=number, asked_at=NOW, now=NOW)
                        if known.down is None and known.asked
                        else view.failed(name, "gone", asked=number, now=NOW)
                    )
            case Wait(endpoint, _, for_s, reason):
                assert view.of(endpoint) is not None
                assert reason
                assert 0 < for_s <= policy.wait_s - elapsed_s
                elapsed_s += for_s
            case Refuse(why, reason, lost, doubt):
                assert reason
                assert bool(lost) == (why == "lost")
                assert (doubt is not None) == (why == "doubt")
                return
            case Serve():
                return
    raise AssertionError("no end")


@given(demands(plain=True), views())
def test_what_is_served_for_a_demand_is_served_for_each_part_of_it(demand: Demand, view: View) -> None:
    whole = covered(demand, view, ReadPolicy(), NOW, STALENESS_S)
    if whole is not None:
        for left_out in demand.need:
            some = {key: offset for key, offset in demand.need.items() if key != left_out}
            part = covered(Demand({}, some, shards=demand.shards), view, ReadPolicy(), NOW, STALENESS_S)
            assert part is not None


def test_a_bare_frontier_is_a_demand_too() -> None:
    f = Frontier((Position(0, 1, 10),)).mark(0, 5, exact=(1,))
    demand = Demand.of(f, own=Frontier(), arrived=7)
    assert (demand.need, demand.own, demand.shards) == ({pack(0, 1): 10}, {}, {0})
    assert (demand.leader_shards, demand.mark, demand.arrived) == ({0}, LeaderMark(5, frozenset({1})), 7)
