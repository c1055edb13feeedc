"""What a process knows of its endpoints: pinned cases, and a model in which every claim of freshness is checked against the truth."""

import math
from itertools import permutations, product
from random import Random

import attrs
import pytest
from hypothesis import settings

from causal.core.decision import Serve, bears_out
from causal.core.frontier import pack
from causal.core.view import NEVER, EndpointView, View
from causal.core.watermark import Watermark

Origins = dict[int, tuple[int, int | None]]


def mark(origins: Origins, *leads: int, life: object = 1, shard: int = 0) -> dict[int, Watermark]:
    return {shard: Watermark(shard, origins, life, frozenset(leads))}


def told(view: View, name: str, marks: dict[int, Watermark], *, asked: int, at: float | None = None) -> View:
    at = float(asked) if at is None else at
    return view.observe(name, marks, asked=asked, asked_at=at, now=at)


def of(view: View, name: str) -> EndpointView:
    found = view.of(name)
    assert found is not None
    return found


NEW = View().known([("a", 0.05), ("b", 0.0)])


# --- freshness (I5) ----------------------------------------------------------------------------------------------------


@pytest.mark.spec("G-16")
def test_nothing_is_known_of_who_was_never_asked() -> None:
    assert [(e.name, e.fresh_at, e.asked) for e in NEW.endpoints] == [("b", NEVER, {}), ("a", NEVER, {})]


def test_the_newest_question_is_the_newest_whichever_answer_came_last() -> None:
    failed = NEW.failed("b", "gone", asked=9, now=100.0)
    late = told(failed, "b", mark({1: (10, None)}), asked=2, at=101.0)
    assert of(late, "b").tried == 9
    again = told(late, "b", mark({1: (11, None)}), asked=3, at=102.0)  # the common answer: it moved, and that is all
    assert (of(again, "b").tried, of(again, "b").applied[pack(0, 1)]) == (9, 11)


@pytest.mark.spec("G-10", "G-16")
def test_who_was_succeeded_numbers_nothing_in_whatever_order_that_is_heard() -> None:
    leads, ended = mark({1: (10, None)}, 1), mark({1: (10, 10)})
    before = told(told(NEW, "a", leads, asked=1, at=100.0), "b", ended, asked=2, at=200.0)
    after = told(told(NEW, "b", ended, asked=2, at=200.0), "a", leads, asked=1, at=100.0)
    for view in (before, after):
        who = of(view, "a")
        assert (who.leads, who.outlived, who.fresh_at) == (frozenset(), {pack(0, 1)}, 100.0)


@pytest.mark.spec("G-11", "G-18")
@pytest.mark.parametrize("looked", [False, True])
def test_who_is_past_an_end_is_down_on_every_shard_that_it_holds(looked: bool) -> None:
    """Whether or not somebody has read another shard before the end was told by who does not hold that one."""
    held = {"a": frozenset({0}), "b": frozenset({0, 1}), "c": frozenset({1})}
    view = View().known([("a", 0.0), ("b", 0.01), ("c", 0.02)], held)
    view = told(view, "b", {**mark({1: (11, None)}, 1), **mark({1: (5, None)}, shard=1)}, asked=1)
    view = told(view, "c", mark({1: (5, None)}, 1, shard=1), asked=2)
    view = told(view, "a", mark({1: (10, None)}), asked=3)
    if looked:
        assert of(view.on(frozenset({1})), "b").down is None
    view = told(view, "a", mark({1: (10, 10), 2: (0, None)}, 2), asked=4)
    assert of(view, "b").down is not None
    assert of(view.on(frozenset({1})), "b").down is not None
    assert of(view.on(frozenset({1})), "c").down is None


