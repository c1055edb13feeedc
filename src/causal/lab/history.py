"""Histories: what each session read and wrote, as it was answered. JSON Lines, one object a line; `docs/howto/check.md` tells it.

Owns the format and its errors, and the form in memory: columns of plain numbers, about 60 bytes an operation besides its value, filled
line by line, so that a million lines need no second copy. Knows no guarantee: whether a history is right is the checker's.

Lines stand in the order in which operations were answered; sessions may be interleaved in any way. `seq` numbers a session's requests as
they start, and `after` is the highest one that had been answered by then (the one before it, if it is not given): an operation follows
that one and whatever the session was answered before that one.
"""

from __future__ import annotations

import json
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from causal.errors import CausalError
from causal.lab.history_line import parse_line, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FORMAT: Final = 1
WRITE: Final = 1
REFUSED: Final = 2
"""It had no effect: only its number stands in the history."""
IN_DOUBT: Final = 4
"""A write that may or may not have happened."""
NOT_HELD: Final = 8
"""A read whose policy promised less than the session's guarantees."""
DELETE: Final = 16

NO_VERSION: Final = -1
NO_STAMP: Final = -1
_OPS: Final = ("read", "write")


class HistoryError(CausalError, ValueError):
    """A line of a history that cannot be read; `file`, `line` (0: the file itself) and `reason` say which and why."""

    def __init__(self, file: str, line: int, reason: str) -> None:
        self.file, self.line, self.reason = file, line, reason
        super().__init__(f"{file}:{line}: {reason}" if line else f"{file}: {reason}")


@attrs.frozen
class Told:
    """That a session was told of a lost write of its own (`lost`), or accepted it (`forget`). Thread-safety: immutable."""

    op: str
    session: int
    seq: int
    shard: int
    origin: int
    offset: int


