"""Drives a program through vectors: a JSON object a line to its standard input, and one back from its standard output.

Owns the process and the lines. What is right is judged by the vectors.
"""

from __future__ import annotations

import contextlib
import json
import queue
import shlex
import subprocess
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Self

import attrs

from causal.errors import CausalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from causal.lab.vectors.format import Vector

MAX_LINE: Final = 1 << 24
"""The longest line that a program may answer, in bytes."""
_END_S: Final = 2.0


class DriveError(CausalError):
    """The program cannot be started, ended, hung, or answered with something that is no answer."""


@attrs.frozen
class Result:
    """What came of one vector: `wrong` says what; `unsupported` that the program does not do this. Thread-safety: immutable."""

    vector: Vector
    wrong: str = ""
    unsupported: bool = False

    @property
    def passed(self) -> bool:
        """Whether the answer was right."""
        return not self.wrong and not self.unsupported


def drive(
    vectors: Iterable[Vector],
    ask: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    tell: Callable[[int], object] = lambda _: None,
) -> list[Result]:
    """Ask for an answer to each vector, and judge it. `tell` hears of each.

    Raises: DriveError.
    """
    results = []
    for number, vector in enumerate(vectors, 1):
        answer = ask({"id": number, "op": vector.op, "in": vector.given})
        if answer.get("id") != number:
            raise DriveError(f"the answer to {number} ({vector.name}) has the id {answer.get('id')!r}")
        unsupported = answer.get("unsupported") is True
        results.append(Result(vector, "" if unsupported else vector.judge(answer), unsupported))
        tell(1)
    return results


class Program:
    """A program under test, run without a shell, for as long as the block lasts.

    Units: `timeout_s` is how long one answer may take, in seconds. Thread-safety: one thread at a time.
    Raises: DriveError.
    """

    def __init__(self, command: str, timeout_s: float = 30.0) -> None:
        self._timeout_s = timeout_s
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._complaints: deque[bytes] = deque(maxlen=20)
        try:
            words = shlex.split(command)
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe)  # noqa: S603 - it is what is asked for
        except (OSError, ValueError, IndexError) as error:
            raise DriveError(f"{command!r} cannot be started: {error}") from error
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._listen, self._overhear)]
        for reader in self._readers:
            reader.start()

    def ask(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send one request, and return the answer to it."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps(request).encode() + b"\n")
            stdin.flush()
        except OSError:
            raise DriveError(self._ended(request)) from None
        try:
            line = self._lines.get(timeout=self._timeout_s)
        except queue.Empty:
            raise DriveError(
                f"no answer to request {request['id']} ({request['op']}) in {self._timeout_s:g} s"
            ) from None
        if not line:
            raise DriveError(self._ended(request))
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise DriveError(
                f"request {request['id']} ({request['op']}) was answered with no JSON object: {line[:200]!r}"
            )
        return answer

    def _listen(self) -> None:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline(MAX_LINE):
            self._lines.put(line)
        self._lines.put(b"")

    def _overhear(self) -> None:
        assert self._process.stderr is not None
        self._complaints.extend(self._process.stderr)

    def _ended(self, request: Mapping[str, Any]) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        self._readers[1].join(_END_S)
        said = b"".join(self._complaints).decode(errors="replace").strip()
        return (
            f"the program ended, with exit code {self._process.returncode}, at request {request['id']} ({request['op']})"
            + (f": {said}" if said else "")
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for reader in self._readers:
            reader.join(_END_S)
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()