@pytest.mark.spec("G-14", "G-16")
def test_a_replica_is_as_fresh_as_the_newest_head_that_it_covers() -> None:
    view = told(NEW, "a", mark({1: (10, None)}, 1), asked=1, at=100.0)
    view = told(view, "a", mark({1: (20, None)}, 1), asked=2, at=200.0)
    view = told(view, "b", mark({1: (9, None)}), asked=3, at=300.0)
    assert of(view, "b").fresh_at == NEVER
    view = told(view, "b", mark({1: (10, None)}), asked=4, at=300.0)
    assert of(view, "b").fresh_at == 100.0
    view = told(view, "b", mark({1: (20, None)}), asked=5, at=400.0)
    assert of(view, "b").fresh_at == 200.0
    assert of(view, "a").fresh_at == math.inf


def test_an_unchanged_head_asked_again_shows_more() -> None:
    view = told(NEW, "b", mark({1: (10, None)}), asked=1)
    for n in (2, 3):
        view = told(view, "a", mark({1: (10, None)}, 1), asked=n)
        assert of(view, "b").fresh_at == n


@pytest.mark.spec("G-14")
def test_several_writing_sites_are_each_only_as_fresh_as_their_oldest_origin() -> None:
    view = told(NEW, "a", mark({1: (10, None), 2: (7, None)}, 1), asked=1)
    assert of(view, "a").fresh_at == NEVER  # nobody has said what 2's head is
    view = told(view, "b", mark({1: (10, None), 2: (8, None)}, 2), asked=2)
    assert (of(view, "a").fresh_at, of(view, "b").fresh_at) == (NEVER, 1.0)
    view = told(view, "a", mark({1: (10, None), 2: (8, None)}, 1), asked=3)
    assert (of(view, "a").fresh_at, of(view, "b").fresh_at) == (2.0, 3.0)


@pytest.mark.spec("G-14")
def test_an_origin_that_only_others_have_heard_of_counts() -> None:
    view = told(NEW, "b", mark({1: (10, None)}), asked=1)
    view = told(view, "a", mark({1: (10, None)}, 1), asked=2)
    assert of(view, "b").fresh_at == 2.0
    view = told(view, "a", mark({1: (10, None), 3: (50, None)}, 1), asked=3)
    assert of(view, "b").fresh_at == NEVER


@pytest.mark.spec("G-15")
def test_what_an_ended_origin_left_behind_counts_until_it_is_applied() -> None:
    view = told(NEW, "a", mark({3: (100, None)}, 3), asked=1)
    view = told(view, "b", mark({3: (100, None)}), asked=2)
    assert of(view, "b").fresh_at == 1.0
    # 3 ended at 110; its writes 101..110 survive at a; nothing was written under 4 yet
    view = told(view, "a", mark({3: (110, 110), 4: (0, None)}, 4), asked=3)
    view = told(view, "b", mark({3: (100, 110), 4: (0, None)}), asked=4)
    assert of(view, "b").fresh_at == 1.0
    view = told(view, "b", mark({3: (110, 110), 4: (0, None)}), asked=5)
    assert of(view, "b").fresh_at == 3.0


def test_heads_thin_out_but_the_oldest_and_the_newest_stay() -> None:
    view = NEW
    for n in range(1, 500):
        view = told(view, "a", mark({1: (n, None)}, 1), asked=n)
    samples = view.heads[pack(0, 1)]
    assert len(samples) <= 24
    assert samples[0] == (1.0, 1)
    assert samples[-1] == (499.0, 499)
    assert list(samples) == sorted(samples)


def test_a_late_head_is_no_news() -> None:
    view = told(NEW, "a", mark({1: (20, None)}, 1), asked=7)
    assert told(view, "a", mark({1: (10, None)}, 1), asked=5).heads == view.heads


@pytest.mark.spec("G-16")
def test_where_nothing_is_lacking_who_numbers_nothing_is_as_fresh_as_its_newest_answer() -> None:
    view = told(NEW, "b", mark({1: (10, 10)}), asked=1, at=100.0)
    assert of(view, "b").fresh_at == 100.0
    view = told(view, "b", mark({1: (10, 10)}), asked=2, at=200.0)
    assert of(view, "b").fresh_at == 200.0
    assert of(told(view, "a", mark({1: (10, 10), 2: (0, None)}, 2), asked=3), "a").fresh_at == math.inf


