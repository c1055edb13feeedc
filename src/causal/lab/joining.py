"""Joining: what several processes recorded becomes one history of sessions.

Owns how requests become sessions. A recorder names each request (a session object) and says which tokens it was given and which it gave
out (`causal.trail`). Whoever presents a token was promised everything that had been answered before that token was given out: so the
request goes on where the other had come to. Two requests of one user without a token between them were promised nothing of each other, and
stay apart; so do those whose token came from a process whose file is missing.

Requests that present the same token at the same time fork a session. The longest line of requests is the session's trunk; the others are
numbered behind it, each of their operations after what the trunk had come to when they left it, and in no order otherwise. What was
promised along such a branch itself is judged in a second history, in which each line of requests is a session.

Files are read twice, and no operation is kept as an object. Knows no guarantee.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import attrs

from causal.lab.history import FORMAT, History, HistoryError
from causal.lab.history_line import parse_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_FILE_BITS: Final = 48
COUNTERS: Final = ("sessions", "skipped", "unnamed", "dropped", "failed")


@attrs.define(eq=False)
class Source:
    """What one process said of its recording. Thread-safety: none."""

    sample: float = 1.0
    counts: dict[str, int] = attrs.field(factory=lambda: dict.fromkeys(COUNTERS, 0))


@attrs.define(eq=False)
class Request:
    """One session object: where its lines are, what it was given and gave out, and where it was put."""

    name: str
    places: array[int] = attrs.field(factory=lambda: array("Q"))
    seqs: array[int] = attrs.field(factory=lambda: array("q"))
    lines: array[int] = attrs.field(factory=lambda: array("Q"))
    last: int = 0
    first_at: float | None = None
    given: tuple[str, ...] | None = None
    issued: list[tuple[int, str, float]] = attrs.field(factory=list)
    parent: tuple[Request, int] | None = None
    children: list[tuple[int, Request]] = attrs.field(factory=list)
    weight: int = 0
    line: list[Request] = attrs.field(factory=list)
    base: int = 0

    @property
    def who(self) -> str:
        """The digest of the subject, or "-"."""
        return self.name.partition(".")[0] if "." in self.name else "-"


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
    starts: tuple[int, ...]
    """How many lines there are before each file."""

    def place(self, line: int) -> str:
        """Return where a line of the history was recorded: FILE:LINE."""
        nth = max(n for n, start in enumerate(self.starts) if start < line)
        return f"{self.files[nth]}:{line - self.starts[nth]}"


def join(paths: Sequence[str]) -> Joined:
    """Read the files and join them. Raises: HistoryError for one that cannot be read, or if there is no operation at all."""
    reading = _Reading()
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
    requests = list(reading.requests.values())
    trees = _trees(requests, reading.counts)
    counts = reading.counts
    counts.requests, counts.sessions = len(requests), len(trees)
    counts.bare = _bare(requests)
    files = [open(path, "rb") for path in paths]  # noqa: SIM115 - closed below, all together
    try:
        history, branches = _written(trees, files)
    finally:
        for file in files:
            file.close()
    for told in (history, branches):
        if told is not None:
            for shard, origin, offset in reading.ends:
                told.end(shard, origin, offset)
    promised = reading.guarantees
    return Joined(
        history,
        branches,
        counts,
        reading.sources,
        frozenset.intersection(*promised) if promised else None,
        reading.dependencies,
        tuple(paths),
        tuple(starts),
    )


class _Reading:
    """The first reading: which requests there are."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.requests: dict[str, Request] = {}
        self.sources: dict[str, Source] = {}
        self.ends: list[tuple[int, int, int]] = []
        self.guarantees: list[frozenset[str]] = []
        self.dependencies = True

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


# --- who goes on where -----------------------------------------------------------------------------------------------


