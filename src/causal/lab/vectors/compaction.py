"""Answers the vectors of `compaction.json`.

Owns nothing but the translation: the ladder is `Token.fit`, the mark of a token that does not open is a session's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from causal.claims import Claims
from causal.core.frontier import Frontier, Position
from causal.core.keyring import Key, Keyring
from causal.core.policy import Limits, ReadPolicy
from causal.engine import Capabilities
from causal.lab.vectors.token import claims_of, token_of
from causal.session import SessionState
from causal.state import StoreState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from causal.core.token import Token

AUDIENCE: Final = "vectors"


@attrs.frozen
class _Engine:
    """As much of an engine as a store's settings ask for."""

    shards: Mapping[str, int] = {"only": 0}
    capabilities: Capabilities = attrs.field(factory=Capabilities)


def items(token: Token) -> int:
    """Return how many positions, ages and filters a token lists: the measure of vectors that are about one rung."""
    return len(token.own.entries) + len(token.seen.entries) + len(token.ages) + len(token.touched)


def _ladder(given: Mapping[str, Any]) -> dict[str, Any]:
    measure = given["measure"]
    bits, profile = (256 if measure == 5 else 64), ("encrypted" if measure == 3 else "signed")
    keys = Keyring([Key(0, bytes(32))], profile=profile, tag_bits=bits)  # type: ignore[arg-type]
    fitted = token_of(given["claims"]).fit(
        items if measure == "items" else keys.size,
        given["limit"],
        until=int(given["until"]),
        now=given["now"],
        floor={store: int(floor) for store, floor in given.get("floor", ())},
        replicated=Frontier(Position(s, o, int(offset)) for s, o, offset in given.get("replicated", ())),
        stores=given.get("stores"),
    )
    return {"claims": claims_of(fitted), "size": items(fitted) if measure == "items" else keys.size(fitted)}


def _store(given: Mapping[str, Any]) -> StoreState:
    settings = {name: given[name] for name in ("token_ttl_s", "max_staleness_s", "max_clock_skew_s")}
    return StoreState(
        _Engine(),
        keyring=Keyring([Key(0, bytes(32))]),
        audience=AUDIENCE,
        policy=ReadPolicy(bad_token=given.get("bad_token", "leader")),
        limits=Limits(),
        max_token_chars=4096,
        wall=lambda: given["now"],
        **settings,
    )


def _bounds(given: Mapping[str, Any]) -> dict[str, Any]:
    store = _store(given)
    return {"until": str(store.until()), "floor": str(store.floor())}


def _present(given: Mapping[str, Any]) -> dict[str, Any]:
    store = _store(given)
    texts = [
        text if isinstance(text, str) else store.keyring.seal(token_of(text), subject=None, audience=AUDIENCE)
        for text in given["tokens"]
    ]
    text = Claims(store, SessionState(None), texts).token()
    if text is None:
        return {"claims": {}}
    claims = claims_of(store.keyring.open(text, subject=None, audience=AUDIENCE, now=given["now"]))
    del claims["expires_at"]
    return {"claims": claims}


OPS: Final[Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]] = {
    "compaction.ladder": _ladder,
    "compaction.bounds": _bounds,
    "compaction.present": _present,
}
