"""Writes docs/spec/vectors.json: tokens to seal and to open, and texts to refuse, each with its reason.

Everything comes from the dumb twin, so the fast codec is held to what it did not write itself. A vector that is refused for its
spelling says, to a reader who does not mind spelling, something that a token could say: `refused` sees to that.

    python -m tests.make_vectors
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cbor2

from causal import Frontier, Token
from causal.errors import CausalError, ExpiredToken
from tests import twin
from tests.vectors import bits, frames
from tests.vectors.claims import (
    CLAIMS,
    EXPIRES_AT,
    FULL,
    LONGEST,
    OWN,
    SIX,
    TOO_LONG,
    claims_of,
    mark,
    of_size,
    token_of,
)
from tests.vectors.frames import AUDIENCE, IV, KEY_ID, KEYS, SUBJECT

PATH = Path(__file__).parent.parent / "docs" / "spec" / "vectors.json"
Vector = dict[str, Any]

# --- to seal, and to open ------------------------------------------------------------------------------------------------

BOUND: tuple[tuple[str, str, str | None], ...] = (
    ("an anonymous session", AUDIENCE, None),
    ("a subject without letters is not anonymous", AUDIENCE, ""),
    ("letters outside ASCII, in UTF-8", "boutique", "Zoë 雪 🦊"),
    ("a subject of 23 bytes", AUDIENCE, "s" * 23),
    ("a subject of 24 bytes", AUDIENCE, "s" * 24),
    ("a subject of 255 bytes", AUDIENCE, "s" * 255),
    ("a subject of 256 bytes", AUDIENCE, "s" * 256),
    ("an audience of 23 bytes", "a" * 23, SUBJECT),
    ("an audience of 24 bytes", "a" * 24, SUBJECT),
    ("an audience of 256 bytes", "a" * 256, SUBJECT),
)


def sealed(
    name: str,
    token: Token | Frontier,
    alg: int = 4,
    audience: str = AUDIENCE,
    subject: str | None = SUBJECT,
    key_id: int = KEY_ID,
) -> Vector:
    """A vector to seal and to open."""
    if isinstance(token, Frontier):
        token = Token(token, expires_at=EXPIRES_AT)
    payload = twin.payload_of(token)
    how: Vector = {"name": name, "alg": alg, "key_id": key_id, "audience": audience, "subject": subject}
    if alg == twin.GCM:
        how["iv"] = IV.hex()
        hour = token.expires_at // twin.HOUR_S
        data = twin.encrypted(payload, key_id, KEYS[key_id], hour, IV, audience, subject)
    else:
        data = twin.signed(payload, key_id, KEYS[key_id], alg, audience, subject)
    now = token.expires_at - 1
    text = twin.text_of(data)
    claims = claims_of(token)
    assert token_of(claims) == token
    assert twin.dumb_open(text, KEYS, audience, subject, now) == token
    return {**how, "claims": claims, "payload": payload.hex(), "text": text, "now": now}


def accepted() -> Iterator[Vector]:
    for name, token in CLAIMS:
        yield sealed(name, token)
    yield sealed("a text of 4,096 characters", LONGEST)
    for alg in (5, 3):
        for name, token in (("no claims", Frontier()), ("six shards", SIX), ("all that a token can say", FULL)):
            yield sealed(f"{name}, algorithm {alg}", token, alg)
    for expires_at in (1, 3599, 3600, 2**35 - 1):
        yield sealed(f"encrypted, expires at {expires_at}", Token(OWN, expires_at=expires_at), twin.GCM)
    for size in (230, 231):  # ciphertexts of 255 and 256 bytes
        yield sealed(f"encrypted, packed claims of {size} bytes", of_size(size), twin.GCM)
    for name, audience, subject in BOUND:
        yield sealed(name, OWN, 4, audience, subject)
    yield sealed("another key", OWN, key_id=8)
    yield sealed("another key, encrypted", OWN, twin.GCM, AUDIENCE, None, 8)
    yield sealed("another key, 256 bits", OWN, 5, AUDIENCE, None, 8)


def refused_to_seal() -> Iterator[Vector]:
    for name, claims in (
        ("a text of more than 4,096 characters", claims_of(TOO_LONG)),
        (
            "a mark until before 1970",
            claims_of(Token(OWN, Frontier.of({}, {}, {0: mark(-1)}), expires_at=EXPIRES_AT)),
        ),
    ):
        yield {"name": name, "alg": 4, "key_id": KEY_ID, "audience": AUDIENCE, "subject": SUBJECT, "claims": claims} | {
            "error": "TokenError"
        }


# --- to refuse -----------------------------------------------------------------------------------------------------------


def refused(
    name: str, error: str, text: str, audience: str = AUDIENCE, subject: str | None = SUBJECT, **how: Any
) -> Vector:
    """A text that does not open, checked with the twin."""
    now = how.pop("now", EXPIRES_AT - 1)
    found: CausalError | None = None
    try:
        twin.dumb_open(text, KEYS, audience, subject, now)
    except CausalError as raised:
        found = raised
    assert type(found).__name__ == error, (name, found)
    if isinstance(found, ExpiredToken):
        how["claims"] = claims_of(found.token)
    return {"name": name, "error": error, "audience": audience, "subject": subject, "text": text, "now": now, **how}


def rejected() -> Iterator[Vector]:
    malformed = "MalformedToken"
    for name, text in frames.bad_text():
        yield refused(f"text: {name}", malformed, text)
    for name, data in frames.bad_frames():
        yield refused(f"frame: {name}", malformed, twin.text_of(data))
    for name, data in frames.unknown_keys():
        yield refused(name, "UnknownKey", twin.text_of(data), key_id=9)
    for name, data, audience, subject in frames.bad_signatures():
        yield refused(name, "BadSignature", twin.text_of(data), audience, subject)
    secret, hour = KEYS[KEY_ID], EXPIRES_AT // 3600

    def authentic(payload: bytes, alg: int = 4) -> str:
        if alg == twin.GCM:
            return twin.text_of(twin.encrypted(payload, KEY_ID, secret, hour, IV, AUDIENCE, SUBJECT))
        return twin.text_of(twin.signed(payload, KEY_ID, secret, alg, AUDIENCE, SUBJECT))

    for name, payload in frames.bad_payloads():
        yield refused(f"payload: {name}", malformed, authentic(payload))
    yield refused("payload: an array of four, encrypted", malformed, authentic(cbor2.dumps([1, 2, b"\0", 0]), twin.GCM))
    yield refused("payload: an array of four, algorithm 5", malformed, authentic(cbor2.dumps([1, 2, b"\0", 0]), 5))
    for name, text in bits.bad_spellings():
        packed = bits.bytes_of(text)
        said, left = twin.dumb_unpack(packed, EXPIRES_AT)
        assert twin.dumb_pack(said, EXPIRES_AT) != packed, name
        assert left < 16, name
        yield refused(f"spelling: {name}", malformed, authentic(cbor2.dumps([1, EXPIRES_AT, packed])))
    for name, text in bits.nonsense():
        yield refused(f"bits: {name}", malformed, authentic(cbor2.dumps([1, EXPIRES_AT, bits.bytes_of(text)])))
    payload = twin.payload_of(Token(OWN, expires_at=EXPIRES_AT))
    other = twin.encrypted(payload, KEY_ID, secret, hour + 1, IV, AUDIENCE, SUBJECT)
    yield refused("encrypted under the key of another hour", malformed, twin.text_of(other))
    for alg in (4, 5, 3):
        vector = sealed("", OWN, alg)
        for now in (EXPIRES_AT, EXPIRES_AT + 86_400):
            yield refused(f"expired, algorithm {alg}, at {now}", "ExpiredToken", vector["text"], now=now)
    never = sealed("", Token(OWN, expires_at=1))
    yield refused("expired, at 1", "ExpiredToken", never["text"], now=1)
    nothing = twin.text_of(frames.signed(Token(OWN, expires_at=0)))
    yield refused("expires at 0: never open", "ExpiredToken", nothing, now=0)


def vectors() -> dict[str, Any]:
    """All of the file."""
    return {
        "keys": [{"id": key_id, "secret": secret.hex()} for key_id, secret in KEYS.items()],
        "accept": list(accepted()),
        "reject": list(rejected()),
        "refuse_to_seal": list(refused_to_seal()),
    }


def render() -> str:
    """The file's text: a line for each member of a vector."""

    def line(value: Any) -> str:
        return json.dumps(value, ensure_ascii=True)

    def block(vector: Vector) -> str:
        return "  {\n" + ",\n".join(f"   {line(name)}: {line(value)}" for name, value in vector.items()) + "\n  }"

    parts = [f" {line(name)}: [\n" + ",\n".join(map(block, found)) + "\n ]" for name, found in vectors().items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    PATH.write_text(render(), encoding="utf-8")
