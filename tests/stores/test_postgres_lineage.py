"""From what a server said to what it is known to hold: rules, against a dumb model of histories."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from causal.core.frontier import Frontier, pack
from causal.core.watermark import Verdict
from causal.stores.postgres.lineage import (
    Facts,
    Known,
    Life,
    Row,
    at_lsn,
    by_timeline,
    current,
    doubtful,
    known,
    of_timeline,
    proven,
    supersedes,
)
from causal.stores.postgres.server import Lives, Server

if TYPE_CHECKING:
    from collections.abc import Mapping

    from causal.core.watermark import Watermark

STANDBY = Life("100", None, None, True)
PRIMARY = Life("200", None, None, False, 90)
FIRST = Row(1, 11, None, 10, 1, "50", None)
SECOND = Row(2, 22, 90, 95, 2, "200", 90)


def standby(lsn: int, timeline: int | None, *rows: Row, receiver: int | None = 7) -> Facts:
    return Facts(STANDBY, lsn, timeline, rows, receiver)


def applied(k: Known, origin: int) -> tuple[int, int | None] | None:
    return k.marks[0].origins.get(origin)


def verdict(k: Known | Mapping[int, Watermark], origin: int, offset: int) -> Verdict:
    marks = k.marks if isinstance(k, Known) else k
    return marks[0].judge(Frontier.of({pack(0, origin): offset})).verdict


def test_a_standby_that_streams_its_newest_rows_timeline_has_all_up_to_its_lsn() -> None:
    k = known(0, standby(80, 1, FIRST), None, 0.0)
    assert applied(k, 11) == (80, None)
    assert not k.marks[0].leads


@pytest.mark.parametrize("timeline", [2, None])
def test_a_standby_of_another_timeline_or_none_has_what_its_row_shows_and_no_more(timeline: int | None) -> None:
    k = known(0, standby(97, timeline, FIRST), None, 0.0)
    assert applied(k, 11) == (10, None)
    assert verdict(k, 11, 93) is Verdict.BEHIND  # its number is past that: of another history, perhaps


def test_a_receiver_that_may_be_of_a_later_life_proves_nothing_new() -> None:
    before = known(0, standby(80, 1, FIRST), None, 0.0)
    k = known(0, standby(97, 1, FIRST, receiver=8), before, 1.0, confirmed=False)
    assert applied(k, 11) == (80, None)
    assert applied(known(0, standby(97, 1, FIRST, receiver=8), k, 2.0, confirmed=True), 11) == (97, None)


def test_what_was_proven_stays_proven_in_the_same_life_alone() -> None:
    before = known(0, standby(80, 1, FIRST), None, 0.0)
    assert applied(known(0, standby(85, None, FIRST), before, 1.0), 11) == (80, None)
    restarted = attrs.evolve(standby(85, None, FIRST), life=attrs.evolve(STANDBY, started="101"))
    assert applied(known(0, restarted, before, 1.0), 11) == (10, None)


def test_a_standby_that_went_back_is_known_for_where_it_is() -> None:
    before = known(0, standby(80, 1, FIRST), None, 0.0)
    assert applied(known(0, standby(70, None, FIRST), before, 1.0), 11) == (70, None)
    assert applied(known(0, standby(70, 1, FIRST), before, 1.0), 11) == (70, None)


def test_an_origin_whose_successor_is_there_is_applied_to_its_end() -> None:
    k = known(0, standby(97, 2, FIRST, SECOND), None, 0.0)
    assert applied(k, 11) == (90, 90)
    assert applied(k, 22) == (97, None)
    assert verdict(k, 11, 91) is Verdict.LOST


def test_an_origin_that_ended_nobody_knows_where_is_unknown() -> None:
    k = known(0, standby(97, 2, FIRST, attrs.evolve(SECOND, parent_end=None)), None, 0.0)
    assert applied(k, 11) is None
    assert verdict(k, 11, 50) is Verdict.UNKNOWN


def test_a_primary_numbers_the_origin_of_its_present_life_alone() -> None:
    facts = Facts(PRIMARY, 99, 2, (FIRST, SECOND))
    assert current(facts) == SECOND
    assert known(0, facts, None, 0.0).marks[0].leads == {22}
    for other in (
        attrs.evolve(facts, life=attrs.evolve(PRIMARY, started="201")),
        attrs.evolve(facts, life=attrs.evolve(PRIMARY, recovered=98)),  # a backend crashed: the postmaster is the same
        attrs.evolve(facts, life=attrs.evolve(PRIMARY, recovered=None)),
    ):
        k = known(0, other, known(0, facts, None, 0.0), 1.0)
        assert current(other) is None
        assert not k.marks[0].leads
        assert applied(k, 22) == (
            95,
            None,
        )  # its row is there; what the new life's number says of the old one is nothing
        assert applied(known(0, other, k, 2.0), 22) == (95, None)


def test_a_server_without_rows_shows_nothing() -> None:
    k = known(0, standby(97, 1), None, 0.0)
    assert not k.marks[0].origins
    assert k.origin is None
    assert proven(standby(97, 1), None) is None


def test_at_a_lower_lsn_nothing_is_applied_further_than_that() -> None:
    """A standby whose backend crashed replays again, from before; its postmaster is the same, and its row not yet there."""
    before = known(0, standby(97, 2, FIRST, SECOND), None, 0.0)
    marks = at_lsn(0, before, 60)
    assert verdict(marks, 11, 70) is Verdict.BEHIND
    assert verdict(marks, 11, 60) is Verdict.APPLIED
    assert verdict(marks, 11, 91) is Verdict.LOST
    assert verdict(marks, 22, 96) is Verdict.BEHIND


def test_a_later_lsn_proves_more_of_what_a_server_numbers_itself_alone() -> None:
    assert at_lsn(0, known(0, Facts(PRIMARY, 99, 2, (FIRST, SECOND)), None, 0.0), 120)[0].origins[22] == (120, None)
    assert at_lsn(0, known(0, standby(97, 2, FIRST, SECOND), None, 0.0), 120)[0].origins[22] == (97, None)
    nothing = known(0, standby(97, 1), None, 0.0)
    assert at_lsn(0, nothing, 120) is nothing.marks


def test_of_two_primaries_the_one_on_the_higher_timeline_counts() -> None:
    def primary(timeline: int | None) -> Known:
        return known(0, Facts(PRIMARY, 99, timeline, ()), None, 0.0)

    assert supersedes(primary(3), primary(2))
    assert not supersedes(primary(2), primary(3))
    assert not supersedes(primary(2), primary(2))  # two were promoted at once: nobody knows better
    assert not supersedes(primary(None), primary(2))
    assert not supersedes(known(0, standby(9, 3), None, 0.0), primary(2))
    assert not supersedes(primary(3), known(0, standby(9, 2), None, 0.0))


def test_timelines_stand_for_origins_where_nothing_is_installed() -> None:
    facts = Facts(PRIMARY, 99, 3, ())
    rows = by_timeline(42, facts, [(1, 50), (2, 80)])
    assert [(r.origin, r.parent_end) for r in rows] == [
        (of_timeline(42, 1), None),
        (of_timeline(42, 2), 50),
        (of_timeline(42, 3), 80),
    ]
    k = known(0, attrs.evolve(facts, rows=rows), None, 0.0)
    assert applied(k, of_timeline(42, 1)) == (50, 50)
    assert k.marks[0].leads == {of_timeline(42, 3)}
    assert of_timeline(42, 1) != of_timeline(43, 1)
    assert by_timeline(42, attrs.evolve(facts, timeline=None), []) == ()


def test_a_receiver_is_confirmed_by_a_primary_that_is_found_later_or_by_where_the_life_ended() -> None:
    lives = Lives()
    replica, primary = Server("replica", "", 0, lives), Server("primary", "", 0, lives)
    now = time.monotonic()
    leader = Facts(attrs.evolve(PRIMARY, started="50", recovered=None), 85, 1, (FIRST,))

    def learned(server: Server, facts: Facts, at: float = 0.0) -> int:
        return server.learn(facts, at).lsn

    learned(primary, leader, now - 1)
    # It was found, but before this receiver was seen: it may have crashed since.
    assert learned(replica, standby(80, 1, FIRST)) == 10
    assert replica.unsure
    learned(primary, leader, time.monotonic())
    assert learned(replica, standby(80, 1, FIRST)) == 80
    assert not replica.unsure
    assert learned(replica, standby(88, 1, FIRST, receiver=8), 1.0) == 80  # another receiver
    learned(primary, Facts(PRIMARY, 99, 2, (FIRST, SECOND)), time.monotonic())
    assert learned(replica, standby(88, 1, FIRST, receiver=8), 2.0) == 88  # not past 90, where that life ended
    assert learned(replica, standby(93, 1, FIRST, receiver=8), 3.0) == 88


STEPS = st.lists(
    st.tuples(
        st.sampled_from("write replay back gone ask promote crash row confirm restart".split()), st.integers(1, 20)
    ),
    max_size=60,
)


@given(STEPS)
def test_a_standby_is_never_known_for_more_of_an_origin_than_it_applied_of_that_life(
    steps: list[tuple[str, int]],
) -> None:
    """A dumb model: the log is a list of (life, end), of which the standby has a prefix. Rows may come late."""
    log, rows = [(1, 10)], {10: Row(1, 1, None, 10, 1, "", None)}
    life, timeline, began, has_row = 1, 1, {1: 10}, True
    mine, started, receiver, of_life, sure = 1, 1, 1, 1, set[tuple[int, int]]()
    timelines, before = {1: 1}, None
    for at, (what, n) in enumerate(steps):
        head = log[-1][1]
        if what == "write":
            log.append((life, head + n))
        elif what in {"promote", "crash"}:
            del log[max(mine, len(log) - n) :]  # what is lost, the standby does not have: only what is flushed is sent
            head = log[-1][1]
            rows = {k: row for k, row in rows.items() if k <= head}
            life, timeline, has_row, of_life = life + 1, timeline + (what == "promote"), False, 0
            timelines[life] = timeline
            began = {of: min(start, head) for of, start in began.items()} | {life: head}
        elif what == "row" and not has_row:
            newest = rows[max(rows)]
            log.append((life, head + 1))
            rows[head + 1] = Row(newest.seq + 1, life, began[newest.origin + 1], head, timeline, "", None)
            has_row = True
        elif what == "replay":
            if not of_life:
                of_life, receiver = life, receiver + 1
            mine = min(len(log), mine + n)
        elif what in {"back", "restart"}:
            mine = max(1, mine - n)
            if what == "restart":
                started, of_life = started + 1, 0
        elif what == "gone":
            of_life = 0
        elif what == "confirm" and has_row and of_life:
            sure.add((receiver, life))  # the primary is found in a life that has its row, after the receiver was seen
        elif what == "ask":
            place = log[mine - 1][1]
            here = tuple(row for k, row in sorted(rows.items()) if k <= place)
            confirmed = not of_life or (receiver, here[-1].origin) in sure
            facts = standby(
                place, timelines[of_life] if of_life else None, *here, receiver=receiver if of_life else None
            )
            facts = attrs.evolve(facts, life=attrs.evolve(STANDBY, started=str(started)))
            now = known(0, facts, before, float(at), confirmed=confirmed)
            for lsn, marks in (
                (place, now.marks),
                (place, at_lsn(0, now, place)),
                (place - 3, at_lsn(0, now, place - 3)),
            ):
                for origin, (upto, end) in marks[0].origins.items():
                    really = max([e for of, e in log[:mine] if of <= origin and e <= max(lsn, 10)], default=10)
                    survives = really if end is None else began.get(origin + 1, really)
                    assert upto <= max(survives, 10), (origin, upto, end)
            if before is not None and (before.life, before.origin) == (now.life, now.origin) and place >= before.lsn:
                assert now.lsn >= before.lsn  # within a life, what is proven never shrinks
            assert doubtful(facts, confirmed=confirmed) or now.lsn == place
            before = now
