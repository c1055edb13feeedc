"""Endpoints that hold only some of the shards: what is known of them is as if each shard were a store of its own."""

from collections.abc import Mapping
from random import Random
from typing import Any

import pytest

from causal.core.decision import Decision, Refuse, Serve, bears_out
from causal.core.demand import Demand, considered
from causal.core.frontier import FOREVER, LeaderMark, pack
from causal.core.gate import covered, decide
from causal.core.policy import ReadPolicy, Strategy
from causal.core.view import NEVER, View
from causal.core.watermark import Watermark

SHARDS = (0, 1, 2)
STALENESS_S = 20.0
UNHEARD = 99

A_SHARD_EACH = {name: frozenset({shard}) for shard in SHARDS for name in (f"r{shard}", f"s{shard}", f"t{shard}")}
OVERLAPPING = {
    "a": frozenset({0}),
    "b": frozenset({0, 1}),
    "c": frozenset({1, 2}),
    "d": frozenset({0, 2}),
    "e": frozenset(SHARDS),
    "f": None,
}
POLICIES = (
    ReadPolicy(60.0),
    ReadPolicy(0.0),
    ReadPolicy(60.0, then="error"),
    ReadPolicy(0.0, then="stale"),
    ReadPolicy(60.0, unproven="serve"),
    ReadPolicy.leader(wait_s=60.0),
    ReadPolicy.quorum(2, wait_s=60.0),
    ReadPolicy.quorum(1, token=False, wait_s=60.0),
    ReadPolicy.bounded(7.0, wait_s=60.0),
    ReadPolicy.leader_window(5.0),
    ReadPolicy.eventual(),
)


class Twins:
    """One view of servers that each hold some shards, and for each shard a view of those that hold it: told the same."""

    def __init__(self, seed: int, held: Mapping[str, frozenset[int] | None], ends: Mapping[int, int] | None) -> None:
        self.chance = chance = Random(seed)
        self.held, self.ends = held, ends
        self.asked = 0
        self.latency = {name: chance.choice((0.0, 0.1)) for name in held}
        self.lives = dict.fromkeys(held, 1)
        self.kept: dict[tuple[str, int], Watermark] = {}
        self.whole = View().known(self.latency.items(), {n: s for n, s in held.items() if s is not None})
        self.alone = {
            shard: View().known((n, s) for n, s in self.latency.items() if self.holds(n, shard)) for shard in SHARDS
        }

    def holds(self, name: str, shard: int) -> bool:
        shards = self.held[name]
        return shards is None or shard in shards

    def step(self) -> None:
        chance, name = self.chance, self.chance.choice(list(self.held))
        self.asked += 1
        at, mine = float(self.asked), [s for s in SHARDS if self.holds(name, s)]
        roll = chance.random()
        if roll < 0.1:
            self.whole = self.whole.failed(name, "gone", asked=self.asked, now=at)
            for shard in mine:
                self.alone[shard] = self.alone[shard].failed(name, "gone", asked=self.asked, now=at)
            return
        led = [key for e in self.whole.endpoints if e.name == name for key in e.leads if key not in self.whole.ends]
        if roll < 0.2 and led:
            key = chance.choice(sorted(led))
            offset = chance.randrange(self.ends[key] if self.ends else 9)
            self.whole = self.whole.advanced(name, key, offset)
            self.alone[key >> 32] = self.alone[key >> 32].advanced(name, key, offset)
            return
        self.lives[name] += chance.random() < 0.05
        number = max(1, self.asked - (4 if chance.random() < 0.1 else 0))
        marks = {shard: self.mark(name, shard) for shard in mine}
        self.whole = self.whole.observe(name, marks, asked=number, asked_at=float(number), now=at)
        for shard in mine:
            self.alone[shard] = self.alone[shard].observe(
                name, {shard: marks[shard]}, asked=number, asked_at=float(number), now=at
            )

    def mark(self, name: str, shard: int) -> Watermark:
        chance = self.chance
        old = self.kept.get((name, shard))
        if old is not None and old.incarnation == (name, self.lives[name]) and chance.random() < 0.3:
            return old
        origins = {}
        for origin in self.origins(shard):
            if chance.random() < 0.8:
                end = self.ends[pack(shard, origin)] if self.ends else chance.randrange(9)
                here = chance.randrange(end + 1 if self.ends else 9)
                origins[origin] = here, end if chance.random() < 0.05 else None
        leads = frozenset(o for o in origins if chance.random() < 0.3)
        self.kept[name, shard] = mark = Watermark(shard, origins, (name, self.lives[name]), leads)
        return mark

    def origins(self, shard: int) -> tuple[int, ...]:
        return 10 * shard + 1, 10 * shard + 2

    def demand(self, shard: int) -> Demand:
        chance, keys = self.chance, [pack(shard, o) for o in self.origins(shard)]
        own, seen = ({k: chance.randrange(9) for k in keys if chance.random() < 0.4} for _ in range(2))
        marked = chance.random() < 0.2
        recalled = {o for o in (*self.origins(shard), UNHEARD) if chance.random() < 0.2}
        return Demand(
            own,
            seen,
            shards=frozenset({shard}),
            leader_shards=frozenset({shard} if marked else ()),
            mark=LeaderMark(FOREVER, origins=recalled) if marked else None,
            floor=chance.randrange(9) if chance.random() < 0.1 else None,
            at=chance.choice(list(self.held)) if chance.random() < 0.1 else None,
            arrived=chance.randrange(self.asked + 1),
            wrote_ago_s=chance.choice((1.0, 100.0)),
        )


