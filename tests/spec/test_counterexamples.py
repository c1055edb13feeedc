"""The counterexamples that docs/spec/guarantees.md tells of: each has a vector and a test, by names that there are."""

import ast
import json
import re

import pytest

from tests.spec.cited import ROOT
from tests.spec.make import VECTORS

PAGE = (ROOT / "docs" / "spec" / "guarantees.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("\n## Counterexamples that shaped the rules\n")[2].partition("\n## ")[0]
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in SECTION.splitlines() if line[:3] != "|--"]
ROWS = [row for row in ROWS if row[0].isdecimal()]
BOXES = ("", " (white box)", " (black box)")


def names(area: str) -> set[str]:
    return {vector["name"] for vector in json.loads((VECTORS / f"{area}.json").read_text(encoding="utf-8"))["vectors"]}


def test_they_are_all_there() -> None:
    assert [int(row[0]) for row in ROWS] == [*range(1, 20)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_its_vectors_and_tests_are_there(row: list[str]) -> None:
    _, what, vectors, tests = row
    told = re.findall(r"(\w+): \*([^*]+)\*(?:; |$)", vectors)
    assert "; ".join(f"{area}: *{name}*" for area, name in told) == vectors
    for area, name in told:
        assert names(area) & {name + box for box in BOXES}, f"{area}: {name}"
    assert "histories" in {area for area, _ in told}, what
    paths = [path.strip("`") for path in tests.split(", ")]
    assert paths
    for path in paths:
        file, _, name = path.partition("::")
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, path
