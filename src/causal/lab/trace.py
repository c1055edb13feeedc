"""Traces: who read and wrote what, when. One JSON object a line.

Owns the format and its errors. A line is `{"t": seconds, "session": text, "op": "read" | "write", "key": text, "value": text}`;
`value` belongs to writes only, and times never go back. Whatever a store could refuse is refused here, before anything is replayed.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

import attrs

from causal.errors import CausalError, ConfigError
from causal.kv import check_key, encode_value

MAX_T_S: Final = 1e9
"""The latest time of a trace: what is far beyond it is no number of seconds."""
_SHOWN: Final = 60


class TraceError(CausalError, ValueError):
    """A line of a trace that cannot be replayed; `file`, `line` (0: the file itself) and `reason` say which and why."""

    def __init__(self, file: str, line: int, reason: str) -> None:
        self.file, self.line, self.reason = file, line, reason
        super().__init__(f"{file}:{line}: {reason}" if line else f"{file}: {reason}")


@attrs.frozen
class Operation:
    """One operation of a trace; `number` is its place, which is also the identity of what it writes.

    Units: `t_s` in seconds. Thread-safety: immutable.
    """

    number: int
    t_s: float
    session: str
    op: str
    key: str
    value: Any = None


def read_trace(path: str | Path) -> list[Operation]:
    """Read and check a whole trace. Raises: TraceError at the first line that is wrong, or if there is none at all."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise TraceError(str(path), 0, f"cannot be read: {error.strerror}") from error
    return parse_trace(data, str(path))


def parse_trace(data: bytes, name: str) -> list[Operation]:
    """Check a whole trace, whose errors are to call it `name`. Raises: TraceError, as `read_trace`."""
    operations: list[Operation] = []
    last_s = -math.inf
    lines = data.split(b"\n")
    for number, raw in enumerate(lines, start=1):
        if not raw.strip():
            if number == len(lines):
                break
            raise TraceError(name, number, "an empty line")
        reason, operation = _parse(raw, len(operations))
        if operation is None:
            raise TraceError(name, number, reason)
        if operation.t_s < last_s:
            raise TraceError(name, number, f"time goes back from {last_s:g} to {operation.t_s:g}")
        last_s = operation.t_s
        operations.append(operation)
    if not operations:
        raise TraceError(name, 1, "no operations")
    return operations


def _parse(raw: bytes, number: int) -> tuple[str, Operation | None]:
    """Return the operation of a line, or the reason why there is none."""
    try:
        row = json.loads(raw, object_pairs_hook=_unique)
    except _TwiceError as error:
        return str(error), None
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}", None
    if not isinstance(row, dict):
        return f"a line is an object, not {type(row).__name__}", None
    unknown = row.keys() - {"t", "session", "op", "key", "value"}
    if unknown:
        return f"unknown field {_shown(min(unknown))}", None
    t_s, session, op, key = (row.get(name) for name in ("t", "session", "op", "key"))
    if isinstance(t_s, bool) or not isinstance(t_s, int | float) or not 0 <= t_s <= MAX_T_S:
        return f"t is a number of seconds in 0..{MAX_T_S:g}, not {_shown(t_s)}", None
    if not isinstance(session, str) or not 0 < len(session) <= 255 or not session.isprintable():
        return f"session is a printable text of 1 to 255 characters, not {_shown(session)}", None
    if op not in {"read", "write"}:
        return f"op is 'read' or 'write', not {_shown(op)}", None
    if (op == "write") != ("value" in row):
        return "a write has a value, a read has none", None
    try:
        check_key(key)  # type: ignore[arg-type]  # says so itself
        encode_value([number, row.get("value")])
    except ConfigError as error:
        return str(error), None
    assert isinstance(key, str)
    return "", Operation(number, float(t_s), session, op, key, row.get("value"))


class _TwiceError(ValueError):
    """A field that one object has twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object's fields. Raises: _TwiceError: a parser that keeps one of two values replays what nobody wrote."""
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise _TwiceError(f"field {_shown(name)} stands twice in one object")
        fields[name] = value
    return fields


def _shown(value: object) -> str:
    """Return a value as an error may show it: whoever reads it knows it by its start."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text):,} characters)"
