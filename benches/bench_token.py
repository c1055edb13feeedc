"""Tokens: sealing and opening, against the least that a signed token costs, and against the signers that people use.

The floor has the same claims (version, expiry; shard, origin and offset of each position) in one `cbor2` call, one HMAC-SHA-256 from
precomputed states truncated to 64 bits, and one base64 call. It checks nothing but the tag: no limits, no canonical form, no expiry.
"""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256

import cbor2
import jwt
from itsdangerous import URLSafeTimedSerializer

from benches.measure import Case, against_floor, against_peer
from causal import Frontier, Key, Keyring, Position, Token

SECRET = bytes(range(32))
SEALING = "HMAC + cbor2.dumps + base64 of the same claims"
OPENING = "base64 + HMAC + cbor2.loads of the same claims"


def claimed(n: int) -> tuple[Token, list[tuple[int, int, int]]]:
    """Return a token of n shards with 42-bit offsets, and its positions as bare numbers."""
    positions = [(shard, 1, (0x2A5F00D1234 + 7919 * 104729 * shard) % 2**42 | 1 << 41) for shard in range(n)]
    own = Frontier(Position(shard, origin, offset) for shard, origin, offset in positions)
    return Token(own, expires_at=int(time.time()) + 86_400), positions


class Floor:
    """The least: the same claims, authenticated, as text."""

    def __init__(self, token: Token, positions: list[tuple[int, int, int]]) -> None:
        self.claims = [1, token.expires_at, [number for position in positions for number in position]]
        self.inner = sha256(bytes(b ^ 0x36 for b in SECRET.ljust(64, b"\0")))
        self.outer = sha256(bytes(b ^ 0x5C for b in SECRET.ljust(64, b"\0")))
        self.text = self.seal()
        assert self.open() == self.claims

    def tag(self, payload: bytes) -> bytes:
        inner, outer = self.inner.copy(), self.outer.copy()
        inner.update(payload)
        outer.update(inner.digest())
        return outer.digest()[:8]

    def seal(self) -> bytes:
        payload = cbor2.dumps(self.claims)
        return base64.urlsafe_b64encode(payload + self.tag(payload))

    def open(self) -> object:
        data = base64.urlsafe_b64decode(self.text)
        payload = data[:-8]
        if not hmac.compare_digest(self.tag(payload), data[-8:]):
            raise ValueError
        return cbor2.loads(payload)


class Signers:
    """The same claims in the same process, by the signers that people use; each with what binds a token to its subject and audience."""

    def __init__(self, token: Token, positions: list[tuple[int, int, int]]) -> None:
        claims = {"v": 1, "p": positions}
        self.serializer = URLSafeTimedSerializer(SECRET, salt="shop")
        self.body = {**claims, "sub": "alice"}
        self.registered = {**claims, "exp": token.expires_at, "sub": "alice", "aud": "shop"}
        self.dangerous = self.serializer.dumps(self.body)
        self.web = jwt.encode(self.registered, SECRET, "HS256")

    def itsdangerous(self) -> None:
        """Seal and open."""
        self.serializer.dumps(self.body)
        self.serializer.loads(self.dangerous, max_age=86_400)

    def pyjwt(self) -> None:
        """Seal and open."""
        jwt.encode(self.registered, SECRET, "HS256")
        jwt.decode(self.web, SECRET, ["HS256"], audience="shop", subject="alice")


def cases() -> Iterator[Case]:
    uncached, cached = Keyring([Key(1, SECRET)], cache=0), Keyring([Key(1, SECRET)])
    for n in (1, 4, 16):
        token, positions = claimed(n)
        floor, signers = Floor(token, positions), Signers(token, positions)
        seal: Callable[[], str] = partial(uncached.seal, token, subject="alice", audience="shop")
        bound = {"subject": "alice", "audience": "shop", "now": time.time()}
        opened: Callable[[], Token] = partial(uncached.open, seal(), **bound)
        again: Callable[[], Token] = partial(cached.open, seal(), **bound)
        assert opened() == again() == token

        def both(seal: Callable[[], str] = seal, opened: Callable[[], Token] = opened) -> None:
            seal()
            opened()

        shards = f"{n} shard{'s' if n > 1 else ''}"
        yield against_floor(f"seal, {shards}", seal, floor.seal, SEALING, 2.5)
        yield against_floor(f"open without cache, {shards}", opened, floor.open, OPENING, 3)
        yield against_floor(f"open again, {shards}", again, opened, "open without cache", 0.2)
        its, pyjwt = "itsdangerous: URLSafeTimedSerializer", "PyJWT: HS256"
        yield against_peer(f"seal and open, {shards}, and itsdangerous", both, signers.itsdangerous, its, 3)
        yield against_peer(f"seal and open, {shards}, and PyJWT", both, signers.pyjwt, pyjwt, 4)
