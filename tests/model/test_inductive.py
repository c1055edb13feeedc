"""Inductive steps over unbounded offsets: each is proved, and refuted as soon as its rule is taken out."""

import importlib
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from causal import Frontier
from causal.core.hlc import merge, tick
from causal.core.position import ANY_ORIGIN, LeaderMark, Position

z3 = pytest.importorskip("z3")
sys.path.append(str(Path(__file__).parents[2] / "docs/spec/model"))
inductive = importlib.import_module("inductive")

STEPS = {step.name: step for step in inductive.STEPS}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_proved(name: str) -> None:
    claim = STEPS[name].claim(True)
    assert inductive.counterexample(claim) is None
    if claim.decl().kind() == z3.Z3_OP_IMPLIES:
        assert inductive.counterexample(z3.Not(claim.arg(0))) is not None, (
            "proved of nothing: no case meets the premise"
        )


@pytest.mark.parametrize("name", STEPS)
def test_a_step_without_its_rule_has_a_counterexample(name: str) -> None:
    assert inductive.counterexample(STEPS[name].claim(False)) is not None


def test_the_command_prints_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert inductive.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(STEPS) + 2
    assert all("proved" in line and line.endswith("counterexample") for line in lines[1:-1])


def test_the_command_fails_where_a_step_does(capsys: pytest.CaptureFixture[str]) -> None:
    step = STEPS["clock: a tick increases"]
    assert inductive.main([inductive.Step("planted", "none", lambda rule: step.claim(not rule))]) == 1
    assert "REFUTED" in capsys.readouterr().out


# --- the steps speak of this code -------------------------------------------------------------------------------------

offsets = st.integers(0, 2**63)
entries = st.dictionaries(st.tuples(st.integers(0, 2), st.integers(0, 1)), offsets)
marks = st.none() | st.builds(
    LeaderMark,
    offsets,
    st.frozensets(st.integers(0, 2)),
    st.frozensets(st.integers(0, 2)) | st.just(frozenset({ANY_ORIGIN})),
)
frontiers = st.tuples(entries, st.none() | offsets, marks)


def ours(parts: tuple) -> Frontier:
    positions, floor, mark = parts
    plain = Frontier(Position(s, o, n) for (s, o), n in positions.items())
    return Frontier.of(plain.entries, {} if floor is None else {0: floor}, {} if mark is None else {0: mark})


def theirs(parts: tuple) -> "inductive.Frontier":
    positions, floor, mark = parts
    there = z3.BoolVal(mark is not None)
    mark = mark or LeaderMark(0)
    return inductive.Frontier(
        [z3.IntVal(positions.get((s, o), -1)) for s in range(3) for o in range(2)],
        z3.IntVal(-1 if floor is None else floor),
        inductive.Mark(
            there,
            z3.IntVal(mark.until),
            [z3.BoolVal(s in mark.exact) for s in range(3)],
            [z3.BoolVal(o in mark.origins) for o in range(3)],
            z3.BoolVal(ANY_ORIGIN in mark.origins),
        ),
    )


def true(claim: "z3.BoolRef") -> bool:
    return z3.is_true(z3.simplify(claim))


@given(frontiers, frontiers)
def test_the_join_and_order_that_are_proved_are_the_ones_that_are_run(a: tuple, b: tuple) -> None:
    both = ours(a) | ours(b)
    mark = both.marks.get(0)
    listed = {(p.shard, p.origin): p.offset for p in both}
    assert true(inductive.same(inductive.joined(theirs(a), theirs(b)), theirs((listed, both.floors.get(0), mark))))
    assert true(inductive.dominates(theirs(a), theirs(b))) == (ours(a) >= ours(b))
    assert true(inductive.dominates(theirs((listed, both.floors.get(0), mark)), theirs(b)))


@given(st.integers(-1, 2**64), st.integers(0, 2**64), st.integers(0, 2**48 - 1))
def test_the_clock_that_is_proved_is_the_one_that_is_run(last: int, remote: int, wall: int) -> None:
    a, b, c = map(z3.IntVal, (last, remote, wall))
    assert true(inductive.tick(a, c) == tick(last, wall))
    assert true(inductive.merge(a, b, c) == merge(last, remote, wall))
