"""Keys: what they seal they open, for one subject and audience, until they are dropped; and nothing else opens."""

import base64
import hashlib
import hmac
import random
import threading
from collections import Counter
from collections.abc import Callable

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from causal import BadSignature, ConfigError, ExpiredToken, Frontier, Key, MalformedToken, Token, TokenError, UnknownKey
from causal.core import cose
from causal.core.columns import put_count
from causal.core.keyring import CACHED_CHARS, Keyring, derive
from causal.core.position import pack
from tests.core.claims import EXPIRES_AT, tokens

NOW = EXPIRES_AT - 3600
ONE, TWO = Key(1, bytes(range(32))), Key(2, bytes(range(32, 64)))
SIGNED = Keyring([ONE])
LONG_TAG = Keyring([ONE], tag_bits=256)
ENCRYPTED = Keyring([ONE], profile="encrypted")
KINDS = {"signed": SIGNED, "256-bit tag": LONG_TAG, "encrypted": ENCRYPTED}
every_kind = pytest.mark.parametrize("keys", KINDS.values(), ids=KINDS)
TOKEN = Token(Frontier.of({pack(i, 3): 10**12 + i for i in range(4)}), expires_at=EXPIRES_AT)


def seal(keys: Keyring, token: Token = TOKEN, subject: str | None = "alice", audience: str = "shop") -> str:
    return keys.seal(token, subject=subject, audience=audience)


def unseal(keys: Keyring, text: str, subject: str | None = "alice", audience: str = "shop", now: float = NOW) -> Token:
    return keys.open(text, subject=subject, audience=audience, now=now)


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)

# --- round trips -------------------------------------------------------------------------------------------------------


@given(tokens(), st.one_of(st.none(), names), names, st.sampled_from(sorted(KINDS)))
def test_what_is_sealed_opens(token: Token, subject: str | None, audience: str, kind: str) -> None:
    keys = KINDS[kind]
    text = seal(keys, token, subject, audience)
    assert len(text) == keys.size(token)
    for _ in range(2):  # the second time from the cache
        assert unseal(keys, text, subject, audience, token.expires_at - 1) == token
    if kind != "encrypted":
        assert seal(keys, unseal(keys, text, subject, audience, -1), subject, audience) == text  # I10


@pytest.mark.spec("T-11")
def test_any_profile_opens_what_any_other_sealed() -> None:
    for sealing in KINDS.values():
        for opening in KINDS.values():
            assert unseal(opening, seal(sealing)) == TOKEN


def test_encrypted_tokens_hide_their_claims_and_never_repeat() -> None:
    assert len({seal(ENCRYPTED) for _ in range(50)}) == 50
    packed = SIGNED.seal(TOKEN, subject="alice", audience="shop")
    clear = cose.parse(cose.from_text(packed))[3]
    assert clear not in cose.from_text(seal(ENCRYPTED))


@pytest.mark.spec("T-4", "T-10")
def test_the_tag_is_hmac_sha256_under_a_key_derived_for_it() -> None:
    for keys, alg, size in ((SIGNED, 4, 8), (LONG_TAG, 5, 32)):
        protected, unprotected, payload, tag = cbor2.loads(cose.from_text(seal(keys)))
        assert cbor2.loads(protected) == {1: alg}
        assert unprotected == {4: bytes([ONE.id])}
        extracted = hmac.digest(bytes(32), ONE.secret, "sha256")  # RFC 5869 with no salt
        mac_key = hmac.digest(extracted, f"causal/1/{alg}".encode() + b"\x01", "sha256")
        signed = cbor2.dumps(["MAC0", protected, cbor2.dumps(["shop", "alice"]), payload])
        assert tag == hmac.digest(mac_key, signed, hashlib.sha256)[:size]


def test_every_purpose_has_its_own_key() -> None:
    derived = [derive(ONE.secret, 4), derive(ONE.secret, 5), derive(ONE.secret, 3, 1), derive(ONE.secret, 3, 2)]
    assert len({*derived, ONE.secret}) == 5


# --- subject and audience (I11) ------------------------------------------------------------------------------------------


