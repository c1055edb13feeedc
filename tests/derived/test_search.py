"""Searching: what a page holds, in which order, and what is no query."""

from __future__ import annotations

from typing import Any

import pytest

from causal import ConfigError, ReadPolicy, StoreError
from causal.derived.fts.reader import words
from tests.derived.shelf import Shelf, keys, put, shelf

__all__ = ["shelf"]


@pytest.fixture
def index(shelf: Shelf) -> Any:
    alice = shelf.eu.session()
    for n, title in enumerate(["red apple", "green apple apple", "red pear", 'a "quoted" pear', "naïve Äpfel"]):
        put(alice, str(n), title, created=None if n == 3 else 10 - n)
    shelf.feed()
    with alice.read(shelf.search) as reader:
        yield reader


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("apple", ["1", "0"]),
        ("APPLE red", ["0"]),
        ("pear", ["2", "3"]),
        ("apple pear", []),
        ("naive", ["4"]),
        ("äpfel", ["4"]),
        ('"quoted"', ["3"]),
        ("quoted* OR apple", []),
        ("apple\0", ["1", "0"]),
        ("'; DROP TABLE document_1 --", []),
        ("++", []),
        ("\ud800", []),
        ("", ["0", "1", "2", "3", "4"]),
        ("  ", ["0", "1", "2", "3", "4"]),
    ],
)
def test_what_somebody_types_is_looked_for_word_by_word(index: Any, text: str, expected: list[str]) -> None:
    found = keys(index.search(text))
    assert (found if text != "pear" else sorted(found)) == expected
    assert index.count(text) == len(expected)


def test_pages_are_in_order_and_do_not_overlap(index: Any) -> None:
    assert keys(index.search(order="created")) == ["3", "4", "2", "1", "0"]
    assert keys(index.search(order="-created")) == ["0", "1", "2", "4", "3"]
    pages = [keys(index.search(order="created", limit=2, offset=at)) for at in (0, 2, 4, 6)]
    assert pages == [["3", "4"], ["2", "1"], ["0"], []]
    assert keys(index.search(match="title: (red OR green) NOT pear")) == ["1", "0"]
    assert list(index.keys()) == [f"post/{n}" for n in range(5)]
    assert index.get("post/1")["title"] == "green apple apple"
    assert index.get("post/9") is None


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ({"match": "title: ("}, "no query"),
        ({"match": "nowhere: x"}, "no query"),
        ({"match": '"'}, "no query"),
        ({"order": "title"}, "no order"),
        ({"order": "created; DROP"}, "no order"),
        ({"limit": -1}, "limit"),
        ({"offset": "1"}, "offset"),
        ({"limit": True}, "limit"),
        ({"shard": "nowhere"}, "no shard"),
        ({"match": "\ud800"}, "cannot be asked"),
        ({"offset": 2**63}, "cannot be asked"),
    ],
)
def test_what_is_no_query_is_said(index: Any, how: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        index.search(**how)
    assert index.count("apple") == 2  # the block goes on


def test_a_key_that_no_row_can_have_is_said(index: Any) -> None:
    with pytest.raises(ConfigError, match="cannot be asked"):
        index.get("\ud800")


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_a_number_that_no_column_holds_is_said(shelf: Shelf, number: int) -> None:
    put(shelf.eu.session(), "1", "apple", created=number)
    with pytest.raises(ConfigError, match="64 bits"):
        shelf.feed()


def test_a_block_that_has_ended_shows_nothing(shelf: Shelf) -> None:
    shelf.feed()
    with shelf.eu.session().read(shelf.search, policy=ReadPolicy.eventual()) as reader:
        pass
    with pytest.raises(StoreError, match="ended"):
        reader.search("apple")


def test_words() -> None:
    assert words('say "hi" NOT a:b*') == '"say" """hi""" "NOT" "a:b*"'


def test_a_closed_link_answers_nothing(shelf: Shelf) -> None:
    put(shelf.eu.session(subject="alice"), "a", "one")
    shelf.feed()
    link = shelf.derived.open()
    link.close()
    for ask in (lambda: link.probe("search", 1.0), lambda: link.read("search", (0,))):
        with pytest.raises(ConfigError):
            ask()
