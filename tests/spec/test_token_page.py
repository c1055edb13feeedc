"""docs/spec/token.md and token.cddl say what the vectors hold, and the vectors hold for this library in more ways than one.

Another implementation needs nothing but those three files; `test_vectors.py` is what its own test would be.
"""

import json
import re
from typing import Any

import cbor2
import pytest

from causal import CausalError, Keyring
from causal.core.keyring import Key
from causal.core.touched import fingerprint
from causal.core.wire import decode_claims
from causal.lab.vectors.token import claims_of
from tests.cddl import Grammar, deterministic
from tests.spec.make import VECTORS
from tests.spec.twins.token import data_of, derived

SPEC = VECTORS.parent
FILE = json.loads((VECTORS / "token.json").read_text(encoding="utf-8"))
SECRETS = [Key(key["id"], bytes.fromhex(key["secret"])) for key in FILE["given"]["keys"]]


def of(op: str, outcome: str) -> list[dict[str, Any]]:
    return [vector for vector in FILE["vectors"] if vector["op"] == op and outcome in vector]


SEALED, OPENED, REFUSED = of("token.seal", "out"), of("token.open", "out"), of("token.open", "error")


def name(vector: dict[str, Any]) -> str:
    return str(vector["name"])


def test_a_keyring_that_remembers_all_of_them_answers_the_same_each_time() -> None:
    for keys in (Keyring(SECRETS, cache=0), Keyring(SECRETS), remembers := Keyring(SECRETS, cache=10_000), remembers):
        for vector in OPENED + REFUSED:
            asked = {part: vector["in"][part] for part in ("text", "subject", "audience", "now")}
            text = asked.pop("text")
            if "error" not in vector:
                assert claims_of(keys.open(text, **asked)) == vector["out"]["claims"]
                continue
            with pytest.raises(CausalError) as raised:
                keys.open(text, **asked)
            assert type(raised.value).__name__ == vector["error"]["type"]


def test_payloads_come_back() -> None:
    for vector in SEALED:
        if name(vector).startswith("seal: "):
            assert claims_of(decode_claims(bytes.fromhex(vector["out"]["payload"]))) == vector["in"]["claims"]


# --- the page ------------------------------------------------------------------------------------------------------------

PAGE = (SPEC / "token.md").read_text(encoding="utf-8")
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
        vector = next(vector for vector in SEALED if vector["name"] == f"seal: {shown}")
        packed = cbor2.loads(bytes.fromhex(vector["out"]["payload"]))[2]
        assert bits == "".join(f"{byte:08b}" for byte in packed)
        assert packed.hex(" ") in PAGE or vector["out"]["text"] in PAGE


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
    assert said == {vector["error"]["type"] for vector in REFUSED}


# --- the CDDL ----------------------------------------------------------------------------------------------------------

CDDL = Grammar((SPEC / "token.cddl").read_text(encoding="utf-8"))


def described(vector: dict[str, Any]) -> list[tuple[str, Any]]:
    """All of a token that the CDDL has a rule for, with the rule."""
    given, out = vector["in"], vector["out"]
    protected = cbor2.dumps({1: given["alg"]})
    payload, aad = bytes.fromhex(out["payload"]), cbor2.dumps([given["audience"], given["subject"]])
    return [
        ("token", cbor2.loads(data_of(out["text"]))),
        ("claims", given["claims"]),
        ("enc-structure", ["Encrypt0", protected, aad])
        if given["alg"] == 3
        else ("mac-structure", ["MAC0", protected, aad, payload]),
    ]


def test_the_cddl_describes_every_token_and_every_field_of_it_is_in_some_token() -> None:
    used: set[str] = set()
    for vector in SEALED:
        for rule, value in described(vector) if name(vector).startswith("seal: ") else ():
            points = CDDL.rules[rule](value)
            assert points is not None, (vector["name"], rule)
            used |= points
    assert set().union(*CDDL.points.values()) - used == set()


MISFORMED = [
    vector
    for vector in REFUSED
    if name(vector).startswith(("frame: ", "payload: ")) and name(vector) != "payload: an array of four, encrypted"
]


@pytest.mark.parametrize("vector", MISFORMED, ids=name)
def test_the_cddl_describes_no_frame_or_payload_that_is_refused(vector: dict[str, Any]) -> None:
    """So that its yes means something."""
    assert deterministic(data_of(vector["in"]["text"]), CDDL.rules["token"]) is None
