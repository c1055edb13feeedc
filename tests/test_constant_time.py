"""That no comparison of a tag or a key ends early: a review, written down so that it is done again with every change.

A comparison that stops at the first byte that differs tells how many were right, and so tags can be found byte by byte. Tags are
compared in two places, by `hmac.compare_digest` and inside AES-GCM, and nothing looks at one before. The first tests read every
comparison in the package; the last plant what they are there to find. `python -m benches.timing` measures what review can only argue.

What the eye found, and no test of names can: a token that was opened before is found in a dict by its text. That compares texts of
equal hash only, and the hash is keyed at random in each process: who can make two such texts know nothing more of either.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import causal

SRC = Path(causal.__file__).parent
WORDS = {
    "tag",
    "tags",
    "mac",
    "macs",
    "hmac",
    "digest",
    "hexdigest",
    "signature",
    "secret",
    "secrets",
    "checksum",
    "crc32",
}
MAKE = {"tag", "digest", "hexdigest", "decrypt", "encrypt", "derive", "checksum"}
COMPARE = {"startswith", "endswith", "find", "index", "count", "eq", "ne", "removeprefix", "removesuffix"}

VERIFIED = {
    ("core/keyring.py", "compare_digest(key.tag(alg, bound, item), tag)"): "the tag of a signed token",
    ("core/keyring.py", "cipher.decrypt(nonce[HOUR_BYTES:], ciphertext, cose.enc_structure(bound))"): "AES-GCM's own",
}
"""Where something secret decides: by functions that take as long whatever is wrong."""

HARMLESS = {
    ("core/cose.py", "start == _MAC_64"): "how a frame starts; nothing of a tag",
    (
        "core/cose.py",
        "data[tag_at - len(tag_head):tag_at] != tag_head",
    ): "the CBOR head before a tag: its length, which all know",
    ("core/cose.py", "len(ciphertext) < _GCM_TAG_BYTES"): "a length, which all see",
    ("core/keyring.py", "type(self.secret) is not bytes"): "when a key is made: a type",
    ("core/keyring.py", "len(self.secret) != SECRET_BYTES"): "when a key is made: a length",
    ("core/keyring.py", "tag_bits not in {64, 256}"): "a setting",
    ("core/keyring.py", "tag_bits == 64"): "a setting",
    ("core/keyring.py", "self._size(len(payload)) > limit"): "when sealing: the size of one's own claims",
    ("core/keyring.py", "payload is None"): "whether AES-GCM authenticated it, after it has said so",
    ("caches/entry.py", "checksum(key, data[:size]) != data[size:]"): "for damage alone: no secret is in it",
    ("ceiling.py", "zlib.crc32(match[1]) != int(match[3], 16)"): "for damage alone: no secret is in it",
    ("recorder.py", "int.from_bytes(drawn) < self.sample * 2 ** 64"): "which sessions an audit samples; nobody is told",
    ("recorder.py", "digest is None"): "whether a session has a subject",
}
"""Comparisons that mention such a thing and do not compare it: what, and why."""

OPENED = {
    ("core/keyring.py", "_open"): "only where compare_digest said yes",
    ("core/keyring.py", "_decrypted"): "only what AES-GCM authenticated",
    (
        "cli/presented.py",
        "look",
    ): "for whoever looks into a token by hand; it says that nothing was verified, and opens nothing",
}
"""Who decodes claims."""


def words(node: ast.AST) -> set[str]:
    """The words of all names in an expression."""
    found: set[str] = set()
    for part in ast.walk(node):
        name = part.id if isinstance(part, ast.Name) else part.attr if isinstance(part, ast.Attribute) else ""
        found.update(name.lower().strip("_").split("_"))
    return found


def called(node: ast.AST) -> str:
    """The name of what is called, if anything is."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def secret_names(scope: ast.AST) -> set[str]:
    """Names that hold a tag, a digest or a key by what they were given, through any number of assignments."""
    names: set[str] = set()
    copies: list[tuple[set[str], set[str]]] = []
    for node in ast.walk(scope):
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr, ast.AugAssign)) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            flat = [n for t in targets for n in (t.elts if isinstance(t, (ast.Tuple, ast.List)) else [t])]
            given = {n.id for n in flat if isinstance(n, ast.Name)}
            if any(called(part) in MAKE for part in ast.walk(node.value)):
                names |= given
            elif isinstance(node.value, (ast.Name, ast.Subscript)):
                copies.append((given, {part.id for part in ast.walk(node.value) if isinstance(part, ast.Name)}))
    while more := {name for given, origins in copies if origins & names for name in given} - names:
        names |= more
    return names


