"""Histories, judged as docs/spec/guarantees.md writes it: sets of pairs, closed by brute force, and a pattern for each guarantee."""

import json
from typing import Any

OK, VIOLATED, NOT_JUDGED = "ok", "violated", "not judged"
SESSIONS = ("ryw", "mr", "mw", "wfr")
NOTHING = "nothing"
"""What a read saw that found nothing."""
UNSAID = "unsaid"
"""What a read saw of which nobody can say what it was."""
Row = dict[str, Any]
Pairs = set[tuple[int, int]]


class HistoryError(Exception):
    """`args[0]` is the line, from 1."""


# --- lines ---------------------------------------------------------------------------------------------------------------

OPERATION = {
    *(
        "op session seq key shard value version stamp after ok held delete endpoint watermark token_in token_out how at".split()
    )
}
TELLING = {"op", "session", "seq", "shard", "version"}
ENDING = {"op", "shard", "origin", "offset"}


def whole(value: Any, bits: int) -> bool:
    return type(value) is int and 0 <= value < 2**bits


def is_version(value: Any) -> bool:
    return type(value) is list and len(value) == 2 and whole(value[0], 32) and whole(value[1], 64)


def is_mark(value: Any) -> bool:
    return type(value) is dict and all(o.isascii() and o.isdecimal() and whole(n, 64) for o, n in value.items())


def is_field(name: str, value: Any) -> bool:
    """Whether a field's value is one of its kind."""
    if name == "session":
        return type(value) is str and 0 < len(value) <= 1024 and value.isprintable()
    if name == "key":
        return type(value) is str and value != ""
    if name in {"seq", "after", "stamp"}:
        return whole(value, 63)
    if name in {"shard", "origin"}:
        return whole(value, 32)
    if name == "offset":
        return whole(value, 64)
    if name == "value":
        return value is None or type(value) in {str, int, float, bool}
    if name == "version":
        return value is None or is_version(value)
    if name == "ok":
        return value is None or type(value) is bool
    if name in {"held", "delete"}:
        return type(value) is bool
    if name == "watermark":
        return is_mark(value)
    if name == "at":
        return type(value) in {int, float}
    return value is None or type(value) is str


def no_number(name: str) -> float:
    raise ValueError(name)


def once(pairs: list[tuple[str, Any]]) -> Row:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("twice")
    return dict(pairs)


def parsed(line: Any) -> Row | None:
    """A line's fields, if it is one. A line is given as an object, or as the text that a file has."""
    try:
        text = line if isinstance(line, str) else json.dumps(line)
        row = json.loads(text, object_pairs_hook=once, parse_constant=no_number)
    except ValueError:
        return None
    if not isinstance(row, dict):
        return None
    op = row.get("op")
    if op == "meta":
        return row
    if op in ("read", "write"):
        allowed, needed = OPERATION, {"session", "seq", "key"} | ({"value"} if op == "write" else set())
    elif op in ("lost", "forget"):
        allowed = needed = TELLING
    elif op == "end":
        allowed = needed = ENDING
    else:
        return None
    if not needed <= set(row) <= allowed or not all(is_field(n, v) for n, v in row.items() if n != "op"):
        return None
    if op in ("lost", "forget") and row["version"] is None:
        return None
    if op in ("read", "write"):
        if "after" in row and row["after"] >= row["seq"]:
            return None
        if row.get("delete") and (op == "read" or row["value"] is not None):
            return None
        if op == "read" and (row.get("ok", True) is None or ("stamp" in row and row.get("version") is None)):
            return None
    return row


def after(row: Row) -> int:
    said: int = row.get("after", row["seq"] - 1)
    return said


def read(lines: list[Any]) -> tuple[Row, list[Row], list[Row]]:
    """The first line if it is a meta line, the operations, and the other lines; all must fit together."""
    meta: Row = {}
    operations: list[Row] = []
    others: list[Row] = []
    for number, line in enumerate(lines, 1):
        row = parsed(line)
        if row is None:
            raise HistoryError(number)
        if row["op"] == "meta":
            if number != 1 or row.get("format", 1) != 1 or row.get("format") is True:
                raise HistoryError(number)
            meta = row
        elif row["op"] in ("read", "write"):
            operations.append({**row, "line": number})
        else:
            others.append(row)
    if not operations:
        raise HistoryError(len(lines))
    for place, row in enumerate(operations):
        before = [other for other in operations[:place] if other["session"] == row["session"]]
        if any(other["seq"] == row["seq"] for other in before):
            raise HistoryError(row["line"])
        if any(after(other) == row["seq"] for other in before):
            raise HistoryError(row["line"])
        for at, other in enumerate(before):
            if other["seq"] == after(row) and any(earlier["seq"] > after(row) for earlier in before[:at]):
                raise HistoryError(row["line"])
    return meta, operations, others


