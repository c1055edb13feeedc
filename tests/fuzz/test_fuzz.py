"""The fuzz targets: replayed on what was found before, everywhere; and fuzzed for a moment where atheris is."""

import importlib.util
from pathlib import Path

import pytest

from tests.fuzz.__main__ import MOST_BYTES, chosen_names, fuzz, result_of
from tests.fuzz.targets import CORPUS, TARGETS, corpus, seeds

MUTATIONS = 2000


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


LOADED = """\
INFO: seed corpus: files: 475 min: 1b max: 3072b total: 33312b rss: 71Mb
#2\tpulse  cov: 401 ft: 402 exec/s: 0 rss: 72Mb
#256\tpulse  cov: 476 ft: 901 corp: 200/14Kb exec/s: 256 rss: 73Mb
#476\tINITED cov: 493 ft: 1057 corp: 280/19Kb exec/s: 238 rss: 73Mb
"""


def test_what_was_loaded_is_not_what_fuzzing_found() -> None:
    nothing = result_of(
        0, LOADED + "#476\tDONE   cov: 493 ft: 1057 corp: 280/19Kb rss: 73Mb\nDone 476 runs in 2 second(s)\n"
    )
    assert (nothing.loaded, nothing.mutated, nothing.first, nothing.last) == (476, 0, 493, 493)
    assert nothing.failed
    assert nothing.ended.startswith("NOT FUZZED")
    grown = result_of(
        0,
        LOADED + "#512\tNEW    cov: 495 ft: 1060 corp: 281/19Kb rss: 73Mb\n#9000\tDONE   cov: 495 ft: 1060 rss: 73Mb\n",
    )
    assert (grown.loaded, grown.mutated, grown.first, grown.last) == (476, 8524, 493, 495)
    assert not grown.failed
    assert grown.ended == "nothing found"
    found = result_of(77, LOADED + "#700\tNEW    cov: 495 ft: 1060 rss: 73Mb\nAssertionError\n")
    assert found.failed
    assert found.ended.startswith("FAILED")
    early = result_of(77, LOADED.partition("#476")[0] + "AssertionError\n")  # a kept input fails
    assert (early.loaded, early.mutated, early.first, early.last) == (256, 0, 476, 476)
    assert early.ended.startswith("FAILED")
    assert result_of(1, "ImportError\n").ended.startswith("FAILED")


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="needs atheris: Linux on x86-64")
@pytest.mark.parametrize("name", ["frame", "claims"])  # each takes some seconds to start
def test_a_moment_of_fuzzing_finds_nothing(name: str, tmp_path: Path) -> None:
    """`python -m tests.fuzz` runs longer. The child ends by itself; what it says is shown if it found something.

    Its end is a number of executions, not a time: a busy machine would spend that on what is loaded, and change nothing.
    """
    result = fuzz(name, None, tmp_path, mutations=MUTATIONS)
    assert result.code == 0, result.said
    assert result.mutated >= MUTATIONS // 2, result.said
    assert result.last >= result.first > 0
