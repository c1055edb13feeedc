"""Joining: what several processes recorded becomes one history of sessions.

Owns the reading of files, twice, and how a session's requests are numbered. Which requests are one session, `lineage.py` knows: a session
has a trunk, one line of requests, and branches that left it. Branches are numbered behind the trunk, each of their operations after what
the trunk had come to when they left it, and in no order otherwise. What was promised along a branch itself is judged in a second
history, in which each line of requests is a session.

No operation is kept as an object. Knows no guarantee.
"""

from __future__ import annotations

import json
import os
from array import array
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import attrs

from causal.lab.history import FORMAT, History, HistoryError
from causal.lab.history_line import parse_line
from causal.lab.lineage import Request, bare, tree, trees
from causal.lab.untold import Losses

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Tell = Callable[[float], object]

_FILE_BITS: Final = 48
_OFTEN: Final = 4096
COUNTERS: Final = ("sessions", "skipped", "unnamed", "dropped", "failed")


@attrs.define(eq=False)
class Source:
    """What one process said of its recording. Thread-safety: none."""

    sample: float = 1.0
    counts: dict[str, int] = attrs.field(factory=lambda: dict.fromkeys(COUNTERS, 0))


@attrs.define(eq=False)
class Counts:
    """What was read, and what cannot be judged, and why. Thread-safety: none."""

    lines: int = 0
    damaged: int = 0
    first_damage: str = ""
    requests: int = 0
    sessions: int = 0
    reads: int = 0
    writes: int = 0
    refused: int = 0
    in_doubt: int = 0
    lost: int = 0
    unheld: int = 0
    """Reads whose policy promised less."""
    versionless: int = 0
    """Writes that were acknowledged without a version."""
    branches: int = 0
    """Requests that left a session's trunk."""
    strangers: int = 0
    """Requests whose token nobody gave out in these files."""
    bare: int = 0
    """Requests of a subject that brought no token, though the subject had been given one."""


@attrs.define(eq=False)
class Joined:
    """The histories that come of some files. `branches` is None where no session forked in a way that could hide something."""

    history: History
    branches: History | None
    counts: Counts
    sources: dict[str, Source]
    guarantees: frozenset[str] | None
    """What all the stores promise that said so; None if none did."""
    dependencies: bool
    files: tuple[str, ...]
    losses: Losses
    starts: tuple[int, ...]
    """How many lines there are before each file."""

    def place(self, line: int) -> str:
        """Return where a line of the history was recorded: FILE:LINE."""
        nth = max(n for n, start in enumerate(self.starts) if start < line)
        return f"{self.files[nth]}:{line - self.starts[nth]}"


def join(paths: Sequence[str], tell: Tell = lambda part: None) -> Joined:
    """Read the files and join them; a file that is named twice is read once. `tell` hears which part of the work is done, up to 1.

    Raises: HistoryError for a file that cannot be read, or if there is no operation at all. Complexity: linear, two readings.
    """
    places = [os.path.realpath(path) for path in paths]
    paths = [path for n, path in enumerate(paths) if places.index(places[n]) == n]
    reading, size = _Reading(lambda read: tell(read / size / 2)), max(1, sum(map(_size, paths)))
    starts: list[int] = []
    for nth, path in enumerate(paths):
        starts.append(reading.counts.lines)
        try:
            with open(path, "rb") as file:
                reading.file(nth, path, file)
        except OSError as error:
            raise HistoryError(path, 0, f"cannot be read: {error.strerror}") from error
    if not any(request.places for request in reading.requests.values()):
        raise HistoryError(paths[0], 0, reading.counts.first_damage or "no operations")
    requests, counts = list(reading.requests.values()), reading.counts
    roots, counts.strangers = trees(requests)
    counts.requests, counts.sessions, counts.bare = len(requests), len(roots), bare(requests)
    counts.branches = sum(request.line[0] is request and request.parent is not None for request in requests)
    files = [open(path, "rb") for path in paths]  # noqa: SIM115 - closed below, all together
    try:
        history, branches, losses = _written(roots, reading, files, lambda part: tell((1 + part) / 2))
    finally:
        for file in files:
            file.close()
    sources = reading.sources.values()
    missing = sum(source.counts["dropped"] + source.counts["failed"] for source in sources) + counts.damaged
    sample = min((source.sample for source in sources), default=1.0)
    history.meta = {"format": FORMAT, "sample": sample, "dropped": missing}
    promised = reading.guarantees
    return Joined(
        history,
        branches,
        counts,
        reading.sources,
        frozenset.intersection(*promised) if promised else None,
        reading.dependencies,
        tuple(paths),
        losses,
        tuple(starts),
    )


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0  # whoever opens it says what is wrong


