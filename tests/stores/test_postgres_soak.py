"""Gated sessions on real servers under trouble: nothing stale, nothing backward, every loss said. And the same ungated, which must fail."""

import pytest

pytest.importorskip("psycopg_pool", reason="psycopg and its pool are not installed")
from tests.stores.postgres_soak import Plan, Verdict, soak


def clean(verdict: Verdict) -> None:
    print(verdict)
    assert verdict.unexpected == []
    assert verdict.stale_own == []
    assert verdict.backward == []
    assert verdict.unreported == []
    assert verdict.counts["write"] > 200
    assert sum(n for what, n in verdict.counts.items() if what.startswith("read ")) > 1000


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("synchronous_commit", "isolation", "run_s"),
    [
        ("on", "read committed", 60),
        ("off", "repeatable read", 60),
        ("on", "repeatable read", 20),
        ("off", "read committed", 20),
    ],
)
def test_nothing_is_stale_and_every_loss_is_said(synchronous_commit: str, isolation: str, run_s: float) -> None:
    seed = {"on": 1, "off": 2}[synchronous_commit] * 10 + len(isolation)
    clean(soak(Plan(seed, run_s, synchronous_commit=synchronous_commit, isolation=isolation)))


@pytest.mark.timeout(120)
def test_without_the_gate_the_same_load_is_shown_stale_pages() -> None:
    """The control: where this finds nothing, a clean soak means nothing."""
    verdict = soak(Plan(3, 12, gated=False, promotions=False))
    assert verdict.unexpected == []
    assert verdict.stale_own
    assert verdict.backward
