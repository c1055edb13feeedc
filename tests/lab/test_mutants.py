"""A simulator that finds nothing is no proof of anything: here it finds every bug of a table, each by the seed that is on record."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

from tests.lab.mutants.run import one
from tests.lab.mutants.table import AREAS, Counterexample, Edit, Mutant, Table, plant

TABLE = Table.read()
FOUND = [mutant for mutant in TABLE.mutants if mutant.found]
SURVIVORS = [mutant for mutant in TABLE.mutants if not mutant.found]
ROOT = Path(__file__).parents[2]
RUN = ROOT / "tests" / "lab" / "mutants" / "run.py"
AGAIN = "the simulator has changed: python -m tests.lab.mutants --write looks for the seeds again"


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@lru_cache
def on_clean_code(strategy: str, mix: str, seed: int) -> tuple[str, str] | None:
    return one(strategy, mix, seed)


@pytest.mark.parametrize("mutant", FOUND, ids=lambda m: m.name)
def test_a_planted_bug_is_found(mutant: Mutant, tmp_path: Path) -> None:
    found = mutant.found
    assert found is not None
    job = {"strategy": mutant.strategy, "mixes": [found.mix], "first": found.seed, "last": found.seed + 1}
    run = subprocess.run(
        [sys.executable, str(RUN), json.dumps({**job, "home": str(plant(mutant.edits, tmp_path))})],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert json.loads(run.stdout).get("kind") == found.kind, AGAIN
    assert on_clean_code(mutant.strategy, found.mix, found.seed) is None


def test_every_area_has_planted_bugs() -> None:
    found = Counter(mutant.area for mutant in FOUND)
    assert all(found[area] for area in AREAS)
    assert sum(found[area] for area in AREAS) >= 15
    assert len({mutant.name for mutant in TABLE.mutants}) == len(TABLE.mutants)


@pytest.mark.parametrize("told", TABLE.counterexamples, ids=lambda c: c.title)
def test_a_counterexample_is_found_or_told_elsewhere(told: Counterexample) -> None:
    if told.mutants:
        assert set(told.mutants) <= {mutant.name for mutant in TABLE.mutants}
        assert not set(told.mutants).isdisjoint(mutant.name for mutant in FOUND)
    else:
        assert told.why
        assert is_a_test(told.told_by)


@pytest.mark.parametrize("mutant", SURVIVORS, ids=lambda m: m.name)
def test_what_survives_is_caught_elsewhere(mutant: Mutant, tmp_path: Path) -> None:
    assert mutant.survives
    assert is_a_test(mutant.caught_by)
    plant(mutant.edits, tmp_path)


def is_a_test(name: str) -> bool:
    file, _, function = name.partition("::")
    return f"def {function}(" in (ROOT / file).read_text(encoding="utf-8")


def test_a_stale_replacement_fails_loudly(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="0 times"):
        plant([Edit("clock.py", "no such text", "")], tmp_path / "none")
    with pytest.raises(LookupError, match="times, not once"):
        plant([Edit("clock.py", "self", "")], tmp_path / "many")


def test_the_table_is_written_as_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "again.toml"
    path.write_text("# said above\n\n[[mutant]]\n", encoding="utf-8")
    TABLE.write(path)
    assert Table.read(path) == TABLE
    assert path.read_text(encoding="utf-8").startswith("# said above\n\n[[mutant]]\n")