class History:
    """Operations in columns: what number i did stands at place i of each. Sessions, keys and endpoints are places in their lists.

    `keys` holds (shard, key): the same text on two shards is two keys. `origin` is NO_VERSION where no version is known, `stamp`
    NO_STAMP where there is none. `flags` unites WRITE, REFUSED, IN_DOUBT, NOT_HELD and DELETE. `after` has only what was said.

    Thread-safety: none while it is filled, then immutable by convention.
    """

    def __init__(self, name: str = "history") -> None:
        self.name: Final = name
        self.meta: dict[str, Any] = {}
        self.sessions: list[str] = []
        self.keys: list[tuple[int, str]] = []
        self.endpoints: list[str] = [""]
        self.session = array("i")
        self.seq = array("q")
        self.flags = bytearray()
        self.key = array("i")
        self.values: list[Any] = []
        self.origin = array("q")
        self.offset = array("Q")
        self.stamp = array("q")
        self.endpoint = array("i")
        self.line = array("I")
        self.after: dict[int, int] = {}
        self.ends: dict[tuple[int, int], int] = {}
        self.told: list[Told] = []
        self._session_of: dict[str, int] = {}
        self._key_of: dict[tuple[int, str], int] = {}
        self._endpoint_of: dict[str, int] = {"": 0}
        self._last_seq = array("q")
        self._unsorted: set[int] = set()

    def __len__(self) -> int:
        return len(self.seq)

    def add(
        self,
        session: str,
        seq: int,
        op: str,
        key: str,
        *,
        shard: int = 0,
        value: Any = None,
        version: tuple[int, int] | None = None,
        stamp: int | None = None,
        after: int | None = None,
        ok: bool | None = True,
        held: bool | None = None,
        delete: bool = False,
        endpoint: str | None = None,
        line: int | None = None,
    ) -> int:
        """Append an operation as its answer arrives, and return its place. Fields are those of a line, and are trusted.

        Complexity: constant.
        """
        place = len(self.seq)
        number = self._session_of.get(session)
        if number is None:
            number = self._session_number(session)
        if seq <= self._last_seq[number]:
            self._unsorted.add(number)
        else:
            self._last_seq[number] = seq
        key_number = self._key_of.get((shard, key))
        if key_number is None:
            key_number = self._key_of[shard, key] = len(self.keys)
            self.keys.append((shard, key))
        flags = WRITE if op == "write" else 0
        if ok is not True:
            flags |= IN_DOUBT if ok is None else REFUSED
        if held is False:
            flags |= NOT_HELD
        if delete:
            flags |= DELETE
        self.session.append(number)
        self.seq.append(seq)
        self.flags.append(flags)
        self.key.append(key_number)
        self.values.append(value)
        origin, offset = version if version is not None else (NO_VERSION, 0)
        self.origin.append(origin)
        self.offset.append(offset)
        self.stamp.append(NO_STAMP if stamp is None else stamp)
        self.endpoint.append(self._endpoint(endpoint) if endpoint else 0)
        self.line.append(place + 1 if line is None else line)
        if after is not None and after != seq - 1:
            self.after[place] = after
        return place

    def end(self, shard: int, origin: int, offset: int) -> None:
        """Note where an origin's surviving history ends; if that is said twice, the earlier end counts."""
        self.ends[shard, origin] = min(offset, self.ends.get((shard, origin), offset))

    def tell(self, op: str, session: str, seq: int, shard: int, version: tuple[int, int]) -> None:
        """Note that a session was told of a lost write of its own (op "lost"), or accepted it (op "forget")."""
        number = self._session_of.get(session)
        self.told.append(Told(op, self._session_number(session) if number is None else number, seq, shard, *version))

    def unsorted_sessions(self) -> Iterator[int]:
        """The sessions of which some operation was answered before one that had started earlier."""
        return iter(sorted(self._unsorted))

    def _session_number(self, session: str) -> int:
        number = self._session_of[session] = len(self.sessions)
        self.sessions.append(session)
        self._last_seq.append(-1)
        return number

    def _endpoint(self, endpoint: str) -> int:
        number = self._endpoint_of.get(endpoint)
        if number is None:
            number = self._endpoint_of[endpoint] = len(self.endpoints)
            self.endpoints.append(endpoint)
        return number

    def fields(self, place: int) -> dict[str, Any]:
        """Return an operation as the fields of its line, without what a line may leave out."""
        flags = self.flags[place]
        shard, key = self.keys[self.key[place]]
        row: dict[str, Any] = {
            "session": self.sessions[self.session[place]],
            "seq": self.seq[place],
            "op": _OPS[flags & WRITE],
            "key": key,
        }
        if shard:
            row["shard"] = shard
        if self.values[place] is not None or flags & WRITE:
            row["value"] = self.values[place]
        if self.origin[place] != NO_VERSION:
            row["version"] = [self.origin[place], self.offset[place]]
        if self.stamp[place] != NO_STAMP:
            row["stamp"] = self.stamp[place]
        if place in self.after:
            row["after"] = self.after[place]
        if flags & (REFUSED | IN_DOUBT):
            row["ok"] = False if flags & REFUSED else None
        if flags & NOT_HELD:
            row["held"] = False
        if flags & DELETE:
            row["delete"] = True
        if self.endpoint[place]:
            row["endpoint"] = self.endpoints[self.endpoint[place]]
        return row

    def lines(self) -> Iterator[str]:
        """The history as lines, each with its end; parsed again they are the same history."""
        if self.meta:
            yield line({"op": "meta", **self.meta})
        for place in range(len(self)):
            yield line(self.fields(place))
        for (shard, origin), offset in self.ends.items():
            yield line({"op": "end", "shard": shard, "origin": origin, "offset": offset})
        for told in self.told:
            row = {"op": told.op, "session": self.sessions[told.session], "seq": told.seq, "shard": told.shard}
            yield line(row | {"version": [told.origin, told.offset]})


def line(row: dict[str, Any]) -> str:
    """Return fields as a line of a history, with its end: JSON, ASCII, nothing that depends on the machine."""
    return json.dumps(row, separators=(",", ":"), allow_nan=False) + "\n"


