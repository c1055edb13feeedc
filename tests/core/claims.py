"""Tokens to test with: strategies that reach every column, and a dumb twin of the wire form.

The twin follows docs/spec/token.md word for word with strings of "0" and "1", one field at a time. It decodes without judging,
and a byte string is well formed to it when encoding what it decoded gives the same bytes.
"""

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import strategies as st

from causal import Frontier, LeaderMark, Token
from causal.core.position import ANY_ORIGIN, EVERY_STORE, FOREVER, pack

EXPIRES_AT = 1_800_000_000
HOUR = 3600

# --- strategies ------------------------------------------------------------------------------------------------------

small = st.integers(0, 3)
edges = st.sampled_from([0, 1, 2, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 2**32 - 1, 2**48, 2**63, 2**64 - 1])
u32 = st.one_of(small, st.integers(0, 300), st.integers(0, 2**32 - 1))
clock = st.builds(lambda ms, n: (1_799_900_000_000 + ms) << 16 | n, st.integers(0, 60_000), small)
offsets = st.one_of(small, clock, edges, st.integers(0, 2**42), st.integers(0, 2**64 - 1))
shards = st.one_of(small, st.integers(0, 40), st.integers(1 << 16, (1 << 16) + 9), u32)
untils = st.one_of(
    st.integers(EXPIRES_AT - 100_000, EXPIRES_AT + 100),
    st.sampled_from([0, FOREVER - 1, FOREVER]),
    st.integers(0, FOREVER),
)


@st.composite
def entries(draw: st.DrawFn, most: int = 40) -> dict[int, int]:
    """Packed entries of one shape: regular runs, clocks, few origins, or anything."""
    n = draw(st.integers(0, most))
    if draw(st.booleans()):
        first, origin = draw(st.integers(0, 2**32 - 1 - most)), draw(u32)
        keys = [pack(first + i, origin) for i in range(n)]
    else:
        pairs = draw(st.lists(st.tuples(shards, u32), max_size=n, unique=True))
        keys = [pack(*pair) for pair in pairs]
    values = draw(st.sampled_from([small, clock, offsets, st.just(draw(offsets))]))
    return {key: draw(values) for key in keys}


marks = st.builds(
    LeaderMark,
    untils,
    st.frozensets(shards, max_size=5),
    st.frozensets(st.one_of(st.just(ANY_ORIGIN), u32), max_size=4),
)
stores = st.one_of(small, st.integers(0, EVERY_STORE))


@st.composite
def seen_parts(draw: st.DrawFn, own: dict[int, int]) -> Frontier:
    """A `seen` frontier: some of `own` surpassed, others its own; floors and marks now and then."""
    seen = draw(entries(8)) if draw(st.booleans()) else {}
    for key in draw(st.lists(st.sampled_from(sorted(own)), unique=True)) if own else []:
        seen[key] = min(own[key] + draw(st.one_of(small, st.integers(0, 2**20))), 2**64 - 1)
    floors = draw(st.dictionaries(st.integers(0, EVERY_STORE - 1), offsets, max_size=3)) if draw(st.booleans()) else {}
    found = draw(st.dictionaries(stores, marks, max_size=3)) if draw(st.booleans()) else {}
    listed = {key >> 32 for key in own.keys() | seen.keys()}
    for store in list(found):
        if draw(st.booleans()):  # what compaction makes: exact is what is listed
            exact = frozenset(s for s in listed if s >> 16 == store)
            found[store] = LeaderMark(found[store].until, exact, found[store].origins)
    return Frontier.of(seen, floors, found)


@st.composite
def tokens(draw: st.DrawFn) -> Token:
    """Any token."""
    own = draw(entries())
    seen = draw(seen_parts(own)) if draw(st.booleans()) else Frontier()
    keys = sorted(own.keys() | seen.entries.keys())
    ages = draw(st.dictionaries(st.sampled_from(keys), st.integers(0, 2**15), max_size=5)) if keys else {}
    expiry = st.one_of(
        st.just(EXPIRES_AT), st.sampled_from([0, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**35 - 1])
    )
    return Token(
        Frontier.of(own),
        seen,
        expires_at=draw(expiry),
        timestamp=draw(st.one_of(st.none(), offsets)),
        ages=ages if draw(st.booleans()) else {},
    )


