"""Texts, frames and payloads that are no token, or none for those who open them, each with its name."""

import hmac
from collections.abc import Iterator
from itertools import pairwise

import cbor2

from tests.spec.tokens.claims import EXPIRES_AT, OWN, TOO_LONG, of_size, run
from tests.spec.twins import token as twin
from tests.spec.twins.values import Token

KEYS = {7: bytes(range(32)), 8: bytes(range(100, 132))}
KEY_ID = 7
IV = bytes(range(0xA0, 0xAC))
AUDIENCE, SUBJECT = "shop", "alice"


def signed(token: Token, alg: int = 4) -> bytes:
    return twin.signed(twin.payload_of(token), KEY_ID, KEYS[KEY_ID], alg, AUDIENCE, SUBJECT)


def bad_text() -> Iterator[tuple[str, str]]:
    texts = [twin.text_of(signed(Token(run(1, 1 << n), expires_at=EXPIRES_AT))) for n in range(40)]
    good = texts[2]
    whole, two, odd = (next(text for text in texts if len(text) % 4 == rest) for rest in (0, 2, 3))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    later = dict(pairwise(alphabet))
    yield "no text", ""
    yield "padding", two + "=="
    yield "padding of one character", odd + "="
    yield "the unused bits of the last character are not zero (2)", odd[:-1] + later[odd[-1]]
    yield "the unused bits of the last character are not zero (4)", two[:-1] + later[two[-1]]
    for text, size in ((odd, 2), (two, 4)):
        for bit in range(1, size):
            last = alphabet[alphabet.index(text[-1]) + (1 << bit)]
            yield f"the unused bits of the last character are not zero ({size}), bit {bit}", text[:-1] + last
    yield "a length that no bytes have", whole + "A"
    yield "a blank at the end", two + " "
    yield "a line feed at the end", odd + "\n"
    yield "a blank before", " " + odd
    yield "a line feed in the middle", whole[:20] + "\n\n\n\n" + whole[20:]
    yield "+ of the standard alphabet", good[:20] + "+" + good[21:]
    yield "/ of the standard alphabet", good[:20] + "/" + good[21:]
    yield "padding in the middle", good[:20] + "=" + good[21:]
    yield "a letter outside ASCII", good[:20] + "é" + good[21:]
    yield "a letter of full width that is ASCII once normalised", good[:20] + "\uff21" + good[21:]
    yield "more than 4,096 characters, that were a token otherwise", twin.text_of(signed(TOO_LONG))
    yield "more than 4,096 characters", "A" * 4100


