"""A dumb twin of the token: seals, opens and joins as docs/spec/token.md says, word for word, slowly.

Claims are strings of "0" and "1", one field at a time; cbor2 writes the CBOR. The twin decodes without judging: what is well formed
to it is what comes out the same when what it decoded is encoded again. It shares no code with what it checks, not even values.
"""

import base64
import binascii
import hmac
import zlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import cbor2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.spec.twins.values import (
    ANY_ORIGIN,
    EVERY_STORE,
    FOREVER,
    BadSignature,
    ConfigError,
    ExpiredToken,
    Frontier,
    MalformedToken,
    Mark,
    Token,
    TokenError,
    UnknownKey,
    pack,
)

# --- claims ------------------------------------------------------------------------------------------------------------


def number(x: int, size: int) -> str:
    """A number in so many bits."""
    return format(x, f"0{size}b") if size else ""


def alone(x: int, field: int) -> str:
    return number(x.bit_length(), field) + number(x, x.bit_length())


def bits_of_column(xs: Sequence[int], field: int) -> str:
    if len(xs) == 1:
        return alone(xs[0], field)
    low, high = min(xs), max(xs)
    width, spread = high.bit_length(), (high - low).bit_length()
    plain = alone(0, field) + number(width, field) + "".join(number(x, width) for x in xs)
    based = alone(low, field) + number(spread, field) + "".join(number(x - low, spread) for x in xs)
    return based if len(based) < len(plain) else plain


def count(n: int) -> str:
    return number(n, 5) if n < 31 else number(31, 5) + number(n, 16)


def rising(xs: Sequence[int]) -> str:
    gaps = [b - a for a, b in pairwise(xs)]
    return alone(xs[0], 6) + (bits_of_column(gaps, 6) if gaps else "")


def numbers(xs: Sequence[int]) -> str:
    return count(len(xs)) + (rising(sorted(xs)) if xs else "")


def columns(xs: Sequence[int], split: bool) -> str:
    return (
        bits_of_column([x >> 16 for x in xs], 6) + bits_of_column([x & 0xFFFF for x in xs], 5)
        if split
        else bits_of_column(xs, 7)
    )


def pays(xs: Sequence[int]) -> bool:
    return len({x // 2**16 for x in xs}) > 1 and all(x % 2**16 < 4096 for x in xs)


def dumb_pack(token: Any, base: int) -> bytes:
    """The bits of claims, of whatever holds them under the names of a `Token`."""
    own, seen = token.own.entries, token.seen.entries
    keys = sorted({*own, *seen})
    places = [(key >> 32, key & 0xFFFFFFFF) for key in keys]
    text = count(len(keys))
    if not keys:
        text += "000"
    else:
        values = [own.get(key, seen.get(key, 0)) for key in keys]
        regular = all(place == (places[0][0] + i, places[0][1]) for i, place in enumerate(places))
        split, mixed = pays(values), bool(seen or token.ages)
        text += f"{regular:d}{split:d}{mixed:d}"
        if regular:
            text += alone(places[0][0], 6) + alone(places[0][1], 6)
        else:
            text += rising([shard for shard, _ in places]) + bits_of_column([origin for _, origin in places], 6)
        text += columns(values, split)
        if mixed:
            text += bits_of_column([2 if key in own and key in seen else 1 if key in seen else 0 for key in keys], 2)
            both = [key for key in keys if key in own and key in seen]
            if both and split:
                text += bits_of_column([(seen[key] >> 16) - (own[key] >> 16) for key in both], 6)
                text += bits_of_column([seen[key] & 0xFFFF for key in both], 5)
            elif both:
                text += bits_of_column([seen[key] - own[key] for key in both], 7)
            text += "1" + bits_of_column([token.ages.get(key, 0) for key in keys], 4) if token.ages else "0"
    floors, found = token.seen.floors, token.seen.marks
    if token.timestamp is not None or floors or found:
        text += "1" + ("0" if token.timestamp is None else "1" + number(token.timestamp, 64))
        text += numbers([*floors]) + (bits_of_column([floors[s] for s in sorted(floors)], 7) if floors else "")
        text += numbers([*found])
        if found:
            times = [m.until for _, m in sorted(found.items(), key=lambda item: item[0])]
            text += bits_of_column(
                [0 if t == FOREVER else 2 * (t - base) + 1 if t >= base else 2 * (base - t) for t in times], 7
            )
        for store in sorted(found):
            listed = {shard for shard, _ in places if shard >> 16 == store}
            text += "1" if found[store].exact == listed else "0" + numbers([*found[store].exact])
            text += numbers([origin + 1 for origin in found[store].origins])
    if token.touched:
        text += "01" + numbers([*token.touched])
        text += "".join(numbers([*token.touched[store]]) for store in sorted(token.touched))
    text += "0" * (-len(text) % 8)
    return bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))


