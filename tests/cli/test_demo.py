"""`causal demo`: the story is told from what happened, and fails when a promise is broken."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from causal.cli import demo as command
from causal.cli import demo_postgres
from causal.cli.main import main
from causal.errors import CausalError
from causal.lab.postgres.binaries import Binaries, NoBinaries


@pytest.fixture(autouse=True)
def short_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is tested elsewhere: two strategies on a few users are enough to end the story."""
    whole = command.small_trace
    monkeypatch.setattr(command, "STRATEGIES", dict.fromkeys(("token", "eventual")))
    monkeypatch.setattr(command, "small_trace", lambda: whole(users=8, posts=3))


def demo(*argv: str) -> Result:
    return CliRunner().invoke(main, ["demo", *argv])


def told() -> tuple[list[dict[str, Any]], Result]:
    result = demo("--json")
    return [json.loads(line) for line in result.stdout.splitlines()], result


def test_the_story_and_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rows, result = told()
    assert result.exit_code == 0, result.output
    steps = [row for row in rows if "step" in row]
    assert len(steps) == 9
    with_token, fallen_back, refused = steps[2], steps[5], steps[6]
    assert (with_token["found"], with_token["receipt"]["held"]) == ("new.jpg", True)
    assert (fallen_back["found"], fallen_back["receipt"]["endpoint"]) == ("newer.jpg", "eu")
    assert (refused["found"], refused["refused"]) == (None, "GateTimeout")
    assert [row["rejected"] for row in steps[7:]] == ["BadSignature", "BadSignature"]
    assert [row["strategy"] for row in rows if "strategy" in row] == ["token", "eventual"]
    assert rows[-1] == {"held": True, "checked": 9}
    assert list(tmp_path.iterdir()) == []


def test_a_newcomer_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    result = demo()
    assert result.exit_code == 0, result.output
    for words in ("1. alice posts a photo at eu", "receipt: ", "Strategy", "All 9 checks of what was promised held."):
        assert words in result.stdout


def test_a_gate_that_lets_everything_pass_fails_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("causal.claims.Claims.token", lambda self, subject=None: None)
    monkeypatch.setattr(command._Story, "tampered", lambda self, token: None)
    monkeypatch.setattr(
        command, "LAG_S", 10.0
    )  # nobody waits for it here; on a slow machine the usual lag is soon over
    result = demo("--json")
    assert isinstance(result.exception, CausalError)
    assert "with the token, the photo is there" in str(result.exception)
    assert "the order is on the page" in str(result.exception)
    assert "nobody was shown a page that forgets" in str(result.exception)
    assert "checked" not in result.stdout


def test_a_keyring_that_opens_anything_fails_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("causal.core.cose.bind", lambda subject, audience: b"")
    result = demo("--json")
    assert isinstance(result.exception, CausalError)
    assert str(result.exception).endswith("another's token is rejected")


# --- on real servers -----------------------------------------------------------------------------------------------


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The story's own module, with a short table; skips where PostgreSQL is not installed."""
    pytest.importorskip("psycopg")
    try:
        Binaries.find()
    except NoBinaries as missing:
        pytest.skip(str(missing))
    monkeypatch.setattr(demo_postgres, "STRATEGIES", dict.fromkeys(("token", "eventual")))
    monkeypatch.setattr(demo_postgres, "USERS", 4)
    return demo_postgres


def on_postgres() -> tuple[list[dict[str, Any]], Result]:
    result = CliRunner().invoke(main, ["demo", "--engine", "postgres", "--json"])
    return [json.loads(line) for line in result.stdout.splitlines()], result


def test_the_story_on_postgres_ends_with_a_loss_that_is_said(servers: Any) -> None:
    rows, result = on_postgres()
    assert result.exit_code == 0, (result.output, result.exception)
    steps = [row for row in rows if "step" in row]
    assert len(steps) == 13
    with_token, fallen_back, refused = steps[2], steps[5], steps[6]
    assert (with_token["found"], with_token["receipt"]["held"]) == ("new.jpg", True)
    assert (fallen_back["found"], fallen_back["receipt"]["endpoint"]) == ("newer.jpg", "primary")
    assert refused["found"] is None
    assert refused["refused"] in {"GateTimeout", "NoEndpoint"}
    assert [row["rejected"] for row in steps[7:9]] == ["BadSignature", "BadSignature"]
    lost, accepted, again = steps[10:]
    assert (lost["found"], lost["receipt"]["refused"], len(lost["lost"])) == (None, "WriteLost", 1)
    assert (accepted["found"], again["found"]) == ("newer.jpg", "again.jpg")
    assert [row["strategy"] for row in rows if "strategy" in row] == ["token", "eventual"]
    assert rows[-1] == {"held": True, "checked": 12}


def test_on_postgres_a_gate_that_lets_everything_pass_fails_it(servers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("causal.claims.Claims.token", lambda self, subject=None: None)
    monkeypatch.setattr(servers._Story, "tampered", lambda self: None)
    monkeypatch.setattr(servers, "LAG_S", 2.0)  # as above
    _, result = on_postgres()
    assert isinstance(result.exception, CausalError)
    for what in ("the photo is there", "the order is on the page", "nobody was shown", "a write that was lost is said"):
        assert what in str(result.exception)
    assert "checked" not in result.stdout
