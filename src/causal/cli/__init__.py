"""The way in to the command line, and every way out of it: exit codes, Ctrl-C, a closed pipe, a full disk, a missing extra.

Owns the process. Knows nothing of any command. It imports click and rich only when it runs, so that a package
installed without the extra `cli` can say so in a sentence.

Exit codes: 0 done; 1 an error of causal's own, or output that cannot be written, in one line; 2 wrong usage, or the extra is
missing; 130 Ctrl-C; 141 whoever read the output has gone (128 + SIGPIPE, as for any other tool in a pipeline).
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import signal
import sys
import time
from typing import Final, NoReturn

from causal.errors import CausalError

EXIT_ERROR: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130
EXIT_CLOSED_PIPE: Final = 141

_UNUSABLE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})
"""What a standard stream answers that is full, broken or closed."""
_SAME_S: Final = 0.5


def run() -> int:
    """Run the command that the process was started with; the exit code.

    Thread-safety: once, in the main thread.
    """
    _open_streams()
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a shell may have it ignored
    if heard:
        signal.signal(signal.SIGINT, _leave)
    try:
        loaded = _load()
        if heard:
            signal.signal(signal.SIGINT, _Interrupt())
        code = _run() if loaded else EXIT_USAGE
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
        _complain("interrupted")
    except BrokenPipeError:
        code = EXIT_CLOSED_PIPE
        _drop_output()
    except OSError as error:
        if error.errno not in _UNUSABLE:
            raise
        code = EXIT_ERROR
        _drop_output()
        _complain(f"standard input or output cannot be used: {error.strerror}")
    finally:
        if heard:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing is left but to end
    return code


def _load() -> bool:
    """Import what the command needs; whether it is there. Nothing has been done yet that Ctrl-C could leave half done."""
    try:
        import click  # noqa: F401 - asked for here, so that the hint comes before any output
        import rich  # noqa: F401
    except ModuleNotFoundError as missing:
        if missing.name not in {"click", "rich"}:
            raise
        _complain(f"the command line needs {missing.name}: pip install 'causal-tokens[cli]'")
        return False

    from causal.cli.main import COMMANDS

    for word in sys.argv[1:]:
        if word in COMMANDS:
            COMMANDS[word]()
            break
    return True


def _run() -> int:
    import click

    from causal.cli.main import main

    # What matters is in a command's output; without a handler, warnings would stand among it.
    logging.getLogger("causal").addHandler(logging.NullHandler())
    try:
        with main.make_context("causal", sys.argv[1:]) as context:
            main.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as wrong:
        wrong.show()
        return wrong.exit_code
    except CausalError as error:
        _complain(str(error))
        return EXIT_ERROR
    return 0


def _leave(*_: object) -> NoReturn:
    """Answer Ctrl-C during imports: raised there, it could be lost in a finalizer, or end in a traceback."""
    with contextlib.suppress(OSError):
        os.write(2, b"causal: interrupted\n")
    os._exit(EXIT_INTERRUPTED)


class _Interrupt:
    """Answers Ctrl-C, but not one that follows at once: to a process and to its group it comes twice, and must not stop the cleaning up.

    Thread-safety: none; a handler runs in the main thread.
    """

    def __init__(self) -> None:
        self.last_s = -_SAME_S

    def __call__(self, *_: object) -> None:
        now_s = time.monotonic()
        if now_s - self.last_s >= _SAME_S:
            self.last_s = now_s
            raise KeyboardInterrupt


def _open_streams() -> None:
    """Have all three standard streams: the number of a closed one would go to the next file that is opened.

    Whoever uses a stream that was closed is told, by one that is open the wrong way round; complaints go nowhere. What an encoding
    cannot say is escaped: what a command has done by then is not undone by an error about its output.
    """
    for number, name, how in ((0, "stdin", os.O_WRONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:
            end = os.open(os.devnull, how)  # the lowest free number
            setattr(sys, name, open(end, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Let what the interpreter flushes to standard output as it ends go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(sentence: str) -> None:
    """Say one line where it disturbs no output."""
    with contextlib.suppress(OSError):
        print(f"causal: {sentence}", file=sys.stderr, flush=True)
