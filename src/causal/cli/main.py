"""The command group `causal`: which commands there are.

Owns the list. A command's own file is imported when it is called or helped, so that each starts fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

import causal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def _keys() -> click.Command:
    from causal.cli.keys import keys

    return keys


def _demo() -> click.Command:
    from causal.cli.demo import demo

    return demo


def _compare() -> click.Command:
    from causal.cli.compare import compare

    return compare


def _audit() -> click.Command:
    from causal.cli.audit import audit

    return audit


def _check() -> click.Command:
    from causal.cli.check import check

    return check


def _simulate() -> click.Command:
    from causal.cli.simulate import simulate

    return simulate


def _reality() -> click.Command:
    from causal.cli.reality import reality

    return reality


def _token() -> click.Command:
    from causal.cli.token import token

    return token


def _explain() -> click.Command:
    from causal.cli.explain import explain

    return explain


def _hop() -> click.Command:
    from causal.cli.hop import hop

    return hop


def _vectors() -> click.Command:
    from causal.cli.vectors import vectors

    return vectors


def _postgres() -> click.Command:
    from causal.cli.postgres import postgres

    return postgres


COMMANDS: Final[Mapping[str, Callable[[], click.Command]]] = {
    "demo": _demo,
    "simulate": _simulate,
    "compare": _compare,
    "reality": _reality,
    "audit": _audit,
    "check": _check,
    "token": _token,
    "explain": _explain,
    "hop": _hop,
    "vectors": _vectors,
    "keys": _keys,
    "postgres": _postgres,
}


class Commands(click.Group):
    """A group that imports a command when it is needed.

    Thread-safety: immutable.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        load = COMMANDS.get(cmd_name)
        return load() if load else None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(causal.__version__, prog_name="causal")
def main() -> None:
    """Read your own writes on an eventually consistent system."""
