"""COSE frames as text: COSE_Mac0 and COSE_Encrypt0 (RFC 9052), untagged, in strict base64url.

Owns the frames' bytes, the few deterministic CBOR heads (RFC 8949, 4.2) that they need, and the text. Knows no key and no
claims: it neither makes nor checks a tag. Anything but one whole frame in its one spelling raises MalformedToken.
"""

from __future__ import annotations

import binascii
import string
from typing import Final, TypeAlias

from causal.core.columns import bad
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


def unwrap(item: bytes) -> bytes:
    """Return what the one byte string that is all of `item` holds."""
    size = len(item)
    if size < 26:
        if size < 25 and item[:1] == _BSTR_HEADS[size - 1]:
            return item[1:]
    elif size < 258:
        if item[:2] == _BSTR_HEADS[size - 2]:
            return item[2:]
    elif item[:3] == head(BSTR, size - 3):
        return item[3:]
    raise bad("wrong length")


def read_uint(data: bytes, at: int) -> tuple[int, int]:
    """Read an unsigned integer in its shortest form: itself, and where the next item starts."""
    lead = data[at] if at < len(data) else 0xFF
    if lead > 0x1B:
        raise bad("a number expected")
    end = at + 1 + (1 << lead - 24 if lead >= 24 else 0)
    value = int.from_bytes(data[at + 1 : end], "big") if lead >= 24 else lead
    if head(UINT, value) != data[at:end]:
        raise bad("a number that is not in its shortest form")
    return value, end


# --- the frame: COSE_Mac0 and COSE_Encrypt0 (RFC 9052), untagged ---------------------------------------------------------

HMAC_256_64: Final = 4
HMAC_256_256: Final = 5
A256GCM: Final = 3
MACS: Final = {HMAC_256_64: 8, HMAC_256_256: 32}
"""The bytes of each algorithm's tag."""
HOUR_BYTES: Final = 3  # of the hour of expiry: enough until the year 3883
IV_BYTES: Final = 12
_GCM_TAG_BYTES: Final = 16
_BYTE: Final = tuple(bytes((n,)) for n in range(256))
_PROTECTED: Final = {alg: bstr(bytes((0xA1, 0x01, alg))) for alg in (*MACS, A256GCM)}  # {1: alg}
_MAC_HEADS: Final = {alg: b"\x84" + _PROTECTED[alg] + b"\xa1\x04\x41" for alg in MACS}  # {4: key id}
_MAC_ALGS: Final = {start: alg for alg, start in _MAC_HEADS.items()}
_MAC_64: Final = _MAC_HEADS[HMAC_256_64]
_TAG_HEADS: Final = {alg: head(BSTR, size) for alg, size in MACS.items()}
_ENC_HEAD: Final = b"\x83" + _PROTECTED[A256GCM] + b"\xa2\x04\x44"  # {4: key id and hour,
_IV_HEAD: Final = b"\x05\x4c"  # 5: IV}
MAC_STRUCTURES: Final = {alg: b"\x84\x64MAC0" + _PROTECTED[alg] for alg in MACS}
"""The start of what a Mac0's tag is made over (RFC 9052, 6.3); what `bind` returns and the payload's item follow."""
_ENC_STRUCTURE: Final = b"\x83\x68Encrypt0" + _PROTECTED[A256GCM]

Frame: TypeAlias = tuple[int, int, bytes, bytes, bytes]
"""(key id, algorithm, payload as a CBOR item, payload, tag); or (key id, A256GCM, hour and IV, ciphertext, b"").

A bare tuple, because one is made for every token opened.
"""


_AUDIENCES: Final[dict[str, bytes]] = {}
_MAX_AUDIENCES: Final = 64


def bind(subject: str | None, audience: str) -> bytes:
    """Return what binds a token to its subject and audience (I11): the external_aad, as a CBOR byte string.

    It holds the CBOR [audience, subject or null]. None is an anonymous session, which is not the subject "".
    Raises: ConfigError for what is not text.
    """
    try:
        to = _AUDIENCES[audience]
        if subject is not None:
            whose = subject.encode()
            size = len(whose)
            aad = to + (_TSTR_HEADS[size] if size < 256 else head(TSTR, size)) + whose
        else:
            aad = to + b"\xf6"
    except KeyError:
        if len(_AUDIENCES) >= _MAX_AUDIENCES:
            _AUDIENCES.clear()
        _AUDIENCES[audience] = _audience(audience)
        return bind(subject, audience)
    except (TypeError, AttributeError, UnicodeEncodeError):
        raise ConfigError("an audience is text, and a subject is text or None") from None
    return bstr(aad)


def _audience(audience: str) -> bytes:
    """Return how every binding to an audience starts."""
    try:
        to = audience.encode()
    except (AttributeError, UnicodeEncodeError):
        raise ConfigError("an audience is text, and a subject is text or None") from None
    return b"\x82" + head(TSTR, len(to)) + to


