"""Token: the claims of a session, and the ladder that makes them fit a size.

Owns what a token says and how it is made shorter without admitting more (I3). Knows nothing of bytes, keys or clocks:
the size of a token, the time and the bounds are arguments.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from causal.core.frontier import ANY_ORIGIN, EVERY_STORE, Frontier, LeaderMark
from causal.core.hlc import MAX_TIMESTAMP, Timestamp
from causal.core.position import MAX_OFFSET, MAX_STORE
from causal.core.touched import NO_FILTERS, normal
from causal.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from collections.abc import Set as AbstractSet

MAX_EXPIRES_AT: Final = 2**35 - 1
MAX_AGE_H: Final = 2**15 - 1
HOUR_S: Final = 3600

_EMPTY: Final = Frontier()
_ANY: Final = frozenset({ANY_ORIGIN})
_NO_AGES: Final[dict[int, int]] = {}


class _Claims:
    """The slots of a Token, open while it is made: three times as fast as going around a frozen `__setattr__`."""

    __slots__ = ("ages", "expires_at", "own", "seen", "timestamp", "touched")

    own: Frontier
    seen: Frontier
    expires_at: int
    timestamp: Timestamp | None
    ages: Mapping[int, int]
    touched: Mapping[int, frozenset[int]]


class Token(_Claims):
    """What a session demands, until when, and (optionally) the last hybrid time it saw.

    `own` are its acknowledged writes, `seen` what its reads and dependencies showed, `ages[pack(shard, origin)]` how many whole
    hours before `expires_at` that entry expires: rounded down, so that it demands too long rather than too short. `touched[store]` are
    the fingerprints of all cache keys that own writes on that store touched (a superset); where it is absent, they touched anything.

    Units: `expires_at` in whole Unix seconds, ages in hours.
    Invariant: normalised, so that equal demands are equal tokens: `seen` entries that `own` subsumes are dropped, floors and
    marks stand in `seen`, ages of 0 and of absent entries are dropped, and filters of stores without own entries or of more than
    12 fingerprints.
    Raises: ConfigError for a number out of range. Thread-safety: immutable.
    """

    __slots__ = ()

    def __new__(
        cls,
        own: Frontier | None = None,
        seen: Frontier | None = None,
        *,
        expires_at: int,
        timestamp: int | None = None,
        ages: Mapping[int, int] | None = None,
        frontier: Frontier | None = None,
        touched: Mapping[int, AbstractSet[int]] | None = None,
    ) -> Self:
        """Normalise and check. `frontier` is another name for `own`, for those who keep only one."""
        if own is None:
            own = _EMPTY if frontier is None else frontier
        elif frontier is not None:
            raise ConfigError("`frontier` is another name for `own`: give one of them")
        if type(expires_at) is not int or not 0 <= expires_at <= MAX_EXPIRES_AT:
            raise ConfigError(f"expires_at is whole Unix seconds in 0..{MAX_EXPIRES_AT}, not {expires_at!r}")
        if seen is None:
            seen = _EMPTY
        if own.floors or own.marks:
            seen = Frontier.of(_NO_AGES, own.floors, own.marks) | seen
            own = own.exact
        if seen.entries and own.entries:
            mine = own.entries
            subsumed = [k for k, offset in seen.entries.items() if offset <= mine.get(k, -1)]
            if subsumed:
                seen = seen.without(subsumed)
        for store, floor in seen.floors.items():
            if not (0 <= store <= MAX_STORE and 0 <= floor <= MAX_OFFSET):
                raise ConfigError(f"no token bears the floor {floor} of store {store} (u64; stores in 0..{MAX_STORE})")
        if timestamp is not None and not 0 <= timestamp <= MAX_TIMESTAMP:
            raise ConfigError(f"no token bears the timestamp {timestamp} (u64)")
        stamp = None if timestamp is None else Timestamp(timestamp)
        filters = normal(touched, own) if touched else NO_FILTERS
        return cls.of(own, seen, expires_at, stamp, _normal_ages(ages, own, seen) if ages else _NO_AGES, filters)

    @classmethod
    def of(
        cls,
        own: Frontier,
        seen: Frontier,
        expires_at: int,
        timestamp: Timestamp | None,
        ages: Mapping[int, int],
        touched: Mapping[int, frozenset[int]] = NO_FILTERS,
    ) -> Self:
        """Wrap claims that are normalised and checked already: for codecs."""
        claims: Any = _Claims()
        claims.own = own
        claims.seen = seen
        claims.expires_at = expires_at
        claims.timestamp = timestamp
        claims.ages = ages
        claims.touched = touched
        claims.__class__ = cls
        token: Self = claims
        return token

    @property
    def frontier(self) -> Frontier:
        """Everything demanded: the join of `own` and `seen`."""
        return self.own | self.seen if self.seen else self.own

    @property
    def listed(self) -> int:
        """How many positions, shards and origins it lists: a run of them takes few characters, and as much memory as any."""
        listed = len(self.own.entries) + len(self.seen.entries)
        for mark in self.seen.marks.values():
            listed += len(mark.exact) + len(mark.origins)
        return listed

    def expiry(self, key: int) -> int:
        """Return when the entry of a packed key expires. Units: Unix seconds."""
        return self.expires_at - self.ages.get(key, 0) * HOUR_S

    # --- the ladder (I3) -----------------------------------------------------------------------------------------------

    def fit(
        self,
        size: Callable[[Token], int],
        limit: int,
        *,
        until: int,
        now: float,
        floor: Mapping[int, int] | None = None,
        replicated: Frontier | None = None,
        stores: Iterable[int] | None = None,
    ) -> Token:
        """Return claims of at most `limit` by `size` that admit nothing these do not (I3): the first rung that fits.

        1. Exact: these claims; if that is too long, without filters, of whatever store: caches then wait for all own writes.
        2. Aged: entries past their own expiry fall away; if that is not enough, the ages do, which makes entries younger.
        3. Floor: for the stores in `floor`, `seen` entries at or below it fold into one floor, the highest of them.
        4. Leader mark: whole shards are dropped, to be read at a leader until `until`. Shards that were only read go first, then
           those whose writes are in `replicated` (applied at another endpoint), last those with a write that may yet be lost: the
           mark records the origins of such writes, or, if even these are too many, ANY_ORIGIN.

        Only claims on `stores` (default: all) change, never a mark on every store. Where the others alone exceed `limit` they are
        carried all the same, and `limit` holds for the rest; what exceeds the hard limit of a token's text is refused when it is
        sealed, never dropped.

        Units: `until` and `now` in Unix seconds; `until` is at least max_staleness + max_clock_skew ahead.
        HAZARD: `floor` is sound only for offsets that are hybrid timestamps, where a watermark that has applied T of every origin
        it lists also lists every origin that numbered something up to T, and only for a reader that demands min(floor, end) of
        an origin that has ended. Complexity: O(log n) calls of `size`.
        """
        if size(self) <= limit:
            return self
        every = {key >> 48 for part in (self.own, self.seen) for key in part.entries}
        every |= self.seen.marks.keys() | self.seen.floors.keys()
        known = (every if stores is None else every.intersection(stores)) - {EVERY_STORE}
        token = self
        for rung in (
            _unfiltered,
            partial(_aged, known, now),
            partial(_ageless, known),
            partial(_floored, known, floor or {}),
        ):
            shorter = rung(token)
            if shorter is not token and size(shorter) <= limit:
                return shorter
            token = shorter
        return _Marking(token, known, until, replicated or _EMPTY).fit(size, limit)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a token is immutable: cannot set {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a token is immutable: cannot delete {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return Token.of, (self.own, self.seen, self.expires_at, self.timestamp, self.ages, self.touched)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Token):
            return NotImplemented
        return (
            self.expires_at == other.expires_at
            and self.own == other.own
            and self.seen == other.seen
            and self.timestamp == other.timestamp
            and self.ages == other.ages
            and self.touched == other.touched
        )

    def __hash__(self) -> int:
        ages, touched = frozenset(self.ages.items()), frozenset(self.touched.items())
        return hash((self.own, self.seen, self.expires_at, self.timestamp, ages, touched))

    def __repr__(self) -> str:
        parts = [f"own={self.own!r}", f"seen={self.seen!r}", f"expires_at={self.expires_at}"]
        if self.timestamp is not None:
            parts.append(f"timestamp={int(self.timestamp)}")
        if self.ages:
            parts.append(f"ages={dict(self.ages)}")
        if self.touched:
            shown = {store: sorted(found) for store, found in sorted(self.touched.items())}
            parts.append(f"touched={shown}")
        return f"Token({', '.join(parts)})"


def _normal_ages(ages: Mapping[int, int], own: Frontier, seen: Frontier) -> Mapping[int, int]:
    normal = {}
    for key, age_h in ages.items():
        if type(age_h) is not int or age_h < 0:
            raise ConfigError(f"an age is a number of whole hours, not {age_h!r}")
        if age_h and (key in own.entries or key in seen.entries):
            normal[key] = min(int(age_h), MAX_AGE_H)
    return normal


def _unfiltered(token: Token) -> Token:
    """Rung 1, further: without filters. Every own write then counts for every key."""
    return Token.of(token.own, token.seen, token.expires_at, token.timestamp, token.ages) if token.touched else token


def _aged(known: AbstractSet[int], now: float, token: Token) -> Token:
    """Rung 2: without the entries that are past their own expiry (I5 covers them)."""
    gone = {key for key in token.ages if key >> 48 in known and token.expiry(key) <= now}
    if not gone:
        return token
    ages = {key: age_h for key, age_h in token.ages.items() if key not in gone}
    return Token.of(token.own.without(gone), token.seen.without(gone), token.expires_at, token.timestamp, ages)


def _ageless(known: AbstractSet[int], token: Token) -> Token:
    """Rung 2, further: without ages, so that each entry lives as long as the token."""
    ages = {key: age_h for key, age_h in token.ages.items() if key >> 48 not in known}
    if len(ages) == len(token.ages):
        return token
    return Token.of(token.own, token.seen, token.expires_at, token.timestamp, ages)


def _floored(known: AbstractSet[int], floor: Mapping[int, int], token: Token) -> Token:
    """Rung 3: old `seen` entries become one floor a store. Own writes are never folded: a floor cannot say that one is lost."""
    folded = {
        key: offset
        for key, offset in token.seen.entries.items()
        if key >> 48 in known and offset <= floor.get(key >> 48, -1)
    }
    if not folded:
        return token
    floors: dict[int, int] = {}
    for key, offset in folded.items():
        floors[key >> 48] = max(floors.get(key >> 48, 0), offset)
    seen = token.seen.without(folded) | Frontier.of({}, floors)
    return Token.of(token.own, seen, token.expires_at, token.timestamp, token.ages)


class _Marking:
    """Rung 4: the first shards, in order of worth, stay exact; a leader mark covers the rest of their stores."""

    def __init__(self, token: Token, known: AbstractSet[int], until: int, replicated: Frontier) -> None:
        own, seen = token.own.entries, token.seen.entries
        self.token, self.known, self.until = token, known, until
        self.foreign = [key for key in own.keys() | seen.keys() if key >> 48 not in known]
        self.keys: dict[int, list[int]] = {}
        for key in own.keys() | seen.keys():
            if key >> 48 in known:
                self.keys.setdefault(key >> 32, []).append(key)
        at_risk = [key for key, offset in own.items() if offset > replicated.entries.get(key, -1)]
        risky, written = {key >> 32 for key in at_risk}, token.own.shards
        self.shards = sorted(self.keys, key=lambda s: (s not in risky, s not in written, len(self.keys[s]), s))
        # The last place in this order of each store, and of each origin of a write at risk: dropped while `count` is not past it.
        place = {shard: nth for nth, shard in enumerate(self.shards)}
        self.last_of_store = {shard >> 16: place[shard] for shard in self.shards}
        self.last_of_origin: dict[tuple[int, int], int] = {}
        for key in sorted(at_risk, key=lambda key: place.get(key >> 32, -1)):
            if key >> 48 in known:
                self.last_of_origin[key >> 48, key & 0xFFFFFFFF] = place[key >> 32]

    def fit(self, size: Callable[[Token], int], limit: int) -> Token:
        """Return the claims with the most shards kept exact that fit."""

        def without_foreign(token: Token) -> int:
            own, seen = (part.without(self.foreign) for part in (token.own, token.seen))
            floors = {store: floor for store, floor in seen.floors.items() if store in self.known}
            marks = {store: mark for store, mark in seen.marks.items() if store in self.known}
            seen = Frontier.of(seen.entries, floors, marks)
            ages = {key: age_h for key, age_h in token.ages.items() if key >> 48 in self.known}
            return size(Token.of(own, seen, token.expires_at, token.timestamp, ages))

        tries = [(measure, any_origin) for measure in (size, without_foreign) for any_origin in (False, True)]
        for measure, any_origin in tries:
            fits = partial(self.fits, measure, limit, any_origin)
            if fits(0):
                return self.keep(_most(fits, len(self.shards)), any_origin=any_origin)
        return self.keep(0, any_origin=True)

    def fits(self, size: Callable[[Token], int], limit: int, any_origin: bool, count: int) -> bool:
        return size(self.keep(count, any_origin=any_origin)) <= limit

    def keep(self, count: int, *, any_origin: bool) -> Token:
        """Return the claims with the first `count` shards exact."""
        token, kept = self.token, frozenset(self.shards[:count])
        marks = dict(token.seen.marks)
        for store in self.known & (marks.keys() | self.last_of_store.keys()):
            here = frozenset(shard for shard in kept if shard >> 16 == store)
            if self.last_of_store.get(store, -1) >= count:
                lost = {origin for (s, origin), last in self.last_of_origin.items() if s == store and last >= count}
                mark = LeaderMark(self.until, here, frozenset(lost))
            elif store in marks:
                mark = LeaderMark(
                    0, here
                )  # a smaller `exact` covers more, and is implied by the entries that are listed
            else:
                continue
            mark = marks[store] | mark if store in marks else mark
            marks[store] = LeaderMark(mark.until, mark.exact, _ANY) if any_origin and mark.origins else mark
        keys = [key for shard in kept for key in self.keys[shard]] + self.foreign
        own = {key: token.own.entries[key] for key in keys if key in token.own.entries}
        seen = {key: token.seen.entries[key] for key in keys if key in token.seen.entries}
        ages = {key: age_h for key, age_h in token.ages.items() if key in own or key in seen}
        return Token.of(
            Frontier.of(own), Frontier.of(seen, token.seen.floors, marks), token.expires_at, token.timestamp, ages
        )


def _most(fits: Callable[[int], bool], n: int) -> int:
    """Return a number of at most n that fits, the most if fewer always fit too; 0 is known to. Doubles, then halves."""
    most, step = 0, 1
    while most + step <= n and fits(most + step):
        most += step
        step *= 2
    while step > 1:
        step //= 2
        if most + step <= n and fits(most + step):
            most += step
    return most
