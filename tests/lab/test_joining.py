"""Joining: which requests go on from which, by the tokens that they were given and gave out; and that nothing is read twice or lost."""

import json
from pathlib import Path
from typing import Any

import pytest

from causal.lab.history import History, HistoryError
from causal.lab.joining import Joined, join

Row = dict[str, Any]


def op(session: str, seq: int, key: str = "k", **fields: Any) -> Row:
    return {"op": "read", "session": session, "seq": seq, "key": key, "value": None, **fields}


def out(session: str, seq: int, token: str, at: float = 0.0, **fields: Any) -> Row:
    return {"op": "meta", "session": session, "seq": seq, "token_out": token, "at": at, **fields}


def joined(tmp_path: Path, *files: list[Row]) -> Joined:
    paths = []
    for nth, rows in enumerate(files):
        path = tmp_path / f"{nth}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        paths.append(str(path))
    return join(paths)


def told(history: History | None) -> list[tuple[str, int, int | None, str]]:
    """Session, number, `after` where it is said, and key of each operation."""
    assert history is not None
    rows = (history.fields(place) for place in range(len(history)))
    return [(row["session"], row["seq"], row.get("after"), row["key"]) for row in rows]


A = [op("w.a", 1, "a1", at=1.0), op("w.a", 2, "a2", at=2.0), out("w.a", 2, "T1", 3.0)]


def test_a_request_goes_on_where_its_token_was_given_out(tmp_path: Path) -> None:
    b = [op("w.b", 1, "b1", token_in="T1", at=4.0), op("w.b", 2, "b2", token_in="T1"), out("w.b", 2, "T2", 5.0)]
    c = [op("w.c", 1, "c1", token_in="T2", at=6.0)]
    for files in ([A, b, c], [c, b, A], [c + b + A]):
        found = joined(tmp_path, *files)
        assert told(found.history) == [
            ("w.a", n, None, k) for n, k in enumerate(("a1", "a2", "b1", "b2", "c1"), start=1)
        ]
        assert found.branches is None
        assert (found.counts.requests, found.counts.sessions, found.counts.strangers) == (3, 1, 0)


def test_what_has_no_token_or_an_unknown_one_stays_apart(tmp_path: Path) -> None:
    b, c = [op("w.b", 1, "b1", at=4.0)], [op("w.c", 1, "c1", token_in="T9", at=5.0)]
    found = joined(tmp_path, A, b, c)
    assert told(found.history) == [
        ("w.a", 1, None, "a1"),
        ("w.a", 2, None, "a2"),
        ("w.b", 1, None, "b1"),
        ("w.c", 1, None, "c1"),
    ]
    assert (found.counts.sessions, found.counts.strangers, found.counts.bare) == (3, 1, 1)


def test_a_subject_without_a_token_is_noticed_only_once_it_had_one(tmp_path: Path) -> None:
    early, other, nobody = [op("w.b", 1, at=0.5)], [op("v.c", 1, at=9.0)], [op("-.d", 1, at=9.0)]
    assert joined(tmp_path, A, early, other, nobody).counts.bare == 0


def test_what_is_answered_after_a_token_was_given_out_is_not_promised_by_it(tmp_path: Path) -> None:
    a = [*A, op("w.a", 3, "a3", at=3.5)]
    b = [op("w.b", 1, "b1", token_in="T1", at=4.0), op("w.b", 2, "b2", token_in="T1", at=4.5)]
    found = joined(tmp_path, a, b)
    assert told(found.history) == [
        ("w.a", 1, None, "a1"),
        ("w.a", 2, None, "a2"),
        ("w.a", 3, None, "a3"),
        ("w.a", 4, 2, "b1"),
        ("w.a", 5, 2, "b2"),
    ]
    assert told(found.branches) == [
        ("w.a", 1, None, "a1"),
        ("w.a", 2, None, "a2"),
        ("w.a", 3, None, "a3"),
        ("w.b", 1, None, "b1"),
        ("w.b", 2, None, "b2"),
    ]


def test_a_session_that_forks_has_a_trunk_and_branches(tmp_path: Path) -> None:
    b = [op("w.b", 1, "b1", token_in="T1", at=4.0), out("w.b", 1, "T2", 5.0)]
    c = [op("w.c", 1, "c1", token_in="T1", at=4.0), out("w.c", 1, "T3", 5.0)]
    d = [op("w.d", 1, "d1", token_in="T3", at=6.0), op("w.d", 2, "d2", token_in="T3")]
    e = [op("w.e", 1, "e1", token_in="T2", at=6.0)]
    found = joined(tmp_path, A, b, c, d, e)
    assert told(found.history) == [
        ("w.a", 1, None, "a1"),
        ("w.a", 2, None, "a2"),
        ("w.a", 3, None, "c1"),
        ("w.a", 4, None, "d1"),
        ("w.a", 5, None, "d2"),
        ("w.a", 6, 2, "b1"),
        ("w.a", 7, 2, "e1"),
    ]
    assert [row for row in told(found.branches) if row[0] != "w.a"] == [("w.b", 1, None, "b1"), ("w.b", 2, None, "e1")]
    assert found.counts.branches == 1


def test_branches_of_one_operation_need_no_second_history(tmp_path: Path) -> None:
    b, c = ([op(f"w.{name}", 1, token_in="T1", at=4.0)] for name in "bc")
    found = joined(tmp_path, A, b, c)
    assert found.branches is None
    assert len(found.history) == 4


def test_blocks_in_parallel_keep_what_they_could_know(tmp_path: Path) -> None:
    b = [op("w.b", 1, "b1", token_in="T1", at=4.0), op("w.b", 2, "b2", after=0), op("w.b", 3, "b3", after=1)]
    assert told(joined(tmp_path, A, b).history)[2:] == [
        ("w.a", 3, None, "b1"),
        ("w.a", 4, 2, "b2"),
        ("w.a", 5, 3, "b3"),
    ]


