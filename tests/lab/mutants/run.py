"""Runs seeds of small worlds until a promise is broken. Executed as a file, on whatever package PYTHONPATH names.

Owns what counts as found: a violation, an exception out of the simulator, or a run that does not end. Says one line of JSON for every
seed that is done, and one for what it found.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

SEED_ENDS_WITHIN_S = 60
"""Of real time: a seed takes well under a second. What takes so long repeats itself."""


class DoesNotEndError(Exception):
    """A run that goes on and on."""


def one(strategy: str, mix: str, seed: int) -> tuple[str, str] | None:
    """Run one seed; return the kind and the words of what was broken first."""
    from causal.lab.faults import MIXES
    from causal.lab.planet.small import world_for
    from causal.lab.simulator import simulate

    try:
        outcome = simulate(world_for(mix, seed), strategy, faults=MIXES[mix], seed=seed)
    except DoesNotEndError:
        return "does not end", f"seed {seed} of {mix} does not end"
    except Exception as error:  # noqa: BLE001 - whatever a planted bug makes the simulator raise is a finding
        return f"raises {type(error).__name__}", traceback.format_exc()
    return (outcome.violations[0].kind, outcome.violations[0].said) if outcome.violations else None


def main() -> None:
    """Read a job from the first argument: strategy, mixes, and seeds from `first` up to `last`, which is not run."""
    job: dict[str, Any] = json.loads(sys.argv[1])
    logging.disable()

    import causal

    home = Path(causal.__file__).parent.parent
    if "home" in job and home != Path(job["home"]).resolve():
        sys.exit(f"the package under test is at {home}, not at {job['home']}")

    def stop(*_: object) -> None:
        raise DoesNotEndError

    signal.signal(signal.SIGALRM, stop)
    for seed in range(job["first"], job["last"]):
        for mix in job["mixes"]:
            signal.alarm(SEED_ENDS_WITHIN_S)
            found = one(job["strategy"], mix, seed)
            signal.alarm(0)
            if found is not None:
                print(json.dumps({"mix": mix, "seed": seed, "kind": found[0], "said": found[1]}), flush=True)
                return
        print(json.dumps({"done": seed}), flush=True)


if __name__ == "__main__":
    main()
