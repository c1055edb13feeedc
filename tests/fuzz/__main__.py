"""`python -m tests.fuzz`: fuzz what decodes untrusted bytes, for some seconds, and say what came of it.

    python -m tests.fuzz --seconds 600              all targets: the main ones thrice as long as others
    python -m tests.fuzz --seconds 120 --only claims
    python -m tests.fuzz --minimise                 what was found since becomes part of the kept corpus

It needs atheris (Linux on x86-64) and shows libFuzzer's lines as they come. What it finds on the way goes to build/fuzz/TARGET, and
inputs that fail to build/fuzz/failures. Minimising is libFuzzer's merge: from the seeds, the kept corpus and what was found, the fewest
inputs, short ones first, that reach every edge that all of them reach; those of more than 400 bytes are left out.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.targets import CORPUS, TARGETS, seeds

HERE = Path(__file__).parents[2]
BUILD = HERE / "build" / "fuzz"
MOST_BYTES = 400
"""Of an input that is kept."""
_STATUS = re.compile(r"#(\d+)\s+\w+\s+cov: (\d+)")


class Result(NamedTuple):
    """How a run ended: libFuzzer's exit code, executions, and coverage (edges) at first and at last."""

    code: int
    executions: int
    first: int
    last: int
    said: str


def fuzz(name: str, seconds: int, build: Path = BUILD, tell: Callable[[str], object] = lambda line: None) -> Result:
    """Fuzz a target in a process of its own, which ends by itself. `tell` hears each line that it says."""
    found, failures, started = build / name, build / "failures", build / "seeds" / name
    for directory in (found, failures, started, CORPUS / name):
        directory.mkdir(parents=True, exist_ok=True)
    for seed in seeds(name):
        _keep(started, seed)
    arguments = [f"-max_total_time={seconds}", f"-max_len={TARGETS[name].most}", "-timeout=20", "-rss_limit_mb=2048"]
    arguments += [f"-artifact_prefix={failures}/{name}-", "-print_final_stats=1", "-use_value_profile=1", "-reload=0"]
    return _run(name, [*arguments, str(found), str(CORPUS / name), str(started)], tell)


def minimise(name: str, build: Path = BUILD) -> int:
    """Replace a target's kept corpus with the fewest inputs that cover as much; return how many."""
    fresh, started = build / "merged" / name, build / "seeds" / name
    for directory in (fresh, started, CORPUS / name, build / name):
        directory.mkdir(parents=True, exist_ok=True)
    for old in fresh.iterdir():
        old.unlink()
    for seed in seeds(name):
        _keep(started, seed)
    inputs = [str(directory) for directory in (fresh, CORPUS / name, started, build / name)]
    result = _run(name, ["-merge=1", f"-max_len={MOST_BYTES}", "-timeout=20", "-rss_limit_mb=2048", *inputs], print)
    if result.code:
        raise SystemExit(f"{name}: libFuzzer's merge failed")
    for old in (CORPUS / name).iterdir():
        old.unlink()
    merged = [path.read_bytes() for path in fresh.iterdir()]
    for data in merged:
        _keep(CORPUS / name, data)
    return len(merged)


def _keep(directory: Path, data: bytes) -> None:
    (directory / hashlib.sha1(data, usedforsecurity=False).hexdigest()[:16]).write_bytes(data)


def _run(name: str, arguments: list[str], tell: Callable[[str], object]) -> Result:
    command = [sys.executable, "-m", "tests.fuzz.one", name, *arguments]
    said, seen = [], []
    with subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            tell(f"{name}: {line.rstrip()}")
            if status := _STATUS.match(line):
                seen.append((int(status[1]), int(status[2])))
    first, last = (seen[0][1], seen[-1][1]) if seen else (0, 0)
    return Result(process.returncode, seen[-1][0] if seen else 0, first, last, "".join(said))


def main() -> None:
    """Fuzz each target for its share of the time, and print a line of each."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=int, default=600, help="in all (default: 600)")
    parser.add_argument("--only", choices=TARGETS, help="one target alone")
    parser.add_argument("--minimise", action="store_true", help="keep what was found, and fuzz nothing")
    chosen = parser.parse_args()
    names = [chosen.only] if chosen.only else list(TARGETS)
    if chosen.minimise:
        for name in names:
            print(f"{name}: {minimise(name)} inputs kept")
        return
    shares = {name: 3 if TARGETS[name].main else 1 for name in names}
    results = {}
    for name in names:
        seconds = max(1, chosen.seconds * shares[name] // sum(shares.values()))
        results[name] = fuzz(name, seconds, tell=lambda line: print(line, flush=True))
    print(f"\n{'target':10} {'executions':>12} {'edges':>13}")
    for name, result in results.items():
        ended = "nothing found" if not result.code else f"FAILED: see {BUILD / 'failures'}"
        print(f"{name:10} {result.executions:12,} {result.first:5} -> {result.last:4}  {ended}")
    sys.exit(any(result.code for result in results.values()))


if __name__ == "__main__":
    main()
