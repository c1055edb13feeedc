"""Which cache keys a session's own writes touched, as fingerprints: a filter that may name too many keys, never too few.

Owns fingerprints and how filters join. Knows nothing of caches, of the wire or of time.

A store's filter is a superset of the fingerprints of all keys that own writes on that store touched. Where there is none, own writes may
have touched anything; where there are no own writes, none touched anything. So filters mean something only beside the `own` that they
are about, and the two are joined together.
"""

from __future__ import annotations

from binascii import crc32
from typing import TYPE_CHECKING, Final

from causal.core.position import EVERY_STORE, MAX_STORE
from causal.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from causal.core.frontier import Frontier

MAX_FINGERPRINT: Final = 0xFFFF
MAX_FINGERPRINTS: Final = 12
"""Of one store. Another 16 bits take three characters; and of 12, another key is taken for one of them once in 5,000 times."""

NO_FILTERS: Final[dict[int, frozenset[int]]] = {}
_NONE: Final[frozenset[int]] = frozenset()


def fingerprint(key: str) -> int:
    """Return the 16 bits that stand for a key: the lower half of the CRC-32 of its UTF-8. Raises: ConfigError for what has no UTF-8."""
    try:
        return crc32(key.encode()) & MAX_FINGERPRINT
    except (AttributeError, UnicodeEncodeError):
        raise ConfigError(f"a key is text that UTF-8 can hold, not {key!r}") from None


def names(keys: Iterable[str]) -> frozenset[str]:
    """Return keys, each once. Raises: ConfigError for one key instead of several, and for what is no key."""
    if isinstance(keys, (str, bytes)):
        raise ConfigError(f"several keys are asked for, not one: ({keys!r},)")  # its letters would pass for keys
    named = frozenset(keys)
    for key in named:
        fingerprint(key)
    return named


def known(own: Frontier, touched: Mapping[int, frozenset[int]], store: int) -> frozenset[int] | None:
    """Return the fingerprints of all that `own` touched on a store; None: anything. Complexity: linear in `own`."""
    found = touched.get(store)
    if found is None and not any(key >> 48 == store for key in own.entries):
        return _NONE
    return found


def joined(
    own: Frontier, touched: Mapping[int, frozenset[int]], other: Frontier, others: Mapping[int, frozenset[int]]
) -> Mapping[int, frozenset[int]]:
    """Return the filters of `own | other`: of each store the union, or none where a side has own writes and no filter.

    Invariant: associative, commutative and idempotent, together with `own | other`.
    """
    if not touched and not others:
        return touched  # nobody uses filters: the common case
    found: dict[int, frozenset[int]] = {}
    for store in touched.keys() | others.keys():
        mine, theirs = known(own, touched, store), known(other, others, store)
        if mine is not None and theirs is not None and len(both := mine | theirs) <= MAX_FINGERPRINTS:
            found[store] = both
    return found


def written(
    own: Frontier, touched: Mapping[int, frozenset[int]], store: int, more: frozenset[int] | None
) -> Mapping[int, frozenset[int]]:
    """Return the filters after one more own write on a store, that touched the keys of these fingerprints; None: any."""
    if more is None and not touched:
        return touched
    so_far = known(own, touched, store)
    rest = {number: found for number, found in touched.items() if number != store}
    if more is not None and so_far is not None and len(both := so_far | more) <= MAX_FINGERPRINTS:
        rest[store] = both
    return rest


def may_touch(own: Frontier, seen: Frontier, touched: Mapping[int, frozenset[int]], store: int, key: str) -> bool:
    """Return whether an own write on a store may have touched a key: False only if none did.

    Under a mark or a floor own writes may stand that are no longer listed, by whatever filter was beside them.
    """
    for folded in (own, seen):
        if store in folded.floors or store in folded.marks or EVERY_STORE in folded.marks:
            return True
    found = known(own, touched, store)
    return found is None or fingerprint(key) in found


def normal(touched: Mapping[int, AbstractSet[int]], own: Frontier) -> Mapping[int, frozenset[int]]:
    """Return filters without those that say nothing: of stores with no own writes, and of too many keys. Raises: ConfigError."""
    stores = {key >> 48 for key in own.entries}
    found: dict[int, frozenset[int]] = {}
    for store, fingerprints in touched.items():
        if type(store) is not int or not 0 <= store <= MAX_STORE:
            raise ConfigError(f"a store's number is in 0..{MAX_STORE}, not {store!r}")
        for one in fingerprints:
            if type(one) is not int or not 0 <= one <= MAX_FINGERPRINT:
                raise ConfigError(f"a fingerprint is in 0..{MAX_FINGERPRINT}, not {one!r}")
        if store in stores and len(fingerprints) <= MAX_FINGERPRINTS:
            found[store] = frozenset(fingerprints)
    return found
