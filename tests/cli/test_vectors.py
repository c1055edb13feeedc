"""`causal vectors`: what it says of programs that answer right, wrong, late, never, or something else."""

import json
import os
import select
import shlex
import signal
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from causal.cli.main import main
from causal.errors import ConfigError
from causal.lab.vectors.drive import MAX_LINE, DriveError, Program
from causal.lab.vectors.format import AREAS, Vector, directory, load, same

VECTORS = [
    {"name": "one and one", "op": "sum.two", "cites": ["C-1"], "in": {"a": 1, "b": 1}, "out": {"sum": 2}},
    {"name": "two and two", "op": "sum.two", "cites": ["C-1", "C-2"], "in": {"a": 2, "b": 2}, "out": {"sum": 4}},
    {
        "name": "no number",
        "op": "sum.two",
        "cites": ["C-2"],
        "in": {"a": 1, "b": None},
        "error": {"type": "NoNumber", "which": "b"},
        "reason": "nothing is no number",
    },
    {"name": "a product", "op": "product.two", "cites": ["C-3"], "in": {"a": 2, "b": 3}, "out": {"product": 6}},
]
GOOD = """
    import json, sys
    for line in sys.stdin:
        r = json.loads(line)
        a, b = r["in"]["a"], r["in"]["b"]
        if r["op"] != "sum.two":
            out = {"product": a * b}
        else:
            out = {"sum": a + b} if b is not None else None
        answer = {"out": out} if out else {"error": {"type": "NoNumber", "which": "b", "more": "may be said"}}
        {spoil}
        print(json.dumps({"id": r["id"], **answer}), flush=True)
"""


PATIENCE_S = 60  # how long a test waits for what happens at once unless it is broken
HANG = "import threading; threading.Event().wait(600)"


@pytest.fixture
def where(tmp_path: Path) -> Path:
    path = tmp_path / "vectors"
    path.mkdir()
    file = {"spec": 1, "area": "clock", "about": "sums", "vectors": VECTORS}
    (path / "clock.json").write_text(json.dumps(file))
    return path


def program(where: Path, spoil: str = "pass", text: str = GOOD) -> str:
    """The command of a program that answers, but for what spoils it."""
    path = where.parent / "program under test.py"  # a blank: the command is split as a shell does it
    path.write_text(textwrap.dedent(text).replace("{spoil}", spoil))
    return shlex.join([sys.executable, str(path)])


def run(where: Path, *argv: str, command: str | None = None) -> Result:
    said = ["--command", command] if command else []
    return CliRunner().invoke(
        main, ["vectors", "run", "--directory", str(where), "--area", "clock", *said, *argv], env={"COLUMNS": "100"}
    )


def counts(result: Result) -> dict[str, Any]:
    """The line of the only area, of `--json`."""
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def complaint(where: Path, command: str, *argv: str) -> str:
    result = run(where, *argv, command=command)
    assert isinstance(result.exception, DriveError), result.output
    text = str(result.exception)
    assert "\n" not in text
    return text


# --- answers -----------------------------------------------------------------------------------------------------------


def test_a_good_program_passes(where: Path) -> None:
    result = run(where, command=program(where))
    assert result.exit_code == 0, result.output
    (row,) = (line for line in result.stdout.splitlines() if line.split()[:1] == ["clock"])
    assert row.split() == ["clock", "4", "4", "0", "0"]
    assert counts(run(where, "--json", command=program(where))) == {
        "area": "clock",
        "vectors": 4,
        "passed": 4,
        "failed": 0,
        "unsupported": 0,
    }


def test_a_wrong_answer_is_shown_with_what_it_should_be_and_what_it_stands_for(where: Path) -> None:
    command = program(where, 'answer = {"out": {"sum": 5}} if a == 2 and r["op"] == "sum.two" else answer')
    result = run(where, command=command)
    assert result.exit_code == 1
    assert "clock: two and two (sum.two; C-1, C-2)" in result.stdout
    assert 'should give {"sum": 4}, not {"sum": 5}' in result.stdout
    assert "one and one" not in result.stdout
    lines = [json.loads(line) for line in run(where, "--json", command=command).stdout.splitlines()]
    assert lines[0] == {
        "area": "clock",
        "name": "two and two",
        "op": "sum.two",
        "cites": ["C-1", "C-2"],
        "wrong": 'should give {"sum": 4}, not {"sum": 5}',
        "in": {"a": 2, "b": 2},
    }
    assert (lines[1]["passed"], lines[1]["failed"]) == (3, 1)


