"""Chooses the vectors of the token: claims to seal, texts to open and to refuse, each with its reason, and tokens to join.

Everything comes from the dumb twin, so the fast codec is held to what it did not write itself. A vector that is refused for its
spelling says, to a reader who does not mind spelling, something that a token could say: `rejected` sees to that.
"""

from collections.abc import Iterator
from typing import Any

import cbor2

from tests.spec.tokens import bits, frames, joins
from tests.spec.tokens.cites import cited
from tests.spec.tokens.claims import (
    CLAIMS,
    EXPIRES_AT,
    FULL,
    LONGEST,
    OWN,
    SIX,
    TOO_LONG,
    mark,
    of_size,
    run,
)
from tests.spec.tokens.frames import AUDIENCE, IV, KEY_ID, KEYS, SUBJECT
from tests.spec.twins import token as twin
from tests.spec.twins.values import ExpiredToken, Frontier, Refused, Token

ABOUT = (
    "docs/spec/token.md says what each operation is given and gives. `keys` are held in all of them; algorithm 3 takes `iv` for its "
    "random bytes."
)
GIVEN = {"keys": [{"id": key_id, "secret": secret.hex()} for key_id, secret in KEYS.items()]}
Vector = dict[str, Any]

# --- to seal, and to open ------------------------------------------------------------------------------------------------

BOUND: tuple[tuple[str, str, str | None], ...] = (
    ("an anonymous session", AUDIENCE, None),
    ("a subject without letters is not anonymous", AUDIENCE, ""),
    ("letters outside ASCII, in UTF-8", "boutique", "Zoë 雪 🦊"),
    ("letters taken as they are: not composed, not trimmed, not folded", " Boutique\n", "Zoe\u0308 \u212b\0"),
    ("letters taken as they are, the other way round", "Zoe\u0308 STRASSE \u212b", " Zo\u00eb \u2126\t"),
    ("letters taken as they are, of an anonymous session", "Cafe\u0301 ", None),
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
) -> Iterator[Vector]:
    """A vector to seal, and one to open what is sealed."""
    if isinstance(token, Frontier):
        token = Token(token, expires_at=EXPIRES_AT)
    how: Vector = {"alg": alg, "key_id": key_id, "audience": audience, "subject": subject}
    if alg == twin.GCM:
        how["iv"] = IV.hex()
    claims = twin.claims_of(token)
    payload, text = twin.dumb_seal(claims, alg, key_id, KEYS[key_id], IV, audience, subject)
    now = token.expires_at - 1
    assert twin.dumb_open(text, KEYS, audience, subject, now) == token
    yield {
        "name": f"seal: {name}",
        "op": "token.seal",
        "cites": cited(f"seal: {name}"),
        "in": how | {"claims": claims},
        "out": {"payload": payload.hex(), "text": text},
    }
    yield {
        "name": f"open: {name}",
        "op": "token.open",
        "cites": cited(f"open: {name}"),
        "in": {"audience": audience, "subject": subject, "text": text, "now": now},
        "out": {"claims": claims},
    }


def accepted() -> Iterator[Vector]:
    for name, token in CLAIMS:
        yield from sealed(name, token)
    yield from sealed("a text of 4,096 characters", LONGEST)
    for alg in (5, 3):
        for name, token in (("no claims", Frontier()), ("six shards", SIX), ("all that a token can say", FULL)):
            yield from sealed(f"{name}, algorithm {alg}", token, alg)
    for expires_at in (1, 3599, 3600, 2**35 - 1):
        yield from sealed(f"encrypted, expires at {expires_at}", Token(OWN, expires_at=expires_at), twin.GCM)
    for size in (230, 231):  # ciphertexts of 255 and 256 bytes
        yield from sealed(f"encrypted, packed claims of {size} bytes", of_size(size), twin.GCM)
    for name, audience, subject in BOUND:
        yield from sealed(name, OWN, 4, audience, subject)
    yield from sealed("another key", OWN, key_id=8)
    yield from sealed("another key, encrypted", OWN, twin.GCM, AUDIENCE, None, 8)
    yield from sealed("another key, 256 bits", OWN, 5, AUDIENCE, None, 8)


def plain(claims: Vector) -> tuple[str, str]:
    """The payload and the text of claims, sealed as most are."""
    payload, text = twin.dumb_seal(claims, 4, KEY_ID, KEYS[KEY_ID], b"", AUDIENCE, SUBJECT)
    return payload.hex(), text


def normalised() -> Iterator[Vector]:
    """Claims that are not in normal form, and what they are sealed to: what the same claims in normal form are."""
    for name, claims, normal in joins.NORMAL:
        payload, text = plain(claims)
        assert (payload, text) == plain(normal), name
        yield {
            "name": f"normal form: {name}",
            "op": "token.seal",
            "cites": cited(f"normal form: {name}"),
            "in": {"alg": 4, "key_id": KEY_ID, "audience": AUDIENCE, "subject": SUBJECT, "claims": claims},
            "out": {"payload": payload, "text": text},
        }


