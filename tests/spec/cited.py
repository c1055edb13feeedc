"""Which numbered sentences of the specification no vector or no test stands for, and which citations cite nothing.

A sentence is numbered where a page of docs/spec says `**T-14** MUST ...` (or MUST NOT, SHOULD, SHOULD NOT). A vector stands for it by
`"cites": ["T-14"]`, a test by `@pytest.mark.spec("T-14")` on the function or class, or `pytestmark` of its module. What pytest would
not run everywhere stands for nothing: helpers, and what is skipped or expected to fail, be it under a condition. Nor does a vector of
a file that is not as the schema says. Each MUST and SHOULD of a page has its own number before it, and no other such word is used.

    python -m tests.spec.cited      list what is missing; exit code 1 if anything is
"""

import ast
import json
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

ROOT = Path(__file__).parents[2]
NUMBERED = re.compile(r"\*\*([A-Z]-\d+)\*\*(?: (MUST|SHOULD)\b)?")
NUMBER = re.compile(r"\b[A-Z]-\d+\b")
WORD = re.compile(r"\b(?:MUST|SHOULD)\b")
MEANT = re.compile(r"(?:MUST NOT|MUST|SHOULD NOT|SHOULD|, | and )+ (?:are|is)\b[^.]*\bRFC 2119[^.]*\.")
"""The sentence that says how the words are meant. What else stands beside it has its number."""
OTHER = re.compile(r"\b(?:SHALL|REQUIRED|RECOMMENDED|MAY|OPTIONAL)\b")
"""Those words of RFC 2119 that are not used here: one word for each idea."""
CODE = re.compile(r"^ *```.*?^ *```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
BLOCKS = re.compile(r"\n *\n|\n(?= *[-|])")
"""What parts paragraphs, items and rows."""
DOUBTFUL = ("skip", "skipif", "xfail", "skipIf", "skipUnless", "expectedFailure")
GIVES_UP = ("skip", "xfail", "importorskip", "skipTest", "SkipTest")
"""Marks, and what is called: of `pytest`, `unittest` or imported from them, by the end of the name."""
Test = ast.FunctionDef | ast.AsyncFunctionDef


# --- pages and vectors -----------------------------------------------------------------------------------------------


def pages(root: Path = ROOT) -> dict[str, str]:
    """Name -> text of each page, those of the folders below included."""
    spec = root / "docs" / "spec"
    return {
        path.relative_to(spec).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted((*spec.rglob("*.md"), *spec.rglob("*.cddl")))
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
    """The paragraphs of a page with a MUST or SHOULD that has no number of its own. What says how the words are meant is none."""
    for block in BLOCKS.split(MEANT.sub("", CODE.sub("", text))):
        numbered = [word for _, word in NUMBERED.findall(block) if word]
        if len(WORD.findall(block)) > len(numbered) or OTHER.search(block):
            yield " ".join(block.split())[:80]


NO_VECTORS = ("schema", "released")
"""Beside the files of vectors."""


@cache
def files(root: Path = ROOT) -> list[tuple[str, dict[str, Any], str]]:
    """The files of vectors: name, content, and what is wrong with it by the schema, if anything is."""
    folder, found = root / "docs" / "spec" / "vectors", []
    schema = jsonschema.Draft202012Validator(json.loads((folder / "schema.json").read_text(encoding="utf-8")))
    for path in sorted(folder.glob("*.json")):
        if path.stem not in NO_VECTORS:
            file = json.loads(path.read_text(encoding="utf-8"))
            wrong = "; ".join(f"{error.json_path} {error.message[:80]}" for error in schema.iter_errors(file))
            if not wrong and file.get("area") != path.stem:
                wrong = f"it is the file of another area, {file.get('area')}"
            found.append((path.stem, file, wrong))
    return found


def by_vectors(root: Path = ROOT) -> dict[str, list[str]]:
    """Number -> the vectors that cite it."""
    found: dict[str, list[str]] = {}
    for name, file, wrong in files(root):
        for vector in () if wrong else file["vectors"]:
            for number in vector["cites"]:
                found.setdefault(number, []).append(f"{name}: {vector['name']}")
    return found


# --- tests -----------------------------------------------------------------------------------------------------------


def mentioned(nodes: Iterable[ast.AST]) -> set[str]:
    """All names and attributes in some trees, called or not: of `pytest.mark.skip`, `pytest`, `mark` and `skip`."""
    inner = [inner for node in nodes for inner in ast.walk(node)]
    named = {node.id for node in inner if isinstance(node, ast.Name)}
    return named | {node.attr for node in inner if isinstance(node, ast.Attribute)}


def doubtful(nodes: Iterable[ast.AST]) -> bool:
    return not mentioned(nodes).isdisjoint(DOUBTFUL)


def gives_up(nodes: Iterable[ast.AST]) -> bool:
    calls = [ast.unparse(n.func).split(".") for node in nodes for n in ast.walk(node) if isinstance(n, ast.Call)]
    return any(name[-1] in GIVES_UP and "mark" not in name for name in calls)


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

    def __init__(self, path: Path, root: Path) -> None:
        self.name = path.relative_to(root).as_posix()
        self.body = ast.parse(path.read_text(encoding="utf-8")).body
        self.assigned = {
            name.id: node.value
            for node in self.body
            if isinstance(node, ast.Assign)
            for name in node.targets
            if isinstance(name, ast.Name)
        }
        self.functions = {node.name: node for node in self.body if isinstance(node, Test)}
        for shared in (folder / "conftest.py" for folder in path.parents if folder.is_relative_to(root)):
            body = ast.parse(shared.read_text(encoding="utf-8")).body if shared.exists() else []
            self.functions = {node.name: node for node in body if isinstance(node, Test)} | self.functions

    def cites(self) -> Iterator[tuple[str, str]]:
        """Number, and the test that cites it."""
        marked = [self.assigned["pytestmark"]] if "pytestmark" in self.assigned else []
        loose = [node for node in self.body if not isinstance(node, Test | ast.ClassDef)]
        if doubtful(marked) or gives_up(self._calls(loose)) or _is_no_test(self.body):
            return
        yield from self._within(self.body, "", list(marks(marked)))

    def _within(self, body: Iterable[ast.stmt], of: str, inherited: list[str]) -> Iterator[tuple[str, str]]:
        body = [*body]
        last = {node.name: node for node in body if isinstance(node, Test | ast.ClassDef)}
        for node in body:
            if not isinstance(node, Test | ast.ClassDef) or last[node.name] is not node:
                continue  # what another of the same name follows is not there any more
            if isinstance(node, ast.ClassDef):
                if node.name.startswith("Test") and not doubtful(node.decorator_list) and not _is_no_test(node.body):
                    more = [*inherited, *marks(node.decorator_list)]
                    yield from self._within(node.body, f"{of}{node.name}::", more)
            elif node.name.startswith("test") and not self._gives_up(node):
                for number in (*inherited, *self._of(node)):
                    yield number, f"{self.name}::{of}{node.name}"

    def _gives_up(self, test: Test) -> bool:
        """Whether it may be skipped: by a mark that is not one parameter's, by itself, or by a fixture or a helper."""
        plain = [node for node in test.decorator_list if "parametrize" not in ast.unparse(node).partition("(")[0]]
        return doubtful(plain) or gives_up(self._calls([*test.body, test.args, *plain]))

    def _calls(self, nodes: Iterable[ast.AST]) -> list[ast.AST]:
        """Some trees, and the functions of this file that they name, as fixtures or otherwise, and those that these name."""
        trees, seen = [*nodes], set[str]()
        for tree in trees:  # which grows
            inner = [*ast.walk(tree)]
            named = mentioned([tree]) | {node.arg for node in inner if isinstance(node, ast.arg)}
            named |= {str(n.value) for n in inner if isinstance(n, ast.Constant)}  # usefixtures("of such a name")
            for name in sorted(named & self.functions.keys() - seen):
                seen.add(name)
                trees += [*self.functions[name].body, self.functions[name].args]
        return trees

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


def _is_no_test(body: Iterable[ast.stmt]) -> bool:
    """Whether pytest collects nothing of a class or a file, whatever it is called."""
    for node in body:
        if isinstance(node, ast.Assign) and {"__test__"} & mentioned(node.targets):
            return True
        if isinstance(node, Test) and node.name in {"__init__", "__new__"}:
            return True
    return False


@cache
def by_tests(root: Path = ROOT) -> dict[str, list[str]]:
    """Number -> the tests that cite it."""
    found: dict[str, list[str]] = {}
    for path in sorted((root / "tests").rglob("test_*.py")):
        if "mark.spec(" in path.read_text(encoding="utf-8"):
            for number, test in _Module(path, root).cites():
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
    lines += [f"{name}.json: not as the schema says: {wrong}" for name, _, wrong in files(root) if wrong]
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
