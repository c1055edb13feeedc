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
        assert f"`{packed.hex(' ')}`" in " ".join(PAGE.split()) or vector["out"]["text"] in PAGE


def test_the_page_explains_each_byte_of_a_token_in_its_place() -> None:
    """The drawing: place, bytes, and what they are. And the ruler above it has its marks where the parts begin."""
    (text,) = re.findall(r"^```text\n([\w-]{60,})\n```$", PAGE, re.MULTILINE)
    data = data_of(text)
    drawn = b""
    lines = re.findall(r"^ {1,3}(\d+)  [├│└ ]*((?:[0-9a-f]{2} )*[0-9a-f]{2})(?: {2,}.+)?$", PAGE, re.MULTILINE)
    for place, shown in lines:
        assert int(place) == len(drawn)
        drawn += bytes.fromhex(shown)
    assert drawn == data
    ruler, line = re.findall(r"^byte(.*)\n +(\+[-+]+)$", PAGE, re.MULTILINE)[0]
    starts = [int(place) for place in re.findall(r"\d+", ruler)]
    assert starts == [0, 1, 5, 9, 11, 39, 40, len(data)]
    assert line.count("+") == len(starts)


def test_the_page_says_how_long_texts_of_a_payload_are() -> None:
    """The table of sizes, the limits that follow from it, and the sizes of all vectors."""
    rows = re.findall(r"^\| (\d) \| (\d+) \+ head\(p(?: \+ (\d+))?\) \+ p \+ (\d+) \|$", PAGE, re.MULTILINE)
    sizes = {int(alg): (int(before), int(more or 0), int(after)) for alg, before, more, after in rows}
    assert set(sizes) == {3, 4, 5}

    def characters(alg: int, payload: int) -> int:
        before, more, after = sizes[alg]
        head = 1 if payload + more < 24 else 2 if payload + more < 256 else 3
        return -(-4 * (before + head + payload + after) // 3)

    for vector in SEALED:
        assert characters(vector["in"]["alg"], len(vector["out"]["payload"]) // 2) == len(vector["out"]["text"])
    (signed, encrypted), *_ = re.findall(r"payload \| at most ([\d,]+) bytes, by the text; ([\d,]+) encrypted", PAGE)
    for alg, most in ((4, signed), (3, encrypted)):
        assert characters(alg, int(most.replace(",", ""))) <= 4096 < characters(alg, int(most.replace(",", "")) + 1)


def test_the_page_calculates_chances_right() -> None:
    """Nonces: n^2 / 2^97. Tags: N / 2^64. To the two digits that are shown."""

    def number(shown: str) -> float:
        base, _, power = shown.replace(",", "").partition(" * 10^")
        return float(base) * 10.0 ** int(power or 0)

    nonces = re.findall(
        r"^\| ([\d,]+) \| ([^|]+?)(?: = 2\^32)? \| ([^|]+) \| ([^|]+) \| [\d,]+ \w+ \|$", PAGE, re.MULTILINE
    )
    assert len(nonces) == 3
    for rate, n, hour, year in nonces:
        exact = number(rate) * 3600
        assert number(n) == pytest.approx(exact, rel=0.02, abs=0)
        assert number(hour) == pytest.approx(exact**2 / 2**97, rel=0.05, abs=0)
        assert number(year) == pytest.approx(exact**2 / 2**97 * 24 * 365.25, rel=0.05, abs=0)
    guesses = re.findall(r"^\| ([\d,]+) \| ([^|]+) \| ([^|]+\^-\d+) \|$", PAGE, re.MULTILINE)
    assert len(guesses) == 3
    for rate, n, chance in guesses:
        exact = number(rate) * 86_400 * 365.25
        assert number(n) == pytest.approx(exact, rel=0.05, abs=0)
        assert number(chance) == pytest.approx(exact / 2**64, rel=0.05, abs=0)


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
