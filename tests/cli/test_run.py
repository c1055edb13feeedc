"""Every way into and out of the command line, in a process of its own."""

import os
import subprocess
import sys

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
