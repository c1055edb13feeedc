"""What test_decoding says, read strictly: every key is found, and what is not understood is an error."""

from __future__ import annotations

import pytest

from causal.derived.feeds.decoding import touched
from causal.errors import StoreError

WATCHED = {"public.post": "id", "public.comment": "post_id", 'my "odd".Ta.ble': 'a "key"'}


def keys(*lines: str) -> list[str]:
    return sorted(touched([("0/1", 7, line) for line in lines], WATCHED).keys)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("table public.post: INSERT: id[integer]:1 title[text]:'coffee'", ["1"]),
        ("table public.post: INSERT: title[text]:'it''s id[integer]:9' id[bigint]:-1", ["-1"]),
        ("table public.post: INSERT: a[integer[]]:'{1,2}' id[text]:'x y'", ["x y"]),
        ("table public.post: INSERT: a[character varying(20)]:null b[bit varying]:B'01' id[text]:''", [""]),
        (
            "table public.post: INSERT: a[numeric(4,1)]:1.5 t[timestamp without time zone]:'2026-01-01 0:0' id[text]:'q''q'",
            ["q'q"],
        ),
        ('table public.post: INSERT: "id"[integer]:1', ["1"]),
        ("table public.post: INSERT: a[\"char\"]:'c' \"we[i]rd: col\"[public.\"T]y pe\"]:'v' id[uuid]:'u'", ["u"]),
        ("table public.post: UPDATE: old-key: id[integer]:1 new-tuple: id[integer]:2 title[text]:'x'", ["1", "2"]),
        ("table public.post: UPDATE: id[integer]:2 title[text]:unchanged-toast-datum", ["2"]),
        ("table public.post: DELETE: id[integer]:3", ["3"]),
        ("table public.comment: INSERT: id[integer]:5 post_id[integer]:1 text[text]:'a\nb'", ["1"]),
        ("table public.comment: DELETE: id[integer]:5 post_id[integer]:4", ["4"]),
        ("table public.other: DELETE: (no-tuple-data)", []),
        ("table public.other: INSERT: whatever this is", []),
        ('table "my ""odd"""."Ta.ble": INSERT: "a ""key"""[text]:\'k\'', ["k"]),
        ("message: transactional: 1 prefix: causal, sz: 0 content:", []),
        ("BEGIN 7", []),
        ("COMMIT 7", []),
    ],
)
def test_the_keys_of_a_change(line: str, expected: list[str]) -> None:
    assert keys(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nonsense",
        "sequence public.s: transactional:1 last_value: 1",
        "table public.post: MERGE: id[integer]:1",
        "table public.post: INSERT: id[integer]:1 title[text]:'open",
        "table public.post: INSERT: id[integer]1",
        "table public.post: INSERT: id[integer]:1 rest",
        "table public.post: DELETE: (no-tuple-data)",
        "table public.comment: DELETE: id[integer]:5",
        "table public.post: INSERT: id[integer]:null",
        "table public.post: UPDATE: id[text]:unchanged-toast-datum",
    ],
)
def test_what_does_not_say_its_key_is_an_error(line: str) -> None:
    with pytest.raises(StoreError):
        keys(line)


def test_transactions_the_place_and_what_was_truncated() -> None:
    lines = [
        ("0/1", 7, "BEGIN 7"),
        ("0/2", 7, "table public.post: INSERT: id[integer]:1"),
        ("0/3", 7, "COMMIT 7"),
        ("0/4", 8, "table public.other: INSERT: id[integer]:1"),
        ("0/5", 8, "COMMIT 8"),
    ]
    found = touched(lines, WATCHED)
    assert (found.transactions, found.whole, found.upto) == ({7}, False, "0/5")
    assert touched([("0/1", 9, "table public.a, public.post: TRUNCATE: (no-flags)")], WATCHED).whole
    assert not touched([("0/1", 9, "table public.a: TRUNCATE: restart_seqs cascade")], WATCHED).whole
