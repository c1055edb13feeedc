"""Traces: what is read, and the file, line and reason of what is not."""

import json
from pathlib import Path

import pytest

from causal.lab.trace import TraceError, read_trace

GOOD = {"t": 0.5, "session": "s", "op": "write", "key": "k", "value": 1}


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_a_good_trace(tmp_path: Path) -> None:
    path = write(tmp_path / "t", GOOD, {"t": 1, "session": "s", "op": "read", "key": "k"})
    first, second = read_trace(path)
    assert (first.number, first.t_s, first.session, first.op, first.key, first.value) == (0, 0.5, "s", "write", "k", 1)
    assert (second.number, second.op, second.value) == (1, "read", None)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "an object"),
        ("", "empty line"),
        ({**GOOD, "t": "1"}, "t is a number"),
        ({**GOOD, "t": True}, "t is a number"),
        ({**GOOD, "t": -1}, "t is a number"),
        ('{"t": NaN, "session": "s", "op": "read", "key": "k"}', "t is a number"),
        ({**GOOD, "t": 0.1}, "time goes back"),
        ({**GOOD, "session": ""}, "session is a printable text"),
        ({**GOOD, "op": "delete"}, "op is"),
        ({**GOOD, "t": 1e300}, "t is a number"),
        ({**GOOD, "session": "line\nbreak"}, "session is a printable text"),
        ('{"t": 1, "session": "\\ud800", "op": "read", "key": "k"}', "session is a printable text"),
        ('{"t": 1, "session": "s", "op": "read", "key": "\\ud800"}', "half of a surrogate pair"),
        ('{"t": 1, "session": "s", "op": "write", "key": "k", "value": "\\ud800"}', "CBOR cannot hold"),
        ({**GOOD, "value": json.loads("[" * 105 + "]" * 105)}, "at most 100 containers"),
        ({**GOOD, "key": ""}, "a key"),
        ({**GOOD, "key": 7}, "a key is a text"),
        ({**GOOD, "key": "k" * 1025}, "a key"),
        ({**GOOD, "more": 1}, "unknown field 'more'"),
        ({k: v for k, v in GOOD.items() if k != "value"}, "a write has a value"),
        ({**GOOD, "op": "read"}, "a write has a value"),
        ('{"t": 1, "t": 2, "session": "s", "op": "read", "key": "k"}', "field 't' stands twice"),
        ('{"t": 1, "session": "s", "op": "write", "key": "k", "value": [{"a": 1, "a": 1}]}', "field 'a' stands twice"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: object, reason: str) -> None:
    path = write(tmp_path / "t", GOOD, line, GOOD)
    with pytest.raises(TraceError) as caught:
        read_trace(path)
    assert (caught.value.file, caught.value.line) == (str(path), 2)
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    "line",
    [
        {**GOOD, "session": "x" * 300_000},
        {**GOOD, "t": "1" * 300_000},
        {**GOOD, "t": [1] * 100_000},
        {**GOOD, "op": "x" * 300_000},
        {**GOOD, "x" * 300_000: 1},
        '{"' + "x" * 300_000 + '": 1, "' + "x" * 300_000 + '": 1}',
        "x" * 300_000,
        '{"t": ' + "1" * 300_000 + "}",
        {**GOOD, "key": "k" * 300_000},
        {**GOOD, "key": {"k" * 300_000: 1}},
    ],
)
def test_what_is_too_long_is_not_shown_whole(tmp_path: Path, line: object) -> None:
    with pytest.raises(TraceError) as caught:
        read_trace(write(tmp_path / "t", line))
    assert len(caught.value.reason) < 300
    text = str(caught.value)
    assert "x" * 10 not in text or "... (300,0" in text  # cut, and it says so


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(json.dumps(GOOD).encode() + b"\n\xff\xfe\n")
    with pytest.raises(TraceError) as caught:
        read_trace(path)
    assert caught.value.line == 2


def test_a_last_line_may_lack_its_end(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text(json.dumps(GOOD))
    assert len(read_trace(path)) == 1


def test_no_trace(tmp_path: Path) -> None:
    with pytest.raises(TraceError) as caught:
        read_trace(tmp_path / "absent")
    assert str(caught.value).startswith(f"{tmp_path / 'absent'}: cannot be read: ")
    with pytest.raises(TraceError):
        read_trace(write(tmp_path / "empty"))
