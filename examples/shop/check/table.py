"""Runs all probes and reports: a table for a person, or an object a line for a program."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import attrs
import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from examples.shop.check.probes import PROBES
from examples.shop.run.supervisor import Running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from examples.shop.check.probes import Probe, Saw


@attrs.frozen
class Finding:
    """What came of a probe, as the shop is and without one part. Thread-safety: immutable."""

    probe: Probe
    whole: Saw
    control: Saw | None

    @property
    def right(self) -> bool:
        """Whether nothing was missing, and something was without the part: else the probe shows nothing."""
        return not self.whole.anomaly and (self.control is None or self.control.anomaly)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "probe": self.probe.name,
            "right": self.right,
            "whole": attrs.asdict(self.whole),
            "without": self.probe.without,
            "control": None if self.control is None else attrs.asdict(self.control),
        }


def findings(shop: Running) -> Iterator[Finding]:
    """Try everything, as it is and without the part that it shows."""
    for probe in PROBES:
        if probe.embedded_only and shop.settings.databases is not None:
            continue
        shop.set_lag(probe.lag_s)
        whole, control = probe.run(shop.settings), None
        if probe.without is not None:
            shop.controls.change(without=[probe.without])
            control = probe.run(shop.settings)
            shop.controls.change(without=())
        shop.check()
        yield Finding(probe, whole, control)


def report(engine: str, *, as_json: bool) -> int:
    """Run the shop and try it; return the exit code."""
    began = time.monotonic()
    with Running(engine) as shop:
        on = shop.settings.engine
        found = list(findings(shop))
    right = all(finding.right for finding in found)
    if as_json:
        for finding in found:
            click.echo(json.dumps(finding.as_dict() | {"engine": engine}))
        return 0 if right else 1
    table = Table(box=SIMPLE_HEAD, title=f"The shop on {on}, replicas standing still", title_justify="left")
    for heading in ("what is tried", "as it is", "left out", "without it"):
        table.add_column(heading)
    for one in found:
        control = Text() if one.control is None else _seen(one.control, "yellow" if one.control.anomaly else "red")
        whole = _seen(one.whole, "red" if one.whole.anomaly else "green")
        table.add_row(one.probe.name, whole, one.probe.without or "", control)
    console = Console(highlight=False)
    console.print(table)
    anomalies = sum(one.whole.anomaly for one in found)
    controls = [one.control for one in found if one.control is not None]
    shown = sum(control.anomaly for control in controls)
    console.print(
        f"As it is: {anomalies} anomalies in {len(found)} probes. With a part left out: {shown} of {len(controls)} show one. "
        f"{time.monotonic() - began:.0f} s."
    )
    return 0 if right else 1


def _seen(saw: Saw, style: str) -> Text:
    return Text(f"{'✗' if saw.anomaly else '✓'} {saw.said}", style)
