"""Implementations that violate one sentence each: a dumb twin with a few of its letters changed.

What a vector stands for it must notice. So each numbered sentence has a violation, and one of the vectors that cite it fails on it.
"""

import json
import types
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from causal.errors import CausalError
from causal.lab.vectors.answer import answer
from causal.lab.vectors.format import Vector, load
from tests.spec.make import VECTORS
from tests.spec.twins.values import Refused

Changes = tuple[tuple[str, str], ...]
Answer = Callable[[types.ModuleType, str, Mapping[str, Any]], Any]


def twin(area: str, changes: Changes = ()) -> types.ModuleType:
    """A twin, changed."""
    path = Path(__file__).parent / "twins" / f"{area}.py"
    source = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert source.count(old) == 1, f"{source.count(old)} times: {old}"
        source = source.replace(old, new)
    module = types.ModuleType(f"changed_{area}")
    exec(compile(source, str(path), "exec"), module.__dict__)
    return module


def fails(vector: Vector, module: types.ModuleType, answers: Answer) -> bool:
    """Whether an implementation answers a vector wrong."""
    try:
        found: dict[str, Any] = {"out": answers(module, vector.op, vector.given)}
    except (CausalError, Refused) as error:
        evidence = {name: getattr(error, name) for name in ("key_id", "line") if hasattr(error, name)}
        if hasattr(error, "token"):
            evidence["claims"] = module.claims_of(error.token)
        found = {"error": {"type": type(error).__name__, **evidence}}
    except (
        ValueError,
        TypeError,
        LookupError,
        ArithmeticError,
        AttributeError,
    ) as error:  # what a violation may end in
        found = {"error": {"type": "ConfigError" if type(error).__name__ == "Refused" else "Wrong"}}
    return bool(vector.judge(json.loads(json.dumps(found))))


@cache
def vectors(area: str) -> tuple[Vector, ...]:
    return tuple(load(VECTORS, [area]))


def check(area: str, number: str, changes: Changes, answers: Answer) -> None:
    """The vectors that cite a number hold for this library and for the dumb twin, and some do not for one that violates the sentence."""
    cited = [vector for vector in vectors(area) if number in vector.cites]
    assert cited
    for vector in cited:
        asked = json.loads(json.dumps({"id": 1, "op": vector.op, "in": vector.given}))
        assert not vector.judge(json.loads(json.dumps(answer(asked)))), vector.name
    plain, changed = twin(area), twin(area, changes)
    assert not [vector.name for vector in cited if fails(vector, plain, answers)]
    assert [vector.name for vector in cited if fails(vector, changed, answers)], "no vector notices"
