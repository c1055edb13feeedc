"""The error tree. Every exception that `causal` raises on purpose is one of these.

    CausalError                     .retryable  .retry_after_s
    ├── ConfigError                 a setting that cannot be right (also a ValueError)
    ├── ClockError
    │   └── ClockDrift              a remote clock too far ahead: ours is unchanged
    ├── TokenError
    │   ├── MalformedToken          the text is not a token: nothing was verified
    │   ├── BadSignature            forged, damaged, or sealed for another subject or audience
    │   ├── UnknownKey              well formed, but sealed with a key this keyring lacks
    │   └── ExpiredToken            authentic, past its time; carries `.token`
    ├── GateError
    │   ├── GateTimeout             the wait budget is spent (also a TimeoutError)        503
    │   ├── WriteLost               an acknowledged write no longer exists                409
    │   ├── CommitUnknown           a commit was sent and never answered                  500
    │   ├── Overloaded              a limit on waiting or falling back is reached         503
    │   └── NoEndpoint              nobody can serve this soundly now                     503
    └── StoreError                  the store itself failed: a damaged file, a full disk  500
        └── Unreachable             one endpoint cannot be reached; the gate goes round it

Evidence is in attributes. No error carries key material or a token's text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from causal.core.position import LeaderMark, Loss, Position
    from causal.core.receipt import Receipt


class CausalError(Exception):
    """Base of every error of this library.

    `retryable` says whether the same call may succeed later without a change on the caller's side;
    `retry_after_s` when to try; `http_status` what a web integration answers.
    """

    retryable: ClassVar[bool] = False
    http_status: ClassVar[int] = 500
    retry_after_s: float | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Python would call the class with `args`, which is the message alone: another process would see another error, or TypeError.
        return _again, (type(self), self.args), self.__dict__


def _again(kind: type[CausalError], args: tuple[Any, ...]) -> CausalError:
    """Make an error as it was, for copying and pickling: its attributes follow, and no constructor writes the message anew."""
    error: CausalError = kind.__new__(kind, *args)
    error.args = args
    return error


class ConfigError(CausalError, ValueError):
    """A setting that cannot be right; raised where it is given, not where it first hurts."""


class StoreError(CausalError):
    """The store itself failed: a damaged or newer file, a full disk, a directory that cannot be written."""


class Unreachable(StoreError):
    """One endpoint cannot be reached or does not answer in time: engines raise it, the gate goes round it.

    `final` says that asking again at once is of no use: the time for it is spent, or somebody has to act first. A write that meets it
    is not tried again.
    """

    retryable = True
    http_status = 503

    def __init__(self, *args: object, final: bool = False) -> None:
        self.final = final
        super().__init__(*args)


class ClockError(CausalError, ValueError):
    """A time that a hybrid logical clock cannot hold, or a reserve that could not be made durable."""


class ClockDrift(ClockError):
    """A remote time is further ahead of the local wall clock than `max_drift_s`; the clock is unchanged.

    Refusing a remote *clock* must never block serving, applying a member's log or acknowledging a write.
    """

    def __init__(self, *, remote_ms: int, wall_ms: int, max_drift_s: float) -> None:
        self.remote_ms = remote_ms
        self.wall_ms = wall_ms
        self.max_drift_s = max_drift_s
        ahead_s = (remote_ms - wall_ms) / 1000
        super().__init__(
            f"remote clock {remote_ms} ms is {ahead_s:.3f} s ahead of the local wall clock {wall_ms} ms; "
            f"the bound is {max_drift_s} s. Check time synchronisation on both machines."
        )


class TokenError(CausalError, ValueError):
    """A token could not be used. What happens then is the policy's choice (`bad_token`)."""

    http_status = 400


class MalformedToken(TokenError):
    """The text is not a token: wrong alphabet, length, framing or claims."""


class BadSignature(TokenError):
    """The token does not verify: forged, damaged, or sealed for another subject or audience (one is not told apart from the other)."""


class UnknownKey(TokenError):
    """The token names a key that this keyring does not hold; `key_id` says which."""

    def __init__(self, key_id: int) -> None:
        self.key_id = key_id
        super().__init__(
            f"the token is sealed with key {key_id}, which this keyring does not hold (never added, or dropped)"
        )


class Positions(Protocol):
    """What an expired token's frontiers show. Each is a `causal.Frontier`."""

    @property
    def shards(self) -> frozenset[int]:
        """The shards that have entries."""

    def offset(self, shard: int, origin: int = 0) -> int | None:
        """Return the offset of one origin of one shard, or None."""

    def __iter__(self) -> Iterator[Position]: ...
    def __len__(self) -> int: ...


class Expired(Protocol):
    """What an expired token's claims show. They are a `causal.Token`, which this floor does not know: isinstance tells a type checker."""

    @property
    def own(self) -> Positions:
        """The session's acknowledged writes."""

    @property
    def seen(self) -> Positions:
        """What its reads and dependencies showed."""

    @property
    def frontier(self) -> Positions:
        """Everything demanded."""

    @property
    def expires_at(self) -> int:
        """When it expired. Units: Unix seconds."""


class ExpiredToken(TokenError):
    """The token is authentic but past its time.

    `token` holds its claims: they still count as demand when presented (I5).
    """

    def __init__(self, token: Expired, *, expires_at: int, now: float) -> None:
        self.token = token
        self.expires_at = expires_at
        self.now = now
        super().__init__(f"the token expired {now - expires_at:.0f} s ago")


class GateError(CausalError):
    """A read or write could not be done with the guarantees asked for.

    `receipt` is the account of the attempt, where there is one.
    """

    http_status = 503
    receipt: Receipt | None = None


class GateTimeout(GateError, TimeoutError):
    """The wait budget is spent and the policy allows neither the leader nor a stale read.

    Or a write block's leader lacks what its session has learned since the block began: nothing is committed.
    """

    retryable = True
    retry_after_s = 1.0


class WriteLost(GateError):
    """An acknowledged write of this session no longer exists; `lost` names its positions.

    `session.forget(error.lost)` accepts the loss, exactly that and no more.
    """

    http_status = 409

    def __init__(self, lost: Sequence[Loss], message: str | None = None) -> None:
        self.lost = tuple(lost)
        super().__init__(
            message
            or f"acknowledged writes are lost: {', '.join(map(str, lost))}. "
            "Tell the user, then session.forget(error.lost) to go on without them."
        )


class CommitUnknown(GateError):
    """A commit was sent and no answer came: the write may or may not exist.

    The session demands leader-only reads for a while, so that it cannot be served a state that forgets the write.
    `lost` holds what `session.forget` accepts, where the doubt is about folded earlier writes.
    """

    http_status = 500

    def __init__(self, message: str, lost: Sequence[Loss | LeaderMark] = ()) -> None:
        self.lost = tuple(lost)
        super().__init__(message)


class Overloaded(GateError):
    """A limit on waiters or on concurrent leader fallbacks is reached; raised at once, never queued."""

    retryable = True
    retry_after_s = 1.0


class NoEndpoint(GateError):
    """No endpoint can serve this soundly now; `considered` lists each one and why not."""

    retryable = True
    retry_after_s = 1.0

    def __init__(self, message: str, considered: Sequence[tuple[str, str]] = ()) -> None:
        self.considered = tuple(considered)
        detail = "; ".join(f"{name}: {reason}" for name, reason in self.considered)
        super().__init__(f"{message} ({detail})" if detail else message)
