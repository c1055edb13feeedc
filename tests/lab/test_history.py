"""Histories: what is read, the file, line and reason of what is not, and that what is written is read again."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from causal.lab.history import History, HistoryError, line, parse_history, read_history

READ: dict[str, Any] = {"session": "s", "seq": 2, "op": "read", "key": "k", "value": "x", "version": [1, 7]}
WRITE: dict[str, Any] = {"session": "s", "seq": 1, "op": "write", "key": "k", "value": "x", "version": [1, 7]}
END: dict[str, Any] = {"op": "end", "shard": 0, "origin": 1, "offset": 9}
LOST: dict[str, Any] = {"op": "lost", "session": "s", "seq": 3, "shard": 0, "version": [1, 10]}


def encoded(rows: Iterable[object]) -> list[bytes]:
    return [((row if isinstance(row, str) else json.dumps(row)) + "\n").encode() for row in rows]


def parsed(*rows: object) -> History:
    return parse_history(encoded(rows), "h")


def reason(*rows: object) -> tuple[int, str]:
    with pytest.raises(HistoryError) as caught:
        parsed(*rows)
    assert caught.value.file == "h"
    assert str(caught.value).startswith(f"h:{caught.value.line}: ")
    return caught.value.line, caught.value.reason


def test_what_a_line_says_is_kept() -> None:
    full = {
        **READ,
        "shard": 65_537,
        "stamp": 12,
        "after": 0,
        "ok": True,
        "held": False,
        "endpoint": "us",
        "watermark": {"1": 9},
        "token_in": "t",
        "token_out": None,
        "how": "covered",
        "at": 1.5,
    }
    history = parsed(
        {"op": "meta", "format": 1, "source": "a test"}, WRITE, full, END, LOST, {**LOST, "op": "forget", "seq": 4}
    )
    assert history.meta == {"format": 1, "source": "a test"}
    assert history.fields(0) == WRITE
    kept = ("session", "seq", "op", "key", "value", "version", "shard", "stamp", "after", "held", "endpoint")
    assert history.fields(1) == {name: full[name] for name in kept}
    assert history.ends == {(0, 1): 9}
    assert [(told.op, told.seq, told.offset) for told in history.told] == [("lost", 3, 10), ("forget", 4, 10)]
    assert list(history.line) == [2, 3]


def test_what_is_written_is_read_again() -> None:
    history = History()
    history.meta = {"format": 1, "sample": 0.5}
    history.add("a", 1, "write", "k", value="x", version=(1, 2), stamp=0, endpoint="eu")
    history.add("a", 2, "write", "k", version=(1, 3), delete=True, after=0)
    history.add("b", 1, "read", "k", shard=3)
    history.add("b", 2, "write", "k", value=1.5, ok=None)
    history.add("b", 3, "write", "k", value=False, ok=False)
    history.add("b", 4, "read", "k", version=(1, 3), held=False)
    history.end(3, 1, 2)
    history.tell("lost", "a", 3, 3, (1, 3))
    again = parse_history((text.encode() for text in history.lines()), "h")
    assert list(again.lines()) == list(history.lines())
    assert again.told == history.told
    assert len(again) == 6


def test_the_earlier_end_counts() -> None:
    assert parsed(WRITE, END, {**END, "offset": 4}, {**END, "offset": 6}).ends == {(0, 1): 4}


def test_a_line_is_ascii_and_compact() -> None:
    assert line({"op": "read", "key": "é"}) == '{"op":"read","key":"\\u00e9"}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        line({"value": float("nan")})


@pytest.mark.spec("S-1", "S-2", "S-3")
@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("", "an empty line"),
        ("[]", "a line is an object, not list"),
        ('{"op": "read", "op": "read"}', "field 'op' stands twice"),
        ('{"session": "s", "seq": 1, "op": "write", "key": "k", "value": NaN}', "not JSON: NaN"),
        ({**READ, "op": "scan"}, "op is read, write, end, lost, forget or meta, not 'scan'"),
        ({**READ, "op": None}, "op is read, write, end, lost, forget or meta, not None"),
        ({**READ, "more": 1}, "unknown field 'more'"),
        ({**END, "key": "k"}, "unknown field 'key'"),
        ({**END, "op": "meta"}, "meta is the first line"),
        ({name: READ[name] for name in ("seq", "op", "key")}, "no field session, which read has"),
        ({name: WRITE[name] for name in ("session", "seq", "op", "key")}, "no field value, which write has"),
        ({name: LOST[name] for name in ("session", "seq", "op", "shard")}, "no field version, which lost has"),
        ({**READ, "session": ""}, "session is a printable text, not ''"),
        ({**READ, "session": "a\nb"}, "session is a printable text"),
        ({**READ, "session": "s" * 1025}, "session is a printable text"),
        ({**READ, "seq": -1}, "seq is a whole number in 0.."),
        ({**READ, "seq": True}, "seq is a whole number in 0.."),
        ({**READ, "seq": 1 << 63}, "seq is a whole number in 0.."),
        ({**READ, "key": ""}, "key is a text"),
        ({**READ, "shard": 1 << 32}, "shard is a whole number in 0..4294967295"),
        ({**READ, "value": []}, "value is a JSON scalar, not []"),
        ({**READ, "version": [1]}, "version is [origin, offset], not [1]"),
        ({**READ, "version": [1, -1]}, "version is [origin, offset]"),
        ({**READ, "version": [1, 1 << 64]}, "version is [origin, offset]"),
        ({**READ, "stamp": "1"}, "stamp is a whole number"),
        ({**READ, "version": None, "stamp": 1}, "a stamp is a version's"),
        ({**READ, "after": 2}, "after is lower than seq, which is 2, not 2"),
        ({**READ, "ok": 1}, "ok is true, false or null, not 1"),
        ({**READ, "ok": None}, "ok is null (in doubt) only for a write"),
        ({**READ, "held": None}, "held is true or false"),
        ({**READ, "delete": True}, "delete is for a write whose value is null"),
        ({**WRITE, "delete": True}, "delete is for a write whose value is null"),
        ({**READ, "watermark": {"a": 1}}, "watermark is an object of origin: offset"),
        ({**READ, "watermark": {"1": -1}}, "watermark is an object of origin: offset"),
        ({**READ, "token_in": 1}, "token_in is a text or null"),
        ({**READ, "at": "now"}, "at is a number of seconds"),
        ({**END, "offset": 1.5}, "offset is a whole number"),
    ],
)
def test_a_bad_line_is_named(row: object, why: str) -> None:
    number, said = reason(WRITE, row, {**READ, "seq": 9})
    assert number == 2
    assert said.startswith(why)


@pytest.mark.spec("S-2")
def test_another_format_is_refused() -> None:
    assert reason({"op": "meta", "format": 2}, WRITE) == (1, "format is 1, not 2")


@pytest.mark.parametrize(
    "text", ["x" * 300_000, '{"op": "' + "x" * 300_000 + '"}', '{"op": "read", "' + "x" * 300_000 + '": 1}']
)
def test_what_is_too_long_is_not_shown_whole(text: str) -> None:
    assert len(reason(text)[1]) < 300


@pytest.mark.spec("S-2")
def test_no_operations() -> None:
    assert reason(END) == (1, "no operations")
    with pytest.raises(HistoryError) as caught:
        parse_history([], "h")
    assert str(caught.value) == "h: no operations"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(HistoryError) as caught:
        read_history(tmp_path / "absent")
    assert str(caught.value) == f"{tmp_path / 'absent'}: cannot be read: No such file or directory"
    (tmp_path / "h").write_bytes(b"\xff\n")
    with pytest.raises(HistoryError, match=":1: not JSON"):
        read_history(tmp_path / "h")


@pytest.mark.spec("S-4")
@pytest.mark.parametrize(
    ("numbers", "why"),
    [
        ([(1, None), (1, None)], "session 's' has seq 1 twice"),
        ([(2, 0), (1, 0), (2, 0)], "session 's' has seq 2 twice"),
        ([(2, None), (1, None)], "session 's' was answered seq 1 after one that started when it had been answered"),
        ([(3, 0), (1, 0), (2, None)], "session 's' was answered seq 3 before seq 1, so that seq 2 has another `after`"),
    ],
)
def test_numbers_that_contradict_the_lines_are_named(numbers: list[tuple[int, int | None]], why: str) -> None:
    rows = [{**READ, "seq": seq} | ({} if after is None else {"after": after}) for seq, after in numbers]
    other = {**READ, "session": "other"}
    assert reason(other, *rows) == (1 + len(rows), why)


@pytest.mark.parametrize(
    "numbers", [[(1, None), (5, None), (9, 5)], [(2, 0), (1, 0), (3, None)], [(1, None), (3, 1), (2, None), (4, None)]]
)
def test_numbers_that_fit_the_lines(numbers: list[tuple[int, int | None]]) -> None:
    parsed(*({**READ, "seq": seq} | ({} if after is None else {"after": after}) for seq, after in numbers))


def test_lines_are_taken_one_by_one() -> None:
    taken: list[int] = []

    def lines() -> Iterator[bytes]:
        for n in range(1, 4):
            taken.append(n)
            yield encoded([{**READ, "seq": n}] if n < 3 else ["{"])[0]
        raise AssertionError("nobody asks for what comes after a wrong line")

    with pytest.raises(HistoryError):
        parse_history(lines(), "h")
    assert taken == [1, 2, 3]
