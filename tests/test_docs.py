"""Every example of README.md and docs/ runs, and prints what the page says it prints.

The convention is in CONTRIBUTING.md: a fence marked `output` holds all that was printed since the page's last such
fence; `...` stands for what differs from run to run. Examples of one page share their names, from top to bottom.
In a fence marked `console` the commands `$ causal ...` run, each above what it prints. A fence marked `toml` whose first line is the
comment `# NAME.toml` is that file.
"""

import contextlib
import io
import re
import shlex
from collections.abc import Callable, Iterator
from doctest import ELLIPSIS, OutputChecker
from pathlib import Path
from time import time_ns
from typing import Any

import pytest
from sybil import Document, Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

import causal
from causal.cli.main import main
from causal.state import StoreState
from causal.stores.sqlite import SQLiteEngine, SQLiteLink
from causal.stores.sqlite.replication import replicate

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def check_output(example: Example) -> str | None:
    """Compare a fence with what was printed since the last one."""
    printed = example.namespace.pop("__printed__", "")
    if OutputChecker().check_output(example.parsed, printed, ELLIPSIS):
        return None
    return f"the page shows:\n{example.parsed}\nthe example printed:\n{printed}"


def tidy(text: str) -> str:
    """Return text without what a table leaves at the ends of lines."""
    return "\n".join(map(str.rstrip, text.split("\n"))).strip("\n")


def run_commands(example: Example) -> str | None:
    """Run the commands of a console fence that are this project's own; what others do is for the reader to try."""
    wrong = []
    for part in f"\n{example.parsed}".split("\n$ ")[1:]:
        command, _, shown = part.partition("\n")
        if command.startswith("causal "):
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                main.main(shlex.split(command)[1:], prog_name="causal", standalone_mode=False)
            shown, got = (tidy(text) for text in (shown, printed.getvalue()))
            if not OutputChecker().check_output(shown, got, ELLIPSIS):
                wrong.append(f"the page shows for {command}:\n{shown}\nit printed:\n{got}")
    return "\n".join(wrong) or None


def write_file(example: Example) -> None:
    """Write a fence to the file that its first line names, so that the commands after it can read it."""
    name = re.fullmatch(r"# ([\w-]+\.toml)", example.parsed.split("\n", 1)[0])
    if name:
        Path(name[1]).write_text(example.parsed)


def run_page(path: Path) -> int:
    """Run a page's examples in the current directory, and count them."""
    document: Document = Sybil(
        parsers=[
            PythonCodeBlockParser(),
            CodeBlockParser("output", check_output),
            CodeBlockParser("console", run_commands),
            CodeBlockParser("toml", write_file),
            SkipParser(),
        ],
    ).parse(path)
    ran = 0
    for example in document.examples():
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            example.evaluate()
        document.namespace["__printed__"] = document.namespace.get("__printed__", "") + printed.getvalue()
        ran += 1
    assert not document.namespace.get("__printed__"), f"{path}: an example prints more than the page shows"
    return ran


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a page's sites lag behind, they lag until a read waits for it: a slow machine must not catch up before the page looks."""
    waited_ns = [0]
    enter_wait, due = StoreState.enter_wait, replicate._due

    def waits(self: StoreState, *args: Any) -> None:
        waited_ns[0] = time_ns()
        enter_wait(self, *args)

    def late(*args: Any) -> Callable[[int, int, int], int]:
        usual = due(*args)
        return lambda origin, offset, at_ns: usual(origin, offset, at_ns) if waited_ns[0] > at_ns else time_ns() + 10**9

    monkeypatch.setattr(StoreState, "enter_wait", waits)
    monkeypatch.setattr(replicate, "_due", late)


@pytest.fixture
def tidied(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stores that a page leaves open are closed after it: their threads would go on beside all other tests."""
    opened: list[SQLiteLink] = []
    real = SQLiteEngine._open

    def noted(self: SQLiteEngine, store: int, *, replicating: bool) -> SQLiteLink:
        opened.append(link := real(self, store, replicating=replicating))
        return link

    monkeypatch.setattr(SQLiteEngine, "_open", noted)
    yield
    for link in opened:
        link.close()


@pytest.mark.usefixtures("tidied", "unhurried")
@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    run_page(page)


PAGE = """
```python
who = "us"
print("covered: waited", 48, "ms at", who)
```

```output
covered: waited ... ms at us
```
"""


def test_a_page_that_tells_the_truth_passes(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE)
    assert run_page(tmp_path / "page.md") == 2


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        pytest.param(PAGE.replace("at us\n```", "at eu\n```"), "the page shows", id="wrong output"),
        pytest.param(PAGE.partition("```output")[0], "prints more", id="output not shown"),
        pytest.param(PAGE + "\n```output\nand more\n```\n", "the page shows", id="output never printed"),
        pytest.param(PAGE + "\n```python\nassert who == 'eu', who\n```\n", "us", id="failing example"),
        pytest.param(
            PAGE + "\n```console\n$ causal --version\ncausal 0\n```\n", "for causal --version", id="wrong command"
        ),
    ],
)
def test_a_page_that_does_not_is_found(page: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(page)
    with pytest.raises(AssertionError, match=complaint):
        run_page(tmp_path / "page.md")


def test_the_reference_has_every_public_name() -> None:
    page = (ROOT / "docs/reference/api.md").read_text()
    missing = [name for name in causal.__all__ if not re.search(rf"`[^`]*\b{name}\b[^`]*`", page)]
    missing += [
        f"{name}.{member}"
        for name in ("CausalStore", "Session", "Keyring", "KeyFile", "HybridLogicalClock", "Receipt", "ReadPolicy")
        for member in dir(getattr(causal, name))
        if not member.startswith("_") and not re.search(rf"`[^`]*\b{member}\b[^`]*`", page)
    ]
    assert not missing


def test_every_hazard_has_its_place_in_the_explanation() -> None:
    page = (ROOT / "docs/explanation/guarantees.md").read_text()
    package = Path(causal.__file__).parent
    files = [path.stem for path in package.rglob("*.py") if "HAZARD" in path.read_text()]
    assert files
    assert not [stem for stem in files if f"`{stem}`" not in page]


def test_every_invariant_that_the_code_names_is_explained_and_looked_for() -> None:
    page = (ROOT / "docs/explanation/invariants.md").read_text()
    rows = dict(re.findall(r"^\| \*\*(I\d+)\*\* [^|]*\|.*\| ([^|]*) \|$", page, re.MULTILINE))
    assert list(rows) == [f"I{n}" for n in range(1, 13)]
    for tests in rows.values():
        paths = re.findall(r"`([^`]+)`", tests)
        assert paths
        assert not [path for path in paths if not (ROOT / path).is_file()]
    named = {
        name
        for folder in ("src", "tests", "docs")
        for path in (ROOT / folder).rglob("*.[pm][yd]")
        for name in re.findall(r"\bI\d+\b", path.read_text())
    }
    assert named == rows.keys()


def test_links_between_pages_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert not broken
