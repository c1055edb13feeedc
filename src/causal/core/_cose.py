"""COSE frames as text: COSE_Mac0 and COSE_Encrypt0 (RFC 9052), untagged, in strict base64url.

Owns the frames' bytes, the few deterministic CBOR heads (RFC 8949, 4.2) that they need, and the text. Knows no key and no
claims: it neither makes nor checks a tag. Anything but one whole frame in its one spelling raises MalformedToken.
"""

from __future__ import annotations

import binascii
from typing import Final, NamedTuple

from causal.core._bits import bad
from causal.errors import ConfigError

MAX_CHARS: Final = 4096
"""No longer text is looked at."""

# --- deterministic CBOR ----------------------------------------------------------------------------------------------

UINT: Final = 0x00
BSTR: Final = 0x40
TSTR: Final = 0x60


def head(major: int, n: int) -> bytes:
    """Return the shortest CBOR head of a major type and its number."""
    if n < 24:
        return bytes((major | n,))
    if n < 1 << 8:
        return bytes((major | 24, n))
    if n < 1 << 16:
        return bytes((major | 25,)) + n.to_bytes(2, "big")
    if n < 1 << 32:
        return bytes((major | 26,)) + n.to_bytes(4, "big")
    return bytes((major | 27,)) + n.to_bytes(8, "big")


_BSTR_HEADS: Final = tuple(head(BSTR, n) for n in range(256))
_TSTR_HEADS: Final = tuple(head(TSTR, n) for n in range(256))


def bstr(data: bytes) -> bytes:
    """Return a CBOR byte string."""
    n = len(data)
    return (_BSTR_HEADS[n] if n < 256 else head(BSTR, n)) + data


def tstr(text: str) -> bytes:
    """Return a CBOR text string. Raises: UnicodeEncodeError for a lone surrogate."""
    data = text.encode()
    n = len(data)
    return (_TSTR_HEADS[n] if n < 256 else head(TSTR, n)) + data


def read_head(data: bytes, at: int, major: int) -> tuple[int, int]:
    """Read a head of one major type in its shortest form: its number, and where the next item starts."""
    if at >= len(data) or data[at] & 0xE0 != major:
        raise bad("unexpected CBOR type")
    n = data[at] & 0x1F
    if n < 24:
        return n, at + 1
    if n > 27:
        raise bad("a CBOR head that is not deterministic")
    end = at + 1 + (1 << n - 24)
    value = int.from_bytes(data[at + 1 : end], "big")
    if end > len(data) or head(major, value) != data[at:end]:
        raise bad("a CBOR head that is not deterministic")
    return value, end


# --- the frame: COSE_Mac0 and COSE_Encrypt0 (RFC 9052), untagged ---------------------------------------------------------

HMAC_256_64: Final = 4
HMAC_256_256: Final = 5
A256GCM: Final = 3
TAG_BYTES: Final = {HMAC_256_64: 8, HMAC_256_256: 32}
IV_BYTES: Final = 12
_BYTE: Final = tuple(bytes((n,)) for n in range(256))
_GCM_TAG_BYTES: Final = 16
_HOUR_BYTES: Final = 3  # of the hour of expiry: enough until the year 3883
_PROTECTED: Final = {alg: bstr(bytes((0xA1, 0x01, alg))) for alg in (HMAC_256_64, HMAC_256_256, A256GCM)}  # {1: alg}
_MAC_HEAD: Final = {alg: b"\x84" + _PROTECTED[alg] + b"\xa1\x04\x41" for alg in TAG_BYTES}  # then the key id
_ENC_HEAD: Final = b"\x83" + _PROTECTED[A256GCM] + b"\xa2\x04\x44"  # then key id and hour
_IV_HEAD: Final = b"\x05\x4c"
_MAC_STRUCTURE: Final = {alg: b"\x84\x64MAC0" + _PROTECTED[alg] for alg in TAG_BYTES}
_ENC_STRUCTURE: Final = b"\x83\x68Encrypt0" + _PROTECTED[A256GCM]


class Mac0(NamedTuple):
    """The parts of a COSE_Mac0 frame. Thread-safety: immutable."""

    alg: int
    key_id: int
    payload: bytes
    tag: bytes


class Encrypt0(NamedTuple):
    """The parts of a COSE_Encrypt0 frame. `hour` names the hour that its key is derived for. Thread-safety: immutable."""

    key_id: int
    hour: int
    iv: bytes
    ciphertext: bytes


def mac_structure(alg: int, aad: bytes, payload: bytes) -> bytes:
    """Return the bytes that a Mac0 tag is made over (RFC 9052, 6.3)."""
    return _MAC_STRUCTURE[alg] + bstr(aad) + bstr(payload)


