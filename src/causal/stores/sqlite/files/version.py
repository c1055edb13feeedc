"""What is stored with a value: who wrote it, where in the log, and what it depends on, in one blob.

Owns the layout: origin (4 bytes), offset (8), then the packed dependencies. One column instead of three, because a read pays
for each column, and needs the parts only when it is over.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from causal.core.frontier import Frontier
from causal.core.wire import decode_frontier
from causal.errors import StoreError, TokenError

if TYPE_CHECKING:
    from collections.abc import Iterable

_NOTHING: Final = Frontier()


def packed_seen(origin: int, offset: int, deps: bytes) -> bytes:
    """Return what a version teaches its reader. Versions of equal stamp are ordered by these bytes as by their origins."""
    return origin.to_bytes(4) + offset.to_bytes(8) + deps


def place_of(seen: bytes) -> tuple[int, int]:
    """Return the origin and offset of a version. Raises: StoreError for damaged bytes."""
    if len(seen) < 12:
        raise StoreError("a stored version is damaged: it does not say who wrote it")
    return int.from_bytes(seen[:4]), int.from_bytes(seen[4:12])


@lru_cache(maxsize=4096)
def decoded_deps(packed: bytes) -> Frontier:
    """Return packed dependencies; most versions share theirs with others. Raises: StoreError for damaged bytes."""
    if not packed:
        return _NOTHING
    try:
        return decode_frontier(packed)
    except TokenError as error:
        raise StoreError(f"stored dependencies are damaged: {error}") from error


@lru_cache(maxsize=4096)
def seen_frontier(shard: int, seen: bytes) -> Frontier:
    """Return what one version teaches its reader: its position and its dependencies. Raises: StoreError for damaged bytes."""
    origin, offset = place_of(seen)
    position = Frontier.of({shard << 32 | origin: offset})
    return position | decoded_deps(seen[12:]) if len(seen) > 12 else position


def joined_seen(shard: int, several: Iterable[bytes]) -> Frontier:
    """Return what several versions teach their reader. Raises: StoreError for damaged bytes. Complexity: linear."""
    offsets: dict[int, int] = {}
    packed: set[bytes] = set()
    for seen in several:
        origin, offset = place_of(seen)
        if offset > offsets.get(origin, -1):
            offsets[origin] = offset
        packed.add(seen[12:])
    joined = Frontier.of({shard << 32 | origin: offset for origin, offset in offsets.items()})
    for deps in packed:
        if deps:
            joined |= decoded_deps(deps)
    return joined
