"""Tokens as values, and the ladder that makes them fit: whatever a shortened token admits, the exact one admits too (I3)."""

import pickle
import random

import attrs
import pytest
from hypothesis import event, example, given, note
from hypothesis import strategies as st

from causal import ConfigError, Frontier, Keyring, LeaderMark, Token
from causal.core.position import ANY_ORIGIN, EVERY_STORE, pack
from causal.core.token import MAX_AGE_H, MAX_EXPIRES_AT
from tests.core.claims import EXPIRES_AT, HOUR, tokens

A, B, C = pack(1, 1), pack(2, 1), pack(3, 9)


def of(**parts: int) -> Frontier:
    return Frontier.of({globals()[name.upper()]: offset for name, offset in parts.items()})


# --- a token is a value ------------------------------------------------------------------------------------------------


def test_frontier_is_another_name_for_own() -> None:
    assert Token(frontier=of(a=5), expires_at=9) == Token(own=of(a=5), expires_at=9) == Token(of(a=5), expires_at=9)
    with pytest.raises(ConfigError, match="another name"):
        Token(of(a=5), frontier=of(a=5), expires_at=9)


def test_everything_demanded_is_the_join() -> None:
    token = Token(of(a=5, b=2), of(b=7, c=1), expires_at=9)
    assert token.frontier == of(a=5, b=7, c=1)
    assert Token(of(a=5), expires_at=9).frontier == of(a=5)


@pytest.mark.spec("T-17")
def test_seen_that_own_subsumes_is_dropped() -> None:
    token = Token(of(a=5, b=2), of(a=5, b=3), expires_at=9)
    assert token.seen == of(b=3)
    assert token == Token(of(a=5, b=2), of(b=3, a=1), expires_at=9)


def test_floors_and_marks_stand_in_seen() -> None:
    mark, more = LeaderMark(50), LeaderMark(60, frozenset({1}))
    own = Frontier.of({A: 5}, {0: 7}, {0: mark})
    token = Token(own, Frontier.of({}, {0: 9}, {0: more}), expires_at=9)
    assert token.own == of(a=5)
    assert token.seen.floors == {0: 9}
    assert token.seen.marks == {0: mark | more}
    assert token.frontier == own | Frontier.of({}, {0: 9}, {0: more})


@pytest.mark.spec("T-18")
def test_ages_of_nothing_are_dropped_and_long_ones_capped() -> None:
    token = Token(of(a=5), of(b=1), expires_at=EXPIRES_AT, ages={A: 0, B: 10**9, C: 4})
    assert token.ages == {B: MAX_AGE_H}
    assert token.expiry(A) == EXPIRES_AT
    assert token.expiry(B) == EXPIRES_AT - MAX_AGE_H * HOUR


@pytest.mark.parametrize("expires_at", [-1, MAX_EXPIRES_AT + 1, 1.5, "9", None, True])
def test_an_expiry_is_whole_seconds(expires_at: object) -> None:
    with pytest.raises(ConfigError, match="whole Unix seconds"):
        Token(expires_at=expires_at)  # type: ignore[arg-type]


def test_other_numbers_are_checked_too() -> None:
    for timestamp in (-1, 2**64):
        with pytest.raises(ConfigError, match="timestamp"):
            Token(expires_at=9, timestamp=timestamp)
    with pytest.raises(ConfigError, match="whole hours"):
        Token(of(a=5), expires_at=9, ages={A: -1})
    for age_h in (1.5, True, "1", None):
        with pytest.raises(ConfigError):
            Token(of(a=5), expires_at=9, ages={A: age_h})  # type: ignore[dict-item]


@pytest.mark.parametrize(("store", "floor"), [(0, -1), (0, 2**64), (65_535, 5), (70_000, 5), (-1, 5)])
def test_a_floor_that_no_token_can_say_is_refused_when_the_token_is_made(store: int, floor: int) -> None:
    for own in (None, Frontier.of({}, {store: floor})):
        seen = None if own is not None else Frontier.of({}, {store: floor})
        with pytest.raises(ConfigError, match=f"floor {floor} of store {store}"):
            Token(own, seen, expires_at=9)


def test_a_token_cannot_be_changed() -> None:
    token = Token(of(a=5), expires_at=9)
    for change in (lambda: setattr(token, "own", of()), lambda: setattr(token, "x", 1), lambda: delattr(token, "own")):
        with pytest.raises(AttributeError, match=r"immutable|no attribute"):
            change()


