"""Which numbered sentences of the specification no vector or no test stands for, and which citations cite nothing.

A sentence is numbered where a page of docs/spec says `**T-14** MUST ...` (or MUST NOT, SHOULD, SHOULD NOT). A vector stands for it by
`"cites": ["T-14"]`, a test by `@pytest.mark.spec("T-14")` on the function or class, or `pytestmark` of its module. What pytest would
not run everywhere stands for nothing: helpers, and what is skipped or expected to fail, be it under a condition.

    python -m tests.spec.cited      list what is missing; exit code 1 if anything is
"""

import ast
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
NUMBERED = re.compile(r"\*\*([A-Z]-\d+)\*\*(?: (MUST|SHOULD)\b)?")
NUMBER = re.compile(r"\b[A-Z]-\d+\b")
WORD = re.compile(r"\b(?:MUST|SHOULD)\b")
CODE = re.compile(r"^ *```.*?^ *```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
BLOCKS = re.compile(r"\n *\n|\n(?= *[-|])")
"""What parts paragraphs, items and rows. (Not a full stop: one number may stand for two sentences.)"""
DOUBTFUL = ("pytest.mark.skip", "pytest.mark.skipif", "pytest.mark.xfail")
GIVES_UP = ("pytest.skip", "pytest.xfail", "pytest.importorskip")
Test = ast.FunctionDef | ast.AsyncFunctionDef


# --- pages and vectors -----------------------------------------------------------------------------------------------


def pages(root: Path = ROOT) -> dict[str, str]:
    """Name -> text of each page, those of the folders below included."""
    spec = root / "docs" / "spec"
    return {
        path.relative_to(spec).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(spec.rglob("*.md"))
        if "node_modules" not in path.parts
    }


def sentences(root: Path = ROOT) -> dict[str, list[str]]:
    """Number -> the pages that define it."""
    found: dict[str, list[str]] = {}
    for name, text in pages(root).items():
        for number, word in NUMBERED.findall(text):
            found.setdefault(number, []).append(name if word else f"{name}, without MUST or SHOULD")
    return found


def unnumbered(text: str) -> Iterator[str]:
    """The paragraphs of a page that say MUST or SHOULD and have no number. What says how the words are meant is none."""
    for block in BLOCKS.split(CODE.sub("", text)):
        if WORD.search(block) and not any(word for _, word in NUMBERED.findall(block)) and "RFC 2119" not in block:
            yield " ".join(block.split())[:80]


def by_vectors(root: Path = ROOT) -> dict[str, list[str]]:
    """Number -> the vectors that cite it."""
    found: dict[str, list[str]] = {}
    for path in sorted((root / "docs" / "spec" / "vectors").glob("*.json")):
        file = json.loads(path.read_text(encoding="utf-8"))
        for vector in file.get("vectors", ()) if isinstance(file, dict) else ():
            for number in vector["cites"]:
                found.setdefault(number, []).append(f"{path.stem}: {vector['name']}")
    return found


# --- tests -----------------------------------------------------------------------------------------------------------


def called(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    """The names of all attributes, called or not, in some trees: `pytest.mark.skip`, and what it stands in."""
    for node in nodes:
        for inner in ast.walk(node):
            if isinstance(inner, ast.Attribute):
                yield ast.unparse(inner), inner


def doubtful(nodes: Iterable[ast.AST], names: tuple[str, ...] = DOUBTFUL) -> bool:
    return any(name in names for name, _ in called(nodes))


def marks(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The numbers of each `pytest.mark.spec(...)` in some trees."""
    for node in nodes:
        for inner in ast.walk(node):
            if isinstance(inner, ast.Call) and ast.unparse(inner.func) == "pytest.mark.spec":
                for argument in inner.args:
                    assert isinstance(argument, ast.Constant), f"numbers are written out, not {ast.unparse(argument)}"
                    yield str(argument.value)


class _Module:
    """One file of tests: which numbers its tests cite, those that pytest runs everywhere."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.body = ast.parse(path.read_text(encoding="utf-8")).body
        self.assigned = {
            name.id: node.value
            for node in self.body
            if isinstance(node, ast.Assign)
            for name in node.targets
            if isinstance(name, ast.Name)
        }
        self.functions = {node.name: node for node in self.body if isinstance(node, Test)}

    def cites(self) -> Iterator[tuple[str, str]]:
        """Number, and the test that cites it."""
        marked = [self.assigned["pytestmark"]] if "pytestmark" in self.assigned else []
        loose = [node for node in self.body if not isinstance(node, Test | ast.ClassDef)]
        if doubtful(marked) or doubtful(loose, GIVES_UP):
            return
        yield from self._within(self.body, "", list(marks(marked)))

    def _within(self, body: Iterable[ast.stmt], of: str, inherited: list[str]) -> Iterator[tuple[str, str]]:
        for node in body:
            if isinstance(node, ast.ClassDef) and node.name.startswith("Test") and not doubtful(node.decorator_list):
                more = [*inherited, *marks(node.decorator_list)]
                yield from self._within(node.body, f"{of}{node.name}::", more)
            elif isinstance(node, Test) and node.name.startswith("test") and not self._gives_up(node):
                for number in (*inherited, *self._of(node)):
                    yield number, f"{self.name}::{of}{node.name}"

    def _gives_up(self, test: Test) -> bool:
        """Whether it may be skipped: by a mark that is not one parameter's, by itself, or by a fixture of this file."""
        plain = [node for node in test.decorator_list if "parametrize" not in ast.unparse(node).partition("(")[0]]
        fixtures = [self.functions[one.arg] for one in test.args.args if one.arg in self.functions]
        return doubtful(plain) or doubtful([*test.body, *(line for f in fixtures for line in f.body)], GIVES_UP)

    def _of(self, test: Test) -> Iterator[str]:
        """What the marks of a test cite, and of its parameters, be they written down elsewhere in the file."""
        for decorator in test.decorator_list:
            if "parametrize" not in ast.unparse(decorator).partition("(")[0]:
                yield from marks([decorator])
                continue
            named = [
                self.assigned[n.id] for n in ast.walk(decorator) if isinstance(n, ast.Name) and n.id in self.assigned
            ]
            for tree in (decorator, *named):
                for inner in ast.walk(tree):
                    if (
                        isinstance(inner, ast.Call)
                        and ast.unparse(inner.func) == "pytest.param"
                        and not doubtful([inner])
                    ):
                        yield from marks([inner])


def by_tests(root: Path = ROOT) -> dict[str, list[str]]:
    """Number -> the tests that cite it."""
    found: dict[str, list[str]] = {}
    for path in sorted((root / "tests").rglob("test_*.py")):
        if "mark.spec(" in path.read_text(encoding="utf-8"):
            for number, test in _Module(path).cites():
                found.setdefault(number, []).append(test)
    return found


# --- what is missing -------------------------------------------------------------------------------------------------


def missing(root: Path = ROOT) -> list[str]:
    """All that is wrong, a line each."""
    defined, vectors, tests = sentences(root), by_vectors(root), by_tests(root)
    lines = [f"{n}: numbered {len(by)} times: {', '.join(by)}" for n, by in defined.items() if len(by) > 1]
    lines += [f"{n}: {page}" for n, by in defined.items() for page in by if "without" in page]
    lines += [f"{n}: no vector cites it ({by[0]})" for n, by in defined.items() if n not in vectors]
    lines += [f"{n}: no test that always runs cites it ({by[0]})" for n, by in defined.items() if n not in tests]
    lines += [f"{n}: cited by {by[0]}, and nowhere said" for n, by in {**tests, **vectors}.items() if n not in defined]
    for name, text in pages(root).items():
        lines += [f"{n}: mentioned in {name}, and nowhere said" for n in sorted({*NUMBER.findall(text)} - {*defined})]
        lines += [f"{name}: no number: {block}" for block in unnumbered(text)]
        own = [number.partition("-") for number, word in NUMBERED.findall(text) if word]
        if [int(nth) for _, _, nth in own] != sorted(int(nth) for _, _, nth in own):
            lines.append(f"{name}: its numbers do not rise")
        if len({letter for letter, _, _ in own}) > 1:
            lines.append(f"{name}: its numbers are of several letters")
    return lines


def main() -> None:
    lines, defined = missing(), sentences()
    print("\n".join(lines) if lines else f"{len(defined)} numbered sentences, each with a vector and a test")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
