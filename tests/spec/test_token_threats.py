"""What docs/spec/token.md says of threats, as far as a test can show it: which work is done before a token is known to be authentic."""

import hmac
import json
from typing import Any

import pytest

from causal import BadSignature, Key, Keyring, MalformedToken, Token, UnknownKey
from causal.core import cose, keyring
from causal.core.frontier import Frontier, pack
from causal.core.hlc import Timestamp
from causal.session import SessionState
from tests.spec.make import VECTORS

FILE = json.loads((VECTORS / "token.json").read_text(encoding="utf-8"))
NOW = 1_799_999_999
KEYS = Keyring([Key(7, bytes(range(32)))], cache=0)
SIX = Token(Frontier.of({pack(i, 1): 2**41 + 977 * i for i in range(6)}), expires_at=NOW + 1)
BOUND: dict[str, Any] = {"subject": "alice", "audience": "shop"}


def never(*args: object, **more: object) -> Any:
    raise AssertionError("this work must not be done")


@pytest.mark.spec("T-1")
def test_a_text_that_is_too_long_is_not_even_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cose.binascii, "a2b_base64", never)
    for size in (4097, 1_000_000):
        with pytest.raises(MalformedToken, match=f"{size} characters"):
            KEYS.open("A" * size, now=NOW, **BOUND)
    monkeypatch.undo()
    with pytest.raises(MalformedToken, match="starts as no token"):
        KEYS.open("A" * 4096, now=NOW, **BOUND)


@pytest.mark.spec("T-44", "T-45")
def test_nothing_is_derived_or_decoded_for_a_key_that_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [Keyring([Key(9, bytes(32))], profile=p).seal(SIX, **BOUND) for p in ("signed", "encrypted")]  # type: ignore[arg-type]
    monkeypatch.setattr(keyring, "derive", never)
    monkeypatch.setattr(keyring._Derived, "tag", never)
    monkeypatch.setattr(keyring, "decode_claims", never)
    for text in texts:
        with pytest.raises(UnknownKey) as raised:
            KEYS.open(text, now=NOW, **BOUND)
        assert raised.value.key_id == 9


@pytest.mark.spec("T-46")
def test_no_payload_is_looked_at_before_its_tag_is_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "decode_claims", never)
    for kind in ({}, {"tag_bits": 256}, {"profile": "encrypted"}):
        text = Keyring([Key(7, bytes(range(32)))], **kind).seal(SIX, **BOUND)  # type: ignore[arg-type]
        for wrong in ({"subject": "bob"}, {"audience": "other"}):
            with pytest.raises(BadSignature):
                KEYS.open(text, now=NOW, **BOUND | wrong)
        with pytest.raises(AssertionError):
            KEYS.open(text, now=NOW, **BOUND)


def test_tags_are_compared_by_the_comparison_whose_time_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert keyring.compare_digest is hmac.compare_digest
    compared: list[tuple[bytes, bytes]] = []

    def noted(ours: bytes, theirs: bytes) -> bool:
        compared.append((ours, theirs))
        return hmac.compare_digest(ours, theirs)

    monkeypatch.setattr(keyring, "compare_digest", noted)
    for bits in (64, 256):
        text = Keyring([Key(7, bytes(range(32)))], tag_bits=bits).seal(SIX, **BOUND)  # type: ignore[arg-type]
        assert KEYS.open(text, now=NOW, **BOUND) == SIX
    assert [len(ours) for ours, _ in compared] == [8, 32]


def test_each_encrypted_token_has_an_iv_of_its_own_from_the_systems_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    true = keyring.secrets.token_bytes
    monkeypatch.setattr(keyring.secrets, "token_bytes", lambda size: drawn.append(size) or true(size))
    keys = Keyring([Key(7, bytes(range(32)))], profile="encrypted")
    texts = {keys.seal(SIX, **BOUND) for _ in range(50)}
    assert len(texts) == 50
    assert drawn == [12] * 50


@pytest.mark.spec("T-48")
def test_what_is_remembered_answers_for_nobody_else_and_goes_with_its_key() -> None:
    keys = Keyring([Key(7, bytes(range(32))), Key(8, bytes(32))], primary=7)
    text = keys.seal(SIX, **BOUND)
    assert keys.open(text, now=NOW, **BOUND) is keys.open(text, now=NOW, **BOUND)  # remembered
    for wrong in ({"subject": "bob"}, {"subject": None}, {"audience": "other"}):
        with pytest.raises(BadSignature):
            keys.open(text, now=NOW, **BOUND | wrong)
    keys.promote(8)
    keys.drop(7)
    with pytest.raises(UnknownKey):
        keys.open(text, now=NOW, **BOUND)


def test_an_encrypted_token_shows_the_length_of_its_claims_the_key_and_the_hour_and_nothing_else() -> None:
    keys = Keyring([Key(7, bytes(range(32)))], profile="encrypted")
    tokens = [Token(Frontier.of({pack(i, 1): 2**41 + x for i in range(6)}), expires_at=NOW - x) for x in range(8)]
    data = [cose.from_text(keys.seal(token, **BOUND)) for token in tokens]
    assert len({one[:14] for one in data}) == 1  # headers: equal for all
    assert len({len(one) for one in data}) == 1
    assert len({one[14:] for one in data}) == 8
    more = Token(Frontier.of({pack(i * i, 1): 2**41 + i for i in range(7)}), expires_at=NOW)
    assert keys.size(more) > keys.size(tokens[0])


def test_a_timestamp_in_the_far_future_demands_nothing() -> None:
    """It moves no clock: there is none that a session could move. What it says is only when the session last wrote."""
    state = SessionState(None)
    far = Token(expires_at=NOW + 1, timestamp=Timestamp(2**64 - 1))
    text = KEYS.seal(far, subject=None, audience="shop")
    state.present([text], KEYS, "shop", now=NOW, ttl_s=60, subject=None)
    assert not state.own
    assert not state.seen
    assert not state.changed


def test_an_older_token_beside_the_newest_takes_nothing_away() -> None:
    new, old = (Token(Frontier.of({pack(0, 1): x}), expires_at=NOW + 1) for x in (9, 5))
    for order in ((new, old), (old, new)):
        state = SessionState(None)
        texts = [KEYS.seal(token, subject=None, audience="shop") for token in order]
        state.present(texts, KEYS, "shop", now=NOW, ttl_s=60, subject=None)
        assert state.own == new.own


def test_every_way_to_alter_a_bit_of_a_token_fails() -> None:
    """What a guess can change costs a guess: no bit of the frame, the payload or the tag is free."""
    for kind in ({}, {"tag_bits": 256}, {"profile": "encrypted"}):
        data = cose.from_text(Keyring([Key(7, bytes(range(32)))], **kind).seal(SIX, **BOUND))  # type: ignore[arg-type]
        for at in range(len(data)):
            for bit in range(8):
                altered = data[:at] + bytes((data[at] ^ 1 << bit,)) + data[at + 1 :]
                with pytest.raises((MalformedToken, UnknownKey, BadSignature)):
                    KEYS.open(cose.to_text(altered), now=NOW, **BOUND)
