"""Drives a program through vectors: a JSON object a line to its standard input, and one back from its standard output.

Owns the process and the lines. What is right is judged by the vectors.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shlex
import signal
import subprocess
import threading
from typing import TYPE_CHECKING, Any, Final, Self

import attrs

from causal.errors import CausalError
from causal.lab.vectors.format import same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType

    from causal.lab.vectors.format import Vector

MAX_LINE: Final = 1 << 24
"""The longest line that a program may answer, in bytes."""
MAX_COMPLAINT: Final = 1000
"""How much is told of what a program that ended had written to standard error, in characters: the end of it."""
_AHEAD: Final = 64
"""How many lines are read that nobody has waited for yet. A program that goes on and on is then held up by its pipe."""
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


def drive(vectors: Iterable[Vector], ask: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> Iterator[Result]:
    """Ask for an answer to each vector, and judge it, one after the other.

    Raises: DriveError, after the results that there are.
    """
    for number, vector in enumerate(vectors, 1):
        try:
            answer = ask({"id": number, "op": vector.op, "in": vector.given})
        except DriveError as error:
            raise DriveError(f"{vector.area}: {vector.name}: {error}") from error
        if not same(answer.get("id"), number):
            raise DriveError(
                f"{vector.area}: {vector.name}: the answer to request {number} has the id {answer.get('id')!r}; each request is "
                "answered with its own id, in order, by one line of standard output, on which nothing else may be written"
            )
        unsupported = answer.get("unsupported") is True and not {"out", "error"} & answer.keys()
        yield Result(vector, "" if unsupported else vector.judge(answer), unsupported)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of these members. Raises: ValueError for a name twice: which of both was meant nobody can say."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a member twice")
    return made


def _no_number(name: str) -> None:
    """Refuse what Python reads and JSON has not: NaN and Infinity. Raises: ValueError."""
    raise ValueError(f"{name} is no JSON")


class Program:
    """A program under test, run without a shell, for as long as the block lasts.

    What it started itself ends with it, where the system has process groups; what has left its group (a daemon) is left alone.

    Units: `timeout_s` is how long one answer may take, in seconds. Thread-safety: one thread at a time.
    Raises: DriveError.
    """

    def __init__(self, command: str, timeout_s: float = 30.0) -> None:
        self._timeout_s = timeout_s
        self._requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._lines: queue.Queue[bytes] = queue.Queue(_AHEAD)
        self._complaint = b""
        self._left = threading.Event()
        try:
            words = shlex.split(command)
            if not words:
                raise DriveError("the command is empty: give a program, with its arguments")
            pipe = subprocess.PIPE
            # Nothing between us and the pipes; a session of its own, so that all of what it starts can be ended together.
            self._process = subprocess.Popen(  # noqa: S603 - it is what is asked for
                words, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, start_new_session=True
            )
        except (OSError, ValueError) as error:
            raise DriveError(f"{command!r} cannot be started: {error}") from error
        # Threads, because each of the pipes may block while the others have to be served.
        self._threads = [threading.Thread(target=do, daemon=True) for do in (self._tell, self._listen, self._overhear)]
        for thread in self._threads:
            thread.start()

    def ask(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send one request, and return the answer to it."""
        self._requests.put(json.dumps(request).encode() + b"\n")
        what = f"request {request['id']} ({request['op']})"
        try:
            line = self._lines.get(timeout=self._timeout_s)
        except queue.Empty:
            raise DriveError(
                f"no answer to {what} in {self._timeout_s:g} s: a program that needs longer is given it by --timeout, and one that "
                "has answered must flush its standard output"
            ) from None
        if not line:
            raise DriveError(self._ended(what))
        if len(line) >= MAX_LINE:
            raise DriveError(f"{what} was answered with a line of more than {MAX_LINE:,} bytes")
        try:
            answer = json.loads(line.decode(), object_pairs_hook=_once, parse_constant=_no_number)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise DriveError(f"{what} was answered with no JSON object: {line[:200]!r}")
        return answer

    def end(self) -> None:
        """End the standard input, and see that the program ends well, and answers nothing that was not asked."""
        self._requests.put(b"")
        try:
            if line := self._lines.get(timeout=self._timeout_s):
                raise DriveError(f"after the last answer the program wrote another line: {line[:200]!r}")
            code = self._process.wait(self._timeout_s)
        except (queue.Empty, subprocess.TimeoutExpired):
            raise DriveError(
                f"the program goes on {self._timeout_s:g} s after its standard input has ended: it must end then, and what it started too"
            ) from None
        if code:
            raise DriveError(self._ended("the end of its standard input"))

    def _tell(self) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(OSError), stdin:  # it has ended: whoever listens finds out
            while request := self._requests.get():
                while request:  # a pipe without a buffer takes what it has room for
                    request = request[stdin.write(request) :]

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with (
            contextlib.suppress(OSError, ValueError),
            open(self._process.stdout.fileno(), "rb", closefd=False) as lines,
        ):
            while (line := lines.readline(MAX_LINE)) and not self._left.is_set():
                self._lines.put(line)
        self._lines.put(b"")

    def _overhear(self) -> None:
        stderr = self._process.stderr
        assert stderr is not None
        with contextlib.suppress(OSError, ValueError):
            while some := stderr.read(4096):
                self._complaint = (self._complaint + some)[-4 * MAX_COMPLAINT :]

    def _ended(self, what: str) -> str:
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return f"the program closed its standard output at {what}, and goes on"
        self._threads[2].join(_END_S)
        said = " | ".join(
            line.strip() for line in self._complaint.decode(errors="replace").splitlines() if line.strip()
        )
        return f"the program ended, with exit code {self._process.returncode}, at {what}" + (
            f": {said[-MAX_COMPLAINT:]}" if said else ""
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        self._requests.put(b"")
        self._drain()
        try:
            self._process.wait(_END_S if kind is None else 0)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait()
        for thread in self._threads:
            thread.join(_END_S / 10)
        if any(thread.is_alive() for thread in self._threads):  # something that it started holds its pipes
            self._kill()
        for thread, stream in zip(self._threads, (None, self._process.stdout, self._process.stderr), strict=True):
            self._drain()
            thread.join(_END_S)
            # Under a thread that still reads it, closing would wait for it; the thread ends when the pipe does.
            if stream is not None and not thread.is_alive():
                stream.close()

    def _drain(self) -> None:
        """Make room for a reader that waits for it."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._lines.get_nowait()

    def _kill(self) -> None:
        if hasattr(os, "killpg"):
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