@pytest.mark.spec("G-14")
def test_a_late_head_does_not_make_anybody_fresher() -> None:
    """Of somebody else, who numbered the origin before: what the one who does now has said is newer."""
    view = told(NEW.known([("a", 0.05), ("b", 0.0), ("c", 0.1)]), "a", mark({1: (20, None)}, 1), asked=7, at=700.0)
    view = told(view, "c", mark({1: (10, None)}, 1), asked=5, at=500.0)
    assert of(told(view, "b", mark({1: (15, None)}), asked=8), "b").fresh_at == NEVER


# --- incarnations and the order of answers -------------------------------------------------------------------------------


@pytest.mark.spec("G-7", "L-15")
def test_a_new_incarnation_forgets_what_was_known_of_the_old_one() -> None:
    two = {**mark({1: (10, None)}, 1), **mark({1: (5, None)}, 1, shard=1)}
    view = told(NEW, "a", two, asked=1)
    view = told(view, "a", mark({1: (7, None)}, 1, life=2), asked=2)
    a = of(view, "a")
    assert a.applied == {pack(0, 1): 7}  # shard 1 was of the same life: nothing is known of it
    assert a.asked == {0: 2}
    assert a.leads == {pack(0, 1)}
    assert a.incarnations == {0: 2}


@pytest.mark.spec("G-8")
def test_answers_out_of_order_never_take_back_what_one_life_has_applied() -> None:
    view = told(NEW, "b", mark({1: (20, None)}), asked=7)
    view = told(view, "b", mark({1: (10, None)}), asked=5)
    assert of(view, "b").applied == {pack(0, 1): 20}
    assert of(view, "b").asked == {0: 7}


@pytest.mark.spec("G-7")
def test_a_late_answer_of_a_life_that_is_over_says_nothing() -> None:
    view = told(NEW, "b", mark({1: (3, None)}, life=2), asked=7)
    assert told(view, "b", mark({1: (10, None)}, life=1), asked=5) is view


# --- who numbers what ------------------------------------------------------------------------------------------------


@pytest.mark.spec("G-9")
def test_only_who_still_says_so_numbers_an_origin() -> None:
    view = told(NEW, "a", mark({1: (10, None)}, 1), asked=1)
    leader = view.leader(pack(0, 1))
    assert leader is not None
    assert leader.name == "a"
    assert told(view, "a", mark({1: (10, None)}), asked=2).leader(pack(0, 1)) is None
    assert told(view, "a", mark({5: (3, None)}, 5, life=2), asked=2).leader(pack(0, 1)) is None
    assert view.failed("a", "gone", asked=2, now=2.0).leader(pack(0, 1)) is None
    assert view.leader(pack(0, 9)) is None


@pytest.mark.spec("G-8")
def test_a_late_answer_does_not_give_back_a_leadership_that_was_handed_on() -> None:
    """Or the old leader's head, behind the new one's, would make acknowledged writes look lost, and seen ones not be demanded."""
    view = told(NEW, "a", mark({1: (10, None)}, 1), asked=1)
    late = mark({1: (10, None)}, 1)  # what a answered to question 2, before b took over
    view = told(view, "b", mark({1: (11, None)}, 1), asked=3)
    view = told(view, "a", mark({1: (10, None)}), asked=5)
    view = told(view, "a", late, asked=2)
    leader = view.leader(pack(0, 1))
    assert leader is not None
    assert leader.name == "b"
    assert not of(view, "a").leads


@pytest.mark.spec("G-9")
def test_of_two_who_say_they_number_an_origin_the_one_asked_later_is_believed() -> None:
    view = told(NEW, "b", mark({1: (12, None)}, 1), asked=7)
    view = told(view, "a", mark({1: (10, None)}, 1), asked=5)  # it did, when it answered
    leader = view.leader(pack(0, 1))
    assert leader is not None
    assert leader.name == "b"
    view = told(view, "a", mark({1: (13, None)}, 1), asked=9)
    leader = view.leader(pack(0, 1))
    assert leader is not None
    assert leader.name == "a"