def comparisons(tree: ast.AST) -> Iterator[str]:
    """Yield every comparison, of whatever spelling, that touches a tag, a digest or a key."""
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    seen: set[int] = set()
    for scope in (*functions, tree):
        held = secret_names(scope)
        for node in ast.walk(scope):
            if not isinstance(node, (ast.Compare, ast.Match)) and called(node) not in COMPARE:
                continue
            judged = node.subject if isinstance(node, ast.Match) else node
            names = {part.id for part in ast.walk(judged) if isinstance(part, ast.Name)}
            if id(node) not in seen and (words(judged) & WORDS or names & held):
                seen.add(id(node))
                yield ast.unparse(judged)


@cache
def files() -> tuple[tuple[str, ast.Module], ...]:
    """Every module that has such a word anywhere: most have none, and take long to read."""
    texts = ((path.relative_to(SRC).as_posix(), path.read_text(encoding="utf-8")) for path in sorted(SRC.rglob("*.py")))
    either = "|".join(WORDS | MAKE | {"compare_digest", "decode_claims"})
    anything = re.compile(rf"(?<![a-z])({either})(?![a-z])", re.IGNORECASE)
    return tuple((name, ast.parse(text)) for name, text in texts if anything.search(text))


def test_every_comparison_that_touches_a_tag_or_a_key_is_accounted_for() -> None:
    found = {(name, text) for name, tree in files() for text in comparisons(tree)}
    assert sorted(found - HARMLESS.keys()) == [], "compare it with hmac.compare_digest, or say here why it is harmless"
    assert sorted(HARMLESS.keys() - found) == [], "accounted for, and gone"


def calls(tree: ast.AST, *names: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called(node) in names:
            yield node


def test_tags_are_verified_in_two_places_and_by_what_takes_as_long_whatever_is_wrong() -> None:
    found = {(name, ast.unparse(call)) for name, tree in files() for call in calls(tree, "compare_digest", "decrypt")}
    assert found == VERIFIED.keys()
    (keyring,) = [tree for name, tree in files() if name == "core/keyring.py"]
    imported = {
        (node.module, alias.name, alias.asname)
        for node in ast.walk(keyring)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert ("hmac", "compare_digest", None) in imported
    assert ("cryptography.hazmat.primitives.ciphers.aead", "AESGCM", None) in imported


def test_nothing_looks_at_a_tag_before_it_is_verified() -> None:
    """In the function that opens, the tag that was presented is named twice: where the frame is taken apart, and where it is compared."""
    (keyring,) = [tree for name, tree in files() if name == "core/keyring.py"]
    (opening,) = [node for node in ast.walk(keyring) if isinstance(node, ast.FunctionDef) and node.name == "_open"]
    uses = [node for node in ast.walk(opening) if isinstance(node, ast.Name) and node.id == "tag"]
    assert [type(use.ctx) for use in uses] == [ast.Store, ast.Load]
    (compared,) = calls(opening, "compare_digest")
    assert compared.args[1] is uses[1]
    assert len(list(calls(opening, "tag"))) == 1  # made inside that comparison, and nowhere else


def test_claims_are_decoded_by_those_alone_who_verified_them() -> None:
    found = set()
    for name, tree in files():
        for function in ast.walk(tree):
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)) and any(calls(function, "decode_claims")):
                found.add((name, function.name))
    assert found == OPENED.keys()
    (keyring,) = [tree for name, tree in files() if name == "core/keyring.py"]
    guarded = [
        node
        for node in ast.walk(keyring)
        if isinstance(node, ast.If)
        and any(calls(node.test, "compare_digest"))
        and not isinstance(node.test, ast.BoolOp)
    ]
    assert [[ast.unparse(line) for line in node.body] for node in guarded] == [["token = decode_claims(content)"]]


@pytest.mark.parametrize(
    "planted",
    [
        "def f(key, tag): return key.tag(4) == tag",
        "def f(mac, data): return mac != data",
        "def f(key, data):\n    expected = key.tag(4)\n    return expected == data[-8:]",
        "def f(key, data):\n    a, b = key.tag(4), 1\n    c = a\n    return c[:8] in {data}",
        "def f(key, data): return data.endswith(key.tag(4))",
        "def f(x, data):\n    want = x.digest()\n    return all(a == b for a, b in zip(want, data)) or want < data",
        "import operator\ndef f(tag, data): return operator.eq(tag, data)",
        "def f(tag):\n    match tag:\n        case b'x': return 1",
        "class K:\n    def f(self, other): return self._secret == other",
        "if SECRET == given: pass",
    ],
)
def test_a_comparison_that_ends_early_is_found(planted: str) -> None:
    assert list(comparisons(ast.parse(planted)))


@pytest.mark.parametrize(
    "sound", ["def f(a, b): return a == b", "def f(key, tag): return compare_digest(key.tag(4), tag)"]
)
def test_another_comparison_is_none_of_these(sound: str) -> None:
    assert not list(comparisons(ast.parse(sound)))
