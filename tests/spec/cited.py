"""Which numbered sentences of the specification no vector or no test stands for, and which citations cite nothing.

A sentence is numbered where a page of docs/spec says `**T-14** MUST ...` (or MUST NOT, SHOULD, SHOULD NOT). A vector stands for it by
`"cites": ["T-14"]`, a test by `@pytest.mark.spec("T-14")` on the function or class, or `pytestmark` of its module.

    python -m tests.spec.cited      list what is missing; exit code 1 if anything is
"""

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "docs" / "spec"
NUMBERED = re.compile(r"\*\*([A-Z]-\d+)\*\*(?: (MUST|SHOULD)\b)?")
NUMBER = re.compile(r"\b[A-Z]-\d+\b")


def sentences() -> dict[str, list[str]]:
    """Number -> the pages that define it."""
    found: dict[str, list[str]] = {}
    for page in sorted(SPEC.glob("*.md")):
        for number, word in NUMBERED.findall(page.read_text(encoding="utf-8")):
            found.setdefault(number, []).append(page.name if word else f"{page.name}, without MUST or SHOULD")
    return found


def by_vectors() -> dict[str, list[str]]:
    """Number -> the vectors that cite it."""
    found: dict[str, list[str]] = {}
    for path in sorted((SPEC / "vectors").glob("*.json")):
        file = json.loads(path.read_text(encoding="utf-8"))
        for vector in file.get("vectors", ()) if isinstance(file, dict) else ():
            for number in vector["cites"]:
                found.setdefault(number, []).append(f"{path.stem}: {vector['name']}")
    return found


def marks(node: ast.AST) -> Iterator[str]:
    """The numbers of a `pytest.mark.spec(...)`."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.spec":
        for argument in node.args:
            assert isinstance(argument, ast.Constant), f"numbers are written out, not {ast.unparse(argument)}"
            yield str(argument.value)


def by_tests() -> dict[str, list[str]]:
    """Number -> the tests that cite it. A mark on what is no test, and that pytest would not run, counts for nothing."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if "mark.spec(" not in text:
            continue
        tree = ast.parse(text)
        for node in ast.walk(tree):
            cites: list[str] = []
            name = path.name
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                if node.name.startswith(("test_", "Test")):
                    cites = [number for decorator in node.decorator_list for number in marks(decorator)]
                    name = f"{path.name}::{node.name}"
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.param":
                cites = [n for keyword in node.keywords for inner in ast.walk(keyword.value) for n in marks(inner)]
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
                cites = [number for inner in ast.walk(node.value) for number in marks(inner)]
            for number in cites:
                found.setdefault(number, []).append(name)
    return found


def missing() -> list[str]:
    """All that is wrong, a line each."""
    defined, vectors, tests = sentences(), by_vectors(), by_tests()
    lines = [f"{n}: numbered {len(pages)} times: {', '.join(pages)}" for n, pages in defined.items() if len(pages) > 1]
    lines += [f"{n}: {page}" for n, pages in defined.items() for page in pages if "without" in page]
    lines += [f"{n}: no vector cites it ({pages[0]})" for n, pages in defined.items() if n not in vectors]
    lines += [f"{n}: no test cites it ({pages[0]})" for n, pages in defined.items() if n not in tests]
    lines += [f"{n}: cited by {by[0]}, and nowhere said" for n, by in {**tests, **vectors}.items() if n not in defined]
    for page in sorted(SPEC.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        lines += [
            f"{n}: mentioned in {page.name}, and nowhere said" for n in sorted({*NUMBER.findall(text)} - {*defined})
        ]
        own = [int(number.partition("-")[2]) for number, word in NUMBERED.findall(text) if word]
        if own != sorted(own):
            lines.append(f"{page.name}: its numbers do not rise")
    return lines


def main() -> None:
    lines, defined = missing(), sentences()
    print("\n".join(lines) if lines else f"{len(defined)} numbered sentences, each with a vector and a test")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
