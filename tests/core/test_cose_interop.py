"""A COSE library that we did not write reads our tokens, and writes tokens that we read: in all three frames.

It runs in an environment of its own (CAUSAL_COSE_PYTHON, or .venv-cose of `make setup`), and is given the keys as this test
derives them by RFC 5869, the text, and what binds it. It never sees this package.
"""

import hmac
import json
import os
import subprocess
from pathlib import Path

import cbor2
import pytest

from causal import BadSignature, Frontier, Key, Keyring, MalformedToken, Token, TokenError
from causal.core.cose import from_text, to_text
from causal.core.position import pack
from causal.core.wire import encode_claims

PEER = r"""
import base64, json, sys
import cbor2
from pycose.algorithms import A256GCM, HMAC25664, HMAC256
from pycose.headers import IV, KID, Algorithm, ContentType, PartialIV
from pycose.keys import SymmetricKey
from pycose.messages import Enc0Message, Mac0Message

ALGORITHMS = {3: A256GCM, 4: HMAC25664, 5: HMAC256}


def made(case):
    # a message as this library makes it, untagged; or with something more
    protected = {Algorithm: ALGORITHMS[case["alg"]]}
    unprotected = {KID: bytes.fromhex(case["kid"])}
    kind = Enc0Message if case["alg"] == 3 else Mac0Message
    if case["alg"] == 3:
        unprotected[IV] = bytes.fromhex(case["iv"])
    more = case.get("more")
    protected |= {"type, protected": {ContentType: 42}, "key, protected": {KID: bytes.fromhex(case["kid"])}}.get(more, {})
    unprotected |= {"type": {ContentType: 42}, "part of an IV": {PartialIV: b"\1"}}.get(more, {})
    if more == "headers the other way round":
        unprotected = dict(reversed(unprotected.items()))
    message = kind(phdr=protected, uhdr=unprotected, payload=bytes.fromhex(case["payload"]))
    message.key = SymmetricKey(bytes.fromhex(case["key"]))
    message.external_aad = cbor2.dumps([case["audience"], case["subject"]])
    return base64.urlsafe_b64encode(message.encode(tag=more == "tagged")).decode().rstrip("=")


answers = []
for case in json.load(sys.stdin):
    if "payload" in case:
        answers.append({"text": made(case)})
        continue
    data = base64.urlsafe_b64decode(case["text"] + "=" * (-len(case["text"]) % 4))
    kind = Mac0Message if case["frame"] == "mac0" else Enc0Message
    answer = {}
    try:
        message = kind.from_cose_obj(cbor2.loads(data), True)
        message.key = SymmetricKey(bytes.fromhex(case["key"]))
        message.external_aad = cbor2.dumps([case["audience"], case["subject"]])
        answer["alg"] = message.get_attr(Algorithm).identifier
        answer["kid"] = next(v for k, v in message.uhdr.items() if k.identifier == 4).hex()
        if kind is Mac0Message:
            answer["verified"] = message.verify_tag()
            answer["payload"] = message.payload.hex()
        else:
            answer["payload"] = message.decrypt().hex()
            answer["verified"] = True
    except Exception as error:
        answer["verified"] = False
        answer["error"] = type(error).__name__
    answers.append(answer)
json.dump(answers, sys.stdout)
"""

HERE = Path(__file__).parents[2] / ".venv-cose" / "bin" / "python"
PYTHON = os.environ.get("CAUSAL_COSE_PYTHON") or (str(HERE) if HERE.exists() else None)
KEY = Key(7, bytes(range(32)))
TOKENS = [
    Token(expires_at=1_800_000_000),
    Token(Frontier.of({pack(i, 3): 10**12 + i for i in range(6)}), expires_at=1_800_000_000),
    Token(Frontier.of({1: 5}), Frontier.of({1: 9}, {0: 7}), expires_at=23, timestamp=2**64 - 1, ages={1: 3}),
    Token(Frontier.of({pack(i * i, i): i**9 for i in range(90)}), expires_at=2**35 - 1),
]
BOUND: list[tuple[str | None, str]] = [("alice", "shop"), (None, "shop"), ("", "shop"), ("Zoë" * 90, "boutique " * 40)]


