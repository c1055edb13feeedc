"""The fuzz targets: replayed on what was found before, everywhere; and fuzzed for a moment where atheris is."""

import importlib.util
from pathlib import Path

import pytest

from tests.fuzz.__main__ import MOST_BYTES, chosen_names, fuzz
from tests.fuzz.targets import CORPUS, TARGETS, corpus, seeds

SECONDS = 2


@pytest.mark.parametrize("name", TARGETS)
def test_what_coverage_found_before_is_judged_right(name: str) -> None:
    kept = corpus(name)
    assert kept, "no kept corpus: python -m tests.fuzz --minimise"
    outcomes = set()
    for path in kept:
        data = path.read_bytes()
        assert len(data) <= MOST_BYTES
        outcomes.add(TARGETS[name].run(data)[0])
    assert len(outcomes) > 1, f"all of the corpus ends in {outcomes}: the target does not reach what it is for"


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_are_judged_right(name: str) -> None:
    for data in seeds(name):
        assert len(data) <= TARGETS[name].most
        TARGETS[name].run(data)


def test_what_open_reads_is_five_layers() -> None:
    assert chosen_names("open") == ["text", "frame", "payload", "claims", "encrypted"]
    assert chosen_names("line") == ["line"]
    assert chosen_names(None) == [*TARGETS]


def test_there_is_no_corpus_of_nothing() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="needs atheris: Linux on x86-64")
@pytest.mark.parametrize("name", ["frame", "claims"])  # each takes some seconds to start
def test_a_moment_of_fuzzing_finds_nothing(name: str, tmp_path: Path) -> None:
    """`python -m tests.fuzz` runs longer. The child ends by itself; what it says is shown if it found something."""
    result = fuzz(name, SECONDS, tmp_path)
    assert result.code == 0, result.said
    assert result.executions > 0
    assert result.last >= result.first > 0
