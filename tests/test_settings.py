"""A setting that cannot be right is refused where it is given, before anything was written with it."""

from typing import Any

import pytest

from causal import AsyncCausalStore, CausalStore, ConfigError, Frontier, Guarantee, Limits, ReadPolicy
from tests.fake_engine import KEYS, Time, near_and_far

WRONG: list[tuple[str, list[Any]]] = [
    ("keyring", ["secret", None, KEYS.seal]),
    ("policy", [None, "leader", ReadPolicy.leader]),
    ("limits", [None, 5]),
    ("guarantees", [None, 5, "ALL"]),
    ("on_receipt", [5, "print"]),
    ("audience", [5, None, "", b"shop", "\ud800"]),
    ("number", [None, 1.0, True, "1", -1, 65_535]),
    ("token_ttl_s", [None, "1", True, float("nan"), float("inf")]),
    ("max_staleness_s", [None, "1", True, 0, float("nan"), float("inf")]),
    ("max_clock_skew_s", [None, "1", True, -1, float("nan"), float("inf")]),
    ("max_token_chars", [None, 100.0, True, 31, 4097]),
    ("monotonic", [None, 5]),
    ("wall", [None, 5]),
    ("sleep", [None, 5]),
]


@pytest.mark.parametrize("kind", [CausalStore, AsyncCausalStore])
@pytest.mark.parametrize(("name", "values"), WRONG, ids=[name for name, _ in WRONG])
def test_a_store_refuses_it(kind: Any, name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ConfigError, match=name) as caught:
            kind(near_and_far(), **{"keyring": KEYS, "audience": "shop", name: value})
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("kind", [CausalStore, AsyncCausalStore])
def test_what_is_no_setting_is_said_of_the_store(kind: Any) -> None:
    for name in ("polcy", "view", "lock"):
        with pytest.raises(TypeError, match=f"^{kind.__name__} has no setting '{name}'$"):
            kind(near_and_far(), keyring=KEYS, audience="shop", **{name: None})
    with pytest.raises(TypeError, match=f"^{kind.__name__} needs audience and keyring$"):
        kind(near_and_far())
    with pytest.raises(TypeError, match=f"^{kind.__name__} needs keyring$"):
        kind(near_and_far(), audience="shop")


@pytest.mark.parametrize("subject", [5, b"alice", "\ud800", ("alice",)])
def test_a_subject_is_text(subject: Any) -> None:
    time = Time()
    for store in (time.store(near_and_far()), time.async_store(near_and_far())):
        with pytest.raises(ConfigError, match="subject"):
            store.session(subject=subject)
        session = store.session(subject="zoë")
        session.join(Frontier().advance(shard=0, offset=1))
        before = session.token()
        with pytest.raises(ConfigError, match="subject"):
            session.rebind(subject)
        assert session.subject == "zoë"
        assert session.token() == before
        session.rebind(None)
        assert session.token()


@pytest.mark.parametrize("policy", ["leader", 0, False, ReadPolicy.leader])
def test_a_blocks_policy_is_one(policy: Any) -> None:
    engine = near_and_far()
    session = Time().store(engine).session()
    with pytest.raises(ConfigError, match="policy"), session.read(policy=policy):
        pass
    with pytest.raises(ConfigError, match="policy"), session.write(), session.read(policy=policy):
        pass
    with pytest.raises(ConfigError, match="policy"):
        session.route(policy=policy)
    assert not engine.open_handles


@pytest.mark.parametrize("shard", [5, ["main"], "other"])
def test_a_shard_is_named_by_one_of_the_names(shard: Any) -> None:
    with pytest.raises(ConfigError, match="there are main"), Time().store(near_and_far()).session().read(shard=shard):
        pass


def test_all_settings_together_are_taken() -> None:
    time = Time()
    store = time.store(
        near_and_far(),
        number=65_534,
        policy=ReadPolicy.leader(),
        guarantees=Guarantee.NONE,
        token_ttl_s=1000,
        max_staleness_s=10,
        max_clock_skew_s=0,
        max_token_chars=32,
        limits=Limits(),
        on_receipt=print,
    )
    assert store.shards == {"main": 65_534 << 16}