@pytest.mark.parametrize(
    ("spoil", "wrong"),
    [
        ('answer = {"out": {"sum": 1}} if b is None else answer', "should be refused"),
        ('answer = {"error": {"type": "Other", "which": "b"}} if b is None else answer', "should be refused"),
        ('answer = {"error": {"type": "NoNumber"}} if b is None else answer', "should be refused"),
        ('answer = {"error": {"type": "NoNumber", "which": "a"}} if b is None else answer', "should be refused"),
        ('answer = {"error": "NoNumber"} if b is None else answer', "should be refused"),
        ('answer = {**answer, "out": {}} if b is None else answer', "should be refused"),
        ('answer = {"error": {"type": "NoNumber"}} if a == 2 else answer', "should give"),
        ('answer = {**answer, "error": {"type": "NoNumber"}} if a == 2 else answer', "should give"),
        ('answer = {"out": {**out, "more": 1}} if a == 2 else answer', "should give"),
        ('answer = {"out": {"sum": "4"}} if a == 2 else answer', "should give"),
        ('answer = {"out": [4]} if a == 2 else answer', "should give"),
        ("answer = {} if a == 2 else answer", "should give"),
        ('answer = {"unsupported": "yes"} if a == 2 else answer', "should give"),
    ],
)
def test_what_is_nearly_right_is_wrong(where: Path, spoil: str, wrong: str) -> None:
    result = run(where, command=program(where, spoil))
    assert result.exit_code == 1
    assert wrong in result.stdout


def test_the_reason_of_a_refusal_is_shown(where: Path) -> None:
    result = run(where, command=program(where, 'answer = {"out": {"sum": 1}} if b is None else answer'))
    assert "[nothing is no number]" in result.stdout


def test_many_wrong_answers_are_counted_and_the_first_ones_shown(where: Path) -> None:
    file = json.loads((where / "clock.json").read_text())
    file["vectors"] = [{**VECTORS[0], "name": f"number {n}", "in": {"a": n, "b": 1}} for n in range(2, 52)]
    (where / "clock.json").write_text(json.dumps(file))
    result = run(where, command=program(where))
    assert "number 21 " in result.stdout
    assert "number 22 " not in result.stdout
    assert "... and 30 more" in result.stdout
    assert len(run(where, "--json", command=program(where)).stdout.splitlines()) == 51


def test_true_is_not_one_and_one_is_one() -> None:
    assert same({"a": [1, "x", None]}, {"a": [1.0, "x", None]})
    for a, b in ((True, 1), (0, False), ([1], [1, 1]), ({"a": 1}, {}), ("1", 1), (None, 0)):
        assert not same(a, b)


def test_what_is_unsupported_fails_unless_it_is_allowed(where: Path) -> None:
    command = program(where, 'answer = {"unsupported": True} if r["op"] == "product.two" else answer')
    for argv, code in (((), 1), (("--allow-unsupported",), 0)):
        result = run(where, "--json", *argv, command=command)
        assert result.exit_code == code
        found = counts(result)
        assert (found["passed"], found["failed"], found["unsupported"]) == (3, 0, 1)


def test_a_program_that_supports_nothing_has_not_passed(where: Path) -> None:
    assert "nothing was tested" in complaint(
        where, program(where, 'answer = {"unsupported": True}'), "--allow-unsupported"
    )


# --- no answers --------------------------------------------------------------------------------------------------------


def test_a_program_that_hangs(where: Path) -> None:
    said = complaint(where, program(where, HANG), "--timeout", "0.3")
    assert "clock: one and one: no answer to request 1 (sum.two) in 0.3 s" in said
    assert "--timeout" in said


