"""Every way into and out of the command line, in a process of its own."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import causal

# A process whose command line has one more command, `planted`.
PLANTED = """
import os, signal, sys
import click
from causal.cli import main, run
from causal.cli.output import Output, json_option
from causal.errors import ConfigError, StoreError

@click.command()
@json_option
def planted(as_json):
    out = Output(as_json=as_json)
    {body}

main.COMMANDS["planted"] = lambda: planted
sys.argv = ["causal", "planted", *sys.argv[1:]]
sys.exit(run())
"""


def python(code: str, *argv: str, stdout: int = subprocess.PIPE) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code, *argv],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
        # Buffered, as a shell starts it: what breaks at the last flush must show here too.
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )


def planted(body: str, *argv: str, stdout: int = subprocess.PIPE) -> "subprocess.CompletedProcess[str]":
    return python(PLANTED.format(body=body.replace("\n", "\n    ")), *argv, stdout=stdout)


def test_version() -> None:
    done = python("import sys; from causal.cli import run; sys.argv = ['causal', '--version']; sys.exit(run())")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"causal, version {causal.__version__}\n", "")


def test_an_unknown_command_is_wrong_usage() -> None:
    done = python("import sys; from causal.cli import run; sys.argv = ['causal', 'nonesuch']; sys.exit(run())")
    assert done.returncode == 2
    assert "nonesuch" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_a_hint_and_no_traceback(missing: str) -> None:
    done = python(f"import sys; sys.modules[{missing!r}] = None; from causal.cli import run; sys.exit(run())")
    assert done.returncode == 2
    assert done.stderr == f"causal: the command line needs {missing}: pip install 'causal-tokens[cli]'\n"


def test_ctrl_c_ends_cleanly() -> None:
    done = planted("os.kill(os.getpid(), signal.SIGINT)\nsignal.pause()")
    assert (done.returncode, done.stderr) == (130, "causal: interrupted\n")


def test_ctrl_c_twice_is_one() -> None:
    body = """
try:
    os.kill(os.getpid(), signal.SIGINT)
    signal.pause()
finally:
    os.kill(os.getpid(), signal.SIGINT)
    print('cleaned up')"""
    done = planted(body)
    assert (done.returncode, done.stdout, done.stderr) == (130, "cleaned up\n", "causal: interrupted\n")


def test_ctrl_c_while_a_command_is_imported() -> None:
    code = """
import os, signal, sys
from causal.cli import main, run

def load():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        print('imports swallow what is raised in a finalizer')

main.COMMANDS["slow"] = load
sys.argv = ["causal", "slow"]
sys.exit(run())
"""
    done = python(code)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "causal: interrupted\n")


def test_ctrl_c_that_a_shell_has_ignored_stays_ignored() -> None:
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    body = "os.kill(os.getpid(), signal.SIGINT)\nprint('went on')"
    done = python(code + PLANTED.format(body=body.replace("\n", "\n    ")))
    assert (done.returncode, done.stdout) == (0, "went on\n")


@pytest.mark.parametrize("module", ["causal", "causal.cli"])
def test_as_a_module(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, f"causal, version {causal.__version__}\n")


@pytest.mark.parametrize(
    ("body", "argv"),
    [
        ("out.say('a story')", ()),
        ("out.record({'a': 1})", ("--json",)),
        ("out.table([{'a': 1}], {'a': 'A'})", ()),
        ("print('buffered until the end')", ()),
        ("", ("--help",)),
    ],
)
def test_a_full_disk_is_one_line(body: str, argv: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = planted(body or "pass", *argv, stdout=full.fileno())
    reason = os.strerror(errno.ENOSPC)
    assert (done.returncode, done.stderr) == (1, f"causal: standard input or output cannot be used: {reason}\n")


def shell(command: str, *argv: object, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run a command line through a shell, which can close streams; `causal` in it is this one."""
    command = command.replace("causal", f'"{sys.executable}" -m causal', 1)
    return subprocess.run(
        ["/bin/sh", "-c", command, "sh", *map(str, argv)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **env},
    )


def test_streams_that_are_closed(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    assert shell('causal keys new "$1"', file).returncode == 0
    closed = f"causal: standard input or output cannot be used: {os.strerror(errno.EBADF)}\n"
    for command in ('causal keys list "$1" >&-', 'causal keys list "$1" --json >&-', 'causal token inspect - "$1" <&-'):
        done = shell(command.replace(' - "$1"', " -"), file)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", closed), command
    done = shell("causal token inspect garbage 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")  # the complaint is no output
    done = shell('causal keys list "$1" <&- 2>&-', file)
    assert (done.returncode, "Added" in done.stdout) == (0, True)


def test_what_an_encoding_cannot_say_is_escaped(tmp_path: Path) -> None:
    file = tmp_path / "\xe9\u2028.json"
    done = shell('causal keys new "$1"', file, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xe9\\u2028.json holds key" in done.stdout
    done = shell('causal keys list "$1"', tmp_path / "\xe8", PYTHONIOENCODING="ascii")
    assert done.returncode == 1
    assert "\\xe8" in done.stderr


def test_json_is_ascii_and_one_line_whatever_is_in_it() -> None:
    done = planted("out.record({'key': '\\u2028\\x85\\ud800'})", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert json.loads(done.stdout) == {"key": "\u2028\x85\ud800"}


@pytest.mark.parametrize(
    "body",
    ["while True: print('line')", "while True: out.say('line')", "print('buffered until the end')"],
)
def test_a_closed_pipe_ends_cleanly(body: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = planted(body, stdout=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_an_error_of_ours_is_one_line() -> None:
    done = planted("raise StoreError('the disk is full')")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "causal: the disk is full\n")


def test_an_error_of_nobody_is_a_traceback() -> None:
    done = planted("raise ZeroDivisionError('a bug')")
    assert done.returncode == 1
    assert "ZeroDivisionError: a bug" in done.stderr
    done = planted("open('/nonesuch')")  # not the output's
    assert done.returncode == 1
    assert "FileNotFoundError" in done.stderr


def test_output_for_people_and_for_programs() -> None:
    body = """
out.say('a story')
out.record({'key': '[bold]not markup[/]', 'shards': (1, 2), 'last': None})
out.table([{'site': 'eu', 'reads': 12345}], {'site': 'Site', 'reads': 'Reads'})
with out.progress('replaying', total=2) as advance:
    advance(2)
"""
    people = planted(body)
    assert people.returncode == 0, people.stderr
    assert people.stderr == ""
    assert "a story" in people.stdout
    assert "[bold]not markup[/]" in people.stdout
    assert "12,345" in people.stdout
    programs = planted(body, "--json")
    assert programs.stderr == ""
    assert programs.stdout == (
        '{"key": "[bold]not markup[/]", "shards": [1, 2], "last": null}\n{"site": "eu", "reads": 12345}\n'
    )
