"""Token: the claims of a session, and the ladder that makes them fit a size.

Owns what a token says and how it is made shorter without admitting more (I3). Knows nothing of bytes, keys or clocks:
the size of a token, the time and the bounds are arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from causal.core.frontier import Frontier
from causal.core.hlc import Timestamp
from causal.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_EXPIRES_AT: Final = 2**35 - 1
MAX_AGE_H: Final = 2**15 - 1
HOUR_S: Final = 3600

_EMPTY: Final = Frontier()
_NO_AGES: Final[dict[int, int]] = {}


class Token:
    """What a session demands, until when, and (optionally) the last hybrid time it saw.

    `own` are its acknowledged writes, `seen` what its reads and dependencies showed, `ages[pack(shard, origin)]` how many whole
    hours before `expires_at` that entry expires: rounded down, so that it demands too long rather than too short.

    Units: `expires_at` in whole Unix seconds, ages in hours.
    Invariant: normalised, so that equal demands are equal tokens: `seen` entries that `own` subsumes are dropped, floors and
    marks stand in `seen`, ages of 0 and of absent entries are dropped.
    Raises: ConfigError for a number out of range, ClockError for a timestamp that is none. Thread-safety: immutable.
    """

    __slots__ = ("ages", "expires_at", "own", "seen", "timestamp")

    own: Frontier
    seen: Frontier
    expires_at: int
    timestamp: Timestamp | None
    ages: Mapping[int, int]

    def __new__(
        cls,
        own: Frontier | None = None,
        seen: Frontier | None = None,
        *,
        expires_at: int,
        timestamp: int | None = None,
        ages: Mapping[int, int] | None = None,
        frontier: Frontier | None = None,
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
        stamp = None if timestamp is None else Timestamp(timestamp)
        return cls.of(own, seen, expires_at, stamp, _normal_ages(ages, own, seen) if ages else _NO_AGES)

    @classmethod
    def of(
        cls, own: Frontier, seen: Frontier, expires_at: int, timestamp: Timestamp | None, ages: Mapping[int, int]
    ) -> Self:
        """Wrap claims that are normalised and checked already: for codecs."""
        self = object.__new__(cls)
        _set_own(self, own)
        _set_seen(self, seen)
        _set_expires_at(self, expires_at)
        _set_timestamp(self, timestamp)
        _set_ages(self, ages)
        return self

    @property
    def frontier(self) -> Frontier:
        """Everything demanded: the join of `own` and `seen`."""
        return self.own | self.seen if self.seen else self.own

    def expiry(self, key: int) -> int:
        """Return when the entry of a packed key expires. Units: Unix seconds."""
        return self.expires_at - self.ages.get(key, 0) * HOUR_S

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a token is immutable: cannot set {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a token is immutable: cannot delete {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return Token.of, (self.own, self.seen, self.expires_at, self.timestamp, self.ages)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Token):
            return NotImplemented
        return (
            self.expires_at == other.expires_at
            and self.own == other.own
            and self.seen == other.seen
            and self.timestamp == other.timestamp
            and self.ages == other.ages
        )

    def __hash__(self) -> int:
        return hash((self.own, self.seen, self.expires_at, self.timestamp, frozenset(self.ages.items())))

    def __repr__(self) -> str:
        parts = [f"own={self.own!r}", f"seen={self.seen!r}", f"expires_at={self.expires_at}"]
        if self.timestamp is not None:
            parts.append(f"timestamp={int(self.timestamp)}")
        if self.ages:
            parts.append(f"ages={dict(self.ages)}")
        return f"Token({', '.join(parts)})"


_set_own = Token.__dict__["own"].__set__
_set_seen = Token.__dict__["seen"].__set__
_set_expires_at = Token.__dict__["expires_at"].__set__
_set_timestamp = Token.__dict__["timestamp"].__set__
_set_ages = Token.__dict__["ages"].__set__


def _normal_ages(ages: Mapping[int, int], own: Frontier, seen: Frontier) -> Mapping[int, int]:
    normal = {}
    for key, age_h in ages.items():
        if age_h < 0:
            raise ConfigError(f"an age is a number of whole hours, not {age_h!r}")
        if age_h and (key in own.entries or key in seen.entries):
            normal[key] = min(int(age_h), MAX_AGE_H)
    return normal
