"""Frontiers and watermarks, written for being obvious: dicts of tuples, and a loop for each rule.

A frontier is `{"entries": {(shard, origin): offset}, "floors": {store: offset}, "marks": {store: mark}}`, a mark
`{"until": seconds or None (for ever), "exact": [shards], "origins": [origins] or "any"}`.
"""

from typing import Any

EVERY_STORE = 65_535
VERDICTS = ("APPLIED", "FOREIGN", "BEHIND", "UNKNOWN", "LOST")
Frontier = dict[str, Any]
Mark = dict[str, Any]


class Refused(Exception):
    """A number that does not fit."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.error = {"type": "ConfigError"}
        self.reason = reason


# --- as vectors write them ---------------------------------------------------------------------------------------------


def read(written: dict[str, Any]) -> Frontier:
    return {
        "entries": {(shard, origin): int(offset) for shard, origin, offset in written.get("entries", [])},
        "floors": {store: int(offset) for store, offset in written.get("floors", [])},
        "marks": {
            store: {
                "until": None if mark["until"] is None else int(mark["until"]),
                "exact": mark.get("exact", []),
                "origins": mark.get("origins", []),
            }
            for store, mark in written.get("marks", [])
        },
    }


def write(frontier: Frontier) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if frontier["entries"]:
        shown["entries"] = [[s, o, str(frontier["entries"][s, o])] for s, o in sorted(frontier["entries"])]
    if frontier["floors"]:
        shown["floors"] = [[s, str(frontier["floors"][s])] for s in sorted(frontier["floors"])]
    if frontier["marks"]:
        shown["marks"] = []
        for store in sorted(frontier["marks"]):
            mark = frontier["marks"][store]
            written = {"until": None if mark["until"] is None else str(mark["until"])}
            if mark["exact"]:
                written["exact"] = sorted(mark["exact"])
            if mark["origins"]:
                written["origins"] = "any" if mark["origins"] == "any" else sorted(mark["origins"])
            shown["marks"].append([store, written])
    return shown


def parts(entries: dict[tuple[int, int], int], floors: dict[int, int], marks: dict[int, Mark]) -> Frontier:
    return {"entries": entries, "floors": floors, "marks": marks}


# --- positions ---------------------------------------------------------------------------------------------------------


def shard_of(store: int, index: int) -> int:
    if store < 0 or store > 65_534:
        raise Refused("no store has this number")
    if index < 0 or index > 65_535:
        raise Refused("no shard has this index")
    return store * 65_536 + index


def fits(shard: int, origin: int, offset: int, what: str = "offset") -> None:
    for name, number, bits in (("shard", shard, 32), ("origin", origin, 32), (what, offset, 64)):
        if number < 0 or number >= 2**bits:
            raise Refused(f"the {name} does not fit {bits} bits")


def of(positions: list[tuple[int, int, int]]) -> Frontier:
    entries: dict[tuple[int, int], int] = {}
    for shard, origin, offset in positions:
        fits(shard, origin, offset)
        if (shard, origin) not in entries or entries[shard, origin] < offset:
            entries[shard, origin] = offset
    return parts(entries, {}, {})


# --- join and order ----------------------------------------------------------------------------------------------------


def later(a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return None
    return max(a, b)


def join_marks(a: Mark, b: Mark) -> Mark:
    if a["origins"] == "any" or b["origins"] == "any":
        origins: Any = "any"
    else:
        origins = a["origins"] + [o for o in b["origins"] if o not in a["origins"]]
    return {
        "until": later(a["until"], b["until"]),
        "exact": [shard for shard in a["exact"] if shard in b["exact"]],
        "origins": origins,
    }


def join(a: Frontier, b: Frontier) -> Frontier:
    joined = parts(dict(a["entries"]), dict(a["floors"]), dict(a["marks"]))
    for part in ("entries", "floors"):
        for key, number in b[part].items():
            joined[part][key] = max(number, joined[part].get(key, number))
    for store, mark in b["marks"].items():
        joined["marks"][store] = join_marks(joined["marks"][store], mark) if store in joined["marks"] else mark
    return joined


def mark_covers(a: Mark, b: Mark) -> bool:
    if a["until"] is not None and (b["until"] is None or b["until"] > a["until"]):
        return False
    if any(shard not in b["exact"] for shard in a["exact"]):
        return False
    if a["origins"] == "any":
        return True
    return b["origins"] != "any" and all(origin in a["origins"] for origin in b["origins"])


def covers(a: Frontier, b: Frontier) -> bool:
    for part in ("entries", "floors"):
        for key, number in b[part].items():
            if key not in a[part] or a[part][key] < number:
                return False
    return all(store in a["marks"] and mark_covers(a["marks"][store], mark) for store, mark in b["marks"].items())


# --- parts -------------------------------------------------------------------------------------------------------------


def marking(frontier: Frontier, shard: int) -> dict[int, Mark]:
    """The marks that cover a shard."""
    return {
        store: mark
        for store, mark in frontier["marks"].items()
        if store in (shard // 65_536, EVERY_STORE) and shard not in mark["exact"]
    }


def on(frontier: Frontier, shard: int) -> Frontier:
    return parts(
        {key: offset for key, offset in frontier["entries"].items() if key[0] == shard},
        {store: offset for store, offset in frontier["floors"].items() if store == shard // 65_536},
        marking(frontier, shard),
    )


def of_store(frontier: Frontier, number: int) -> Frontier:
    return parts(
        {key: offset for key, offset in frontier["entries"].items() if key[0] // 65_536 == number},
        {store: offset for store, offset in frontier["floors"].items() if store == number},
        {store: mark for store, mark in frontier["marks"].items() if store in (number, EVERY_STORE)},
    )


def lapse(frontier: Frontier, now: int) -> Frontier:
    left = {s: m for s, m in frontier["marks"].items() if m["until"] is None or m["until"] > now}
    return parts(frontier["entries"], frontier["floors"], left)


def clip(frontier: Frontier, ends: dict[tuple[int, int], int]) -> Frontier:
    entries = {}
    for (shard, origin), end in ends.items():
        fits(shard, origin, end, "end")
    for key, offset in frontier["entries"].items():
        entries[key] = ends[key] if key in ends and offset > ends[key] else offset
    return parts(entries, frontier["floors"], frontier["marks"])


# --- sessions ----------------------------------------------------------------------------------------------------------


def learn(own: Frontier, seen: Frontier, events: list[dict[str, Any]]) -> tuple[Frontier, Frontier]:
    for event in events:
        if "wrote" in event:
            shard, origin, offset = event["wrote"]
            own = join(own, of([(shard, origin, int(offset))]))
        seen = join(seen, read(event.get("shown", {})))
    return own, seen


def forget(own: Frontier, seen: Frontier, lost: list[tuple[int, int, int, int]]) -> tuple[Frontier, Frontier]:
    for shard, origin, offset, end in lost:
        fits(shard, origin, offset)
        fits(shard, origin, end, "end")
        key = (shard, origin)
        if own["entries"].get(key) == offset:
            own = clip(own, {key: end})
        if key in seen["entries"] and seen["entries"][key] <= offset:
            seen = clip(seen, {key: end})
    return own, seen


# --- watermarks --------------------------------------------------------------------------------------------------------

Origins = dict[int, tuple[int, int | None]]


def verdict(origins: Origins, origin: int, offset: int) -> str:
    if origin not in origins:
        return "UNKNOWN"
    applied, end = origins[origin]
    if end is not None and offset > end:
        return "LOST"
    return "APPLIED" if offset <= applied else "BEHIND"


def worse(a: str, b: str) -> bool:
    return VERDICTS.index(a) > VERDICTS.index(b)


def judge(shard: int, origins: Origins, frontier: Frontier, known_stores: list[int] | None) -> dict[str, Any]:
    judged = [(s, o, n, verdict(origins, o, n)) for (s, o), n in frontier["entries"].items() if s == shard]
    worst = "APPLIED"
    for *_, found in judged:
        if worse(found, worst):
            worst = found
    named = [(s, o, n) for s, o, n, found in judged if found == worst and found != "APPLIED"]
    floor = frontier["floors"].get(shard // 65_536)
    if floor is not None and not worse(worst, "FOREIGN"):
        short = []
        for origin, (applied, end) in origins.items():
            needed = floor if end is None else min(floor, end)
            if applied < needed:
                short.append((shard, origin, needed))
        if short:
            worst, named = "BEHIND", short
    marked = bool(marking(frontier, shard))
    diverged = any(end is not None and applied > end for applied, end in origins.values())
    if (marked or diverged) and worse("UNKNOWN", worst):
        worst, named = "UNKNOWN", []
    foreign = [
        (s, o, n)
        for (s, o), n in frontier["entries"].items()
        if known_stores is not None and s != shard and s // 65_536 not in known_stores
    ]
    if worst == "APPLIED" and foreign:
        worst, named = "FOREIGN", foreign
    return {"verdict": worst, "positions": [[s, o, str(n)] for s, o, n in sorted(named)], "marked": marked}


def applied(shard: int, origins: Origins) -> Frontier:
    entries = {}
    for origin, (upto, end) in origins.items():
        fits(shard, origin, upto)
        fits(shard, origin, upto if end is None else end, "end")
        entries[shard, origin] = upto if end is None or upto < end else end
    return parts(entries, {}, {})
