"""The house holds: imports only go down, the core is pure, and every file stays small and says what it is.

The table below is the whole plan. A new file of a listed folder needs no entry; any other new file needs a line,
placed after what it imports and before what imports it.
"""

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src"

# One row a floor, lowest first. A file imports only from rows above its own in this table, or from names before it
# in its row. A name is a file or a folder; `folder/*` is every file (or small folder) of it, none of which may import
# another. Inside a folder that is named whole, imports only have to be free of circles.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("core.position", "core.receipt", "errors"),  # values that errors carry as evidence, and that raise none
    (
        "core.hlc",
        "core.frontier",
        "core.watermark",
        "core.touched",
        "core.token",
        "core.columns",
        "core.cose",
        "core.entries",
        "core.plain",
        "core.wire",
        "core.keyring",
        "core.policy",
        "core.endpoint",
        "core.evidence",
        "core.view",
        "core.waiting",
        "core.demand",
        "core.decision",
        "core.covered",
        "core.lost",
        "core.gate",
        "core",  # its __init__, after all that it may name
    ),
    (
        "ceiling",
        "clock",
        "keyfile",
        "keys",
        "controls",
        "kv",
        "engine",
        "recorder",
        "trail",
        "sealing",
        "session",
        "state",
        "asking",
        "feed",
        "request",
        "transaction",
        "grant",
        "claims",
        "repeat",
        "ending",
        "blocks",
        "write_blocks",
        "recorded",
        "store",
        "async_store",
        "context",
    ),
    ("",),  # causal/__init__.py, the public names: nothing below may import it
    ("stores/*",),
    ("derived",),
    (
        "integrations.carrier",
        "integrations.cookies",
        "integrations.counting",
        "integrations.headers",
        "integrations.refusals",
        "integrations.rules",
        "integrations.responses",
        "integrations.calls",
        "integrations.work",
        "integrations",
        "integrations/*",
        "caches",
    ),
    ("lab", "testing"),
    ("cli", "__main__"),
)

# All of the standard library that the core may import. What is missing reads a clock, does I/O, starts a thread,
# logs, or looks at the machine.
PURE = frozenset(
    "__future__ abc base64 binascii bisect collections copy dataclasses enum functools hashlib heapq hmac itertools "
    "math operator re string struct types typing".split()
)
PURE_EXCEPT = {"core.keyring": {"secrets"}}  # randomness only to make a key or a nonce
IMPURE_BUILTINS = frozenset({"breakpoint", "eval", "exec", "input", "open", "print"})

RUNTIME = frozenset({"attr", "attrs", "cbor2", "cryptography"})
# Where, a file or a folder, a distribution may be imported that the package does not require.
OPTIONAL = {
    "cli": {"click", "rich"},
    "stores.postgres": {"psycopg", "psycopg_pool"},
    "caches.valkey": {"valkey"},
    "derived.postgres": {"psycopg"},
    "derived.feeds.logical": {"psycopg"},
    "derived.feeds.query": {"psycopg"},
    "lab.postgres": {"psycopg", "pytest"},
    "lab.report.figure": {"matplotlib"},
    "testing": {"hypothesis"},
    "integrations.calls": {"idna"},
    "integrations.celery": {"celery"},
    "integrations.requests": {"requests", "urllib3"},
}

MAX_LINES = 400

Sources = Mapping[str, str]  # module name below `causal` -> source text


