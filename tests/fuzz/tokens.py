"""Fuzz targets for what a token is made of: each hands the same bytes to the codec and to its dumb twin, and compares.

A fuzzer does not pass an HMAC by luck. So each layer has a target of its own, which signs (or encrypts) whatever it was given: text as it
comes; a frame whose tag is made right; the CBOR payload; the packed claims; and the same under an hour's key. The secret is the
fuzzer's, as it may be anybody's who must never have one: what comes after the tag is to be as careful as what comes before.
"""

from __future__ import annotations

import cbor2

from causal import ExpiredToken, Frontier, Key, Keyring, MalformedToken, Token, TokenError
from causal.core.wire import decode_frontier, encode_frontier
from tests.spec.twins import token as twin
from tests.spec.twins import values

KEYS = {7: bytes(range(32)), 8: bytes(range(100, 132))}
RING = Keyring([Key(number, secret) for number, secret in KEYS.items()], cache=0)
SEALERS = {alg: Keyring([Key(7, KEYS[7])], tag_bits=bits, cache=0) for alg, bits in ((4, 64), (5, 256))}
SUBJECT, AUDIENCE = "alice", "shop"
EXPIRES_AT = 1_800_000_000
NOW = EXPIRES_AT - 1
IV = bytes(12)

Outcome = tuple[str, object]


def codec(text: str) -> Outcome:
    """What our code makes of a text: its claims, or the name of a documented error. Any other exception is a finding."""
    try:
        return "open", RING.open(text, subject=SUBJECT, audience=AUDIENCE, now=NOW)
    except ExpiredToken as error:
        return "ExpiredToken", error.token
    except TokenError as error:
        return type(error).__name__, None


def dumb(text: str) -> Outcome:
    """What the dumb twin makes of it."""
    try:
        return "open", twin.dumb_open(text, KEYS, AUDIENCE, SUBJECT, NOW)
    except values.ExpiredToken as error:
        return "ExpiredToken", error.token
    except values.TokenError as error:
        return type(error).__name__, None


def agree(text: str) -> Outcome:
    """Both must say the same; and what opens is sealed into the same text again, if it was signed."""
    ours = codec(text)
    theirs = dumb(text)
    outcome, token = ours
    same = (outcome, None if token is None else twin.plain(token)) == theirs
    assert same, f"{text!r}: ours {ours}, the twin's {theirs}"
    if isinstance(token, Token):
        frame = cbor2.loads(twin.data_of(text))
        alg = cbor2.loads(frame[0])[1]
        if alg in SEALERS and frame[1] == {4: b"\x07"}:
            again = SEALERS[alg].seal(token, subject=SUBJECT, audience=AUDIENCE)
            assert again == text, f"opened from {text!r}, sealed as {again!r}"
    return ours


# --- targets -----------------------------------------------------------------------------------------------------------


def text(data: bytes) -> Outcome:
    """A text as it arrives: any characters."""
    try:
        return agree(data.decode("utf-8", "surrogatepass"))
    except UnicodeDecodeError:
        return agree(data.decode("latin-1"))


def frame(data: bytes) -> Outcome:
    """A frame's bytes, and the tag that belongs to them where there is room for one; else as they are."""
    for alg, size in twin.TAG_BYTES.items():
        start = cbor2.dumps([cbor2.dumps({1: alg}), {4: b"\x07"}, b"", b""])[:8]
        if data[:8] == start and len(data) > 10 + size:
            item = data[9 : -size - (1 if size < 24 else 2)]
            aad = cbor2.dumps(cbor2.dumps([AUDIENCE, SUBJECT]))
            structure = b"\x84\x64MAC0" + cbor2.dumps(cbor2.dumps({1: alg})) + aad + item
            key = twin.derived(KEYS.get(data[8], KEYS[7]), alg)
            data = data[:-size] + twin.hmac.digest(key, structure, "sha256")[:size]
    return agree(twin.text_of(data))


def payload(data: bytes) -> Outcome:
    """The CBOR payload, after a byte that chooses the algorithm."""
    alg = 5 if data[:1] == b"\x05" else 4
    return agree(twin.text_of(twin.signed(data[1:], 7, KEYS[7], alg, AUDIENCE, SUBJECT)))


def claims(data: bytes) -> Outcome:
    """The packed claims, after a byte that moves the time of expiry: some are said relative to it."""
    expires_at = EXPIRES_AT if data[:1] < b"\xf0" else (0, 5, 2**16, 2**32 - 1, 2**35 - 1)[data[0] % 5]
    inner = cbor2.dumps([1, expires_at, data[1:]], canonical=True)
    return agree(twin.text_of(twin.signed(inner, 7, KEYS[7], 4, AUDIENCE, SUBJECT)))


def encrypted(data: bytes) -> Outcome:
    """The payload under an hour's key, after the hour; a first byte says whether the ciphertext is damaged besides."""
    hour = int.from_bytes(data[1:4], "big")
    sealed = twin.encrypted(data[4:], 7, KEYS[7], hour, IV, AUDIENCE, SUBJECT)
    if data[:1] > b"\x7f":
        at = data[0] % len(sealed)
        sealed = sealed[:at] + bytes((sealed[at] ^ 1,)) + sealed[at + 1 :]
    return agree(twin.text_of(sealed))


def frontier(data: bytes) -> Outcome:
    """A frontier as engines store it with versions."""
    try:
        expected, left = twin.dumb_unpack(data, 0)
        whole = left < 8 and twin.dumb_pack(expected, 0) == data
        nothing_else = not (
            expected.seen.entries or expected.ages or expected.timestamp is not None or expected.touched
        )
        theirs = (
            values.Frontier(expected.own.entries, expected.seen.floors, expected.seen.marks)
            if whole and nothing_else
            else None
        )
    except twin.BROKEN:
        theirs = None
    try:
        ours: Frontier | None = decode_frontier(data)
    except MalformedToken:
        ours = None
    same = (None if ours is None else twin.plain_part(ours)) == theirs
    assert same, f"{data.hex()}: ours {ours}, the twin's {theirs}"
    if ours is None:
        return "MalformedToken", None
    assert encode_frontier(ours) == data
    return "open", ours
