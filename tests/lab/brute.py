"""The definitions, written down as they are said, with no thought of speed: what the checker is held against.

A history is a list of rows, in the order of its lines. Relations are sets of pairs of places in that list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations, pairwise

import attrs

from causal.lab.history import History

Pairs = frozenset[tuple[int, int]]


@attrs.frozen
class Row:
    """One operation. `value` is what a read returned: None for nothing. Values are unique; `version` is (origin, offset)."""

    session: str
    seq: int
    op: str
    key: str
    value: str | None
    version: tuple[int, int] | None = None
    after: int | None = None
    ok: bool | None = True
    stamp: int | None = None
    held: bool | None = None


def history(rows: Iterable[Row], meta: dict[str, object] | None = None) -> History:
    made = History()
    made.meta = dict(meta or {})
    for row in rows:
        made.add(
            row.session,
            row.seq,
            row.op,
            row.key,
            value=row.value,
            version=row.version,
            after=row.after,
            ok=row.ok,
            stamp=row.stamp,
            held=row.held,
        )
    return made


def closed(pairs: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    result = set(pairs)
    while True:
        more = {(a, d) for a, b in result for c, d in result if b == c} - result
        if not more:
            return result
        result |= more


class Brute:
    """All verdicts on rows, by definition: True where a guarantee holds."""

    def __init__(self, rows: Sequence[Row], *, white: bool) -> None:
        self.rows, self.white = rows, white
        everywhere = range(len(rows))
        self.source: dict[int, int | None] = {}
        for r in everywhere:
            if rows[r].op == "read" and rows[r].ok is True:
                of = [
                    w
                    for w in everywhere
                    if rows[w].op == "write" and rows[w].key == rows[r].key and rows[w].value == rows[r].value
                ]
                self.source[r] = of[0] if of else None
        read = set(self.source.values())
        self.ops = [
            i for i in everywhere if rows[i].ok is True or (rows[i].ok is None and rows[i].op == "write" and i in read)
        ]
        self.so = closed((a, b) for a in self.ops for b in self.ops if self.before(a, b))
        self.rf = {(w, r) for r, w in self.source.items() if w is not None}
        self.co = closed(self.so | self.rf)
        self.cyclic = any(a == b for a, b in self.co)

    def before(self, a: int, b: int) -> bool:
        """Whether b follows a in its session: a was answered when b started."""
        rows = self.rows
        if rows[a].session != rows[b].session or rows[a].ok is None or a >= b:
            return False
        most = rows[b].seq - 1 if rows[b].after is None else rows[b].after
        answered = [i for i in range(b) if rows[i].session == rows[b].session and rows[i].seq <= most]
        return bool(answered) and a <= max(answered, key=lambda i: rows[i].seq)

    def writes(self, key: str | None = None) -> list[int]:
        return [i for i in self.ops if self.rows[i].op == "write" and key in (None, self.rows[i].key)]

    def reads(self) -> list[int]:
        return [i for i in self.ops if self.rows[i].op == "read"]

    def newer(self, w: int, r: int) -> bool:
        """Whether a write of the key of a read is newer than what the read returned."""
        if self.rows[w].key != self.rows[r].key:
            return False
        mine = self.source[r]
        if mine is None:
            return True
        if self.white:
            return self.order(w) > self.order(mine)
        return w != mine and (mine, w) in self.co

    def order(self, w: int) -> tuple[int, ...]:
        version = self.rows[w].version
        assert version is not None
        stamp = self.rows[w].stamp
        return (version[1],) if stamp is None else (stamp, *version)

    def session(self, i: int) -> str:
        return self.rows[i].session

    def read_your_writes(self) -> bool:
        return not any(self.newer(w, r) for r in self.reads() for w in self.writes() if (w, r) in self.so)

    def monotonic_reads(self) -> bool:
        return not any(
            self.newer(w, r)
            for r in self.reads()
            for earlier in self.reads()
            if (earlier, r) in self.so and (w := self.source[earlier]) is not None
        )

    def revealed(self, r: int) -> list[int]:
        """The writes of other sessions that a session had read, up to and with a read."""
        return [
            w
            for earlier in self.reads()
            if earlier == r or (earlier, r) in self.so
            if (w := self.source[earlier]) is not None and self.session(w) != self.session(r)
        ]

    def monotonic_writes(self) -> bool:
        return not any(
            self.newer(first, r)
            for r in self.reads()
            for w in self.revealed(r)
            for first in self.writes()
            if (first, w) in self.so
        )

    def writes_follow_reads(self) -> bool:
        return not any(
            self.newer(first, r)
            for r in self.reads()
            for w in self.revealed(r)
            for earlier in self.reads()
            if (earlier, w) in self.so and (first := self.source[earlier]) is not None
        )

    def past(self, i: int) -> list[int]:
        return [j for j in self.ops if (j, i) in self.co]

    def causal(self) -> bool:
        """For each read some order of its causal past, by itself, explains what it returned."""
        if self.cyclic:
            return False
        return all(
            any(self.explains(order, [r]) for order in orders([*self.past(r), r], self.co)) for r in self.reads()
        )

    def memory(self) -> bool:
        """For each operation some order of its causal past explains all that its session had read by then."""
        if self.cyclic:
            return False
        for o in self.ops:
            mine = [r for r in self.reads() if r == o or (r, o) in self.so]
            explained = (self.explains(order, mine) for order in orders([*self.past(o), o], self.co))
            if not any(explained):
                return False
        return True

    def convergent(self) -> bool:
        """One order of all writes, for everybody: each read returns the last of its causal past."""
        if self.cyclic:
            return False
        writes = self.writes()
        wanted = set(self.co)
        if self.white:
            wanted |= {
                (a, b)
                for a in writes
                for b in writes
                if self.rows[a].key == self.rows[b].key and self.order(a) < self.order(b)
            }
        return any(
            all(self.last_of_past(order, r) == self.source[r] for r in self.reads()) for order in orders(writes, wanted)
        )

    def last_of_past(self, order: Sequence[int], r: int) -> int | None:
        past = [w for w in order if (w, r) in self.co and self.rows[w].key == self.rows[r].key]
        return past[-1] if past else None

    def explains(self, order: Sequence[int], reads: Sequence[int]) -> bool:
        last: dict[str, int] = {}
        for i in order:
            if self.rows[i].op == "write":
                last[self.rows[i].key] = i
            elif i in reads and last.get(self.rows[i].key) != self.source[i]:
                return False
        return True

    def verdicts(self) -> dict[str, bool]:
        """As the checker names them."""
        judges: dict[str, Callable[[], bool]] = {
            "read-your-writes": self.read_your_writes,
            "monotonic reads": self.monotonic_reads,
            "monotonic writes": self.monotonic_writes,
            "writes-follow-reads": self.writes_follow_reads,
            "causal (CC)": self.causal,
            "causal convergence (CCv)": self.convergent,
            "causal memory (CM)": self.memory,
        }
        return {name: judge() for name, judge in judges.items()}


def orders(ops: Sequence[int], wanted: Iterable[tuple[int, int]]) -> Iterator[list[int]]:
    """Every order of operations in which the first of each wanted pair comes before the second."""
    before = {b: {a for a, c in wanted if c == b and a in ops} for b in ops}
    order: list[int] = []

    def longer() -> Iterator[list[int]]:
        if len(order) == len(ops):
            yield order
            return
        for i in ops:
            if i not in order and before[i] <= set(order):
                order.append(i)
                yield from longer()
                order.pop()

    return longer()


def histories(n: int, keys: str, sessions: int) -> Iterator[list[Row]]:
    """Every history of n operations on some keys, but for the names of sessions, keys and values.

    Reads return nothing, or what any write of their key wrote, wherever it stands: most of these no store would make.
    """
    for sizes in partitions(n, sessions):
        for shape in shapes(n, keys):
            if any(
                sizes[a] == sizes[a + 1] and chunk(shape, sizes, a) > chunk(shape, sizes, a + 1)
                for a in range(len(sizes) - 1)
            ):
                continue  # the same, with two sessions in each other's place
            for values in sourced(shape):
                rows = []
                names = [(f"s{s}", seq) for s, size in enumerate(sizes) for seq in range(1, size + 1)]
                for (session, seq), (op, key), value in zip(names, shape, values, strict=True):
                    rows.append(Row(session, seq, op, key, value))
                yield rows


def chunk(shape: Sequence[tuple[str, str]], sizes: Sequence[int], at: int) -> Sequence[tuple[str, str]]:
    start = sum(sizes[:at])
    return shape[start : start + sizes[at]]


def partitions(n: int, parts: int) -> Iterator[list[int]]:
    """Every way to write n as a sum of at most so many numbers, largest first."""
    for cuts in range(parts):
        for at in combinations(range(1, n), cuts):
            ends = [0, *at, n]
            sizes = [b - a for a, b in pairwise(ends)]
            if sizes == sorted(sizes, reverse=True):
                yield sizes


def shapes(n: int, keys: str) -> Iterator[list[tuple[str, str]]]:
    """Every list of n kinds of operations; new keys in the order of their names."""
    if not n:
        yield []
        return
    for rest in shapes(n - 1, keys):
        used = len({key for _, key in rest})
        for key in keys[: used + 1]:
            for op in ("read", "write"):
                yield [*rest, (op, key)]


def sourced(shape: Sequence[tuple[str, str]]) -> Iterator[list[str | None]]:
    """Every way to say what each read returned; write number i wrote `v{i}`."""
    chosen: list[list[str | None]] = [[]]
    for i, (op, key) in enumerate(shape):
        if op == "write":
            options: list[str | None] = [f"v{i}"]
        else:
            options = [None, *(f"v{w}" for w, (other, k) in enumerate(shape) if other == "write" and k == key)]
        chosen = [[*values, value] for values in chosen for value in options]
    yield from chosen


def told(text: str) -> list[Row]:
    """Rows from lines like `alice writes photo = new @ 2`, `bob reads photo = nothing`; `@` gives the version's offset, of origin 1."""
    seqs: dict[str, int] = {}
    rows = []
    for line in filter(None, map(str.strip, text.replace(";", "\n").splitlines())):
        session, op, key, _, value, *offset = line.split()
        seqs[session] = seqs.get(session, 0) + 1
        version = (1, int(offset[1])) if offset else None
        rows.append(Row(session, seqs[session], op.rstrip("s"), key, None if value == "nothing" else value, version))
    return rows


def versioned(rows: Sequence[Row], offsets: Sequence[int]) -> list[Row]:
    """Rows with a version for each value: the writes, in the order of lines, take these offsets."""
    values = [row.value for row in rows if row.op == "write"]
    of = dict(zip(values, offsets, strict=True))
    return [attrs.evolve(row, version=(1, of[row.value])) if row.value in of else row for row in rows]
