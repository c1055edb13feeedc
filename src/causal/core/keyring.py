"""Keyring: claims sealed into text for one subject and audience, and opened again.

Owns keys, what is derived from them, rotation and the cache of opened tokens. Knows nothing of files, environment, time or
logs: keys and the time are arguments; `causal.keys` reads files and the environment.

HAZARD: whoever holds a key can seal any demand for anyone. A token weakens nothing that it does not hold, but a forged one
can demand too little: keys belong to the servers, never to clients.
"""

from __future__ import annotations

import secrets
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from causal.core import cose
from causal.core.cose import A256GCM, HMAC_256_64, HMAC_256_256, HOUR_BYTES, IV_BYTES, MAC_STRUCTURES, MACS, MAX_CHARS
from causal.core.token import HOUR_S, Token
from causal.core.wire import decode_claims, encode_claims
from causal.errors import BadSignature, ConfigError, ExpiredToken, MalformedToken, TokenError, UnknownKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from causal.core.frontier import Frontier

Profile: TypeAlias = Literal["signed", "encrypted"]

SECRET_BYTES: Final = 32
CACHED_CHARS: Final = 512
"""No longer token is remembered once opened, nor one that lists more: so many of the usual size cost little memory."""
_HOURS: Final = 64  # derived keys remembered: more than the hours in which live tokens expire
_WRONG: Final = "the token does not verify: forged, damaged, or sealed for another subject or audience"