@pytest.mark.spec("T-6", "T-46")
@every_kind
def test_a_wrong_subject_or_audience_is_not_told_apart_from_a_forgery(keys: Keyring) -> None:
    text = seal(keys)
    forged = cose.to_text(cose.from_text(text)[:-1] + bytes([cose.from_text(text)[-1] ^ 1]))
    seen = set()
    for shown, subject, audience in (
        (forged, "alice", "shop"), (text, "bob", "shop"), (text, None, "shop"), (text, "", "shop"), (text, "alice", "shop2"),
        (text, "alic", "eshop"), (text, "shop", "alice"),
    ):  # fmt: skip
        with pytest.raises(BadSignature) as caught:
            unseal(keys, shown, subject, audience)
        seen.add((type(caught.value), str(caught.value), tuple(vars(caught.value).items())))
    assert len(seen) == 1


@pytest.mark.spec("T-7")
def test_anonymous_is_not_the_empty_subject() -> None:
    text = seal(SIGNED, subject=None)
    assert unseal(SIGNED, text, subject=None) == TOKEN
    with pytest.raises(BadSignature):
        unseal(SIGNED, text, subject="")


@pytest.mark.spec("T-6", "T-7")
@given(st.tuples(names, names), st.tuples(names, names))
def test_no_two_bindings_are_the_same_bytes(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (cose.bind(*one) == cose.bind(*other)) == (one == other)
    assert cbor2.loads(cbor2.loads(cose.bind(*one))) == [one[1], one[0]]
    assert cose.bind(None, one[1]) not in {cose.bind(one[0], one[1]), cose.bind("null", one[1])}


@pytest.mark.parametrize(
    ("subject", "audience"), [(5, "shop"), (b"alice", "shop"), ("alice", None), ("\ud800", "shop"), ([], "shop")]
)
def test_what_is_not_text_binds_nothing(subject: object, audience: object) -> None:
    with pytest.raises(ConfigError, match="text"):
        SIGNED.seal(TOKEN, subject=subject, audience=audience)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="text"):
        SIGNED.open(seal(SIGNED), subject=subject, audience=audience, now=NOW)  # type: ignore[arg-type]


# --- expiry ----------------------------------------------------------------------------------------------------------------


@pytest.mark.spec("T-47")
@every_kind
def test_an_expired_token_carries_its_claims(keys: Keyring) -> None:
    text = seal(keys)
    for _ in range(2):
        assert unseal(keys, text, now=EXPIRES_AT - 0.001) == TOKEN
        for now in (EXPIRES_AT, EXPIRES_AT + 0.5, float("inf"), float("nan")):
            with pytest.raises(ExpiredToken) as caught:
                unseal(keys, text, now=now)
            assert caught.value.token == TOKEN
            assert caught.value.expires_at == EXPIRES_AT


@pytest.mark.spec("T-44")
def test_a_forged_token_is_not_called_expired() -> None:
    with pytest.raises(BadSignature):
        unseal(SIGNED, seal(SIGNED), subject="bob", now=EXPIRES_AT + 1)


# --- keys and rotation -------------------------------------------------------------------------------------------------------


def test_rotation_in_two_steps_meets_no_unknown_key() -> None:
    """Half-way through a rollout, some processes have taken the step and others have not."""
    fleet = [Keyring([ONE]) for _ in range(4)]
    old = seal(fleet[0])

    def everybody_opens() -> None:
        for text in [old, *(seal(keys) for keys in fleet)]:
            for keys in fleet:
                assert unseal(keys, text) == TOKEN

    for step in (lambda keys: keys.add(TWO), lambda keys: keys.promote(2)):
        for keys in fleet:
            step(keys)
            everybody_opens()
    for keys in fleet:
        keys.drop(1)
        with pytest.raises(UnknownKey) as caught:
            unseal(keys, old)
        assert caught.value.key_id == 1
    assert all(keys.key_ids == (2,) and keys.primary_id == 2 for keys in fleet)


def test_sealing_at_once_with_a_new_key_is_why_there_are_two_steps() -> None:
    ahead, behind = Keyring([ONE, TWO], primary=2), Keyring([ONE])
    with pytest.raises(UnknownKey):
        unseal(behind, seal(ahead))


