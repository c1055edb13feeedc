"""What the token's twin reads and writes: the claims, under the names of docs/spec/token.md, and the errors of its page.

They hold, and judge nothing. Whatever has attributes of these names is packed like a `Token`: so the twin can write what it cannot read.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

EVERY_STORE = 65_535
FOREVER = 2**63 - 1
ANY_ORIGIN = -1


def pack(shard: int, origin: int) -> int:
    """A (shard, origin) as one number, by which claims are sorted."""
    return shard << 32 | origin


@dataclass(frozen=True)
class Mark:
    until: int
    exact: AbstractSet[int] = frozenset()
    origins: AbstractSet[int] = frozenset()


@dataclass(frozen=True)
class Frontier:
    entries: Mapping[int, int] = field(default_factory=dict)
    floors: Mapping[int, int] = field(default_factory=dict)
    marks: Mapping[int, Mark] = field(default_factory=dict)


@dataclass(frozen=True)
class Token:
    own: Frontier = field(default_factory=Frontier)
    seen: Frontier = field(default_factory=Frontier)
    expires_at: int = field(default=0, kw_only=True)
    timestamp: int | None = field(default=None, kw_only=True)
    ages: Mapping[int, int] = field(default_factory=dict, kw_only=True)
    touched: Mapping[int, AbstractSet[int]] = field(default_factory=dict, kw_only=True)


class Refused(Exception):
    """What is not sealed, or does not open."""


class ConfigError(Refused):
    pass


class TokenError(Refused):
    pass


class MalformedToken(TokenError):
    pass


class BadSignature(TokenError):
    pass


class UnknownKey(TokenError):
    def __init__(self, key_id: int) -> None:
        super().__init__(key_id)
        self.key_id = key_id


class ExpiredToken(TokenError):
    """Authentic, and too old: the claims go with it."""

    def __init__(self, token: Token) -> None:
        super().__init__(token)
        self.token = token
