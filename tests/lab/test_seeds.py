"""Many small worlds under every mix of faults: strategies that promise keep it, those that promise less are seen to.

A seed that fails says how to look at it: everything that it takes to run it again is in the message.
"""

import json
import os
import subprocess
import sys

import pytest

from causal.lab.faults import MIXES
from causal.lab.planet.small import world_for
from causal.lab.planet.writing import as_dict
from causal.lab.simulator import STRATEGIES, Outcome, simulate

CHUNK = 100
SEEDS = 1000 if os.environ.get("CI") else CHUNK
"""For every change, a thousand of every mix; while working, as many as take no time."""
LESS = [name for name, strategy in STRATEGIES.items() if not strategy.promises]
ENOUGH = 400
"""Within so many seeds, whoever promises less has shown somebody something wrong."""


def run(mix: str, strategy: str, seed: int, *, digest: bool = False) -> Outcome:
    world = world_for(mix, seed)
    outcome = simulate(world, strategy, faults=MIXES[mix], seed=seed, digest=digest)
    assert not outcome.violations, "\n".join(
        (
            f"{strategy}, mix {mix!r}, seed {seed}: {outcome.violations[0]}",
            f"faults: {MIXES[mix].as_dict()}",
            f"topology: {json.dumps(as_dict(world))}",
        )
    )
    return outcome


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
@pytest.mark.parametrize("mix", MIXES)
def test_a_token_keeps_its_promise(mix: str, first: int) -> None:
    """Of each seed, one run is repeated: the same seed gives the same events, to the byte."""
    repeated = list(MIXES).index(mix)
    for seed in range(first, first + CHUNK):
        twice = seed % len(MIXES) == repeated
        outcome = run(mix, "token", seed, digest=twice)
        if twice:
            assert run(mix, "token", seed, digest=True).digest == outcome.digest, f"seed {seed} is not repeatable"


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("strategy", ["leader", "quorum+token"])
def test_so_do_the_others_that_promise(mix: str, strategy: str) -> None:
    for seed in range(60):
        run(mix, strategy, seed)


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("strategy", LESS)
def test_who_promises_less_is_seen_to(mix: str, strategy: str) -> None:
    for seed in range(ENOUGH):
        if run(mix, strategy, seed).anomalies.acausal:
            return
    pytest.fail(f"{strategy} showed nothing wrong in {ENOUGH} seeds: a table in which nothing fails is void")


PROGRAM = """
import sys
from causal.lab.faults import MIXES
from causal.lab.planet.small import world_for
from causal.lab.simulator import simulate
for seed in range(12):
    world = world_for("everything", seed)
    print(simulate(world, "token", faults=MIXES["everything"], seed=seed, digest=True).digest)
"""


def test_the_same_seed_is_the_same_in_another_process() -> None:
    def digests(hash_seed: str) -> str:
        found = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        return found.stdout

    one = digests("1")
    assert len(set(one.split())) == 12
    assert digests("2") == one
