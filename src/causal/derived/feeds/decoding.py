"""What PostgreSQL's `test_decoding` says of committed transactions, as the keys of the rows that they touched.

Owns the reading of its text, strictly: a line that is not understood is an error, never passed over. Only keys are taken from it: what a
row holds is read again in a snapshot, so values that were left out (unchanged TOAST) or old are of no consequence.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs

from causal.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_NAME: Final = r'(?:[^\s".:\[\],]+|"(?:[^"]|"")+")'
_BOUNDARY: Final = re.compile(r"(BEGIN|COMMIT) (\d+)")
_CHANGE: Final = re.compile(rf"table ({_NAME}\.{_NAME}(?:, {_NAME}\.{_NAME})*): (INSERT|UPDATE|DELETE|TRUNCATE): ?")
_TABLE: Final = re.compile(rf"({_NAME})\.({_NAME})")
# A type is any text in brackets, that of an array ends in [], and a quoted one may hold anything.
_COLUMN: Final = re.compile(
    rf"({_NAME})\[((?:\"(?:[^\"]|\"\")*\"|\[\]|[^\]\"\[])+)\]:(null|unchanged-toast-datum|(?:B|X)?'(?:[^']|'')*'|[^\s']+)(?: |$)"
)
_TOAST: Final = "unchanged-toast-datum"


@attrs.frozen
class Touched:
    """What a peek at a slot came to: for each watched table the keys, and which transactions they are of.

    `whole` says that a watched table was truncated: all of its keys were touched. `upto` is where the last transaction ended.
    Thread-safety: immutable.
    """

    keys: frozenset[str]
    transactions: frozenset[int]
    whole: bool
    upto: str | None


def touched(lines: Iterable[tuple[str, int, str]], watched: Mapping[str, str]) -> Touched:
    """Return what lines of (lsn, transaction, text) say of the watched tables: "schema.table" -> the column of the key.

    Raises: StoreError for a line that is not understood, and for a change that does not say which key it is of.
    """
    keys: set[str] = set()
    transactions: set[int] = set()
    whole, upto = False, None
    for lsn, transaction, text in lines:
        boundary = _BOUNDARY.fullmatch(text)
        if boundary is not None:
            if boundary[1] == "COMMIT":
                upto = lsn
            continue
        if text.startswith("message: "):
            continue
        change = _CHANGE.match(text)
        if change is None:
            raise StoreError(f"a decoded change is not understood: {text[:100]!r}")
        for table in _tables(change[1]):
            column = watched.get(table)
            if column is None:
                continue
            transactions.add(transaction)
            if change[2] == "TRUNCATE":
                whole = True
                continue
            found = set(_keys(text[change.end() :], column, text))
            if not found:
                raise StoreError(
                    f"a change of {table} does not say its {column!r}: give the table a replica identity that holds it, as in "
                    f"ALTER TABLE {table} REPLICA IDENTITY FULL, then rebuild the index"
                )
            keys |= found
    return Touched(frozenset(keys), frozenset(transactions), whole, upto)


def _tables(text: str) -> Iterator[str]:
    for schema, table in _TABLE.findall(text):
        yield f"{_plain(schema)}.{_plain(table)}"


def _plain(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _keys(text: str, column: str, line: str) -> Iterator[str]:
    """Return the values of a column in a change: of a row before and after it, where both are told."""
    old: list[str] | None = None
    if text == "(no-tuple-data)":
        return
    if text.startswith("old-key: "):
        text = text.removeprefix("old-key: ")
        old = []
    place, now = 0, list[str]()
    while place < len(text):
        if old is not None and text.startswith("new-tuple: ", place):
            old, now, place = now, [], place + len("new-tuple: ")
        found = _COLUMN.match(text, place)
        if found is None:
            raise StoreError(f"a decoded change is not understood at {text[place : place + 40]!r}: {line[:100]!r}")
        place = found.end()
        if _plain(found[1]) == column and found[3] not in {"null", _TOAST}:
            now.append(_value(found[3]))
        elif _plain(found[1]) == column and found[3] == _TOAST:
            raise StoreError(f"a key that is stored out of line cannot be told from a change: {line[:100]!r}")
    yield from (*(old or ()), *now)


def _value(text: str) -> str:
    if text.startswith("'"):
        return text[1:-1].replace("''", "'")
    if text[:2] in {"B'", "X'"}:
        return text[2:-1]
    return text
