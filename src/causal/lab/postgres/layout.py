"""What the servers of one cluster have in common, and how PostgreSQL's files and clients write values.

Owns no file and no process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from causal.lab.postgres.account import Account
    from causal.lab.postgres.binaries import Binaries


@attrs.frozen
class Common:
    """What the servers of one cluster share. Thread-safety: immutable."""

    binaries: Binaries
    account: Account
    folder: Path
    sockets: Path
    tcp: bool
    settings: Mapping[str, object]
    hba: str
    password: str | None


def quoted(value: object) -> str:
    """Return a value as a configuration file writes it."""
    text = {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def conninfo(**parts: object) -> str:
    """Return a connection string of key=value pairs."""

    def plain(text: str) -> str:
        return (
            text if text and not set(text) & set(" '\\") else "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
        )

    return " ".join(f"{name}={plain(str(value))}" for name, value in parts.items())