def derived(purpose: str, secret: bytes = KEY.secret) -> str:
    """RFC 5869 by hand: no salt, one block."""
    extracted = hmac.digest(bytes(32), secret, "sha256")
    return hmac.digest(extracted, purpose.encode() + b"\x01", "sha256").hex()


def ask(cases: list[dict[str, object]]) -> list[dict[str, object]]:
    if PYTHON is None:
        pytest.skip("no environment with the COSE peer: make setup makes one")
    done = subprocess.run(
        [PYTHON, "-c", PEER], input=json.dumps(cases), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, object]] = json.loads(done.stdout)
    assert len(answers) == len(cases)
    return answers


def cases(alg: int, **options: object) -> list[tuple[Token, dict[str, object]]]:
    keys = Keyring([KEY], **options)  # type: ignore[arg-type]
    found = []
    for token in TOKENS:
        key = derived(f"causal/1/{alg}" + (f"/{token.expires_at // 3600}" if alg == 3 else ""))
        for subject, audience in BOUND:
            text = keys.seal(token, subject=subject, audience=audience)
            frame = "encrypt0" if alg == 3 else "mac0"
            found.append((token, {"frame": frame, "text": text, "key": key, "subject": subject, "audience": audience}))
    return found


@pytest.mark.parametrize(("tag_bits", "alg"), [(64, 4), (256, 5)])
def test_a_peer_verifies_signed_tokens(tag_bits: int, alg: int) -> None:
    asked = cases(alg, tag_bits=tag_bits)
    for (token, _), answer in zip(asked, ask([case for _, case in asked]), strict=True):
        assert answer == {"alg": alg, "kid": "07", "verified": True, "payload": encode_claims(token).hex()}


def test_a_peer_decrypts_encrypted_tokens() -> None:
    asked = cases(3, profile="encrypted")
    for (token, _), answer in zip(asked, ask([case for _, case in asked]), strict=True):
        hour = token.expires_at // 3600
        assert answer == {
            "alg": 3,
            "kid": (b"\x07" + hour.to_bytes(3, "big")).hex(),
            "verified": True,
            "payload": encode_claims(token).hex(),
        }
        assert cbor2.loads(encode_claims(token))[1] == token.expires_at


def test_the_peer_refuses_what_we_refuse() -> None:
    """So that its yes means something: another subject, another audience, another key."""
    wrong: list[dict[str, object]] = []
    for (_, case), *_ in (cases(4), cases(3, profile="encrypted")):
        wrong.extend(case | change for change in ({"subject": "bob"}, {"audience": "other"}, {"key": "00" * 32}))
    assert [answer["verified"] for answer in ask(wrong)] == [False] * 6


def test_a_peer_reads_every_vector_that_is_sealed() -> None:
    path = Path(__file__).parents[2] / "docs" / "spec" / "vectors" / "token.json"
    file = json.loads(path.read_text(encoding="utf-8"))
    secrets = {key["id"]: bytes.fromhex(key["secret"]) for key in file["given"]["keys"]}
    asked: list[dict[str, object]] = []
    expected: list[dict[str, object]] = []
    for vector in file["vectors"]:
        if vector["op"] != "token.seal" or "out" not in vector:
            continue
        given, out = vector["in"], vector["out"]
        alg, hour = given["alg"], given["claims"]["expires_at"] // 3600
        kid = bytes((given["key_id"],)) + (hour.to_bytes(3, "big") if alg == 3 else b"")
        key = derived(f"causal/1/{alg}" + (f"/{hour}" if alg == 3 else ""), secrets[given["key_id"]])
        bound = {"text": out["text"], "audience": given["audience"], "subject": given["subject"]}
        asked.append({"frame": "encrypt0" if alg == 3 else "mac0", "key": key} | bound)
        expected.append({"alg": alg, "kid": kid.hex(), "verified": True, "payload": out["payload"]})
    assert ask(asked) == expected


# --- and back -------------------------------------------------------------------------------------------------------------

WAYS = [(4, {"tag_bits": 64}), (5, {"tag_bits": 256}), (3, {"profile": "encrypted"})]


