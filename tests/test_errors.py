"""Errors travel: a copied or pickled one says what it said, and carries what it carried."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import causal
from causal import (
    BadSignature,
    CausalError,
    ClockDrift,
    ClockError,
    CommitUnknown,
    ConfigError,
    ExpiredToken,
    Frontier,
    GateError,
    GateTimeout,
    LeaderMark,
    Loss,
    MalformedToken,
    NoEndpoint,
    Overloaded,
    Position,
    Receipt,
    StoreError,
    Timestamp,
    Token,
    TokenError,
    UnknownKey,
    Unreachable,
    WriteLost,
)

LOSS = Loss(Position(0, 1, 10), 8)
TOKEN = Token(
    Frontier((Position(0, 1, 10),)), Frontier().mark(0, 99), expires_at=100, timestamp=Timestamp(7 << 16), ages={1: 2}
)
RECEIPT = Receipt(
    "eu", "refused", 0.1, held=False, demand=1, probes=2, attempts=3, considered=(("eu", "down"),), clipped=(LOSS,)
)
MADE: tuple[CausalError, ...] = (
    CausalError("all of them"),
    ConfigError("a setting"),
    ClockError("a time"),
    ClockDrift(remote_ms=9_000, wall_ms=1_000, max_drift_s=0.5),
    TokenError("too long"),
    MalformedToken("no token"),
    BadSignature("forged"),
    UnknownKey(7),
    ExpiredToken(TOKEN, expires_at=100, now=160.0),
    GateError("a gate"),
    GateTimeout("spent"),
    WriteLost((LOSS,)),
    WriteLost([LOSS], "in other words"),
    CommitUnknown("no answer", (LOSS, LeaderMark(99))),
    Overloaded("full"),
    NoEndpoint("nobody", (("eu", "down"), ("us", "BEHIND"))),
    StoreError("damaged"),
    Unreachable("gone"),
)
AGAIN: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {n}": lambda e, n=n: pickle.loads(pickle.dumps(e, n)) for n in range(pickle.HIGHEST_PROTOCOL + 1)},
}


def test_every_error_is_among_those_that_are_tried() -> None:
    public = {it for it in vars(causal.errors).values() if isinstance(it, type) and issubclass(it, CausalError)}
    assert {type(error) for error in MADE} == public


@pytest.mark.parametrize("again", AGAIN.values(), ids=AGAIN)
@pytest.mark.parametrize("error", MADE, ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_when_it_is_made_again(error: CausalError, again: Callable[[Any], Any]) -> None:
    error = copy.copy(error)
    if isinstance(error, GateError):
        error.receipt = RECEIPT
    error.retry_after_s = 2.5
    error.add_note("on the way")
    found = again(error)
    assert found is not error
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert repr(found) == repr(error)
    assert vars(found) == vars(error)
    assert found.__notes__ == ["on the way"]


def test_so_is_an_error_of_ones_own() -> None:
    found = pickle.loads(pickle.dumps(Own(place="here")))
    assert (type(found), str(found), found.place) == (Own, "nothing at here", "here")


class Own(StoreError):
    def __init__(self, *, place: str) -> None:
        self.place = place
        super().__init__(f"nothing at {place}")
