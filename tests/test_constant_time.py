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
from hmac import compare_digest
from pathlib import Path
from typing import Literal

import pytest

import causal
from causal.core import keyring

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

MADE = {
    (
        "core/keyring.py",
        "self._macs = {alg: (*_hmac_states(derive(key.secret, alg)), MAC_STRUCTURES[alg], MACS[alg]) for alg in MACS}",
    ),
    ("core/keyring.py", "return HKDF(algorithm=SHA256(), length=32, salt=None, info=info.encode()).derive(secret)"),
    ("core/keyring.py", "return self._ciphers.get(hour) or AESGCM(derive(self.secret, A256GCM, hour))"),  # by the hour
    ("core/keyring.py", "outer.update(inner.digest())"),
    ("core/keyring.py", "tag: bytes = outer.digest()[:size]"),
    ("core/keyring.py", "compare_digest(key.tag(alg, bound, item), tag)"),
    ("core/keyring.py", "data = cose.frame_mac0(self._alg, key.id, item, key.tag(self._alg, bound, item))"),
    ("core/keyring.py", "payload = cipher.decrypt(nonce[HOUR_BYTES:], ciphertext, cose.enc_structure(bound))"),
    ("core/keyring.py", "payload = key.decrypted(nonce, ciphertext, bound)"),
    ("core/keyring.py", "return derive(self._ring.primary.secret, 'pseudonyms')"),
    # names and texts in records, and parts of them that are drawn: digests that are written down, and compared with nothing
    (
        "recorder.py",
        "return urlsafe_b64encode(blake2b(text.encode(), key=key, digest_size=DIGEST_BYTES).digest()).decode()",
    ),
    (
        "recorder.py",
        "drawn = secrets.token_bytes(8) if digest is None else blake2b(digest.encode(), digest_size=8).digest()",
    ),
    ("trail.py", "who = None if subject is None else digest(key, f'subject {subject}')"),
    ("trail.py", "return text if self.recorder.tokens else digest(self._key, f'token {text}')"),
    ("trail.py", "key = shown.key if self.recorder.names else digest(self._key, f'key {shown.key}')"),
    ("trail.py", "return f'{version[0]}@{version[1]}' if version is not None else digest(self._key, data.hex())"),
    # no secret is in these
    ("caches/entry.py", "return hashlib.sha1(key + b'\\x00' + body, usedforsecurity=False).hexdigest()[:SUM].encode()"),
    ("caches/scripts.py", "return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()"),
    (
        "controls.py",
        "digest = hashlib.blake2b(f'{self.seed}/{site}/{shard}/{origin}/{offset}'.encode(), digest_size=8).digest()",
    ),
}
"""Where a tag, a digest or a derived key is made, and so where one can go: whatever compares it by way of a function, a dict or an
attribute, has it from one of these."""
MAKERS = ("tag", "digest", "hexdigest", "derive", "decrypt", "decrypted")
ELSEWHERE = ("lab/",)
"""What simulates: nothing there is secret."""

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


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield every statement, of one with a body only what it says itself."""
    for node in ast.walk(tree):
        match node:
            case ast.If() | ast.While():
                yield node.test
            case ast.For() | ast.AsyncFor():
                yield node.iter
            case ast.With() | ast.AsyncWith():
                yield from (item.context_expr for item in node.items)
            case ast.Match():
                yield node.subject
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from (*node.decorator_list, node.args)
            case ast.ClassDef() | ast.Try() | ast.TryStar():
                pass
            case ast.stmt():
                yield node


def made(tree: ast.AST) -> set[str]:
    """The statements that make something of a key, or of what digests."""
    return {ast.unparse(statement) for statement in statements(tree) if any(calls(statement, *MAKERS))}


def test_where_tags_and_keys_are_made_they_go_nowhere_else() -> None:
    found = {(name, text) for name, tree in files() for text in made(tree) if not name.startswith(ELSEWHERE)}
    assert sorted(found - MADE) == [], "see that nothing compares it, and account for it here"
    assert sorted(MADE - found) == [], "accounted for, and gone"


class Watched(bytes):
    """Bytes that nobody may look at, but for what compares in constant time: that reads memory, and calls none of these."""

    def looked(self, *_: object) -> bool:
        raise AssertionError("somebody looked at a tag")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = looked  # type: ignore[assignment]
    __hash__ = __getitem__ = __iter__ = __contains__ = looked  # type: ignore[assignment]
    startswith = endswith = find = index = count = hex = looked  # type: ignore[assignment]


@pytest.mark.parametrize("bits", [64, 256])
def test_whoever_opens_looks_at_no_tag_but_by_comparing_it_in_constant_time(
    bits: Literal[64, 256], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = causal.Keyring([causal.Key(7, bytes(range(32)))], tag_bits=bits, cache=0)
    text = keys.seal(causal.Token(expires_at=1_800_000_000), subject="alice", audience="shop")
    true = keyring._Derived.tag
    monkeypatch.setattr(keyring._Derived, "tag", lambda *given: Watched(true(*given)))
    compared: list[type] = []

    def noted(ours: bytes, theirs: bytes) -> bool:
        compared.append(type(ours))
        return compare_digest(ours, theirs)

    monkeypatch.setattr(keyring, "compare_digest", noted)
    assert keys.open(text, subject="alice", audience="shop", now=0).expires_at == 1_800_000_000
    with pytest.raises(causal.BadSignature):
        keys.open(text, subject="bob", audience="shop", now=0)
    assert compared == [Watched, Watched]


@pytest.mark.parametrize(
    "planted",
    [
        "def same(a, b): return a == b\ndef f(key, tag): return same(key.tag(4), tag)",
        "def f(key, data): return {key.tag(4): True}.get(data)",
        "def f(key, data):\n    known = {key.tag(4)}\n    return known.pop() == data",
        "def f(key, tag):\n    for a, b in zip(key.tag(4), tag):\n        if a != b: return False",
        "def f(key, tag): return key.tag(4).__eq__(tag)",
        "def want(key): return key.tag(4)\ndef f(key, tag): return want(key) == tag",
        "class A:\n    def f(self, key):\n        self.want = key.tag(4)",
        "def f(k, d, t): return same(hmac.new(k, d, 'sha256').digest(), t)",
        "def f(k, d, t):\n    with ours(hmac.digest(k, d, 'sha256')): pass",
    ],
)
def test_a_tag_that_is_made_anywhere_else_is_found(planted: str) -> None:
    assert made(ast.parse(planted))


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
