"""The vectors of the specification hold for this library, are what the dumb twins say today, and are as they were released."""

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from causal.lab.vectors.answer import answer
from causal.lab.vectors.format import Vector, load
from tests.spec.make import MAKERS, VECTORS, broken, digest, digests, made, pin, released, render, written

SCHEMA = json.loads((VECTORS / "schema.json").read_text(encoding="utf-8"))
HERE = Path(__file__).parent
ALONE = """
import sys
sys.modules["causal"] = None  # whoever imports it, also by way of others, fails
from tests.spec.make import MAKERS, VECTORS, made, render
for area in MAKERS:
    assert (VECTORS / f"{area}.json").read_text(encoding="utf-8") == render(made(area)), area
"""


@pytest.mark.parametrize("vector", load(VECTORS, MAKERS), ids=lambda v: f"{v.area}: {v.name}")
def test_this_library_answers(vector: Vector) -> None:
    given = json.loads(json.dumps({"id": 1, "op": vector.op, "in": vector.given}))
    answered = json.loads(json.dumps(answer(given)))
    assert not vector.judge(answered)


@pytest.mark.parametrize("area", MAKERS)
def test_a_file_is_what_its_twin_says(area: str) -> None:
    written = (VECTORS / f"{area}.json").read_text(encoding="utf-8")
    assert written == render(made(area)), "run: python -m tests.spec.make; review the difference"