def test_a_program_that_stops_in_a_line(where: Path) -> None:
    said = complaint(where, program(where, f"print('{{', end='', flush=True); {HANG}"), "--timeout", "0.3")
    assert "no answer to request 1" in said


def test_a_program_that_never_reads(where: Path) -> None:
    file = json.loads((where / "clock.json").read_text())
    file["given"] = {"much": "x" * 1_000_000}  # more than a pipe holds
    (where / "clock.json").write_text(json.dumps(file))
    command = program(where, text=HANG)
    assert "no answer to request 1" in complaint(where, command, "--timeout", "0.3")


def test_a_program_that_dies_is_quoted(where: Path) -> None:
    command = program(
        where, 'if a == 2: print("first, this", file=sys.stderr); sys.exit("I cannot add\\n two and two")'
    )
    said = complaint(where, command)
    assert "clock: two and two: the program ended, with exit code 1, at request 2 (sum.two)" in said
    assert said.endswith(": first, this | I cannot add | two and two")


def test_what_came_before_the_end_is_shown(where: Path) -> None:
    command = program(where, 'answer = {"out": {}}\n    if a == 2: sys.exit(3)')
    result = run(where, "--json", command=command)
    assert isinstance(result.exception, DriveError)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert lines[0]["name"] == "one and one"
    assert (lines[-1]["vectors"], lines[-1]["failed"]) == (1, 1)


def test_a_program_that_is_killed(where: Path) -> None:
    said = complaint(where, program(where, f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})"))
    assert f"exit code -{int(signal.SIGKILL)}" in said


def test_a_program_that_complains_at_length_is_not_held_up_and_its_end_is_quoted(where: Path) -> None:
    command = program(where, 'sys.stderr.write("x" * 1_000_000)\n    if a == 2: sys.exit("the end")')
    said = complaint(where, command)
    assert said.endswith("xthe end")
    assert len(said) < 1500


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ('print("Hello!")', "answered with no JSON object: b'Hello!"),
        ("print()", "answered with no JSON object"),
        ("print([r['id'], 2])", "answered with no JSON object: b'[1, 2]"),
        ('print("[" * 100_000)', "answered with no JSON object"),
        ('sys.stdout.buffer.write(b"\\xff\\xfe\\n")', "answered with no JSON object"),
        ('print(\'{"id": 1, "out": {"sum": NaN}}\')', "answered with no JSON object"),
        ('print(\'{"id": 1, "error": {"type": "NoNumber", "more": -Infinity}}\')', "answered with no JSON object"),
        ('print(\'{"id": 1, "out": {"sum": 3}, "out": {"sum": 2}}\')', "answered with no JSON object"),  # a name twice
        ('print(\'{"id": 1, "out": {"sum": 3, "sum": 2}}\')', "answered with no JSON object"),
        ('print("\\ufeff" + json.dumps({"id": 1, **answer}))', "answered with no JSON object"),  # a byte order mark
        ('r["id"] += 1', "has the id 2"),
        ('r["id"] = str(r["id"])', "has the id '1'"),
        ('r["id"] = True', "the answer to request 1 has the id True"),
        ('print(json.dumps({"id": 1, "out": {"sum": 2}}))', "has the id 1"),  # one line too many, then all are one late
        (f"import os; os.close(1); {HANG}", "and goes on"),
    ],
)
def test_what_is_no_answer_is_said_at_once(where: Path, spoil: str, said: str) -> None:
    assert said in complaint(where, program(where, spoil))


def test_a_line_after_the_last_answer_is_no_answer(where: Path) -> None:
    last = 'if r["id"] == 4: print(json.dumps({"id": 4, **answer}), flush=True); r["id"] = 5'
    assert "after the last answer the program wrote another line" in complaint(where, program(where, last))


@pytest.mark.parametrize(
    "more", ['"unsupported": True', '"unsupported": True, "error": {"type": "NoNumber", "which": "b"}']
)
def test_an_answer_is_one_of_three(where: Path, more: str) -> None:
    """Also where each of them would do: what says two things says nothing."""
    result = run(where, "--allow-unsupported", "--json", command=program(where, f"answer |= {{{more}}}"))
    assert result.exit_code == 1
    assert counts(result)["failed"] == 4
    assert counts(result)["unsupported"] == 0


