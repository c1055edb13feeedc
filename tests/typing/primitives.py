"""What a user's type checker sees of the primitives: never run, only checked (mypy strict and pyright strict)."""

from typing import assert_type

from causal import CommitUnknown, ExpiredToken, GateError, LeaderMark, Loss, Receipt, Token, UnknownKey, WriteLost
from causal.core.frontier import Frontier, Position
from causal.core.hlc import Timestamp
from causal.errors import CausalError, GateTimeout, TokenError


def frontiers(f: Frontier, g: Frontier) -> None:
    assert_type(f | g, Frontier)
    assert_type(f >= g, bool)
    assert_type(f.advance(shard=0, offset=1, origin=1), Frontier)
    assert_type(f.on(0), Frontier)
    assert_type(list(f), list[Position])


def timestamps(text: str) -> None:
    assert_type(Timestamp.parse(text), Timestamp)
    assert_type(Timestamp.from_parts(1, 2), Timestamp)
    assert_type(Timestamp.parse(text).physical_ms, int)


def errors(error: CausalError) -> None:
    assert_type(error.retry_after_s, float | None)
    assert_type(error.retryable, bool)
    base: type[CausalError] = TokenError
    timeout: type[TimeoutError] = GateTimeout
    del base, timeout


def evidence(
    lost: WriteLost, doubt: CommitUnknown, refused: GateError, expired: ExpiredToken, other: UnknownKey
) -> None:
    assert_type(lost.lost, tuple[Loss, ...])
    assert_type(lost.lost[0].position.offset, int)
    assert_type(doubt.lost, tuple[Loss | LeaderMark, ...])
    assert_type(refused.receipt, Receipt | None)
    assert_type(lost.receipt, Receipt | None)
    assert_type(other.key_id, int)
    assert_type(expired.token.expires_at, int)
    assert_type(expired.token.own.offset(0, 1), int | None)
    assert_type(list(expired.token.frontier), list[Position])
    if isinstance(expired.token, Token):
        assert_type(expired.token.frontier, Frontier)


def expiry(token: Token) -> ExpiredToken:
    return ExpiredToken(token, expires_at=token.expires_at, now=0.0)
