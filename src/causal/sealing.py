"""What a session needs of a store's settings, and when what it holds must be sealed anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from causal.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from causal.core.frontier import Frontier
    from causal.core.keyring import Keyring
    from causal.core.policy import ReadPolicy
    from causal.core.token import Token


class Sealing(Protocol):
    """What sealing needs of a store's settings."""

    keyring: Keyring
    audience: str
    policy: ReadPolicy
    number: int
    token_ttl_s: float
    max_token_chars: int
    clock_offsets: bool
    wall: Callable[[], float]

    def until(self) -> int:
        """Return when nothing that exists now can be missing from an eligible replica any more. Units: Unix seconds."""

    def floor(self) -> int:
        """Return up to which hybrid time old `seen` entries may fold."""

    def replicated(self) -> Frontier:
        """Return what is known to be applied wherever it is not numbered."""


class Demanded(Protocol):
    """What making a demand needs of a store's settings."""

    number: int
    every: frozenset[int]
    whole: bool
    dependencies: bool
    reading: tuple[bool, bool]
    writing: tuple[bool, bool]


def text_setting(name: str, value: str) -> str:
    """Return a text that a token can be bound to. Raises: ConfigError for what is not text, or has no UTF-8."""
    if not isinstance(value, str):
        raise ConfigError(f"{name} is text, not a {type(value).__name__}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ConfigError(f"{name} is text that UTF-8 can hold, not half of a surrogate pair") from None
    return value


def learned(born: Mapping[int, float], tokens: Iterable[tuple[Token, float]]) -> dict[int, float]:
    """Return when each entry was learned last, by what was noted and by what tokens say."""
    born = dict(born)
    for token, ttl_s in tokens:
        for frontier in (token.own, token.seen):
            for key in frontier.entries:
                born[key] = max(born.get(key, 0.0), token.expiry(key) - ttl_s)
    return born


def lasts(sealed: tuple[str, int], store: Sealing, now: float) -> bool:
    """Return whether more than half of a sealed token's life is left."""
    return sealed[1] - now >= store.token_ttl_s / 2
