"""Ready scenarios: topology files to run as they are, or to copy and change."""

from __future__ import annotations

from importlib import resources
from typing import Final

from causal.errors import ConfigError
from causal.lab.planet.reading import parse_topology
from causal.lab.planet.rules import nearest, shown
from causal.lab.planet.topology import Topology

SCENARIOS: Final = ("two-offices", "photo-profile", "orders-page", "internet-scale")
"""The names of the scenarios, the smallest first."""


def scenario(name: str) -> Topology:
    """Return a ready scenario. Raises: ConfigError for a name that is none."""
    return parse_topology(scenario_text(name), f"{name}.toml")


def scenario_text(name: str) -> str:
    """Return a ready scenario as it is written, with its comments. Raises: ConfigError for a name that is none."""
    if name not in SCENARIOS:
        hint = nearest(name, SCENARIOS) or f"; there are {', '.join(SCENARIOS)}"
        raise ConfigError(f"no scenario is called {shown(name)}{hint}")
    return resources.files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8")