def plain(decision: Decision | None) -> Any:
    if isinstance(decision, Serve):
        known = decision.known
        return decision, known.name, known.fresh_at, known.down, known.leads, known.applied
    return decision


@pytest.mark.spec("G-18")
@pytest.mark.parametrize(
    ("held", "ends"),
    [(A_SHARD_EACH, None), (OVERLAPPING, {pack(s, 10 * s + o): 6 + o for s in SHARDS for o in (1, 2)})],
    ids=["a shard each", "overlapping"],
)
def test_each_shard_is_decided_as_a_store_of_its_own(held: Any, ends: Any) -> None:
    """With several shards a server, what one has that was lost counts on all: that is left out there."""
    ways = set()
    for seed in range(120):
        twins = Twins(seed, held, ends)
        for _ in range(50):
            twins.step()
            shard, policy = twins.chance.choice(SHARDS), twins.chance.choice(POLICIES)
            demand, now = twins.demand(shard), float(twins.asked)
            elapsed_s = twins.chance.choice((0.0, 1.0, 100.0))
            alone, whole = twins.alone[shard], twins.whole
            for _ in range(2):  # the second time, of what was kept
                expected = decide(demand, alone, policy, elapsed_s, now=now, max_staleness_s=STALENESS_S)
                fresh = demand.again(demand.arrived, demand.wrote_ago_s, demand.at)
                decided = decide(fresh, whole, policy, elapsed_s, now=now, max_staleness_s=STALENESS_S)
                assert plain(decided) == plain(expected), seed
                ways.add((type(decided), getattr(decided, "how", None), getattr(decided, "why", None)))
            for judged in (demand, demand.again(0)):
                one = covered(judged.again(0), alone, policy, now, STALENESS_S)
                other = covered(judged.again(0), whole, policy, now, STALENESS_S)
                assert plain(other) == plain(one)
            listed = considered(demand, alone, now, STALENESS_S)
            assert considered(demand, whole, now, STALENESS_S) == listed
            if isinstance(expected, Serve) and isinstance(decided, Serve):
                marks = {s: twins.mark(decided.endpoint, s) for s in SHARDS if twins.holds(decided.endpoint, s)}
                assert bears_out(decided, marks, whole.ends) == bears_out(expected, {shard: marks[shard]}, alone.ends)
    assert {how for kind, how, _ in ways if kind is Serve} >= {
        "covered", "leader", "fallback", "window", "quorum", "bounded", "eventual", "stale"
    }  # fmt: skip
    assert {why for kind, _, why in ways if kind is Refuse} == {"lost", "doubt", "timeout", "no endpoint"}
    assert len({kind for kind, *_ in ways}) == 4


# --- pinned cases ------------------------------------------------------------------------------------------------------


def mark(shard: int, offset: int, *, leads: bool = False, life: int = 1) -> dict[int, Watermark]:
    return {shard: Watermark(shard, {1: (offset, None)}, life, frozenset({1} if leads else ()))}


def two_shards() -> View:
    """x and its leader hold shard 0; y and its leader hold shard 1."""
    held = {"x": {0}, "x-leader": {0}, "y": {1}, "y-leader": {1}}
    view = View().known(((n, 0.0) for n in held), {n: frozenset(s) for n, s in held.items()})
    for asked, (name, shard) in enumerate((("x-leader", 0), ("x", 0), ("y-leader", 1), ("y", 1)), 1):
        leads = name.endswith("leader")
        view = view.observe(name, mark(shard, 10, leads=leads), asked=asked, asked_at=float(asked), now=float(asked))
    return view


def fresh_at(view: View, name: str) -> float:
    endpoint = view.of(name)
    assert endpoint is not None
    return endpoint.fresh_at