@pytest.mark.spec("G-12")
def test_an_origin_whose_leader_has_left_the_list_still_counts() -> None:
    view = told(NEW, "a", mark({1: (10, None)}, 1), asked=1, at=100.0)
    view = told(view, "b", mark({2: (5, None)}, 2), asked=2, at=200.0).known([("b", 0.0)])
    view = told(view, "b", mark({2: (5, None)}, 2), asked=3, at=300.0)
    assert view.live() == {pack(0, 1), pack(0, 2)}
    assert of(view, "b").fresh_at == NEVER


@pytest.mark.spec("G-6")
def test_asked_of_one_shard_is_not_asked_of_another() -> None:
    view = told(NEW, "a", mark({1: (10, None)}, 1), asked=5)
    assert of(view, "a").asked_since((0,), 4)
    assert not of(view, "a").asked_since((0,), 5)
    assert not of(view, "a").asked_since((0, 1), 4)


@pytest.mark.spec("G-10", "L-3")
def test_an_end_is_believed_whoever_says_it_and_never_unlearned() -> None:
    assert told(NEW, "b", mark({1: (5, 8)}), asked=1).ends == {pack(0, 1): 8}  # ended is not applied
    view = told(NEW, "a", mark({1: (10, None)}, 1), asked=1)
    view = told(view, "b", mark({1: (8, 8), 2: (0, None)}, 2), asked=2)
    assert view.ends == {pack(0, 1): 8}
    assert view.leaders == {pack(0, 2): "b"}
    assert of(view, "a").down == "holds writes past the end of a lost history"
    view = told(view, "a", mark({1: (10, None)}, 1), asked=3)  # it has not heard yet
    assert view.ends == {pack(0, 1): 8}
    assert view.leaders == {pack(0, 2): "b"}
    assert of(view, "a").down is not None
    for asked, end, lowest in ((4, 9, 8), (5, 7, 7), (6, 8, 7)):
        view = told(view, "b", mark({1: (7, end), 2: (0, None)}, 2), asked=asked)
        assert view.ends == {pack(0, 1): lowest}


@pytest.mark.spec("G-13")
def test_an_acknowledged_write_is_known_at_once_where_it_was_numbered_and_only_there() -> None:
    view = told(NEW, "a", mark({1: (10, None)}, 1), asked=1)
    view = told(view, "b", mark({1: (10, None)}), asked=2)
    for name, offset in (("a", 11), ("b", 10)):
        assert of(view.advanced(name, pack(0, 1), 11), name).applied == {pack(0, 1): offset}


def test_endpoints_come_and_go_with_the_list() -> None:
    view = told(NEW, "b", mark({1: (10, None)}), asked=1)
    assert view.known([("a", 0.05), ("b", 0.0)]) is view
    view = view.known([("c", 0.01), ("b", 0.02)])
    assert [(e.name, bool(e.asked)) for e in view.endpoints] == [("c", False), ("b", True)]


def test_at_equal_latency_a_replica_comes_before_a_leader_then_the_list_decides() -> None:
    view = View().known([("c", 0.0), ("a", 0.0), ("b", 0.0)])
    view = told(view, "c", mark({1: (10, None)}, 1), asked=1)
    assert [e.name for e in view.endpoints] == ["a", "b", "c"]


# --- catching up -----------------------------------------------------------------------------------------------------


def test_catching_up_is_measured_from_one_backlog_into_the_next() -> None:
    view = told(NEW, "a", mark({1: (100, None)}, 1), asked=1)
    need, key = {pack(0, 1): 100}, pack(0, 1)
    view = told(view, "b", mark({1: (10, None)}), asked=2, at=10.0)
    assert of(view, "b").eta_s(need, 10.0, 0.1) is None
    view = told(view, "b", mark({1: (30, None)}), asked=3, at=12.0)
    assert of(view, "b").rates == {key: 10.0}
    assert of(view, "b").eta_s(need, 12.0, 0.1) == 7.0
    view = told(view, "b", mark({1: (30, None)}), asked=4, at=13.0)
    assert of(view, "b").stalled_at == 13.0
    assert of(view, "b").eta_s(need, 13.05, 0.1) == 7.0
    assert of(view, "b").eta_s(need, 13.2, 0.1) == math.inf
    view = told(view, "b", mark({1: (31, None)}), asked=5, at=14.0)
    assert of(view, "b").stalled_at is None


