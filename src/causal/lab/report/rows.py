"""Rows: one strategy's outcome as plain numbers, the same in the table, as JSON and as CSV.

Owns the names of the columns and the sentences that say what each counts. A number is named with its unit. What a person reads
(milliseconds, percent) stands, rounded, beside what a program reads (seconds, shares).
"""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Any, Final

from causal.lab.simulator import STRATEGIES, simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from causal.lab.faults import Faults
    from causal.lab.planet.topology import Population, Topology
    from causal.lab.simulator import Outcome

Row = dict[str, Any]

SAID: Final[Mapping[str, str]] = {
    "token": "session token: a replica that has what the session knows, else wait, else the leader",
    "token-shard": "as token, but what a version was written after does not travel with it",
    "leader": "every read at a leader, with the token",
    "window": "at the leader for a while after an own write, then any replica",
    "quorum": "several copies are asked, and the newest version wins",
    "quorum+token": "several copies are asked, and must have what the session knows",
    "bounded": "a replica that is not further behind than a bound",
    "eventual": "any replica, the nearest",
}
"""What each strategy does, in a line."""

COLUMNS: Final[Mapping[str, str]] = {
    "strategy": "Strategy",
    "stale": "Stale",
    "backward": "Back-\nward",
    "acausal": "Acau-\nsal",
    "said_stale": "Said",
    "p50_ms": "p50\nms",
    "p99_ms": "p99\nms",
    "p999_ms": "p99.9\nms",
    "leader_percent": "Lead\n%",
    "away_percent": "Away\n%",
    "waits": "Waits",
    "token_mean": "Token\nmean",
    "token_max": "\nmax",
    "refused_percent": "Err\n%",
}
"""The columns of the table: field, heading."""

NOTES: Final[Mapping[str, str]] = {
    "stale": "Stale: reads that returned less than the reader's own last write of the key, by value: not what a receipt says.",
    "backward": "Backward: less than the same session read of the key before.",
    "acausal": "Acausal: less than something in the reader's causal past, in any shard; includes both.",
    "recommendations": "Reads of recommendations are in none of these three: under every strategy any answer will do.",
    "said_stale": "Said: reads whose receipt says that the guarantee was not held (say, the index was behind); in none of the three.",
    "p50_ms": "p50, p99, p99.9: what an answered read took, refused ones not among them. A strategy that refuses looks faster.",
    "leader_percent": "Lead: reads served by the leader of their shard, for whatever reason.",
    "away_percent": "Away: reads served at another site than the reader's.",
    "waits": "Waits: reads held back until a replica had caught up.",
    "token_mean": "Token: characters of a token that a client is handed, on average and at most; every strategy hands them out.",
    "refused_percent": "Err: reads and writes that were refused, of all.",
    "time": "Times are virtual: round trips, lag and waits; nobody queues for a processor, and work takes no time.",
}
"""What each column is, for a person; the key is a column, or none."""

AXIS_COLUMNS: Final = (
    "strategy stale acausal said_stale p50_ms p99_ms leader_percent waits token_mean token_max refused_percent".split()
)
"""The columns of a sweep, after its axis."""


def run(topology: Topology, strategy: str, faults: Faults, seed: int, progress: Callable[[int], None]) -> Outcome:
    """Run one strategy: what a process of its own is asked to do."""
    return simulate(topology, strategy, faults=faults, seed=seed, progress=progress)


def expected_operations(topology: Topology) -> int:
    """Return about how many operations clients will ask for: sessions that have not ended when the time is over do not finish."""
    total = 0.0
    for users in topology.population:
        step_s = users.think_s + users.write_share * _write_s(topology, users)
        lasts = max(1e-9, users.length * step_s / topology.duration_s)
        jobs = 1 + users.write_share * users.jobs
        total += users.sessions * users.length * jobs * (1 - lasts * (1 - math.exp(-1 / lasts)))
    return max(1, round(total))


def _write_s(topology: Topology, users: Population) -> float:
    """Return about how long a write takes: two round trips to the leader of its shard."""
    sites = [site.name for site in topology.sites]
    at = users.write_at or users.at or sites
    leaders = topology.store.leaders or sites[:1]
    if topology.store.writers == "every":
        return 2 * topology.local_rtt_s
    return 2 * sum(topology.rtt(a, b) for a in at for b in leaders) / (len(at) * len(leaders))


