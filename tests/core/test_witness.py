"""Witnesses: endpoints that are asked for heads and never read. A derived store lists its source's servers so."""

from random import Random
from typing import Any

import pytest

from causal.core.decision import Decision, Probe, Refuse, Serve, Wait
from causal.core.demand import WITNESS, Demand, considered
from causal.core.frontier import FOREVER, Frontier, LeaderMark, pack
from causal.core.gate import covered, decide
from causal.core.policy import ReadPolicy
from causal.core.view import NEVER, View
from causal.core.watermark import Watermark

NOW = 1000.0
STALENESS_S = 900.0
ARRIVED = 100
INDEX = "index"
POLICIES = (
    ReadPolicy(60.0),
    ReadPolicy(0.0),
    ReadPolicy(60.0, then="error"),
    ReadPolicy(0.0, then="stale"),
    ReadPolicy(60.0, unproven="serve"),
    ReadPolicy.leader(wait_s=60.0),
    ReadPolicy.leader(wait_s=0.0),
    ReadPolicy.quorum(1, wait_s=60.0),
    ReadPolicy.quorum(2, wait_s=60.0),
    ReadPolicy.bounded(7.0, wait_s=60.0),
    ReadPolicy.leader_window(5.0),
    ReadPolicy.eventual(),
)


def view_of(index: int | None, head: int | None, *, asked: int = 1, index_asked: int = 1, **more: Any) -> View:
    """An index that has taken in so much of origin 1, of which a witness says that its head is so much: nearer than the index."""
    view = View().known([(INDEX, 0.05), ("leader", 0.0), ("other", 0.0)], witnesses={"leader", "other"}, **more)
    if head is not None and index is not None:
        was = {0: Watermark(0, {1: (min(index, head), None)}, "leader", frozenset({1}))}
        view = view.observe("leader", was, asked=0, asked_at=NOW - 20, now=NOW - 20)
    if head is not None:
        leading = {0: Watermark(0, {1: (head, None)}, "leader", frozenset({1}))}
        view = view.observe("leader", leading, asked=asked, asked_at=NOW - 10, now=NOW)
        view = view.observe("other", {0: Watermark(0, {1: (head, None)}, "o")}, asked=asked, asked_at=NOW - 9, now=NOW)
    if index is not None:
        taken = {0: Watermark(0, {1: (index, None)}, "index")}
        view = view.observe(INDEX, taken, asked=index_asked, asked_at=NOW - 5, now=NOW)
    return view


def at(offset: int, **more: Any) -> Demand:
    return Demand({pack(0, 1): offset}, {}, **{"shards": frozenset({0}), "arrived": ARRIVED, **more})


NOTHING = Demand({}, {}, shards=frozenset({0}), arrived=ARRIVED)
MARKED = Demand({}, {}, shards=frozenset({0}), leader_shards=frozenset({0}), mark=LeaderMark(FOREVER), arrived=ARRIVED)


def gate(demand: Demand, view: View, policy: ReadPolicy | None = None, elapsed_s: float = 0.0) -> Decision:
    return decide(demand, view, policy or ReadPolicy(), elapsed_s, now=NOW, max_staleness_s=STALENESS_S)


def test_what_a_witness_says_shows_the_index_to_be_fresh() -> None:
    fresh, behind, alone = view_of(10, 10).of(INDEX), view_of(9, 10).of(INDEX), view_of(10, None).of(INDEX)
    assert fresh is not None
    assert fresh.fresh_at == NOW - 10
    assert behind is not None
    assert behind.fresh_at == NOW - 20
    assert alone is not None
    assert alone.fresh_at == NEVER


def test_the_common_case_reads_the_index_though_witnesses_are_nearer_and_cover() -> None:
    served = covered(at(10), view_of(10, 12), ReadPolicy(unproven="serve"), NOW, STALENESS_S)
    assert served is not None
    assert served.endpoint == INDEX
    assert covered(at(11), view_of(10, 12), ReadPolicy(unproven="serve"), NOW, STALENESS_S) is None


def test_witnesses_come_last_so_that_the_index_is_the_nearest() -> None:
    assert [e.name for e in view_of(10, 10).endpoints] == [INDEX, "other", "leader"]


def test_what_the_index_lacks_is_waited_for_at_the_index_alone() -> None:
    decision = gate(at(11), view_of(10, 12, index_asked=ARRIVED + 1))
    assert isinstance(decision, Wait)
    assert decision.endpoint == INDEX