# --- the model -------------------------------------------------------------------------------------------------------


@attrs.define
class Machine:
    """What is true of one endpoint: how much of each origin it has applied, and which ends it has heard of."""

    life: int = 1
    applied: dict[int, int] = attrs.field(factory=dict)
    ends: dict[int, int] = attrs.field(factory=dict)
    leads: set[int] = attrs.field(factory=set)

    def watermark(self, name: str) -> dict[int, Watermark]:
        origins = {o: (n, self.ends.get(o)) for o, n in self.applied.items()}
        return mark(origins, *self.leads, life=(name, self.life))


@attrs.define
class Question:
    """A probe underway: asked, perhaps answered, not yet taken in."""

    name: str
    number: int
    asked_at: float
    answer: dict[int, Watermark] | None = None


class World:
    """Sites that write, replicate, crash, fail over and step down, while questions and answers overtake each other."""

    def __init__(self) -> None:
        self.now = 0.0
        self.number = 0
        self.acks: dict[int, list[float]] = {1: [], 2: []}  # origin -> when each of its writes was acknowledged
        self.ends: dict[int, int] = {}
        self.followed_by: dict[int, int] = {}
        self.machines = {name: Machine(applied={1: 0, 2: 0}) for name in "abc"}
        self.machines["a"].leads = {1}
        self.machines["b"].leads = {2}
        self.view = View().known([(name, 0.0) for name in "abc"])
        self.underway: list[Question] = []

    def write(self, name: str) -> None:
        for origin in self.machines[name].leads:
            self.now += 1.0
            self.machines[name].applied[origin] += 1
            self.acks[origin].append(self.now)

    def replicate(self, name: str, source: str, n: int) -> None:
        """Hear of the source's origins and ends, and apply up to `n` more of each."""
        mine, theirs = self.machines[name], self.machines[source]
        mine.ends |= theirs.ends
        for origin, held in theirs.applied.items():
            here = mine.applied.setdefault(origin, 0)
            mine.applied[origin] = max(here, min(here + n, held, mine.ends.get(origin, held)))

    def restart(self, name: str, back: int) -> None:
        """Come back in a new life, with less of others' origins, and nothing past an end."""
        one = self.machines[name]
        one.life += 1
        one.applied = {
            o: n if o in one.leads else min(max(0, n - back), one.ends.get(o, n)) for o, n in one.applied.items()
        }

    def fail_over(self, name: str, successor: str, *, crash: bool) -> None:
        """End what an endpoint numbers: at what another holds, or (stepping down) at all of it. The successor numbers a new origin."""
        old, new = self.machines[name], self.machines[successor]
        ended = sorted(old.leads)
        for origin in ended:
            held = max(m.applied.get(origin, 0) for n, m in self.machines.items() if n != name)
            self.ends[origin] = old.ends[origin] = new.ends[origin] = held if crash else old.applied[origin]
            new.applied.setdefault(origin, 0)
        old.leads = set()
        if crash:
            self.restart(name, 0)
        if not new.leads:
            origin = len(self.acks) + 1
            self.acks[origin], new.leads, new.applied[origin] = [], {origin}, 0
        self.followed_by |= dict.fromkeys(ended, *new.leads)

    def ask(self, name: str) -> None:
        self.now += 1.0
        self.number += 1
        self.underway.append(Question(name, self.number, self.now))

    def answer(self, nth: int) -> None:
        if self.underway:
            question = self.underway[nth % len(self.underway)]
            question.answer = question.answer or self.machines[question.name].watermark(question.name)

    def take_in(self, nth: int) -> None:
        if self.underway:
            self.now += 1.0
            question = self.underway.pop(nth % len(self.underway))
            answer = question.answer or self.machines[question.name].watermark(question.name)
            self.view = self.view.observe(
                question.name, answer, asked=question.number, asked_at=question.asked_at, now=self.now
            )

    def probe(self, name: str) -> None:
        self.ask(name)
        self.take_in(-1)

    def check(self) -> None:
        """The claim of I5, where an endpoint's own snapshot bears a decision out: everything that was acknowledged before `fresh_at`, and
        survives, is applied there, of every origin that the process was told of or that followed one that it credits the endpoint with.
        """
        told = {key for e in self.view.endpoints for key in e.applied}
        for known in self.view.endpoints:
            machine = self.machines[known.name]
            snapshot = machine.watermark(known.name)
            if not known.asked or known.down is not None:
                continue
            if not bears_out(Serve(known.name, "covered", {}, known), snapshot, self.view.ends):
                continue
            assert all(machine.applied[key] >= offset for key, offset in known.applied.items()), known
            heard = {*told, *snapshot[0].origins} | {self.followed_by.get(origin, origin) for origin in known.leads}
            for origin in heard:
                missing = self.acks[origin][machine.applied.get(origin, 0) : self.ends.get(origin)]
                assert not missing or missing[0] >= known.fresh_at, (known, origin, missing)