def enc_structure(bound: bytes) -> bytes:
    """Return the additional data of an Encrypt0 (RFC 9052, 5.3)."""
    return _ENC_STRUCTURE + bound


def frame_mac0(alg: int, key_id: int, item: bytes, tag: bytes) -> bytes:
    """Return a signed token; `item` is its payload as a CBOR byte string."""
    return _MAC_HEADS[alg] + _BYTE[key_id] + item + _TAG_HEADS[alg] + tag


def frame_encrypt0(key_id: int, nonce: bytes, ciphertext: bytes) -> bytes:
    """Return an encrypted token; `nonce` is hour and IV."""
    return _ENC_HEAD + _BYTE[key_id] + nonce[:HOUR_BYTES] + _IV_HEAD + nonce[HOUR_BYTES:] + bstr(ciphertext)


def parse(data: bytes) -> Frame:
    """Return the parts of a frame, none of them verified. Raises: MalformedToken for anything but one whole frame."""
    start = data[:8]
    if start == _MAC_64 and len(data) > 18 and data[-9] == 0x48:  # what most tokens are
        item = data[9:-9]
        size = len(item) - 2
        if size > 23 and item[0] == 0x58 and item[1] == size:
            return data[8], HMAC_256_64, item, item[2:], data[-8:]
        return data[8], HMAC_256_64, item, unwrap(item), data[-8:]
    alg = _MAC_ALGS.get(start)
    if alg is not None:
        tag_at = -MACS[alg]
        tag_head = _TAG_HEADS[alg]
        item = data[9 : tag_at - len(tag_head)]
        if data[tag_at - len(tag_head) : tag_at] != tag_head:
            raise bad("wrong length")
        return data[8], alg, item, unwrap(item), data[tag_at:]
    if start == _ENC_HEAD and data[12:14] == _IV_HEAD:
        ciphertext = unwrap(data[14 + IV_BYTES :])
        if len(ciphertext) < _GCM_TAG_BYTES:
            raise bad("wrong length")
        return data[8], A256GCM, data[9:12] + data[14 : 14 + IV_BYTES], ciphertext, b""
    raise bad("an empty text" if not data else "it starts as no token does")


def size_mac0(alg: int, payload: int) -> int:
    """Return how many characters a signed token with a payload of that many bytes takes."""
    return _chars(9 + len(head(BSTR, payload)) + payload + len(_TAG_HEADS[alg]) + MACS[alg])


def size_encrypt0(payload: int) -> int:
    """Return how many characters an encrypted token with a payload of that many bytes takes."""
    sealed = payload + _GCM_TAG_BYTES
    return _chars(14 + IV_BYTES + len(head(BSTR, sealed)) + sealed)


def _chars(size: int) -> int:
    return (4 * size + 2) // 3


# --- text: base64url without padding (RFC 4648, 5), one spelling ---------------------------------------------------------

_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_ALPHABET: Final = frozenset(string.ascii_letters + string.digits + "-_")
_FROM_URL: Final = bytes.maketrans(b"-_+/=", b"+/!!!")  # the standard alphabet and padding become invalid
# For each length modulo 4: the padding, and the last characters whose unused bits are zero.
_ENDS: Final = (
    (b"", ""),
    (b"", ""),
    (b"==", "AQgw"),
    (b"=", "AEIMQUYcgkosw048"),
)


def to_text(data: bytes) -> str:
    """Return base64url without padding."""
    return binascii.b2a_base64(data, newline=False).translate(_TO_URL).rstrip(b"=").decode()


def from_text(text: str) -> bytes:
    """Return the bytes of a text of at most 4,096 characters. Raises: MalformedToken for any but the one spelling."""
    if not isinstance(text, str):
        raise bad(f"text expected, not {type(text).__name__}")
    size = len(text)
    if size > MAX_CHARS:
        raise bad(f"{size} characters, at most {MAX_CHARS}")
    padding, last = _ENDS[size & 3]
    if size & 3 and text[-1] not in last:
        raise bad(_misspelt(text))
    try:
        return binascii.a2b_base64(text.encode().translate(_FROM_URL) + padding, strict_mode=True)
    except ValueError:  # binascii.Error, or UnicodeEncodeError for a lone surrogate, which holds the text:
        pass  # not to be the context of ours
    raise bad(_misspelt(text))


def _misspelt(text: str) -> str:
    """Return why a text is not the one spelling of any bytes, for who has mangled a token or pasted something else."""
    if not _ALPHABET.issuperset(text):
        return "characters other than letters, digits, - and _"
    if len(text) & 3 == 1:
        return f"{len(text)} characters, a length that no token has: cut short, or something else"
    return "it ends as no token does: cut short, changed, or something else"
