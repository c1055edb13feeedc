"""What a commit does to the cache: after its position is known, and never before."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import Any

import attrs
import pytest

from causal import CommitUnknown, ConfigError, Frontier, Guarantee, Position, Unreachable
from causal.caches import CausalCache
from causal.caches.entry import Entry
from causal.core.frontier import pack
from tests.caches.stage import STALE_S, Stage


@pytest.fixture
def stage() -> Stage:
    return Stage()


def held(stage: Stage, key: str = "photo") -> Any:
    return stage.backend.get(stage.caches["us"].prefix + key)


def said(block: Any) -> list[tuple[str, str]]:
    return [(account.key, account.outcome) for account in block.accounts]


@pytest.mark.parametrize(("guarantees", "says"), [(Guarantee.ALL, False), (Guarantee.READ_YOUR_WRITES, True)], ids=str)
def test_the_token_says_what_was_touched_only_where_a_hit_hangs_on_it(guarantees: Guarantee, says: bool) -> None:
    stage = Stage(guarantees=guarantees)
    alice = stage.session("alice")
    stage.put("eu", alice, "new")
    there = stage.session("alice", "us", alice.token())
    assert there.touches(0, "photo")
    assert there.touches(0, "another") is not says


def test_a_commit_invalidates_its_keys_at_its_position(stage: Stage) -> None:
    alice, bob = stage.session("alice"), stage.session("bob", "us")
    stage.get("us", bob)
    block = stage.caches["eu"].write(alice, "photo", "page", "photo")
    with block as tx:
        tx.put("photo", "new")
        assert held(stage).value is not None  # nothing happens before the commit
        assert block.commit is None
    assert said(block) == [("photo", "invalidated"), ("page", "invalidated")]
    assert block.commit is not None
    assert block.commit.position == Position(0, 1, 1)
    tombstone = held(stage)
    assert tombstone.value is None
    assert dict(tombstone.wm) == {pack(0, 1): 1, pack(0, 2): 0}
    assert dict(held(stage, "page").wm) == {pack(0, 1): 1}
    assert tombstone.fresh_until == stage.now_s + STALE_S + 60
    assert block.receipt.kind == "write"


def test_what_is_there_and_newer_stays(stage: Stage) -> None:
    alice = stage.session("alice")
    block = stage.caches["eu"].write(alice, "photo")
    with block as tx:
        tx.put("photo", "new")
    with alice.write() as tx:
        tx.put("photo", "newer")
    assert stage.get("eu", alice) == "newer"
    assert block.commit is not None
    assert block.commit.position is not None
    (account,) = stage.caches["us"].invalidate(block.commit.position, "photo")  # late news
    assert account.outcome == "known"
    assert held(stage).value is not None
    (account,) = stage.caches["us"].invalidate(Position(0, 1, 3), "photo")
    assert account.outcome == "invalidated"
    assert held(stage).value is None


def test_a_tombstone_counts_until_every_older_read_is_too_old_to_be_stored(stage: Stage) -> None:
    alice, bob = stage.session("alice"), stage.session("bob", "us")
    stage.get("us", bob, "other")
    passed: list[float] = []

    def slow(db: Any) -> Any:
        found = db.get("photo")
        stage.put("eu", alice, "new")
        stage.backend.clear()  # the tombstone is evicted
        stage.pass_s(passed[-1])
        return found

    for seconds, stored in ((STALE_S - 1, True), (STALE_S + 1, False)):
        stage.backend.clear()
        stage.stores["us"].head()
        stage.cluster.catch_up("us")
        stage.stores["us"].head()
        passed.append(seconds)
        stage.caches["us"].get(bob, "photo", slow)
        assert stage.last.stored is stored


def test_rolled_back_is_not_written(stage: Stage) -> None:
    alice, bob = stage.session("alice"), stage.session("bob", "us")
    stage.get("us", bob)
    block = stage.caches["eu"].write(alice, "photo")
    with suppress(ZeroDivisionError), block as tx:
        tx.put("photo", "never")
        block.set("photo", "never")
        raise ZeroDivisionError
    assert not block.accounts
    assert stage.get("us", bob) is None
    assert stage.last.outcome == "hit"


def test_nothing_written_is_nothing_to_tell(stage: Stage) -> None:
    bob = stage.session("bob", "us")
    stage.get("us", bob)
    block = stage.caches["eu"].write(stage.session("alice"), "photo")
    with block:
        pass
    assert said(block) == [("photo", "nothing")]
    stage.get("us", bob)
    assert stage.last.outcome == "hit"


@pytest.mark.parametrize("committed", [True, False])
def test_in_doubt_the_keys_are_removed(stage: Stage, committed: bool) -> None:
    alice, bob = stage.session("alice"), stage.session("bob", "us")
    stage.get("us", bob)
    stage.cluster.lose_answer("eu", committed=committed)
    block = stage.caches["eu"].write(alice, "photo")
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(CommitUnknown))
        tx = stack.enter_context(block)
        tx.put("photo", "perhaps")
        block.set("photo", "perhaps")
    assert said(block) == [("photo", "deleted")]
    assert held(stage) is None
    assert stage.get("us", alice) == ("perhaps" if committed else None)
    assert stage.last.outcome == "bypass"


def test_a_commit_that_fails_removes_them_too(stage: Stage) -> None:
    alice, bob = stage.session("alice"), stage.session("bob", "us")
    stage.get("us", bob)
    block = stage.caches["eu"].write(alice, "photo")
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(Unreachable))
        tx = stack.enter_context(block)
        tx.put("photo", "never")
        stage.cluster.stop("eu")
    assert said(block) == [("photo", "deleted")]


def test_a_position_that_was_not_captured_removes_them(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    append = stage.cluster.append
    monkeypatch.setattr(
        stage.cluster, "append", lambda *args: attrs.evolve(append(*args), position=None, captured=False)
    )
    block = stage.put("eu", stage.session("alice"), "new")
    assert said(block) == [("photo", "deleted")]
    assert "not known" in block.accounts[0].why


# --- written through -----------------------------------------------------------------------------------------------------


def test_a_value_is_written_through_with_all_that_it_hangs_on(stage: Stage) -> None:
    alice, bob, carol = stage.session("alice"), stage.session("bob"), stage.session("carol", "us")
    stage.put("eu", bob, "cause", "other")
    assert stage.get("eu", alice, "other") == "cause"
    block = stage.caches["eu"].write(alice, "photo")
    with block as tx:
        tx.put("photo", {"title": "new"})
        block.set("photo", {"title": "new"})
        assert held(stage) is None
    assert said(block) == [("photo", "written")]
    assert block.accounts[0].stored
    entry = held(stage)
    assert dict(entry.wm) == {pack(0, 1): 2, pack(0, 2): 0}
    assert entry.seen.entries[pack(0, 1)] == 2
    found = stage.get("us", carol)
    assert found == {"title": "new"}
    assert stage.last.outcome == "hit"
    assert carol.seen.entries[pack(0, 1)] == 2
    assert stage.get("us", alice) == {"title": "new"}
    assert stage.last.outcome == "hit"


def test_what_a_transaction_saw_of_other_shards_comes_with_its_value() -> None:
    stage = Stage(shards=("posts", "replies"))
    alice, bob, carol = stage.session("alice"), stage.session("bob"), stage.session("carol", "us")
    stage.stores["us"].head()
    stage.put("eu", alice, "question", "post", shard="posts")
    assert stage.get("eu", bob, "post", shard="posts") == "question"
    block = stage.caches["eu"].write(bob, "reply", shard="replies")
    with block as tx:
        tx.put("reply", "answer")
        block.set("reply", "answer")
    assert stage.get("us", carol, "reply", shard="replies") == "answer"
    assert stage.last.outcome == "hit"
    stage.backend.delete(stage.caches["us"].prefix + "post")
    old = Entry({pack(0, 1): 0, pack(0, 2): 0}, 0, Frontier(), b"\xf6", 1e9)  # of a slow reader
    stage.backend.put(stage.caches["us"].prefix + "post", old)
    assert stage.get("us", carol, "post", shard="posts") == "question"


def test_an_engine_whose_positions_are_not_exact_invalidates_and_says_so(stage: Stage) -> None:
    settings = stage.stores["eu"]._state
    settings.engine.capabilities = attrs.evolve(settings.engine.capabilities, exact=False)  # type: ignore[misc]
    block = stage.caches["eu"].write(stage.session("alice"), "photo")
    with block as tx:
        tx.put("photo", "new")
        block.set("photo", "new")
    assert said(block) == [("photo", "invalidated")]
    assert "past other commits" in block.accounts[0].why
    assert held(stage).value is None


def test_a_leader_that_is_not_shown_to_be_fresh_invalidates(stage: Stage) -> None:
    """It has not heard of the other site for long: what it holds of that site's rows may be older than anybody may be shown."""
    alice = stage.session("alice")
    stage.stores["eu"].head()
    stage.cluster.cut_off("us")
    stage.pass_s(STALE_S + 1)
    block = stage.caches["eu"].write(alice, "photo")
    with block as tx:
        tx.put("photo", "new")
        block.set("photo", "new")
    assert said(block) == [("photo", "invalidated")]
    assert "not shown to be fresh" in block.accounts[0].why


