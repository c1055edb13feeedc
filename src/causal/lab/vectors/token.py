"""Answers the vectors of `token.json`, and reads and writes claims as vectors have them.

Owns that form of claims. What is sealed, opened and joined is the library's own: a keyring, and a session's state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from causal.core.frontier import ANY_ORIGIN, FOREVER, Frontier, Position, pack
from causal.core.keyring import Key, Keyring
from causal.core.policy import ReadPolicy
from causal.core.token import Token
from causal.core.touched import fingerprint
from causal.core.wire import encode_claims
from causal.errors import ConfigError, ExpiredToken, UnknownKey
from causal.session import SessionState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from causal.errors import CausalError

JOB: Final = (None, "vectors")
"""The subject and the audience of tokens that are only joined."""
MAX_CHARS: Final = 4096


# --- claims as JSON --------------------------------------------------------------------------------------------------


def claims_of(token: Token) -> dict[str, Any]:
    """Return what a token says, with what is empty left out, sorted. Numbers of 64 bits are decimal text."""
    claims: dict[str, Any] = {"expires_at": token.expires_at}
    for name, part in (("own", token.own), ("seen", token.seen)):
        if part.entries:
            claims[name] = [[p.shard, p.origin, str(p.offset)] for p in part]
    if token.ages:
        claims["ages"] = [[key >> 32, key & 0xFFFFFFFF, hours] for key, hours in sorted(token.ages.items())]
    if token.timestamp is not None:
        claims["timestamp"] = str(int(token.timestamp))
    if token.seen.floors:
        claims["floors"] = [[store, str(floor)] for store, floor in sorted(token.seen.floors.items())]
    if token.seen.marks:
        claims["marks"] = [
            {
                "store": store,
                "until": "forever" if mark.until == FOREVER else str(mark.until),
                "exact": sorted(mark.exact),
                "origins": "any" if ANY_ORIGIN in mark.origins else sorted(mark.origins),
            }
            for store, mark in sorted(token.seen.marks.items())
        ]
    if token.touched:
        claims["touched"] = [[store, sorted(found)] for store, found in sorted(token.touched.items())]
    return claims


def token_of(claims: Mapping[str, Any]) -> Token:
    """Undo `claims_of`, for claims in any order. Raises: ConfigError for a number out of range."""
    own, seen = (
        Frontier(Position(shard, origin, int(offset)) for shard, origin, offset in claims.get(part, ()))
        for part in ("own", "seen")
    )
    seen = Frontier.of(seen.entries, {store: int(floor) for store, floor in claims.get("floors", ())})
    for mark in claims.get("marks", ()):
        until = FOREVER if mark["until"] == "forever" else _time(mark["until"])
        origins = (ANY_ORIGIN,) if mark["origins"] == "any" else mark["origins"]
        seen = seen.mark(mark["store"], until, exact=mark["exact"], origins=origins)
    return Token(
        own,
        seen,
        expires_at=claims["expires_at"],
        timestamp=int(claims["timestamp"]) if "timestamp" in claims else None,
        ages={pack(shard, origin): hours for shard, origin, hours in claims.get("ages", ())},
        touched={store: frozenset(found) for store, found in claims.get("touched", ())},
    )


def _time(text: str) -> int:
    """A number is never for ever, be it the one that stands for it here."""
    until = int(text)
    if until == FOREVER:
        raise ConfigError(f"a mark lapses before {FOREVER}, or never")
    return until


def evidence(error: CausalError) -> dict[str, Any]:
    """Return what the errors of this area carry."""
    if isinstance(error, UnknownKey):
        return {"key_id": error.key_id}
    if isinstance(error, ExpiredToken) and isinstance(error.token, Token):
        return {"claims": claims_of(error.token)}
    return {}


# --- the operations --------------------------------------------------------------------------------------------------


class _Sealer(Keyring):
    """A keyring that seals with the bytes it is given where others draw them at random."""

    iv = b""

    def _iv(self) -> bytes:
        return self.iv


def _keys(given: Mapping[str, Any]) -> list[Key]:
    return [Key(key["id"], bytes.fromhex(key["secret"])) for key in given["keys"]]


def _seal(given: Mapping[str, Any]) -> dict[str, Any]:
    alg = given["alg"]
    profile, bits = ("encrypted" if alg == 3 else "signed"), (256 if alg == 5 else 64)
    keys = _Sealer(_keys(given), primary=given["key_id"], profile=profile, tag_bits=bits)  # type: ignore[arg-type]
    keys.iv = bytes.fromhex(given.get("iv", ""))
    token = token_of(given["claims"])
    text = keys.seal(token, subject=given["subject"], audience=given["audience"])
    assert len(text) == keys.size(token)
    return {"payload": encode_claims(token).hex(), "text": text}


_rings: Final[dict[str, Keyring]] = {}


def _open(given: Mapping[str, Any]) -> dict[str, Any]:
    """Open with a keyring that remembers what it opened: what it remembers must not answer for something else."""
    keys = _rings.get(str(given["keys"]))
    if keys is None:
        _rings.clear()
        keys = _rings[str(given["keys"])] = Keyring(_keys(given))
    token = keys.open(given["text"], subject=given["subject"], audience=given["audience"], now=given["now"])
    return {"claims": claims_of(token)}


@attrs.define
class _Store:
    """As much of a store as sealing needs, at a time."""

    now: float
    token_ttl_s: float
    keyring: Keyring
    wall: Callable[[], float]
    audience: str = JOB[1]
    policy: ReadPolicy = attrs.field(factory=ReadPolicy)
    number: int = 0
    max_token_chars: int = MAX_CHARS
    clock_offsets: bool = False

    def until(self) -> int:
        return int(self.now) + 1

    def floor(self) -> int:
        return 0

    def replicated(self) -> Frontier:
        return Frontier()


def _join(given: Mapping[str, Any]) -> dict[str, Any]:
    keys, now, ttl_s = Keyring(_keys(given)), given["now"], given["ttl_s"]
    state = SessionState(JOB[0])
    texts = [keys.seal(token_of(claims), subject=JOB[0], audience=JOB[1]) for claims in given["tokens"]]
    state.present(texts, keys, JOB[1], now=now, ttl_s=ttl_s, subject=JOB[0])
    text = state.token(_Store(now, ttl_s, keys, lambda: now), JOB[0])
    if text is None:
        return {"claims": {}}
    claims = claims_of(keys.open(text, subject=JOB[0], audience=JOB[1], now=now))
    del claims["expires_at"]
    return {"claims": claims}


def _fingerprint(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"fingerprint": f"{fingerprint(given['key']):04x}"}


OPS: Final[Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]] = {
    "token.seal": _seal,
    "token.open": _open,
    "token.join": _join,
    "token.fingerprint": _fingerprint,
}
