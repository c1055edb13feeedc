"""Small worlds: random topologies in which much happens to few keys, for looking for what breaks.

Owns their shape. A world is small so that a seed takes milliseconds and a failure can be read.
"""

from __future__ import annotations

import random

import attrs

from causal.controls import Lag
from causal.lab.planet.topology import Cache, Index, Population, Site, Store, Topology


def world_for(mix: str, seed: int) -> Topology:
    """Return the topology of a seed in which the faults of a mix (see `causal.lab.faults.MIXES`) can do the most."""
    world = small_world(seed, caches=mix in {"caches", "everything"})
    return folding(world, seed) if mix == "folding" else world


def folding(world: Topology, seed: int) -> Topology:
    """Return a world like another, in which tokens must fold into floors: clock offsets, little room, and much that is old.

    Half of the reads go to an index that is far behind: it need not be fresh, but must hold what is demanded.
    """
    chance = random.Random(f"{seed}/folding")
    staleness_s = chance.uniform(0.8, 1.5)
    store = attrs.evolve(
        world.store,
        shards=chance.choice((2, 3)),
        offsets="clock",
        max_staleness_s=staleness_s,
        max_clock_skew_s=0.2,
        token_ttl_s=4 * staleness_s,
        max_token_chars=chance.choice((56, 64, 72)),
    )
    users = attrs.evolve(
        world.population[0], sessions=6, length=30, think_s=0.15, mix=(("source", 1.0), ("index", 1.0))
    )
    index = Index(lag=Lag(chance.choice((1.0, 2.0, 3.0))))
    return attrs.evolve(world, store=store, population=(users,), index=index, duration_s=6.0)


def small_world(seed: int, *, caches: bool = False) -> Topology:
    """Return the topology that belongs to a seed."""
    chance = random.Random(f"{seed}/world")
    names = ("eu", "us", "ap")[: chance.choice((2, 2, 3))]
    every = chance.random() < 0.4
    sites = tuple(
        Site(name, replicas=chance.choice((1, 2)) if n else 2, processes=chance.choice((1, 2)))
        for n, name in enumerate(names)
    )
    short = chance.random() < 0.4
    staleness_s = chance.uniform(1.5, 4.0) if short else 900.0
    store = Store(
        shards=chance.choice((1, 1, 2, 3)),
        writers="every" if every else "one",
        leaders=names[: chance.choice((1, 2))],
        offsets="clock" if chance.random() < 0.4 else "count",
        dependencies=True,
        lag=Lag(chance.choice((0.0, 0.02, 0.1, 0.3)), chance.choice((0.0, 0.8, 1.5))),
        heartbeat_s=0.2,
        max_staleness_s=staleness_s,
        max_clock_skew_s=0.5 if short else 60.0,
        token_ttl_s=staleness_s * chance.uniform(1.3, 2.0) + 0.6 if short else 86_400.0,
        max_token_chars=chance.choice((512, 512, 60, 44)),
    )
    users = Population(
        sessions=chance.choice((6, 12, 20)),
        length=chance.choice((10, 20)),
        think_s=chance.choice((0.02, 0.08, 0.3)),
        write_share=chance.choice((0.2, 0.4)),
        keys=chance.choice((2, 4, 8)),
        hop=chance.choice((0.2, 0.6)),
        jobs=chance.choice((0.0, 0.2)),
        mix=(("source", 1.0), ("cache", 1.0)) if caches else (("source", 1.0),),
    )
    return Topology(
        name=f"small-{seed}",
        duration_s=chance.choice((2.0, 6.0)),
        sites=sites,
        store=store,
        population=(users,),
        cache=Cache(entries=16, ttl_s=1.0) if caches else None,
        index=Index(lag=Lag(0.3)) if caches and chance.random() < 0.5 else None,
        rtt_s=tuple((a, b, chance.choice((0.004, 0.06))) for a in names for b in names if a < b),
        wait_s=chance.choice((0.05, 0.3)),
        quorum=2,
        window_s=0.2,
        bound_s=0.2,
    )
