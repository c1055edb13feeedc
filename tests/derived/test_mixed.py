"""Mixed pages: what a session changed is in its own page at once, as if the index had it, and in nobody else's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from causal import (
    AsyncCausalStore,
    CausalStore,
    ConfigError,
    GateTimeout,
    Keyring,
    NoEndpoint,
    Overloaded,
    ReadPolicy,
)
from causal.derived import Page, amixed, mixed
from causal.derived.fts.reader import IndexSnapshot
from tests.derived.shelf import AT_ONCE, KEYS, TO_LEADER, Shelf, delete, found, keys, put, shelf

__all__ = ["shelf"]
TEXT = {
    "1": "coffee coffee coffee and nothing else",
    "2": "a long text in which there is some coffee besides much that is not",
    "3": "coffee, briefly",
    "4": "tea, which is no coffee, although some say coffee",
}


def mix(shelf: Shelf, session: Any, text: str = "coffee", **how: Any) -> Page:
    return mixed(session, shelf.search, shelf.eu, text, **how)


def shown(page: Page) -> list[tuple[str, Any, float]]:
    return [(hit.key, hit.document, hit.rank) for hit in page.hits]


@pytest.fixture
def behind(shelf: Shelf) -> tuple[Shelf, Any]:
    """An index with four posts, and a session that has changed three of them since, and added one."""
    bob, alice = shelf.eu.session(), shelf.eu.session()
    for n, (key, text) in enumerate(TEXT.items()):
        put(bob, key, f"post {key}", text=text, created=n)
    shelf.feed()
    put(alice, "5", "my own post", text="coffee at last", created=9)
    put(alice, "2", "corrected", text="coffee coffee", created=8)
    put(alice, "4", "no more of it", text="tea", created=7)
    delete(alice, "1")
    return shelf, alice


@pytest.mark.parametrize("order", ["rank", "created", "-created"])
@pytest.mark.parametrize(("limit", "offset"), [(20, 0), (2, 0), (2, 1), (1, 2), (0, 0), (5, 9)])
def test_a_mixed_page_is_the_page_of_an_index_that_has_caught_up(
    behind: tuple[Shelf, Any], order: str, limit: int, offset: int
) -> None:
    shelf, alice = behind
    how: dict[str, Any] = {"order": order, "limit": limit, "offset": offset}
    page = mix(shelf, alice, **how)
    assert {key: how for (_, key), how in page.overlaid.items()} == {
        "post/1": "removed",
        "post/2": "corrected",
        "post/4": "corrected",
        "post/5": "added",
    }
    shelf.feed()
    after = mix(shelf, alice, **how)
    assert (after.overlaid, after.source) == ({}, ())
    assert shown(page) == shown(after)
    assert page.total == after.total == 3


def test_its_account_says_what_was_taken_from_where(behind: tuple[Shelf, Any]) -> None:
    shelf, alice = behind
    page = mix(shelf, alice)
    assert (page.index.endpoint, [one.endpoint for one in page.source]) == ("search", ["eu"])
    assert all(one.held for one in page.source)
    assert str(page) == "3 of 3 from search; 1 added, 2 corrected, 1 removed from eu"
    shelf.feed()
    assert str(mix(shelf, alice)) == "3 of 3 from search, which has all that is demanded"


def test_nobody_else_sees_it_and_nothing_stays(behind: tuple[Shelf, Any]) -> None:
    shelf, alice = behind
    mix(shelf, alice)
    assert found(shelf.eu.session(), shelf.search, policy=ReadPolicy.eventual()) == ["1", "2", "3", "4"]
    assert keys(mix(shelf, shelf.eu.session(), order="created").hits) == ["1", "2", "3", "4"]
    assert shelf.feed() == 4
    assert found(alice, shelf.search) == ["2", "3", "4", "5"]


def test_what_nobody_demands_stays_as_the_index_has_it(behind: tuple[Shelf, Any]) -> None:
    shelf, alice = behind
    put(shelf.eu.session(), "6", "later", text="coffee")
    assert sorted(keys(mix(shelf, alice).hits)) == ["2", "3", "5"]


def test_what_the_session_saw_counts_as_what_it_wrote(behind: tuple[Shelf, Any]) -> None:
    shelf, alice = behind
    bob = shelf.eu.session()
    put(alice, "6", "later", text="coffee")
    with bob.read() as db:
        assert db.get("post/6")
    assert "6" in keys(mix(shelf, bob).hits)


def test_what_a_page_shows_no_later_read_forgets(shelf: Shelf) -> None:
    alice, bob = shelf.eu.session(), shelf.eu.session()
    put(bob, "1", "coffee")
    shelf.feed()
    put(bob, "1", "coffee without")
    put(alice, "2", "coffee")
    page = mix(shelf, alice, order="created")
    assert [hit.document["title"] for hit in page.hits] == [
        "coffee without",
        "coffee",
    ]  # what lies before it came along
    carol = shelf.us.session(alice.token())
    with (block := carol.read(policy=TO_LEADER)) as db:
        assert db.get("post/1") == {"title": "coffee without"}
    assert block.receipt.endpoint == "eu"


def test_what_the_index_shows_the_source_is_to_have_too(shelf: Shelf) -> None:
    """The index of eu has what us lacks: a page that is corrected from us must not go back behind it."""
    bob, alice = shelf.eu.session(), shelf.us.session()
    shelf.replicate()
    put(bob, "1", "coffee")
    shelf.feed()
    put(alice, "2", "coffee")
    with pytest.raises(GateTimeout, match="us: BEHIND 1"):
        mixed(alice, shelf.search, shelf.us, "coffee", policy=TO_LEADER)
    shelf.engines["eu"].catch_up("us")
    page = mixed(alice, shelf.search, shelf.us, "coffee", policy=TO_LEADER)
    assert sorted(keys(page.hits)) == ["1", "2"]


def test_a_source_that_lacks_what_is_demanded_corrects_nothing(behind: tuple[Shelf, Any]) -> None:
    shelf, alice = behind
    session = shelf.us.session(alice.token())
    with pytest.raises(GateTimeout):
        mixed(session, shelf.search, shelf.us, "coffee")
    page = mixed(session, shelf.search, shelf.us, "coffee", policy=TO_LEADER)
    assert page.source[0].endpoint == "eu"
    assert sorted(keys(page.hits)) == ["2", "3", "5"]


@pytest.mark.parametrize("collected", [1, 4])
def test_what_was_removed_and_collected_is_removed(shelf: Shelf, collected: int) -> None:
    alice = shelf.eu.session()
    for key, text in TEXT.items():
        put(alice, key, "post", text=text)
    shelf.feed()
    delete(alice, "1")
    put(alice, "3", "post", text="tea")
    shelf.replicate()
    for _ in range(collected):
        for engine in shelf.engines.values():
            engine.collect()
        shelf.replicate()
    page = mix(shelf, alice)
    assert sorted(keys(page.hits)) == ["2", "4"]
    assert {key: how for (_, key), how in page.overlaid.items()} == {"post/1": "removed", "post/3": "corrected"}


def test_inside_a_write_block_the_page_has_what_was_written_so_far(shelf: Shelf) -> None:
    alice = shelf.eu.session()
    put(alice, "1", "coffee")
    shelf.feed()
    with contextlib.suppress(KeyError), alice.write() as tx:
        tx.put("post/2", {"title": "coffee"})
        tx.delete("post/1")
        assert keys(mix(shelf, alice).hits) == ["2"]
        raise KeyError
    assert keys(mix(shelf, alice).hits) == ["1"]


def test_an_index_of_several_shards_is_corrected_in_each(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, shards=("posts", "replies"))
    with shelf.stack:
        alice = shelf.eu.session()
        shelf.feed()
        put(alice, "1", "coffee", shard="posts")
        put(alice, "1", "coffee too", shard="replies")
        page = mix(shelf, alice, order="created")
        assert [(hit.shard, hit.key) for hit in page.hits] == [("posts", "post/1"), ("replies", "post/1")]
        assert len(page.source) == 2
        assert keys(mix(shelf, alice, shard="replies").hits) == ["1"]


def test_too_much_to_look_up_is_refused(behind: tuple[Shelf, Any]) -> None:
    shelf, alice = behind
    assert mix(shelf, alice, most=4).hits
    with pytest.raises(Overloaded, match="more than 3"):
        mix(shelf, alice, most=3)


def test_the_caller_may_name_the_keys(behind: tuple[Shelf, Any]) -> None:
    shelf, alice = behind

    def recent(db: Any) -> list[str]:
        return [key for key, value in db.scan("post/") if value["created"] > 7]

    page = mix(shelf, alice, recent=recent)  # each hit is looked up besides
    assert ("main", "post/3") not in page.overlaid  # looked up, and as it was
    assert sorted(keys(page.hits)) == ["2", "3", "5"]
    assert page.total == 3
    with pytest.raises(ConfigError, match="not a tuple"):
        mix(shelf, alice, recent=lambda db: [("post/1",)])


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_page_whose_rows_are_gone_is_filled_with_the_next(shelf: Shelf, limit: int) -> None:
    alice = shelf.eu.session()
    for n in range(8):
        put(alice, str(n), "coffee", created=n)
    shelf.feed()
    for n in range(5):
        delete(alice, str(n))
    page = mix(shelf, alice, order="created", limit=limit, recent=lambda db: [])
    assert keys(page.hits) == ["5", "6", "7"][:limit]


def test_an_index_that_is_too_old_for_everybody_is_not_served(behind: tuple[Shelf, Any]) -> None:
    shelf, alice = behind
    shelf.now += 901
    with pytest.raises(NoEndpoint, match="900 s stale"):
        mix(shelf, alice)
    page = mix(shelf, alice, lag=ReadPolicy.eventual())
    assert sorted(keys(page.hits)) == ["2", "3", "5"]
    assert page.index.how == "eventual"


def test_after_a_token_that_could_not_be_opened_everything_counts_as_demanded(behind: tuple[Shelf, Any]) -> None:
    shelf, _ = behind
    other = CausalStore(shelf.engines["eu"], keyring=Keyring.generate(), audience="shop")
    foreign = other.session()
    put(foreign, "6", "later", text="coffee")
    other.close()
    session = shelf.eu.session(foreign.token())
    assert session.rejected
    assert sorted(keys(mix(shelf, session).hits)) == ["2", "3", "5", "6"]


def test_a_page_is_not_corrected_from_a_source_that_is_behind_the_index(
    behind: tuple[Shelf, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index is fed, with what a moderator did, after the source's snapshot was taken, and before the page is."""
    shelf, alice = behind
    again: Callable[[IndexSnapshot], IndexSnapshot] = IndexSnapshot.again
    moves = [lambda: delete(shelf.eu.session(), "5"), lambda: put(shelf.eu.session(), "3", "tea")]

    def fed_first(snapshot: IndexSnapshot) -> IndexSnapshot:
        if moves:
            moves.pop()()
            put(alice, "2", "corrected", text="coffee coffee")  # of which the index stays short
            with shelf.derived.feeding() as feeding:
                feeding.step()
            put(alice, "7", "coffee, too")
        return again(snapshot)

    monkeypatch.setattr(IndexSnapshot, "again", fed_first)
    page = mix(shelf, alice)
    assert not moves
    assert sorted(keys(page.hits)) == ["2", "7"]