def content(token: Token) -> dict[str, object]:
    return {"payload": encode_claims(token).hex(), "iv": bytes(range(12)).hex()}


def sealed_there(alg: int) -> list[tuple[Token, dict[str, object], str]]:
    """Each token for each subject and audience, as the peer seals its payload."""
    asked: list[tuple[Token, dict[str, object]]] = []
    for token in TOKENS:
        hour = token.expires_at // 3600
        key = derived(f"causal/1/{alg}" + (f"/{hour}" if alg == 3 else ""))
        kid = b"\x07" + (hour.to_bytes(3, "big") if alg == 3 else b"")
        for subject, audience in BOUND:
            case = {"alg": alg, "kid": kid.hex(), "key": key, "subject": subject, "audience": audience}
            asked.append((token, case | content(token)))
    answers = ask([case for _, case in asked])
    return [(token, case, str(answer["text"])) for (token, case), answer in zip(asked, answers, strict=True)]


def bound(case: dict[str, object]) -> dict[str, str]:
    return {"subject": case["subject"], "audience": case["audience"]}  # type: ignore[dict-item]


@pytest.mark.spec("T-10", "T-12")
@pytest.mark.parametrize(("alg", "way"), WAYS)
def test_what_the_peer_seals_we_open_and_would_have_sealed_just_so(
    alg: int, way: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("causal.core.keyring.secrets.token_bytes", lambda size: bytes(range(size)))
    keys, ours = Keyring([KEY], cache=0), Keyring([KEY], **way)  # type: ignore[arg-type]
    for token, case, text in sealed_there(alg):
        assert keys.open(text, **bound(case), now=token.expires_at - 1) == token
        assert ours.seal(token, **bound(case)) == text


@pytest.mark.parametrize("alg", [4, 5, 3])
def test_what_else_the_peer_can_write_we_refuse(alg: int) -> None:
    """Right messages of RFC 9052, with right tags: only they are not the one spelling."""
    token, case, good = sealed_there(alg)[0]
    more = ["tagged", "type", "type, protected", "key, protected", "part of an IV"]
    more += ["headers the other way round"] if alg == 3 else []
    again, *answers = ask([case | content(token) | {"more": one} for one in [None, *more]])
    assert again["text"] == good
    assert len({str(answer["text"]) for answer in [again, *answers]}) == 1 + len(more)
    for answer in answers:
        with pytest.raises(MalformedToken):
            Keyring([KEY], cache=0).open(str(answer["text"]), **bound(case), now=token.expires_at - 1)


@pytest.mark.parametrize(("alg", "way"), WAYS)
def test_neither_opens_what_was_altered(alg: int, way: dict[str, object]) -> None:
    """Each part of a message, changed in one bit: the peer's by us, and ours by the peer."""
    keys, ours = Keyring([KEY], cache=0), Keyring([KEY], **way)  # type: ignore[arg-type]
    token, case, theirs = sealed_there(alg)[0]
    mine = ours.seal(token, **bound(case))
    places = (
        (8, 10, 14, 20, 28, -17, -1) if alg == 3 else (8, 10, 14, 17, -4, -1)
    )  # key id, hour, IV, content, tag: no heads
    asked: list[dict[str, object]] = []
    for at in places:
        data = bytearray(from_text(theirs))
        data[at] ^= 4
        with pytest.raises(TokenError):
            keys.open(to_text(bytes(data)), **bound(case), now=token.expires_at - 1)
        data = bytearray(from_text(mine))
        data[at] ^= 4
        if at == 8 or (alg == 3 and at == 10):
            continue  # the peer takes the key that it is given, whatever the header says
        frame = {"frame": "encrypt0" if alg == 3 else "mac0", "text": to_text(bytes(data)), "key": case["key"]}
        asked.append(frame | bound(case))
    assert [answer["verified"] for answer in ask(asked)] == [False] * len(asked)
    for wrong in ({"subject": "bob"}, {"audience": "other"}):
        with pytest.raises(BadSignature):
            keys.open(theirs, **bound(case) | wrong, now=token.expires_at - 1)
