"""Claims that the vectors seal, with what each is there for."""

from bisect import bisect_right
from collections.abc import Sequence

from tests.spec.twins import token as twin
from tests.spec.twins.values import ANY_ORIGIN, EVERY_STORE, FOREVER, Frontier, Mark, Token, pack

EXPIRES_AT = 1_800_000_000
MS = 1_799_999_000_000

# --- claims of every shape -----------------------------------------------------------------------------------------------


def run(n: int, *offsets: int, origin: int = 1, first: int = 0) -> Frontier:
    """Consecutive shards under one origin."""
    return Frontier({pack(first + i, origin): offsets[i % len(offsets)] for i in range(n)})


def at(*places: tuple[int, int, int]) -> Frontier:
    return Frontier({pack(shard, origin): offset for shard, origin, offset in places})


def clock(ms: int, counter: int = 0) -> int:
    return MS + ms << 16 | counter


def scattered(n: int) -> Frontier:
    """Positions of nothing in common."""
    return at(*((i * i * 977, i * 31 % 1009, i**9 % 2**40) for i in range(n)))


def of_size(size: int) -> Token:
    """Claims that take so many packed bytes: as many positions as go in, and floors to fill up."""

    def claims(n: int, filling: Sequence[int]) -> Token:
        floors = {store: 1 << bits - 1 for store, bits in enumerate(filling)}
        return Token(scattered(n), Frontier({}, floors), expires_at=EXPIRES_AT)

    def packed(token: Token) -> int:
        return len(twin.dumb_pack(token, EXPIRES_AT))

    most = bisect_right(range(size), size, lo=1, key=lambda n: packed(claims(n, [1]))) - 1
    fillings = ([bits] * stores for stores in range(1, 9) for bits in range(1, 65))
    return next(token for filling in fillings if packed(token := claims(most, filling)) == size)


def mark(until: int, exact: set[int] | None = None, origins: set[int] | None = None) -> Mark:
    return Mark(until, frozenset(exact or ()), frozenset(origins or ()))


def marked(own: Frontier | None, marks: dict[int, Mark], floors: dict[int, int] | None = None) -> Token:
    return Token(own or Frontier(), Frontier({}, floors or {}, marks), expires_at=EXPIRES_AT)


def touching(own: Frontier, touched: dict[int, set[int]]) -> Token:
    return Token(own, expires_at=EXPIRES_AT, touched=touched)