def enc_structure(aad: bytes) -> bytes:
    """Return the additional data of an Encrypt0 (RFC 9052, 5.3)."""
    return _ENC_STRUCTURE + bstr(aad)


def bind(subject: str | None, audience: str) -> bytes:
    """Return the external_aad that binds a token to its subject and audience: CBOR [audience, subject or null] (I11).

    Raises: ConfigError for what is not text. None is an anonymous session, which is not the subject "".
    """
    try:
        return b"\x82" + tstr(audience) + (b"\xf6" if subject is None else tstr(subject))
    except (AttributeError, TypeError, UnicodeEncodeError):
        raise ConfigError("an audience is text, and a subject is text or None") from None


def frame_mac0(frame: Mac0) -> str:
    """Return the text of a signed token."""
    alg, key_id, payload, tag = frame
    return to_text(_MAC_HEAD[alg] + _BYTE[key_id] + bstr(payload) + bstr(tag))


def frame_encrypt0(frame: Encrypt0) -> str:
    """Return the text of an encrypted token."""
    key_id, hour, iv, ciphertext = frame
    return to_text(_ENC_HEAD + _BYTE[key_id] + hour.to_bytes(_HOUR_BYTES, "big") + _IV_HEAD + iv + bstr(ciphertext))


def parse(text: str) -> Mac0 | Encrypt0:
    """Return the parts of a token's text, none of them verified. Raises: MalformedToken for anything but one whole frame."""
    data = from_text(text)
    start = data[:8]
    for alg, expected in _MAC_HEAD.items():
        if start == expected:
            size, at = read_head(data, 9, BSTR)
            payload = data[at : at + size]
            tag_head = _BSTR_HEADS[TAG_BYTES[alg]]
            tag_at = at + size + len(tag_head)
            if data[at + size : tag_at] != tag_head or len(data) != tag_at + TAG_BYTES[alg]:
                raise bad("wrong length")
            return Mac0(alg, data[8], payload, data[tag_at:])
    if start == _ENC_HEAD and data[12:14] == _IV_HEAD:
        size, at = read_head(data, 14 + IV_BYTES, BSTR)
        if at + size != len(data) or size < _GCM_TAG_BYTES:
            raise bad("wrong length")
        return Encrypt0(data[8], int.from_bytes(data[9:12], "big"), data[14 : 14 + IV_BYTES], data[at:])
    raise bad("unknown frame")


# --- text: base64url without padding (RFC 4648, 5), one spelling ---------------------------------------------------------

_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_FROM_URL: Final = bytes.maketrans(b"-_+/=", b"+/!!!")  # the standard alphabet and padding become invalid
_LAST: Final = {2: frozenset("AQgw"), 3: frozenset("AEIMQUYcgkosw048")}  # last characters whose unused bits are zero


def to_text(data: bytes) -> str:
    """Return base64url without padding."""
    return binascii.b2a_base64(data, newline=False).translate(_TO_URL).rstrip(b"=").decode()


def from_text(text: str) -> bytes:
    """Return the bytes of a text of at most 4,096 characters. Raises: MalformedToken for any but the one spelling."""
    if not isinstance(text, str):
        raise bad(f"text expected, not {type(text).__name__}")
    if len(text) > MAX_CHARS:
        raise bad(f"{len(text)} characters, at most {MAX_CHARS}")
    if not text.isascii():
        raise bad("characters outside the alphabet")
    rest = len(text) & 3
    if rest and text[-1] not in _LAST.get(rest, ""):
        raise bad("a last character with unused bits" if rest > 1 else "wrong length")
    try:
        return binascii.a2b_base64(text.encode().translate(_FROM_URL) + b"=="[: -rest & 3], strict_mode=True)
    except binascii.Error:
        raise bad("characters outside the alphabet") from None


def size_mac0(alg: int, payload: int) -> int:
    """Return how many characters a signed token with a payload of that many bytes takes."""
    return _chars(
        len(_MAC_HEAD[alg]) + 1 + len(head(BSTR, payload)) + payload + len(head(BSTR, TAG_BYTES[alg])) + TAG_BYTES[alg]
    )


def size_encrypt0(payload: int) -> int:
    """Return how many characters an encrypted token with a payload of that many bytes takes."""
    sealed = payload + _GCM_TAG_BYTES
    return _chars(len(_ENC_HEAD) + 1 + _HOUR_BYTES + len(_IV_HEAD) + IV_BYTES + len(head(BSTR, sealed)) + sealed)


def _chars(size: int) -> int:
    return (4 * size + 2) // 3