class _Reading:
    """The first reading: which requests there are."""

    def __init__(self, tell: Tell) -> None:
        self.tell, self.read = tell, 0
        self.counts = Counts()
        self.requests: dict[str, Request] = {}
        self.sources: dict[str, Source] = {}
        self.ends: list[tuple[int, int, int]] = []
        self.guarantees: list[frozenset[str]] = []
        self.dependencies = True
        self.valued: set[bool] = set()
        """Whether values stand there themselves: where files differ in that, which write a value is from says the same in both."""

    def file(self, nth: int, name: str, file: BinaryIO) -> None:
        offset, first = 0, self.counts.lines
        for raw in file:
            self.counts.lines += 1
            reason, row = parse_line(raw)
            if row is None:
                self.counts.damaged += 1
                self.counts.first_damage = self.counts.first_damage or f"{name}:{self.counts.lines - first}: {reason}"
            else:
                self._row(row, nth << _FILE_BITS | offset, name)
            offset += len(raw)
            if self.counts.lines % _OFTEN == 0:
                self.tell(self.read + offset)
        self.read += offset

    def _row(self, row: dict[str, Any], place: int, name: str) -> None:
        op = row["op"]
        if op == "end":
            self.ends.append((row["shard"], row["origin"], row["offset"]))
        elif op == "meta":
            self._meta(row, name)
        else:
            request = self._request(row)
            request.places.append(place)
            request.seqs.append(row["seq"])
            request.lines.append(self.counts.lines)
            request.ats.append(row.get("at", request.ats[-1] if request.ats else 0.0))
            request.last = max(request.last, row["seq"])
            self._count(op, row)

    def _request(self, row: dict[str, Any]) -> Request:
        name = row["session"]
        request = self.requests.get(name)
        if request is None:
            request = self.requests[name] = Request(name)
        if request.given is None and row["op"] not in {"lost", "forget"}:
            given = row.get("token_in")
            request.given = tuple(given.split(" ")) if given else ()
            request.first_at = row.get("at")
        return request

    def _meta(self, row: dict[str, Any], name: str) -> None:
        if row.get("format", FORMAT) != FORMAT:
            raise HistoryError(name, 0, f"its format is {row['format']!r}, not {FORMAT}")
        if isinstance(row.get("token_out"), str) and isinstance(row.get("session"), str):
            request = self._request(row)
            request.issued.append((int(row.get("seq", 0)), row["token_out"], float(row.get("at", 0.0))))
            return
        source = self.sources.setdefault(str(row.get("source", name)), Source())
        source.sample = row.get("sample", source.sample)
        for counter in COUNTERS:
            source.counts[counter] = max(source.counts[counter], row.get(counter, 0))
        if "values" in row:
            self.valued.add(bool(row["values"]))
        if "guarantees" in row:
            self.guarantees.append(frozenset(row["guarantees"]))
            self.dependencies &= bool(row.get("dependencies"))

    def _count(self, op: str, row: dict[str, Any]) -> None:
        counts, ok = self.counts, row.get("ok", True)
        if op in {"lost", "forget"}:
            counts.lost += op == "lost"
        elif ok is False:
            counts.refused += 1
        elif op == "read":
            counts.reads += 1
            counts.unheld += row.get("held") is False
        else:
            counts.writes += 1
            counts.in_doubt += ok is None
            counts.versionless += ok is True and row.get("version") is None


# --- the histories ---------------------------------------------------------------------------------------------------


