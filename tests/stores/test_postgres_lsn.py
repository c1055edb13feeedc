"""Places in the log: written as the server does, and rounded to where the last record ended."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from causal.stores.postgres.lsn import PAGE, parse, rounded, spell

SEGMENTS = st.integers(20, 30).map(lambda bits: 1 << bits)  # 1 MB to 1 GB, as initdb --wal-segsize takes them
OFFSETS = st.integers(0, 2**64 - 1)


@given(OFFSETS)
def test_an_lsn_is_read_as_it_was_written(lsn: int) -> None:
    assert parse(spell(lsn)) == parse(spell(lsn).encode()) == lsn


@pytest.mark.parametrize(("text", "lsn"), [("0/0", 0), ("16/B374D848", 0x16B374D848), ("FFFFFFFF/FFFFFFFF", 2**64 - 1)])
def test_lsns_as_servers_write_them(text: str, lsn: int) -> None:
    assert parse(text) == lsn
    assert spell(lsn) == text


@pytest.mark.parametrize(
    "text", ["", "0", "/", "0/", "/0", "0/g", "0/0/0", " 0/0", "0/0\n", "123456789/0", "0/123456789", "a/b", "-1/0"]
)
def test_anything_else_is_no_lsn(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


def end_of_record(segment: int, page: int, data: int) -> tuple[int, int]:
    """Return where `data` bytes of records end, in a log of nothing else: as flushed, and as the next insert position."""
    usable = segment - 40 - (segment // page - 1) * 24
    full, rest = divmod(data, usable)
    at = full * segment
    if not rest:
        return at, at + 40  # on a segment's edge: nothing is flushed of the header that comes next
    if rest < page - 40:
        return at + 40 + rest, at + 40 + rest
    pages, left = divmod(rest - (page - 40), page - 24)
    at += (pages + 1) * page
    return (at, at + 24) if not left else (at + 24 + left, at + 24 + left)


@given(SEGMENTS, st.sampled_from([4096, 8192, 32768]), st.integers(1, 2**34), st.integers(-1, 1), st.integers(0, 2**16))
def test_an_insert_position_is_rounded_to_where_the_record_ended(
    segment: int, page: int, data: int, near: int, pages: int
) -> None:
    """Against a dumb twin that lays records out, and often right at an edge."""
    usable = segment - 40 - (segment // page - 1) * 24
    for bytes_ in (data, max(1, (page - 40) + pages * (page - 24) + near), max(1, usable + near)):
        flushed, insert = end_of_record(segment, page, bytes_)
        assert rounded(insert, segment, page) == flushed
        assert rounded(flushed, segment, page) == flushed  # what is flushed, or replayed, is left as it is


@given(OFFSETS, SEGMENTS)
def test_rounding_never_goes_up_and_is_done_once(lsn: int, segment: int) -> None:
    low = rounded(lsn, segment)
    assert low <= lsn
    assert lsn - low in {0, 24, 40}
    assert rounded(low, segment) == low
    assert low // PAGE == lsn // PAGE
