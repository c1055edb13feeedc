"""The bookkeeping against histories that a person can check by hand."""

import pytest

from causal.lab.audit import Audit


@pytest.fixture
def audit() -> Audit:
    audit = Audit()
    audit.wrote("alice", "photo", 1, (10, 1))
    return audit


def counted(audit: Audit) -> tuple[int, int, int]:
    return audit.counts.stale, audit.counts.non_monotonic, audit.counts.out_of_causal_order


def test_reading_the_own_write_is_fine(audit: Audit) -> None:
    audit.read("alice", "photo", 1)
    assert counted(audit) == (0, 0, 0)


def test_missing_the_own_write_is_stale_and_acausal(audit: Audit) -> None:
    audit.read("alice", "photo", None)
    assert counted(audit) == (1, 0, 1)


def test_a_concurrent_version_that_wins_is_not_stale(audit: Audit) -> None:
    audit.wrote("bob", "photo", 2, (11, 2))
    audit.read("alice", "photo", 2)
    assert counted(audit) == (0, 0, 0)


def test_a_concurrent_version_that_loses_is_stale(audit: Audit) -> None:
    audit.wrote("bob", "photo", 2, (9, 2))
    audit.read("alice", "photo", 2)
    assert counted(audit) == (1, 0, 1)


def test_going_back_is_non_monotonic(audit: Audit) -> None:
    audit.read("bob", "photo", 1)
    audit.read("bob", "photo", None)
    assert counted(audit) == (0, 1, 1)


def test_an_effect_without_its_cause_is_acausal_only(audit: Audit) -> None:
    audit.read("bob", "photo", 1)
    audit.wrote("bob", "reply", 2, (12, 2))
    audit.read("carol", "reply", 2)
    audit.read("carol", "photo", None)
    assert counted(audit) == (0, 0, 1)


def test_what_a_writer_learned_later_is_not_in_the_past_of_its_write(audit: Audit) -> None:
    audit.wrote("bob", "reply", 2, (12, 2))
    audit.read("bob", "photo", 1)
    audit.read("carol", "reply", 2)
    audit.read("carol", "photo", None)
    assert counted(audit) == (0, 0, 0)