@given(tokens(), tokens())
def test_equality_hash_and_pickle_go_by_value(token: Token, other: Token) -> None:
    twin = Token(
        Frontier.of(dict(token.own.entries)),
        token.seen,
        expires_at=token.expires_at,
        timestamp=token.timestamp,
        ages=token.ages,
        touched={store: set(found) for store, found in token.touched.items()},
    )
    assert twin == token
    assert hash(twin) == hash(token)
    assert pickle.loads(pickle.dumps(token)) == token
    assert (token == other) == (repr(token) == repr(other))
    assert token != "token"


# --- the ladder ----------------------------------------------------------------------------------------------------------

NOW = EXPIRES_AT - 24 * HOUR
UNTIL = NOW + 60
KEYS = Keyring.generate()


def fit(token: Token, limit: int = 100, **more: object) -> Token:
    return token.fit(KEYS.size, limit, until=UNTIL, now=NOW, **more)  # type: ignore[arg-type]


def spread(n: int, *, store: int = 0, seed: int = 1, origin: int = 1) -> Frontier:
    r = random.Random(seed)
    return Frontier.of({pack((store << 16) + i, origin): r.getrandbits(42) for i in range(n)})


@pytest.mark.spec("K-1")
def test_what_fits_stays_as_it_is() -> None:
    token = Token(spread(5), expires_at=EXPIRES_AT, ages={pack(1, 1): 30})
    assert fit(token) is token


def test_aged_entries_fall_away_before_anything_else_is_lost() -> None:
    exact = spread(9)
    ages = {key: 24 if nth < 5 else 3 for nth, key in enumerate(sorted(exact.entries))}
    fitted = fit(Token(exact, expires_at=EXPIRES_AT, ages=ages))
    assert fitted.own.entries == {k: v for k, v in exact.entries.items() if ages[k] == 3}
    assert set(fitted.ages.values()) == {3}
    assert not fitted.seen.marks


@pytest.mark.spec("K-6")
def test_an_entry_falls_away_at_its_expiry_and_not_before() -> None:
    exact = spread(7)
    key = min(exact.entries)
    for age_h, gone in ((23, False), (24, True)):
        fitted = fit(Token(exact, expires_at=EXPIRES_AT, ages={key: age_h}), limit=98)
        assert (key not in fitted.own.entries) is gone
        assert not fitted.seen.marks


@pytest.mark.spec("K-7")
def test_ages_fall_away_before_entries_are_marked() -> None:
    exact = spread(6)
    token = Token(exact, expires_at=EXPIRES_AT, ages={key: nth for nth, key in enumerate(exact.entries)})
    limit = KEYS.size(token) - 1
    fitted = fit(token, limit)
    assert fitted.own == exact
    assert not fitted.ages


@pytest.mark.spec("K-8", "K-9")
def test_old_seen_entries_fold_into_one_floor_and_own_ones_never() -> None:
    old = {pack(i, 1): (NOW - 500) * 1000 + i << 16 for i in range(20)}
    new = {pack(i, 2): NOW * 1000 + i << 16 for i in range(3)}
    mine = {pack(30, 1): (NOW - 900) * 1000 << 16, pack(3, 1): (NOW - 901) * 1000 << 16}
    assert (
        mine[pack(3, 1)] < old[pack(3, 1)]
    )  # written, and then seen further on: what was seen folds, the write does not
    fitted = fit(
        Token(Frontier.of(mine), Frontier.of(old | new), expires_at=EXPIRES_AT), floor={0: (NOW - 100) * 1000 << 16}
    )
    assert fitted.own.entries == mine
    assert fitted.seen.entries == new
    assert fitted.seen.floors == {0: max(old.values())}
    assert not fitted.seen.marks


@pytest.mark.spec("K-10")
def test_a_store_without_clock_offsets_is_never_floored() -> None:
    seen = Frontier.of({pack((1 << 16) + i, 1): i for i in range(99)})
    fitted = fit(Token(None, seen, expires_at=EXPIRES_AT), limit=40, floor={0: 10**18})
    assert not fitted.seen.floors
    assert set(fitted.seen.marks) == {1}


