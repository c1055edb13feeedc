"""`causal check`, as a user calls it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from causal.cli.main import main

GOOD = """\
{"session":"alice","seq":1,"op":"write","key":"photo","value":"new.jpg","version":[1,2]}
{"session":"bob","seq":1,"op":"read","key":"photo","value":"new.jpg","version":[1,2]}
"""
BAD = GOOD + '{"session":"bob","seq":2,"op":"read","key":"photo","value":null,"endpoint":"us","held":false}\n'
SENTENCE = (
    "bob read photo = 'new.jpg' (1@2), which alice wrote; so bob had to see photo = 'new.jpg' (1@2) or something newer, but read photo and "
    "found nothing."
)


def check(*argv: object, text: str | None = None) -> Result:
    return CliRunner().invoke(main, ["check", *map(str, argv)], input=text)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "history.jsonl"
    path.write_text(BAD)
    return path


def test_what_held(file: Path) -> None:
    file.write_text(GOOD)
    result = check(file)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("2 operations in 2 sessions (white box: by versions)\n")
    assert result.stdout.count(" ok ") == 8
    assert "violated" not in result.stdout.lower()


def test_what_was_violated_is_told_once_for_all_that_it_violates(file: Path) -> None:
    result = check(file)
    assert result.exit_code == 1
    assert result.stdout.count(SENTENCE) == 1
    assert "Violates monotonic reads, causal (CC), causal convergence (CCv), causal memory (CM)" in result.stdout
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["2", "bob", "1", "read", "photo", "'new.jpg'", "1@2"] in lines
    assert ["3", "bob", "2", "read", "photo", "(nothing)", "us"] in lines


def test_from_standard_input() -> None:
    assert check("-", text=BAD).exit_code == 1
    assert check("-", text=GOOD).exit_code == 0


def test_as_json(file: Path) -> None:
    result = check(file, "--json")
    assert result.exit_code == 1
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["guarantee"] for row in rows] == [
        "read-your-writes",
        "monotonic reads",
        "monotonic writes",
        "writes-follow-reads",
        "causal (CC)",
        "causal convergence (CCv)",
        "causal memory (CM)",
        "lost writes told",
    ]
    assert rows[1] == {
        "guarantee": "monotonic reads",
        "state": "violated",
        "count": 1,
        "reason": "",
        "witness": {
            "operations": [
                {"line": 2, **json.loads(BAD.splitlines()[1])},
                {
                    name: value
                    for name, value in {"line": 3, **json.loads(BAD.splitlines()[2])}.items()
                    if value is not None
                },
            ],
            "sentence": SENTENCE,
        },
        "mode": "white",
        "operations": 3,
        "sessions": 2,
        "notes": [],
    }


def test_only_what_was_promised(file: Path) -> None:
    assert check(file, "--held").exit_code == 0


def test_by_values(file: Path) -> None:
    result = check(file, "--mode", "black")
    assert result.exit_code == 1
    assert "(black box: by values)" in result.stdout
    file.write_text(BAD + '{"session":"eve","seq":1,"op":"write","key":"photo","value":"new.jpg"}\n')
    result = check(file, "--mode", "black")
    assert result.exit_code == 0
    assert result.stdout.count("not judged") == 8
    assert "Not judged: value 'new.jpg' is written more than once to key 'photo': a black box" in result.stdout


def test_a_history_that_cannot_be_read(tmp_path: Path, file: Path) -> None:
    file.write_text(GOOD + "{}\n")
    result = check(file)
    assert result.exit_code == 2
    assert f"{file}:3: op is read, write, end, lost, forget or meta, not None" in result.stderr
    result = check(tmp_path / "absent")
    assert result.exit_code == 2
    assert "cannot be read: No such file" in result.stderr
    assert check("-", text="").exit_code == 2


def test_the_same_history_gives_the_same_output(file: Path) -> None:
    assert check(file).stdout == check(file).stdout
