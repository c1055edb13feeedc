"""What every process of the shop is told when it starts: one file of JSON, written by whoever starts them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import attrs

SITES: Final = ("eu", "us")
AUDIENCE: Final = "shop"


@attrs.frozen
class Databases:
    """The servers of one PostgreSQL cluster, as DSNs: the primary, and a standby for each site. Thread-safety: immutable."""

    primary: str
    standbys: dict[str, str]


@attrs.frozen
class Settings:
    """Where everything is.

    `databases` and `valkey` are None on the embedded store, which needs no server. Thread-safety: immutable.
    """

    directory: Path = attrs.field(converter=Path)
    sites: dict[str, str]
    """Site -> URL."""
    orders: str
    """The URL of the orders service."""
    databases: dict[str, Databases] | None = None
    """Of the shop, and of the orders service."""
    valkey: str | None = None

    @property
    def engine(self) -> str:
        """What the stores are."""
        return "the embedded store" if self.databases is None else "PostgreSQL"

    @property
    def keys(self) -> Path:
        """The key file, which all processes share: what one seals, another opens."""
        return self.directory / "keys.json"

    def save(self) -> None:
        """Write them down, for the processes that are about to start."""
        text = json.dumps(attrs.asdict(self) | {"directory": str(self.directory)})
        _path(self.directory).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, directory: str | Path) -> Settings:
        """Read them."""
        told = json.loads(_path(Path(directory)).read_text(encoding="utf-8"))
        databases = told.pop("databases")
        return cls(**told, databases=databases and {name: Databases(**one) for name, one in databases.items()})


def _path(directory: Path) -> Path:
    return directory / "settings.json"