@pytest.mark.spec("K-16")
def test_reads_are_marked_before_replicated_writes_and_those_before_writes_at_risk() -> None:
    read, safe, risky = spread(4, seed=1), spread(4, seed=2), spread(4, seed=3)
    read = Frontier.of(dict(zip((pack(i, 1) for i in range(4)), read.entries.values(), strict=True)))
    safe = Frontier.of(dict(zip((pack(i, 2) for i in range(10, 14)), safe.entries.values(), strict=True)))
    risky = Frontier.of(dict(zip((pack(i, 3) for i in range(20, 24)), risky.entries.values(), strict=True)))
    token = Token(safe | risky, read, expires_at=EXPIRES_AT)
    sizes = set()
    for limit in range(KEYS.size(token), 40, -1):
        fitted = fit(token, limit, replicated=safe)
        assert KEYS.size(fitted) <= limit
        kept_read, kept_safe, kept_risky = (
            sum(k in fitted.own.entries or k in fitted.seen.entries for k in part.entries)
            for part in (read, safe, risky)
        )
        sizes.add((kept_read, kept_safe, kept_risky))
        assert not kept_read or kept_safe == 4
        assert not kept_safe or kept_risky == 4
        if fitted is not token:
            mark = fitted.seen.marks[0]
            assert mark.until == UNTIL
            assert mark.exact == fitted.frontier.shards
            assert mark.origins == (frozenset({3}) if kept_risky < 4 else frozenset())
        if fitted.frontier.shards == set():
            break
    assert {(0, 4, 4), (0, 0, 4), (0, 0, 0)} <= sizes


@pytest.mark.spec("K-14")
def test_a_write_is_at_risk_until_just_it_is_replicated() -> None:
    own = spread(40)
    for ahead, origins in ((-1, {1}), (0, frozenset()), (1, frozenset())):
        replicated = Frontier.of({key: offset + ahead for key, offset in own.entries.items()})
        assert fit(Token(own, expires_at=EXPIRES_AT), replicated=replicated).seen.marks[0].origins == origins


@pytest.mark.spec("K-18")
def test_origins_too_many_to_list_become_any_origin() -> None:
    r = random.Random(5)
    own = Frontier.of({pack(i, r.getrandbits(32)): r.getrandbits(42) for i in range(60)})
    fitted = fit(Token(own, expires_at=EXPIRES_AT))
    assert fitted.seen.marks[0].origins == frozenset({ANY_ORIGIN})
    assert KEYS.size(fitted) <= 100


@pytest.mark.parametrize("n", [1, 2, 4, 6, 8, 16, 100, 1000])
@pytest.mark.parametrize("kind", ["42 bits", "clock", "16-bit origins", "32-bit origins", "two stores", "read"])
def test_any_number_of_shards_fits_100_characters(n: int, kind: str) -> None:
    r = random.Random(n)
    entries = {}
    for i in range(n):
        origin = r.getrandbits(16 if kind == "16-bit origins" else 32) if "origins" in kind else 1
        offset = (NOW * 1000 + r.randrange(60_000)) << 16 if kind == "clock" else r.getrandbits(42)
        entries[pack(i + (i % 2 << 16 if kind == "two stores" else 0), origin)] = offset
    part = Frontier.of(entries)
    token = Token(None, part, expires_at=EXPIRES_AT) if kind == "read" else Token(part, expires_at=EXPIRES_AT)
    text = KEYS.seal_within(token, 100, subject="alice", audience="shop", until=UNTIL, now=NOW)
    assert len(text) <= 100
    again = KEYS.open(text, subject="alice", audience="shop", now=NOW)
    assert fit(again) is again


@pytest.mark.spec("K-15")
def test_a_mark_that_is_there_is_joined_never_replaced() -> None:
    before = LeaderMark(UNTIL + 500, frozenset({0, 1, 77}), frozenset({6}))
    token = Token(spread(40), Frontier.of({}, {}, {0: before}), expires_at=EXPIRES_AT)
    fitted = fit(token)
    mark = fitted.seen.marks[0]
    assert mark >= before
    assert mark.origins == {1, 6}
    assert mark.exact <= fitted.frontier.shards


