"""One line of a history: which fields it has, and what each may be.

Owns the syntax. Whether a line fits those before it is the history's to say.
"""

from __future__ import annotations

import json
from typing import Any, Final

MAX_U32: Final = (1 << 32) - 1
MAX_U63: Final = (1 << 63) - 1
MAX_U64: Final = (1 << 64) - 1
_SHOWN: Final = 60
_SCALARS: Final = (str, int, float, bool, type(None))

_FIELDS: Final = {
    op: frozenset(f"op {required} {optional}".split())
    for ops, required, optional in (
        (
            ("read", "write"),
            "session seq key",
            "shard value version stamp after ok held delete endpoint watermark token_in token_out how at",
        ),
        (("end",), "shard origin offset", ""),
        (("lost", "forget"), "session seq shard version", ""),
    )
    for op in ops
}
_REQUIRED: Final = {
    "read": ("session", "seq", "key"),
    "write": ("session", "seq", "key", "value"),
    "end": ("shard", "origin", "offset"),
    "lost": ("session", "seq", "shard", "version"),
    "forget": ("session", "seq", "shard", "version"),
}


def parse_line(raw: bytes) -> tuple[str, dict[str, Any] | None]:
    """Return the fields of a line, or the reason why there are none. Complexity: linear in the line."""
    try:
        row = _DECODER.decode(raw.decode())
    except _TwiceError as error:
        return str(error), None
    except (ValueError, RecursionError) as error:
        return (f"not JSON: {error}" if raw.strip() else "an empty line"), None
    if type(row) is not dict:
        return f"a line is an object, not {type(row).__name__}", None
    op = row.get("op")
    if op == "meta":
        return "", row
    if type(op) is not str or op not in _FIELDS:
        return f"op is read, write, end, lost, forget or meta, not {shown(op)}", None
    known = _FIELDS[op]
    if not known.issuperset(row):
        return f"unknown field {shown(min(row.keys() - known))}", None
    for name in _REQUIRED[op]:
        if name not in row:
            return f"no field {name}, which {op} has", None
    for name, value in row.items():
        reason = _CHECKS[name](value)
        if reason:
            return f"{name} is {reason}, not {shown(value)}", None
    if op in {"lost", "forget"} and row["version"] is None:
        return "version is [origin, offset], not None", None
    return "", row


def _text(value: object) -> str:
    return "" if type(value) is str and 0 < len(value) <= 1024 and value.isprintable() else "a printable text"


def _opaque(value: object) -> str:
    return "" if value is None or type(value) is str else "a text or null"


def _int(most: int) -> Any:
    return lambda value: "" if type(value) is int and 0 <= value <= most else f"a whole number in 0..{most}"


def _truth(value: object) -> str:
    return "" if type(value) is bool else "true or false"


def _pair(value: object) -> str:
    right = type(value) is list and len(value) == 2 and not (_origin(value[0]) or _offset(value[1]))
    return "" if right else "[origin, offset]"


def _marks(value: object) -> str:
    right = type(value) is dict and not any(not (o.isascii() and o.isdecimal()) or _offset(n) for o, n in value.items())
    return "" if right else "an object of origin: offset"


_origin: Final = _int(MAX_U32)
_offset: Final = _int(MAX_U64)
_CHECKS: Final[dict[str, Any]] = {
    "op": lambda value: "",
    "session": _text,
    "seq": _int(MAX_U63),
    "key": lambda value: "" if type(value) is str and value else "a text",
    "shard": _int(MAX_U32),
    "origin": _origin,
    "offset": _offset,
    "value": lambda value: "" if type(value) in _SCALARS else "a JSON scalar",
    "version": lambda value: "" if value is None else _pair(value),
    "stamp": _int(MAX_U63),
    "after": _int(MAX_U63),
    "ok": lambda value: "" if value is None or type(value) is bool else "true, false or null",
    "held": _truth,
    "delete": _truth,
    "endpoint": _opaque,
    "watermark": _marks,
    "token_in": _opaque,
    "token_out": _opaque,
    "how": _opaque,
    "at": lambda value: "" if type(value) in {int, float} else "a number of seconds",
}


class _TwiceError(ValueError):
    """A field that one object has twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object's fields. Raises: _TwiceError: a parser that keeps one of two values reads what nobody recorded."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(f"field {shown(next(name for name in names if names.count(name) > 1))} stands twice")
    return fields


def shown(value: object) -> str:
    """Return a value as an error may show it: whoever reads it knows it by its start."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text):,} characters)"


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_constant)