def test_a_line_without_an_end_is_read_to_a_limit(where: Path) -> None:
    command = program(where, f'sys.stdout.write("x" * {MAX_LINE + 10}); sys.stdout.flush()')
    assert "a line of more than" in complaint(where, command)


def test_a_program_that_answers_and_answers_ends_with_us(where: Path) -> None:
    command = program(where, 'while True: print(json.dumps({"id": r["id"], **answer}))')
    assert "has the id 1" in complaint(where, command)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("/no/such/program --at all", "cannot be started: [Errno 2]"),
        ("'unclosed", "cannot be started: No closing quotation"),
        (" ", "the command is empty"),
    ],
)
def test_a_program_that_cannot_be_started(where: Path, command: str, said: str) -> None:
    assert said in complaint(where, command)


def test_what_a_program_started_ends_with_it(where: Path, tmp_path: Path) -> None:
    """A wrapper, as npx is: its child holds the pipes, and would hold us."""
    alive = tmp_path / "alive"
    os.mkfifo(alive)
    child = f"import threading; file = open({str(alive)!r}, 'w'); print('yes', file=file, flush=True); threading.Event().wait(600)"
    text = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}])"
    reader = os.open(alive, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with Program(program(where, text=text), 0.3) as started:
            assert select.select([reader], [], [], PATIENCE_S)[0]
            assert os.read(reader, 10) == b"yes\n"
            with pytest.raises(DriveError, match="no answer"):
                started.ask({"id": 1, "op": "sum.two", "in": {}})
        assert select.select([reader], [], [], PATIENCE_S)[0]
        assert os.read(reader, 10) == b""  # nobody holds the other end
    finally:
        os.close(reader)


LAST = 'if r["id"] == 4: print(json.dumps({"id": 4, **answer}), flush=True); '


def test_a_program_that_has_answered_may_end_when_it_likes(where: Path) -> None:
    assert run(where, command=program(where, LAST + "sys.exit()")).exit_code == 0


def test_but_it_must_end_well(where: Path) -> None:
    said = complaint(where, program(where, LAST + 'sys.exit("memory leaked")'))
    assert said == "the program ended, with exit code 1, at the end of its standard input: memory leaked"


def test_and_it_must_end(where: Path) -> None:
    said = complaint(where, program(where, LAST + HANG), "--timeout", "1")
    assert said.startswith("the program goes on 1 s after its standard input has ended")


@pytest.mark.parametrize("timeout", ["0", "-1", "inf", "soon", "1e9"])
def test_a_timeout_that_cannot_be_is_wrong_usage(where: Path, timeout: str) -> None:
    assert run(where, "--timeout", timeout).exit_code == 2


# --- the files ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not os.environ.get("CAUSAL_INSTALLED"), reason="only `make test` promises an installed package")
def test_the_installed_package_carries_the_files() -> None:
    assert directory().is_relative_to(sysconfig.get_path("purelib"))
    checkout = Path(__file__).parents[2] / "docs" / "spec" / "vectors"
    assert sorted(p.name for p in directory().iterdir()) == sorted(p.name for p in checkout.iterdir())
    for path in checkout.iterdir():
        if path.is_file():
            assert (directory() / path.name).read_bytes() == path.read_bytes()


def test_each_area_has_a_file() -> None:
    assert {path.stem for path in directory().glob("*.json")} - {"schema", "released"} <= set(AREAS)


def test_the_vectors_are_listed(where: Path) -> None:
    argv = ["vectors", "list", "--directory", str(where), "--area", "clock", "--area", "clock"]
    lines = [json.loads(line) for line in CliRunner().invoke(main, [*argv, "--json"]).stdout.splitlines()]
    assert lines == [{"area": "clock", **{name: v[name] for name in ("op", "name", "cites")}} for v in VECTORS]
    shown = CliRunner().invoke(main, argv, env={"COLUMNS": "100"}).stdout
    assert all(str(v["name"]) in shown for v in VECTORS)
    assert "C-1 C-2" in shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read: No such file"),
        ("{", "is no file of vectors"),
        ("[]", "is no file of vectors"),
        ('{"spec": 1}', "is no file of vectors"),
        ('{"spec": 1, "area": "clock", "vectors": [{"name": "x"}]}', "is no file of vectors"),
        ('{"spec": 2, "area": "clock", "vectors": []}', "version 2 of the specification, and this program reads 1"),
    ],
)
def test_a_file_that_is_none(where: Path, text: str | None, said: str) -> None:
    if text is None:
        (where / "clock.json").unlink()
    else:
        (where / "clock.json").write_text(text)
    for argv in (("run",), ("list",)):
        result = CliRunner().invoke(main, ["vectors", *argv, "--directory", str(where), "--area", "clock"])
        assert isinstance(result.exception, ConfigError)
        assert said in str(result.exception)
        assert str(where / "clock.json") in str(result.exception)