@pytest.mark.spec("K-3")
def test_foreign_stores_are_carried_untouched_even_over_the_limit() -> None:
    foreign, mine = spread(50, store=7), spread(9, store=2)
    ages = dict.fromkeys((*foreign.entries, *mine.entries), 40)
    seen = Frontier.of({}, {7: 5}, {7: LeaderMark(5), EVERY_STORE: LeaderMark(6)})
    fitted = fit(Token(foreign | mine, seen, expires_at=EXPIRES_AT, ages=ages), stores=[2])
    assert {k: v for k, v in fitted.own.entries.items() if k >> 48 == 7} == foreign.entries
    assert {k: v for k, v in fitted.ages.items() if k >> 48 == 7} == {k: v for k, v in ages.items() if k >> 48 == 7}
    assert fitted.seen.floors == {7: 5}
    assert fitted.seen.marks[7] == LeaderMark(5)
    assert fitted.seen.marks[EVERY_STORE] == LeaderMark(6)
    assert not any(k >> 48 == 2 for k in fitted.own.entries)  # all of them had aged


@pytest.mark.spec("K-19")
def test_where_foreign_entries_alone_are_too_long_the_limit_holds_for_the_rest() -> None:
    foreign, mine = spread(50, store=7), spread(40, store=2)
    fitted = fit(Token(foreign | mine, expires_at=EXPIRES_AT), stores=[2])
    kept = sum(k >> 48 == 2 for k in fitted.own.entries)
    assert kept == sum(k >> 48 == 2 for k in fit(Token(mine, expires_at=EXPIRES_AT)).own.entries) > 0
    assert set(fitted.seen.marks) == {2}


# --- I3: a dumb model of who may read what -----------------------------------------------------------------------------
#
# One store with clock offsets, a few shards with a few origins each. An endpoint has applied a prefix of each log. A read of
# a shard at an endpoint is admitted by a token, or not; nothing here uses the frontier's, the watermark's or the gate's code.


@attrs.frozen
class Endpoint:
    """A place to read at. `applied` and `ends` are by packed key; `current` says that it holds all that anybody acknowledged."""

    applied: dict[int, int]
    ends: dict[int, int]
    current: bool


def admits(token: Token, shard: int, at: Endpoint, time: int) -> bool:
    """Whether a read of one shard is served there, by the invariants and the rules of compaction."""
    for entries, own in ((token.own.entries, True), (token.seen.entries, False)):
        for key, offset in entries.items():
            if key >> 32 != shard:
                continue
            if key not in at.applied:
                return False
            end = at.ends.get(key, offset)
            if own and offset > end:
                return False  # lost, and said so
            if at.applied[key] < min(offset, end):
                return False
    for key, applied in at.applied.items():
        floor = token.seen.floors.get(0, 0) if key >> 32 == shard else 0
        if applied < min(floor, at.ends.get(key, floor)):
            return False
    mark = token.seen.marks.get(0)
    if mark is not None and time < mark.until and shard not in mark.exact:
        doubtful = any(key >> 32 == shard and mark.recalls(key & 0xFFFFFFFF) for key in at.ends)
        return at.current and not doubtful
    return True


