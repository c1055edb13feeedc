"""docs/spec/vectors.json holds for the fast codec, and is what the dumb twin says today.

Another implementation needs nothing but that file and docs/spec/token.md; these tests are what its own would be.
"""

import json
import re
from pathlib import Path
from typing import Any

import cbor2
import pytest

from causal import CausalError, ExpiredToken, Key, Keyring, Token, TokenError, errors
from causal.core.touched import fingerprint
from causal.core.wire import decode_claims, encode_claims
from tests.cddl import Grammar, deterministic
from tests.make_vectors import PATH, render
from tests.twin import data_of, derived
from tests.vectors.claims import claims_of, token_of

FILE = json.loads(PATH.read_text(encoding="utf-8"))
SECRETS = [Key(key["id"], bytes.fromhex(key["secret"])) for key in FILE["keys"]]
OPENS = Keyring(SECRETS, cache=0)


def name(vector: dict[str, Any]) -> str:
    return str(vector["name"])


def seal(vector: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> str:
    alg = vector["alg"]
    keys = Keyring(
        SECRETS,
        primary=vector["key_id"],
        profile="encrypted" if alg == 3 else "signed",
        tag_bits=256 if alg == 5 else 64,
    )
    if alg == 3:
        monkeypatch.setattr("causal.core.keyring.secrets.token_bytes", lambda size: bytes.fromhex(vector["iv"])[:size])
    token = token_of(vector["claims"])
    text = keys.seal(token, subject=vector["subject"], audience=vector["audience"])
    assert keys.size(token) == len(text)
    return text


def opened(vector: dict[str, Any], keys: Keyring = OPENS) -> Token:
    return keys.open(vector["text"], subject=vector["subject"], audience=vector["audience"], now=vector["now"])


def test_the_file_is_what_the_twin_says() -> None:
    assert PATH.read_text(encoding="utf-8") == render(), "run: python -m tests.make_vectors; review the difference"


@pytest.mark.parametrize("vector", FILE["accept"], ids=name)
def test_claims_are_sealed_to_the_very_text_and_come_back(
    vector: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    token = token_of(vector["claims"])
    assert encode_claims(token).hex() == vector["payload"]
    assert decode_claims(bytes.fromhex(vector["payload"])) == token
    assert seal(vector, monkeypatch) == vector["text"]
    learned_last_first = {
        part: said[::-1] if isinstance(said, list) else said for part, said in vector["claims"].items()
    }
    assert seal(vector | {"claims": learned_last_first}, monkeypatch) == vector["text"]
    assert opened(vector) == token
    assert claims_of(opened(vector)) == vector["claims"]


@pytest.mark.parametrize("vector", FILE["reject"], ids=name)
def test_what_is_no_token_raises_just_its_error(vector: dict[str, Any]) -> None:
    remembers = Keyring(SECRETS)
    for keys in (OPENS, remembers, remembers):  # the second time it may have been remembered
        with pytest.raises(CausalError) as raised:
            opened(vector, keys)
        assert type(raised.value) is getattr(errors, vector["error"])
        if isinstance(raised.value, errors.UnknownKey):
            assert raised.value.key_id == vector["key_id"]
        if isinstance(raised.value, ExpiredToken):
            assert claims_of(raised.value.token) == vector["claims"]
            assert raised.value.now == vector["now"]


def test_a_keyring_that_remembers_all_of_them_answers_the_same() -> None:
    keys = Keyring(SECRETS, cache=10_000)
    for _ in range(2):
        for vector in FILE["accept"]:
            assert claims_of(opened(vector, keys)) == vector["claims"]
        for vector in FILE["reject"]:
            with pytest.raises(getattr(errors, vector["error"])):
                opened(vector, keys)


@pytest.mark.parametrize("vector", FILE["refuse_to_seal"], ids=name)
def test_what_no_token_can_say_is_not_sealed(vector: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TokenError) as raised:
        seal(vector, monkeypatch)
    assert type(raised.value) is getattr(errors, vector["error"])


def test_no_two_vectors_are_called_or_are_the_same() -> None:
    vectors = [*FILE["accept"], *FILE["reject"], *FILE["refuse_to_seal"]]
    assert len({name(vector) for vector in vectors}) == len(vectors)
    asked = [(v["text"], v["audience"], v["subject"], v["now"]) for v in vectors if "text" in v]
    assert len(set(asked)) == len(asked)


# --- the page ------------------------------------------------------------------------------------------------------------

PAGE = (PATH.parent / "token.md").read_text(encoding="utf-8")
SHOWN = (
    "six shards in a row, least offset subtracted",
    "seen ahead of own",
    "a mark but for what is listed",
    "a filter of one key",
)


def test_the_page_explains_the_bits_of_four_vectors_one_by_one() -> None:
    tables = PAGE.split("| bits | |\n")[1:]
    assert len(tables) == len(SHOWN)
    for table, shown in zip(tables, SHOWN, strict=True):
        bits = ""
        for row in table.partition("\n\n")[0].splitlines()[1:]:
            for times, digits in re.findall(r"(\d+ )?`([01]+)`", row.split("|")[1]):
                bits += digits * int(times or 1)
        vector = next(vector for vector in FILE["accept"] if vector["name"] == shown)
        packed = cbor2.loads(bytes.fromhex(vector["payload"]))[2]
        assert bits == "".join(f"{byte:08b}" for byte in packed)
        assert packed.hex(" ") in PAGE or vector["text"] in PAGE


def test_the_page_shows_what_the_keys_derived_from_a_secret_are() -> None:
    shown = re.findall(r"^causal/1/(\d)(?:/(\d+))? +([0-9a-f]{64})$", PAGE, re.MULTILINE)
    assert len(shown) == 3
    for alg, hour, key in shown:
        assert derived(bytes(range(32)), int(alg), int(hour) if hour else None).hex() == key


def test_the_page_shows_what_the_fingerprint_of_a_key_is() -> None:
    ((key, shown),) = re.findall(r"^The fingerprint of the key `(.*)` is `([0-9a-f]{4})`", PAGE, re.MULTILINE)
    assert f"{fingerprint(key):04x}" == shown


def test_the_page_says_every_error_that_a_vector_raises() -> None:
    said = set(re.findall(r"^\| \d \| .* \| `(\w+)`", PAGE, re.MULTILINE))
    assert said == {vector["error"] for vector in FILE["reject"]}


def test_the_twin_shares_no_code_with_what_it_checks() -> None:
    here = Path(__file__).parent
    for file in (here / "twin.py", here / "make_vectors.py", *(here / "vectors").glob("*.py")):
        assert not re.search(r"Keyring|core\.(wire|cose|columns|entries|plain|keyring)", file.read_text()), file


# --- the CDDL ----------------------------------------------------------------------------------------------------------

CDDL = Grammar((PATH.parent / "token.cddl").read_text(encoding="utf-8"))


def described(vector: dict[str, Any]) -> list[tuple[str, Any]]:
    """All of a token that the CDDL has a rule for, with the rule."""
    protected = cbor2.dumps({1: vector["alg"]})
    payload, aad = bytes.fromhex(vector["payload"]), cbor2.dumps([vector["audience"], vector["subject"]])
    return [
        ("token", cbor2.loads(data_of(vector["text"]))),
        ("claims", vector["claims"]),
        ("enc-structure", ["Encrypt0", protected, aad])
        if vector["alg"] == 3
        else ("mac-structure", ["MAC0", protected, aad, payload]),
    ]


def test_the_cddl_describes_every_token_and_every_field_of_it_is_in_some_token() -> None:
    used: set[str] = set()
    for vector in FILE["accept"]:
        for rule, value in described(vector):
            points = CDDL.rules[rule](value)
            assert points is not None, (vector["name"], rule)
            used |= points
    assert set().union(*CDDL.points.values()) - used == set()


REFUSED = [
    vector
    for vector in FILE["reject"]
    if vector["name"].startswith(("frame: ", "payload: ")) and vector["name"] != "payload: an array of four, encrypted"
]


@pytest.mark.parametrize("vector", REFUSED, ids=name)
def test_the_cddl_describes_no_frame_or_payload_that_is_refused(vector: dict[str, Any]) -> None:
    """So that its yes means something."""
    assert deterministic(data_of(vector["text"]), CDDL.rules["token"]) is None
