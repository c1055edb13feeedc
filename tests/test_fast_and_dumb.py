"""The fast code and the dumb twins on very many cases, drawn from seeds and not by Hypothesis: a million in the profile `deep`.

A case is small, and nothing is shrunk: what fails says its seed and number, and `replay` runs that case alone. Each batch of a seed is a
process's work, so that a million take minutes; the number of cases is all that a profile changes.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import cbor2
import pytest
from hypothesis import settings

from causal import Frontier, LeaderMark, MalformedToken, Token
from causal.core.hlc import START, merge, tick
from causal.core.position import ANY_ORIGIN, EVERY_STORE, FOREVER, pack
from causal.core.wire import decode_claims, decode_frontier, encode_claims, encode_frontier
from tests.core.test_hlc_edges import received, sent, split
from tests.fuzz.mutate import damaged
from tests.spec.twins import token as twin

CASES = {"dev": 2_000, "ci": 10_000, "deep": 1_000_000}
"""Of all kinds together, in each profile."""
BATCH = 500
EXPIRES_AT = 1_800_000_000

# --- what is drawn -------------------------------------------------------------------------------------------------------

Draw = random.Random


def number(r: Draw, bits: int) -> int:
    """A number of at most so many bits: small ones, edges and any, all of them often."""
    match r.randrange(6):
        case 0:
            return r.randrange(4)
        case 1:
            return max(0, (1 << bits) - 1 - r.randrange(3))
        case 2:
            return max(0, min((1 << bits) - 1, (1 << r.randrange(bits)) + r.randrange(-1, 2)))
        case _:
            return r.getrandbits(r.randint(1, bits))


def stamp(r: Draw) -> int:
    return (1_799_900_000_000 + r.randrange(60_000)) << 16 | r.choice((0, 0, 1, 4095, 4096, r.randrange(65_536)))


def drawn_entries(r: Draw) -> dict[int, int]:
    n = r.choice((0, 1, 1, 2, 3, 4, 6, 9, r.randrange(40)))
    if r.random() < 0.5:
        first, origin = number(r, 32), number(r, 32)
        first = min(first, 2**32 - max(n, 1))
        keys = [pack(first + i, origin) for i in range(n)]
    else:
        small = r.choice((2, 4, 17, 32))
        keys = list({pack(number(r, small), number(r, r.choice((1, 16, 32)))) for _ in range(n)})
    kind = r.randrange(4)
    base = number(r, 64)
    offset: Callable[[], int] = {
        0: lambda: stamp(r),
        1: lambda: number(r, 64),
        2: lambda: min(base + r.randrange(50), 2**64 - 1),
        3: lambda: number(r, 42),
    }[kind]
    return {key: offset() for key in keys}


def drawn_marks(r: Draw, keys: list[int]) -> dict[int, LeaderMark]:
    marks = {}
    for _ in range(r.choice((0, 0, 1, 1, 2, 4))):
        store = r.choice((0, 1, EVERY_STORE, number(r, 16)))
        listed = frozenset(key >> 32 for key in keys if key >> 48 == store)
        exact = listed if r.random() < 0.5 else frozenset(number(r, 32) for _ in range(r.randrange(4)))
        origins = r.choice((frozenset(), frozenset({ANY_ORIGIN}), frozenset(number(r, 32) for _ in range(3))))
        until = r.choice((FOREVER, EXPIRES_AT + r.randrange(-100, 100), number(r, 63)))
        marks[store] = LeaderMark(min(until, FOREVER), exact, origins)
    return marks


def drawn_floors(r: Draw) -> dict[int, int]:
    return {min(number(r, 16), EVERY_STORE - 1): number(r, 64) for _ in range(r.choice((0, 0, 1, 3)))}


def drawn_token(r: Draw) -> Token:
    own = drawn_entries(r)
    seen: dict[int, int] = {}
    floors: dict[int, int] = {}
    marks: dict[int, LeaderMark] = {}
    ages: dict[int, int] = {}
    touched: dict[int, set[int]] = {}
    if r.random() < 0.6:
        seen = drawn_entries(r) if r.random() < 0.5 else {}
        seen |= {key: min(2**64 - 1, x + number(r, 20)) for key, x in own.items() if r.random() < 0.3}
        keys = [*own, *seen]
        ages = {key: number(r, 15) for key in keys if r.random() < 0.3} if r.random() < 0.3 else {}
        if r.random() < 0.4:
            floors, marks = drawn_floors(r), drawn_marks(r, keys)
        if own and r.random() < 0.3:
            touched = {key >> 48: {number(r, 16) for _ in range(r.randrange(13))} for key in list(own)[:2]}
            touched.pop(EVERY_STORE, None)
    timestamp = number(r, 64) if r.random() < 0.2 else None
    expires_at = EXPIRES_AT if r.random() < 0.8 else number(r, 35)
    return Token(
        Frontier.of(own),
        Frontier.of(seen, floors, marks),
        expires_at=expires_at,
        timestamp=timestamp,
        ages=ages,
        touched=touched,
    )


# --- the kinds of case ---------------------------------------------------------------------------------------------------


def packing(r: Draw) -> None:
    """Claims: the same bytes as the twin's, and the same claims out of them."""
    token = drawn_token(r)
    payload = encode_claims(token)
    assert payload == twin.payload_of(token)
    assert decode_claims(payload) == token
    assert twin.plain(token) == twin.token_of(payload)


