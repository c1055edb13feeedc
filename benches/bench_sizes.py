"""Characters of a token's text: against a budget, and against other tokens that name the same positions. No time: every run says the same.

Cosmos DB's session token is written here as its documentation gives it (`{pkrangeid}:{Version}#{GlobalLSN}`, joined by commas), for
one region, which is its shortest. It is not signed, does not expire and names nobody: what it saves at few shards is that.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial

import jwt
from itsdangerous import URLSafeTimedSerializer

from benches.measure import Case, Effort, Row
from causal import Frontier, Key, Keyring, Position, Token
from causal.core.keyring import MAX_CHARS

NOW = 1_799_900_000
EXPIRES_AT = 1_800_000_000
UNTIL = NOW + 961
BUDGET = 100
SHARDS = (1, 2, 4, 6, 8, 16, 100, 1000)
SECRET = bytes(range(32))
KEYS = Keyring([Key(1, SECRET)])
JWT = "PyJWT: HS256, the same claims"
ITS = "itsdangerous: URLSafeTimedSerializer, the same claims"
COSMOS = "Cosmos DB's session token, unsigned, one region"


def positions(n: int, kind: str) -> list[Position]:
    r = random.Random(n)
    match kind:
        case "42-bit offsets":
            return [Position(i, 5, 1 << 41 | r.getrandbits(41)) for i in range(n)]
        case "16-bit origins":
            return [Position(i, 1 << 15 | r.getrandbits(15), 1 << 41 | r.getrandbits(41)) for i in range(n)]
        case "clock offsets":  # of one minute
            return [Position(i, 5, (NOW * 1000 + r.randrange(60_000)) << 16 | r.randrange(4)) for i in range(n)]
    raise AssertionError(kind)


def token(n: int, kind: str) -> Token:
    return Token(Frontier(positions(n, kind)), expires_at=EXPIRES_AT)


def compacted(n: int, kind: str) -> str:
    return KEYS.seal_within(token(n, kind), BUDGET, subject="alice", audience="shop", until=UNTIL, now=NOW)


def cases() -> Iterator[Case]:
    for n, kind in ((6, "42-bit offsets"), (4, "16-bit origins"), (12, "clock offsets")):
        text = KEYS.seal(token(n, kind), subject="alice", audience="shop")
        yield _budget(f"token text, {n} shards, {kind}, exact", len(text))
    for kind in ("42-bit offsets", "clock offsets"):
        for n in SHARDS:
            yield _budget(f"token text, {_shards(n)}, {kind}, to fit {BUDGET}", len(compacted(n, kind)))
    for n in SHARDS:
        size = KEYS.size(token(n, "42-bit offsets"))
        name = f"token text, {_shards(n)}, exact"
        if size > MAX_CHARS:
            name += f" (over {MAX_CHARS:,}, so not sealed: compacted)"
        named = positions(n, "42-bit offsets")
        yield _peer(f"{name}, and Cosmos DB", size, len(cosmos(named)), COSMOS, None)
        yield _peer(f"{name}, and itsdangerous", size, len(dangerous(named)), ITS, 1)
        yield _peer(f"{name}, and JWT", size, len(web(named)), JWT, 1)


def numbers(named: list[Position]) -> list[tuple[int, int, int]]:
    return [(p.shard, p.origin, p.offset) for p in named]


def cosmos(named: list[Position]) -> str:
    return ",".join(f"{p.shard}:{p.origin}#{p.offset}" for p in named)


def dangerous(named: list[Position]) -> str:
    text = URLSafeTimedSerializer(SECRET, salt="shop").dumps({"v": 1, "p": numbers(named), "sub": "alice"})
    assert isinstance(text, str)
    return text


def web(named: list[Position]) -> str:
    claims = {"v": 1, "p": numbers(named), "exp": EXPIRES_AT, "sub": "alice", "aud": "shop"}
    return jwt.encode(claims, SECRET, "HS256")


def _shards(n: int) -> str:
    return f"{n:,} shard{'s' if n > 1 else ''}"


def _budget(name: str, size: int) -> Case:
    row = Row(name, size, "characters", f"a budget of {BUDGET}", BUDGET, "floor", size / BUDGET, 1)
    return Case(name, partial(_known, row))


def _peer(name: str, size: int, other: int, said: str, bar: float | None) -> Case:
    return Case(name, partial(_known, Row(name, size, "characters", said, other, "peer", other / size, bar)))


def _known(row: Row, _: Effort) -> Row:
    return row