class Short(ValueError):
    """The bits end too early, or say what no token says."""


class Reader:
    """Reads fields off a string of bits, judging nothing but their presence."""

    def __init__(self, data: bytes) -> None:
        self.text = "".join(number(byte, 8) for byte in data)

    def take(self, size: int) -> int:
        if size > len(self.text):
            raise Short
        field, self.text = self.text[:size], self.text[size:]
        return int(field or "0", 2)

    def alone(self, field: int) -> int:
        return self.take(self.take(field))

    def column(self, n: int, field: int) -> list[int]:
        if n == 1:
            return [self.alone(field)]
        base = self.alone(field)
        width = self.take(field)
        if n * width > len(self.text):
            raise Short
        return [base + self.take(width) for _ in range(n)]

    def count(self) -> int:
        n = self.take(5)
        return self.take(16) if n == 31 else n

    def rising(self, n: int) -> list[int]:
        xs = [self.alone(6)]
        for gap in self.column(n - 1, 6) if n > 1 else []:
            xs.append(xs[-1] + gap)
        return xs

    def numbers(self) -> list[int]:
        n = self.count()
        return self.rising(n) if n else []

    def offsets(self, n: int, split: int) -> list[int]:
        if not split:
            return self.column(n, 7)
        return [h << 16 | w for h, w in zip(self.column(n, 6), self.column(n, 5), strict=True)]