@pytest.mark.parametrize("area", MAKERS)
def test_a_file_is_as_the_schema_says(area: str) -> None:
    file: dict[str, Any] = json.loads((VECTORS / f"{area}.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(SCHEMA).validate(file)
    assert file["area"] == area
    names = [vector["name"] for vector in file["vectors"]]
    assert len({*names}) == len(names)
    asked = [json.dumps([vector["op"], vector["in"]], sort_keys=True) for vector in file["vectors"]]
    assert len({*asked}) == len(asked), "two vectors ask the same"


WRONG: dict[str, Callable[[dict[str, Any], dict[str, Any], dict[str, Any]], object]] = {
    "a member nobody knows": lambda file, right, refused: right.update(more=1),
    "no sentence": lambda file, right, refused: right.pop("cites"),
    "an empty list of sentences": lambda file, right, refused: right.update(cites=[]),
    "a sentence with a leading zero": lambda file, right, refused: right.update(cites=["C-01"]),
    "a sentence twice": lambda file, right, refused: right.update(cites=["C-1", "C-1"]),
    "a sentence of another page": lambda file, right, refused: right.update(cites=["T-1"]),
    "an answer and an error": lambda file, right, refused: right.update(error={"type": "ClockError"}),
    "an answer, an error and a reason": lambda file, right, refused: right.update(refused | right),
    "an answer and a reason": lambda file, right, refused: right.update(reason="why"),
    "an error without a reason": lambda file, right, refused: refused.pop("reason"),
    "an error of no such name": lambda file, right, refused: refused["error"].update(type="ClockEror"),
    "nothing to come of it": lambda file, right, refused: right.pop("out"),
    "an empty answer": lambda file, right, refused: right.update(out={}),
    "an answer that is null": lambda file, right, refused: right.update(out=None),
    "a number for decimal text": lambda file, right, refused: right.update(out={"timestamp": 0}),
    "a float as decimal text": lambda file, right, refused: right.update(out={"timestamp": "1e5"}),
    "leading zeros": lambda file, right, refused: right["in"].update(last="007"),
    "a number among texts": lambda file, right, refused: right.update(out={"timestamps": ["1", 2]}),
    "an operation of another area": lambda file, right, refused: right.update(op="token.seal"),
    "an operation of no such name": lambda file, right, refused: right.update(op="clock.tik"),
    "a blank name": lambda file, right, refused: right.update(name=" "),
    "another version": lambda file, right, refused: file.update(spec=2),
    "another area": lambda file, right, refused: file.update(area="token"),
    "no vectors": lambda file, right, refused: file.update(vectors=[]),
}


@pytest.mark.parametrize("spoil", WRONG.values(), ids=WRONG)
def test_the_schema_notices(spoil: Callable[[dict[str, Any], dict[str, Any], dict[str, Any]], object]) -> None:
    file = json.loads((VECTORS / "clock.json").read_text(encoding="utf-8"))
    right, refused = (next(vector for vector in file["vectors"] if part in vector) for part in ("out", "error"))
    spoil(file, right, refused)
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(file)


def one_of_each() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """A file with one vector, and that vector: of each operation what it answers, and of each error."""
    for area in MAKERS:
        file: dict[str, Any] = json.loads((VECTORS / f"{area}.json").read_text(encoding="utf-8"))
        kinds = {(vector["op"], vector.get("error", {}).get("type")): vector for vector in file["vectors"]}
        yield from ((file | {"vectors": [vector]}, vector) for vector in kinds.values())


def test_the_schema_knows_every_member_of_every_operation_and_its_type() -> None:
    schema = jsonschema.Draft202012Validator(SCHEMA)
    seen = 0
    for file, vector in one_of_each():
        assert schema.is_valid(file)
        for side in {"in", "out", "error"} & vector.keys():
            right = dict(vector[side])
            for name in right if side != "error" else right.keys() & {"type", "key_id", "claims", "line"}:
                without = {key: right[key] for key in right if key != name}
                vector[side] = without | {f"{name}_": right[name]}
                assert side == "error" or not schema.is_valid(file), (vector["op"], name)
                refused = []
                for other in ({"no": "type"}, ["no type"], 0.5, True, "\N{SNOWMAN}"):
                    vector[side] = right | {name: other}
                    refused.append(not schema.is_valid(file))
                assert sum(refused) >= 3, (vector["op"], name)
                seen += 1
            vector[side] = right
    assert seen > 200


PINS = {
    "clock": "a428e765108d9a71106e9b3cb25cf7b3e0515a5cb5d59fa085eb0378cb74af6c",
    "frontier": "873a94f041d02ba6f9eb59d00dbbc7ae4ea2e2c9be8ca098c2b0da36c71b9caf",
    "token": "73355eed58c76aa123e66870e084479f301449dfb0fe4f96fbe821226ac0b130",
}
"""By area that is released: what all of it comes to. It changes where vectors are added (`python -m tests.spec.make --release AREA` says
to what), and then no line of released.json may have changed or gone."""


def test_what_was_released_is_as_it_was() -> None:
    assert {area: pin(area) for area in released()} == PINS
    assert not broken(written())


def test_a_released_vector_that_changed_or_is_gone_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    (first, was), *_ = digests(written())["clock"].items()
    monkeypatch.setattr("tests.spec.make.released", lambda: {"clock": {first: was, "one that is gone": was}})
    assert broken(written()) == ["clock: one that is gone"]
    monkeypatch.setattr(
        "tests.spec.make.released", lambda: {"clock": {first: was[::-1]}, "gone": {"with its file": was}}
    )
    assert broken(written()) == [f"clock: {first}", "gone: with its file"]


def test_what_a_vector_gives_and_asks_is_in_its_digest_and_what_it_cites_is_not() -> None:
    file = json.loads((VECTORS / "token.json").read_text(encoding="utf-8"))
    vector = file["vectors"][0]
    same = digest(file, vector)
    assert digest(file, vector | {"cites": ["T-1"], "name": "other words"}) == same
    for other in (vector | {"op": "token.open"}, vector | {"in": {}}, vector | {"out": {}}):
        assert digest(file, other) != same
    assert digest(file | {"given": {}}, vector) != same


def test_the_files_are_made_where_what_they_check_cannot_even_be_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALONE], cwd=HERE.parents[1], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_twins_and_makers_share_no_code_with_what_they_check() -> None:
    for path in [path for folder in ("twins", "makers", "tokens") for path in (HERE / folder).glob("*.py")]:
        imported = {
            alias.name if isinstance(node, ast.Import) else str(node.module)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        assert "causal" not in {name.partition(".")[0] for name in imported}, path


@pytest.mark.spec("C-1")
def test_the_serving_program_answers_a_line_for_a_line() -> None:
    from causal.lab.vectors.answer import serve

    assert [
        *serve(['{"id": 7, "op": "clock.tick", "in": {"last": null, "wall_ms": 3}}', '{"id": 8, "op": "no.such"}'])
    ] == [
        '{"id": 7, "out": {"timestamp": "196608"}}',
        '{"id": 8, "unsupported": true}',
    ]