def bad_frames() -> Iterator[tuple[str, bytes]]:
    """Frames that are no frame of ours; where one has a tag, it is right as far as there is a right one."""
    token = Token(OWN, expires_at=EXPIRES_AT)
    payload, secret = twin.payload_of(token), KEYS[KEY_ID]
    good = signed(token)
    long = signed(token, 5)
    hour = EXPIRES_AT // 3600
    enc = twin.encrypted(payload, KEY_ID, secret, hour, IV, AUDIENCE, SUBJECT)
    tag, tag32 = (twin.mac0(payload, secret, alg, AUDIENCE, SUBJECT) for alg in (4, 5))
    p4, p5, p3 = (cbor2.dumps({1: alg}) for alg in (4, 5, 3))
    kid, kid_hour = bytes((KEY_ID,)), bytes((KEY_ID,)) + hour.to_bytes(3, "big")
    ciphertext = cbor2.loads(enc)[2]
    dumps = cbor2.dumps
    yield "not CBOR of ours", b"\xff" * 30
    yield "one byte", b"\x84"
    yield "a start, and nothing else", good[:8]
    yield "a start and a key id", good[:9]
    yield "tagged as COSE_Mac0 (17)", b"\xd1" + good
    yield "tagged as COSE_Encrypt0 (16)", b"\xd0" + enc
    yield "an array of indefinite length", b"\x9f" + good[1:] + b"\xff"
    yield "an array's length in two bytes", b"\x98\x04" + good[1:]
    yield "three items", dumps([p4, {4: kid}, payload])
    yield "five items", dumps([p4, {4: kid}, payload, tag, tag])
    yield "a byte after the end", good + b"\0"
    yield "a byte too few", good[:-1]
    yield "a byte after the end, encrypted", enc + b"\0"
    yield "a byte too few, encrypted", enc[:-1]
    yield "no algorithm", dumps([b"", {4: kid}, payload, tag])
    yield "another algorithm (HMAC 384/384)", dumps([dumps({1: 6}), {4: kid}, payload, tag])
    yield "another algorithm (A128GCM)", dumps([dumps({1: 1}), {4: kid_hour, 5: IV}, ciphertext])
    yield "an algorithm that is text", dumps([dumps({1: "HS256"}), {4: kid}, payload, tag])
    yield "the algorithm in two bytes", dumps([b"\xa1\x01\x18\x04", {4: kid}, payload, tag])
    yield "the algorithm is not protected", dumps([b"\xa0", {1: 4, 4: kid}, payload, tag])
    yield "one protected header more", dumps([dumps({1: 4, 3: 0}), {4: kid}, payload, tag])
    yield "one unprotected header more", dumps([p4, {4: kid, 6: b""}, payload, tag])
    yield "no key id", dumps([p4, {}, payload, tag])
    yield "a key id of two bytes", dumps([p4, {4: b"\0" + kid}, payload, tag])
    yield "a key id of no bytes", dumps([p4, {4: b""}, payload, tag])
    yield "a key id that is a number", dumps([p4, {4: KEY_ID}, payload, tag])
    yield "a key id with hour, signed", dumps([p4, {4: kid_hour}, payload, tag])
    yield "a payload that is elsewhere", dumps([p4, {4: kid}, None, tag])
    yield "a payload that is text", dumps([p4, {4: kid}, "payload", tag])
    yield "a payload's length in two bytes", good[:9] + b"\x58" + bytes((len(payload),)) + good[10:]
    yield "a payload's length in three bytes", good[:9] + b"\x59\0" + bytes((len(payload),)) + good[10:]
    for size in (23, 255):
        other = b"\xff" * size
        head = b"\x58\x17" if size == 23 else b"\x59\0\xff"
        tag_of_it = twin.mac0(other, secret, 4, AUDIENCE, SUBJECT)
        yield f"a length of {size} in more bytes than it takes", good[:9] + head + other + b"\x48" + tag_of_it
    yield "a payload of indefinite length", good[:9] + b"\x5f" + good[9:-9] + b"\xff" + good[-9:]
    yield "a tag of 7 bytes", dumps([p4, {4: kid}, payload, tag[:7]])
    yield "a tag of 32 bytes for algorithm 4", dumps([p4, {4: kid}, payload, tag32])
    yield "a tag of 8 bytes for algorithm 5", dumps([p5, {4: kid}, payload, tag32[:8]])
    yield "a tag of no bytes", dumps([p4, {4: kid}, payload, b""])
    yield "a tag's length in two bytes", good[:-9] + b"\x58\x08" + tag
    yield "a tag's length in three bytes, algorithm 5", long[:-34] + b"\x59\0\x20" + tag32
    yield "a tag that is text", good[:-9] + b"\x68" + tag
    yield "the algorithm of the other frame: Mac0 with 3", dumps([p3, {4: kid}, payload, tag])
    yield "the algorithm of the other frame: Encrypt0 with 4", dumps([p4, {4: kid_hour, 5: IV}, ciphertext])
    yield "no hour", dumps([p3, {4: kid, 5: IV}, ciphertext])
    yield "an hour of four bytes", dumps([p3, {4: kid + hour.to_bytes(4, "big"), 5: IV}, ciphertext])
    yield "no IV", dumps([p3, {4: kid_hour}, ciphertext])
    yield "an IV of 11 bytes", dumps([p3, {4: kid_hour, 5: IV[:11]}, ciphertext])
    yield "a partial IV", dumps([p3, {4: kid_hour, 6: IV}, ciphertext])
    yield "headers in another order", dumps([p3, {5: IV, 4: kid_hour}, ciphertext])
    yield "a header twice", enc[:5] + b"\xa3" + enc[6:12] + enc[6:12] + enc[12:]
    yield "a ciphertext shorter than its tag", dumps([p3, {4: kid_hour, 5: IV}, ciphertext[-15:]])
    yield "a ciphertext's length in three bytes", enc[:26] + b"\x59\0" + enc[27:]
    for name, data, more in (("", good, [-9]), (", algorithm 5", long, [-34, -33]), (", encrypted", enc, [12, 13])):
        for place in (
            *range(8),
            *more,
        ):  # all that is the same in each such frame: who does not look at it, opens these
            at, other = place % len(data), data[place] ^ 8
            altered = data[:at] + bytes((other,)) + data[at + 1 :]
            yield f"the byte at {at} is {other:02x}, not {data[at]:02x}{name}", altered