def read_history(path: str | Path) -> History:
    """Read and check a whole history. Raises: HistoryError at the first line that is wrong, or if there is no operation."""
    try:
        with Path(path).open("rb") as file:
            return parse_history(file, str(path))
    except OSError as error:
        raise HistoryError(str(path), 0, f"cannot be read: {error.strerror}") from error


def parse_history(lines: Iterable[bytes], name: str) -> History:
    """Check a history line by line, whose errors are to call it `name`. Raises: HistoryError, as `read_history`."""
    history = History(name)
    number = 0
    for number, raw in enumerate(lines, start=1):
        reason = _add(history, raw, number)
        if reason:
            raise HistoryError(name, number, reason)
    if not len(history):
        raise HistoryError(name, number, "no operations")
    _check_order(history)
    return history


def _check_order(history: History) -> None:
    """Raise HistoryError where a session's numbers contradict its lines.

    It has a number twice; or was answered after what started when it had been answered; or another one, higher than the `after` of some
    request, had been answered before that.
    """
    wanted = set(history.unsorted_sessions())
    if not wanted:
        return
    highest: dict[int, dict[int, int]] = {number: {} for number in wanted}  # seq -> the highest answered by then
    started_after: dict[int, set[int]] = {number: set() for number in wanted}
    top = dict.fromkeys(wanted, -1)
    for place, number in enumerate(history.session):
        if number not in wanted:
            continue
        seq = history.seq[place]
        after = history.after.get(place, seq - 1)
        known = highest[number]
        reason = ""
        if seq in known:
            reason = f"has seq {seq} twice"
        elif seq in started_after[number]:
            reason = f"was answered seq {seq} after one that started when it had been answered"
        elif known.get(after, after) > after:
            reason = f"was answered seq {known[after]} before seq {after}, so that seq {seq} has another `after`"
        if reason:
            name = history.sessions[number]
            raise HistoryError(history.name, history.line[place], f"session {shown(name)} {reason}")
        top[number] = known[seq] = max(top[number], seq)
        started_after[number].add(after)


def _add(history: History, raw: bytes, number: int) -> str:
    """Add a line to a history; return the reason why it cannot be, or nothing."""
    reason, row = parse_line(raw)
    if row is None:
        return reason
    op = row["op"]
    if op == "meta":
        return _add_meta(history, row, number)
    if op == "end":
        history.end(row["shard"], row["origin"], row["offset"])
    elif op in {"lost", "forget"}:
        history.tell(op, row["session"], row["seq"], row["shard"], tuple(row["version"]))
    else:
        return _add_operation(history, row, number)
    return ""


def _add_operation(history: History, row: dict[str, Any], number: int) -> str:
    op, seq, ok = row["op"], row["seq"], row.get("ok", True)
    delete = row.get("delete", False)
    after = row.get("after")
    if after is not None and after >= seq:
        return f"after is lower than seq, which is {seq}, not {shown(after)}"
    if delete and (op == "read" or row["value"] is not None):
        return "delete is for a write whose value is null"
    if op == "read" and ok is None:
        return "ok is null (in doubt) only for a write"
    version = row.get("version")
    if op == "read" and version is None and "stamp" in row:
        return "a stamp is a version's: this read has none"
    history.add(
        row["session"],
        seq,
        op,
        row["key"],
        shard=row.get("shard", 0),
        value=row.get("value"),
        version=None if version is None else (version[0], version[1]),
        stamp=row.get("stamp"),
        after=after,
        ok=ok,
        held=row.get("held"),
        delete=delete,
        endpoint=row.get("endpoint"),
        line=number,
    )
    return ""


def _add_meta(history: History, row: dict[str, Any], number: int) -> str:
    if number != 1:
        return "meta is the first line, if any: what stores record is read by causal audit, which writes it joined (--write)"
    if row.get("format", FORMAT) != FORMAT or isinstance(row.get("format"), bool):
        return f"format is {FORMAT}, not {shown(row['format'])}"
    history.meta = {name: value for name, value in row.items() if name != "op"}
    return ""