Step = tuple[str, tuple[object, ...], dict[str, bool]]
STEPS: list[Step] = [
    *(("write", (name,), {}) for name in "abc"),
    *(("replicate", pair, {}) for a, b in permutations("abc", 2) for pair in [(a, b, 0), (a, b, 1), (a, b, 9)]),
    *(("restart", (name, back), {}) for name in "abc" for back in (0, 2)),
    *(("fail_over", pair, {"crash": crash}) for pair in product("abc", repeat=2) for crash in (True, False)),
    *(("probe", (name,), {}) for name in "abc" for _ in range(4)),
    *(("ask", (name,), {}) for name in "abc"),
    *(("answer", (nth,), {}) for nth in (0, 0, -1)),
    *(("take_in", (nth,), {}) for nth in (0, 0, -1)),
]


def broken(steps: list[Step]) -> str:
    world = World()
    for method, args, options in steps:
        getattr(world, method)(*args, **options)
        try:
            world.check()
        except AssertionError as claim:
            return str(claim)
    return ""


def test_what_is_claimed_of_freshness_is_true() -> None:
    """Random walks from seeds; one that breaks a claim is shown with the steps that do not matter taken out."""
    for seed in range(50 * settings().max_examples):
        steps = Random(seed).choices(STEPS, k=25)
        if broken(steps):
            for n in reversed(range(len(steps))):
                if broken(steps[:n] + steps[n + 1 :]):
                    del steps[n]
            raise AssertionError(f"seed {seed}: {[(m, *a, *o.items()) for m, a, o in steps]}: {broken(steps)}")


@pytest.mark.spec("G-11")
def test_a_write_past_the_end_of_its_origin_is_held_against_who_took_it_whoever_answers_next() -> None:
    view = told(NEW, "a", mark({1: (8, None)}, 1), asked=1)
    view = told(view, "b", mark({1: (8, 8), 2: (0, None)}, 2), asked=2)  # it took over, and "a" has not heard
    view = told(view, "c", mark({1: (8, 8), 2: (0, None)}), asked=3)
    view = view.advanced("a", pack(0, 1), 9)
    assert (
        of(view, "a").down == "holds writes past the end of a lost history"
    )  # at once: the next read may be the writer's own
    view = told(view, "c", mark({1: (8, 8), 2: (0, None)}), asked=4)
    assert of(view, "a").down == "holds writes past the end of a lost history"


def test_an_origin_that_only_one_who_left_had_heard_of_no_longer_counts() -> None:
    view = told(NEW, "a", mark({1: (8, None)}, 1), asked=1, at=1.0)
    view = told(view, "b", mark({1: (8, None)}), asked=2, at=2.0)
    view = told(view, "c", mark({1: (8, None), 2: (3, None)}), asked=3, at=3.0)
    assert of(view, "b").fresh_at == NEVER  # it lacks what nobody answers for
    view = view.known([("a", 0.0), ("b", 0.0)])
    view = told(view, "a", mark({1: (8, None)}, 1), asked=4, at=4.0)
    assert of(view, "b").fresh_at == 4.0


