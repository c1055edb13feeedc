"""How a read may be served: guarantees, strategies and limits, as values.

Owns the choices a user makes. Knows nothing of endpoints; `core/gate.py` decides by them.
"""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, Any, Literal

import attrs

from causal.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable


class Guarantee(enum.Flag):
    """The session guarantees of Terry et al. 1994, which a store may go without.

    MONOTONIC_READS brings READ_YOUR_WRITES along, and WRITES_FOLLOW_READS MONOTONIC_WRITES: a session may have read its own writes, and a
    token does not keep them apart. Thread-safety: immutable. Source: Terry et al. 1994, section 3.
    """

    READ_YOUR_WRITES = enum.auto()
    """Reads are held back until the session's own writes are there."""
    MONOTONIC_READS = enum.auto()
    """Reads are held back until what earlier reads showed is there."""
    MONOTONIC_WRITES = enum.auto()
    """Writes are held back until the session's own earlier writes are at the leader."""
    WRITES_FOLLOW_READS = enum.auto()
    """Writes are held back until what the session read is at the leader."""

    NONE = 0
    ALL = READ_YOUR_WRITES | MONOTONIC_READS | MONOTONIC_WRITES | WRITES_FOLLOW_READS


class Strategy(enum.Enum):
    """The ways to choose an endpoint. All but SESSION and LEADER can show a user a page that forgets what they did."""

    SESSION = "session"
    LEADER = "leader"
    WINDOW = "leader_window"
    QUORUM = "quorum"
    BOUNDED = "bounded"
    EVENTUAL = "eventual"


Then = Literal["leader", "error", "stale"]
Unproven = Literal["refuse", "serve"]
BadToken = Literal["leader", "ignore", "raise"]


def _one_of(*choices: str) -> Callable[[object, Any, str], None]:
    def check(_: object, attribute: Any, value: str) -> None:
        if value not in choices:
            raise ConfigError(f"{attribute.name} is one of {', '.join(map(repr, choices))}, not {value!r}")

    return check


def _duration(_: object, attribute: Any, value: Any) -> None:
    if isinstance(value, bool) or not (isinstance(value, (int, float)) and value >= 0 and math.isfinite(value)):
        raise ConfigError(f"{attribute.name} is a finite number of seconds >= 0, not {value!r}")


def _count(_: object, attribute: Any, value: Any) -> None:
    if isinstance(value, bool) or not (isinstance(value, int) and value >= 0):
        raise ConfigError(f"{attribute.name} is a whole number >= 0, not {value!r}")


@attrs.frozen
class ReadPolicy:
    """How one read may be served (called a consistency level elsewhere). The default is the session token.

    `wait_s` is the budget for waiting on a replica; `then` says what happens when it is spent: read the "leader", raise an "error"
    (GateTimeout), or serve an explicitly "stale" read, which the receipt calls so. `unproven="serve"` lets a replica serve that covers the
    demand but is not shown to be less stale than max_staleness, as in a leader outage. `bad_token` says what a token that cannot be opened
    does to its session: "leader" (read at the leader until nothing it may have held can be missing), "ignore" or "raise".

    Units: seconds. Raises: ConfigError for values that cannot be right. Thread-safety: immutable.
    """

    wait_s: float = attrs.field(default=0.1, validator=_duration)
    then: Then = attrs.field(default="leader", validator=_one_of("leader", "error", "stale"))
    unproven: Unproven = attrs.field(default="refuse", validator=_one_of("refuse", "serve"))
    bad_token: BadToken = attrs.field(default="leader", validator=_one_of("leader", "ignore", "raise"))
    strategy: Strategy = attrs.field(default=Strategy.SESSION, kw_only=True)
    window_s: float = attrs.field(default=0.0, validator=_duration, kw_only=True)
    bound_s: float = attrs.field(default=0.0, validator=_duration, kw_only=True)
    replicas: int = attrs.field(default=0, validator=_count, kw_only=True)
    token: bool = attrs.field(default=True, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.strategy, Strategy):
            raise ConfigError(f"strategy is a Strategy, not {self.strategy!r}")
        if self.strategy is Strategy.WINDOW and not self.window_s:
            raise ConfigError("a leader window of 0 s is none: ReadPolicy.eventual() says so")
        if self.strategy is Strategy.BOUNDED and not self.bound_s:
            raise ConfigError("no replica can be shown to be 0 s stale: ReadPolicy.leader() reads what is current")
        if self.strategy is Strategy.QUORUM and self.replicas < 1:
            raise ConfigError(f"a quorum has at least 1 endpoint, not {self.replicas}")

    @classmethod
    def leader(cls, *, wait_s: float = 0.1) -> ReadPolicy:
        """Read what the leaders hold: with several live origins, an endpoint that covers every origin's head asked after the request."""
        return cls(wait_s, strategy=Strategy.LEADER)

    @classmethod
    def leader_window(cls, seconds: float) -> ReadPolicy:
        """Read the leader for `seconds` after the session's last write, then any replica. HAZARD: wrong whenever lag exceeds the window."""
        return cls(0.0, strategy=Strategy.WINDOW, window_s=seconds)

    @classmethod
    def quorum(cls, r: int, *, token: bool = True, wait_s: float = 0.1) -> ReadPolicy:
        """Read an endpoint that covers what the `r` nearest endpoints hold (and, with `token`, the session's demand)."""
        return cls(wait_s, strategy=Strategy.QUORUM, replicas=r, token=token)

    @classmethod
    def bounded(cls, seconds: float, *, wait_s: float = 0.1) -> ReadPolicy:
        """Read an endpoint shown to be at most `seconds` stale. HAZARD: own writes younger than that may be missing."""
        return cls(wait_s, strategy=Strategy.BOUNDED, bound_s=seconds)

    @classmethod
    def eventual(cls) -> ReadPolicy:
        """Read the nearest endpoint, whatever it holds."""
        return cls(0.0, then="stale", unproven="serve", strategy=Strategy.EVENTUAL, token=False)

    def __str__(self) -> str:
        match self.strategy:
            case Strategy.SESSION:
                return f"session token (wait {self.wait_s * 1000:.0f} ms, then {self.then})"
            case Strategy.WINDOW:
                return f"leader window {self.window_s:g} s"
            case Strategy.QUORUM:
                return f"quorum {self.replicas}{' + token' if self.token else ''}"
            case Strategy.BOUNDED:
                return f"bounded {self.bound_s:g} s"
            case _:
                return str(self.strategy.value)


@attrs.frozen
class Limits:
    """Admission limits of one store in one process; beyond them a read is refused at once with Overloaded.

    `unauthenticated` is the separate, small leader budget of sessions whose token could not be opened (I12). 0 allows none.
    Raises: ConfigError. Thread-safety: immutable.
    """

    waiters_per_endpoint: int = attrs.field(default=1000, validator=_count)
    waiters_per_subject: int = attrs.field(default=50, validator=_count)
    leader_reads: int = attrs.field(default=200, validator=_count)
    unauthenticated: int = attrs.field(default=10, validator=_count)
