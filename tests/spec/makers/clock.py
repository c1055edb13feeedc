"""Chooses the vectors of the clock."""

from collections.abc import Callable, Iterator
from typing import Any

from tests.spec.twins import clock as twin
from tests.spec.twins.clock import COUNTS, LAST, LAST_MS, Refused

ABOUT = """\
The clock: docs/spec/clock.md. Timestamps, stamps and bounds are decimal text, milliseconds are numbers. `last` is the clock's last \
timestamp, null before the first; `wall_ms` is its wall clock, in Unix milliseconds.
timestamp.from_parts {physical_ms, logical} -> {timestamp}. timestamp.parts {timestamp} -> {physical_ms, logical}.
timestamp.text {timestamp} -> {text}. timestamp.parse {text} -> {timestamp}.
timestamp.sort {timestamps} -> {timestamps, texts}: in ascending order, and their texts in that order.
clock.tick {last, wall_ms} -> {timestamp}: a local event.
clock.now {last, wall_ns} -> {timestamp}: a local event, with the wall in Unix nanoseconds, as decimal text.
clock.merge {last, remote, wall_ms} -> {timestamp}: a receive whose remote is believed, whatever it is.
clock.update {last, remote, wall_ms, max_drift_ms} -> {timestamp}: a receive.
clock.trace {max_drift_ms, events} -> {timestamps}: nodes that start at START and exchange messages. An event has `node` (its name) and \
`wall_ms` (that node's wall), and nothing else if it is local; a receive has `from`, the number (0, 1, ...) of the event whose timestamp \
the message carries, or `remote`, a timestamp. A timestamp for each event; null where it is refused (ClockDrift, ClockError), which \
changes nothing, and of which nothing is sent: no `from` names it.
stamp.next {now, applied} -> {stamp}: the clock's new timestamp, and the stamps that are applied, of which only the largest matters.
stamp.wins {stamp, origin, other_stamp, other_origin} -> {wins}: whether the first version wins against the other.
clock.start {bound, wall_ms, max_drift_ms} -> {timestamp, bound}: a clock starts on a stored bound (null: none was ever stored), and makes \
its first timestamp; the bound as it is stored then.
clock.close {bound, wall_ms, max_drift_ms, more, meanwhile, after} -> {bound}: as clock.start, but that another process has raised the \
bound to `meanwhile` between the start and the reservation (null: nobody has); `more` further timestamps are made with the wall as it is; \
another process raises the bound to `after` (null: nobody does); the clock is closed. The bound as it is stored then.
Errors: ClockError; ClockDrift with `remote_ms` and `wall_ms`."""

T0 = 1_700_000_000_000
"""A day of 2023: what is tried near zero holds there, too."""
Vector = dict[str, Any]


def ts(milliseconds: int, counter: int = 0) -> str:
    return str(milliseconds * COUNTS + counter)


def vector(name: str, op: str, cites: str, given: Vector, answer: Callable[[], Vector]) -> Vector:
    head = {"name": name, "op": op, "cites": [f"C-{n}" for n in cites.split()], "in": given}
    try:
        return {**head, "out": answer()}
    except Refused as refused:
        return {**head, "error": refused.error, "reason": refused.reason}


def last_of(given: Vector) -> twin.Clock:
    return twin.clock_of(None if given["last"] is None else int(given["last"]))


def stamped(clock: tuple[int, int]) -> Vector:
    return {"timestamp": str(twin.number(clock))}


# --- the timestamp -----------------------------------------------------------------------------------------------------


