"""Gated sessions on real servers under trouble: nothing stale, nothing backward, every loss said. And the same ungated, which must fail.

Met directly, through PgBouncer, through a balancer that hides which standby answers, and by tasks of one event loop.
"""

from typing import Any

import pytest

pytest.importorskip("psycopg_pool", reason="psycopg and its pool are not installed")
from tests.stores.poolers import program
from tests.stores.postgres_soak import Enough, Plan, Verdict, soak
from tests.stores.postgres_soak_async import asoak

SHARE = 0.05
"""The share of reads that standbys must have served, at least. A session that was cut off from a primary reads at the leader for the rest
of a run, and promotions do that to many: 18 to 98 % were seen."""


def clean(verdict: Verdict, enough: Enough = Enough()) -> None:  # noqa: B008 - frozen
    print(verdict)
    assert verdict.unexpected == []
    assert verdict.stale_own == []
    assert verdict.backward == []
    assert verdict.unreported == []
    assert enough.of(verdict)
    assert verdict.share > SHARE


def dirty(verdict: Verdict) -> None:
    """Say of a control that it failed as it should: where it finds nothing, a clean soak means nothing."""
    print(verdict)
    assert verdict.unexpected == []
    assert verdict.stale_own


@pytest.mark.timeout(360)
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


@pytest.mark.timeout(240)
def test_without_the_gate_the_same_load_is_shown_stale_pages() -> None:
    dirty(soak(Plan(3, 12, gated=False, promotions=False)))


@pytest.mark.timeout(300)
def test_nothing_is_stale_through_pgbouncer() -> None:
    clean(soak(Plan(31, 30, through="pgbouncer")))


@pytest.mark.timeout(300)
def test_nothing_is_stale_through_a_balancer() -> None:
    """Both standbys serve behind one name, and neither is told apart by anything but what it says in the block itself."""
    enough = Enough(at_each=200)
    clean(soak(Plan(32, 30, through="haproxy", promotions=False, enough=enough)), enough)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("through", ["pgbouncer", "haproxy"])
def test_without_the_gate_stale_pages_come_through_as_well(through: Any) -> None:
    program(through)
    dirty(soak(Plan(33, 10, gated=False, promotions=False, through=through)))


@pytest.mark.timeout(300)
def test_nothing_is_stale_for_tasks_of_one_event_loop() -> None:
    clean(asoak(Plan(34, 30)))


@pytest.mark.timeout(240)
def test_without_the_gate_tasks_are_shown_stale_pages() -> None:
    dirty(asoak(Plan(35, 10, gated=False, promotions=False)))
