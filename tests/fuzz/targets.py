"""What is fuzzed: each target's name, function, where it starts from and how long its inputs may be."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cbor2

from tests.fuzz import others, tokens
from tests.spec.twins import token as twin

CORPUS = Path(__file__).parent / "corpus"
VECTORS = Path(__file__).parents[2] / "docs" / "spec" / "vectors" / "token.json"


class Target(NamedTuple):
    """A function of bytes that raises if something is wrong, and returns what came of them."""

    run: Callable[[bytes], tuple[str, object]]
    most: int
    """Bytes of an input: a few more than make the longest token."""
    main: bool = False
    bits: bool = False
    """Whether its inputs are packed claims: fields of bits."""


TARGETS = {
    "text": Target(tokens.text, 4200, main=True),
    "frame": Target(tokens.frame, 3100, main=True),
    "payload": Target(tokens.payload, 3100, main=True),
    "claims": Target(tokens.claims, 3100, main=True, bits=True),
    "encrypted": Target(tokens.encrypted, 3100, main=True),
    "frontier": Target(tokens.frontier, 4096, bits=True),
    "carrier": Target(others.carrier, 4096),
    "cookies": Target(others.cookies, 4096),
    "headers": Target(others.headers, 4096),
    "timestamp": Target(others.timestamp, 64),
    "line": Target(others.line, 4096),
    "entry": Target(others.entry, 4096),
}


def corpus(name: str) -> list[Path]:
    """Return the inputs that are kept for a target."""
    return sorted((CORPUS / name).iterdir()) if (CORPUS / name).is_dir() else []


def seeds(name: str) -> Iterator[bytes]:
    """Yield what the vectors and a few written examples give a target to start from."""
    vectors = json.loads(VECTORS.read_text(encoding="utf-8"))["vectors"]
    texts = [vector["in"]["text"] for vector in vectors if vector["op"] == "token.open"]
    payloads = [bytes.fromhex(v["out"]["payload"]) for v in vectors if v["op"] == "token.seal" and "out" in v]
    payloads += [payload for text in texts if (payload := _payload(text)) is not None]
    for text in texts if name in {"text", "frame"} else ():
        if name == "text":
            yield text.encode("utf-8", "surrogatepass")
        else:
            try:
                yield base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            except ValueError:
                continue
    for payload in dict.fromkeys(payloads):
        try:
            _, expires_at, packed = cbor2.loads(payload)
            hour = (expires_at // twin.HOUR_S).to_bytes(3, "big")
            packed = bytes(packed)
        except (*twin.BROKEN, AttributeError):
            hour, packed = bytes(3), b""
        match name:
            case "payload":
                yield b"\x04" + payload
            case "claims":
                yield b"\x00" + packed
            case "encrypted":
                yield b"\x00" + hour + payload
            case "frontier":
                yield packed
            case "entry":
                head = b"\x00\x01" + bytes(7) + b"\x01" + bytes(7) + b"\x05" + (1_800_000_000_000).to_bytes(8, "big")
                yield b"\xcaC\x01V" + head + len(packed).to_bytes(4, "big") + packed + b"value"
                yield b"\xcaC\x01T" + head
            case _:
                break
    yield from WRITTEN.get(name, ())


def _payload(text: str) -> bytes | None:
    """Return what a text that is refused holds as its payload, if anything that is short."""
    try:
        frame = cbor2.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        payload = frame[2]
    except (*twin.BROKEN, AttributeError):
        return None
    return payload if isinstance(payload, bytes) and len(payload) < 200 else None


WRITTEN: dict[str, tuple[bytes, ...]] = {
    "text": (b"hEOhAeShBEEHSYMBGmtJ0gBB-Ej3rouP6uh_sg",),  # an algorithm that is the simple value 4
    "carrier": (b"Causal-Token:abc\nx:y\ncausal-token: def , ghi", b"causal-token:" + b",".join(b"%d" % i for i in range(20))),
    "cookies": (b"__Host-causal-1=abc; causal-2=def;a=b", b"causal-a=1\n__Host-causal-b=2; __Host-causal-b=3"),
    "headers": (
        b'Cache-Control:public, max-age=5, no-cache="a, b"\nSurrogate-Control:max-age=5',
        b"X-Accel-Expires:5\nAccess-Control-Expose-Headers:x\naccess-control-allow-origin:*",
    ),
    "timestamp": (b"018bcfe56800.0003", b"ffffffffffff.ffff", b"018BCFE56800.0003"),
    "line": (
        b'{"op":"write","session":"a","seq":0,"key":"x","value":1,"version":[1,5],"ok":true,"shard":0,"stamp":3}',
        b'{"op":"read","session":"a","seq":1,"key":"x","watermark":{"1":5},"held":false,"how":"covered","at":1.5}',
        b'{"op":"end","shard":0,"origin":1,"offset":9}',
        b'{"op":"meta","any":[1,{"x":null}]}',
        b'{"op":"lost","session":"a","seq":2,"shard":0,"version":[1,7]}',
    ),
}  # fmt: skip