def test_there_is_no_leader_to_fall_back_to_and_the_refusal_says_what_to_do() -> None:
    view = view_of(10, 12, asked=ARRIVED + 1, index_asked=ARRIVED + 1)
    decision = gate(at(11), view, ReadPolicy(0.1), elapsed_s=0.2)
    assert isinstance(decision, Refuse)
    assert decision.why == "timeout"
    assert "mixed" in decision.reason
    assert "eventual" in decision.reason
    assert isinstance(gate(at(11), view, ReadPolicy(0.1, then="error"), elapsed_s=0.2), Refuse)
    stale = gate(at(11), view, ReadPolicy(0.1, then="stale"), elapsed_s=0.2)
    assert isinstance(stale, Serve)
    assert (stale.endpoint, stale.how) == (INDEX, "stale")


@pytest.mark.parametrize("demand", [NOTHING, MARKED], ids=["by policy", "by mark"])
def test_a_leader_read_asks_the_witnesses_for_heads_and_waits_for_the_index(demand: Demand) -> None:
    policy = ReadPolicy.leader(wait_s=60.0) if demand is NOTHING else ReadPolicy(60.0)
    ask = gate(demand, view_of(10, 12), policy)
    assert isinstance(ask, Probe)
    assert "leader" in ask.endpoints
    heard = view_of(10, 12, asked=ARRIVED + 1, index_asked=ARRIVED + 2)
    wait = gate(demand, heard, policy)
    assert isinstance(wait, Wait)
    assert wait.endpoint == INDEX
    assert wait.need == {pack(0, 1): 12}
    there = view_of(12, 12, asked=ARRIVED + 1, index_asked=ARRIVED + 2)
    serve = gate(demand, there, policy)
    assert isinstance(serve, Serve)
    assert (serve.endpoint, serve.how) == (INDEX, "leader")


def test_a_window_has_no_leader_to_read_and_a_quorum_counts_no_witness() -> None:
    wrote = at(11).again(ARRIVED, wrote_ago_s=1.0)
    window = gate(wrote, view_of(10, 12, asked=ARRIVED + 1, index_asked=ARRIVED + 1), ReadPolicy.leader_window(5.0))
    assert isinstance(window, Refuse)
    assert "no leader" in window.reason
    quorum = gate(NOTHING, view_of(10, 12, asked=ARRIVED + 1, index_asked=ARRIVED + 1), ReadPolicy.quorum(2))
    assert isinstance(quorum, Refuse)
    assert "1 that answer" in quorum.reason


def test_a_bounded_read_asks_witnesses_and_is_served_by_the_index() -> None:
    ask = gate(NOTHING, view_of(10, 12), ReadPolicy.bounded(1.0, wait_s=60.0))
    assert isinstance(ask, Probe)
    assert set(ask.endpoints) == {INDEX, "leader", "other"}
    serve = gate(NOTHING, view_of(12, 12), ReadPolicy.bounded(15.0))
    assert isinstance(serve, Serve)
    assert serve.endpoint == INDEX


def test_a_write_that_its_leader_does_not_have_is_lost_for_the_index_too() -> None:
    decision = gate(at(13), view_of(10, 12, asked=ARRIVED + 1))
    assert isinstance(decision, Refuse)
    assert decision.why == "lost"


def test_the_receipt_says_that_a_witness_is_only_asked() -> None:
    view = view_of(10, 12).failed("other", "gone", asked=2, now=NOW)
    reasons = dict(considered(at(11), view, NOW, STALENESS_S))
    assert reasons["leader"] == WITNESS
    assert reasons["other"] == "gone"
    assert reasons[INDEX].startswith("BEHIND")


def test_a_witness_of_one_shard_counts_for_a_read_of_several() -> None:
    both = frozenset({0, 1})
    view = View().known(
        [(INDEX, 0.0), ("a", 0.0), ("b", 0.0)], {"a": frozenset({0}), "b": frozenset({1})}, witnesses={"a", "b"}
    )
    view = view.observe(
        INDEX, {s: Watermark(s, {s + 1: (5, None)}, "i") for s in both}, asked=1, asked_at=NOW - 3, now=NOW
    )
    for name, shard in (("a", 0), ("b", 1)):
        marks = {shard: Watermark(shard, {shard + 1: (5, None)}, name, frozenset({shard + 1}))}
        view = view.observe(name, marks, asked=2, asked_at=NOW - 2, now=NOW)
    demand = Demand({pack(0, 1): 5, pack(1, 2): 5}, {}, shards=both, arrived=ARRIVED)
    serve = gate(demand, view)
    assert isinstance(serve, Serve)
    assert serve.endpoint == INDEX
    later = gate(Demand({}, {}, shards=both, arrived=ARRIVED), view, ReadPolicy.leader(wait_s=60.0))
    assert isinstance(later, Probe)
    assert set(later.endpoints) == {"a", "b"}
    for name, shard in (("a", 0), ("b", 1)):
        marks = {shard: Watermark(shard, {shard + 1: (6, None)}, name, frozenset({shard + 1}))}
        view = view.observe(name, marks, asked=ARRIVED + 1, asked_at=NOW, now=NOW)
    wait = gate(Demand({}, {}, shards=both, arrived=ARRIVED), view, ReadPolicy.leader(wait_s=60.0))
    assert isinstance(wait, Probe | Wait)  # the index, which was not asked since
    assert wait.endpoints == (INDEX,) if isinstance(wait, Probe) else wait.endpoint == INDEX


