"""`causal keys`: a rotation as an operator does it, and what it says when it cannot."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from causal.cli.main import main
from causal.core.token import Token
from causal.errors import ConfigError, UnknownKey
from causal.keyfile import read_key_file
from causal.keys import KeyFile


def causal(*argv: str | Path) -> Result:
    return CliRunner().invoke(main, ["keys", *map(str, argv)])


def said(*argv: str | Path) -> list[dict[str, Any]]:
    done = causal(*argv, "--json")
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.output.splitlines()]


def refused(*argv: str | Path) -> str:
    done = causal(*argv)
    assert isinstance(done.exception, ConfigError), done.output
    assert done.output == ""
    return str(done.exception)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    assert causal("new", path).exit_code == 0
    return path


def test_a_new_file_is_its_owners_alone(file: Path) -> None:
    assert os.stat(file).st_mode & 0o777 == 0o600
    assert [row["seals"] for row in said("list", file)] == [True]


def test_new_replaces_nothing(file: Path) -> None:
    before = file.read_bytes()
    assert "exists already" in refused("new", file)
    assert file.read_bytes() == before


def test_a_rotation(file: Path) -> None:
    def sealed() -> str:
        return KeyFile(file).seal(Token(expires_at=2_000_000_000), subject="alice", audience="shop")

    def opens(text: str) -> bool:
        try:
            KeyFile(file).open(text, subject="alice", audience="shop", now=1_000_000_000)
        except UnknownKey:
            return False
        return True

    (first,) = (row["id"] for row in said("list", file))
    old = sealed()
    (added,) = said("add", file)
    second = added["id"]
    assert not added["seals"]
    assert sealed() == old  # the first step only opens
    assert "primary" in refused("drop", file, str(first))

    (promoted,) = said("promote", file, str(second))
    assert (promoted["id"], promoted["seals"]) == (second, True)
    new = sealed()
    assert new != old
    assert opens(old)
    assert opens(new)

    assert said("drop", file, str(first)) == [{"id": first, "dropped": True}]
    assert not opens(old)
    assert opens(new)
    assert [(row["id"], row["seals"]) for row in said("list", file)] == [(second, True)]


def test_add_says_the_command_that_comes_next(file: Path) -> None:
    command = causal("add", file).output.strip().partition("causal keys ")[2]
    assert causal(*command.split()).exit_code == 0
    assert read_key_file(file).primary == int(command.split()[-1])


def test_no_output_shows_a_secret(file: Path) -> None:
    secrets: set[str] = set()

    def shown(*argv: str) -> str:
        before = read_key_file(file).keys
        done = causal(argv[0], file, *argv[1:])
        secrets.update(key.to_text().partition(":")[2] for key in (*before, *read_key_file(file).keys))
        assert done.exit_code == 0
        assert done.output
        return done.output

    first = str(read_key_file(file).primary)
    outputs = [shown("add"), shown("add", "--json"), shown("list"), shown("list", "--json")]
    second = str(next(key.id for key in read_key_file(file).keys if str(key.id) != first))
    outputs += [shown("promote", second), shown("drop", first), shown("promote", second, "--json")]
    assert len(secrets) == 3
    assert all(secret not in output for secret in secrets for output in outputs)


def test_what_cannot_be_done_is_said(file: Path, tmp_path: Path) -> None:
    absent = str((read_key_file(file).primary + 1) % 256)
    assert f"key {absent} " in refused("promote", file, absent)
    assert f"key {absent} " in refused("drop", file, absent)
    assert "nowhere" in refused("list", tmp_path / "nowhere")
    assert causal("promote", file, "256").exit_code == 2
    file.chmod(0o644)
    assert "chmod 600" in refused("list", file)
    assert "chmod 600" in refused("add", file)


@pytest.mark.parametrize("path", ["", "/", "."])
def test_a_path_that_names_no_file(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for argv in (("new", path), ("add", path), ("promote", path, "1"), ("drop", path, "1"), ("list", path)):
        done = causal(*argv)
        assert done.exit_code == 2 or isinstance(done.exception, ConfigError), (argv, done.exception)
    assert list(tmp_path.iterdir()) == []
    assert "'' names no file" in refused("new", "")


@pytest.mark.parametrize("added", ["x", float("nan"), -99_999_999_999, 10**20, True, [], 1e300])
def test_what_is_no_time_is_not_shown_as_one(file: Path, added: object) -> None:
    stored = json.loads(file.read_text())
    stored["keys"][0]["added"] = added
    file.write_text(json.dumps(stored))
    assert [row["added"] for row in said("list", file)] == [None]
    assert causal("list", file).exit_code == 0