# --- the dumb twin -----------------------------------------------------------------------------------------------------


def number(x: int, size: int) -> str:
    """A number in so many bits."""
    return format(x, f"0{size}b") if size else ""


def alone(x: int, field: int) -> str:
    return number(x.bit_length(), field) + number(x, x.bit_length())


def bits_of_column(xs: Sequence[int], field: int) -> str:
    if len(xs) == 1:
        return alone(xs[0], field)
    plain = alone(0, field) + number(max(xs).bit_length(), field) + "".join(number(x, max(xs).bit_length()) for x in xs)
    low = min(xs)
    spread = (max(xs) - low).bit_length()
    based = alone(low, field) + number(spread, field) + "".join(number(x - low, spread) for x in xs)
    return based if len(based) < len(plain) else plain


def count(n: int) -> str:
    return number(n, 5) if n < 31 else number(31, 5) + number(n, 16)


def rising(xs: Sequence[int]) -> str:
    gaps = [b - a for a, b in pairwise(xs)]
    return alone(xs[0], 6) + (bits_of_column(gaps, 6) if gaps else "")


def numbers(xs: Sequence[int]) -> str:
    return count(len(xs)) + (rising(sorted(xs)) if xs else "")


def columns(xs: Sequence[int], split: bool) -> str:
    return (
        bits_of_column([x >> 16 for x in xs], 6) + bits_of_column([x & 0xFFFF for x in xs], 5)
        if split
        else bits_of_column(xs, 7)
    )


def pays(xs: Sequence[int]) -> bool:
    return len({x // 2**16 for x in xs}) > 1 and all(x % 2**16 < 4096 for x in xs)


def dumb_pack(token: Token, base: int) -> bytes:
    own, seen = token.own.entries, token.seen.entries
    keys = sorted({*own, *seen})
    places = [(key >> 32, key & 0xFFFFFFFF) for key in keys]
    text = count(len(keys))
    if not keys:
        text += "000"
    else:
        values = [own.get(key, seen.get(key, 0)) for key in keys]
        regular = all(place == (places[0][0] + i, places[0][1]) for i, place in enumerate(places))
        split, mixed = pays(values), bool(seen or token.ages)
        text += f"{regular:d}{split:d}{mixed:d}"
        if regular:
            text += alone(places[0][0], 6) + alone(places[0][1], 6)
        else:
            text += rising([shard for shard, _ in places]) + bits_of_column([origin for _, origin in places], 6)
        text += columns(values, split)
        if mixed:
            text += bits_of_column([2 if key in own and key in seen else 1 if key in seen else 0 for key in keys], 2)
            both = [key for key in keys if key in own and key in seen]
            if both and split:
                text += bits_of_column([(seen[key] >> 16) - (own[key] >> 16) for key in both], 6)
                text += bits_of_column([seen[key] & 0xFFFF for key in both], 5)
            elif both:
                text += bits_of_column([seen[key] - own[key] for key in both], 7)
            text += "1" + bits_of_column([token.ages.get(key, 0) for key in keys], 4) if token.ages else "0"
    floors, found = token.seen.floors, token.seen.marks
    if token.timestamp is not None or floors or found:
        text += "1" + ("0" if token.timestamp is None else "1" + number(token.timestamp, 64))
        text += numbers([*floors]) + (bits_of_column([floors[s] for s in sorted(floors)], 7) if floors else "")
        text += numbers([*found])
        if found:
            times = [m.until for _, m in sorted(found.items(), key=lambda item: item[0])]
            text += bits_of_column(
                [0 if t == FOREVER else 2 * (t - base) + 1 if t >= base else 2 * (base - t) for t in times], 7
            )
        for store in sorted(found):
            listed = {shard for shard, _ in places if shard >> 16 == store}
            text += "1" if found[store].exact == listed else "0" + numbers([*found[store].exact])
            text += numbers([origin + 1 for origin in found[store].origins])
    text += "0" * (-len(text) % 8)
    return bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))


class Short(Exception):
    """The bits end too early, or say what no token says."""


