"""What a session needs of a store's settings, and the check of what a token can be bound to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from causal.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from causal.core.frontier import Frontier
    from causal.core.keyring import Keyring
    from causal.core.policy import ReadPolicy


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
