"""Runs all probes and reports: a table for a person, or an object a line for a program."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import attrs
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from examples.shop.check.probes import PROBES, Saw
from examples.shop.controls import STANDS_STILL_S
from examples.shop.run.supervisor import Running

if TYPE_CHECKING:
    from examples.shop.check.probes import Probe

TABLE: Final = Console(file=sys.stdout, highlight=False)


@attrs.frozen
class Finding:
    """What came of a probe, as the shop is and without one part. Thread-safety: immutable."""

    probe: Probe
    whole: Saw
    control: Saw

    @property
    def right(self) -> bool:
        """Whether nothing was missing, and something was without the part: else the probe shows nothing."""
        return not self.whole.anomaly and self.control.anomaly

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "probe": self.probe.name,
            "without": self.probe.without,
            "right": self.right,
            "whole": attrs.asdict(self.whole),
            "control": attrs.asdict(self.control),
        }


def findings(shop: Running) -> list[Finding]:
    """Let the replicas stand still, and try everything twice."""
    shop.set_lag(STANDS_STILL_S)
    found = []
    for probe in PROBES:
        whole = probe.run(shop.settings)
        shop.controls.change(without=[probe.without])
        control = probe.run(shop.settings)
        shop.controls.change(without=())
        found.append(Finding(probe, whole, control))
    return found


def report(engine: str, *, as_json: bool) -> int:
    """Run the shop and try it; return the exit code."""
    began = time.monotonic()
    with Running(engine) as shop:
        on = shop.settings.engine
        found = findings(shop)
    right = all(finding.right for finding in found)
    if as_json:
        for finding in found:
            print(json.dumps(finding.as_dict() | {"engine": engine}))
        return 0 if right else 1
    table = Table(box=SIMPLE_HEAD, title=f"The shop on {on}, replicas standing still", title_justify="left")
    for heading in ("what is tried", "as it is", "left out", "without it"):
        table.add_column(heading)
    for finding in found:
        table.add_row(finding.probe.name, _seen(finding.whole, bad=True), finding.probe.without, _seen(finding.control))
    TABLE.print(table)
    anomalies = sum(finding.whole.anomaly for finding in found)
    shown = sum(finding.control.anomaly for finding in found)
    TABLE.print(
        f"As it is: {anomalies} anomalies in {len(found)} probes. With a part left out: {shown} of {len(found)} show one. "
        f"{time.monotonic() - began:.0f} s."
    )
    return 0 if right else 1


def _seen(saw: Saw, *, bad: bool = False) -> Text:
    mark = "✗" if saw.anomaly else "✓"
    wrong = saw.anomaly is bad
    return Text(f"{mark} {saw.said}", style="red" if wrong else "green" if bad else "yellow")
