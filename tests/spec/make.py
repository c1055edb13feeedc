"""Writes docs/spec/vectors/*.json: what implementations of the specification are held to.

A file for each maker of tests/spec/makers, which chooses the cases; what must come of each is worked out by a dumb twin of
tests/spec/twins, never by the fast code.

    python -m tests.spec.make             write the files
    python -m tests.spec.make --release clock token   and make what these hold immutable: its digests go to released.json
"""

import hashlib
import importlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
VECTORS = HERE.parents[1] / "docs" / "spec" / "vectors"
RELEASED = VECTORS / "released.json"
MAKERS = tuple(sorted(path.stem for path in (HERE / "makers").glob("[a-z]*.py")))
Vector = dict[str, Any]


def made(area: str) -> dict[str, Any]:
    """All of a file."""
    maker = importlib.import_module(f"tests.spec.makers.{area}")
    given = {"given": maker.GIVEN} if hasattr(maker, "GIVEN") else {}
    return {"spec": 1, "area": area, "about": maker.ABOUT, **given, "vectors": list(maker.vectors())}


def render(file: dict[str, Any]) -> str:
    """A file's text: a line for each member of a vector."""

    def line(value: Any) -> str:
        return json.dumps(value, ensure_ascii=True)

    def block(vector: Vector) -> str:
        return "  {\n" + ",\n".join(f"   {line(name)}: {line(value)}" for name, value in vector.items()) + "\n  }"

    head = [f" {line(name)}: {line(value)}" for name, value in file.items() if name != "vectors"]
    return "{\n" + ",\n".join([*head, ' "vectors": [\n' + ",\n".join(map(block, file["vectors"])) + "\n ]"]) + "\n}\n"


def digest(file: dict[str, Any], vector: Vector) -> str:
    """What an implementation is held to by one vector. What it stands for may still be said better: that is not part of it."""
    said = {name: vector[name] for name in ("op", "in", "out", "error") if name in vector}
    text = json.dumps([file.get("given"), said], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def written() -> list[dict[str, Any]]:
    """The files as they are."""
    return [json.loads((VECTORS / f"{area}.json").read_text(encoding="utf-8")) for area in MAKERS]


def digests(files: Iterable[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Area -> name -> digest."""
    return {file["area"]: {vector["name"]: digest(file, vector) for vector in file["vectors"]} for file in files}


def released() -> dict[str, dict[str, str]]:
    """What was released, and holds for ever."""
    found: dict[str, dict[str, str]] = json.loads(RELEASED.read_text(encoding="utf-8")) if RELEASED.exists() else {}
    return found


def pin(area: str) -> str:
    """What all that was released of an area comes to: a test holds it, so that released.json cannot be changed alone."""
    return hashlib.sha256(json.dumps(released()[area], sort_keys=True).encode()).hexdigest()


def broken(files: Iterable[dict[str, Any]]) -> list[str]:
    """The released vectors that these files do not hold as they were."""
    now = digests(files)
    return [
        f"{area}: {name}"
        for area, of in released().items()
        for name, was in of.items()
        if now.get(area, {}).get(name) != was
    ]


def main() -> None:
    files = [made(area) for area in MAKERS]
    if gone := broken(files):
        sys.exit("nothing is written: released vectors must stay as they are:\n" + "\n".join(gone))
    for file in files:
        (VECTORS / f"{file['area']}.json").write_text(render(file), encoding="utf-8")
    if sys.argv[1:2] == ["--release"]:
        now = released() | {area: of for area, of in digests(files).items() if area in sys.argv[2:]}
        RELEASED.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print("\n".join(f'    "{area}": "{pin(area)}",' for area in sorted(now)))  # for PINS of test_vectors.py


if __name__ == "__main__":
    main()