@pytest.mark.parametrize(
    "change",
    [
        lambda: Keyring([]),
        lambda: Keyring([ONE, Key(1, TWO.secret)]),
        lambda: Keyring([ONE], primary=2),
        lambda: Keyring([ONE], profile="plain"),  # type: ignore[arg-type]
        lambda: Keyring([ONE], tag_bits=128),  # type: ignore[arg-type]
        lambda: Keyring([ONE], cache=-1),
        lambda: Keyring([ONE]).add(Key(1, TWO.secret)),
        lambda: Keyring([ONE]).promote(2),
        lambda: Keyring([ONE, TWO]).drop(1),
        lambda: Keyring([ONE]).drop(2),
        lambda: Key(256, bytes(32)),
        lambda: Key(-1, bytes(32)),
        lambda: Key(True, bytes(32)),
        lambda: Key(1, bytes(31)),
        lambda: Key(1, "x" * 32),  # type: ignore[arg-type]
    ],
)
def test_bad_keys_and_changes_are_refused(change: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        change()


def test_keys_as_text() -> None:
    text = f"{TWO.to_text()}, {ONE.to_text()}"
    keys = Keyring.parse(text)
    assert keys.primary_id == 2
    assert keys.key_ids == (1, 2)
    assert Key.parse(ONE.to_text()) == ONE
    assert unseal(keys, seal(SIGNED)) == TOKEN


@pytest.mark.parametrize(
    "text",
    ["", "1", "1:", ":" + ONE.to_text()[2:], "x:" + ONE.to_text()[2:], "256:" + ONE.to_text()[2:], ONE.to_text() + "=",
     ONE.to_text()[:-1], "-1:" + ONE.to_text()[2:], "1000:" + ONE.to_text()[2:], "\u0661:" + ONE.to_text()[2:],
     ONE.to_text() + ",", ONE.to_text() + "," + ONE.to_text(), "1:" + "+" * 43],
)  # fmt: skip
def test_keys_badly_written_are_refused_and_never_shown(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Keyring.parse(text)
    shown = f"{caught.value!r} {caught.value.__cause__!r}"
    assert not any(text[i : i + 6] in shown for i in range(4, len(text) - 6))


def test_nothing_shows_a_secret() -> None:
    keys = Keyring([ONE, TWO], profile="encrypted")
    seal(keys)
    secret = ONE.to_text()[2:]
    shown = [repr(ONE), repr(keys), str(keys), repr(keys._ring.primary), f"{ONE}"]
    for text in shown:
        assert secret not in text
        assert repr(ONE.secret)[2:-1] not in text
        assert ONE.secret.hex() not in text
    assert "[1, 2]" in repr(keys)


def test_generated_keys_say_so() -> None:
    one, other = Keyring.generate(), Keyring.generate()
    assert one.generated
    assert not SIGNED.generated
    with pytest.raises((UnknownKey, BadSignature)):
        unseal(one, seal(other))


# --- the cache of opened tokens ---------------------------------------------------------------------------------------------


def test_a_cached_token_serves_its_own_subject_and_audience_alone() -> None:
    keys = Keyring([ONE])
    text = seal(keys)
    assert unseal(keys, text) is unseal(keys, text)
    for subject, audience in (("bob", "shop"), (None, "shop"), ("alice", "other")):
        with pytest.raises(BadSignature):
            unseal(keys, text, subject, audience)


@pytest.mark.spec("T-48")
def test_a_cached_token_of_a_dropped_key_is_gone() -> None:
    keys = Keyring([ONE, TWO])
    text = seal(keys)
    assert unseal(keys, text) == TOKEN
    keys.promote(2)
    assert unseal(keys, text) == TOKEN
    keys.drop(1)
    with pytest.raises(UnknownKey):
        unseal(keys, text)
    keys.add(Key(1, bytes(32)))  # another key under the old name
    with pytest.raises(BadSignature):
        unseal(keys, text)


def test_failures_are_not_cached() -> None:
    keys = Keyring([TWO])
    text = seal(SIGNED)
    for _ in range(2):
        with pytest.raises(UnknownKey):
            unseal(keys, text)
    keys.add(ONE)
    assert unseal(keys, text) == TOKEN


@pytest.mark.parametrize(("cache", "bound"), [(0, 0), (2, 2), (10, 10), (11, 12)])
def test_the_cache_is_bounded_and_keeps_what_is_used(cache: int, bound: int) -> None:
    keys = Keyring([ONE], cache=cache)
    used = seal(keys)
    first = unseal(keys, used)
    for i in range(100):
        text = seal(keys, Token(Frontier.of({1: i}), expires_at=EXPIRES_AT))
        unseal(keys, text)
        assert (unseal(keys, used) is first) == (cache > 1)
        assert len(keys._ring.opened) + len(keys._ring.older) <= bound


def test_long_tokens_are_not_remembered() -> None:
    keys = Keyring([ONE])
    token = Token(Frontier.of({pack(3 * i * i, i * i): i**9 for i in range(90)}), expires_at=EXPIRES_AT)
    text = seal(keys, token)
    assert CACHED_CHARS < len(text) <= 4096
    assert unseal(keys, text) == token
    assert not keys._ring.opened


def test_short_tokens_that_list_much_are_not_remembered() -> None:
    row = Frontier.of({pack(i, 1): 5 for i in range(CACHED_CHARS)})
    keys = Keyring([ONE])
    for token, remembered in (
        (Token(row, expires_at=EXPIRES_AT), True),
        (Token(row | Frontier.of({pack(1, 2): 5}), expires_at=EXPIRES_AT), False),
        (Token(row, Frontier.of({pack(1, 1): 6}), expires_at=EXPIRES_AT), False),
        (Token(None, Frontier().mark(0, 5, exact=range(CACHED_CHARS + 1)), expires_at=EXPIRES_AT), False),
        (Token(None, Frontier().mark(0, 5, origins=range(CACHED_CHARS + 1)), expires_at=EXPIRES_AT), False),
    ):
        text = seal(SIGNED, token)
        assert len(text) < CACHED_CHARS
        keys._ring.opened.clear()
        assert unseal(keys, text) == token
        assert bool(keys._ring.opened) == remembered


def test_threads_open_and_seal_while_keys_change() -> None:
    keys = Keyring([ONE, TWO])
    texts = [seal(SIGNED, Token(Frontier.of({1: i}), expires_at=EXPIRES_AT)) for i in range(50)]
    failures: list[BaseException] = []
    done = threading.Event()

    def work(seed: int) -> None:
        r = random.Random(seed)
        try:
            while not done.is_set():
                i = r.randrange(50)
                assert unseal(keys, texts[i]).own.entries == {1: i}
                assert unseal(keys, seal(keys)) == TOKEN
        except BaseException as error:  # noqa: BLE001 - whatever it is, the main thread must see it
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for i in range(300):
        keys.promote(1 + i % 2)
        keys.add(Key(3, bytes(32)))
        keys.drop(3)
    done.set()
    for thread in threads:
        thread.join()
    assert not failures


# --- bad input -------------------------------------------------------------------------------------------------------------


def sealed_payload(payload: bytes) -> str:
    """What a key holder could sign by mistake: any payload under a right tag."""
    item = cose.bstr(payload)
    tag = SIGNED._ring.primary.tag(cose.HMAC_256_64, cose.bind("alice", "shop"), item)
    return cose.to_text(cose.frame_mac0(cose.HMAC_256_64, ONE.id, item, tag))


def mutants(text: str, r: random.Random) -> tuple[str, object]:
    """One damaged form of a token: its kind, and it."""
    data = bytearray(cose.from_text(text))
    at = r.randrange(len(data))
    kind = r.choice(
        ["truncated", "bit flipped", "byte", "grown", "cut inside", "padded", "last character", "alphabet", "blank", "oversized",
         "nested", "wrong type", "retagged", "frame", "standard alphabet", "swapped", "payload", "not text"]
    )  # fmt: skip
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    if kind == "truncated":
        return kind, text[: r.randrange(len(text))]
    if kind == "bit flipped":
        data[at] ^= 1 << r.randrange(8)
    elif kind == "byte":
        data[at] = (data[at] + r.randrange(1, 256)) % 256
    elif kind == "grown":
        data[at:at] = r.randbytes(r.randrange(1, 5))
    elif kind == "cut inside":
        del data[at : at + r.randrange(1, 9)]
    elif kind == "padded":
        return kind, text + "=" * r.randrange(1, 4)
    elif kind == "last character":  # another spelling of the same bytes, where there is one
        return kind, text[:-1] + r.choice([c for c in alphabet if c != text[-1]])
    elif kind == "alphabet":
        place = r.randrange(len(text))
        return kind, text[:place] + r.choice(["!", "é", "\0", "+", "/", "=", "\ud800", "\uff21"]) + text[place + 1 :]
    elif kind == "blank":
        place = r.randrange(len(text) + 1)
        return kind, text[:place] + r.choice([" ", "\n", "\t", "\r\n"]) + text[place:]
    elif kind == "oversized":
        return kind, text + "A" * (4097 - len(text) + r.randrange(9))
    elif kind == "nested":
        return kind, cose.to_text(bytes([r.choice([0x81, 0x84, 0xA1, 0x9F, 0xD1, 0x5F])]) * r.randrange(1, 3000))
    elif kind == "wrong type":
        parts: list[object] = [
            None,
            1,
            "text",
            b"",
            [],
            {},
            1.5,
            True,
            {1: 4},
            b"\xa1\x01\x04",
            {4: b"\1"},
            b"12345678",
        ]
        return kind, cose.to_text(cbor2.dumps([r.choice(parts) for _ in range(r.choice([0, 1, 3, 4, 4, 4, 5]))]))
    elif kind == "retagged":
        return kind, cose.to_text(cbor2.dumps(cbor2.CBORTag(17, cbor2.loads(bytes(data)))))
    elif kind == "frame":
        parts = list(cbor2.loads(bytes(data)))
        parts[r.randrange(len(parts))] = r.choice(
            [b"", b"\xa1\x01\x05", b"\xa1\x01\x07", {4: b"\1", 5: b""}, {4: b"\2"}, "x", -1]
        )
        return kind, cose.to_text(cbor2.dumps(parts))
    elif kind == "standard alphabet":
        return kind, base64.b64encode(bytes(data) + b"\xff\xff\xfe").decode()
    elif kind == "swapped":
        other = r.randrange(len(data))
        data[at], data[other] = data[other], data[at]
    elif kind == "payload":  # authentic nonsense
        payload = bytearray(cose.parse(cose.from_text(seal(SIGNED)))[3])
        payload[r.randrange(len(payload))] ^= 1 << r.randrange(8)
        return kind, sealed_payload(bytes(payload))
    else:
        return kind, r.choice([None, 5, b"token", bytearray(b"x"), [text], {}, 1.5, text.encode()])
    return kind, cose.to_text(bytes(data))


def test_ten_thousand_damaged_tokens_each_raise_one_documented_error() -> None:
    r = random.Random(2014)
    samples = [
        seal(keys, token, subject="alice")
        for keys in KINDS.values()
        for token in (
            TOKEN,
            Token(expires_at=EXPIRES_AT),
            Token(Frontier.of({1: 5}), Frontier.of({1: 9}, {0: 7}), expires_at=EXPIRES_AT, timestamp=9, ages={1: 3}),
            Token(Frontier.of({pack(i, i): i**9 for i in range(20)}).mark(0, EXPIRES_AT), expires_at=EXPIRES_AT),
        )
    ]
    authentic = {*samples}
    outcomes: dict[str, Counter[str]] = {}
    done = 0
    while done < 12_000:
        kind, text = mutants(r.choice(samples), r)
        if isinstance(text, str) and text in authentic:
            continue
        try:
            token = SIGNED.open(text, subject="alice", audience="shop", now=NOW)  # type: ignore[arg-type]
        except (MalformedToken, BadSignature, UnknownKey) as error:
            name = type(error).__name__
        except ExpiredToken:
            name = "another token"
        else:
            assert seal(SIGNED, token) == text  # a payload that happens to be another token's, in its one spelling
            name = "another token"
        outcomes.setdefault(kind, Counter())[name] += 1
        done += 1
    assert len(outcomes) == 18
    assert [kind for kind, names in outcomes.items() if "another token" in names] == ["payload"]
    for kind in (
        "padded",
        "alphabet",
        "blank",
        "oversized",
        "nested",
        "not text",
        "retagged",
        "standard alphabet",
        "wrong type",
    ):
        assert set(outcomes[kind]) == {"MalformedToken"}, kind
    for kind in ("bit flipped", "byte", "frame"):
        assert set(outcomes[kind]) >= {"MalformedToken", "BadSignature", "UnknownKey"}, kind
    assert "MalformedToken" in outcomes["payload"]


@given(st.one_of(st.text(max_size=200), st.binary(max_size=200).map(cose.to_text)))
def test_arbitrary_text_opens_nothing(text: str) -> None:
    with pytest.raises((MalformedToken, BadSignature, UnknownKey)):
        unseal(SIGNED, text)


@given(st.binary(max_size=60))
def test_an_authentic_payload_is_a_token_in_its_one_spelling_or_malformed(payload: bytes) -> None:
    text = sealed_payload(payload)
    try:
        token = unseal(SIGNED, text, now=-1)
    except MalformedToken:
        return
    assert seal(SIGNED, token) == text


@pytest.mark.spec("T-13")
def test_a_token_encrypted_under_another_hours_key_is_malformed() -> None:
    hour = EXPIRES_AT // 3600 + 1
    payload = cose.parse(cose.from_text(seal(SIGNED)))[3]
    bound = cose.bind("alice", "shop")
    iv = bytes(12)
    sealed = ONE_DERIVED.cipher(hour).encrypt(iv, payload, cose.enc_structure(bound))
    text = cose.to_text(cose.frame_encrypt0(ONE.id, hour.to_bytes(3, "big") + iv, sealed))
    with pytest.raises(MalformedToken, match="hour"):
        unseal(ENCRYPTED, text)


ONE_DERIVED = ENCRYPTED._ring.primary


def test_forged_hours_do_not_fill_the_table_of_ciphers() -> None:
    keys = Keyring([ONE], profile="encrypted")
    key_id, alg, nonce, content, _ = cose.parse(cose.from_text(seal(keys)))
    assert alg == cose.A256GCM
    for hour in range(500):
        text = cose.to_text(cose.frame_encrypt0(key_id, hour.to_bytes(3, "big") + nonce[3:], content))
        with pytest.raises(BadSignature):
            unseal(keys, text)
    assert len(keys._ring.primary._ciphers) == 1
    for hours in range(200):  # authentic ones are bounded too
        seal(keys, Token(expires_at=3600 * hours))
    assert len(keys._ring.primary._ciphers) <= 64


@pytest.mark.spec("T-50")
def test_too_many_characters_are_refused_not_dropped() -> None:
    token = Token(Frontier.of({pack(i * i, i): i**15 for i in range(700)}), expires_at=EXPIRES_AT)
    for keys in KINDS.values():
        assert keys.size(token) > 4096
        with pytest.raises(TokenError, match="more than 4096"):
            seal(keys, token)


def test_the_longest_token_that_seals_also_opens() -> None:
    entries = {pack(i, 1): (i * 0x9E3779B97F4A7C15) % 2**64 for i in range(400)}
    while SIGNED.size(Token(Frontier.of(entries), expires_at=EXPIRES_AT)) > 4096:
        entries.popitem()
    token = Token(Frontier.of(entries), expires_at=EXPIRES_AT)
    text = seal(SIGNED, token)
    assert 4080 < len(text) <= 4096
    assert unseal(SIGNED, text) == token


def test_no_error_shows_the_token_or_the_claims() -> None:
    text = seal(SIGNED)
    for shown, subject in ((text, "bob"), (text + "=", "alice"), (text[:-9], "alice"), (text + "!" * 4096, "alice")):
        with pytest.raises(TokenError) as caught:
            unseal(SIGNED, shown, subject=subject)
        assert text[8:20] not in str(caught.value)
        assert "bob" not in str(caught.value)


def test_counts_are_written_in_their_shortest_form() -> None:
    assert put_count(1, 30) == 1 << 5 | 30
    assert put_count(1, 31) == (1 << 5 | 31) << 16 | 31


def test_pseudonyms_have_a_key_of_their_own() -> None:
    both = Keyring([ONE, TWO])
    assert both.pseudonym_key() == SIGNED.pseudonym_key() == ENCRYPTED.pseudonym_key()
    both.promote(TWO.id)
    assert both.pseudonym_key() != SIGNED.pseudonym_key()
    assert len({SIGNED.pseudonym_key(), ONE.secret, derive(ONE.secret, 4), derive(ONE.secret, 5)}) == 4
