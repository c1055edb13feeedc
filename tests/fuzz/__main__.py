"""`python -m tests.fuzz`: fuzz what decodes untrusted bytes, for some seconds, and say what came of it.

    python -m tests.fuzz --seconds 600              all targets: the main ones thrice as long as others
    python -m tests.fuzz --seconds 120 --only claims
    python -m tests.fuzz --seconds 120 --only open  all the layers of a token: whatever `open` reads
    python -m tests.fuzz --minimise                 what was found since becomes part of the kept corpus

It needs atheris (Linux on x86-64) and shows libFuzzer's lines as they come. In the end it says of each target how many inputs it loaded,
how many changed ones it ran after that, and the coverage before and after these; a run that only loaded has failed. What it finds on the
way goes to build/fuzz/TARGET, and inputs that fail to build/fuzz/failures.

Minimising needs no atheris: of the seeds, the kept corpus and what was found, the shortest first, an input is kept if it takes a step
from one line of the package to another that none before it took. Those of more than 400 bytes, or of very many steps, are left out.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import causal
from tests.fuzz.targets import CORPUS, TARGETS, corpus, seeds

HERE = Path(__file__).parents[2]
BUILD = HERE / "build" / "fuzz"
OPEN = "open"
MOST_BYTES = 400
"""Of an input that is kept."""
MOST_STEPS = 20_000
PACKAGE = Path(causal.__file__).parent
Step = tuple[str, int, int]
_STATUS = re.compile(r"^#(\d+)\s+(\w+)\s+cov: (\d+)", re.MULTILINE)


class Result(NamedTuple):
    """How a run ended: libFuzzer's exit code, executions, how many of them only loaded what was kept, coverage (edges) then and at last."""

    code: int
    executions: int
    loaded: int
    first: int
    last: int
    said: str

    @property
    def mutated(self) -> int:
        """Executions of new inputs. On a busy machine loading may take all of the time."""
        return self.executions - self.loaded

    @property
    def failed(self) -> bool:
        """Whether something was found, or nothing was looked for."""
        return self.code != 0 or not self.mutated

    @property
    def ended(self) -> str:
        """In a few words."""
        if self.code:
            return f"FAILED: see {BUILD / 'failures'}"
        return (
            "nothing found"
            if self.mutated
            else "NOT FUZZED: loading the kept inputs took all of the time; give it more"
        )


def result_of(code: int, said: str) -> Result:
    """Read what libFuzzer said. INITED is the line after which it begins to change inputs; without it, it never did."""
    seen = [(int(number), event, int(edges)) for number, event, edges in _STATUS.findall(said)]
    if not seen:
        return Result(code, 0, 0, 0, 0, said)
    executions, _, last = seen[-1]
    loaded, _, first = next((line for line in seen if line[1] == "INITED"), seen[-1])
    return Result(code, executions, loaded, first, last, said)


def fuzz(
    name: str,
    seconds: int | None,
    build: Path = BUILD,
    tell: Callable[[str], object] = lambda line: None,
    *,
    mutations: int | None = None,
) -> Result:
    """Fuzz a target in a process of its own, which ends by itself, after some time or after so many changed inputs.

    `tell` hears each line that it says.
    """
    found, failures, started = build / name, build / "failures", build / "seeds" / name
    for directory in (found, failures, started, CORPUS / name):
        directory.mkdir(parents=True, exist_ok=True)
    for seed in seeds(name):
        _keep(started, seed)
    arguments = [f"-max_len={TARGETS[name].most}", "-timeout=20", "-rss_limit_mb=2048"]
    if seconds is not None:
        arguments.append(f"-max_total_time={seconds}")
    if mutations is not None:  # libFuzzer counts those that it loads, too
        loaded = sum(1 for directory in (found, CORPUS / name, started) for _ in directory.iterdir())
        arguments.append(f"-runs={loaded + mutations}")
    arguments += [f"-artifact_prefix={failures}/{name}-", "-print_final_stats=1", "-use_value_profile=1", "-reload=0"]
    return _run(name, [*arguments, str(found), str(CORPUS / name), str(started)], tell)


def minimise(name: str, build: Path = BUILD) -> int:
    """Replace a target's kept corpus with the shortest inputs that take every step that all of them take; return how many."""
    (CORPUS / name).mkdir(parents=True, exist_ok=True)
    found = [*corpus(name), *sorted((build / name).glob("*"))]
    inputs = {*seeds(name), *(path.read_bytes() for path in found)}
    covered: set[Step] = set()
    kept = []
    for data in sorted(inputs, key=lambda data: (len(data), data)):
        steps = _steps(name, data) if len(data) <= MOST_BYTES else set()
        if not steps <= covered:
            covered |= steps
            kept.append(data)
    for old in corpus(name):
        old.unlink()
    for data in kept:
        _keep(CORPUS / name, data)
    return len(kept)


def _steps(name: str, data: bytes) -> set[Step]:
    """Return which lines of the package follow which when a target is run; none at all if there are too many of them."""
    steps: set[Step] = set()
    left = MOST_STEPS

    def follow(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        file = frame.f_code.co_filename
        if file not in ours:
            return None
        last = frame.f_code.co_firstlineno

        def line(frame: FrameType, event: str, _: object) -> Any:
            nonlocal left, last
            left -= 1
            if event == "line":
                steps.add((file, last, frame.f_lineno))
                last = frame.f_lineno
            if left <= 0:
                sys.settrace(None)
                frame.f_trace = None
                return None
            return line

        return line

    ours = {str(path) for path in PACKAGE.rglob("*.py")}
    sys.settrace(follow)
    try:
        TARGETS[name].run(data)
    finally:
        sys.settrace(None)
    return steps if left > 0 else set()


def _keep(directory: Path, data: bytes) -> None:
    (directory / hashlib.sha1(data, usedforsecurity=False).hexdigest()[:16]).write_bytes(data)


def _run(name: str, arguments: list[str], tell: Callable[[str], object]) -> Result:
    command = [sys.executable, "-m", "tests.fuzz.one", name, *arguments]
    said = []
    with subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            tell(f"{name}: {line.rstrip()}")
    return result_of(process.returncode, "".join(said))


def chosen_names(only: str | None) -> list[str]:
    """The targets that are asked for."""
    if only == OPEN:
        return [name for name, target in TARGETS.items() if target.main]
    return [only] if only else list(TARGETS)


def main() -> None:
    """Fuzz each target for its share of the time, and print a line of each."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument(
        "--seconds",
        type=int,
        default=600,
        help="of fuzzing, in all (default: 600); each target takes some seconds more to start",
    )
    parser.add_argument("--only", choices=[*TARGETS, OPEN], help=f"one target alone, or all of what `{OPEN}` reads")
    parser.add_argument("--minimise", action="store_true", help="keep what was found, and fuzz nothing")
    chosen = parser.parse_args()
    names = chosen_names(chosen.only)
    if chosen.minimise:
        for name in names:
            print(f"{name}: {minimise(name)} inputs kept")
        return
    shares = {name: 3 if TARGETS[name].main else 1 for name in names}
    results = {}
    for name in names:
        seconds = max(1, chosen.seconds * shares[name] // sum(shares.values()))
        results[name] = fuzz(name, seconds, tell=lambda line: print(line, flush=True))
    print(f"\n{'target':10} {'loaded':>8} {'changed':>12} {'edges':>13}")
    for name, result in results.items():
        print(f"{name:10} {result.loaded:8,} {result.mutated:12,} {result.first:5} -> {result.last:4}  {result.ended}")
    sys.exit(any(result.failed for result in results.values()))


if __name__ == "__main__":
    main()
