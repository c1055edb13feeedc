"""A witness shows its violation by itself, and nothing in it can go."""

import random

import pytest

from causal.lab.checker import check
from causal.lab.checking.witness import part
from causal.lab.history import History
from tests.lab.brute import history, versioned
from tests.lab.test_checker_exhaustive import store, swapped


def shows(made: History, places: list[int], guarantee: str, box: str) -> bool:
    report = check(part(made, places), mode=box, witnesses=False)  # type: ignore[arg-type]
    return report[guarantee].state == "violated"


@pytest.mark.parametrize("box", ["white", "black"])
def test_every_witness_is_minimal(box: str) -> None:
    sizes = set()
    for seed in range(150):
        chance = random.Random(seed)
        rows = store(chance, chance.randint(12, 30))
        if box == "white":
            rows = versioned(rows, swapped(sum(row.op == "write" for row in rows), chance))
        made = history(rows)
        for verdict in check(made, mode=box).verdicts:  # type: ignore[arg-type]
            if verdict.witness is None:
                continue
            places = [row["line"] - 1 for row in verdict.witness.operations]
            assert shows(made, places, verdict.guarantee, box), (seed, verdict)
            for place in places:
                rest = [other for other in places if other != place]
                assert not rest or not shows(made, rest, verdict.guarantee, box), (seed, place, verdict)
            assert verdict.witness.sentence.endswith(".")
            sizes.add(len(places))
    assert max(sizes) >= {"white": 4, "black": 5}[box]