def mutating(r: Draw) -> None:
    """Damaged claims: both refuse, or both read the same, which is then written so."""
    token = drawn_token(r)
    payload = cbor2.dumps([1, token.expires_at, damaged(r, twin.dumb_pack(token, token.expires_at))], canonical=True)
    if r.random() < 0.1:
        payload = damaged(r, payload)
    judged(payload)


def lying(r: Draw) -> None:
    """Claims that no token has, written as the twin writes any: numbers a little out of range, and what is not normal."""
    token = drawn_token(r)
    own, seen, ages = dict(token.own.entries), dict(token.seen.entries), dict(token.ages)
    floors, marks, touched = dict(token.seen.floors), dict(token.seen.marks), dict(token.touched)
    for _ in range(r.choice((1, 1, 2))):
        key = r.choice([*own, *seen, pack(1, 1)])
        past = r.choice((0, 1, number(r, 8)))
        match r.randrange(9):
            case 0:
                own[key] = 2**64 - 1 + past
            case 1:
                seen[key] = own.get(key, 1) + r.choice((0, past, 2**64 - 1))
            case 2:
                ages[key] = 2**15 - 1 + past
            case 3:
                own[2**64 - 1 + (past << 32)] = 5  # a shard past the last
            case 4:
                floors[0xFFFE + past] = number(r, 64) + r.choice((0, 2**64))
            case 5:
                until = r.choice((FOREVER - 1 + past, FOREVER + past, 0, token.expires_at + past))
                marks[0xFFFE + past] = LeaderMark(
                    max(0, until), frozenset({2**32 - 1 + past}), frozenset({past, past + 1})
                )
            case 6:
                touched[key >> 48] = frozenset(range(r.choice((12, 13, 14))))
            case 7:
                touched[r.choice((number(r, 16), key >> 48))] = frozenset({0xFFFF + past})
            case _:
                ages = dict.fromkeys([*own, *seen], 0)
    parts = Frontier.of(own), Frontier.of(seen, floors, marks)
    lie = Token.of(*parts, token.expires_at, token.timestamp, ages, touched)
    try:
        packed = twin.dumb_pack(lie, token.expires_at)
    except ValueError:  # a field that it does not fit at all
        return
    judged(cbor2.dumps([1, token.expires_at, packed], canonical=True))