def row(outcome: Outcome) -> Row:
    """Return an outcome as plain values. Units: seconds, shares in 0..1, characters, as the names say."""
    metrics, seen, latency = outcome.metrics, outcome.anomalies, outcome.metrics.read_latency
    reads, operations = max(1, metrics.reads), max(1, metrics.operations)
    refused = metrics.refused_reads + metrics.refused_writes
    p50_s, p99_s, p999_s = (_digits(latency.quantile(q)) for q in (0.5, 0.99, 0.999))
    leader, away = metrics.at_leader / reads, metrics.away / reads
    return {
        "strategy": outcome.strategy,
        "policy": outcome.policy,
        "promises": STRATEGIES[outcome.strategy].promises,
        "operations": metrics.operations,
        "reads": metrics.reads,
        "writes": metrics.writes,
        "judged": seen.reads,
        "stale": seen.stale,
        "backward": seen.backward,
        "acausal": seen.acausal,
        "said_stale": metrics.said_stale,
        "read_p50_s": p50_s,
        "read_p99_s": p99_s,
        "read_p999_s": p999_s,
        "write_p50_s": _digits(metrics.write_latency.quantile(0.5)),
        "write_p99_s": _digits(metrics.write_latency.quantile(0.99)),
        "leader": round(leader, 6),
        "away": round(away, 6),
        "cached": round(metrics.cached / reads, 6),
        "refused_share": round(refused / operations, 6),
        "waits": metrics.waits,
        "waited_mean_s": _digits(metrics.waited_s / max(1, metrics.waits)),
        "probes": metrics.probes,
        "token_mean": round(metrics.token_chars / max(1, metrics.tokens), 2),
        "token_max": metrics.longest_token,
        "refused_reads": metrics.refused_reads,
        "refused_writes": metrics.refused_writes,
        "in_doubt": metrics.in_doubt,
        "losses_said": metrics.losses_said,
        "refused": refused,
        "violations": outcome.broken,
        "p50_ms": round(p50_s * 1000, 1),
        "p99_ms": round(p99_s * 1000, 1),
        "p999_ms": round(p999_s * 1000, 1),
        "leader_percent": round(leader * 100, 1),
        "away_percent": round(away * 100, 1),
        "refused_percent": round(refused / operations * 100, 1),
    }


def of_replay(replayed: Row) -> Row:
    """Return a row of `causal compare` under the names that a figure knows: the embedded store, replaying a trace."""
    refused, reads, writes = replayed["refused"], replayed["reads"], replayed["writes"]
    return replayed | {
        "promises": STRATEGIES[replayed["strategy"]].promises,
        "judged": reads,
        "backward": replayed["non_monotonic"],
        "acausal": replayed["out_of_causal_order"],
        "refused_share": refused / max(1, refused + reads + writes),
    }


def columns(rows: Sequence[Row], first: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the columns that a table of these rows needs; `first` are those of a sweep's axis."""
    shown = dict(COLUMNS) if first is None else {**first, **{name: COLUMNS[name] for name in AXIS_COLUMNS}}
    if not any(row["said_stale"] for row in rows):
        del shown["said_stale"]
    return shown


def notes(rows: Sequence[Row], shown: Iterable[str]) -> str:
    """Return what the columns are, a line each."""
    apart = {"recommendations", "time"}
    lines = [said for name, said in NOTES.items() if name in apart or name in set(shown)]
    wrong = {row["strategy"] for row in rows if row["acausal"]}
    lucky = dict.fromkeys(row["strategy"] for row in rows if not row["promises"] and row["strategy"] not in wrong)
    if lucky:
        lines.append(f"Without any here, by chance: {', '.join(lucky)}. Only {_promising()} promise it.")
    return "\n".join(lines)


def _promising() -> str:
    *some, last = (name for name, strategy in STRATEGIES.items() if strategy.promises)
    return f"{', '.join(some)} and {last}"


def to_csv(rows: Sequence[Row]) -> str:
    """Return rows as CSV with a heading: the numbers of the JSON, to the last digit. What is nested becomes `outer.inner`."""
    flat = [_flat(row) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def _flat(row: Row) -> Row:
    found: Row = {}
    for name, value in row.items():
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": each for inner, each in _flat(value).items()}
        else:
            found[name] = " ".join(map(str, value)) if isinstance(value, list) else value
    return found


def _digits(seconds: float) -> float:
    """Return a duration to the microsecond: finer than any bucket of the histogram."""
    return round(seconds, 6)
