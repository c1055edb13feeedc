"""A cache serves only what covers the session's demand, and stores only what its snapshot can answer for."""

from tests.caches.stage import Stage


def test_the_old_row_is_served_to_nobody_who_knows_better() -> None:
    stage = Stage()
    alice, bob = stage.session("alice"), stage.session("bob", "us")
    assert stage.get("us", bob) is None
    assert stage.get("us", bob) is None
    assert [account.outcome for account in stage.accounts] == ["miss", "hit"]
    with stage.stores["eu"].session(subject="alice").write() as tx:
        tx.put("photo", "by nobody's cache")  # nobody tells the cache
    with alice.write() as tx:
        tx.put("photo", "new")
    assert stage.get("us", alice) == "new"
    assert stage.last.outcome == "behind"
    assert stage.last.receipt is not None
    assert stage.last.receipt.endpoint == "eu"
    assert stage.get("us", alice) == "new"
    assert stage.last.outcome == "hit"
    assert stage.get("us", bob) == "new"