def likened(value: Any) -> Any:
    """What a value is compared by: true is not 1, and 1.0 is."""
    return isinstance(value, bool), value


# --- relations -----------------------------------------------------------------------------------------------------------


def closed(pairs: Pairs) -> Pairs:
    """The transitive closure."""
    follow: dict[int, set[int]] = {}
    for a, b in pairs:
        follow.setdefault(a, set()).add(b)
    found: Pairs = set()
    for start, first in follow.items():
        todo = list(first)
        while todo:
            b = todo.pop()
            if (start, b) not in found:
                found.add((start, b))
                todo += follow.get(b, ())
    return found


def circular(pairs: Pairs) -> bool:
    return any(a == b for a, b in closed(pairs))


class Judge:
    """The relations of one history. Operations are known by their place; a write that is absent has a place behind the last."""

    def __init__(self, lines: list[Any], white: bool, held: bool) -> None:
        self.meta, self.rows, self.others = read(lines)
        self.white, self.held = white, held
        self.unjudgeable = False
        self.saw: dict[int, int | str] = {}
        self.thin_air: set[int] = set()
        self.absent: dict[Any, int] = {}
        self.ends: dict[Any, int] = {}
        for line in self.others:
            if line["op"] == "end":
                name = (line["shard"], line["origin"])
                self.ends[name] = min(line["offset"], self.ends.get(name, line["offset"]))
        places = range(len(self.rows))
        if white:
            self.see_versions(places)
        else:
            self.see_values(places)
        seen = set(self.saw.values())
        self.ops = [i for i in places if self.ok(i) is True or (self.ok(i) is None and i in seen)]
        self.so = {(a, b) for a in self.ops for b in self.ops if self.follows(b, a)}
        rf = {(w, r) for r, w in self.saw.items() if isinstance(w, int)}
        self.co = closed(self.so | rf)

    # what the rows say

    def ok(self, i: int) -> Any:
        return self.rows[i].get("ok", True)

    def key(self, i: int) -> Any:
        return self.rows[i].get("shard", 0), self.rows[i]["key"]

    def is_write(self, i: int) -> bool:
        return bool(self.rows[i]["op"] == "write")

    def version(self, i: int) -> Any:
        said = self.rows[i].get("version")
        return None if said is None else tuple(said)

    def see_versions(self, places: range) -> None:
        """White box: a read saw the write that made its version."""
        for r in places:
            if self.is_write(r) or self.ok(r) is not True:
                continue
            version, value = self.version(r), self.rows[r].get("value")
            if version is None:
                self.saw[r] = NOTHING if value is None else UNSAID
                continue
            same = [w for w in places if self.is_write(w) and self.key(w) == self.key(r) and self.version(w) == version]
            made = [w for w in same if self.ok(w) is not False]
            if made:
                w = self.saw[r] = made[-1]
                wrote = self.rows[w]["value"]
                if value is not None and wrote is not None and likened(value) != likened(wrote):
                    self.thin_air.add(r)
                continue
            if same:
                self.thin_air.add(r)
            name = (self.key(r), version)
            if name not in self.absent:
                self.absent[name] = len(self.rows)
                self.rows.append({**self.rows[r], "op": "write", "session": None, "seq": 0, "ok": True})
            self.saw[r] = self.absent[name]

    def see_values(self, places: range) -> None:
        """Black box: a read saw the write that wrote its value."""

        def name(i: int) -> Any:
            value = self.rows[i].get("value")
            return self.key(i), likened(value)

        writes = [i for i in places if self.is_write(i)]
        made = [i for i in writes if self.ok(i) is not False]
        if any(self.rows[i]["value"] is None for i in writes) or len({name(i) for i in made}) < len(made):
            self.unjudgeable = True
        sampled = self.meta.get("sample", 1) != 1 or bool(self.meta.get("dropped"))
        for r in places:
            if self.is_write(r) or self.ok(r) is not True:
                continue
            if self.rows[r].get("value") is None:
                self.saw[r] = NOTHING
                continue
            of = [w for w in made if name(w) == name(r)]
            self.saw[r] = of[0] if of else UNSAID
            if not of and (not sampled or any(name(w) == name(r) for w in writes)):
                self.thin_air.add(r)

    def follows(self, b: int, a: int) -> bool:
        """Whether b follows a in its session."""
        rows = self.rows
        if a >= b or rows[a]["session"] != rows[b]["session"] or self.ok(a) is None:
            return False
        heard = [i for i in range(b) if rows[i]["session"] == rows[b]["session"] and rows[i]["seq"] <= after(rows[b])]
        return heard != [] and a <= max(heard, key=lambda i: rows[i]["seq"])

    # versions

    def place_of(self, i: int) -> tuple[Any, Any] | None:
        """White box: the chain of a version, and its place there. Two versions of one chain are compared by their places."""
        version = self.version(i)
        if version is None:
            return None
        key = self.key(i)
        with_version = [j for j in range(len(self.rows)) if self.key(j) == key and self.version(j) is not None]
        origins = sorted({self.version(j)[0] for j in with_version})
        if len(origins) == 1:
            return key, version
        stamps = {self.version(j): self.rows[j]["stamp"] for j in with_version if "stamp" in self.rows[j]}
        if all(self.version(j) in stamps for j in with_version):
            return key, (stamps[version], *version)
        if all((key[0], origin) in self.ends for origin in origins[:-1]):
            return key, version
        return (key, version[0]), version

    def newer(self, r: int, i: int) -> bool:
        """Whether the version that i wrote or saw is newer than what the read r saw."""
        if self.key(r) != self.key(i) or not self.obliges(i):
            return False
        theirs, mine = (i if self.is_write(i) else self.saw.get(i, UNSAID)), self.saw[r]
        if mine == UNSAID or not isinstance(theirs, int):
            return False
        if mine == NOTHING:
            return True
        if self.white:
            a, b = self.place_of(theirs), self.place_of(int(mine))
            return a is not None and b is not None and a[0] == b[0] and a[1] > b[1]
        return (mine, theirs) in self.co and mine != theirs

    def obliges(self, i: int) -> bool:
        """Whether anybody must show a version: it is not lost, and a white box can tell where it stands."""
        if self.is_write(i) and self.white and self.version(i) is None:
            return False
        return not self.lost(i)

    def lost(self, i: int) -> bool:
        version = self.version(i)
        if version is None or not self.white:
            return False
        end = self.ends.get((self.key(i)[0], version[0]))
        return end is not None and version[1] > end

    def same(self, a: int, b: int) -> bool:
        return a == b or (self.white and self.version(a) is not None and self.version(a) == self.version(b))

    def writes(self) -> list[int]:
        return [i for i in self.ops if self.is_write(i)]

    def reads(self) -> list[int]:
        """Those that are to be judged."""
        return [
            i
            for i in self.ops
            if not self.is_write(i)
            and (self.saw[i] != UNSAID or i in self.thin_air)
            and not (self.held and self.rows[i].get("held") is False)
        ]

    # guarantees

    def ryw(self) -> bool:
        return any(self.newer(r, w) for r in self.reads() for w in self.writes() if (w, r) in self.so)

    def mr(self) -> bool:
        return any(self.newer(r, e) for r in self.reads() for e in self.saw if (e, r) in self.so)

    def revealed(self, r: int) -> list[int]:
        """The writes of other sessions that r, or a read before it in its session, saw; absent ones tell nothing."""
        seen = [self.saw[e] for e in self.saw if e == r or (e, r) in self.so]
        return [
            w for w in seen if isinstance(w, int) and self.rows[w]["session"] not in (None, self.rows[r]["session"])
        ]

    def mw(self) -> bool:
        return any(
            self.newer(r, first)
            for r in self.reads()
            for w in self.revealed(r)
            for first in self.writes()
            if (first, w) in self.so
        )

    def wfr(self) -> bool:
        return any(
            self.newer(r, e) for r in self.reads() for w in self.revealed(r) for e in self.saw if (e, w) in self.so
        )

    def known(self, r: int, before: Pairs, absent: bool) -> list[int]:
        """The writes of a read's key that come before it, in some order, and oblige."""
        all_writes = self.writes() + (list(self.absent.values()) if absent else [])
        return [w for w in all_writes if self.key(w) == self.key(r) and (w, r) in before and self.obliges(w)]

    def cc(self) -> bool:
        """CyclicCO, ThinAirRead, WriteCOInitRead, WriteCORead."""
        if circular(self.co) or self.thin_air & {*self.reads()}:
            return True
        for r in self.reads():
            mine = self.saw[r]
            if mine == NOTHING and self.known(r, self.co, absent=True):
                return True
            if isinstance(mine, int) and any(
                (mine, w) in self.co and not self.same(mine, w) for w in self.known(r, self.co, absent=False)
            ):
                return True
        return False

    def conflicts(self, reads: list[int], before: Pairs) -> Pairs:
        """(w1, w2): a read saw w2, and w1 of the same key comes before the read."""
        return {
            (w, mine)
            for r in reads
            if isinstance(mine := self.saw[r], int) and mine not in self.absent.values()
            for w in self.known(r, before, absent=False)
            if not self.same(w, mine)
        }

    def versions(self) -> Pairs:
        """White box: pairs of writes, absent ones too, of one key, the older first."""
        found: Pairs = set()
        if not self.white:
            return found
        all_writes = self.writes() + list(self.absent.values())
        places = {w: self.place_of(w) for w in all_writes}
        for a in all_writes:
            for b in all_writes:
                mine, theirs = places[a], places[b]
                if mine is not None and theirs is not None and mine[0] == theirs[0] and mine[1] < theirs[1]:
                    found.add((a, b))
        return found

    def ccv(self) -> bool:
        """As CC; and CyclicCF, with the order of versions in a white box."""
        if self.cc():
            return True
        if self.white and any(self.newer(r, w) for r in self.reads() for w in self.known(r, self.co, absent=True)):
            return True
        return circular(self.co | self.versions() | self.conflicts(self.reads(), self.co))

    def cm(self) -> bool:
        """As CC; and CyclicHB, WriteHBInitRead, for each operation."""
        if self.cc():
            return True
        for o in self.ops:
            past = {a for a, b in self.co if b == o} | {o}
            mine = [r for r in self.reads() if r == o or (r, o) in self.so]
            hb = {(a, b) for a, b in self.co if a in past and b in past}
            while True:
                more = closed(hb | self.conflicts(mine, hb))
                if more == hb:
                    break
                hb = more
            if circular(hb) or any(self.saw[r] == NOTHING and self.known(r, hb, absent=True) for r in mine):
                return True
        return False

    def lost_untold(self) -> bool:
        for w in self.writes():
            if not self.lost(w) or self.ok(w) is None:
                continue
            row = self.rows[w]
            told = [
                line["seq"]
                for line in self.others
                if line["op"] in ("lost", "forget")
                and (line["session"], line["shard"]) == (row["session"], self.key(w)[0])
                and tuple(line["version"]) == self.version(w)
            ]
            for r in self.saw:
                if self.held and self.rows[r].get("held") is False:
                    continue
                if (
                    (w, r) not in self.so
                    or self.key(r) != self.key(w)
                    or any(seq <= self.rows[r]["seq"] for seq in told)
                ):
                    continue
                version = self.version(r)
                if self.saw[r] == NOTHING or (
                    version and version[0] == self.version(w)[0] and version < self.version(w)
                ):
                    return True
        return False

    def verdicts(self) -> dict[str, str]:
        names = (*SESSIONS, "cc", "ccv", "cm", "lost")
        if self.unjudgeable:
            return dict.fromkeys(names, NOT_JUDGED)
        found = {name: VIOLATED if getattr(self, name)() else OK for name in names[:-1]}
        if not self.white:
            found["lost"] = NOT_JUDGED
            if circular(self.co):
                found |= dict.fromkeys(SESSIONS, NOT_JUDGED)
        else:
            found["lost"] = VIOLATED if self.lost_untold() else OK
        return found


def check(lines: list[Any], mode: str, held: bool = False) -> dict[str, str]:
    """A verdict for each guarantee."""
    return Judge(lines, mode == "white", held).verdicts()
