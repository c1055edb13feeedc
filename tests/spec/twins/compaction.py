"""The ladder of docs/spec/compaction.md, rung by rung, on claims as vectors have them."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from tests.spec.twins.token import characters, dumb_join

Claims = dict[str, Any]
HOUR_S = 3600
EVERY_STORE = 65_535


def store_of(position: list[Any]) -> int:
    return int(position[0]) >> 16


def tidy(claims: Claims) -> Claims:
    """Without what is empty, and sorted."""
    sort = {"marks": lambda mark: mark["store"]}
    return {
        name: sorted(said, key=sort.get(name)) if isinstance(said, list) else said
        for name, said in claims.items()
        if said != []
    }


def items(claims: Claims) -> int:
    return sum(len(claims.get(name, [])) for name in ("own", "seen", "ages", "touched"))


def size_of(claims: Claims, measure: str | int) -> int:
    return items(claims) if measure == "items" else characters(claims, int(measure))


def ladder(
    claims: Claims,
    measure: str | int,
    limit: int,
    now: int,
    until: int,
    floor: list[list[Any]],
    replicated: list[list[Any]],
    stores: list[int] | None,
) -> Claims:
    """The first result that fits."""
    mine = lambda store: store != EVERY_STORE and (stores is None or store in stores)  # noqa: E731 - it reads as the page does
    rungs = (
        lambda found: found,
        unfiltered,
        lambda found: aged(found, now, mine),
        lambda found: ageless(found, mine),
        lambda found: floored(found, dict(floor), mine),
    )
    for rung in rungs:
        claims = tidy(rung(claims))
        if size_of(claims, measure) <= limit:
            return claims
    tries = marked(claims, until, replicated, mine)
    for counts_foreign in (True, False):
        for found in tries:
            counted = found if counts_foreign else without_foreign(found, mine)
            if size_of(tidy(counted), measure) <= limit:
                return tidy(found)
    return tidy(tries[-1])


Mine = Callable[[int], bool]


def unfiltered(claims: Claims) -> Claims:
    return {**claims, "touched": []}


def aged(claims: Claims, now: int, mine: Mine) -> Claims:
    gone = {
        (shard, origin)
        for shard, origin, hours in claims.get("ages", [])
        if mine(shard >> 16) and claims["expires_at"] - HOUR_S * hours <= now
    }
    kept = {
        name: [entry for entry in claims.get(name, []) if (entry[0], entry[1]) not in gone]
        for name in ("own", "seen", "ages")
    }
    return {**claims, **kept}


def ageless(claims: Claims, mine: Mine) -> Claims:
    return {**claims, "ages": [age for age in claims.get("ages", []) if not mine(store_of(age))]}


def floored(claims: Claims, bounds: dict[int, str], mine: Mine) -> Claims:
    floors = {store: int(floor) for store, floor in claims.get("floors", [])}
    seen = []
    for position in claims.get("seen", []):
        store, offset = store_of(position), int(position[2])
        if mine(store) and store in bounds and offset <= int(bounds[store]):
            floors[store] = max(floors.get(store, 0), offset)
        else:
            seen.append(position)
    return {**claims, "seen": seen, "floors": [[store, str(floor)] for store, floor in floors.items()]}


def marked(claims: Claims, until: int, replicated: list[list[Any]], mine: Mine) -> list[Claims]:
    """With all shards kept, with one less, ... with none; then the same with any origin."""
    safe = {(shard, origin): int(offset) for shard, origin, offset in replicated}
    own, seen = claims.get("own", []), claims.get("seen", [])
    risky = [(s, o) for s, o, offset in own if int(offset) > safe.get((s, o), -1)]
    pairs = {(s, o) for s, o, _ in own + seen}
    shards = {s for s, _ in pairs if mine(s >> 16)}

    def rank(shard: int) -> tuple[int, int, int]:
        if shard in {s for s, _ in risky}:
            kind = 0
        elif shard in {s for s, _, _ in own}:
            kind = 1
        else:
            kind = 2
        return kind, sum(s == shard for s, _ in pairs), shard

    order = sorted(shards, key=rank)
    return [
        keep(claims, order[:count], shards, risky, until, mine, any_origin)
        for any_origin in (False, True)
        for count in range(len(order), -1, -1)
    ]


def keep(
    claims: Claims,
    kept: list[int],
    shards: set[int],
    risky: list[tuple[int, int]],
    until: int,
    mine: Mine,
    any_origin: bool,
) -> Claims:
    """Claims in which only these shards of the known ones are left."""
    gone = shards - {*kept}
    marks = {mark["store"]: mark for mark in claims.get("marks", [])}
    for store in {shard >> 16 for shard in shards} | {store for store in marks if mine(store)}:
        here = sorted(shard for shard in kept if shard >> 16 == store)
        dropped = {shard for shard in gone if shard >> 16 == store}
        lost = sorted({origin for shard, origin in risky if shard in dropped})
        if dropped:
            new = {"store": store, "until": str(until), "exact": here, "origins": lost}
            marks[store] = joined(marks.get(store, new), new)
        elif store in marks:
            before = marks[store]
            marks[store] = {**before, "exact": sorted({*before["exact"]} & {*here})}
        if any_origin and store in marks and marks[store]["origins"]:
            marks[store] = {**marks[store], "origins": "any"}
    left = {name: [entry for entry in claims.get(name, []) if entry[0] not in gone] for name in ("own", "seen", "ages")}
    return {**claims, **left, "marks": [*marks.values()]}


def joined(before: Claims, new: Claims) -> Claims:
    """As tokens are joined."""
    tokens = [{"expires_at": 0, "marks": [mark]} for mark in (before, new)]
    (mark,) = dumb_join(tokens, -1, 0)["marks"]
    return dict(mark)


def without_foreign(claims: Claims, mine: Mine) -> Claims:
    left: Claims = {
        name: [entry for entry in claims.get(name, []) if mine(store_of(entry))] for name in ("own", "seen", "ages")
    }
    left["floors"] = [floor for floor in claims.get("floors", []) if mine(floor[0])]
    left["marks"] = [mark for mark in claims.get("marks", []) if mine(mark["store"])]
    return {**claims, **left}


# --- when a mark may lapse, and a token that does not open -------------------------------------------------------------------


class Refused(ValueError):
    """A configuration that would forget too early."""


def bounds(now: float, token_ttl_s: int, max_staleness_s: int, max_clock_skew_s: int) -> dict[str, str]:
    if token_ttl_s <= max_staleness_s + max_clock_skew_s or max_staleness_s <= 0:
        raise Refused
    milliseconds = max(0, math.floor((Fraction(now) - max_staleness_s) * 1000))
    until = math.floor(now) + max_staleness_s + max_clock_skew_s + 1
    return {"until": str(until), "floor": str(milliseconds * 65_536)}


def present(tokens: list[Any], bad_token: str, now: int, **settings: int) -> Claims:
    """What the next token says, after tokens that open (claims) and texts that do not."""
    opened = [token for token in tokens if not isinstance(token, str)]
    bad = bad_token == "leader" and any(isinstance(token, str) and token for token in tokens)
    presented = [token for token in tokens if token != ""]
    if len(presented) == 1 and presented == opened and 2 * (opened[0]["expires_at"] - now) >= settings["token_ttl_s"]:
        return {name: said for name, said in opened[0].items() if name != "expires_at"}
    if bad:
        until = bounds(now, **settings)["until"]
        mark = {"store": EVERY_STORE, "until": until, "exact": [], "origins": []}
        opened.append({"expires_at": now, "marks": [mark]})
    return dumb_join(opened, now, settings["token_ttl_s"])


# --- what a token admits ---------------------------------------------------------------------------------------------------------


def admits(claims: Claims, shard: int, endpoint: dict[str, Any], time: int) -> bool:
    """Whether a read of a shard is served at an endpoint: `applied` and `ended` by origin, `current` if it is a leader shown to be."""
    applied, ended = endpoint["applied"], endpoint["ended"]
    for name in ("own", "seen"):
        for s, origin, text in claims.get(name, []):
            offset = int(text)
            if s != shard:
                continue
            if origin not in applied or (name == "own" and offset > ended.get(origin, offset)):
                return False
            if applied[origin] < min(offset, ended.get(origin, offset)):
                return False
    for store, floor in claims.get("floors", []):
        if store == shard >> 16 and any(x < min(int(floor), ended.get(o, int(floor))) for o, x in applied.items()):
            return False
    for mark in claims.get("marks", []):
        if mark["store"] not in (shard >> 16, EVERY_STORE) or shard in mark["exact"]:
            continue
        if mark["until"] != "forever" and time >= int(mark["until"]):
            continue
        if not endpoint["current"] or any(mark["origins"] == "any" or origin in mark["origins"] for origin in ended):
            return False
    return True