@attrs.frozen
class Key:
    """One secret and the number that tokens name it by.

    Raises: ConfigError unless `id` is in 0..255 and `secret` is 32 bytes. Thread-safety: immutable.
    """

    id: int
    secret: bytes = attrs.field(repr=False)

    def __attrs_post_init__(self) -> None:
        if type(self.id) is not int or not 0 <= self.id <= 255:
            shown = (
                self.id if type(self.id) is int else type(self.id).__name__
            )  # perhaps the secret, in the wrong place
            raise ConfigError(f"a key id is in 0..255, not {shown}")
        if type(self.secret) is not bytes or len(self.secret) != SECRET_BYTES:
            raise ConfigError(f"the secret of key {self.id} is not {SECRET_BYTES} bytes")

    @classmethod
    def generate(cls, key_id: int | None = None) -> Self:
        """Return a key with a fresh random secret, and a random id unless one is given."""
        return cls(secrets.randbelow(256) if key_id is None else key_id, secrets.token_bytes(SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the key that `to_text` wrote. Raises: ConfigError, which does not show the text."""
        number, colon, secret = text.partition(":")
        try:
            if not (colon and number.isascii() and number.isdigit() and len(number) <= 3):
                raise ConfigError("a key is written ID:SECRET, the secret in base64url without padding")
            return cls(int(number), cose.from_text(secret))
        except MalformedToken:
            raise ConfigError(f"the secret of key {number} is not base64url without padding") from None

    def to_text(self) -> str:
        """Return `ID:SECRET`. HAZARD: this is the secret itself; it belongs in a secret store and nowhere else."""
        return f"{self.id}:{cose.to_text(self.secret)}"


class _Derived:
    """What one key is used as: a key for each purpose (RFC 5869), so that no two algorithms share one."""

    __slots__ = ("_ciphers", "_macs", "id", "secret")

    def __init__(self, key: Key) -> None:
        self.id = key.id
        self.secret = key.secret
        self._ciphers: dict[int, AESGCM] = {}
        self._macs = {alg: (*_hmac_states(derive(key.secret, alg)), MAC_STRUCTURES[alg], MACS[alg]) for alg in MACS}

    def tag(self, alg: int, bound: bytes, item: bytes) -> bytes:
        inner, outer, structure, size = self._macs[alg]
        inner = inner.copy()
        inner.update(structure + bound + item)
        outer = outer.copy()
        outer.update(inner.digest())
        tag: bytes = outer.digest()[:size]
        return tag

    def cipher(self, hour: int) -> AESGCM:
        return self._ciphers.get(hour) or AESGCM(derive(self.secret, A256GCM, hour))

    def remember(self, hour: int, cipher: AESGCM) -> None:
        """Keep an hour's cipher once something authentic used it: forged hours must not fill the table."""
        if hour not in self._ciphers:
            if len(self._ciphers) >= _HOURS:
                self._ciphers = {}
            self._ciphers[hour] = cipher

    def decrypted(self, nonce: bytes, ciphertext: bytes, bound: bytes) -> bytes | None:
        """Return the payload, or None if it is not this key's, or not bound so. `nonce` is hour and IV."""
        hour = int.from_bytes(nonce[:HOUR_BYTES], "big")
        cipher = self.cipher(hour)
        try:
            payload = cipher.decrypt(nonce[HOUR_BYTES:], ciphertext, cose.enc_structure(bound))
        except InvalidTag:
            return None
        self.remember(hour, cipher)
        return payload


def derive(secret: bytes, alg: int | str, hour: int | None = None) -> bytes:
    """Return the 32-byte key for one COSE algorithm, or another purpose: HKDF-SHA256 without salt, info "causal/1/ALG" (and "/HOUR").

    Units: `hour` is `expires_at` // 3600 of the tokens that it encrypts.
    """
    info = f"causal/1/{alg}" if hour is None else f"causal/1/{alg}/{hour}"
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info.encode()).derive(secret)


def _hmac_states(key: bytes) -> tuple[Any, Any]:
    """Return SHA-256 states that have read the two padded keys (RFC 2104): copying them is half the cost of hmac.new."""
    block = key.ljust(64, b"\0")
    return sha256(bytes(b ^ 0x36 for b in block)), sha256(bytes(b ^ 0x5C for b in block))


class _Ring:
    """One set of keys and what was opened with it: replaced whole when the keys change, so no removed key is ever served.

    Two generations are a cheap least-recently-used: threads that race there lose cached tokens, never correctness.
    """

    __slots__ = ("keys", "older", "opened", "primary")

    def __init__(self, keys: Mapping[int, _Derived], primary: int) -> None:
        self.keys = keys
        self.primary = keys[primary]
        self.opened: dict[tuple[str, str | None, str], Token] = {}
        self.older: dict[tuple[str, str | None, str], Token] = {}


class Keyring:
    """Keys that seal and open tokens: the primary one seals, all of them open.

    Rotate in two steps, so that no process meets a key that it does not have: `add` everywhere, then `promote`, and `drop` the old
    key once its last token expired. `profile` and `tag_bits` choose how this keyring seals; it opens whatever its keys sealed.
    `cache` is about how many opened tokens are remembered, so that opening one again is nearly free.

    Raises: ConfigError for no keys, or an id twice. Invariant: for the signed profile, `open` then `seal` with the same key gives
    the same text (I10); a text opens only for its subject and audience (I11). Thread-safety: `seal` and `open` from any thread, at
    any time; `add`, `promote` and `drop` one at a time (`causal.Keyring` sees to that itself).
    """

    generated: bool = False
    """Whether the keys were made in this process: another process cannot open its tokens, unless it was given them."""

    def __init__(
        self,
        keys: Iterable[Key],
        *,
        primary: int | None = None,
        profile: Profile = "signed",
        tag_bits: Literal[64, 256] = 64,
        cache: int = 2048,
    ) -> None:
        if profile not in {"signed", "encrypted"}:
            raise ConfigError(f'profile is "signed" or "encrypted", not {profile!r}')
        if tag_bits not in {64, 256}:
            raise ConfigError(f"tag_bits is 64 or 256, not {tag_bits!r}")
        if cache < 0:
            raise ConfigError(f"cache is a number of opened tokens to remember, 0 for none, not {cache!r}")
        self.profile: Final[Profile] = profile
        self._cached = cache
        self._alg = HMAC_256_64 if tag_bits == 64 else HMAC_256_256
        self._ring = _ring(keys, primary)

    @classmethod
    def generate(cls, *, profile: Profile = "signed", tag_bits: Literal[64, 256] = 64, cache: int = 2048) -> Self:
        """Return a keyring with one fresh key. HAZARD: only this process (and those it gives the key to) can open its tokens."""
        ring = cls([Key.generate()], profile=profile, tag_bits=tag_bits, cache=cache)
        ring.generated = True
        return ring

    @classmethod
    def parse(
        cls, text: str, *, profile: Profile = "signed", tag_bits: Literal[64, 256] = 64, cache: int = 2048
    ) -> Self:
        """Return a keyring of `ID:SECRET[,ID:SECRET...]`; the first is the primary. Raises: ConfigError, which shows no secret."""
        keys = [Key.parse(part.strip()) for part in text.split(",")]
        return cls(keys, profile=profile, tag_bits=tag_bits, cache=cache)

    # --- keys ----------------------------------------------------------------------------------------------------------

    @property
    def key_ids(self) -> tuple[int, ...]:
        """The ids of the keys that open, in ascending order."""
        return tuple(sorted(self._ring.keys))

    @property
    def primary_id(self) -> int:
        """The id of the key that seals."""
        return self._ring.primary.id

    def pseudonym_key(self) -> bytes:
        """Return 32 bytes that are derived from the primary key, for keyed digests of names and tokens; they open and seal nothing."""
        return derive(self._ring.primary.secret, "pseudonyms")

    def add(self, key: Key) -> None:
        """Open with one more key; what seals stays. Raises: ConfigError if its id is taken."""
        ring = self._ring
        if key.id in ring.keys:
            raise ConfigError(f"key {key.id} is in this keyring already")
        self._ring = _Ring({**ring.keys, key.id: _Derived(key)}, ring.primary.id)

    def promote(self, key_id: int) -> None:
        """Seal with another key that this keyring has. Raises: ConfigError if it has not."""
        self._ring = _Ring(self._ring.keys, self._held(key_id))

    def drop(self, key_id: int) -> None:
        """Forget a key: its tokens raise UnknownKey from now on. Raises: ConfigError for the primary, or one not held."""
        ring = self._ring
        if self._held(key_id) == ring.primary.id:
            raise ConfigError(f"key {key_id} is the primary: promote another key before dropping it")
        self._ring = _Ring({i: k for i, k in ring.keys.items() if i != key_id}, ring.primary.id)

    def _replace(self, keys: Iterable[Key], primary: int) -> None:
        """Take other keys, all at once."""
        self._ring = _ring(keys, primary)

    def _current(self) -> _Ring:
        """Return the keys as they are now: `KeyFile` looks at its file first."""
        return self._ring

    def _held(self, key_id: int) -> int:
        if key_id not in self._ring.keys:
            raise ConfigError(f"key {key_id} is not in this keyring: it has {', '.join(map(str, self.key_ids))}")
        return key_id

    # --- seal and open ---------------------------------------------------------------------------------------------------

    def seal(self, token: Token, *, subject: str | None, audience: str) -> str:
        """Return the text of a token, bound to a subject (None: anonymous) and an audience.

        Raises: TokenError for claims that make more than 4,096 characters (`Token.fit` makes them shorter); ConfigError for a
        subject or audience that is not text.
        """
        return self._sealed(self._ring.primary, token, encode_claims(token), subject, audience)

    def _sealed(self, key: _Derived, token: Token, payload: bytes, subject: str | None, audience: str) -> str:
        bound = cose.bind(subject, audience)
        if self.profile == "signed":
            item = cose.bstr(payload)
            data = cose.frame_mac0(self._alg, key.id, item, key.tag(self._alg, bound, item))
        else:
            hour = token.expires_at // HOUR_S
            cipher = key.cipher(hour)
            key.remember(hour, cipher)
            iv = self._iv()
            sealed = cipher.encrypt(iv, payload, cose.enc_structure(bound))
            data = cose.frame_encrypt0(key.id, hour.to_bytes(HOUR_BYTES, "big") + iv, sealed)
        text = cose.to_text(data)
        if len(text) > MAX_CHARS:
            raise TokenError(
                f"the token takes {len(text)} characters, more than {MAX_CHARS}: compact its claims (Token.fit)"
            )
        return text

    def _iv(self) -> bytes:
        """Return what no two encrypted tokens share."""
        return secrets.token_bytes(IV_BYTES)

    def size(self, token: Token) -> int:
        """Return how many characters `seal` would make of a token: the size that `Token.fit` asks for."""
        return self._size(len(encode_claims(token)))

    def _size(self, payload: int) -> int:
        return cose.size_encrypt0(payload) if self.profile == "encrypted" else cose.size_mac0(self._alg, payload)

    def seal_within(
        self,
        token: Token,
        limit: int,
        *,
        subject: str | None,
        audience: str,
        until: int,
        now: float,
        floor: Mapping[int, int] | None = None,
        replicated: Callable[[], Frontier] | None = None,
        stores: Iterable[int] | None = None,
    ) -> str:
        """Return the text of a token whose claims are made to fit `limit` characters: `Token.fit`, then `seal`.

        `replicated` is called only if they do not fit as they are: most do. Opening the text again here costs as little as the second
        time.
        """
        ring, payload = self._current(), encode_claims(token)
        if self._size(len(payload)) > limit:
            known = None if replicated is None else replicated()
            token = token.fit(self.size, limit, until=until, now=now, floor=floor, replicated=known, stores=stores)
            payload = encode_claims(token)
        text = self._sealed(ring.primary, token, payload, subject, audience)
        self._remember(ring, text, subject, audience, token)  # whoever is given it presents it next
        return text

    def open(self, text: str, *, subject: str | None, audience: str, now: float) -> Token:
        """Return the claims of a text that a key of this keyring sealed for this subject and audience.

        Units: `now` in Unix seconds. Raises: MalformedToken, UnknownKey, BadSignature, and ExpiredToken, whose `.token` holds the
        authentic claims.
        """
        ring = self._ring
        token = None
        if ring.opened:
            try:
                token = ring.opened.get((text, subject, audience))
            except TypeError:  # unhashable, so not text: what it is not is said where it is read
                token = None
        if token is None:
            token = self._open(ring, text, subject, audience)
        if now < token.expires_at:
            return token
        raise ExpiredToken(token, expires_at=token.expires_at, now=now)

    def _open(self, ring: _Ring, text: str, subject: str | None, audience: str) -> Token:
        token = ring.older.get((text, subject, audience)) if ring.older else None
        if token is None:
            number, alg, item, content, tag = cose.parse(cose.from_text(text))
            key = ring.keys.get(number)
            if key is None:
                raise self._unopened(UnknownKey(number))
            bound = cose.bind(subject, audience)
            if alg == A256GCM:
                token = self._decrypted(key, item, content, bound)
            elif compare_digest(key.tag(alg, bound, item), tag):
                token = decode_claims(content)
            else:
                raise self._unopened(BadSignature(_WRONG))
        self._remember(ring, text, subject, audience, token)
        return token

    def _remember(self, ring: _Ring, text: str, subject: str | None, audience: str, token: Token) -> None:
        """Keep the claims of a text with the very keys that sealed or opened it: they go when these do."""
        if self._cached and len(text) <= CACHED_CHARS and token.listed <= CACHED_CHARS:
            opened = ring.opened
            if 2 * len(opened) >= self._cached:
                ring.older, ring.opened = opened, (opened := {})
            opened[text, subject, audience] = token

    def _decrypted(self, key: _Derived, nonce: bytes, ciphertext: bytes, bound: bytes) -> Token:
        payload = key.decrypted(nonce, ciphertext, bound)
        if payload is None:
            raise self._unopened(BadSignature(_WRONG))
        token = decode_claims(payload)
        if token.expires_at // HOUR_S != int.from_bytes(nonce[:HOUR_BYTES], "big"):
            raise MalformedToken("not a token: encrypted under the key of another hour")
        return token

    def _unopened(self, error: TokenError) -> TokenError:
        """Take note of a well-formed token that does not open: nothing here; `causal.Keyring` warns of generated keys."""
        return error

    def __repr__(self) -> str:
        return f"{type(self).__name__}(keys {list(self.key_ids)}, primary {self.primary_id}, {self.profile})"


def _ring(keys: Iterable[Key], primary: int | None = None) -> _Ring:
    derived: dict[int, _Derived] = {}
    for key in keys:
        if key.id in derived:
            raise ConfigError(f"key {key.id} is listed twice")
        derived[key.id] = _Derived(key)
    if not derived:
        raise ConfigError("a keyring needs at least one key")
    if primary is None:
        primary = next(iter(derived))
    elif primary not in derived:
        raise ConfigError(f"the primary key {primary} is not among the keys")
    return _Ring(derived, primary)