def dumb_unpack(data: bytes, base: int) -> tuple[Token, int]:
    """What the bits say, and how many are left; nonsense raises Short."""
    r = Reader(data)
    n = r.count()
    flags = r.take(3)
    own: dict[int, int] = {}
    seen: dict[int, int] = {}
    ages: dict[int, int] = {}
    if n:
        if flags & 4:
            shard, origin = r.alone(6), r.alone(6)
            places = [(shard + i, origin) for i in range(n)]
        else:
            places = list(zip(r.rising(n), r.column(n, 6), strict=True))
        if max(shard for shard, _ in places) >= 2**32 or max(origin for _, origin in places) >= 2**32:
            raise Short
        keys = [pack(*place) for place in places]
        values = r.offsets(n, flags & 2)
        kinds = r.column(n, 2) if flags & 1 else [0] * n
        if max(kinds) > 2:
            raise Short
        own = {key: x for key, x, kind in zip(keys, values, kinds, strict=True) if kind != 1}
        seen = {key: x for key, x, kind in zip(keys, values, kinds, strict=True) if kind == 1}
        both = [(key, x) for key, x, kind in zip(keys, values, kinds, strict=True) if kind == 2]
        if both and flags & 2:
            highs, lows = r.column(len(both), 6), r.column(len(both), 5)
            seen |= {key: ((x >> 16) + h) << 16 | w for (key, x), h, w in zip(both, highs, lows, strict=True)}
        elif both:
            seen |= {key: x + d for (key, x), d in zip(both, r.column(len(both), 7), strict=True)}
        if flags & 1 and r.take(1):
            ages = dict(zip(keys, r.column(n, 4), strict=True))
        if max((*own.values(), *seen.values())) >= 2**64:
            raise Short
    timestamp, floors, found = None, {}, {}
    if r.text.startswith("1"):
        r.take(1)
        timestamp = r.take(64) if r.take(1) else None
        at = r.numbers()
        floors = dict(zip(at, r.column(len(at), 7), strict=True)) if at else {}
        at = r.numbers()
        times = r.column(len(at), 7) if at else []
        spelled = 0
        for store, z in zip(at, times, strict=True):
            listed = {key >> 32 for key in own.keys() | seen.keys() if key >> 48 == store}
            implied = r.take(1)
            exact = frozenset(listed if implied else r.numbers())
            until = FOREVER if not z else base + z // 2 if z % 2 else base - z // 2
            found[store] = Mark(until, exact, frozenset(x - 1 for x in r.numbers()))
            spelled += len(found[store].origins) + (0 if implied else len(exact))
            if spelled > 65_535:
                raise Short
            if (
                not 0 <= until <= FOREVER
                or max(exact, default=0) >= 2**32
                or max(found[store].origins, default=0) >= 2**32
            ):
                raise Short
        if max((0, *floors)) >= EVERY_STORE or max((0, *found)) > EVERY_STORE or max((0, *floors.values())) >= 2**64:
            raise Short
    touched = {}
    if r.text.startswith("01"):
        r.take(2)
        at = r.numbers()
        touched = {store: frozenset(r.numbers()) for store in at}
        if max((0, *at)) >= EVERY_STORE or max((0, *(max(x, default=0) for x in touched.values()))) >= 2**16:
            raise Short
    parts = Frontier(own), Frontier(seen, floors, found)
    said = claims_of(Token(*parts, expires_at=base, timestamp=timestamp, ages=ages, touched=touched))
    if type(base) is not int or not in_range(said):  # a float is looked for in a range number by number
        raise Short
    return token_of_claims(normal(said)), len(r.text)  # in normal form by the twin's own rules


# --- the payload, the frame, the text ------------------------------------------------------------------------------------

TAG_BYTES = {4: 8, 5: 32}
GCM = 3
BROKEN = (Short, ValueError, TypeError, LookupError, OverflowError, cbor2.CBORError)  # what nonsense ends in
MAX_CHARS = 4096
HOUR_S = 3600


def payload_of(token: Any) -> bytes:
    """The payload by the book: cbor2 writes what the wire form writes by hand."""
    return cbor2.dumps([1, token.expires_at, dumb_pack(token, token.expires_at)], canonical=True)


def token_of(payload: bytes) -> Token:
    """The claims of a payload; ValueError, or whatever a library raises, for what is none."""
    _, expires_at, packed = cbor2.loads(payload)
    token, left = dumb_unpack(packed, expires_at)
    if left >= 8 or payload_of(token) != payload:
        raise ValueError("not the one spelling of these claims")
    return token


def derived(secret: bytes, alg: int, hour: int | None = None) -> bytes:
    """RFC 5869 by hand: no salt, one block."""
    info = f"causal/1/{alg}" + ("" if hour is None else f"/{hour}")
    return hmac.digest(hmac.digest(bytes(32), secret, "sha256"), info.encode() + b"\x01", "sha256")


def mac0(payload: bytes, secret: bytes, alg: int, audience: str, subject: str | None) -> bytes:
    """The tag of a signed token."""
    aad = cbor2.dumps([audience, subject])
    structure = cbor2.dumps(["MAC0", cbor2.dumps({1: alg}), aad, payload])
    return hmac.digest(derived(secret, alg), structure, "sha256")[: TAG_BYTES[alg]]


def encrypt0_aad(audience: str, subject: str | None) -> bytes:
    return cbor2.dumps(["Encrypt0", cbor2.dumps({1: GCM}), cbor2.dumps([audience, subject])])


def signed(payload: bytes, key_id: int, secret: bytes, alg: int, audience: str, subject: str | None) -> bytes:
    tag = mac0(payload, secret, alg, audience, subject)
    return cbor2.dumps([cbor2.dumps({1: alg}), {4: bytes((key_id,))}, payload, tag], canonical=True)