def test_a_value_that_is_refused_is_an_invalidation(stage: Stage) -> None:
    """What is there knows more of the other site, and lacks this write."""
    alice, bob = stage.session("alice"), stage.session("bob", "us")
    stage.stores["eu"].head()
    stage.cluster.pause("eu")
    with bob.write() as tx:
        tx.put("photo", "his")
    assert stage.get("us", bob) == "his"
    block = stage.caches["eu"].write(alice, "photo")
    with block as tx:
        tx.put("photo", "hers")
        block.set("photo", "hers")
    assert said(block) == [("photo", "invalidated")]
    assert dict(held(stage).wm) == {pack(0, 1): 1, pack(0, 2): 1}


def test_only_the_block_s_own_keys_are_written_through(stage: Stage) -> None:
    block = stage.caches["eu"].write(stage.session("alice"), "photo")
    with block:
        with pytest.raises(ConfigError, match="not among"):
            block.set("other", 1)
        block.touch("other")
        block.set("other", 1)
        with pytest.raises(ConfigError, match="encoded"):
            block.set("photo", object())
    assert said(block) == [("photo", "nothing"), ("other", "nothing")]
    with pytest.raises(ConfigError):
        block.touch("late")
    for wrong in ((), ("",)):
        with pytest.raises(ConfigError):
            stage.caches["eu"].write(stage.session("alice"), *wrong)