@pytest.mark.parametrize("always", [True, False])
def test_an_index_that_never_stands_still_waits_for_a_page_in_the_end(
    behind: tuple[Shelf, Any], monkeypatch: pytest.MonkeyPatch, always: bool
) -> None:
    shelf, alice = behind
    again: Callable[[IndexSnapshot], IndexSnapshot] = IndexSnapshot.again

    def fed_first(snapshot: IndexSnapshot) -> IndexSnapshot:
        put(shelf.eu.session(), "3", "coffee", text="coffee")
        with shelf.derived.feeding() as feeding:
            feeding.step()
        put(alice, "7", "coffee, too")
        return again(snapshot)

    monkeypatch.setattr(IndexSnapshot, "again", fed_first)
    assert sorted(keys(mix(shelf, alice).hits)) == ["2", "3", "5", "7"]


def test_what_is_no_index_of_this_source_is_refused(shelf: Shelf) -> None:
    alice = shelf.eu.session()
    shelf.feed()
    with pytest.raises(ConfigError, match="DerivedEngine"):
        mixed(alice, shelf.eu, shelf.eu)
    with pytest.raises(ConfigError, match="one number"):
        mixed(alice, shelf.search, shelf.store(shelf.engines["eu"], number=3))
    put(alice, "1", "coffee")

    async def later(db: Any) -> list[str]:
        await asyncio.sleep(0)
        return []

    with pytest.raises(ConfigError, match="amixed"):
        mix(shelf, alice, recent=later)


def test_in_a_loop_it_is_the_same(behind: tuple[Shelf, Any]) -> None:
    shelf, alice = behind

    async def main() -> list[Page]:
        async with (
            AsyncCausalStore(shelf.engines["eu"], keyring=KEYS, audience="shop", policy=AT_ONCE) as store,
            AsyncCausalStore(shelf.derived, keyring=KEYS, audience="shop", policy=AT_ONCE) as search,
        ):
            session = store.session(alice.token())
            lag = ReadPolicy.eventual()  # opened after the writes: it never knew a head that the index has

            async def recent(db: Any) -> list[str]:
                return ["post/5", "post/2"]

            return [
                await amixed(session, search, store, "coffee", lag=lag),
                await amixed(session, search, store, "coffee", lag=lag, recent=recent),
                await amixed(session, search, store, "coffee", lag=lag, recent=lambda db: ["post/5", "post/2"]),
            ]

    page = mix(shelf, alice)
    for other in asyncio.run(main()):
        assert shown(other)[0][0] == shown(page)[0][0]
        assert sorted(keys(other.hits)) == sorted(keys(page.hits))