def encrypted(
    payload: bytes, key_id: int, secret: bytes, hour: int, iv: bytes, audience: str, subject: str | None
) -> bytes:
    cipher = AESGCM(derived(secret, GCM, hour))
    ciphertext = cipher.encrypt(iv, payload, encrypt0_aad(audience, subject))
    headers = {4: bytes((key_id,)) + hour.to_bytes(3, "big"), 5: iv}
    return cbor2.dumps([cbor2.dumps({1: GCM}), headers, ciphertext], canonical=True)


def text_of(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def data_of(text: str) -> bytes:
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        raise MalformedToken("text") from None
    if len(text) > MAX_CHARS or text_of(data) != text:
        raise MalformedToken("text")
    return data


def dumb_open(text: str, keys: Mapping[int, bytes], audience: str, subject: str | None, now: float) -> Token:
    """Open a text as a keyring does, with the same errors."""
    data = data_of(text)
    try:
        frame = cbor2.loads(data)
        alg, headers = cbor2.loads(frame[0])[1], frame[1]
        if type(alg) is not int:  # cbor2's simple value 4 equals 4, and is written as it was read
            raise ValueError("not an algorithm")
        key_id, hour = headers[4][0], int.from_bytes(headers[4][1:], "big")
        whole = [cbor2.dumps({1: alg}), {4: headers[4]}, *frame[2:]]
        if alg == GCM:
            whole[1] |= {5: headers[5]}
            sizes = len(headers[4]) == 4, len(headers[5]) == 12, len(frame[2]) >= 16, len(frame) == 3
        else:
            sizes = len(headers[4]) == 1, len(frame[3]) == TAG_BYTES[alg], len(frame) == 4
        types = {type(item) for item in (headers[4], *frame[2:])}
        if types != {bytes} or not all(sizes) or cbor2.dumps(whole, canonical=True) != data:
            raise ValueError("not a frame")
    except BROKEN:
        raise MalformedToken("frame") from None
    if key_id not in keys:
        raise UnknownKey(key_id)
    secret, payload = keys[key_id], frame[2]
    if alg == GCM:
        cipher = AESGCM(derived(secret, GCM, hour))
        try:
            payload = cipher.decrypt(headers[5], payload, encrypt0_aad(audience, subject))
        except InvalidTag:
            raise BadSignature("tag") from None
    elif mac0(payload, secret, alg, audience, subject) != frame[3]:
        raise BadSignature("tag")
    try:
        token = token_of(payload)
    except BROKEN:
        raise MalformedToken("claims") from None
    if alg == GCM and hour != token.expires_at // HOUR_S:
        raise MalformedToken("hour")
    if now >= token.expires_at:
        raise ExpiredToken(token)
    return token


# --- claims as JSON ----------------------------------------------------------------------------------------------------


def plain_part(of: Any) -> Frontier:
    """A frontier as the twin holds it, of whatever holds one under the same names: to compare."""
    marks = {store: Mark(mark.until, mark.exact, mark.origins) for store, mark in of.marks.items()}
    return Frontier(dict(of.entries), dict(of.floors), marks)


def plain(token: Any) -> Token:
    """Claims likewise."""
    when = None if token.timestamp is None else int(token.timestamp)
    rest = {"expires_at": token.expires_at, "ages": dict(token.ages), "touched": dict(token.touched)}
    return Token(plain_part(token.own), plain_part(token.seen), timestamp=when, **rest)


def positions(frontier: Frontier) -> list[Any]:
    return [[key >> 32, key & 0xFFFFFFFF, str(offset)] for key, offset in sorted(frontier.entries.items())]


def claims_of(token: Token) -> dict[str, Any]:
    """What a token says. Numbers of 64 bits are decimal text: not every reader of JSON has such numbers."""
    claims: dict[str, Any] = {"expires_at": token.expires_at}
    claims |= {name: positions(part) for name, part in (("own", token.own), ("seen", token.seen)) if part.entries}
    if token.ages:
        claims["ages"] = [[key >> 32, key & 0xFFFFFFFF, hours] for key, hours in sorted(token.ages.items())]
    if token.timestamp is not None:
        claims["timestamp"] = str(token.timestamp)
    if token.seen.floors:
        claims["floors"] = [[store, str(floor)] for store, floor in sorted(token.seen.floors.items())]
    if token.seen.marks:
        claims["marks"] = [
            {
                "store": store,
                "until": "forever" if mark.until == FOREVER else str(mark.until),
                "exact": sorted(mark.exact),
                "origins": "any" if ANY_ORIGIN in mark.origins else sorted(mark.origins),
            }
            for store, mark in sorted(token.seen.marks.items())
        ]
    if token.touched:
        claims["touched"] = [[store, sorted(found)] for store, found in sorted(token.touched.items())]
    return claims


def token_of_claims(claims: dict[str, Any]) -> Token:
    """Undo `claims_of`."""
    own, seen = (
        {pack(shard, origin): int(offset) for shard, origin, offset in claims.get(part, [])} for part in ("own", "seen")
    )
    marks = {
        mark["store"]: Mark(
            FOREVER if mark["until"] == "forever" else int(mark["until"]),
            frozenset(mark["exact"]),
            frozenset({ANY_ORIGIN} if mark["origins"] == "any" else mark["origins"]),
        )
        for mark in claims.get("marks", [])
    }
    floors = {store: int(floor) for store, floor in claims.get("floors", [])}
    return Token(
        Frontier(own),
        Frontier(seen, floors, marks),
        expires_at=claims["expires_at"],
        timestamp=int(claims["timestamp"]) if "timestamp" in claims else None,
        ages={pack(shard, origin): hours for shard, origin, hours in claims.get("ages", [])},
        touched={store: frozenset(found) for store, found in claims.get("touched", [])},
    )


def in_range(claims: dict[str, Any]) -> bool:
    """Whether all numbers of claims are in the ranges of the two tables."""
    shards, origins, offsets, stores = range(2**32), range(2**32), range(2**64), range(65_535)
    marks = claims.get("marks", [])
    return all(
        (
            claims["expires_at"] in range(2**35),
            int(claims.get("timestamp", 0)) in offsets,
            *(s in shards and o in origins and int(x) in offsets for s, o, x in claims.get("own", [])),
            *(s in shards and o in origins and int(x) in offsets for s, o, x in claims.get("seen", [])),
            *(hours >= 0 for _, _, hours in claims.get("ages", [])),
            *(store in stores and int(x) in offsets for store, x in claims.get("floors", [])),
            *(mark["store"] in range(65_536) and all(s in shards for s in mark["exact"]) for mark in marks),
            *(mark["until"] == "forever" or int(mark["until"]) < 2**63 - 1 for mark in marks),
            *(mark["origins"] == "any" or all(o in origins for o in mark["origins"]) for mark in marks),
            *(store in stores and all(x in range(2**16) for x in found) for store, found in claims.get("touched", [])),
        )
    )


def normal(claims: dict[str, Any]) -> dict[str, Any]:
    """The same claims in normal form; their order is left to who writes them."""
    own = {(shard, origin): int(offset) for shard, origin, offset in claims.get("own", [])}
    ahead = [p for p in claims.get("seen", []) if int(p[2]) > own.get((p[0], p[1]), -1)]
    listed = {*own} | {(shard, origin) for shard, origin, _ in ahead}
    ages = [[s, o, min(hours, 32_767)] for s, o, hours in claims.get("ages", []) if hours and (s, o) in listed]
    written = {shard >> 16 for shard, _ in own}
    touched = [[store, found] for store, found in claims.get("touched", []) if store in written and len(found) <= 12]
    return {**claims, "seen": ahead, "ages": ages, "touched": touched}


def dumb_seal(
    claims: dict[str, Any],
    alg: int,
    key_id: int,
    secret: bytes,
    iv: bytes,
    audience: str,
    subject: str | None,
) -> tuple[bytes, str]:
    """The payload and the text."""
    if not in_range(claims):
        raise ConfigError("out of range")
    if any(mark["until"] != "forever" and int(mark["until"]) < 0 for mark in claims.get("marks", [])):
        raise TokenError("before 1970")
    token = token_of_claims(normal(claims))
    payload = payload_of(token)
    if alg == GCM:
        hour = token.expires_at // HOUR_S
        text = text_of(encrypted(payload, key_id, secret, hour, iv, audience, subject))
    else:
        text = text_of(signed(payload, key_id, secret, alg, audience, subject))
    if len(text) > MAX_CHARS:
        raise TokenError("too long")
    return payload, text


def characters(claims: dict[str, Any], alg: int) -> int:
    """How long the text of claims is."""
    payload = payload_of(token_of_claims(claims))
    if alg == GCM:
        return len(text_of(encrypted(payload, 0, bytes(32), 0, bytes(12), "", None)))
    return len(text_of(signed(payload, 0, bytes(32), alg, "", None)))


# --- joining: claims as vectors have them, as plain lists and dicts ----------------------------------------------------------


def crc16(key: str) -> str:
    """The fingerprint of a key."""
    return f"{zlib.crc32(key.encode()) % 65_536:04x}"


def dumb_join(tokens: list[dict[str, Any]], now: int, ttl_s: int) -> dict[str, Any]:
    """What tokens demand together, as it would be sealed at `now` to live `ttl_s`; without `expires_at`."""
    own: dict[tuple[int, int], int] = {}
    seen: dict[tuple[int, int], int] = {}
    learned: dict[tuple[int, int], int] = {}
    floors: dict[int, int] = {}
    marks: dict[int, dict[str, Any]] = {}
    for token in tokens:
        aged = {(shard, origin): hours for shard, origin, hours in token.get("ages", [])}
        for name, joined in (("own", own), ("seen", seen)):
            for shard, origin, offset in token.get(name, []):
                place = shard, origin
                joined[place] = max(joined.get(place, 0), int(offset))
                expiry = token["expires_at"] - 3600 * aged.get(place, 0)
                learned[place] = max(learned.get(place, expiry - ttl_s), expiry - ttl_s)
        for store, floor in token.get("floors", []):
            floors[store] = max(floors.get(store, 0), int(floor))
        for mark in token.get("marks", []):
            if mark["until"] != "forever" and int(mark["until"]) <= now:
                continue
            before = marks.get(mark["store"], mark)
            anyway = "any" in (before["origins"], mark["origins"])
            forever = "forever" in (before["until"], mark["until"])
            marks[mark["store"]] = {
                "store": mark["store"],
                "until": "forever" if forever else str(max(int(before["until"]), int(mark["until"]))),
                "exact": sorted({*before["exact"]} & {*mark["exact"]}),
                "origins": "any" if anyway else sorted({*before["origins"], *mark["origins"]}),
            }
    touched = {}
    for store in {store for token in tokens for store, _ in token.get("touched", [])}:
        union: set[int] | None = set()
        for token in tokens:
            wrote = any(shard >> 16 == store for shard, _, _ in token.get("own", []))
            filters = dict(token.get("touched", []))
            if wrote and store not in filters:
                union = None
            if union is not None:
                union |= {*filters.get(store, [])}
        if union is not None and len(union) <= 12:
            touched[store] = sorted(union)
    ages = {place: min((now - then) // 3600, 32_767) for place, then in learned.items() if now - then >= 3600}
    left = {place: offset for place, offset in seen.items() if offset > own.get(place, -1)}
    claims = {
        "own": [[*place, str(offset)] for place, offset in sorted(own.items())],
        "seen": [[*place, str(offset)] for place, offset in sorted(left.items())],
        "ages": [[*place, hours] for place, hours in sorted(ages.items())],
        "floors": [[store, str(floor)] for store, floor in sorted(floors.items())],
        "marks": [mark for _, mark in sorted(marks.items())],
        "touched": [[store, found] for store, found in sorted(touched.items())],
    }
    return {name: said for name, said in claims.items() if said}
