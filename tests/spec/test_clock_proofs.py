"""What docs/spec/clock.md calls proved by z3: of all values, not of those that were tried. Each proof is shown to fail of a broken step."""

import pytest

z3 = pytest.importorskip("z3")

FULL, COUNTS = 65_535, 65_536


def proved(claim: "z3.BoolRef", *assumptions: "z3.BoolRef") -> bool:
    solver = z3.Solver()
    solver.add(*assumptions, z3.Not(claim))
    return bool(solver.check() == z3.unsat)


def larger(a: "z3.ArithRef", b: "z3.ArithRef") -> "z3.ArithRef":
    return z3.If(a >= b, a, b)


def ularger(a: "z3.BitVecRef", b: "z3.BitVecRef") -> "z3.BitVecRef":
    return z3.If(z3.UGE(a, b), a, b)


last, remote, wall = z3.Ints("last remote wall")
a_clock = (last >= -1, remote >= 0)
tick = larger(last + 1, wall * COUNTS)
merge = larger(larger(last + 1, remote + 1), wall * COUNTS)


def test_theorems_1_and_2_hold_of_each_step_for_all_integers() -> None:
    assert proved(z3.And(tick > last, tick >= wall * COUNTS), *a_clock)
    assert proved(z3.And(merge > last, merge > remote, merge >= wall * COUNTS), *a_clock)
    assert not proved(larger(last + 1, remote) > remote, *a_clock)  # without the + 1 a receipt could equal its sending


def test_a_step_is_figure_5_for_all_64_bits() -> None:
    """One `max` against the figure's branches, wherever the paper's counter has room."""
    last, remote, wall = (z3.BitVec(name, 64) for name in ("last", "remote", "wall"))
    l, c, l_m, c_m, pt = last >> 16, last & FULL, remote >> 16, remote & FULL, wall >> 16
    l, l_m, pt = (z3.LShR(x, 16) for x in (last, remote, wall))
    room = (c < FULL, c_m < FULL, wall & FULL == 0)
    moved = ularger(l, pt)
    counter = z3.If(moved == l, c + 1, 0)
    assert proved(ularger(last + 1, wall) == (moved << 16 | counter), *room)
    moved = ularger(ularger(l, l_m), pt)
    both, own, theirs = z3.And(moved == l, moved == l_m), moved == l, moved == l_m
    counter = z3.If(both, ularger(c, c_m) + 1, z3.If(own, c + 1, z3.If(theirs, c_m + 1, 0)))
    step = ularger(ularger(last + 1, remote + 1), wall)
    assert proved(step == (moved << 16 | counter), *room)
    assert not proved(
        step == (moved << 16 | counter), *room[2:]
    )  # a full counter: the figure has no answer, ours carries


def test_an_integer_compares_as_its_pair_for_all_64_bits() -> None:
    a, b = z3.BitVecs("a b", 64)
    (l_a, c_a), (l_b, c_b) = ((z3.LShR(x, 16), x & FULL) for x in (a, b))
    pairs = z3.Or(z3.ULT(l_a, l_b), z3.And(l_a == l_b, z3.ULT(c_a, c_b)))
    assert proved(z3.ULT(a, b) == pairs)
    assert not proved((a < b) == pairs)  # as signed integers they do not