OWN = run(1, 5)
CLAIMS: tuple[tuple[str, Token | Frontier], ...] = (
    ("no claims", Frontier()),
    ("one position", OWN),
    ("all zero", run(1, 0, origin=0)),
    ("the greatest numbers", at((2**32 - 1, 2**32 - 1, 2**64 - 1))),
    ("six shards in a row, least offset subtracted", run(6, *(2**41 + 977 * i for i in range(6)))),
    ("offsets far apart, nothing subtracted", run(3, 1, 2**40, 7)),
    ("subtracting would be as long: nothing subtracted", run(2, 12, 15)),
    ("subtracting is shorter by a bit", run(3, 12, 13, 15)),
    ("equal offsets take no bits each", run(9, 2**50)),
    ("offsets of zero", run(4, 0)),
    ("shards in a row, to the last there is", run(3, 9, 8, 7, first=2**32 - 3)),
    ("a shard missing in the row", at((1, 1, 5), (2, 1, 6), (4, 1, 7))),
    ("a row under two origins", at((1, 1, 5), (2, 2, 6), (3, 1, 7))),
    ("two origins of one shard", at((3, 1, 50), (3, 2, 7))),
    ("shards and origins apart", at((0, 9, 1), (65_536, 40_000, 2**42), (2**32 - 1, 2**32 - 1, 77))),
    ("30 positions: the count in 5 bits", run(30, 1, 2)),
    ("31 positions: the count in 21 bits", run(31, 1, 2)),
    ("clock offsets, split", run(4, clock(0), clock(7000, 1), clock(250, 3), clock(59_000))),
    ("clock offsets with the greatest counter that splits", run(2, clock(0, 4095), clock(900))),
    ("a counter too great to split", run(2, clock(0, 4096), clock(900))),
    (
        "a counter too great to split, of neither the least nor the greatest",
        run(3, clock(0), clock(5, 4096), clock(900)),
    ),
    ("clock offsets of one millisecond, not split", run(3, clock(5, 1), clock(5, 2), clock(5, 4000))),
    ("split, and shards apart", at((1, 1, clock(0)), (5, 1, clock(1000)), (9, 2, clock(2000, 2)))),
    ("only seen", Token(Frontier(), run(2, 5, 9), expires_at=EXPIRES_AT)),
    ("own and seen of different shards", Token(run(1, 5), run(2, 9, first=1), expires_at=EXPIRES_AT)),
    ("seen ahead of own", Token(run(3, 5, 6, 7), at((0, 1, 6), (2, 1, 2**64 - 1)), expires_at=EXPIRES_AT)),
    (
        "seen ahead of own, one position",
        Token(run(1, 2**64 - 2), run(1, 2**64 - 1), expires_at=EXPIRES_AT),
    ),
    (
        "seen ahead of own, split",
        Token(
            run(3, clock(0, 9), clock(5, 3), clock(700)),
            at((0, 1, clock(2, 0xFFFF)), (1, 1, clock(5, 4)), (7, 1, clock(3))),
            expires_at=EXPIRES_AT,
        ),
    ),
    (
        "seen ahead of own by a later millisecond with a smaller counter, split",
        Token(run(2, clock(0, 9), clock(700, 2)), run(2, clock(4, 3), clock(701)), expires_at=EXPIRES_AT),
    ),
    (
        "seen and own, no one the other's",
        Token(at((1, 1, 5), (4, 2, 7)), at((1, 2, 5), (4, 2, 8), (5, 5, 1)), expires_at=EXPIRES_AT),
    ),
    ("an age", Token(OWN, expires_at=EXPIRES_AT, ages={pack(0, 1): 23})),
    ("the greatest age", Token(run(2, 5), expires_at=EXPIRES_AT, ages={pack(1, 1): 2**15 - 1})),
    ("equal ages", Token(run(3, 5, 6, 7), expires_at=EXPIRES_AT, ages={pack(i, 1): 6 for i in range(3)})),
    (
        "ages of own and seen",
        Token(run(2, 5), run(3, 6, first=1), expires_at=EXPIRES_AT, ages={pack(1, 1): 2, pack(3, 1): 30}),
    ),
    ("a clock, and nothing else", Token(expires_at=EXPIRES_AT, timestamp=clock(0, 2))),
    ("a clock of zero", Token(expires_at=EXPIRES_AT, timestamp=0)),
    ("the last time of a clock", Token(OWN, expires_at=EXPIRES_AT, timestamp=2**64 - 1)),
    ("a floor", Token(OWN, Frontier({}, {0: clock(0)}), expires_at=EXPIRES_AT)),
    ("floors", Token(Frontier(), Frontier({}, {0: 0, 7: 2**64 - 1, 65_534: 9}), expires_at=EXPIRES_AT)),
    ("a mark on a store with nothing listed", marked(None, {0: mark(EXPIRES_AT - 1000)})),
    ("a mark but for what is listed", marked(run(2, 5), {0: mark(EXPIRES_AT - 85_440, {0, 1}, {1})})),
    ("a mark but for less than is listed", marked(run(2, 5), {0: mark(EXPIRES_AT - 85_440, {1}, {1, 3})})),
    ("a mark but for more than is listed", marked(OWN, {0: mark(EXPIRES_AT - 1, {0, 1, 40}, {ANY_ORIGIN})})),
    ("a mark but for none, though one is listed", marked(OWN, {0: mark(EXPIRES_AT - 1)})),
    ("a mark of origins", marked(None, {3: mark(EXPIRES_AT, origins={0, 9, 2**32 - 1})})),
    (
        "a mark on another store but for what is listed",
        marked(at((65_536, 1, 5), (65_539, 1, 5)), {1: mark(EXPIRES_AT - 9, {65_536, 65_539})}),
    ),
    ("a mark until the token expires", marked(None, {1: mark(EXPIRES_AT)})),
    ("a mark until a second later", marked(None, {1: mark(EXPIRES_AT + 1)})),
    ("a mark until 1970", marked(None, {1: mark(0)})),
    ("the last mark that lapses", marked(None, {1: mark(FOREVER - 1)})),
    ("a mark for ever on every store", marked(None, {EVERY_STORE: mark(FOREVER, origins={ANY_ORIGIN})})),
    (
        "marks on several stores",
        marked(
            at((0, 1, 5), (65_536, 1, 5), (65_537, 2, 5)),
            {0: mark(EXPIRES_AT - 99, {0}), 1: mark(EXPIRES_AT - 99, {65_537}, {4}), 2: mark(FOREVER)},
        ),
    ),
    (
        "marks but for what is listed, on two stores",
        marked(
            at((0, 1, 5), (65_536, 1, 5), (65_537, 2, 5)),
            {0: mark(EXPIRES_AT - 99, {0}), 1: mark(EXPIRES_AT - 98, {65_536, 65_537})},
        ),
    ),
    ("a mark's exceptions include shards of no store here", marked(None, {1: mark(EXPIRES_AT, {65_537, 2**32 - 1})})),
    (
        "all that a token can say",
        Token(
            at((0, 1, clock(0)), (1, 1, clock(8)), (65_536, 5, 12)),
            Frontier(
                {pack(0, 1): clock(3), pack(2, 4): 77},
                {0: clock(-5000), 9: 3},
                {0: mark(EXPIRES_AT - 500, {0, 1, 2}, {1, 4}), EVERY_STORE: mark(FOREVER, {8}, {ANY_ORIGIN})},
            ),
            expires_at=EXPIRES_AT,
            timestamp=clock(9, 1),
            ages={pack(0, 1): 1, pack(2, 4): 20},
        ),
    ),
    ("a filter of one key", touching(OWN, {0: {0xBEEF}})),
    ("a filter of no keys", touching(OWN, {0: set()})),
    ("a filter of the first and the last fingerprint", touching(OWN, {0: {0, 0xFFFF}})),
    ("a filter of twelve keys", touching(OWN, {0: {i**9 % 65_521 for i in range(1, 13)}})),
    ("a filter of fingerprints in a row", touching(OWN, {0: {7, 8, 9, 10}})),
    (
        "filters of two stores of three",
        touching(at((0, 1, 5), (65_536, 1, 5), (131_072, 2, 5)), {0: {977, 12}, 2: {0x8000}}),
    ),
    ("a filter of the last store", touching(at((65_534 << 16, 1, 5)), {65_534: {1}})),
    (
        "a filter beside a mark",
        Token(
            run(2, 5),
            Frontier({}, {}, {0: mark(EXPIRES_AT - 85_440, {0, 1}, {1})}),
            expires_at=EXPIRES_AT,
            touched={0: frozenset({0x1234, 0xABCD})},
        ),
    ),
    (
        "a filter of what is seen further on",
        Token(run(1, 5), run(2, 9), expires_at=EXPIRES_AT, touched={0: frozenset({3})}),
    ),
    (
        "all that a token can say, and filters",
        Token(
            at((0, 1, clock(0)), (1, 1, clock(8)), (65_536, 5, 12)),
            Frontier(
                {pack(0, 1): clock(3), pack(2, 4): 77},
                {0: clock(-5000), 9: 3},
                {0: mark(EXPIRES_AT - 500, {0, 1, 2}, {1, 4}), EVERY_STORE: mark(FOREVER, {8}, {ANY_ORIGIN})},
            ),
            expires_at=EXPIRES_AT,
            timestamp=clock(9, 1),
            ages={pack(0, 1): 1, pack(2, 4): 20},
            touched={0: frozenset({1, 500, 60_000}), 1: frozenset({0x7FFF})},
        ),
    ),
    *(
        (f"expires at {expires_at}", Token(OWN, expires_at=expires_at))
        for expires_at in (1, 23, 24, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**35 - 1)
    ),
    ("a payload of 23 bytes", of_size(15)),
    ("a payload of 24 bytes", of_size(16)),
    ("packed claims of 23 bytes", of_size(23)),
    ("packed claims of 24 bytes", of_size(24)),
    ("a payload of 255 bytes", of_size(246)),
    ("a payload of 256 bytes", of_size(247)),
    ("packed claims of 255 bytes", of_size(255)),
    ("packed claims of 256 bytes", of_size(256)),
)
LONGEST = of_size(3041)  # with algorithm 4, exactly 4,096 characters
TOO_LONG = of_size(3042)

FULL = dict(CLAIMS)["all that a token can say"]
SIX = dict(CLAIMS)["six shards in a row, least offset subtracted"]
