"""Topology files: what a TOML file says, as a `Topology`.

Owns the file's shape and its errors. The file says what the classes say, by the names of their fields; a time may also stand in
milliseconds, under a name in `_ms` for `_s`. Sites and populations are tables by name, and so are round trips (`"eu us" = 80`), mixes
and faults; a lag is text, as `causal.controls.Lag` reads it. Whatever is not understood is refused here, before anything is simulated.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from causal.controls import Lag
from causal.errors import CausalError, ConfigError
from causal.lab.faults import Faults
from causal.lab.planet.rules import NAME, POSITIVE_S, SECONDS, LagRule, Names, Number, Rule, Weights, nearest, shown
from causal.lab.planet.topology import Cache, Index, Population, Site, Store, Topology

T = TypeVar("T")

PLAIN: Final = ("name", "title", "duration_s", "local_rtt_s")
"""The fields of a topology that stand in no table."""
STRATEGIES: Final = ("wait_s", "window_s", "bound_s", "quorum")
"""Those in the table `strategies`."""
TABLES: Final = ("store", "sites", "rtt_s", "populations", "cache", "index", "strategies", "faults")


class TopologyError(CausalError, ValueError):
    """A file that is no topology; `file`, `field` (empty: all of it) and `reason` say which, where and why."""

    def __init__(self, file: str, field: str, reason: str) -> None:
        self.file, self.field, self.reason = file, field, reason
        super().__init__(f"{file}: {field}: {reason}" if field else f"{file}: {reason}")


def read_topology(path: str | Path) -> Topology:
    """Read and check a topology file. Raises: TopologyError at the first field that is wrong, or for what is no such file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise TopologyError(str(path), "", f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TopologyError(str(path), "", f"not UTF-8: {error.reason} at byte {error.start}") from error
    return parse_topology(text, str(path))


def parse_topology(text: str, name: str) -> Topology:
    """Check a topology, whose errors are to call it `name`. Raises: TopologyError, as `read_topology`."""
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of too many digits is a ValueError, too
        raise TopologyError(name, "", f"not TOML: {error}") from error
    return build_topology(data, name)


def build_topology(data: Mapping[str, Any], name: str) -> Topology:
    """Make a topology of what a file says, or `writing.as_dict`. One that says no name is called as its file. Raises: TopologyError."""
    table = _Table(name, "", data, (*PLAIN, *TABLES))
    given = table.fields(Topology, PLAIN)
    stem = Path(name).stem
    given.setdefault("name", "planet" if NAME.problem(stem) else stem)
    given["sites"] = tuple(each.make(Site, name=key) for key, each in table.named("sites", _keys(Site)))
    if not given["sites"]:
        raise table.error("sites", "there are none: add a table for each, such as [sites.eu]")
    given["rtt_s"] = _round_trips(table)
    if "populations" in table.data:
        given["population"] = tuple(
            each.make(Population, name=key) for key, each in table.named("populations", _keys(Population))
        )
    for key, kind in (("store", Store), ("cache", Cache), ("index", Index)):
        if key in table.data:
            given[key] = table.inner(key, _keys(kind)).make(kind)
    if "strategies" in table.data:
        given |= table.inner("strategies", STRATEGIES).fields(Topology, STRATEGIES)
    given |= table.fields(Topology, ("faults",))
    for fault, rate in given.get("faults", ()):
        if fault not in Faults.options():
            hint = nearest(fault, Faults.options()) or "; `causal simulate --list` names them"
            raise table.error("faults", f"no fault is called {shown(fault)}{hint}")
        try:
            Faults.of({fault: rate})
        except ConfigError as error:
            raise table.error(f"faults.{fault}", str(error)) from error
    try:
        return Topology(**given)
    except ConfigError as error:
        raise table.error("", str(error)) from error


def _round_trips(table: _Table) -> tuple[tuple[str, str, float], ...]:
    """Return the round trips that a file gives: a number by the names of two sites."""
    key = table.spelled("rtt_s")
    if key is None:
        return ()
    trips = []
    for pair, raw in table.inner(key, None).data.items():
        names = pair.split()
        if len(names) != 2:
            raise table.error(key, f'{shown(pair)} is no pair of sites: write "eu us" = 80')
        trips.append(
            (names[0], names[1], table.held(f"{key}.{shown(pair)}", raw, POSITIVE_S, 0.001 if key == "rtt_ms" else 1))
        )
    return tuple(trips)


def _keys(kind: type[Any]) -> tuple[str, ...]:
    """Return the fields of a class that its table may give: all but the name, which is the table's own."""
    return tuple(field.name for field in attrs.fields(kind) if field.name != "name")


def _in_ms(key: str) -> str:
    return f"{key.removesuffix('_s')}_ms"


class _Table:
    """One table of a file, which knows where it stands, so that an error can say so. `known`: its fields, if they are not free."""

    def __init__(self, file: str, path: str, data: object, known: tuple[str, ...] | None) -> None:
        self.file, self.path, self.known = file, path, known
        if not isinstance(data, Mapping):
            raise self.error("", f"a table, not {shown(data)}")
        self.data: Mapping[str, Any] = data
        if known is not None:
            self._refuse_others(known)

    def _refuse_others(self, known: tuple[str, ...]) -> None:
        times = [key for key in known if key.endswith("_s")]
        names = [*known, *map(_in_ms, times)]
        for key in self.data:
            if key not in names:
                hint = nearest(key, names) or f"; known are {', '.join(known)}"
                raise self.error("", f"unknown field {shown(key)}{hint}")
        for key in times:
            if key in self.data and _in_ms(key) in self.data:
                raise self.error(_in_ms(key), f"says the same as {key}: keep one of them")

    def error(self, key: str, reason: str) -> TopologyError:
        """Return an error at one of the table's fields, or at the table itself."""
        return TopologyError(self.file, ".".join(filter(None, (self.path, key))), reason)

    def inner(self, key: str, known: tuple[str, ...] | None) -> _Table:
        """Return a table within this one. Raises: TopologyError for what is none, or for a field that is not known."""
        return _Table(self.file, ".".join(filter(None, (self.path, key))), self.data[key], known)

    def named(self, key: str, known: tuple[str, ...]) -> list[tuple[str, _Table]]:
        """Return the tables within a table within this one, in the order of the file; none, if it is not there."""
        if key not in self.data:
            return []
        outer = self.inner(key, None)
        for name in outer.data:
            problem = NAME.problem(name)
            if problem:
                raise outer.error("", problem)
        return [(name, outer.inner(name, known)) for name in outer.data]

    def spelled(self, key: str) -> str | None:
        """Return the name that a field has here, in seconds or in milliseconds; None if it is not given."""
        return next((name for name in (key, _in_ms(key)) if name in self.data), None)

    def make(self, kind: Callable[..., T], **more: str) -> T:
        """Make what this table says, and `more`. Raises: TopologyError."""
        assert self.known is not None
        try:
            return kind(**self.fields(kind, self.known), **more)
        except ConfigError as error:
            raise self.error("", str(error)) from error

    def fields(self, kind: Any, keys: tuple[str, ...]) -> dict[str, Any]:
        """Return the fields of a class that this table gives, each held to the class's own rule. Raises: TopologyError."""
        given = {}
        for key in keys:
            name = self.spelled(key)
            if name is not None:
                rule: Any = attrs.fields_dict(kind)[key].validator
                given[key] = self.held(name, self.data[name], rule, 1 if name == key else 0.001)
        return given

    def held(self, key: str, raw: object, rule: Rule, scale: float) -> Any:
        """Return a value as its class takes it. Raises: TopologyError for one that breaks the rule."""
        value: Any = raw
        if isinstance(rule, LagRule):
            if not isinstance(raw, str) and SECONDS.problem(raw):
                raise self.error(key, f"a number of seconds, or text like 50ms or lognormal:50ms:0.8, not {shown(raw)}")
            try:
                return Lag.of(value)
            except ConfigError as error:
                raise self.error(key, str(error)) from error
        if isinstance(rule, Weights) and isinstance(raw, Mapping):
            value = tuple(raw.items())
        problem = rule.problem(value, scale)
        if problem:
            raise self.error(key, problem)
        if isinstance(rule, Number) and not rule.whole:
            return float(value) if scale == 1 else value / 1000
        return tuple(value) if isinstance(rule, Names) else value