@pytest.mark.spec("G-18")
def test_an_origin_of_another_shard_makes_nobody_unproven() -> None:
    view = two_shards()
    assert (fresh_at(view, "x"), fresh_at(view, "y")) == (1.0, 3.0)
    newer = {1: Watermark(1, {1: (10, None), 2: (5, None)}, 1, frozenset({1}))}
    view = view.observe("y-leader", newer, asked=5, asked_at=5.0, now=5.0)
    assert (fresh_at(view, "x"), fresh_at(view, "y")) == (1.0, NEVER)


def test_what_is_known_of_one_shard_is_kept_while_only_others_have_news() -> None:
    view = two_shards()
    part = view.on(frozenset({0}))
    later = view.observe("y", mark(1, 11), asked=6, asked_at=6.0, now=6.0).failed("y", "gone", asked=7, now=7.0)
    assert later.on(frozenset({0})) is part
    assert later.on(frozenset({1})) is not view.on(frozenset({1}))
    later = later.observe("x-leader", mark(0, 11, leads=True), asked=8, asked_at=8.0, now=8.0)
    assert later.on(frozenset({0})) is not part


def test_a_store_without_such_endpoints_is_not_divided() -> None:
    view = View().known([("a", 0.0)])
    assert view.on(frozenset({0})) is view


def test_who_holds_other_shards_than_before_is_known_anew() -> None:
    view = two_shards()
    same = [(e.name, 0.0) for e in sorted(view.endpoints, key=lambda e: e.rank)]
    held = {"x": frozenset({0}), "x-leader": frozenset({0}), "y": frozenset({1}), "y-leader": frozenset({1})}
    assert view.known(same, held) is view
    moved = view.known(same, {**held, "y": frozenset({0, 1})})
    assert [e.name for e in moved.endpoints if not e.asked] == ["y"]
    assert {e.name for e in moved.on(frozenset({0})).endpoints} == {"x", "x-leader", "y"}
    whole = view.known(same, {})
    assert not any(e.asked for e in whole.endpoints)
    assert whole.on(frozenset({0})) is whole


@pytest.mark.spec("G-18")
def test_nobody_is_a_candidate_who_lacks_a_shard_that_is_concerned() -> None:
    view, both = two_shards(), Demand({}, {}, shards=frozenset({0, 1}))
    decision = decide(both, view, ReadPolicy(), 0.0, now=5.0, max_staleness_s=STALENESS_S)
    assert isinstance(decision, Refuse)
    assert decision.why == "no endpoint"
    assert considered(both, view, 5.0, STALENESS_S) == ()


def test_an_own_write_of_an_origin_that_only_another_shard_knows_is_not_said_to_be_unheard_of() -> None:
    """A mark does not remember the shards of what was dropped: what is known on any of them counts."""
    view = two_shards().observe("y", {1: Watermark(1, {1: (10, None), 7: (3, 3)}, 1)}, asked=9, asked_at=9.0, now=9.0)
    for origin, kind in ((7, Serve), (8, Refuse)):
        recalled = LeaderMark(FOREVER, origins=frozenset({origin}))
        demand = Demand({}, {}, shards=frozenset({0}), leader_shards=frozenset({0}), mark=recalled, arrived=0)
        decision = decide(demand, view, ReadPolicy(), 0.0, now=9.0, max_staleness_s=STALENESS_S)
        assert isinstance(decision, kind)


def test_who_was_heard_of_another_shard_alone_was_never_asked() -> None:
    view = View().known([("both", 0.0)], {"both": frozenset({0, 1})})
    view = view.observe("both", mark(1, 10, leads=True), asked=1, asked_at=1.0, now=1.0)
    anything = ReadPolicy(unproven="serve")
    for shard, kind in ((0, type(None)), (1, Serve)):
        assert isinstance(covered(Demand({}, {}, shards=frozenset({shard})), view, anything, 1.0, STALENESS_S), kind)


def test_who_went_on_past_an_end_is_not_read_from_then_on_whatever_is_answered_next() -> None:
    """A deposed leader acknowledges a write of the history that has ended: what it holds will never be anywhere else."""
    view = two_shards()
    ended = {0: Watermark(0, {1: (10, 10)}, 1)}
    view = view.observe("x", ended, asked=5, asked_at=5.0, now=5.0).advanced("x-leader", pack(0, 1), 12)
    before = view.on(frozenset({0}))
    view = view.observe("y", mark(1, 10), asked=6, asked_at=6.0, now=6.0)
    for known in (before, view, view.on(frozenset({0}))):
        endpoint = known.of("x-leader")
        assert endpoint is not None
        assert endpoint.down is not None


def test_strategies_are_all_compared() -> None:
    assert {policy.strategy for policy in POLICIES} == set(Strategy)