# --- the short way says what the long way says --------------------------------------------------------------------------


def same(a: View, b: View) -> None:
    assert [e.name for e in a.endpoints] == [e.name for e in b.endpoints]
    for mine, theirs in zip(a.endpoints, b.endpoints, strict=True):
        for field in attrs.fields(EndpointView):
            if field.name == "down":  # of two reasons, either
                assert (mine.down is None) == (theirs.down is None)
            elif (
                field.name == "fresh_at"
            ):  # the short way keeps what was shown once, by samples that have thinned out since
                assert mine.fresh_at >= theirs.fresh_at
            elif field.name not in ("marks", "weakest"):
                assert getattr(mine, field.name) == getattr(theirs, field.name), field.name
    assert (a.ends, a.heads, a.leaders, a.tails) == (b.ends, b.heads, b.leaders, b.tails)
    assert a.live() == b.live()


def test_a_common_answer_is_taken_in_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    short = View._went_on
    taken = 0
    for seed in range(150):
        chance = Random(seed)
        shards, names = range(chance.choice((1, 3))), ("a", "b", "c")
        applied = {(n, s, o): 0 for n in names for s in shards for o in (1, 2)}
        ends: dict[tuple[int, int], int] = {}
        lead = {(s, o): chance.choice(names) for s in shards for o in (1, 2)}
        life = dict.fromkeys(names, 1)
        deaf = Random(-seed).choice((*names, ""))  # it hears of no end
        kept: dict[tuple[str, int], Watermark] = {}
        fast = slow = View().known((n, chance.choice((0.0, 0.1))) for n in names)
        asked = 0
        for _ in range(60):
            asked += 1
            name = chance.choice(names)
            roll = chance.random()
            for s in shards:
                for o in (1, 2):
                    if (s, o) not in ends and chance.random() < 0.3:
                        head = applied[lead[s, o], s, o] = applied[lead[s, o], s, o] + 1
                        if chance.random() < 0.3:
                            fast, slow = (v.advanced(lead[s, o], pack(s, o), head) for v in (fast, slow))
                    if name != lead[s, o] and chance.random() < 0.5:
                        applied[name, s, o] = max(
                            applied[name, s, o], applied[lead[s, o], s, o] - chance.choice((0, 1))
                        )
            if roll < 0.03:
                life[name] += 1
                for s in shards:
                    applied[name, s, 1] = max(0, applied[name, s, 1] - chance.choice((0, 2)))
            elif roll < 0.06:
                s, o = chance.choice(list(lead))
                ends.setdefault((s, o), applied[chance.choice(names), s, o])
            elif roll < 0.09:
                lead[chance.choice(list(lead))] = name
            elif roll < 0.14:
                fast, slow = (v.failed(name, "gone", asked=asked, now=float(asked)) for v in (fast, slow))
                continue
            marks = {}
            for s in shards:
                if chance.random() < 0.1:
                    continue
                heard = {} if name == deaf else ends
                origins = {o: (applied[name, s, o], heard.get((s, o))) for o in (1, 2) if chance.random() < 0.97}
                leads = frozenset(o for o in (1, 2) if lead[s, o] == name and (s, o) not in heard)
                new = Watermark(s, origins, (name, life[name]), leads)
                marks[s] = old if (old := kept.get((name, s))) == new else new
                kept[name, s] = marks[s]
            number = asked - (5 if chance.random() < 0.05 else 0)
            news = short(fast, name, marks, number, float(number), float(asked))
            taken += news is not None
            fast = fast.observe(name, marks, asked=number, asked_at=float(number), now=float(asked))
            with monkeypatch.context() as patched:
                patched.setattr(View, "_went_on", lambda *_: None)
                slow = slow.observe(name, marks, asked=number, asked_at=float(number), now=float(asked))
            same(fast, slow)
    assert taken > 1000
