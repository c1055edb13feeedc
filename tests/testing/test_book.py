"""What the machine's book lets pass, and what it does not: where a writer of what is lost was not told."""

from __future__ import annotations

import pytest

from causal.core.position import Position
from causal.testing.acts import writing
from causal.testing.book import Book
from tests.testing.test_store_machine import Machine

NOTHING = frozenset[int]()


def lost(book: Book, key: str, value: str | None, known: frozenset[int] = NOTHING) -> frozenset[int]:
    """Write what lies past the end of its history, once that is said."""
    own = book.write("main", {key: value}, known) - known
    book.places.update(dict.fromkeys(own, Position(0, 1, 1)))
    return own


def test_who_has_lost_a_write_is_told_before_anything_older_or_newer_is_shown() -> None:
    book = Book()
    before = book.write("main", {"a": "old"}, NOTHING)
    own = lost(book, "a", "mine", before)
    book.ended(Position(0, 1, 0))
    book.write("main", {"a": "new"}, before)
    for shown in (None, "old", "new"):
        with pytest.raises(
            AssertionError, match=r"main\.a = 'mine' is lost, and its writer was shown .* and never told"
        ):
            book.must_be_told("main", {"a": shown}, own)
    book.must_be_told("main", {"a": "mine"}, own)  # by a server that has not heard of it


@pytest.mark.parametrize("winner", ["theirs", None])
def test_a_server_that_has_not_heard_of_a_loss_may_show_what_won_against_the_lost_write(winner: str | None) -> None:
    """Of two that knew nothing of each other, one was lost: where both are still held, the other may be shown."""
    book = Book()
    theirs = book.write("main", {"a": winner}, NOTHING)
    own = lost(book, "a", "mine")
    book.ended(Position(0, 1, 0))
    book.must_be_told("main", {"a": winner}, own)
    book.write("main", {"a": "new"}, theirs)
    book.ended(Position(0, 1, 0))  # it is said again
    with pytest.raises(AssertionError, match="never told"):
        book.must_be_told("main", {"a": "new"}, own)


def test_what_the_lost_write_won_against_before_does_not_come_back_in_silence() -> None:
    book = Book()
    theirs = book.write("main", {"a": "theirs"}, NOTHING)
    own = lost(book, "a", "mine")
    book.read("main", {"a": "mine"}, theirs)
    book.ended(Position(0, 1, 0))
    with pytest.raises(AssertionError, match="never told"):
        book.must_be_told("main", {"a": "theirs"}, own)


def test_what_fails_says_what_was_demanded_and_what_the_endpoints_held() -> None:
    machine = Machine()
    machine.begin(median_s=0.0, seed=0, max_token_chars=512)
    try:
        visit = machine._come("alice", "eu", [])
        machine._carry_out(writing("main", {"a": "v"}, looks=False, drafts=False, abandons=False), visit, lambda: None)
        machine.book.ended(Position(7, 1, 3))
        with pytest.raises(AssertionError, match=r"nothing was shown to someone who knew main\.a = 'v'") as caught:
            machine._judge("main", {"a": None}, visit)
        (note,) = caught.value.__notes__
    finally:
        machine.clients = ()  # nobody reads again
        machine.teardown()
    (place,) = visit.sessions[0].own
    assert f"alice demands own Frontier({place}), seen Frontier()" in note
    held = note.partition("; the store knows: eu has applied Frontier(")[2]
    assert str(place) in held.partition(", leads")[0]
    assert "fail_over() has returned the ends {(7, 1): 3}" in note
