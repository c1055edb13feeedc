"""Verdicts over failovers, as docs/spec/failover.md says them. What is known is built as in the gate's twin."""

from typing import Any

from tests.spec.twins import gate


def judge(demand: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """What is said of a demand, before anybody is chosen."""
    judged = gate.losses(demand, gate.part(known, demand["shards"]))
    if isinstance(judged, dict):
        return judged
    need, clipped = judged
    return {"need": need, "clipped": clipped}


def forget(own: dict[Any, int], seen: dict[Any, int], lost: list[tuple[Any, int, int]]) -> tuple[Any, Any]:
    """Both frontiers without losses that were accepted."""
    own, seen = dict(own), dict(seen)
    for key, offset, end in lost:
        if own.get(key) == offset:
            own[key] = min(offset, end)
        if key in seen and seen[key] <= offset:
            seen[key] = min(seen[key], end)
    return own, seen


def forget_doubt(marks: list[Any], store: int, origins: Any, everywhere: int) -> list[Any]:
    """A session's marks without the origins that it accepts to be in doubt."""
    left = []
    for number, mark in marks:
        kept = mark["origins"]
        if number in (store, everywhere):
            if origins == "any":
                kept = [] if kept == "any" else kept
            elif kept != "any":
                kept = [origin for origin in kept if origin not in origins]
        left.append([number, {**mark, "origins": kept}])
    return left


def close(held: dict[str, int], failed: str) -> int:
    """Where the failed site's origin ends: `held` says how much of it each site has."""
    return max((n for name, n in held.items() if name != failed), default=0)
