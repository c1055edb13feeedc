"""`causal postgres`: prepare a database, ask servers what a store would ask them, start a local cluster.

Owns the words. What is asked is in `causal.stores.postgres.examine`, what is installed in its `install`. No DSN is shown that was given:
it may hold a password.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Any, Final

import attrs
import click
from rich.text import Text

from causal.cli.output import Output, json_option
from causal.controls import Lag
from causal.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from causal.stores.postgres.examine import Examined

COLUMNS: Final = {
    "name": "Server",
    "role": "Role",
    "version": "Version",
    "user": "As",
    "timeline": "Timeline",
    "at": "At",
    "origin": "Origin",
    "tables": "Installed",
}

NOTES: Final = """\
At: applied up to here; of a primary, written. Origin: the newest history that the server's own rows name.
Stamps: causes travel with effects to other shards."""

PSYCOPG: Final = frozenset({"psycopg", "psycopg_pool", "psycopg_binary", "psycopg_c"})

_env: Final = click.option(
    "--env",
    "variables",
    multiple=True,
    metavar="VAR",
    help="Take a DSN from this environment variable: a command line is seen by everybody on the machine.",
)


def need_psycopg(extra: str = "postgres") -> None:
    """Raises: UsageError with what to install, if the driver is not there."""
    try:
        import causal.stores.postgres  # noqa: F401 - asked for here, so that the hint comes before any work
    except ModuleNotFoundError as missing:
        if missing.name not in PSYCOPG:
            raise
        raise click.UsageError(f'PostgreSQL needs {missing.name}: pip install "causal-tokens[{extra}]"') from None
    except ImportError as error:  # psycopg is there, and finds no libpq
        reason = str(error).partition("\n")[0]
        raise click.UsageError(f'PostgreSQL needs psycopg: pip install "causal-tokens[{extra}]" ({reason})') from None
    # What matters is in a command's output: a pool's warnings would stand among it.
    logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())


@click.group()
def postgres() -> None:
    """Prepare a PostgreSQL database for a store, check its servers, or start a local cluster."""


@postgres.command()
@click.argument("dsn", required=False)
@_env
@click.option("--role", "roles", multiple=True, help="Let this role use them; repeat it. Default: whoever may connect.")
@click.option(
    "--no-stamps", is_flag=True, help="Leave out the table by which causes travel with effects to other shards."
)
@click.option("--sql", "as_sql", is_flag=True, help="Print the script instead, for those who run it themselves.")
@json_option
def install(
    dsn: str | None, variables: Sequence[str], roles: Sequence[str], no_stamps: bool, as_sql: bool, as_json: bool
) -> None:
    """Install the tables and functions that tell failovers apart, in the database of a primary. Again changes nothing.

    DSN is the primary's, as the database's owner; with --sql none is needed.
    """
    need_psycopg()
    from causal.stores.postgres.install import install as installed
    from causal.stores.postgres.install import script

    output, names = Output(as_json=as_json), tuple(dict.fromkeys(roles))
    if as_sql:
        text = script(names, stamps=not no_stamps)
        output.record({"sql": text}, Text(text.rstrip("\n")))
        return
    where = _dsns([] if dsn is None else [dsn], variables)
    if len(where) != 1:
        raise click.UsageError(f"one DSN is needed, as the argument or by --env, not {len(where)}")
    installed(_readable(where[0][1]), names, stamps=not no_stamps)
    stamps = "" if no_stamps else ", and dependency stamps"
    output.record(
        {"installed": True, "roles": list(names), "stamps": not no_stamps},
        f"Installed: the lineage of origins{stamps}, for {', '.join(names) or 'every role'}. Standbys follow by replication.",
    )


@postgres.command()
@click.argument("dsns", metavar="DSN...", nargs=-1)
@_env
@click.option("--timeout", default=5.0, show_default=True, help="How long to wait for each server, in seconds.")
@json_option
def check(dsns: Sequence[str], variables: Sequence[str], timeout: float, as_json: bool) -> None:
    """Ask each server what a store would: role, timeline, lineage, and what its role lacks, as GRANTs to run.

    Name the servers of one shard, as the application's role. Changes nothing. The exit code is 1 if anything stands in the way.
    """
    need_psycopg()
    from causal.stores.postgres.examine import disagreements, examine

    where = _dsns(dsns, variables)
    if not where:
        raise click.UsageError("name at least one server, as an argument or by --env")
    for _, dsn in where:
        _readable(dsn)
    output = Output(as_json=as_json)
    servers = [examine(name, dsn, timeout) for name, dsn in where]
    wrong = disagreements(servers)
    if as_json:
        for one in servers:
            output.record(
                {name: value for name, value in _row(one).items() if name not in {"standby", "lsn", "tables"}}
            )
        output.record({"problems": wrong})
    else:
        output.table([_row(one) for one in servers], COLUMNS)
        output.say(NOTES, style="dim")
        for one in servers:
            _tell(output, one)
        for sentence in wrong:
            output.say(f"\n{sentence}")
        if not wrong and all(_sound(one) for one in servers):
            output.say("\nNothing stands in the way.")
    if wrong or not all(_sound(one) for one in servers):
        raise click.exceptions.Exit(1)


def _sound(one: Examined) -> bool:
    """Whether a store could use a server as it is; what time will mend does not count."""
    return one.reached and not one.grants


def _tell(output: Output, one: Examined) -> None:
    if one.problem:
        output.say(f"\n{one.name}: {one.problem}.")
    if one.direct is False:
        output.say(
            f"\n{one.name}: a pooler or balancer is in between: which server answers is checked with each block."
        )
    if one.grants:
        at = "at the primary" if one.installed else "at the primary, or run `causal postgres install` there"
        output.say(f"To be run {at}, by the owner of what is granted:")
        for statement in one.grants:
            output.say(f"  {statement}")


def _row(one: Examined) -> dict[str, Any]:
    from causal.stores.postgres.lsn import spell

    ends = [attrs.asdict(row) | {"end": None if row.end is None else spell(row.end)} for row in one.lineage]
    return attrs.asdict(one) | {
        "role": {None: None, True: "standby", False: "primary"}[one.standby],
        "at": None if one.lsn is None else spell(one.lsn),
        "origin": None if one.origin is None else str(one.origin),  # a name, not a count
        "lineage": ends,
        "grants": list(one.grants),
        "tables": {None: None, False: "no", True: "with stamps" if one.stamps else "no stamps"}[one.installed],
    }


@postgres.command()
@click.option("--replicas", default=2, show_default=True, type=click.IntRange(0, 8), help="How many standbys.")
@click.option(
    "--lag", default="0", help="How long after its commit a write is replayed: 0.05 or 50ms.", show_default=True
)
@click.option("--tcp", is_flag=True, help="Listen on 127.0.0.1 instead of a socket.")
@click.option("--bare", is_flag=True, help="Leave the database as it is, without what `install` brings.")
@json_option
def cluster(replicas: int, lag: str, tcp: bool, bare: bool, as_json: bool) -> None:
    """Start a primary and streaming standbys on this machine, print their DSNs, and keep them until Ctrl-C.

    Nothing of it stays: the servers and their files go with the command.
    """
    need_psycopg("lab-postgres")
    from causal.lab.postgres import PostgresCluster
    from causal.stores.postgres.install import install as installed

    lag_s = constant(lag)
    output = Output(as_json=as_json)
    with PostgresCluster(replicas, lag_s=lag_s, tcp=tcp) as servers:
        if not bare:
            installed(servers.primary.admin_dsn, ("app",))
            servers.wait_caught_up(30 + lag_s)
        dsns = {name: server.dsn for name, server in servers.servers.items()}
        output.record(
            {"servers": dsns, "lag_s": lag_s, "installed": not bare, "version": servers.binaries.version},
            Text("\n").join(Text(f"{name:10} {dsn}") for name, dsn in dsns.items()),
        )
        output.say(f"\nPostgreSQL {servers.binaries.version}, lag {lag_s * 1000:g} ms. Ctrl-C ends it.", style="dim")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:  # how it ends
            output.say("Ended.")


def constant(lag: str) -> float:
    """Return a lag that real servers can have. Raises: UsageError. Units: seconds."""
    try:
        parsed = Lag.parse(lag)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    if parsed.sigma:
        raise click.UsageError(f"a real server's lag is the same for every write: give it as 50ms, not {lag}")
    return parsed.median_s


def _dsns(dsns: Sequence[str], variables: Sequence[str]) -> list[tuple[str, str]]:
    """Return the DSNs with the names that they are called by. Raises: UsageError for a variable that is not set."""
    found = [(f"server {nth}", dsn) for nth, dsn in enumerate(dsns, 1)]
    for name in dict.fromkeys(variables):
        value = os.environ.get(name)
        if not value:
            raise click.UsageError(f"the environment variable {name} is not set")
        found.append((name, value))
    return found


def _readable(dsn: str) -> str:
    from causal.stores.postgres.examine import readable

    try:
        return readable(dsn)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