def test_a_token_that_comes_back_unchanged_is_that_of_the_last_who_gave_it(tmp_path: Path) -> None:
    b = [op("w.b", 1, "b1", token_in="T1", at=4.0), out("w.b", 1, "T1", 5.0)]
    c = [op("w.c", 1, "c1", token_in="T1", at=6.0)]
    late = [op("w.x", 1, "x1", token_in="T1", at=7.0), out("w.x", 1, "T1", 8.0)]
    found = joined(tmp_path, A, b, c, late)
    assert told(found.history)[2:] == [("w.a", 3, None, "b1"), ("w.a", 4, None, "c1"), ("w.a", 5, 3, "x1")]


def test_requests_that_gave_out_each_others_tokens_do_not_go_round_in_circles(tmp_path: Path) -> None:
    a = [op("w.a", 1, "a1", token_in="T2", at=1.0), out("w.a", 1, "T1", 2.0)]
    b = [op("w.b", 1, "b1", token_in="T1", at=1.0), out("w.b", 1, "T2", 2.0)]
    found = joined(tmp_path, a, b)
    assert sorted(row[3] for row in told(found.history)) == ["a1", "b1"]
    assert found.counts.sessions == 1


def test_a_request_that_only_passes_a_token_on_is_a_link(tmp_path: Path) -> None:
    passing = [out("w.b", 0, "T2", 4.0, token_in="T1")]
    c = [op("v.c", 1, "c1", token_in="T2", at=5.0)]
    assert told(joined(tmp_path, A, passing, c).history)[-1] == ("w.a", 3, None, "c1")


def test_losses_and_ends_are_taken_along(tmp_path: Path) -> None:
    b = [
        op("w.b", 1, "*", token_in="T1", ok=False, at=4.0),
        {"op": "lost", "session": "w.b", "seq": 2, "shard": 3, "version": [1, 9]},
        {"op": "forget", "session": "w.b", "seq": 3, "shard": 3, "version": [1, 9]},
        {"op": "end", "shard": 3, "origin": 1, "offset": 8},
    ]
    found = joined(tmp_path, A, b)
    assert [(one.op, one.session, one.seq, one.offset) for one in found.history.told] == [
        ("lost", 0, 4, 9),
        ("forget", 0, 5, 9),
    ]
    assert found.history.ends == {(3, 1): 8}
    assert (found.counts.lost, found.counts.refused) == (1, 1)


def test_every_field_arrives(tmp_path: Path) -> None:
    row = op("w.a", 1, version=[2, 3], stamp=4, shard=5, endpoint="eu", held=False)
    row |= {"value": "x", "op": "write", "ok": True, "watermark": {"1": 2}, "how": "covered", "at": 1.0}
    found = joined(tmp_path, [row, {**op("w.a", 2), "op": "write", "delete": True, "ok": None}])
    assert found.history.fields(0) == {
        "session": "w.a",
        "seq": 1,
        "op": "write",
        "key": "k",
        "shard": 5,
        "value": "x",
        "version": [2, 3],
        "stamp": 4,
        "held": False,
        "endpoint": "eu",
    }
    assert (found.history.fields(1)["delete"], found.history.fields(1)["ok"]) == (True, None)
    assert (found.counts.writes, found.counts.in_doubt, found.counts.versionless) == (2, 1, 0)


def test_what_is_missing_is_counted_by_source(tmp_path: Path) -> None:
    def meta(source: str, **fields: Any) -> Row:
        return {"op": "meta", "source": source, **fields}

    promised = {"guarantees": ["MONOTONIC_READS", "READ_YOUR_WRITES"], "dependencies": True}
    found = joined(
        tmp_path,
        [
            meta("x", format=1, sample=0.5),
            meta("x", **promised),
            op("a", 1),
            meta("x", dropped=3),
            meta("x", dropped=9),
        ],
        [meta("y", format=1, sample=1.0, dropped=1), meta("y", guarantees=["MONOTONIC_READS"], dependencies=False)],
    )
    assert {name: (source.sample, source.counts["dropped"]) for name, source in found.sources.items()} == {
        "x": (0.5, 9),
        "y": (1.0, 1),
    }
    assert found.guarantees == {"MONOTONIC_READS"}
    assert not found.dependencies


def test_a_torn_line_is_counted_and_passed_over(tmp_path: Path) -> None:
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_text(json.dumps(op("a", 1, "ä"), ensure_ascii=False) + '\n{"op": "re\n' + json.dumps(op("a", 2)) + "\n")
    other.write_text(json.dumps(op("b", 1)))
    found = join([str(path), str(other)])
    assert (found.counts.damaged, found.counts.lines) == (1, 4)
    assert found.counts.first_damage.startswith(f"{path}:2: not JSON")
    assert [found.place(found.history.line[n]) for n in range(3)] == [f"{path}:1", f"{path}:3", f"{other}:1"]


@pytest.mark.parametrize(
    "text", ["", "nonsense\n", '{"op": "meta", "format": 2}\n', '{"op": "end", "shard": 0, "origin": 1, "offset": 1}\n']
)
def test_what_is_no_history_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_text(text)
    with pytest.raises(HistoryError, match=str(path)):
        join([str(path)])
    with pytest.raises(HistoryError, match="cannot be read"):
        join([str(tmp_path / "nowhere")])


def test_a_session_over_several_files_is_put_in_order(tmp_path: Path) -> None:
    found = joined(tmp_path, [op("a", 1, "1"), op("a", 4, "4")], [op("a", 2, "2"), op("a", 3, "3")])
    assert [row[3] for row in told(found.history)] == ["1", "2", "3", "4"]
