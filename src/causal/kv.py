"""What key-value engines share: what a key and a value may be, conflict order, logged changes.

Owns the rules that must be the same at every engine, so that one test suite and one twin can hold
them to it. Knows nothing of links, sites, files or sessions.

A conflict is resolved by the *stamp* of a write, not by its offset: the writing site takes a stamp
above every stamp it has applied in that shard, so that an effect wins over its cause whatever the
clocks say. HAZARD: a site whose clock is far ahead wins its concurrent conflicts until the others
have applied one of its writes; an acknowledged write never loses to what its writer had seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import cbor2

from causal.core.frontier import EVERY_STORE, Frontier
from causal.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MAX_KEY_BYTES: Final = 1024
MAX_VALUE_BYTES: Final = 16 * 2**20
MAX_VALUE_DEPTH: Final = 100
MAX_STAMP: Final = 2**63 - 1
"""The largest conflict stamp: what a signed 64-bit column holds. Read as a clock, the year 6429."""

_SCALARS: Final = (str, bytes, int, float, type(None))


class Reader(Protocol):
    """What a read block reads through: one snapshot.

    Thread-safety: one thread at a time.
    """

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or `default` where there is none. Raises: ConfigError."""

    def scan(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """Iterate over keys that start with `prefix`, with their values, in the order of the keys.

        Raises: ConfigError, at the call.
        """


class Writer(Reader, Protocol):
    """What a write block reads and writes through: its reads show its own writes.

    Thread-safety: one thread at a time.
    """

    def put(self, key: str, value: Any) -> None:
        """Set a key to anything CBOR can hold. Raises: ConfigError for a bad key or value."""

    def delete(self, key: str) -> None:
        """Remove a key, whether or not it is there. Raises: ConfigError for a bad key."""


def check_key(key: str) -> str:
    """Return `key` if it is one: a text of 1 to 1,024 bytes of UTF-8. Raises: ConfigError."""
    if type(key) is str and key.isascii() and 0 < len(key) <= MAX_KEY_BYTES:
        return key  # the common case, on every read
    if not isinstance(key, str):
        raise ConfigError(f"a key is a text, not {type(key).__name__}")
    size = _utf8_bytes(key)
    if not 1 <= size <= MAX_KEY_BYTES:
        raise ConfigError(f"a key has 1 to {MAX_KEY_BYTES} bytes of UTF-8, not {size}")
    return key


def check_prefix(prefix: str) -> str:
    """Return `prefix` if keys may start with it: UTF-8 text, perhaps empty. Raises: ConfigError."""
    if not isinstance(prefix, str):
        raise ConfigError(f"a prefix is a text, not {type(prefix).__name__}")
    _utf8_bytes(prefix)
    return prefix


def encode_value(value: Any) -> bytes:
    """Return a value as CBOR that `decode_value` reads back.

    Tuples come back as lists; inside a CBOR tag of no known meaning, lists come back as tuples. The order of a dict is kept.

    Raises: ConfigError for what CBOR cannot hold, for a memoryview, for more than 16 MiB and for more than 100
    containers inside each other.
    """
    plain = isinstance(value, _SCALARS) or _is_flat(value)
    if not plain:
        _check_depth(value)
    try:
        data = cbor2.dumps(value)
        if not plain:
            cbor2.loads(data)  # some values encode and never decode: refused while it is harmless
    except Exception as error:
        kind = type(value).__name__
        raise ConfigError(f"CBOR cannot hold this value of type {kind}: {error}") from error
    if len(data) > MAX_VALUE_BYTES:
        raise ConfigError(f"a value has at most {MAX_VALUE_BYTES} bytes of CBOR, not {len(data)}")
    return data


def decode_value(data: bytes) -> Any:
    """Return a new copy of the value behind `data`. Raises: StoreError for damaged bytes."""
    try:
        return cbor2.loads(data)
    except Exception as error:
        raise StoreError(f"a stored value is damaged: {error}") from error


def encode_changes(changes: Mapping[str, bytes | None]) -> bytes:
    """Return the changes of one transaction as deterministic CBOR, for a log.

    Shapes: key -> encoded value, or None for a delete.
    """
    return cbor2.dumps(changes, canonical=True)


def decode_changes(data: bytes) -> dict[str, bytes | None]:
    """Undo `encode_changes`; only its very output is accepted. Raises: StoreError."""
    try:
        found: Any = cbor2.loads(data, max_depth=2)
        strict = isinstance(found, dict) and encode_changes(found) == data
        if strict and all(v is None or isinstance(v, bytes) for v in found.values()):
            return {check_key(k): v for k, v in found.items()}
    except Exception as error:
        raise StoreError(f"a logged transaction is damaged: {error}") from error
    raise StoreError("a logged transaction is damaged: not the one spelling of a map of changes")


def wins(stamp_a: int, origin_a: int, stamp_b: int, origin_b: int) -> bool:
    """Return whether version a replaces version b: the larger stamp, then the larger origin."""
    return (stamp_a, origin_a) > (stamp_b, origin_b)


def next_stamp(clock_now: int, stamps: Iterable[int]) -> int:
    """Return a new write's stamp: what the clock says, or one above all `stamps` if that is more.

    Raises: StoreError when the stamps are exhausted: a clock was millennia ahead.
    """
    stamp = max(clock_now, max(stamps, default=-1) + 1)
    if stamp > MAX_STAMP:
        raise StoreError(f"conflict stamps are exhausted at {stamp}: a clock was millennia ahead")
    return stamp


def stored_deps(deps: Frontier, store: int, applied: Frontier) -> Frontier:
    """Return `deps` as a version of `store` keeps them: exact for that store.

    A floor or a mark in a log could block its replication for ever. What it stood for is covered by
    `applied`, all that the leader has applied: the write was gated there. Parts of other stores
    stay as they are.
    """
    if store not in deps.floors and store not in deps.marks and EVERY_STORE not in deps.marks:
        return deps
    floors = {s: f for s, f in deps.floors.items() if s != store}
    marks = {s: m for s, m in deps.marks.items() if s != store}
    return Frontier.of(deps.entries, floors, marks) | applied.store(store)


def _utf8_bytes(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise ConfigError("half of a surrogate pair has no UTF-8, so no key holds it") from error


def _is_flat(value: Any) -> bool:
    """Return whether a value is a record or a list of scalars: what encodes then decodes, and is not deep."""
    if type(value) is dict:
        for key, part in value.items():
            if type(key) is not str or not isinstance(part, _SCALARS):
                return False
        return True
    if type(value) is list:
        for part in value:
            if not isinstance(part, _SCALARS):
                return False
        return True
    return False


def _check_depth(value: Any) -> None:
    """Refuse deep values before encoding: the encoder recurses without a bound of its own, and takes a view for a list of numbers."""
    stack = [(value, 1)]
    while stack:
        part, depth = stack.pop()
        if isinstance(part, dict):
            inside: list[Any] = [*part.keys(), *part.values()]
        elif isinstance(part, (list, tuple, set, frozenset)):
            inside = list(part)
        elif isinstance(part, cbor2.CBORTag):
            inside = [part.value]
        elif isinstance(part, memoryview):
            raise ConfigError("a memoryview would come back as a list of numbers: store bytes(view)")
        else:
            continue
        if depth > MAX_VALUE_DEPTH:
            raise ConfigError(f"a value has at most {MAX_VALUE_DEPTH} containers inside each other")
        stack.extend((item, depth + 1) for item in inside)