def _written(
    roots: list[Request], reading: _Reading, files: Sequence[BinaryIO], tell: Tell
) -> tuple[History, History | None, Losses]:
    """Return the history of trunks, with their branches behind them; and of lines, if a branch has an order of its own."""
    history, branching = _Writing("the joined history"), False
    for root in roots:
        trunk, end = set(map(id, root.line)), 0
        history.session(root.name)
        for request in root.line:
            request.base = end
            history.plan(request)
            end += request.last
        floors: dict[int, int] = {}
        for request in tree(root):
            if id(request) in trunk:
                continue
            assert request.parent is not None
            parent, at = request.parent
            floors[id(request)] = parent.base + at if id(parent) in trunk else floors[id(parent)]
            request.base = end
            history.plan(request, floors[id(request)])
            end += request.last
            branching |= len(request.line) > 1 or len(request.places) > 1
    joined = history.written(reading, files, tell)
    if not branching:
        return joined, None, history.losses
    branches = _Writing("the branches of the joined history")
    for root in roots:
        for first in tree(root):
            if first.line[0] is first:
                end = 0
                branches.session(first.name)
                for request in first.line:
                    request.base = end
                    branches.plan(request)
                    end += request.last
    return joined, branches.written(reading, files, tell), history.losses


class _Writing:
    """A history that is planned session by session, and written in the order of time, as far as sessions have no other."""

    def __init__(self, name: str) -> None:
        self.history, self.losses = History(name), Losses()
        self._sessions: list[str] = []
        self._places, self._lines = array("Q"), array("Q")
        self._session, self._base, self._floor, self._at = array("I"), array("q"), array("q"), array("d")
        self._now = 0.0

    def session(self, name: str) -> None:
        """Begin a session."""
        self._sessions.append(name)
        self._now = 0.0

    def plan(self, request: Request, floor: int = -1) -> None:
        """Append a request to the session; above a floor its operations follow that, and not each other."""
        for _, place, line, at in sorted(zip(request.seqs, request.places, request.lines, request.ats, strict=True)):
            self._now = max(self._now, at)
            self._places.append(place)
            self._lines.append(line)
            self._session.append(len(self._sessions) - 1)
            self._base.append(request.base)
            self._floor.append(floor)
            self._at.append(self._now)

    def written(self, reading: _Reading, files: Sequence[BinaryIO], tell: Tell) -> History:
        """Read the lines again, and return the history."""
        history, canonical = self.history, len(reading.valued) > 1
        for shard, origin, offset in reading.ends:
            history.end(shard, origin, offset)
        at = [-1] * len(files)
        for done, n in enumerate(sorted(range(len(self._places)), key=self._at.__getitem__)):
            if done % _OFTEN == 0:
                tell(done / len(self._places))
            row = json.loads(_line(files, self._places[n], at))
            session, seq = self._session[n], self._base[n] + row["seq"]
            if row["op"] in {"lost", "forget"}:
                origin, offset = row["version"]
                for one in self.losses.told(session, row["shard"], origin, offset):
                    history.tell(row["op"], self._sessions[session], seq, row["shard"], (origin, one))
                continue
            place = _add(history, row, self._sessions[session], seq, self._after(n, row), self._lines[n])
            self.losses.add(history, place, session, row)
            if canonical and "version" in row and row["value"] is not None:
                history.values[place] = f"{history.origin[place]}@{history.offset[place]}"
        return history

    def _after(self, n: int, row: dict[str, Any]) -> int | None:
        if self._floor[n] >= 0:
            return self._floor[n]
        return self._base[n] + row["after"] if "after" in row else None


def _line(files: Sequence[BinaryIO], place: int, at: list[int]) -> bytes:
    """Read a line again, which was found right before. `at` says where each file is: a search would throw away what is read ahead."""
    nth, offset = place >> _FILE_BITS, place & ((1 << _FILE_BITS) - 1)
    if at[nth] != offset:
        files[nth].seek(offset)
    raw = files[nth].readline()
    at[nth] = offset + len(raw)
    return raw


def _add(history: History, row: dict[str, Any], session: str, seq: int, after: int | None, line: int) -> int:
    version = row.get("version")
    return history.add(
        session,
        seq,
        row["op"],
        row["key"],
        shard=row.get("shard", 0),
        value=row.get("value"),
        version=None if version is None else (version[0], version[1]),
        stamp=row.get("stamp"),
        after=after,
        ok=row.get("ok", True),
        held=row.get("held"),
        delete=row.get("delete", False),
        endpoint=row.get("endpoint"),
        line=line,
    )
