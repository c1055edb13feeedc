"""The way in to the command line, and every way out of it: exit codes, Ctrl-C, a closed pipe, a missing extra.

Owns the process. Knows nothing of any command. It imports click and rich only when it runs, so that a package
installed without the extra `cli` can say so in a sentence.

Exit codes: 0 done; 1 an error of causal's own, in one line; 2 wrong usage, or the extra is missing; 130 Ctrl-C;
141 whoever read the output has gone (128 + SIGPIPE, as for any other tool in a pipeline).
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Final

from causal.errors import CausalError

EXIT_ERROR: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130
EXIT_CLOSED_PIPE: Final = 141


def run() -> int:
    """Run the command that the process was started with; the exit code.

    Thread-safety: once, in the main thread.
    """
    try:
        return _run()
    except KeyboardInterrupt:
        _complain("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes standard output once more as it ends: let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_CLOSED_PIPE


def _run() -> int:
    try:
        import click
        import rich  # noqa: F401 - asked for here, so that the hint comes before any output
    except ModuleNotFoundError as missing:
        if missing.name not in {"click", "rich"}:
            raise
        _complain(f"the command line needs {missing.name}: pip install 'causal-tokens[cli]'")
        return EXIT_USAGE

    from causal.cli.main import main

    # What matters is in a command's output; without a handler, warnings would stand among it.
    logging.getLogger("causal").addHandler(logging.NullHandler())
    try:
        with main.make_context("causal", sys.argv[1:]) as context:
            main.invoke(context)
        code = 0
    except click.exceptions.Exit as done:
        code = done.exit_code
    except click.Abort:
        _complain("interrupted")
        return EXIT_INTERRUPTED
    except click.ClickException as wrong:
        wrong.show()
        return wrong.exit_code
    except CausalError as error:
        _complain(str(error))
        return EXIT_ERROR
    sys.stdout.flush()
    return code


def _complain(sentence: str) -> None:
    """Say one line where it disturbs no output."""
    print(f"causal: {sentence}", file=sys.stderr)
