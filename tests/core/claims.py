"""Tokens to test with: strategies that reach every column."""

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


fingerprints = st.frozensets(st.one_of(small, st.integers(0, 0xFFFF), st.just(0xFFFF)), max_size=14)


@st.composite
def filters(draw: st.DrawFn, own: dict[int, int]) -> dict[int, frozenset[int]]:
    """Filters, mostly of stores that were written to, and mostly few enough to be kept."""
    written = sorted({key >> 48 for key in own} - {EVERY_STORE})
    numbers = st.integers(0, EVERY_STORE - 1)
    return draw(st.dictionaries(st.sampled_from(written) | numbers if written else numbers, fingerprints, max_size=4))


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
        touched=draw(filters(own)) if draw(st.booleans()) else {},
    )
