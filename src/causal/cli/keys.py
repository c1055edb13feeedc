"""`causal keys`: make a key file, look at it, and rotate its keys in two steps.

Owns the words around the rotation. The file and what makes an edit safe are `causal.keyfile`'s. No secret is ever shown.
"""

from __future__ import annotations

import datetime as dt
import shlex
from typing import TYPE_CHECKING, Any, Final

import click

from causal.cli.output import LAST_S, Output, json_option
from causal.keyfile import add_key, create_key_file, drop_key, promote_key, read_key_file

if TYPE_CHECKING:
    from causal.keyfile import StoredKeys

_file: Final = click.argument("file", type=click.Path(dir_okay=False))
_id: Final = click.argument("key_id", metavar="ID", type=click.IntRange(0, 255))


@click.group()
def keys() -> None:
    """Make a key file and rotate its keys: add everywhere, promote everywhere, later drop."""


@keys.command()
@_file
@json_option
def new(file: str, as_json: bool) -> None:
    """Make FILE with one fresh key, readable by its owner alone."""
    stored = create_key_file(file)
    _changed(
        Output(as_json=as_json),
        stored,
        stored.primary,
        f"{file} holds key {stored.primary}. Give every process that shares sessions the same file.",
    )


@keys.command("list")
@_file
@json_option
def list_(file: str, as_json: bool) -> None:
    """Show which keys FILE holds, and which of them seals."""
    stored = read_key_file(file)
    rows = [_row(stored, key.id) for key in sorted(stored.keys, key=lambda key: key.id)]
    Output(as_json=as_json).table(rows, {"id": "Key", "seals": "Seals", "added": "Added"})


@keys.command()
@_file
@json_option
def add(file: str, as_json: bool) -> None:
    """Add a fresh key to FILE: it opens tokens, and does not seal yet."""
    key = add_key(file)
    _changed(
        Output(as_json=as_json),
        read_key_file(file),
        key.id,
        f"Key {key.id} opens, and does not seal yet. When every process has it: "
        f"causal keys promote {shlex.quote(file)} {key.id}",
    )


@keys.command()
@_file
@_id
@json_option
def promote(file: str, key_id: int, as_json: bool) -> None:
    """Seal with key ID of FILE from now on: only once every process has it."""
    promote_key(file, key_id)
    _changed(
        Output(as_json=as_json),
        read_key_file(file),
        key_id,
        f"Key {key_id} seals now. The others open until they are dropped: wait for the last token they sealed to expire.",
    )


@keys.command()
@_file
@_id
@json_option
def drop(file: str, key_id: int, as_json: bool) -> None:
    """Remove key ID from FILE: no token that it sealed opens any more."""
    drop_key(file, key_id)
    Output(as_json=as_json).record(
        {"id": key_id, "dropped": True}, f"Key {key_id} is dropped: tokens that it sealed no longer open."
    )


def _row(stored: StoredKeys, key_id: int) -> dict[str, Any]:
    """What may be shown of a key."""
    return {"id": key_id, "seals": key_id == stored.primary, "added": _date(stored.added.get(key_id))}


def _date(added: object) -> str | None:
    """Return when a key was added; None if nothing was noted that is a time. Nothing hangs on it, and people edit these files."""
    if isinstance(added, bool) or not isinstance(added, int | float) or not 0 <= added <= LAST_S:
        return None
    return dt.datetime.fromtimestamp(added, dt.UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _changed(output: Output, stored: StoredKeys, key_id: int, sentence: str) -> None:
    output.record(_row(stored, key_id), sentence)
