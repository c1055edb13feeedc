"""`causal compare --engine postgres`: the same table, from real servers on this machine, in real time.

Owns the words that differ. Everything of PostgreSQL is imported when it is called.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Final

import attrs

from causal.cli.figures import COLUMNS, row
from causal.cli.postgres import need_psycopg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from causal.cli.output import Output
    from causal.lab.postgres import PostgresCluster
    from causal.lab.postgres.replay import RealSetting
    from causal.lab.trace import Operation

CONTROL: Final = "eventual"
OPERATIONS: Final = 1000
"""How many operations of a trace are replayed if nobody says otherwise: at most ten seconds for each strategy."""

NOTES: Final = """\
Counted from the values that reads returned, by a bookkeeping of its own.
Stale: less than the reader's own last write of the key. Non-mono: less than the same session read of it before.
Acausal: less than something in the reader's causal past; includes both.
Leader: served by the primary. Away: served by another server than the standby beside the reader's application.
Waits: reads held back. Errors: reads and writes refused.
Times are real, of this machine: they and the counts vary from run to run. Pauses are cut, which shows more of the lag."""


def setting_of(replicas: int, lag: str, think: str, speed: float, hop: float, clients: int, seed: int) -> RealSetting:
    """Return what was asked for. Raises: UsageError, ConfigError."""
    need_psycopg("lab-postgres")
    from causal.cli.postgres import constant
    from causal.lab.postgres.replay import RealSetting

    return RealSetting(replicas, constant(lag), constant(think), speed, hop, clients, seed)


def show_real(
    output: Output, operations: Sequence[Operation], policies: Sequence[str], setting: RealSetting
) -> tuple[list[dict[str, Any]], str]:
    """Start a cluster, run the strategies on it and put out their table; return its rows and title."""
    from causal.lab.postgres.replay import RealReplays

    with RealReplays(setting) as replays:
        return show_on(output, replays.cluster, operations, policies, setting)


def show_on(
    output: Output,
    cluster: PostgresCluster,
    operations: Sequence[Operation],
    policies: Sequence[str],
    setting: RealSetting,
) -> tuple[list[dict[str, Any]], str]:
    """Do as `show_real`, on a cluster that was prepared. The control runs whether asked for or not; says so if the comparison is void."""
    from causal.lab.postgres.replay import check_control, replay_on

    names = list(dict.fromkeys([*policies, CONTROL]))
    with output.progress(f"{len(names)} strategies", len(names) * len(operations)) as advance:
        results = [replay_on(cluster, operations, name, setting, advance) for name in names]
    void = check_control(results[names.index(CONTROL)])
    rows = [row(result) | {"setting": _plain(setting), "void": void is not None} for result in results]
    title = _title(operations, setting, cluster.binaries.version)
    output.table(rows, COLUMNS, title=title)
    output.say(NOTES, style="dim")
    if void is not None:
        output.say(f"\nThis comparison is {void}")
    return rows, title


def _title(operations: Sequence[Operation], setting: RealSetting, version: str) -> str:
    """Return what was replayed, in lines that fit a terminal and break at no number."""
    sessions = len({operation.session for operation in operations})
    facts = (
        f"lag {setting.lag_s * 1000:g} ms",
        f"pauses up to {setting.think_s * 1000:g} ms",
        f"{setting.clients} clients",
        f"hop {setting.hop:g}",
        f"speed {setting.speed:g}",
        f"seed {setting.seed}",
    )
    held = ", ".join(fact.replace(" ", "\N{NO-BREAK SPACE}") for fact in facts)
    standbys = "1 standby" if setting.replicas == 1 else f"{setting.replicas} standbys"
    text = f"{len(operations):,} operations in {sessions:,} sessions on PostgreSQL {version}, a primary and {standbys}: {held}"
    return textwrap.fill(text, 80, break_long_words=False, break_on_hyphens=False).replace("\N{NO-BREAK SPACE}", " ")


def _plain(setting: RealSetting) -> dict[str, Any]:
    """Return a setting as plain values. Units: seconds."""
    return {"engine": "postgres"} | attrs.asdict(setting)