class Reader:
    """Reads fields off a string of bits, judging nothing but their presence."""

    def __init__(self, data: bytes) -> None:
        self.text = "".join(number(byte, 8) for byte in data)

    def take(self, size: int) -> int:
        if size > len(self.text):
            raise Short
        field, self.text = self.text[:size], self.text[size:]
        return int(field or "0", 2)

    def alone(self, field: int) -> int:
        return self.take(self.take(field))

    def column(self, n: int, field: int) -> list[int]:
        if n == 1:
            return [self.alone(field)]
        base = self.alone(field)
        width = self.take(field)
        if n * width > len(self.text):
            raise Short
        return [base + self.take(width) for _ in range(n)]

    def count(self) -> int:
        n = self.take(5)
        return self.take(16) if n == 31 else n

    def rising(self, n: int) -> list[int]:
        xs = [self.alone(6)]
        for gap in self.column(n - 1, 6) if n > 1 else []:
            xs.append(xs[-1] + gap)
        return xs

    def numbers(self) -> list[int]:
        n = self.count()
        return self.rising(n) if n else []

    def offsets(self, n: int, split: int) -> list[int]:
        if not split:
            return self.column(n, 7)
        return [h << 16 | w for h, w in zip(self.column(n, 6), self.column(n, 5), strict=True)]


def dumb_unpack(data: bytes, base: int) -> tuple[Token, int]:
    """What the bits say, and how many are left; nonsense raises Short, or anything that a constructor raises."""
    r = Reader(data)
    n = r.count()
    flags = r.take(3)
    own: dict[int, int] = {}
    seen: dict[int, int] = {}
    ages: dict[int, int] = {}
    if n:
        if flags & 4:
            shard, origin = r.alone(6), r.alone(6)
            places = [(shard + i, origin) for i in range(n)]
        else:
            places = list(zip(r.rising(n), r.column(n, 6), strict=True))
        if max(shard for shard, _ in places) >= 2**32 or max(origin for _, origin in places) >= 2**32:
            raise Short
        keys = [pack(*place) for place in places]
        values = r.offsets(n, flags & 2)
        kinds = r.column(n, 2) if flags & 1 else [0] * n
        if max(kinds) > 2:
            raise Short
        own = {key: x for key, x, kind in zip(keys, values, kinds, strict=True) if kind != 1}
        seen = {key: x for key, x, kind in zip(keys, values, kinds, strict=True) if kind == 1}
        both = [(key, x) for key, x, kind in zip(keys, values, kinds, strict=True) if kind == 2]
        if both and flags & 2:
            highs, lows = r.column(len(both), 6), r.column(len(both), 5)
            seen |= {key: ((x >> 16) + h) << 16 | w for (key, x), h, w in zip(both, highs, lows, strict=True)}
        elif both:
            seen |= {key: x + d for (key, x), d in zip(both, r.column(len(both), 7), strict=True)}
        if flags & 1 and r.take(1):
            ages = dict(zip(keys, r.column(n, 4), strict=True))
        if max((*own.values(), *seen.values())) >= 2**64:
            raise Short
    timestamp, floors, found = None, {}, {}
    if r.text.startswith("1"):
        r.take(1)
        timestamp = r.take(64) if r.take(1) else None
        at = r.numbers()
        floors = dict(zip(at, r.column(len(at), 7), strict=True)) if at else {}
        at = r.numbers()
        times = r.column(len(at), 7) if at else []
        for store, z in zip(at, times, strict=True):
            listed = {key >> 32 for key in own.keys() | seen.keys() if key >> 48 == store}
            exact = frozenset(listed if r.take(1) else r.numbers())
            until = FOREVER if not z else base + z // 2 if z % 2 else base - z // 2
            found[store] = LeaderMark(until, exact, frozenset(x - 1 for x in r.numbers()))
            if (
                not 0 <= until <= FOREVER
                or max(exact, default=0) >= 2**32
                or max(found[store].origins, default=0) >= 2**32
            ):
                raise Short
        if max((0, *floors)) >= EVERY_STORE or max((0, *found)) > EVERY_STORE or max((0, *floors.values())) >= 2**64:
            raise Short
    token = Token(Frontier.of(own), Frontier.of(seen, floors, found), expires_at=base, timestamp=timestamp, ages=ages)
    return token, len(r.text)
