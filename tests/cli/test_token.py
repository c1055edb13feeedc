"""`causal token inspect`: what is shown of a token, and what vouches for it."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from causal.cli.main import main
from causal.cli.token import when
from causal.core.frontier import EVERY_STORE, FOREVER, Frontier, Position
from causal.core.keyring import Key
from causal.core.token import Token
from causal.errors import ConfigError, MalformedToken
from causal.keyfile import create_key_file, read_key_file
from causal.keys import Keyring

NOW = int(time.time())
SHARD = 3 << 16 | 2
TOKEN = Token(
    Frontier([Position(SHARD, 7, 123_456_789)]),
    Frontier([Position(SHARD + 1, 7, 5)]),
    expires_at=NOW + 86_400,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    create_key_file(path)
    return path


def keys(file: Path, **settings: Any) -> Keyring:
    return Keyring(read_key_file(file).keys, **settings)


def sealed(file: Path, token: Token = TOKEN, subject: str | None = "alice", **settings: Any) -> str:
    return keys(file, **settings).seal(token, subject=subject, audience="shop")


def inspect(text: str, *argv: object, **how: Any) -> Result:
    return CliRunner().invoke(main, ["token", "inspect", text, *map(str, argv)], **how)


def said(text: str, *argv: object, code: int = 0) -> dict[str, Any]:
    result = inspect(text, *argv, "--json")
    assert result.exit_code == code, result.output
    (line,) = result.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_without_keys_it_says_so_plainly(file: Path) -> None:
    result = inspect(sealed(file))
    assert result.exit_code == 0
    assert result.stdout.startswith("NOT VERIFIED")
    assert "123456789" in result.stdout
    found = said(sealed(file))
    assert (found["verified"], found["subject"], found["audience"]) == (False, None, None)


def test_with_keys_it_says_for_whom_it_opens(file: Path) -> None:
    argv = "--key-file", file, "--audience", "shop", "--subject", "bob", "--subject", "alice"
    found = said(sealed(file), *argv)
    assert (found["verified"], found["subject"], found["audience"]) == (True, "alice", "shop")
    assert (found["profile"], found["characters"]) == ("signed", len(sealed(file)))
    assert found["key"] == read_key_file(file).primary
    claims = found["claims"]
    assert (claims["expires_at"], claims["expired"]) == (TOKEN.expires_at, False)
    places = [tuple(p[n] for n in ("claim", "store", "shard", "origin", "offset")) for p in claims["positions"]]
    assert places == [("own", 3, 2, 7, 123_456_789), ("seen", 3, 3, 7, 5)]
    assert inspect(sealed(file), *argv).stdout.startswith("Verified: sealed for 'alice', audience 'shop'.")


def test_what_own_writes_touched_is_shown(file: Path) -> None:
    own = Frontier([Position(SHARD, 7, 5), Position(9 << 16, 7, 5)])
    text = sealed(file, Token(own, expires_at=NOW + 86_400, touched={3: {0xBEEF, 0x12}, 9: set()}))
    assert said(text)["claims"]["touched"] == [
        {"store": 3, "fingerprints": ["0012", "beef"]},
        {"store": 9, "fingerprints": []},
    ]
    shown = " ".join(inspect(text).stdout.split())
    assert "own writes on store 3 touched at most the cache keys with the fingerprints 0012, beef." in shown
    assert "own writes on store 9 touched no cache key." in shown
    assert said(sealed(file))["claims"]["touched"] == []
    assert "touched" not in inspect(sealed(file)).stdout


def test_anonymous_unless_a_subject_is_given(file: Path) -> None:
    found = said(sealed(file, subject=None), "--key-file", file, "--audience", "shop")
    assert (found["verified"], found["subject"]) == (True, None)
    assert (
        "an anonymous session" in inspect(sealed(file, subject=None), "--key-file", file, "--audience", "shop").stdout
    )


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (("--audience", "shop", "--subject", "bob"), "subject"),
        (("--audience", "bank", "--subject", "alice"), "audience"),
    ],
)
def test_what_does_not_open_is_not_verified(file: Path, argv: tuple[str, ...], why: str) -> None:
    found = said(sealed(file), "--key-file", file, *argv, code=1)
    assert not found["verified"]
    assert why in found["reason"]
    assert inspect(sealed(file), "--key-file", file, *argv).stdout.startswith("NOT VERIFIED")


def test_one_changed_character_is_not_verified(file: Path) -> None:
    text = sealed(file)
    changed = text[:-1] + ("A" if text[-1] != "A" else "Q")
    assert not said(changed, "--key-file", file, "--audience", "shop", "--subject", "alice", code=1)["verified"]


def test_an_unknown_key_is_named(file: Path) -> None:
    absent = (read_key_file(file).primary + 1) % 256
    text = Keyring([Key.generate(absent)]).seal(TOKEN, subject="alice", audience="shop")
    found = said(text, "--key-file", file, "--audience", "shop", "--subject", "alice", code=1)
    assert f"key {absent}" in found["reason"]
    assert found["key"] == absent


def test_keys_from_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEYS", read_key_file(file).keys[0].to_text())
    assert said(sealed(file), "--env", "THE_KEYS", "--audience", "shop", "--subject", "alice")["verified"]


def test_an_expired_token_is_authentic_and_expired(file: Path) -> None:
    old = Token(TOKEN.own, expires_at=NOW - 100)
    found = said(sealed(file, old), "--key-file", file, "--audience", "shop", "--subject", "alice")
    assert (found["verified"], found["claims"]["expired"]) == (True, True)
    assert "ago)" in found["claims"]["expires"]


def test_an_encrypted_token_shows_nothing_without_its_key(file: Path) -> None:
    text = sealed(file, profile="encrypted")
    found = said(text)
    assert (found["profile"], found["claims"]) == ("encrypted", None)
    assert "cannot be shown" in inspect(text).stdout
    opened = said(text, "--key-file", file, "--audience", "shop", "--subject", "alice")
    assert (opened["verified"], opened["profile"]) == (True, "encrypted")
    assert len(opened["claims"]["positions"]) == 2


def test_floors_marks_and_ages(file: Path) -> None:
    seen = Frontier.of({}, {3: 99}).mark(3, NOW + 60, exact=[SHARD], origins=[7]).mark(EVERY_STORE, FOREVER)
    token = Token(TOKEN.own, seen, expires_at=NOW + 86_400, timestamp=NOW * 1000 << 16, ages={SHARD << 32 | 7: 2})
    claims = said(sealed(file, token))["claims"]
    assert claims["floors"] == [{"store": 3, "offset": 99}]
    mark, every = claims["marks"]
    assert (mark["store"], mark["until"], mark["except_shards"], mark["dropped_origins"]) == (3, NOW + 60, [2], [7])
    assert (every["store"], every["until"]) == (None, None)
    assert claims["positions"][0]["expires_at"] == NOW + 86_400 - 7200
    text = inspect(sealed(file, token)).stdout
    for words in (
        "Floor: every origin of store 3, up to 99",
        "of store 3 but 2,",
        "every store, at the leader only, for ever",
        "Expires",
    ):
        assert words in text.replace("\n", " "), words


def test_from_standard_input(file: Path) -> None:
    result = inspect("-", "--json", input=sealed(file) + "\n")
    assert json.loads(result.stdout)["claims"]["positions"][0]["offset"] == 123_456_789
    endless = inspect("-", input=b"\xff" * 10**6)
    assert isinstance(endless.exception, MalformedToken)


@pytest.mark.parametrize("text", ["", "garbage", "x" * 5000, "\udcff"])
def test_what_is_no_token_is_one_error_without_its_text(file: Path, text: str) -> None:
    result = inspect(text)
    assert isinstance(result.exception, MalformedToken)
    assert result.output == ""
    assert not text or text not in str(result.exception)


def test_no_output_shows_a_secret_or_the_token(file: Path) -> None:
    secret = read_key_file(file).keys[0].to_text().partition(":")[2]
    text = sealed(file)
    for argv in ((), ("--key-file", file, "--audience", "shop"), ("--key-file", file, "--audience", "shop", "--json")):
        output = inspect(text, *argv).output
        assert output
        assert secret not in output
        assert text not in output


def test_wrong_usage(file: Path) -> None:
    text = sealed(file)
    assert inspect(text, "--key-file", file).exit_code == 2  # for which audience?
    assert inspect(text, "--key-file", file, "--env", "X", "--audience", "shop").exit_code == 2
    assert isinstance(inspect(text, "--env", "UNSET_KEYS", "--audience", "shop").exception, ConfigError)
    file.chmod(0o644)
    assert isinstance(inspect(text, "--key-file", file, "--audience", "shop").exception, ConfigError)


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (0, "1970-01-01 00:00:00Z (1 h 2 min ago)"),
        (3725, "1970-01-01 01:02:05Z (0 s ago)"),
        (3726, "1970-01-01 01:02:06Z (in 1 s)"),
        (3725 + 2 * 86_400 + 5, "1970-01-03 01:02:10Z (in 2 d 5 s)"),
        (FOREVER, "after the year 9999"),
    ],
)
def test_times_as_people_read_them(at: int, said: str) -> None:
    assert when(at, 3725.0) == said


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "an empty text"),
        ("garbage", "it ends as no token does"),
        ("hello, world", "characters other than letters"),
        ("not a token", "characters other than letters"),
        ("abcde", "5 characters, a length that no token has"),
        ("abcdefgh", "it starts as no token does"),
        ("x" * 5000, "5000 characters, at most 4096"),
    ],
)
def test_what_is_no_token_is_told_why(text: str, why: str) -> None:
    assert str(inspect(text).exception).startswith(f"not a token: {why}")
