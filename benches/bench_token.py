"""Tokens: sealing and opening, against the least that a signed token costs, and against the signers that people use.

The floor has the same claims (version, expiry; shard, origin and offset of each position) in one `cbor2` call, one HMAC-SHA-256 from
precomputed states truncated to 64 bits, and one base64 call. It checks nothing but the tag: no limits, no canonical form, no expiry.
"""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Callable, Iterator
from hashlib import sha256

import cbor2
import jwt
from itsdangerous import URLSafeTimedSerializer

from benches.measure import Effort, Row, against_floor, against_peer
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


def rows(effort: Effort) -> Iterator[Row]:
    uncached = Keyring([Key(1, SECRET)], cache=0)
    cached = Keyring([Key(1, SECRET)])
    now = time.time()
    for n in (1, 4, 16):
        token, positions = claimed(n)
        floor = Floor(token, positions)
        text = uncached.seal(token, subject="alice", audience="shop")
        assert uncached.open(text, now=now, subject="alice", audience="shop") == token

        def seal(token: Token = token) -> None:
            uncached.seal(token, subject="alice", audience="shop")

        def opened(text: str = text) -> None:
            uncached.open(text, now=now, subject="alice", audience="shop")

        def again(text: str = text) -> None:
            cached.open(text, now=now, subject="alice", audience="shop")

        shards = f"{n} shard{'s' if n > 1 else ''}"
        yield against_floor(f"seal, {shards}", seal, floor.seal, SEALING, 2.5, effort)
        yield against_floor(f"open without cache, {shards}", opened, floor.open, OPENING, 3, effort)
        yield against_floor(f"open again, {shards}", again, opened, "open without cache", 0.2, effort)
        yield from _against_signers(shards, seal, opened, token, positions, effort)


def _against_signers(
    shards: str,
    seal: Callable[[], None],
    opened: Callable[[], None],
    token: Token,
    positions: list[tuple[int, int, int]],
    effort: Effort,
) -> Iterator[Row]:
    """The same claims in the same process; each signer with what binds a token to its subject and audience, too."""
    claims = {"v": 1, "p": positions}
    serializer = URLSafeTimedSerializer(SECRET, salt="shop")
    body = {**claims, "sub": "alice"}
    dangerous = serializer.dumps(body)
    registered = {**claims, "exp": token.expires_at, "sub": "alice", "aud": "shop"}
    web = jwt.encode(registered, SECRET, "HS256")

    def its_seal() -> None:
        serializer.dumps(body)

    def its_open() -> None:
        serializer.loads(dangerous, max_age=86_400)

    def jwt_seal() -> None:
        jwt.encode(registered, SECRET, "HS256")

    def jwt_open() -> None:
        jwt.decode(web, SECRET, ["HS256"], audience="shop", subject="alice")

    def both() -> None:
        seal(), opened()

    def its_both() -> None:
        its_seal(), its_open()

    def jwt_both() -> None:
        jwt_seal(), jwt_open()

    its, pyjwt = "itsdangerous URLSafeTimedSerializer", "PyJWT HS256"
    yield against_peer(f"seal and open, {shards}, and itsdangerous", both, its_both, its, 3, effort)
    yield against_peer(f"seal and open, {shards}, and PyJWT", both, jwt_both, pyjwt, 4, effort)