def addressed(r: Draw) -> None:
    """Shards and origins at the ends of their ranges and past them, which a packed key could not hold."""
    n, regular = r.choice((1, 1, 2, 3)), r.random() < 0.5
    shard = r.choice((0, 5, 2**32 - n - 1, 2**32 - n, 2**32 - n + 1, 2**32, 2**40 + number(r, 8)))
    origin = r.choice((0, 5, 2**32 - 2, 2**32 - 1, 2**32, 2**32 + number(r, 8), 2**40))
    bits = twin.count(n) + f"{regular:d}00"
    if regular:
        bits += twin.alone(shard, 6) + twin.alone(origin, 6)
    else:
        gap = r.choice((0, 1, 2))
        shards = [shard + gap * i for i in range(n)]
        bits += twin.rising(shards) + twin.bits_of_column([origin] * (n - 1) + [r.choice((origin, origin + 1, 3))], 6)
    bits += twin.columns([r.choice((7, 7, 9)) for _ in range(n)], False)
    bits += "0" * (-len(bits) % 8)
    packed = int(bits, 2).to_bytes(len(bits) // 8, "big")
    judged(cbor2.dumps([1, EXPIRES_AT, packed], canonical=True))


def judged(payload: bytes) -> None:
    """Both refuse, or both read the same."""
    try:
        theirs = twin.token_of(payload)
    except twin.BROKEN:
        theirs = None
    try:
        ours: Token | None = decode_claims(payload)
    except MalformedToken:
        ours = None
    assert (None if ours is None else twin.plain(ours)) == theirs, payload.hex()
    if ours is not None:
        assert encode_claims(ours) == payload


Parts = tuple[dict[int, int], dict[int, int], dict[int, tuple[int, frozenset[int], frozenset[int]]]]


def drawn_parts(r: Draw) -> Parts:
    n = r.randrange(7)
    keys = [pack(r.choice((0, 1, 2, 65_536, 65_537)), r.randrange(3)) for _ in range(n)]
    entries = {key: r.choice((r.randrange(4), number(r, 64))) for key in keys}
    floors = {r.randrange(3): r.randrange(4) for _ in range(r.choice((0, 0, 1, 2)))}
    some = [frozenset(), frozenset({0}), frozenset({0, 1}), frozenset({1, 65_536})]
    marks = {
        r.choice((0, 1, EVERY_STORE)): (r.randrange(3), r.choice(some), r.choice((frozenset(), frozenset({1}), frozenset({ANY_ORIGIN}))))
        for _ in range(r.choice((0, 0, 1, 2)))
    }  # fmt: skip
    return entries, floors, marks


def made(parts: Parts) -> Frontier:
    entries, floors, marks = parts
    return Frontier.of(dict(entries), dict(floors), {store: LeaderMark(*mark) for store, mark in marks.items()})


def joined(a: Parts, b: Parts) -> Parts:
    marks = dict(a[2])
    for store, (until, exact, origins) in b[2].items():
        if store in marks:
            u, e, o = marks[store]
            both = o | origins
            marks[store] = max(u, until), e & exact, frozenset({ANY_ORIGIN}) if ANY_ORIGIN in both else both
        else:
            marks[store] = until, exact, origins
    entries, floors = (
        {key: max(x.get(key, 0), y.get(key, 0)) for key in {*x, *y}} for x, y in ((a[0], b[0]), (a[1], b[1]))
    )
    return entries, floors, marks


def dominates(a: Parts, b: Parts) -> bool:
    return joined(a, b) == a


def lattice(r: Draw) -> None:
    """Frontiers against dicts: join, order, what compaction keeps and demands, and the packed form."""
    a, b = drawn_parts(r), drawn_parts(r)
    if r.random() < 0.3:
        b = joined(a, b)
    f, g = made(a), made(b)
    assert f | g == made(joined(a, b)) == g | f
    assert (f >= g) == dominates(a, b)
    assert (g >= f) == dominates(b, a)
    assert (f == g) == (a == b)
    packed = encode_frontier(f)
    assert decode_frontier(packed) == f
    most, stores = r.randrange(5), r.choice((None, [0], [0, 1]))
    small = f.compact(most, until=9, stores=stores)
    known = [key for key in small.entries if stores is None or key >> 48 in stores]
    foreign = [key for key in a[0] if stores is not None and key >> 48 not in stores]
    assert len(known) <= max(0, most - len(foreign)) or len(a[0]) <= most
    assert small.floors == f.floors
    for key, offset in a[0].items():  # what is not listed any more is at the leader only, until then
        assert small.entries.get(key) == offset or (key not in small.entries and small.marked(key >> 32))
        if key >> 48 in small.marks and key not in small.entries:
            assert small.marks[key >> 48].until >= 9
            assert small.marks[key >> 48].recalls(key & 0xFFFFFFFF)


def stepping(r: Draw) -> None:
    """The packed clock against the pairs of the paper, over a few events with few distinct numbers."""
    ours, theirs = START, None
    edge = r.choice((0, 1, 65_535, 1_700_000_000_000, 2**48 - 4))
    for _ in range(6):
        pt = max(0, edge + r.randrange(-2, 3))
        if r.random() < 0.5:
            ours, theirs = tick(ours, pt), sent(theirs, pt)
        else:
            message = max(0, edge + r.randrange(-2, 3)), r.choice((0, 1, 2, 65_533, 65_534, 65_535))
            ours, theirs = merge(ours, message[0] << 16 | message[1], pt), received(theirs, message, pt)
        assert split(ours) == theirs


KINDS: dict[str, tuple[Callable[[Draw], None], int]] = {
    "packing": (packing, 20),
    "mutating": (mutating, 40),
    "lying": (lying, 8),
    "addressed": (addressed, 2),
    "lattice": (lattice, 20),
    "stepping": (stepping, 10),
}
"""Each kind of case, and how many of a hundred are such."""


def replay(kind: str, seed: int, nth: int) -> None:
    """Run one case alone: what a failure names."""
    KINDS[kind][0](Draw(f"{kind} {seed} {nth}"))


def batch(kind: str, seed: int, cases: int) -> tuple[int, str | None]:
    """Run the cases of one seed; return how many ran, and how to replay the one that failed."""
    for nth in range(cases):
        try:
            replay(kind, seed, nth)
        except Exception as error:  # noqa: BLE001 - whatever a case raises is what was looked for
            return nth + 1, f"replay({kind!r}, {seed}, {nth}): {type(error).__name__}: {str(error)[:500]}"
    return cases, None


@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", KINDS)
def test_the_fast_code_and_the_dumb_twin_agree(kind: str) -> None:
    cases = CASES[settings.get_current_profile_name()] * KINDS[kind][1] // 100
    work = [(kind, seed, min(BATCH, cases - seed * BATCH)) for seed in range(-(-cases // BATCH))]
    if len(work) < 20:  # quicker here than in processes that import everything first
        results = [batch(*one) for one in work]
    else:
        with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
            results = list(pool.map(batch, *zip(*work, strict=True), chunksize=4))
    assert [failure for _, failure in results if failure] == []
    assert sum(count for count, _ in results) == cases


def test_a_failure_names_what_replays_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(r: Draw) -> None:
        assert r.random() < 0.9

    monkeypatch.setitem(KINDS, "broken", (broken, 0))
    count, failure = batch("broken", 3, 500)
    assert failure is not None
    assert failure.startswith(f"replay('broken', 3, {count - 1})")
    with pytest.raises(AssertionError):
        replay("broken", 3, count - 1)


def test_what_is_drawn_is_both_accepted_and_refused() -> None:
    """Mutated claims that are all refused, or all accepted, would compare nothing."""
    accepted = 0
    for nth in range(400):
        r = Draw(f"mix {nth}")
        token = drawn_token(r)
        try:
            decode_claims(cbor2.dumps([1, EXPIRES_AT, damaged(r, twin.dumb_pack(token, EXPIRES_AT))], canonical=True))
        except MalformedToken:
            continue
        accepted += 1
    assert 20 < accepted < 380