def unknown_keys() -> Iterator[tuple[str, bytes]]:
    payload = twin.payload_of(Token(OWN, expires_at=EXPIRES_AT))
    yield "a key that is not held", twin.signed(payload, 9, KEYS[7], 4, AUDIENCE, SUBJECT)
    hour = EXPIRES_AT // 3600
    yield "a key that is not held, encrypted", twin.encrypted(payload, 9, KEYS[7], hour, IV, AUDIENCE, SUBJECT)
    yield "a key that is not held, and a payload that is none", twin.signed(b"", 9, KEYS[7], 4, AUDIENCE, SUBJECT)


def bad_signatures() -> Iterator[tuple[str, bytes, str, str | None]]:
    token = Token(OWN, expires_at=EXPIRES_AT)
    payload, secret, hour = twin.payload_of(token), KEYS[KEY_ID], EXPIRES_AT // 3600
    enc = twin.encrypted(payload, KEY_ID, secret, hour, IV, AUDIENCE, SUBJECT)

    def flipped(data: bytes, at: int, bit: int = 1) -> bytes:
        changed = bytearray(data)
        changed[at] ^= bit
        return bytes(changed)

    for alg in (4, 5):
        data = signed(token, alg)
        of = f", algorithm {alg}"
        yield f"the first bit of the tag changed{of}", flipped(data, -twin.TAG_BYTES[alg], 0x80), AUDIENCE, SUBJECT
        yield f"the last bit of the tag changed{of}", flipped(data, -1), AUDIENCE, SUBJECT
        yield f"a bit of the payload changed{of}", flipped(data, 16), AUDIENCE, SUBJECT
        yield f"for another subject{of}", data, AUDIENCE, "bob"
        yield f"for an anonymous session{of}", data, AUDIENCE, None
        yield f"for another audience{of}", data, "other", SUBJECT
        yield f"another key's id{of}", flipped(data, 8, 7 ^ 8), AUDIENCE, SUBJECT
        tag = twin.TAG_BYTES[alg]
        cut = twin.mac0(payload, secret, 5, AUDIENCE, SUBJECT)[:tag] if alg == 4 else bytes(24)
        other = cut if alg == 4 else twin.mac0(payload, secret, 4, AUDIENCE, SUBJECT) + cut
        yield f"the tag of the other algorithm{of}", data[:-tag] + other, AUDIENCE, SUBJECT
    nobody = twin.signed(payload, KEY_ID, secret, 4, AUDIENCE, "")
    yield "for the subject without letters, opened by an anonymous session", nobody, AUDIENCE, None
    yield (
        "sealed by an anonymous session, opened for the subject null",
        twin.signed(payload, KEY_ID, secret, 4, AUDIENCE, None),
        AUDIENCE,
        "null",
    )
    moved = twin.signed(payload, KEY_ID, secret, 4, "shopa", "lice")
    yield "letters moved from the audience to the subject", moved, AUDIENCE, SUBJECT
    yield (
        "a payload that is none, and a wrong tag",
        flipped(twin.signed(b"", KEY_ID, secret, 4, AUDIENCE, SUBJECT), -1),
        AUDIENCE,
        SUBJECT,
    )
    structure = cbor2.dumps(["MAC0", cbor2.dumps({1: 4}), cbor2.dumps([AUDIENCE, SUBJECT]), payload])
    underived = hmac.digest(secret, structure, "sha256")[:8]
    yield "made with the secret itself", signed(token)[:-8] + underived, AUDIENCE, SUBJECT
    yield "the hour changed, encrypted", flipped(enc, 11), AUDIENCE, SUBJECT
    yield "the key id changed, encrypted", flipped(enc, 8, 7 ^ 8), AUDIENCE, SUBJECT
    yield "the IV changed, encrypted", flipped(enc, 14), AUDIENCE, SUBJECT
    yield "the ciphertext changed, encrypted", flipped(enc, 30), AUDIENCE, SUBJECT
    yield "the tag changed, encrypted", flipped(enc, -1), AUDIENCE, SUBJECT
    yield "for another subject, encrypted", enc, AUDIENCE, "bob"
    yield "for another audience, encrypted", enc, "other", SUBJECT
    yield "a ciphertext of 16 bytes", enc[:26] + b"\x50" + bytes(16), AUDIENCE, SUBJECT