def test_a_value_that_was_written_through_is_everybody_s_own_copy(stage: Stage) -> None:
    block = stage.caches["eu"].write(stage.session("alice"), "photo")
    value = {"likes": [1]}
    with block as tx:
        tx.put("photo", value)
        block.set("photo", value, ttl_s=10)
        value["likes"].append(2)
    for _ in range(2):
        found = stage.get("us", stage.session("bob", "us"))
        assert found == {"likes": [1]}
        found.clear()
    stage.pass_s(11)
    stage.get("us", stage.session("bob", "us"))
    assert stage.last.outcome == "miss"


# --- writes made elsewhere -----------------------------------------------------------------------------------------------


def test_a_frontier_that_covers_a_write_made_outside(stage: Stage) -> None:
    alice, bob = stage.session("alice"), stage.session("bob", "us")
    stage.get("us", bob)
    with alice.write() as tx:
        tx.put("photo", "new")
    for at in (stage.stores["eu"].position(None), stage.stores["eu"].head()):
        stage.backend.clear()
        (account,) = stage.caches["us"].invalidate(at, "photo")
        assert account.outcome == "invalidated"
        assert held(stage).wm[pack(0, 1)] == 1


def test_a_frontier_of_every_shard_does_not_keep_those_out_that_hang_on_one() -> None:
    stage = Stage(shards=("x", "y"))
    bob = stage.session("bob", "eu")
    for shard in ("x", "y"):
        stage.put("eu", bob, 1, shard, shard=shard)
    stage.caches["eu"].invalidate(stage.stores["eu"].head(), "x")
    assert stage.get("eu", bob, "x", shard="x") == 1
    assert stage.last.stored
    stage.get("eu", bob, "x", shard="x")
    assert stage.last.outcome == "hit"


@pytest.mark.parametrize(
    "at",
    [
        Frontier(),
        Frontier((Position(65536, 1, 5),)),
        Frontier((Position(0, 1, 5),)).mark(0, 2_000_000_000),
        Frontier.of({pack(0, 1): 5}, {0: 3}),
    ],
    ids=["nothing", "another store's", "marked", "folded"],
)
def test_a_frontier_that_says_nothing_exact_removes(stage: Stage, at: Frontier) -> None:
    stage.get("us", stage.session("bob", "us"))
    (account,) = stage.caches["us"].invalidate(at, "photo")
    assert account.outcome == "deleted"
    assert held(stage) is None


def test_what_is_no_position_is_refused(stage: Stage) -> None:
    with pytest.raises(ConfigError):
        stage.caches["us"].invalidate(5, "photo")  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        stage.caches["us"].invalidate(Position(0, 1, 1), "")


def test_the_position_is_known_before_the_cache_hears_of_it(stage: Stage) -> None:
    """A reader who is told of the write by the cache's account can demand it."""
    alice = stage.session("alice")
    known: list[bool] = []
    cache = CausalCache(stage.stores["eu"], stage.backend, on_account=lambda _: known.append(bool(alice.own)))
    with cache.write(alice, "photo") as tx:
        tx.put("photo", "new")
    assert known == [True]
