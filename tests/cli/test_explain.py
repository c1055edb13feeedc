"""`causal explain`: the gate's decision, endpoint by endpoint, without reading or making anything."""

import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner, Result

from causal.cli.main import main
from causal.core.frontier import Frontier, Position
from causal.core.policy import ReadPolicy
from causal.core.token import Token
from causal.errors import ConfigError, GateTimeout
from causal.keyfile import create_key_file
from causal.keys import KeyFile, Keyring
from causal.store import CausalStore
from causal.stores.sqlite import SQLiteEngine


@attrs.frozen
class Shop:
    data: Path
    keys: Path
    token: str
    us: SQLiteEngine

    def explain(self, *argv: object, token: str | None = None) -> Result:
        options = "--data", self.data, "--site", "us", *argv
        return CliRunner().invoke(main, ["explain", token or self.token, *map(str, options)])

    def said(self, *argv: object, token: str | None = None) -> dict[str, Any]:
        result = self.explain(*argv, "--json", token=token)
        assert result.exit_code == 0, result.output
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    @property
    def opened(self) -> tuple[object, ...]:
        return "--key-file", self.keys, "--audience", "shop", "--subject", "alice"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Alice has written at eu; nothing has reached us."""
    create_key_file(tmp_path / "keys.json")
    keys = KeyFile(tmp_path / "keys.json")
    eu, us = (
        SQLiteEngine(tmp_path / "data", site=site, shards=("photos", "orders"), replicate="manual")
        for site in ("eu", "us")
    )
    with CausalStore(eu, keyring=keys, audience="shop") as store, CausalStore(us, keyring=keys, audience="shop"):
        alice = store.session(subject="alice")
        with alice.write(shard="photos") as tx:
            tx.put("photo", "new.jpg")
        token = alice.token()
        assert token is not None
        yield Shop(tmp_path / "data", tmp_path / "keys.json", token, us)


def verdicts(found: dict[str, Any]) -> dict[str, str]:
    return {row["endpoint"]: row["verdict"] for row in found["endpoints"]}


def test_the_site_that_has_it_serves_if_nobody_nearer_is_waited_for(shop: Shop) -> None:
    found = shop.said("--shard", "photos", *shop.opened)
    assert (found["decision"]["decision"], found["decision"]["endpoint"]) == ("wait", "us")
    found = shop.said("--shard", "photos", "--wait", "0", *shop.opened)
    assert found["verified"]
    assert verdicts(found) == {"us": "BEHIND", "eu": "APPLIED"}
    assert [p["own"] for p in found["demand"]] == [True]
    assert (found["decision"]["decision"], found["decision"]["endpoint"]) == ("serve", "eu")
    assert [row["endpoint"] for row in found["endpoints"] if row["chosen"]] == ["eu"]
    assert "Decision: serve at eu" in shop.explain("--shard", "photos", "--wait", "0", *shop.opened).stdout


def test_once_applied_the_own_site_serves(shop: Shop) -> None:
    shop.us.catch_up("us")
    found = shop.said("--shard", "photos", *shop.opened)
    assert verdicts(found) == {"us": "APPLIED", "eu": "APPLIED"}
    assert found["decision"]["endpoint"] == "us"


def test_a_site_that_nothing_shows_to_be_fresh_is_not_waited_on(shop: Shop) -> None:
    shop.us.catch_up("us")
    origin = next(iter(shop.said("--shard", "photos", *shop.opened)["demand"]))["origin"]
    shop.us.cut_off("eu")
    ahead = Token(seen=Frontier([Position(0, origin, 2)]), expires_at=2**34)  # eu is past it, and cannot be asked
    text = KeyFile(shop.keys).seal(ahead, subject="alice", audience="shop")
    found = shop.said("--shard", "photos", "--wait", "0.25", *shop.opened, token=text)
    assert verdicts(found) == {"us": "BEHIND", "eu": "UNREACHABLE"}
    assert found["decision"]["decision"] == "refuse"
    shop.us.rejoin("eu")


def test_an_own_write_past_its_leaders_head_is_lost(shop: Shop) -> None:
    shop.us.catch_up("us")
    origin = next(iter(shop.said("--shard", "photos", *shop.opened)["demand"]))["origin"]
    text = KeyFile(shop.keys).seal(
        Token(Frontier([Position(0, origin, 9)]), expires_at=2**34), subject="alice", audience="shop"
    )
    found = shop.said("--shard", "photos", *shop.opened, token=text)
    assert (found["decision"]["decision"], found["decision"]["error"]) == ("refuse", "lost")
    assert found["decision"]["raises"] == "WriteLost"
    assert len(found["decision"]["lost"]) == 1
    assert verdicts(found) == {"us": "LOST", "eu": "LOST"}
    assert {row["why"] for row in found["endpoints"]} == {"LOST 1 position(s)"}
    assert "Decision: refuse (lost)" in shop.explain("--shard", "photos", *shop.opened, token=text).stdout


def test_a_lost_position_that_was_only_seen_is_named_and_no_longer_demanded(shop: Shop) -> None:
    origin = next(iter(shop.said("--shard", "photos", *shop.opened)["demand"]))["origin"]
    seen = Token(seen=Frontier([Position(0, origin, 9)]), expires_at=2**34)
    text = KeyFile(shop.keys).seal(seen, subject="alice", audience="shop")
    found = shop.said("--shard", "photos", "--wait", "0", *shop.opened, token=text)
    assert len(found["clipped"]) == 1
    assert verdicts(found) == {"us": "BEHIND", "eu": "APPLIED"}  # what is left is judged
    assert (found["decision"]["decision"], found["decision"]["endpoint"]) == ("serve", "eu")
    assert "Lost, but only seen" in shop.explain("--shard", "photos", *shop.opened, token=text).stdout


def test_a_wait_is_followed_to_its_end(shop: Shop) -> None:
    decision = shop.said("--shard", "photos", *shop.opened)["decision"]
    assert (decision["decision"], decision["endpoint"]) == ("wait", "us")
    assert (decision["then"]["how"], decision["then"]["endpoint"]) == ("fallback", "eu")
    said = shop.explain("--shard", "photos", *shop.opened).stdout
    assert "Decision: wait at us: us is behind; for up to" in said
    assert "Then, if nothing changes: serve at eu" in said
    error = shop.said("--shard", "photos", "--then", "error", *shop.opened)["decision"]["then"]
    assert (error["decision"], error["error"], error["raises"]) == ("refuse", "timeout", "GateTimeout")
    stale = shop.said("--shard", "photos", "--then", "stale", *shop.opened)["decision"]["then"]
    assert (stale["how"], stale["endpoint"]) == ("stale", "us")


def test_the_end_is_the_one_of_the_real_read(shop: Shop) -> None:
    text = KeyFile(shop.keys).seal(
        Token(Frontier([Position(0, 1, 9)]), expires_at=2**34), subject="alice", audience="shop"
    )
    said = shop.explain("--shard", "photos", "--wait", "0.25", *shop.opened, token=text).stdout
    after = shop.said("--shard", "photos", "--wait", "0.25", *shop.opened, token=text)["decision"]["then"]
    with (
        CausalStore(shop.us, keyring=KeyFile(shop.keys), audience="shop") as store,
        pytest.raises(GateTimeout, match="no leader covers it"),
        store.session(text, subject="alice").read(shard="photos", policy=ReadPolicy(0.01)),
    ):
        pass
    assert (after["decision"], after["raises"]) == ("refuse", "GateTimeout")
    assert "no leader covers it" in after["why"]
    assert "The read raises GateTimeout" in said


def test_who_covers_and_is_not_used_is_named_with_the_reason(shop: Shop) -> None:
    for then in ("stale", "error"):
        found = shop.said("--shard", "photos", "--wait", "0", "--then", then, *shop.opened)
        assert verdicts(found)["eu"] == "APPLIED"
        assert "eu covers it, but numbers writes" in found["decision"]["why"]
        assert "nobody covers" not in found["decision"]["why"]


def test_what_is_carried_for_other_stores_is_mentioned(shop: Shop) -> None:
    foreign = Token(Frontier([Position(5 << 16 | 1, 7, 9)]), expires_at=2**34)
    text = KeyFile(shop.keys).seal(foreign, subject="alice", audience="shop")
    found = shop.said("--shard", "photos", *shop.opened, token=text)
    assert found["demand"] == []
    assert found["carried"] == [{"store": 5, "shard": 1, "origin": 7, "offset": 9, "own": True}]
    # Nothing is demanded, so nothing is lacking: what speaks against us is that nothing shows it to be fresh.
    assert verdicts(found)["us"] == "APPLIED"
    assert "us is not shown to be less than 900 s stale" in found["decision"]["why"]
    said = shop.explain("--shard", "photos", *shop.opened, token=text).stdout
    assert "Carried: 1 position of other stores (5)" in said
    assert "us is behind" not in said


def test_nobody_who_can_be_asked_covers_it(shop: Shop) -> None:
    shop.us.cut_off("eu")
    found = shop.said("--shard", "photos", "--then", "error", *shop.opened)
    assert verdicts(found) == {"us": "BEHIND", "eu": "UNREACHABLE"}
    assert found["decision"]["decision"] == "refuse"
    stale = shop.said("--shard", "photos", "--wait", "0", "--then", "stale", *shop.opened)
    assert (stale["decision"]["how"], stale["decision"]["endpoint"]) == ("stale", "us")


def test_an_origin_that_nobody_knows(shop: Shop) -> None:
    text = KeyFile(shop.keys).seal(
        Token(Frontier([Position(0, 1, 9)]), expires_at=2**34), subject="alice", audience="shop"
    )
    found = shop.said("--shard", "photos", *shop.opened, token=text)
    assert set(verdicts(found).values()) == {"UNKNOWN"}
    assert (found["decision"]["decision"], found["decision"]["endpoint"]) == ("wait", "us")  # it may yet hear of it
    at_once = shop.said("--shard", "photos", "--wait", "0", *shop.opened, token=text)
    assert at_once["decision"]["decision"] == "refuse"


def test_another_subjects_token_means_the_leader(shop: Shop) -> None:
    found = shop.said("--shard", "photos", "--key-file", shop.keys, "--audience", "shop", "--subject", "bob")
    assert not found["verified"]
    assert found["demand"] == []
    assert found["leader_only"] == ["orders", "photos"]
    assert (found["decision"]["how"], found["decision"]["endpoint"]) == ("leader", "eu")


def test_without_keys_the_claims_are_taken_as_they_stand(shop: Shop) -> None:
    found = shop.said("--shard", "photos")
    assert not found["verified"]
    assert len(found["demand"]) == 1
    assert "NOT VERIFIED" in shop.explain("--shard", "photos").stdout


def test_an_encrypted_token_needs_keys(shop: Shop) -> None:
    text = KeyFile(shop.keys, profile="encrypted").seal(
        Token(Frontier([Position(0, 1, 9)]), expires_at=2**34), subject="alice", audience="shop"
    )
    result = shop.explain("--shard", "photos", token=text)
    assert isinstance(result.exception, ConfigError)
    assert "encrypted" in str(result.exception)


def test_it_reads_no_data_and_applies_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("data was read, or replicated")

    monkeypatch.setattr("causal.stores.sqlite.link.SQLiteLink.read", forbidden)
    monkeypatch.setattr("causal.stores.sqlite.link.SQLiteLink.write", forbidden)
    monkeypatch.setattr("causal.stores.sqlite.link.SQLiteLink.step", forbidden)
    shop.said("--shard", "photos", *shop.opened)
    assert verdicts(shop.said("--shard", "photos", *shop.opened))["us"] == "BEHIND"


def test_looking_makes_no_store_site_or_shard(shop: Shop, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    before = sorted(path.name for path in shop.data.iterdir())
    for argv in (("--site", "mars"), ("--shard", "tips"), ()):  # without a shard: there are two
        result = shop.explain(*argv)
        assert isinstance(result.exception, ConfigError), result.output
    assert sorted(path.name for path in shop.data.iterdir()) == before
    result = CliRunner().invoke(main, ["explain", shop.token, "--data", str(empty), "--site", "us"])
    assert isinstance(result.exception, ConfigError)
    assert list(empty.iterdir()) == []


def test_not_a_byte_of_the_directory_changes(tmp_path: Path) -> None:
    """Not even of one that was copied under a running process, where opening a site would end its origin."""
    data, copy = tmp_path / "data", tmp_path / "copy"
    eu, us = (SQLiteEngine(data, site=site, replicate="manual") for site in ("eu", "us"))
    keys = Keyring.generate()
    with CausalStore(eu, keyring=keys, audience="shop") as store, CausalStore(us, keyring=keys, audience="shop"):
        alice = store.session(subject="alice")
        with alice.write() as tx:
            tx.put("photo", "new.jpg")
        token = alice.token()
        shutil.copytree(data, copy, ignore=shutil.ignore_patterns("*-shm"))
    for path in (data, copy):
        before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in path.iterdir()}
        result = CliRunner().invoke(main, ["explain", str(token), "--data", str(path), "--site", "us", "--json"])
        assert result.exit_code == 0, result.output
        assert verdicts(json.loads(result.stdout)) == {"us": "BEHIND", "eu": "APPLIED"}
        assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in path.iterdir()} == before


def test_the_time_that_asking_takes_is_none_of_the_reads(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a slow machine would be told another decision."""
    seconds = itertools.count()
    monkeypatch.setattr("causal.cli.explain.suspend_aware_monotonic", lambda: float(next(seconds)))
    assert shop.said("--shard", "photos", *shop.opened)["decision"]["for_s"] == 0.1
