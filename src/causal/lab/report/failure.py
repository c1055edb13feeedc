"""Failures: a promise that a simulation saw broken, as a file that replays it.

Owns the file. It holds everything that a run depends on (topology, strategy, faults, seed), spelled out with every default, and says
which code it was; other code may behave otherwise, so whoever replays is told of a difference.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

import causal
from causal.errors import CausalError, ConfigError
from causal.lab.faults import Faults
from causal.lab.planet.oracle import Violation
from causal.lab.planet.reading import build_topology
from causal.lab.planet.writing import as_dict
from causal.lab.simulator import STRATEGIES, Simulation

if TYPE_CHECKING:
    from collections.abc import Callable

    from causal.lab.planet.topology import Topology
    from causal.lab.simulator import Outcome

FORMAT: Final = "causal simulation 1"


class ReplayError(CausalError, ValueError):
    """A file that replays nothing; `file` and `reason` say which and why."""

    def __init__(self, file: str, reason: str) -> None:
        self.file, self.reason = file, reason
        super().__init__(f"{file}: {reason}")


class _ReachedError(Exception):
    """The violation has happened: there is no need to go on."""


def commit() -> str | None:
    """Return the commit of this code, if it runs from a repository that it belongs to; "-dirty" follows if files differ from it."""
    here = Path(causal.__file__).parent
    try:
        _git(here, "ls-files", "--error-unmatch", "__init__.py")
        return _git(here, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(where: Path, *words: str) -> str:
    done = subprocess.run(  # noqa: S603 - words of our own
        ["git", "-C", str(where), *words],  # noqa: S607 - whichever git there is
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    return done.stdout.strip()


@attrs.frozen
class Failure:
    """A broken promise and all that it takes to see it again. `commit` is None where the code is not in a repository.

    Thread-safety: immutable.
    """

    topology: Topology
    strategy: str
    faults: Faults
    seed: int
    violation: Violation
    version: str = attrs.field(factory=lambda: causal.__version__)
    commit: str | None = attrs.field(factory=commit)

    @property
    def file_name(self) -> str:
        """What its file is called."""
        return re.sub(r"[^\w.+-]", "-", f"{self.topology.name}-{self.strategy}-seed-{self.seed}.json").lstrip(".-")

    def as_dict(self) -> dict[str, Any]:
        """Return it as the file holds it."""
        return {
            "format": FORMAT,
            "version": self.version,
            "commit": self.commit,
            "strategy": self.strategy,
            "seed": self.seed,
            "violation": attrs.asdict(self.violation),
            "faults": self.faults.as_dict(),
            "topology": as_dict(self.topology),
        }

    def code(self) -> str:
        """Return which code it was."""
        return f"causal {self.version}" + (f", commit {self.commit}" if self.commit else "")


def failure_of(topology: Topology, faults: Faults, outcome: Outcome) -> Failure | None:
    """Return the first promise that a run broke, if its strategy makes promises."""
    if not STRATEGIES[outcome.strategy].promises or not outcome.violations:
        return None
    return Failure(topology, outcome.strategy, faults, outcome.seed, outcome.violations[0])


def read_failure(path: str | Path) -> Failure:
    """Read a file that replays a failure. Raises: ReplayError."""
    try:
        data = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise ReplayError(str(path), f"cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ReplayError(str(path), f"not JSON: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ReplayError(str(path), f"no file that replays a simulation: its format is {FORMAT!r}")
    try:
        strategy, seed = data["strategy"], data["seed"]
        if strategy not in STRATEGIES or isinstance(seed, bool) or not isinstance(seed, int):
            raise ConfigError(f"no strategy {strategy!r}, or no seed {seed!r}")
        if not isinstance(data["faults"], dict):
            raise ConfigError("faults are rates by name")
        return Failure(
            build_topology(data["topology"], str(path)),
            strategy,
            Faults.of(data["faults"]),
            seed,
            _violation(data["violation"]),
            str(data["version"]),
            data["commit"],
        )
    except KeyError as error:
        raise ReplayError(str(path), f"{error.args[0]} is missing") from error
    except (ConfigError, TypeError, AttributeError) as error:
        raise ReplayError(str(path), str(error)) from error


def _violation(given: object) -> Violation:
    """Return a violation of what a file holds. Raises: ConfigError."""
    match given:
        case {"kind": str(kind), "at_s": float(at_s), "session": str(session), "said": str(said), **more}:
            if not more and math.isfinite(at_s):
                return Violation(kind, at_s, session, said)
    raise ConfigError("a violation has a kind, at_s in seconds, a session, and what was said")


def replay(failure: Failure, listen: Callable[[str], object]) -> Violation | None:
    """Run it again up to the first broken promise, which is returned; None if none is broken now. `listen` hears each event as a line."""
    simulation: Simulation

    def hear(line: str) -> None:
        listen(line)
        if simulation.oracle.violations:
            raise _ReachedError

    simulation = Simulation(failure.topology, STRATEGIES[failure.strategy], failure.faults, failure.seed, hear)
    with contextlib.suppress(_ReachedError):
        simulation.run()
    return next(iter(simulation.oracle.violations), None)
