"""A planet that is simulated in a moment, and in which every strategy that promises nothing shows something wrong."""

import signal

from causal.lab.planet.reading import parse_topology
from causal.lab.planet.topology import Topology

TINY = """\
title = "Tiny"
duration_s = 4

[store]
shards = 2
leaders = ["eu", "us"]
lag = "lognormal:300ms:0.5"

[sites.eu]
replicas = 2

[sites.us]
replicas = 2

[rtt_ms]
"eu us" = 20

[populations.people]
sessions = 40
length = 8
think_s = 0.2
write_share = 0.4
keys = 6
hop = 0.3

[strategies]
wait_ms = 50
bound_ms = 50
window_ms = 100
"""


def tiny() -> Topology:
    return parse_topology(TINY, "tiny.toml")


def once_or_for_ever(kind: str, _: object) -> str:
    """Work for a process: what is for ever ends only when it is ended."""
    while kind == "for ever":
        signal.pause()
    return kind
