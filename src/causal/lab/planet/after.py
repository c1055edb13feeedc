"""When all is well again: who was there last comes back and must be answered, and every replica must have caught up.

Owns what the liveness phase of a simulation demands, beyond that every wait ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Generator

    from causal.lab.planet.carrying import Client
    from causal.lab.planet.clients import Users
    from causal.lab.planet.world import World

AGAIN_S: Final = 0.5
"""How long a user waits who was refused."""


def come_back(users: Users) -> None:
    """Let the latest sessions come once more: whatever happened to them, each must be answered, on every shard."""
    simulation = users.simulation
    for me in users.lately:
        for shard in simulation.shards:
            simulation.timeline.start(_insist(users, me, shard))


def _insist(users: Users, me: Client, key: int) -> Generator[float, None, None]:
    """Read a key until there is an answer, and accept whatever is lost."""
    name, number, simulation = me.name, -1 - key, users.simulation
    simulation.pending[name, number] = simulation.timeline.now
    while not (yield from users.read(me, key)):
        yield AGAIN_S
    del simulation.pending[name, number]


def judge_replicas(simulation: World, began_s: float) -> None:
    """Hold every server that works to what was committed before all was well again, but for what has a lag that is not over yet."""
    for server in simulation.members():
        for log in simulation.cluster.logs.values() if server.up and not server.paused else ():
            if simulation.due_s(log, server) > simulation.timeline.now:
                continue
            lacking = log.between(server.copies[log.shard].applied(log.pk & 0xFFFFFFFF), log.head)
            if lacking and lacking[0].at_s < began_s:
                said = f"{server.name} still lacks {lacking[0]}"
                simulation.oracle.broke("a replica that does not catch up", server.name, said)
