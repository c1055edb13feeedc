"""Fuzz targets for the other things that arrive from outside: carriers, cookies, header fields, timestamps, lines, cached entries.

Each is compared with a few lines that say the same slowly, or held to what must be so whatever comes.
"""

from __future__ import annotations

import json
import re
import string

from causal import Frontier, Timestamp
from causal.caches import entry as cached
from causal.core.wire import decode_frontier, encode_frontier
from causal.errors import ClockError, TokenError
from causal.integrations import carrier as carriers
from causal.integrations import headers as fields_of
from causal.integrations.cookies import MAX_CHARS, MAX_TAKEN, TOO_LONG, Cookies
from causal.lab.history_line import parse_line

Outcome = tuple[str, object]
WORD = set(string.ascii_letters + string.digits + "_")
CLOSED = re.compile(r"""(?:[^"]|"(?:[^"\\]|\\.)*")*""")


def pairs_of(data: bytes) -> list[tuple[str, str]]:
    """Lines of `name: value`, as a server hands them on: latin-1, no line ends."""
    lines = [line.partition(":") for line in data.decode("latin-1").split("\n")]
    return [(name, value) for name, _, value in lines]


def carrier(data: bytes) -> Outcome:
    """Every token of a carrier, whatever its form; and a token put there is what is found there."""
    pairs = pairs_of(data)
    expected: list[str] = []
    for name, value in pairs:
        if name.lower() == "causal-token":
            expected += [
                part for part in (said.strip(" \t") for said in value.split(",")) if part
            ]  # blanks and tabs, as HTTP has it
    unlike = list(dict.fromkeys(expected))
    expected = unlike if len(unlike) <= 16 else [*unlike[:16], "!"]
    found = carriers.extract(pairs)
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
    assert found == expected, (found, expected)
    assert carriers.extract(raw) == found
    by_name: dict[str, list[str]] = {}
    for name, value in pairs:
        by_name.setdefault(name, []).append(value)
    assert set(carriers.extract(by_name)[:16]) <= {*unlike, "!"}
    for target in (pairs, raw, by_name):
        before = len(target)
        carriers.put("token", target)
        assert carriers.extract(target) == ["token"]
        assert len(target) <= before + 1
        carriers.put(None, target)
        assert carriers.extract(target) == []
    return ("open" if found else "nothing"), found


def cookies(data: bytes) -> Outcome:
    """The cookies that hold tokens, with and without TLS; and nothing of a request gets into a response but names of ours."""
    headers = data.decode("latin-1").split("\n")
    outcome: Outcome = "nothing", None
    for jar in (Cookies(), Cookies(secure=False)):
        names, tokens, left = [], [], MAX_CHARS
        for header in headers:
            if jar.prefix not in header:
                continue
            left -= len(header)
            if left < 0:
                tokens.append(TOO_LONG)
                break
            for part in header.split(";"):
                name, equals, value = part.strip(" \t").partition("=")
                slot = name.removeprefix(jar.prefix)
                if equals and slot != name and 1 <= len(slot) <= 64 and set(slot) <= WORD:
                    names.append(name)
                    tokens.append(value)
        found = jar.arrived(headers)
        assert (*found.tokens,) == (*tokens,)
        assert found.names == (*dict.fromkeys(names),)[:MAX_TAKEN]
        for value in jar.replacing(found.names, "token", 9.5):
            assert not set(value) & {"\r", "\n", ",", "\0"}
            assert value.startswith(jar.prefix)
            assert value.count(";") == value.count("; ") == 4 + jar.secure
        if found.tokens:
            outcome = "open", found
    return outcome


def headers(data: bytes) -> Outcome:
    """A response's fields: said to be private once, with all else that they said kept, and a token where it belongs."""
    fields = pairs_of(data)
    others = [pair for pair in fields if pair[0].lower() != "cache-control"]
    private = fields_of.made_private(fields)
    assert private[:-1] == others
    assert private[-1][0] == "cache-control"
    assert private[-1][1].split(",")[0] == "private"
    said = [value for name, value in fields if name.lower() == "cache-control"]
    # A quote that is left open swallows what other fields say, whoever joins them.
    if all(CLOSED.fullmatch(value) for value in said):
        assert fields_of.made_private(private) == private
    public = fields_of.is_public(fields)
    assert isinstance(public, bool)
    carrying = fields_of.carrying_token(fields, "token", ["a=b"], by_header=True, cross_origin=True)
    assert carriers.extract(carrying) == ["token"]
    assert [value for name, value in carrying if name.lower() == "cache-control"] == [private[-1][1]]
    shown = [value for name, value in carrying if name.lower() == "access-control-expose-headers"]
    assert any("causal-token" in value.lower() for value in shown)
    return ("open" if public else "nothing"), carrying


def timestamp(data: bytes) -> Outcome:
    """A timestamp's one spelling."""
    text = data.decode("utf-8", "replace")
    right = len(text) == 17 and text[12] == "." and all(c in "0123456789abcdef" for i, c in enumerate(text) if i != 12)
    found, said = None, ""
    try:
        found = Timestamp.parse(text)
    except ClockError as error:
        said = str(error)
    assert (found is not None) == right
    assert len(said) < 1000
    if found is None:
        return "ClockError", None
    assert found == int(text[:12], 16) << 16 | int(text[13:], 16)
    assert str(found) == text
    return "open", found


def line(data: bytes) -> Outcome:
    """A line of a history: its fields, or why there are none; and what was read is what would be written."""
    reason, row = parse_line(data)
    assert isinstance(reason, str)
    assert len(reason) < 400
    assert (row is None) == bool(reason)
    if row is None:
        return "refused", None
    assert json.loads(data) == row
    if row["op"] != "meta":
        assert parse_line(json.dumps(row).encode()) == ("", row)
    return "open", row


KEY = b"key"


def entry(data: bytes) -> Outcome:
    """A cached entry, with the checksum that belongs to it: an attacker on the cache's server can make that one, too."""
    body = data + cached.checksum(KEY, data)
    theirs = _dumb_entry(data)
    ours = cached.decode(KEY, body, Frontier())
    assert (ours is None) == (theirs is None), (ours, theirs)
    if ours is None:
        return "nothing", None
    assert (dict(ours.wm), ours.good_until_ms, ours.seen, ours.value) == theirs
    assert cached.encode(KEY, ours) == body
    assert cached.decode(b"other", body, Frontier()) is None
    return "open", ours


def _dumb_entry(data: bytes) -> tuple[dict[int, int], int, Frontier, bytes | None] | None:
    rest = data[6:]
    count = int.from_bytes(data[4:6], "big")
    if len(data) < 6 or data[:3] != b"\xcaC\x01" or data[3:4] not in {b"V", b"T"} or len(rest) < 16 * count + 8:
        return None
    wm = {}
    for _ in range(count):
        key = int.from_bytes(rest[:8], "big")
        if wm and key <= max(wm):
            return None
        wm[key] = int.from_bytes(rest[8:16], "big")
        rest = rest[16:]
    until, rest = int.from_bytes(rest[:8], "big"), rest[8:]
    if data[3:4] == b"T":
        return None if rest else (wm, until, Frontier(), None)
    length = int.from_bytes(rest[:4], "big")
    if not count or len(rest) < 4 + length:
        return None
    try:
        seen = decode_frontier(rest[4 : 4 + length])
    except TokenError:
        return None
    assert encode_frontier(seen) == rest[4 : 4 + length]
    return wm, until, seen, rest[4 + length :]