def test_a_directory_or_an_area_that_is_none_is_wrong_usage(tmp_path: Path) -> None:
    for argv in (("--directory", str(tmp_path / "none")), ("--area", "clocks")):
        assert CliRunner().invoke(main, ["vectors", "run", *argv]).exit_code == 2


def test_what_is_given_for_a_file_is_in_each_request_and_the_vector_s_own_goes_before(where: Path) -> None:
    file = json.loads((where / "clock.json").read_text())
    (where / "clock.json").write_text(json.dumps({**file, "given": {"a": 9, "keys": [1]}}))
    found = load(where, ["clock"])
    assert [v.given for v in found] == [{"keys": [1], **v["in"]} for v in VECTORS]  # type: ignore[dict-item]


# --- our own program ---------------------------------------------------------------------------------------------------


def causal(*argv: str, said: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "causal", *argv], input=said, capture_output=True, text=True, timeout=120, check=False
    )


def test_this_library_passes_through_the_pipe_as_it_does_without(where: Path) -> None:
    areas = ["--area", "clock", "--area", "frontier", "--json"]
    served = f"{shlex.quote(sys.executable)} -m causal vectors serve"
    alone, piped = (CliRunner().invoke(main, ["vectors", "run", *areas, *more]) for more in ([], ["--command", served]))
    assert (alone.exit_code, piped.exit_code) == (0, 0), piped.output
    assert alone.stdout == piped.stdout
    assert [json.loads(line)["failed"] for line in alone.stdout.splitlines()] == [0, 0]


def test_an_error_is_one_line_and_exit_code_1(where: Path) -> None:
    done = causal("vectors", "run", "--area", "clock", "--command", "/no/such/program")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1


def test_serve_answers_until_its_input_ends() -> None:
    asked = {"id": 5, "op": "clock.tick", "in": {"last": None, "wall_ms": 2**48}}
    done = causal("vectors", "serve", said=json.dumps(asked) + '\n{"id": "x", "op": "no.such", "in": {}}\n')
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"id": 5, "error": {"type": "ClockError"}},
        {"id": "x", "unsupported": True},
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("hello", "no request"),
        ("[1]", "no object"),
        ('{"id": 1, "op": "clock.tick"}', "KeyError('in')"),
        ('{"id": 1, "op": "clock.tick", "in": {"last": null}}', "KeyError('wall_ms')"),
        ('{"id": 1, "op": "clock.tick", "in": {"last": "x", "wall_ms": 5}}', "request 1 ('clock.tick') cannot be read"),
        ('{"id": 1, "op": "clock.tick", "in": 5}', "cannot be read"),
        ('{"id": 1, "op": ["clock.tick"], "in": {}}', "cannot be read"),
    ],
)
def test_serve_says_which_line_it_cannot_read(line: str, said: str) -> None:
    result = CliRunner().invoke(main, ["vectors", "serve"], input=line + "\n")
    assert result.exit_code == 2
    assert said in result.stderr
    assert not result.stdout


def test_a_vector_judges_what_it_should_be() -> None:
    vector = Vector("clock", "x", "a.b", ("C-1",), {}, {"sum": 2}, None)
    assert not vector.judge({"id": 1, "out": {"sum": 2}})
    assert len(vector.judge({"out": {"sum": "x" * 10_000}})) < 1000