def bad_payloads() -> Iterator[tuple[str, bytes]]:
    """Authentic payloads that are no claims."""
    good = twin.payload_of(Token(OWN, expires_at=EXPIRES_AT))
    packed = cbor2.loads(good)[2]
    when = EXPIRES_AT.to_bytes(4, "big")
    dumps = cbor2.dumps
    yield "no payload", b""
    yield "no array", dumps({1: EXPIRES_AT})
    yield "an array of two", dumps([1, EXPIRES_AT])
    yield "an array of two, by its first byte alone", b"\x82" + good[1:]
    yield "an array of four", dumps([1, EXPIRES_AT, packed, 0])
    yield "an array of indefinite length", b"\x9f" + good[1:] + b"\xff"
    yield "version 0", dumps([0, EXPIRES_AT, packed])
    yield "version 2", dumps([2, EXPIRES_AT, packed])
    yield "the version in two bytes", b"\x83\x18\x01" + good[2:]
    yield "a version that is text", dumps(["1", EXPIRES_AT, packed])
    yield "no more than a version", b"\x83\x01"
    yield "the expiry in nine bytes", b"\x83\x01\x1b\0\0\0\0" + when + good[7:]
    yield "an expiry of 1 in two bytes", b"\x83\x01\x18\x01" + good[7:]
    yield "an expiry of 255 in three bytes", b"\x83\x01\x19\0\xff" + good[7:]
    yield "an expiry of 65,535 in five bytes", b"\x83\x01\x1a\0\0\xff\xff" + good[7:]
    yield "an expiry cut off", b"\x83\x01\x1a\x6b"
    yield "an expiry of 2^35", dumps([1, 2**35, packed])
    yield "an expiry of 2^64 - 1", dumps([1, 2**64 - 1, packed])
    yield "an expiry before 1970", dumps([1, -1, packed])
    yield "an expiry with a fraction", dumps([1, 1.5e9, packed])
    yield "an expiry that is tagged", b"\x83\x01\xc1\x1a" + when + good[7:]
    yield "packed claims that are text", good[:7] + bytes((0x60 | len(packed),)) + packed
    yield "packed claims of no bytes", dumps([1, EXPIRES_AT, b""])
    yield "packed claims' length in two bytes", good[:7] + bytes((0x58, len(packed))) + packed
    for size in (23, 255):
        more = twin.dumb_pack(of_size(size), EXPIRES_AT)
        yield (
            f"packed claims' length of {size} in more bytes than it takes",
            good[:7] + (b"\x58\x17" if size == 23 else b"\x59\0\xff") + more,
        )
    yield "packed claims of indefinite length", good[:7] + b"\x5f" + good[7:] + b"\xff"
    yield "packed claims that end early", good[:-1]
    yield "a byte after the payload's end", good + b"\0"


def two_faults() -> Iterator[tuple[str, str, bytes, str | None, int]]:
    """What fails at two steps, and the error of the first of them: name, error, frame, subject, time."""
    token = Token(OWN, expires_at=EXPIRES_AT)
    payload, secret, hour = twin.payload_of(token), KEYS[KEY_ID], EXPIRES_AT // 3600
    good, unheld = signed(token), twin.signed(payload, 9, KEYS[7], 4, AUDIENCE, SUBJECT)
    enc, long = twin.encrypted(payload, 9, KEYS[7], hour, IV, AUDIENCE, SUBJECT), signed(token, 5)
    malformed, before, after = "MalformedToken", EXPIRES_AT - 1, EXPIRES_AT
    yield "a byte after the frame, and a key that is not held", malformed, unheld + b"\0", SUBJECT, before
    yield "a tag cut short, and a key that is not held", malformed, unheld[:-1], SUBJECT, before
    yield "a tag cut short, algorithm 5, and a wrong tag", malformed, long[:-1], "bob", before
    yield "a byte after the frame, encrypted, and a key that is not held", malformed, enc + b"\0", SUBJECT, before
    yield "a byte after the frame, and a wrong tag", malformed, good + b"\0", "bob", before
    yield "a key that is not held, and another subject, and expired", "UnknownKey", unheld, "bob", after
    yield "expired, and for another subject", "BadSignature", good, "bob", after
    yield "expired, and for another subject, algorithm 5", "BadSignature", long, "bob", after
    none = twin.signed(b"\x83\x01\x00\x40", KEY_ID, secret, 4, AUDIENCE, SUBJECT)
    yield "expired, and no claims", malformed, none, SUBJECT, after
    yield "no claims, and for another subject", "BadSignature", none, "bob", before
    other = twin.encrypted(payload, KEY_ID, secret, hour + 1, IV, AUDIENCE, SUBJECT)
    yield "expired, and encrypted under the key of another hour", malformed, other, SUBJECT, after
    yield "encrypted under the key of another hour, for another subject", "BadSignature", other, "bob", before