def _trees(requests: list[Request], counts: Counts) -> list[Request]:
    """Give each request the one that it goes on from, and the line of requests that it belongs to; return the first of each tree."""
    issuers: dict[str, list[tuple[float, int, Request]]] = {}
    for request in requests:
        for seq, token, at in request.issued:
            issuers.setdefault(token, []).append((at, seq, request))
    for request in requests:
        found = [issue for token in request.given or () for issue in issuers.get(token, ()) if issue[2] is not request]
        if request.given and not found:
            counts.strangers += 1
        at = request.first_at if request.first_at is not None else float("inf")
        before = [issue for issue in found if issue[0] <= at] or found
        for _, seq, parent in sorted(before, key=lambda issue: issue[:2], reverse=True):
            if not _descends(parent, request):
                request.parent = parent, seq
                parent.children.append((seq, request))
                break
    roots = [request for request in requests if request.parent is None]
    for root in roots:
        _lines(root)
    counts.branches = sum(request.line[0] is request and request.parent is not None for request in requests)
    return roots


def _descends(request: Request, ancestor: Request) -> bool:
    """Return whether a request goes on, at some remove, from another."""
    while request is not ancestor:
        if request.parent is None:
            return False
        request = request.parent[0]
    return True


def _tree(root: Request) -> list[Request]:
    """Return a tree's requests, parents before children."""
    order = [root]
    for request in order:
        order.extend(child for _, child in request.children)
    return order


def _lines(root: Request) -> None:
    """Divide a tree into lines: each request is followed by the heaviest that goes on from its very end."""
    order = _tree(root)
    for request in reversed(order):
        request.weight = len(request.places) + sum(child.weight for _, child in request.children)
    for request in order:
        if not request.line:
            request.line = [request]
        following = [child for seq, child in request.children if seq >= request.last]
        if following:
            heaviest = max(following, key=lambda child: child.weight)
            heaviest.line = request.line
            request.line.append(heaviest)


def _bare(requests: list[Request]) -> int:
    """Return how many requests brought no token whose subject had been given one."""
    given: dict[str, float] = {}
    for request in requests:
        for _, _, at in request.issued:
            given[request.who] = min(at, given.get(request.who, at))
    return sum(
        not request.given
        and request.who != "-"
        and request.first_at is not None
        and request.first_at > given.get(request.who, request.first_at)
        for request in requests
    )


# --- the histories ---------------------------------------------------------------------------------------------------


def _written(roots: list[Request], files: Sequence[BinaryIO]) -> tuple[History, History | None]:
    """Return the history of trunks, with their branches behind them; and of lines, if a branch has an order of its own."""
    history, branching = History("the joined history"), False
    for root in roots:
        trunk, seq, name = set(map(id, root.line)), 0, root.name
        for request in root.line:
            request.base = seq
            _put(history, request, files, name)
            seq += request.last
        floors: dict[int, int] = {}
        for request in _tree(root):
            if id(request) in trunk:
                continue
            assert request.parent is not None
            parent, at = request.parent
            floors[id(request)] = parent.base + at if id(parent) in trunk else floors[id(parent)]
            request.base = seq
            _put(history, request, files, name, floors[id(request)])
            seq += request.last
            branching |= len(request.line) > 1 or len(request.places) > 1
    if not branching:
        return history, None
    branches = History("the branches of the joined history")
    for root in roots:
        for first in _tree(root):
            if first.line[0] is first:
                seq = 0
                for request in first.line:
                    request.base = seq
                    _put(branches, request, files, first.name)
                    seq += request.last
    return history, branches


def _put(history: History, request: Request, files: Sequence[BinaryIO], name: str, floor: int | None = None) -> None:
    """Append a request's operations to a session; above a floor they follow that, and not each other."""
    for row, line in _rows(request, files):
        seq = request.base + row["seq"]
        if row["op"] in {"lost", "forget"}:
            history.tell(row["op"], name, seq, row["shard"], tuple(row["version"]))
            continue
        after = floor if floor is not None else request.base + row["after"] if "after" in row else None
        version = row.get("version")
        history.add(
            name,
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


def _rows(request: Request, files: Sequence[BinaryIO]) -> Iterator[tuple[dict[str, Any], int]]:
    """Read a request's lines again, in the order of their numbers."""
    for _, place, line in sorted(zip(request.seqs, request.places, request.lines, strict=True)):
        file = files[place >> _FILE_BITS]
        file.seek(place & ((1 << _FILE_BITS) - 1))
        _, row = parse_line(file.readline())
        if row is not None:  # nobody changes a file meanwhile
            yield row, line