def refused_to_seal() -> Iterator[Vector]:
    for name, claims, error, reason in (
        (
            "a text of more than 4,096 characters",
            twin.claims_of(TOO_LONG),
            "TokenError",
            "the text would have 4,098 characters",
        ),
        (
            "a mark until before 1970",
            twin.claims_of(Token(OWN, Frontier({}, {}, {0: mark(-1)}), expires_at=EXPIRES_AT)),
            "TokenError",
            "no time of a mark is before 1970",
        ),
        *((name, claims, "ConfigError", reason) for name, claims, reason in joins.OUT_OF_RANGE),
    ):
        found: Refused | None = None
        try:
            plain(claims)
        except Refused as raised:
            found = raised
        assert type(found).__name__ == error, (name, found)
        yield {
            "name": f"refuse to seal: {name}",
            "op": "token.seal",
            "cites": cited(f"refuse to seal: {name}"),
            "in": {"alg": 4, "key_id": KEY_ID, "audience": AUDIENCE, "subject": SUBJECT, "claims": claims},
            "error": {"type": error},
            "reason": reason,
        }


# --- to refuse -----------------------------------------------------------------------------------------------------------


def refused(
    name: str, error: str, text: str, audience: str = AUDIENCE, subject: str | None = SUBJECT, **how: Any
) -> Vector:
    """A text that does not open, checked with the twin."""
    now = how.pop("now", EXPIRES_AT - 1)
    found: Refused | None = None
    try:
        twin.dumb_open(text, KEYS, audience, subject, now)
    except Refused as raised:
        found = raised
    assert type(found).__name__ == error, (name, found)
    if isinstance(found, ExpiredToken):
        how["claims"] = twin.claims_of(found.token)
    return {
        "name": name,
        "op": "token.open",
        "cites": cited(name),
        "in": {"audience": audience, "subject": subject, "text": text, "now": now},
        "error": {"type": error, **how},
        "reason": name.partition(": ")[2] or name,
    }


def opened(name: str, text: str, subject: str | None) -> Vector:
    """A text that opens."""
    now = EXPIRES_AT - 1
    claims = twin.claims_of(twin.dumb_open(text, KEYS, AUDIENCE, subject, now))
    given = {"audience": AUDIENCE, "subject": subject, "text": text, "now": now}
    return {"name": name, "op": "token.open", "cites": cited(name), "in": given, "out": {"claims": claims}}


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
    for name, to, subject in (
        ("letters that are composed for the same ones that are not", "Zoe\u0308", "Zo\u00eb"),
        ("a subject in capitals for one in small letters", "alice", "Alice"),
        ("a subject with a blank for one without", "alice", "alice "),
        ("a subject that ends with a line break for one that does not", "alice", "alice\n"),
    ):
        data = twin.signed(twin.payload_of(Token(OWN, expires_at=EXPIRES_AT)), KEY_ID, KEYS[KEY_ID], 4, AUDIENCE, to)
        yield refused(name, "BadSignature", twin.text_of(data), AUDIENCE, subject)
    payload, secret, hour = twin.payload_of(Token(OWN, expires_at=EXPIRES_AT)), KEYS[KEY_ID], EXPIRES_AT // 3600
    anonymous = "for another audience, anonymous"
    for name, data in (
        (anonymous, twin.signed(payload, KEY_ID, secret, 4, AUDIENCE, None)),
        (f"{anonymous}, encrypted", twin.encrypted(payload, KEY_ID, secret, hour, IV, AUDIENCE, None)),
    ):
        yield refused(name, "BadSignature", twin.text_of(data), "other", None)

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
    eleven = twin.payload_of(Token(run(1, 11), expires_at=EXPIRES_AT))
    anonymous, nameless = (
        twin.text_of(twin.signed(eleven, KEY_ID, secret, 4, AUDIENCE, whose)) for whose in (None, "")
    )
    for name, text, first, then in (
        ("of an anonymous session, then for the subject without letters", anonymous, None, ""),
        ("of the subject without letters, then for an anonymous session", nameless, "", None),
    ):
        yield opened(f"opened before: a token {name}: where it belongs", text, first)
        yield refused(f"opened before: a token {name}", "BadSignature", text, AUDIENCE, then)
    for name, error, data, subject, now in frames.two_faults():
        more = {"key_id": 9} if error == "UnknownKey" else {}
        yield refused(f"two faults: {name}", error, twin.text_of(data), AUDIENCE, subject, now=now, **more)
    ours = twin.payload_of(Token(OWN, expires_at=EXPIRES_AT))
    for alg in (4, 5, 3):
        text = authentic(ours, alg)
        for now in (EXPIRES_AT, EXPIRES_AT + 86_400):
            yield refused(f"expired, algorithm {alg}, at {now}", "ExpiredToken", text, now=now)
    _, never = plain(twin.claims_of(Token(OWN, expires_at=1)))
    yield refused("expired, at 1", "ExpiredToken", never, now=1)
    nothing = twin.text_of(frames.signed(Token(OWN, expires_at=0)))
    yield refused("expires at 0: never open", "ExpiredToken", nothing, now=0)


def joined() -> Iterator[Vector]:
    for name, tokens, now, ttl_s in joins.JOINED:
        for claims in tokens:
            assert twin.claims_of(twin.token_of_claims(claims)) == claims, name
        yield {
            "name": f"join: {name}",
            "op": "token.join",
            "cites": cited(f"join: {name}"),
            "in": {"tokens": tokens, "now": now, "ttl_s": ttl_s},
            "out": {"claims": twin.dumb_join(tokens, now, ttl_s)},
        }


def vectors() -> Iterator[Vector]:
    """All of the file."""
    yield from accepted()
    yield from normalised()
    yield from refused_to_seal()
    yield from rejected()
    yield from joined()
    for key in joins.KEYS:
        name = f"fingerprint: {key!a}"
        found = {"fingerprint": twin.crc16(key)}
        yield {"name": name, "op": "token.fingerprint", "cites": cited(name), "in": {"key": key}, "out": found}
