"""Fill the section *Measured* of README.md from what was measured, and from nothing else.

    causal compare TRACE --json > compare.jsonl
    python -m benches --json > bench.jsonl
    python -m benches.readme_table compare.jsonl [bench.jsonl]

Owns the two tables between the markers. It computes no number: each cell is a field of a row, with its unit.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- measured:begin -->", "<!-- measured:end -->"

COMPARED = """`causal compare TRACE` replays a history under every policy, in virtual time, and counts from the values that reads returned.
Here, a real edit history of {operations:,} operations over three sites with 50 ms of lag and round trips of 80 ms; a session
moves to another site before one operation in five (the defaults):

| policy | stale own reads | non-monotonic | out of causal order | read p50 | read p99 | reads that waited | at another site |
|---|---|---|---|---|---|---|---|
{rows}

Times are lag, round trips and waits; the work of the processor is not in them. Every site takes writes, so the leader of one
write is not the leader of the next: a timer keeps a reader at one of them. Where a policy without the token shows no anomaly, that
is a fact about this history, and not a guarantee."""

MEASURED = """`make bench` measures each cost against a floor or a peer, in the same run, on the machine that it runs on. Here:

| what | measured | against | | ratio | asked for |
|---|---|---|---|---|---|
{rows}

A time is that of one call. {missed}"""


def main() -> None:
    rows, *bench = [[json.loads(line) for line in Path(name).read_text().splitlines()] for name in sys.argv[1:]]
    parts = [compared(rows)] + [measured(found) for found in bench]
    before, _, rest = README.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    assert after, f"README.md has no section between {BEGIN} and {END}"
    section = "\n\n".join(parts)
    README.write_text(f"{before}{BEGIN}\n{section}\n{END}{after}")


def compared(rows: list[dict[str, Any]]) -> str:
    first = rows[0]
    operations = first["reads"] + first["writes"] + first["refused_reads"] + first["refused_writes"]
    lines = (
        f"| {row['policy']} | {row['stale']:,} | {row['non_monotonic']:,} | {row['out_of_causal_order']:,} "
        f"| {row['p50_ms']:g} ms | {row['p99_ms']:g} ms | {row['waited']:,} | {row['away_percent']:g} % |"
        for row in sorted(rows, key=lambda row: (row["stale"], row["p99_ms"]))
    )
    return COMPARED.format(operations=operations, rows="\n".join(lines))


def measured(rows: list[dict[str, Any]]) -> str:
    shown = [row for row in rows if row["bar"]]
    missed = [row["name"] for row in shown if not row["met"]]
    lines = "\n".join(f"| {' | '.join(cells(row))} |" for row in shown)
    return MEASURED.format(rows=lines, missed=f"Not as asked for: {'; '.join(missed)}." if missed else "")


def cells(row: dict[str, Any]) -> list[str]:
    unit = row["unit"]
    against = next(row[kind] for kind in ("floor", "peer") if kind in row)
    return [
        row["name"],
        amount(row["value"], unit),
        row["against"],
        amount(against, unit),
        f"{row['ratio']:.3g}x",
        row["bar"],
    ]


def amount(value: float, unit: str) -> str:
    return f"{value:,.3g} {unit}" if value < 1000 else f"{value:,.0f} {unit}"


if __name__ == "__main__":
    main()