@attrs.frozen
class World:
    """A token sealed at NOW, and how it is made to fit; then a read of a shard at an endpoint, at a time. `ended` is the truth."""

    token: Token
    replicated: Frontier
    floor: dict[int, int]
    limit: int
    time: int
    shard: int
    endpoint: Endpoint
    ended: dict[int, int]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    keys = draw(st.lists(st.builds(pack, st.integers(0, 3), st.integers(1, 3)), min_size=1, max_size=9, unique=True))
    tick = st.integers(1, 100)  # offsets are times: 100 is the sealing time
    heads = {key: draw(tick) for key in keys}
    own = {key: draw(st.integers(1, heads[key])) for key in keys if draw(st.booleans())}
    seen = {key: draw(st.integers(1, heads[key])) for key in keys if draw(st.booleans())}
    replicated = {key: offset - draw(st.integers(0, 1)) for key, offset in own.items() if draw(st.booleans())}
    # An origin that ends keeps what was replicated, and anything of the rest.
    ended = {}
    for key in keys:
        if draw(st.integers(0, 2)) == 0:
            least = replicated.get(key, 0)
            ended[key] = draw(st.one_of(st.just(least), st.integers(least, heads[key])))
    mark = LeaderMark(
        UNTIL - 20, frozenset(draw(st.lists(st.integers(0, 3)))), frozenset(draw(st.lists(st.integers(1, 3))))
    )
    marks = {0: mark} if draw(st.integers(0, 3)) == 0 else {}
    floors = {0: draw(tick)} if draw(st.integers(0, 3)) == 0 else {}
    token = Token(Frontier.of(own), Frontier.of(seen, floors, marks), expires_at=EXPIRES_AT)

    time = draw(st.sampled_from([NOW, UNTIL - 21, UNTIL - 20, UNTIL - 1, UNTIL, UNTIL + 100]))
    shard = draw(st.integers(0, 3))
    current = draw(st.booleans())
    applied, ends = {}, {}
    for key in keys:
        if key >> 32 != shard:
            continue
        survives = ended.get(key, heads[key])
        # A current endpoint, and any that may still serve after `until`, holds all that survives of what was there at NOW.
        reached = survives if current or time >= UNTIL else draw(st.integers(0, survives))
        if current or time >= UNTIL or draw(st.booleans()):
            applied[key] = reached
            if key in ended and (current or draw(st.booleans())):
                ends[key] = ended[key]
    # The promise behind floors: who has applied T of all it lists has heard of every origin that numbered something up to T.
    unheard = [key for key in keys if key >> 32 == shard and key not in applied]
    if unheard and applied:
        behind = draw(st.sampled_from(sorted(applied)))
        applied[behind] = 0
        ends.pop(behind, None)
    elif unheard and floors | {0: 0} != {0: 0}:
        token = Token(token.own, Frontier.of(seen, {}, marks), expires_at=EXPIRES_AT)
    limit = draw(st.integers(38, max(38, KEYS.size(token))))
    floor = {0: draw(tick)} if draw(st.booleans()) and not (unheard and not applied) else {}
    endpoint = Endpoint(applied, ends, current)
    return World(token, Frontier.of(replicated), floor, limit, time, shard, endpoint, ended)


@given(worlds())
def test_whatever_a_shortened_token_admits_the_exact_one_admits(world: World) -> None:
    token, at = world.token, world.endpoint
    fitted = fit(token, world.limit, replicated=world.replicated, floor=world.floor)
    assert KEYS.size(fitted) <= max(world.limit, 58)  # 58: the mark alone, with what a mark of before had
    note(f"{fitted}")
    event(
        "exact" if fitted is token else "marked" if fitted.seen.marks else "floored" if fitted.seen.floors else "aged"
    )
    if not admits(fitted, world.shard, at, world.time):
        return
    event("admitted")
    exact = token
    mark = fitted.seen.marks.get(0)
    if mark is not None and world.time >= mark.until:
        # HAZARD of rung 4: a lapsed mark demands nothing, so what was lost of what it stood for goes unsaid. Only that.
        gone = [
            k
            for k in exact.own.entries
            if k not in fitted.own.entries and exact.own.entries[k] > world.ended.get(k, 100)
        ]
        assert all(mark.recalls(k & 0xFFFFFFFF) for k in gone)
        exact = Token(exact.own.without(gone), exact.seen.clip(world.ended), expires_at=EXPIRES_AT)
    assert admits(exact, world.shard, at, world.time)


@given(tokens(), st.integers(0, 200), st.one_of(st.none(), st.sets(st.integers(0, 3))), st.one_of(st.none(), tokens()))
@example(Token(Frontier.of({A: 1}), expires_at=EXPIRES_AT), 0, set(), None)
def test_fitting_any_token_loses_no_store_and_fits_or_is_foreign(
    token: Token, limit: int, stores: set[int] | None, replicated: Token | None
) -> None:
    fitted = token.fit(
        KEYS.size, limit, until=UNTIL, now=NOW, stores=stores, replicated=None if replicated is None else replicated.own
    )
    whole, kept = token.frontier, fitted.frontier
    known = {key >> 48 for key in whole.entries} if stores is None else stores
    for key, offset in whole.entries.items():
        aged = key >> 48 in known and token.expiry(key) <= NOW
        marked = kept.marks.get(key >> 48)
        assert kept.entries.get(key) == offset or aged or (marked is not None and key >> 32 not in marked.exact)
        if key >> 48 not in known:
            assert fitted.own.entries.get(key) == token.own.entries.get(key)
            assert fitted.seen.entries.get(key) == token.seen.entries.get(key)
    for store, mark in whole.marks.items():
        assert kept.marks[store] >= mark
    for store, floor in whole.floors.items():
        assert kept.floors[store] >= floor
    assert fitted.expires_at == token.expires_at
    assert fitted.timestamp == token.timestamp
