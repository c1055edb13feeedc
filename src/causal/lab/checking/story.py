"""A violation as a sentence: who wrote what, through which chain who should have seen it, and what they saw.

Owns the words. The witness that it tells of is small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from causal.lab.checking.findings import CONVERGENT, MEMORY, MONOTONIC_READS, STALE, THIN_AIR, UNTOLD
from causal.lab.checking.model import INITIAL
from causal.lab.checking.paths import path
from causal.lab.history import NO_VERSION, WRITE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from causal.lab.checking.findings import Violation
    from causal.lab.checking.model import Model

_SHOWN = 40


def story(model: Model, guarantee: str, violation: Violation, wrote: Mapping[int, str]) -> str:
    """Return the sentence of a violation in a small history. `wrote` names who wrote what a read returned, if that is not in it."""
    ops = violation.ops
    if violation.kind == STALE:
        r, missed = ops
        return (_pulled(model, r, missed) if guarantee == MEMORY else "") or _stale(model, guarantee, r, missed, wrote)
    if violation.kind == THIN_AIR:
        return f"{_who(model, ops[0])} {_did(model, ops[0])}, which nobody wrote."
    if violation.kind == UNTOLD:
        w, later = ops
        end = model.history.ends.get((model.history.keys[model.history.key[w]][0], model.history.origin[w]))
        return (
            f"{_who(model, w)} {_did(model, w)}, which was lost: origin {model.history.origin[w]} ends at {end}. "
            f"{_who(model, w)} was not told, and {_did(model, later)}."
        )
    return _cycle(model, guarantee, ops)


def _stale(model: Model, guarantee: str, r: int, missed: int, wrote: Mapping[int, str]) -> str:
    w = model.writer[r]
    shown = model.writer[missed] if model.writer[missed] >= 0 else missed
    way = path(model, missed, r)
    if guarantee != MONOTONIC_READS and way and way[0] != shown and shown != missed and model.writer[r] != shown:
        way = [shown, *way]
    if w >= 0 and w != shown and not (model.white and len(way) <= 3):
        older = path(model, w, way[0] if way else missed)
        way = [*older[:-1], *way]
    told = _chain(model, way[:-1], wrote) if way else f"{_who(model, missed)} {_did(model, missed)}"
    wanted = f"{_thing(model, missed)} or something newer"
    return f"{told}; so {_who(model, r)} had to see {wanted}, but {_did(model, r)}."


def _pulled(model: Model, r: int, missed: int) -> str:
    """Tell how a read misses what another read of its session puts before what it knew; nothing if it is not that."""
    session = model.history.session
    for i, v in enumerate(model.writer):
        if v < 0 or session[i] != session[r] or path(model, missed, r) or not path(model, v, r):
            continue
        for other in range(len(model.writer)):
            if not model.history.flags[other] & WRITE or other == v or model.history.key[other] != model.history.key[i]:
                continue
            way = path(model, missed, other)
            if way and path(model, other, i):
                return (
                    f"{_chain(model, way, {})}; {_who(model, i)} {_did(model, i)} knowing {_thing(model, other)}, so that came "
                    f"first; but knowing {_thing(model, v)}, {_who(model, r)} {_did(model, r)}."
                )
    return ""


def _chain(model: Model, way: list[int], wrote: Mapping[int, str]) -> str:
    """Tell a way: each read of what was just written is "read it"."""
    parts: list[str] = []
    for n, i in enumerate(way):
        same = n > 0 and model.history.session[way[n - 1]] == model.history.session[i]
        did = "read it" if n > 0 and model.writer[i] == way[n - 1] else _did(model, i)
        if n == 0 and i in wrote:
            did += f", which {wrote[i]} wrote,"
        if same:
            parts[-1] += f" and then {did}"
        else:
            parts.append(f"{_who(model, i)} {did}")
    return "; ".join(part.removesuffix(",") for part in parts)


def _cycle(model: Model, guarantee: str, ops: tuple[int, ...]) -> str:
    steps = [_because(model, ops[n - 1], b) for n, b in enumerate(ops)]
    whole = {
        CONVERGENT: "No one order of the writes fits what was read",
        MEMORY: "No order of the writes explains all that one session read",
    }.get(guarantee, "What was read depends on itself")
    return f"{whole}: {'; '.join(steps)}."


def _because(model: Model, a: int, b: int) -> str:
    """Say why one operation comes before another."""
    flags, key, rank, chain = model.history.flags, model.history.key, model.rank, model.chain
    if model.precedes(a, b):
        return f"{_who(model, b)} {_did(model, a)} and then {_did(model, b)}"
    if model.writer[b] == a:
        return f"{_who(model, b)} {_did(model, b)}, which {_who(model, a)} wrote"
    if flags[a] & flags[b] & WRITE and key[a] == key[b]:
        if model.white and chain[a] == chain[b] and 0 <= rank[a] < rank[b]:
            return f"{_thing(model, a)} is older than {_thing(model, b)}"
        readers = [i for i, w in enumerate(model.writer) if w == b]
        reader = next((i for i in readers if path(model, a, i)), readers[0] if readers else -1)
        if reader >= 0:
            return f"{_who(model, reader)} {_did(model, reader)} knowing {_thing(model, a)}, so that came first"
    way = path(model, a, b)
    if way:
        return _chain(model, way, {})
    return f"{_thing(model, a)} comes before {_thing(model, b)}"


def _who(model: Model, i: int) -> str:
    return model.history.sessions[model.history.session[i]]


def _did(model: Model, i: int) -> str:
    """What an operation did, as words that follow a name."""
    if model.history.flags[i] & WRITE:
        return f"wrote {_thing(model, i)}"
    if model.writer[i] == INITIAL:
        return f"read {_key(model, i)} and found nothing"
    return f"read {_thing(model, i)}"


def _thing(model: Model, i: int) -> str:
    """A key with its value, and its version where there is one."""
    history = model.history
    value = repr(history.values[i]) if history.values[i] is not None else "no value"
    if len(value) > _SHOWN:
        value = f"{value[:_SHOWN]}..."
    version = "" if history.origin[i] == NO_VERSION else f" ({history.origin[i]}@{history.offset[i]})"
    return f"{_key(model, i)} = {value}{version}"


def _key(model: Model, i: int) -> str:
    shard, key = model.history.keys[model.history.key[i]]
    return key if len({s for s, k in model.history.keys if k == key}) == 1 else f"{key} of shard {shard}"