def test_a_witness_that_may_serve_from_now_on_is_known_anew() -> None:
    view = view_of(10, 12)
    same = view.known([(INDEX, 0.05), ("leader", 0.0), ("other", 0.0)], witnesses={"leader", "other"})
    assert same is view
    other = view.known([(INDEX, 0.05), ("leader", 0.0), ("other", 0.0)], witnesses={"leader"})
    serve = gate(at(11), other)
    assert isinstance(serve, Serve)
    assert serve.endpoint == "other"


@pytest.mark.parametrize("seed", range(150))
def test_whatever_is_known_no_witness_is_served_waited_for_or_endlessly_asked(seed: int) -> None:
    chance = Random(seed)
    view = view_of(None, None)
    offsets = {INDEX: 0, "leader": 0, "other": 0}
    for asked in range(chance.randrange(30)):
        name = chance.choice(list(offsets))
        offsets["leader"] += chance.randrange(4)
        offsets[name] = min(offsets["leader"], offsets[name] + chance.randrange(6))
        if chance.random() < 0.1:
            view = view.failed(name, "down", asked=asked, now=NOW)
            continue
        leads = frozenset({1}) if name == "leader" and chance.random() < 0.9 else frozenset[int]()
        marks = {0: Watermark(0, {1: (offsets[name], None)}, name, leads)}
        view = view.observe(name, marks, asked=asked, asked_at=NOW - 60 + asked, now=NOW)
    for policy in POLICIES:
        for demand in (NOTHING, MARKED, at(chance.randrange(1, 8)), at(offsets["leader"])):
            demand = demand.again(ARRIVED, chance.choice((1.0, 100.0)))
            known = view
            for step in range(20):  # ask whomever the gate names: each at most a few times
                decision = gate(demand, known, policy, elapsed_s=0.0 if step < 15 else 100.0)
                if isinstance(decision, Serve | Wait):
                    assert decision.endpoint == INDEX
                if not isinstance(decision, Probe):
                    break
                for name in decision.endpoints:
                    leads = frozenset({1}) if name == "leader" else frozenset[int]()
                    marks = {0: Watermark(0, {1: (offsets[name], None)}, name, leads)}
                    known = known.observe(name, marks, asked=ARRIVED + 1 + step, asked_at=NOW, now=NOW)
            else:
                pytest.fail(f"asks for ever: {decision}")


def test_a_store_that_is_read_whole_demands_what_is_of_its_shards_and_nothing_else() -> None:
    own = Frontier.of({pack(0, 1): 3, pack(1, 1): 4, pack(2, 1): 5, pack(1 << 16, 1): 6})
    seen = Frontier.of({pack(1, 2): 9}).mark(0, FOREVER, exact=(1,))
    demand = Demand.narrowed(own, seen, (True, True), 0, number=0, every=None, whole=frozenset({0, 1}))
    assert demand.need == {pack(0, 1): 3, pack(1, 1): 4, pack(1, 2): 9}
    assert demand.shards == {0, 1}
    assert demand.leader_shards == {0}
    assert demand.mark is not None
    reads = Demand.narrowed(own, seen, (True, False), 0, number=0, every=None, whole=frozenset({0, 1}))
    assert reads.need == {pack(0, 1): 3, pack(1, 1): 4}


def test_a_leader_that_may_be_read_is_fallen_back_to_and_a_witness_beside_it_is_not() -> None:
    view = View().known([("a", 0.0), ("w", 0.0)], witnesses={"w"})
    here, there = {1: (5, None), 2: (5, None)}, {1: (5, None), 2: (9, None)}
    view = view.observe("a", {0: Watermark(0, here, "a", frozenset({1}))}, asked=ARRIVED + 1, asked_at=NOW, now=NOW)
    view = view.observe("w", {0: Watermark(0, there, "w", frozenset({2}))}, asked=1, asked_at=NOW, now=NOW)
    mine = Demand({pack(0, 1): 5}, {}, shards=frozenset({0}), arrived=ARRIVED)
    theirs = Demand({pack(0, 2): 9}, {}, shards=frozenset({0}), arrived=ARRIVED)
    policy = ReadPolicy(0.0, unproven="serve")
    served = gate(mine, view, policy, elapsed_s=1.0)
    assert isinstance(served, Serve)
    assert served.endpoint == "a"
    assert isinstance(gate(theirs, view, policy, elapsed_s=1.0), Refuse)