def modules(root: Path) -> dict[str, str]:
    """Every module below a package folder, by its dotted name there; the package itself is ''."""
    sources = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        sources[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return sources


def within(module: str, folder: str) -> bool:
    """Whether a module is this file, or lies in this folder."""
    return module == folder or module.startswith(f"{folder}.")


def place(module: str) -> tuple[int, int, str] | None:
    """(floor, place on it, entry) of a module; None if the table has no place for it."""
    best: tuple[int, int, str] | None = None
    for floor, names in enumerate(FLOORS):
        for nth, name in enumerate(names):
            folder = name.removesuffix("/*")
            inside = module == folder if folder in {"", "core"} else within(module, folder)
            if inside and (best is None or len(name) > len(best[2])):
                best = (floor, nth, name)
    if best is None and module.rpartition(".")[2].startswith("_"):
        # A helper with a leading underscore stands before all named files of its floor.
        floor = 1 if module.startswith("core.") else 2
        return (floor, -1, module)
    return best


def imports(module: str, tree: ast.Module, known: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Every name that a module imports, absolute and as deep as it is a module, with its line: wherever it stands."""
    known = {f"causal.{name}".rstrip(".") for name in known}

    def deepest(base: str, name: str) -> str:
        return f"{base}.{name}" if f"{base}.{name}" in known else base

    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: relative import"
            for name in sorted({deepest(node.module or "", alias.name) for alias in node.names}):
                yield name, node.lineno
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "__import__"}:
                target = node.args[0] if node.args else None
                text = target.value if isinstance(target, ast.Constant) else "<computed at run time>"
                yield str(text), node.lineno


def peers_apart(module: str, target: str, entry: str) -> bool:
    """Whether two modules of a `folder/*` entry are files (or small folders) that must not know each other."""
    folder = entry.removesuffix("/*")
    mine, theirs = (name.removeprefix(folder).lstrip(".").partition(".")[0] for name in (module, target))
    return entry.endswith("/*") and mine != theirs


def broken_rules(sources: Sources) -> list[str]:
    """Every way in which these sources break the plan of the house."""
    wrong: list[str] = []
    graph: dict[str, set[str]] = {}
    for module, source in sources.items():
        tree = ast.parse(source)
        where = f"causal.{module}".rstrip(".")
        if not ast.get_docstring(tree):
            wrong.append(f"{where}: no module docstring")
        if (lines := source.count("\n")) > MAX_LINES:
            wrong.append(f"{where}: {lines} lines, more than {MAX_LINES}: two ideas?")
        mine = place(module)
        if mine is None:
            wrong.append(f"{where}: stands on no floor: give it a place in FLOORS")
            continue
        graph[module] = set()
        core = mine[2].partition(".")[0] == "core"
        for name, line in imports(module, tree, sources):
            at = f"{where}:{line} imports {name}"
            top = name.partition(".")[0]
            if top == "causal":
                target = name.removeprefix("causal").lstrip(".")
                theirs = place(target)
                if target == module:
                    continue
                graph[module].add(target)
                if theirs is None:
                    wrong.append(f"{at}: which stands on no floor")
                elif theirs[:2] > mine[:2]:
                    wrong.append(f"{at}: upward")
                elif theirs[:2] == mine[:2] and (theirs[1] == -1 or peers_apart(module, target, mine[2])):
                    wrong.append(f"{at}: a neighbour")
            elif top in sys.stdlib_module_names:
                if core and top not in PURE | PURE_EXCEPT.get(module, set()):
                    wrong.append(f"{at}: the core is pure")
            elif top not in RUNTIME and not any(top in OPTIONAL[name] for name in OPTIONAL if within(module, name)):
                wrong.append(f"{at}: not a dependency that it may count on")
        if core:
            wrong.extend(
                f"{where}:{node.lineno} calls {node.func.id}: the core is pure"
                for node in ast.walk(tree)
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_BUILTINS
            )
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        wrong.append("a circle: " + " -> ".join(f"causal.{name}" for name in circle.args[1]))
    return wrong


def test_the_house_holds() -> None:
    sources = modules(SRC / "causal")
    assert "errors" in sources
    assert broken_rules(sources) == []


PLAIN = {
    "": '"""Names."""\nfrom causal.store import Store\n',
    "errors": '"""Errors."""\n',
    "core": '"""Core."""\n',
    "core.hlc": '"""Clock steps."""\nfrom causal.errors import X\n',
    "core.frontier": '"""Frontier."""\nimport attrs\nimport functools\n',
    "core.keyring": '"""Keys."""\nimport secrets\n',
    "core.gate": '"""Gate."""\nfrom causal.core import frontier\n',
    "clock": '"""Clock."""\nimport time\nfrom causal.core.hlc import tick\n',
    "session": '"""Session."""\nfrom causal.core.gate import decide\n',
    "store": '"""Store."""\nfrom causal._loop import run\nfrom causal.session import S\n',
    "_loop": '"""A helper."""\nfrom causal.core import gate\n',
    "stores": '"""Engines."""\n',
    "stores.memory": '"""Memory."""\nfrom causal.store import Store\n',
    "stores.sqlite": '"""A small folder."""\nfrom causal.stores.sqlite.log import L\n',
    "stores.sqlite.log": '"""Log."""\nimport sqlite3\n',
    "caches.redis": '"""A cache."""\n',
    "lab.replay": '"""Replay."""\nfrom causal.stores.memory import M\n',
    "testing": '"""Testing."""\nimport hypothesis\n',
    "cli": '"""Command line."""\n',
    "cli.demo": '"""Demo."""\nimport rich\nfrom causal.lab import replay\nfrom causal import Store\n',
}


def test_a_sound_plan_passes() -> None:
    assert broken_rules(PLAIN) == []


@pytest.mark.parametrize(
    ("module", "line", "complaint"),
    [
        ("errors", "import causal.core.hlc", "upward"),
        ("core.hlc", "from causal.core.frontier import Frontier", "upward"),
        ("core.frontier", "def f():\n    from causal.core import gate", "upward"),
        ("core.gate", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from causal.store import S", "upward"),
        ("core.gate", "import time", "pure"),
        ("core.gate", "import secrets", "pure"),
        ("core.keyring", "import os.path", "pure"),
        ("core.keyring", "def f():\n    return open('x')", "pure"),
        ("session", "from causal.store import Store", "upward"),
        ("store", "from causal import Store", "upward"),
        ("_loop", "from causal.session import S", "upward"),
        ("store", "from causal.stores import memory", "upward"),
        ("store", "import importlib\ndef f(): importlib.import_module('causal.stores.memory')", "upward"),
        ("stores.memory", "import importlib\ndef f(x): importlib.import_module(x)", "may count on"),
        ("stores.memory", "import causal.stores.sqlite", "a neighbour"),
        ("stores.sqlite.log", "import causal.stores.sqlite", "a circle"),
        ("caches.redis", "from causal.lab import replay", "upward"),
        ("lab.replay", "from causal.testing import Stage", "upward"),
        ("lab.replay", "from causal.cli import demo", "upward"),
        ("lab.replay", "import rich", "may count on"),
        ("lab.replay", "import matplotlib", "may count on"),
        ("stores.memory", "import click", "may count on"),
        ("store", "import psycopg", "may count on"),
        ("store", "from causal.nowhere import x", "no floor"),
        ("store", "\n" * MAX_LINES, "lines"),
    ],
)
def test_a_planted_edge_is_found(module: str, line: str, complaint: str) -> None:
    wrong = broken_rules({**PLAIN, module: PLAIN[module] + line + "\n"})
    assert complaint in wrong[0]
    assert all("a circle" in line for line in wrong[1:])  # an upward edge often closes one


def test_a_file_without_a_place_or_a_docstring_is_found() -> None:
    assert broken_rules({**PLAIN, "nowhere": '"""Somewhere."""\n'}) == [
        "causal.nowhere: stands on no floor: give it a place in FLOORS"
    ]
    assert broken_rules({**PLAIN, "clock": "import time\n"}) == ["causal.clock: no module docstring"]