def of_parts() -> Iterator[Vector]:
    for name, physical_ms, logical, cites in (
        ("the least timestamp", 0, 0, "1"),
        ("a timestamp of our days", T0, 3, "1"),
        ("the greatest timestamp", LAST_MS, COUNTS - 1, "1"),
        ("the first integer that a 64-bit float cannot hold", 2**37, 1, "1"),
        ("milliseconds below 0", -1, 0, "2"),
        ("milliseconds of 49 bits", LAST_MS + 1, 0, "2"),
        ("a counter below 0", 0, -1, "2"),
        ("a counter of 17 bits", 0, COUNTS, "2"),
        ("a counter of 17 bits, below milliseconds that are full", LAST_MS, COUNTS, "2"),
    ):
        given = {"physical_ms": physical_ms, "logical": logical}

        def answer(physical_ms: int = physical_ms, logical: int = logical) -> Vector:
            return {"timestamp": str(twin.in_range(physical_ms, logical))}

        yield vector(f"parts: {name}", "timestamp.from_parts", cites, given, answer)
    for name, value in (
        ("zero", 0),
        ("the largest counter", COUNTS - 1),
        ("the next millisecond", COUNTS),
        ("the sign bit of a signed integer", 2**63),
        ("all bits", LAST),
    ):
        parts = {"physical_ms": value // COUNTS, "logical": value % COUNTS}
        yield vector(f"parts of {name}", "timestamp.parts", "1", {"timestamp": str(value)}, lambda p=parts: p)


def texts() -> Iterator[Vector]:
    for name, value in (
        ("zero", 0),
        ("leading zeros", COUNTS + 2),
        ("a timestamp of our days", T0 * COUNTS + 3),
        ("digits above 9, in lower case", 0xABCDEF_ABCDEF_ABCD),
        ("all bits", LAST),
    ):
        written = twin.text(value)
        yield vector(f"text of {name}", "timestamp.text", "4", {"timestamp": str(value)}, lambda w=written: {"text": w})
        yield vector(
            f"text read back: {name}", "timestamp.parse", "4", {"text": written}, lambda v=value: {"timestamp": str(v)}
        )
    good = twin.text(T0 * COUNTS + 3)
    for name, bad in (
        ("nothing", ""),
        ("upper case", good.upper()),
        ("one digit in upper case", "018bcfe5680A.0003"),
        ("upper case in the counter alone", "018bcfe56800.00AB"),
        ("one digit of the counter in upper case", "018bcfe56800.00aB"),
        ("no leading zero", good[1:]),
        ("a zero too many", "0" + good),
        ("a digit too many in the counter", good + "0"),
        ("a digit too few in the counter", good[:-1]),
        ("a hyphen for the full stop", good.replace(".", "-")),
        ("no full stop", good.replace(".", "")),
        ("two full stops", "018bcfe5680..0003"),
        ("the full stop one place on", "018bcfe568000.003"),
        ("a blank before", " " + good),
        ("a blank before, of 17 characters", " " + good[1:]),
        ("a line break after", good + "\n"),
        ("a line break after, of 17 characters", good[:-1] + "\n"),
        ("a NUL after", good + "\0"),
        ("a prefix", "0x" + good[2:]),
        ("a sign", "+" + good[1:]),
        ("an underscore among the digits", "018bcfe5_800.0003"),
        ("a letter that is no hexadecimal digit", "018bcfe56800.000g"),
        ("digits of another script", "\u0660" * 12 + "." + "\u0660" * 4),
        ("full-width digits", "\uff10" * 12 + ".0000"),
        ("a decimal integer", str(T0 * COUNTS + 3)),
        ("a thousand digits", "1" * 1000),
    ):
        yield vector(
            f"no text of a timestamp: {name}",
            "timestamp.parse",
            "5",
            {"text": bad},
            lambda b=bad: {"timestamp": str(twin.parse(b))},
        )


def orders() -> Iterator[Vector]:
    for name, values in (
        ("unsigned, across the sign bit", [2**63, 2**63 - 1, 0, LAST, 1]),
        ("milliseconds before counters", [10 * COUNTS, 9 * COUNTS + 65_535, 10 * COUNTS + 1, 9 * COUNTS]),
        ("further apart than a 64-bit float sees", [2**62 + 1, 2**62, 2**62 + 2]),
        ("numbers of different length", [10**19, 9 * 10**18, 99, 100]),
    ):
        inside = sorted(values)
        assert sorted(map(twin.text, values)) == [twin.text(v) for v in inside]
        out = {"timestamps": [str(v) for v in inside], "texts": [twin.text(v) for v in inside]}
        given = {"timestamps": [str(v) for v in values]}
        yield vector(f"order: {name}", "timestamp.sort", "3 4", given, lambda o=out: o)


# --- the steps ---------------------------------------------------------------------------------------------------------


def ticks() -> Iterator[Vector]:
    full, end = COUNTS - 1, LAST_MS
    for name, last, wall_ms, cites in (
        ("the first event, with the wall at 0", None, 0, "7"),
        ("the first event, with the wall at 1", None, 1, "7"),
        ("the first event, in our days", None, T0, "6 7"),
        ("the first event, with the wall before 1970", None, -5, "7 10"),
        ("the wall has moved on", ts(5, 9), 7, "6"),
        ("the wall has moved on by 1 ms", ts(5, full - 1), 6, "6"),
        ("the wall stands still", ts(5), 5, "6 10"),
        ("the wall stands still once more", ts(5, 1), 5, "6 10"),
        ("the wall has stepped back", ts(7, 3), 5, "10"),
        ("the wall has stepped back by an hour", ts(T0, 3), T0 - 3_600_000, "10"),
        ("the wall has stepped back to before 1970", ts(7, 3), -1000, "10"),
        ("the wall has not caught up with the clock", ts(30, 5), 29, "10"),
        ("the wall catches up with the clock", ts(30, 5), 30, "6"),
        ("the wall leaps by a year", ts(T0), T0 + 31_536_000_000, "6 18"),
        ("the clock is a year ahead of the wall", ts(T0 + 31_536_000_000), T0, "10 18"),
        ("the last count of a millisecond", ts(5, full - 1), 5, "6"),
        ("a full counter carries", ts(5, full), 5, "9"),
        ("a full counter carries with the wall behind", ts(5, full), 2, "9"),
        ("a full counter, and the wall arrives where it would carry to", ts(5, full), 6, "6 9"),
        ("a full counter, and the wall beyond", ts(5, full), 7, "6"),
        ("after a carry", ts(6), 5, "9"),
        ("beyond what a signed integer holds", str(2**63 - 1), 0, "6"),
        ("beyond what a 64-bit float holds", ts(T0, 1), T0, "6"),
        ("the last millisecond that fits", None, end, "6"),
        ("the last timestamp of all", ts(end, full - 1), end, "6"),
        ("a full counter in the last millisecond", ts(end, full), end, "12"),
        ("a full counter in the last millisecond, with the wall at 0", ts(end, full), 0, "12"),
        ("the wall is past the last millisecond", ts(5), end + 1, "12"),
        ("the wall is past the last millisecond at the first event", None, end + 1, "12"),
    ):
        given = {"last": last, "wall_ms": wall_ms}
        yield vector(
            f"local: {name}", "clock.tick", cites, given, lambda g=given: stamped(twin.local(last_of(g), g["wall_ms"]))
        )
    for name, last, wall_ns, cites in (
        ("half a millisecond", None, T0 * 10**6 + 500_000, "11"),
        ("a nanosecond short of the next millisecond", None, T0 * 10**6 + 999_999, "11"),
        ("a nanosecond short of the next millisecond, within one", ts(T0, 4), T0 * 10**6 + 999_999, "11"),
        ("a whole millisecond", ts(T0, 4), (T0 + 1) * 10**6, "11"),
        ("a nanosecond before 1970", None, -1, "11"),
        ("a nanosecond after 1970", None, 1, "7 11"),
        ("a full counter carries", ts(T0, full), T0 * 10**6 + 999_999, "9 11"),
        ("a full counter, and the wall arrives where it would carry to", ts(T0, full), (T0 + 1) * 10**6, "6 9"),
        ("the wall has stepped back by an hour", ts(T0, 3), (T0 - 3_600_000) * 10**6, "10"),
        ("the wall leaps by a year", ts(T0), (T0 + 31_536_000_000) * 10**6, "6 18"),
        ("a full counter in the last millisecond", ts(end, full), end * 10**6, "12"),
        ("the wall is past the last millisecond", ts(T0), (end + 1) * 10**6, "12"),
    ):
        given = {"last": last, "wall_ns": str(wall_ns)}
        yield vector(
            f"a finer wall: {name}",
            "clock.now",
            cites,
            given,
            lambda g=given, ns=wall_ns: stamped(twin.local(last_of(g), ns // 10**6)),
        )


def merges() -> Iterator[Vector]:
    full = COUNTS - 1
    for name, last, remote, wall_ms, cites in (
        ("the first event, from a wall behind", None, ts(3, 9), 5, "8"),
        ("the first event, from a wall ahead", None, ts(8, 9), 5, "8"),
        ("the first event, of a message stamped 0 with the wall at 0", None, ts(0), 0, "8"),
        ("the wall is ahead of both", ts(4, 7), ts(6, 77), 10, "8"),
        ("own milliseconds are ahead", ts(9, 2), ts(4, 77), 8, "8 10"),
        ("own milliseconds, and the wall there", ts(9, 2), ts(4, 77), 9, "8"),
        ("the message's milliseconds are ahead", ts(9, 77), ts(30, 4), 10, "8"),
        ("the message's milliseconds, and the wall there", ts(9, 77), ts(10, 4), 10, "8"),
        ("equal milliseconds, own counter ahead", ts(9, 7), ts(9, 2), 3, "8"),
        ("equal milliseconds, the message's counter ahead", ts(9, 2), ts(9, 7), 3, "8"),
        ("equal in both, with the wall there", ts(9, 2), ts(9, 2), 9, "8"),
        ("equal in both, with the wall past", ts(9, 2), ts(9, 2), 10, "8"),
        ("the message has what would be next here", ts(9, 2), ts(9, 3), 3, "8"),
        ("the message has what would be next here, with the wall there", ts(9, 2), ts(9, 3), 9, "8"),
        ("the message's counter is full", ts(2), ts(5, full), 5, "9"),
        ("both counters are full", ts(5, full), ts(5, full), 0, "9"),
        ("own counter is full, the message is of the millisecond it carries to", ts(5, full), ts(6, 3), 0, "8 9"),
        ("the message is the last timestamp of all", ts(1), str(LAST), 5, "12"),
        ("the message is the last but one", ts(1), str(LAST - 1), 5, "8"),
        ("own last timestamp is the last of all", str(LAST), ts(1), 5, "12"),
        ("the message is below 0", ts(1), "-1", 5, "13"),
        ("the message has 65 bits", ts(1), str(LAST + 1), 5, "13"),
    ):
        given = {"last": last, "remote": remote, "wall_ms": wall_ms}

        def answer(given: Vector = given) -> Vector:
            return stamped(twin.receive(last_of(given), int(given["remote"]), given["wall_ms"]))

        yield vector(f"receive: {name}", "clock.merge", cites, given, answer)


def updates() -> Iterator[Vector]:
    full = COUNTS - 1
    for name, last, remote, wall_ms, max_drift_ms, cites in (
        ("exactly at the bound", ts(T0), ts(T0 + 500), T0, 500, "15"),
        ("at the bound, with a full counter", ts(T0), ts(T0 + 500, full), T0, 500, "9 15"),
        ("1 ms past the bound", ts(T0), ts(T0 + 501), T0, 500, "14"),
        ("10 minutes past the bound", ts(T0), ts(T0 + 600_000, 7), T0, 500, "14"),
        ("1 ms past the bound, at the first event", None, ts(T0 + 501), T0, 500, "14"),
        ("past the bound, though the clock is there", ts(T0 + 501), ts(T0 + 501), T0, 500, "16"),
        ("past the bound, though the clock is further", ts(T0 + 900), ts(T0 + 501), T0, 500, "16"),
        ("at the bound of a wall that has stepped back", ts(T0 + 900), ts(T0 + 500), T0, 500, "15"),
        ("long past", ts(T0), ts(1), T0, 500, "15"),
        ("no drift at all, this millisecond", ts(T0), ts(T0, full), T0, 0, "9 15"),
        ("no drift at all, the next millisecond", ts(T0), ts(T0 + 1), T0, 0, "14"),
        ("equal in both, ahead of the wall", ts(T0 + 3, 2), ts(T0 + 3, 2), T0, 500, "8"),
        ("what would be next here", ts(T0 + 3, 2), ts(T0 + 3, 3), T0, 500, "8"),
        ("what would be next here, by a carry", ts(T0 + 3, full), ts(T0 + 4), T0, 500, "8 9"),
        ("the wall is ahead of both", ts(T0 - 4, 7), ts(T0 - 6, 77), T0, 500, "8"),
        ("the message's milliseconds, and the wall there", ts(T0 - 1, 77), ts(T0, 4), T0, 500, "8"),
        ("own counter is full", ts(T0, full), ts(T0 - 1), T0, 500, "9"),
        ("the wall has stepped back by an hour", ts(T0, 3), ts(T0 - 5), T0 - 3_600_000, 3_600_000, "10"),
        ("the wall is before 1970", None, ts(3), -497, 500, "15"),
        ("the wall is before 1970, and the message past the bound", None, ts(4), -497, 500, "14"),
        ("no timestamp: below 0", ts(T0), "-1", T0, 500, "13"),
        ("no timestamp: 65 bits", ts(T0), str(LAST + 1), T0, 500, "13"),
        ("at the end of the range, within the bound", ts(T0), str(LAST), LAST_MS, 500, "12"),
    ):
        given = {"last": last, "remote": remote, "wall_ms": wall_ms, "max_drift_ms": max_drift_ms}

        def answer(given: Vector = given) -> Vector:
            remote = int(given["remote"])
            return stamped(twin.update(last_of(given), remote, given["wall_ms"], given["max_drift_ms"]))

        yield vector(f"drift: {name}", "clock.update", cites, given, answer)


# --- traces ------------------------------------------------------------------------------------------------------------

Step = tuple[str, int] | tuple[str, int, int | str]
"""A node, its wall, and for a receive the number of the sending, or a timestamp."""

TRACES: tuple[tuple[str, str, int, list[Step]], ...] = (
    (
        "two nodes, one 3 ms behind",
        "6 8 10",
        500,
        [("a", 10), ("b", 7), ("a", 10), ("b", 8, 2), ("b", 8), ("a", 11), ("a", 11, 4)],
    ),
    (
        "a message goes round three nodes",
        "6 8",
        500,
        [("a", 5), ("b", 3, 0), ("c", 4, 1), ("a", 5, 2), ("b", 6, 3), ("c", 4, 4), ("a", 6, 5), ("b", 9), ("c", 9, 7)],
    ),
    (
        "a wall that steps back and comes again",
        "10",
        500,
        [("a", 100), ("a", 101), ("a", 40), ("a", 40), ("a", 99), ("a", 101), ("a", 102)],
    ),
    (
        "one message twice, and late",
        "8",
        500,
        [("a", 5), ("b", 5, 0), ("b", 5, 0), ("a", 9, 2), ("b", 5, 3), ("b", 5, 0)],
    ),
    (
        "a fast clock is refused, and everything goes on",
        "14 17 18",
        500,
        [
            ("fast", T0 + 600_000),
            ("b", T0),
            ("b", T0, 0),
            ("b", T0),
            ("fast", T0 + 600_000, 3),
            ("b", T0 + 1, 4),
            ("b", T0 + 1),
        ],
    ),
    (
        "a slow clock refuses everybody, and is refused by nobody",
        "14 15 17",
        500,
        [("slow", T0 - 9000), ("b", T0), ("slow", T0 - 9000, 1), ("b", T0, 0), ("slow", T0 - 8999), ("b", T0, 4)],
    ),
    (
        "the first event of a node is refused",
        "7 14 17",
        500,
        [("a", 1000), ("b", 0, 0), ("b", 0)],
    ),
    (
        "refused until the wall has come near enough",
        "14 15 16",
        500,
        [("a", T0 + 501), ("b", T0, 0), ("b", T0 + 1, 0), ("b", T0, 0), ("b", T0)],
    ),
    (
        "carried to the bound by one counter, refused beyond it",
        "9 15 16",
        500,
        [("b", T0, ts(T0 + 500, COUNTS - 1)), ("b", T0), ("b", T0, 1), ("b", T0 + 1, 1)],
    ),
    (
        "the counter reaches 5 in two nodes within 1 ms of each other",
        "6",
        1,
        [("a", 0), ("a", 0), ("a", 0), ("b", 1), ("a", 0), ("a", 0), ("a", 0)],
    ),
    (
        "no message, no order: equal timestamps at two nodes",
        "6",
        500,
        [("a", 5), ("b", 5), ("b", 5), ("a", 5), ("a", 5, 1)],
    ),
    (
        "a wall that steps back by an hour, a full counter, and a receive",
        "8 9 10",
        3_600_000,
        [("a", T0), ("a", T0 - 3_600_000), ("a", T0 - 3_600_000, ts(T0, COUNTS - 2)), ("a", T0 - 3_600_000), ("a", T0)],
    ),
    (
        "a message that has what would be next here",
        "8",
        500,
        [("a", 5), ("b", 5), ("a", 5), ("b", 5, 2), ("b", 5)],
    ),
    (
        "the wall is past the last millisecond, and returns",
        "12",
        500,
        [("a", T0), ("a", LAST_MS + 1), ("a", LAST_MS + 1, ts(T0)), ("a", T0), ("a", T0 + 1)],
    ),
    (
        "a clock that leapt ahead and returned is kept, and refused by its peers",
        "14 18",
        500,
        [("a", T0), ("a", T0 + 86_400_000), ("a", T0 + 1), ("b", T0 + 1, 2), ("a", T0 + 2)],
    ),
)


def traced(max_drift_ms: int, events: list[Step]) -> list[str | None]:
    clocks: dict[str, twin.Clock] = {}
    stamps: list[str | None] = []
    for node, wall_ms, *source in events:
        clock = clocks.get(node)
        try:
            if source:
                remote = stamps[source[0]] if isinstance(source[0], int) else source[0]
                assert remote is not None
                clocks[node] = after = twin.update(clock, int(remote), wall_ms, max_drift_ms)
            else:
                clocks[node] = after = twin.local(clock, wall_ms)
            stamps.append(str(twin.number(after)))
        except Refused:
            stamps.append(None)
    return stamps


def traces() -> Iterator[Vector]:
    for name, cites, max_drift_ms, events in TRACES:
        shown = [
            {"node": node, "wall_ms": wall_ms} | ({"from" if isinstance(s[0], int) else "remote": s[0]} if s else {})
            for node, wall_ms, *s in events
        ]
        out = {"timestamps": traced(max_drift_ms, events)}
        yield vector(
            f"trace: {name}", "clock.trace", cites, {"max_drift_ms": max_drift_ms, "events": shown}, lambda o=out: o
        )


# --- stamps and ceilings -----------------------------------------------------------------------------------------------


def stamps() -> Iterator[Vector]:
    for name, now, applied, cites in (
        ("nothing is applied", ts(T0), [], "20"),
        ("all that is applied is older", ts(T0), [ts(T0 - 5), ts(T0 - 9, 4)], "20"),
        ("one below the clock is applied", ts(T0, 4), [ts(T0, 3)], "20"),
        ("what the clock says is applied", ts(T0, 4), [ts(T0, 4)], "20"),
        ("what is applied is ahead of the clock", ts(T0), [ts(T0 + 3, 8), ts(T0 + 2)], "20"),
        ("what is applied is 10 minutes ahead, of a clock that is refused", ts(T0), [ts(T0 + 600_000, 7)], "19 20"),
        ("what is applied has a full counter", ts(T0), [ts(T0 + 1, COUNTS - 1)], "9 20"),
    ):
        given = {"now": now, "applied": applied}
        out = {"stamp": str(twin.stamp(int(now), [int(s) for s in applied]))}
        yield vector(f"stamp: {name}", "stamp.next", cites, given, lambda o=out: o)
    for name, mine, theirs in (
        ("the larger stamp", (ts(5, 1), 1), (ts(5), 1)),
        ("the smaller stamp", (ts(5), 1), (ts(5, 1), 1)),
        ("the larger stamp, of the smaller origin", (ts(6), 1), (ts(5), 9)),
        ("equal stamps, the larger origin", (ts(5), 2), (ts(5), 1)),
        ("equal stamps, the smaller origin", (ts(5), 1), (ts(5), 2)),
        ("stamps that differ by less than a 64-bit float sees", (ts(T0, 1), 1), (ts(T0), 2)),
        ("stamps and origins that text would order otherwise", ("100", 10), ("100", 9)),
    ):
        given = {"stamp": mine[0], "origin": mine[1], "other_stamp": theirs[0], "other_origin": theirs[1]}
        wins = int(mine[0]) > int(theirs[0]) or (mine[0] == theirs[0] and mine[1] > theirs[1])
        yield vector(f"who wins: {name}", "stamp.wins", "21", given, lambda w=wins: {"wins": w})


def ceilings() -> Iterator[Vector]:
    for name, bound, wall_ms, max_drift_ms, cites in (
        ("no bound was ever stored", None, T0, 500, "23 24"),
        ("the bound is in the past", ts(T0 - 9000, 5), T0, 500, "22 23 24"),
        ("the bound is this millisecond", ts(T0, 5), T0, 500, "22 23 24"),
        ("the bound is ahead, the wall has stepped back", ts(T0 + 100), T0 - 3_600_000, 500, "22 23 24"),
        ("the bound is ahead by less than the reach", ts(T0 + 100), T0, 500, "22 23 24"),
        ("the bound is ahead by nearly the reach", ts(T0 + 250, 7), T0, 500, "22 23 24"),
        ("the bound is ahead by more than the reach", ts(T0 + 251, 7), T0, 500, "22 23 24"),
        ("the bound is a year ahead", ts(T0 + 31_536_000_000), T0, 500, "22 23 24"),
        ("an odd drift, of which the half is rounded down", None, T0, 501, "24"),
        ("a generous drift, whose reach is a second", None, T0, 3_600_000, "24"),
        ("the least drift that has a reach", None, T0, 2, "24"),
        ("the wall is in the last millisecond: the bound is the last timestamp", None, LAST_MS, 500, "23"),
        ("the bound is the last timestamp of all", str(LAST), T0, 500, "27"),
        ("the wall is past the last millisecond", ts(T0), LAST_MS + 1, 500, "12 27"),
    ):
        given = {"bound": bound, "wall_ms": wall_ms, "max_drift_ms": max_drift_ms}

        def start(given: Vector = given) -> Vector:
            life = twin.Ceiling(None if given["bound"] is None else int(given["bound"]), given["max_drift_ms"])
            first = life.first(given["wall_ms"])
            return {"timestamp": str(first), "bound": str(life.stored)}

        yield vector(f"start: {name}", "clock.start", cites, given, start)
    for name, bound, more, meanwhile, after, cites in (
        ("all that is unused is given back", None, 0, None, None, "26"),
        ("all above the last of three timestamps is given back", ts(T0 - 5), 2, None, None, "26"),
        ("a clock ahead of its wall gives back what it reserved", ts(T0 + 900, 3), 1, None, None, "26"),
        (
            "all of the reserve is used, and no more: the bound is the next",
            ts(T0 + 900, 3),
            COUNTS - 1,
            None,
            None,
            "23 26",
        ),
        ("one more than the reserve: the bound itself is reserved first", ts(T0 + 900, 3), COUNTS, None, None, "23 26"),
        ("another has reserved since: nothing is given back", None, 0, None, ts(T0 + 300), "25 26"),
        ("another has raised the bound by 1: nothing is given back", None, 0, None, ts(T0 + 250, 1), "25 26"),
        ("another has reserved before: not below what it holds", None, 0, ts(T0 + 100, 9), None, "26"),
        ("another has reserved further before: raised by 1, and that is all", None, 0, ts(T0 + 400), None, "25 26"),
        ("others have reserved before and since", None, 0, ts(T0 + 100), ts(T0 + 600), "25 26"),
    ):
        given = {
            "bound": bound,
            "wall_ms": T0,
            "max_drift_ms": 500,
            "more": more,
            "meanwhile": meanwhile,
            "after": after,
        }

        def close(given: Vector = given) -> Vector:
            life = twin.Ceiling(None if given["bound"] is None else int(given["bound"]), given["max_drift_ms"])
            if given["meanwhile"] is not None:
                life.stored = int(given["meanwhile"])
            life.first(given["wall_ms"])
            for _ in range(given["more"]):
                life.next(given["wall_ms"])
            if given["after"] is not None:
                life.stored = int(given["after"])
            life.close()
            return {"bound": str(life.stored)}

        yield vector(f"close: {name}", "clock.close", cites, given, close)


def vectors() -> Iterator[Vector]:
    for part in (of_parts, texts, orders, ticks, merges, updates, traces, stamps, ceilings):
        yield from part()
