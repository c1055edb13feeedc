"""Writing a `Topology` down, with every default spelled out, so that what was written reads as the same value.

Owns the text: for files that replay a run, and for whoever wants to start from all there is. `reading` has the file's shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from causal.lab.planet.reading import PLAIN, STRATEGIES
from causal.lab.planet.rules import LagRule, Names, Weights

if TYPE_CHECKING:
    from causal.controls import Lag
    from causal.lab.planet.topology import Topology


def as_dict(topology: Topology) -> dict[str, Any]:
    """Return a topology as `build_topology` takes it: tables, lists, texts and numbers, which both TOML and JSON can hold."""
    said: dict[str, Any] = {key: getattr(topology, key) for key in PLAIN}
    said["store"] = _said(topology.store)
    said["sites"] = {site.name: _said(site) for site in topology.sites}
    said["rtt_s"] = {f"{a} {b}": seconds for a, b, seconds in topology.rtt_s}
    said["populations"] = {users.name: _said(users) for users in topology.population}
    said |= {key: _said(part) for key in ("cache", "index") if (part := getattr(topology, key)) is not None}
    said["strategies"] = {key: getattr(topology, key) for key in STRATEGIES}
    said["faults"] = dict(topology.faults)
    return said


def to_toml(topology: Topology) -> str:
    """Return a topology as the text of a file: `parse_topology` makes the same value of it."""
    lines: list[str] = []
    _write(lines, (), as_dict(topology))
    return "\n".join(lines) + "\n"


def lag_text(lag: Lag) -> str:
    """Return a lag as `Lag.parse` reads it: the same value, to the last bit."""
    if lag.sigma or lag.seed:
        return f"lognormal:{lag.median_s!r}:{lag.sigma!r}:{lag.seed}"
    return repr(lag.median_s)


def _said(part: Any) -> dict[str, Any]:
    said = {}
    for field in attrs.fields(type(part)):
        value = getattr(part, field.name)
        if isinstance(field.validator, LagRule):
            value = lag_text(value)
        elif isinstance(field.validator, Weights):
            value = dict(value)
        elif isinstance(field.validator, Names):
            value = list(value)
        if field.name != "name":  # its table is called so
            said[field.name] = value
    return said


def _write(lines: list[str], path: tuple[str, ...], table: Mapping[str, Any]) -> None:
    """Append a table: first what is plain, then the tables in it, as TOML wants it. One that only holds tables needs no line."""
    inner = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    if path and (len(inner) < len(table) or not table):
        lines += ["", f"[{'.'.join(map(_key, path))}]"]
    lines += [f"{_key(key)} = {_literal(value)}" for key, value in table.items() if key not in inner]
    for key, value in inner.items():
        _write(lines, (*path, key), value)


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    return repr(value)


def _key(key: str) -> str:
    bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if bare else _string(key)


def _string(text: str) -> str:
    # Names and titles are printable: there is nothing else to escape.
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
