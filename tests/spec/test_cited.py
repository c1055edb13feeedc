"""Every numbered sentence of the specification has a vector and a test, each way to have none is noticed, and every test that a page
names is there.
"""

import json
import re
from pathlib import Path

import pytest

from tests.spec.cited import ROOT, by_tests, missing, sentences

SPEC = ROOT / "docs" / "spec"
NAMED = re.compile(r"`(?:tests/)?([a-z_/]*\btest_\w+\.py)?(?:::)?(test_\w+)?`")

PAGE = "- **X-1** MUST be so.\n- **X-2** SHOULD be so.\n"
HEAD = "import pytest\n\n"
TEST = HEAD + '@pytest.mark.spec("X-1", "X-2")\ndef test_it():\n    assert True\n'
ONE = HEAD + '@pytest.mark.spec("X-1")\ndef test_one():\n    assert True\n\n'
"""Of X-1 alone: what follows it is to cite X-2."""


def lapses(
    root: Path, *, page: str = PAGE, test: str = TEST, cites: tuple[str, ...] = ("X-1", "X-2"), **more: str
) -> list[str]:
    """What is said of a specification of one page, with a file of vectors and one of tests."""
    (root / "docs" / "spec" / "vectors").mkdir(parents=True)
    (root / "tests").mkdir()
    (root / "docs" / "spec" / "x.md").write_text(page)
    (root / "docs" / "spec" / "vectors" / "x.json").write_text(
        json.dumps({"area": "x", "vectors": [{"name": "a case", "cites": [*cites]}]})
    )
    (root / "docs" / "spec" / "vectors" / "schema.json").write_text('{"required": ["area", "vectors"]}')
    (root / "docs" / "spec" / "vectors" / "released.json").write_text("{}")
    (root / "tests" / "test_x.py").write_text(test)
    for name, text in more.items():
        path = root / re.sub("_(md|py|json|cddl)$", r".\1", name.replace("__", "/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return missing(root)


def test_each_numbered_sentence_has_a_vector_and_a_test() -> None:
    assert sentences()
    assert not missing(), "run: python -m tests.spec.cited"


def test_nothing_is_missing_where_all_is_cited(tmp_path: Path) -> None:
    assert not lapses(tmp_path)


@pytest.mark.parametrize(
    ("page", "said"),
    [
        pytest.param(
            PAGE + "| a | **X-3** MUST be so |\n", "X-3: no vector", id="a number in a table that nothing cites"
        ),
        pytest.param(PAGE + "- **X-2** MUST be so, too.\n", "X-2: numbered 2 times", id="twice on one page"),
        pytest.param(PAGE + "\n**X-3** be so.\n", "X-3: x.md, without MUST", id="no word"),
        pytest.param(PAGE + "\nIt MUST be so.\n", "no number: It MUST", id="no number"),
        pytest.param(PAGE + "- It MUST NOT.\n", "no number: - It MUST NOT", id="no number, in a list"),
        pytest.param(PAGE + "\n| a |\n|---|\n| it SHOULD |\n", "no number: | it SHOULD", id="no number, in a table"),
        pytest.param(
            PAGE + "\n1. **X-3** MUST be so.\n2. It SHOULD be so.\n",
            "no number: 1. **X-3**",
            id="no number, the second",
        ),
        pytest.param("- **X-1** MUST be. It MUST be.\n", "no number: - **X-1**", id="one number for two of them"),
        pytest.param(PAGE + "\nIt SHALL be so.\n", "no number: It SHALL", id="another word"),
        pytest.param(PAGE + "\n**REQUIRED**: a key.\n", "no number: **REQUIRED**", id="another word, bold"),
        pytest.param(
            PAGE + "\n**X-3 MUST** be so.\n", "no number: **X-3 MUST", id="the word within the number's asterisks"
        ),
        pytest.param(
            PAGE + "\nMUST is as in RFC 2119. Who opens MUST wipe keys.\n",
            "no number: Who opens MUST",
            id="no number, beside what says how the word is meant",
        ),
        pytest.param(PAGE + "\nBy X-9.\n", "X-9: mentioned in x.md", id="mentioned, and nowhere said"),
        pytest.param("- **X-2** MUST.\n- **X-1** MUST.\n", "do not rise", id="out of order"),
        pytest.param(PAGE + "- **Y-3** MUST be so.\n", "several letters", id="a number of another page"),
    ],
)
def test_a_lapse_of_a_page_is_noticed(page: str, said: str, tmp_path: Path) -> None:
    assert any(said in line for line in lapses(tmp_path, page=page))


def test_a_number_on_two_pages_is_noticed(tmp_path: Path) -> None:
    assert "X-1: numbered 2 times: model/README.md, x.md" in lapses(
        tmp_path, docs__spec__model__README_md="**X-1** MUST."
    )


def test_a_mention_in_a_folder_below_is_noticed(tmp_path: Path) -> None:
    assert "X-9: mentioned in model/README.md, and nowhere said" in lapses(
        tmp_path, docs__spec__model__README_md="As X-9."
    )


def test_a_grammar_is_a_page_too(tmp_path: Path) -> None:
    assert "x.cddl: no number: ; It MUST be so." in lapses(tmp_path, docs__spec__x_cddl="; It MUST be so.")


def test_a_word_that_is_talked_of_needs_no_number(tmp_path: Path) -> None:
    assert not lapses(tmp_path, page=PAGE + "\n```text\nMUST\n```\n\n`SHOULD` is a word. MUST is as in RFC 2119.\n")


@pytest.mark.parametrize(
    "test",
    [
        pytest.param('@pytest.mark.skip\n@pytest.mark.spec("X-2")\ndef test_two():\n    pass\n', id="skipped"),
        pytest.param(
            '@pytest.mark.skip(reason="")\n@pytest.mark.spec("X-2")\ndef test_two():\n    pass\n', id="with a reason"
        ),
        pytest.param(
            '@pytest.mark.spec("X-2")\n@pytest.mark.skipif(1 > 2, reason="")\ndef test_two():\n    pass\n', id="skipif"
        ),
        pytest.param('@pytest.mark.xfail\n@pytest.mark.spec("X-2")\ndef test_two():\n    pass\n', id="xfail"),
        pytest.param('@pytest.mark.spec("X-2")\ndef test_two():\n    pytest.skip("no")\n', id="skips itself"),
        pytest.param(
            '@pytest.mark.spec("X-2")\ndef test_two():\n    pytest.importorskip("no")\n', id="where something is"
        ),
        pytest.param(
            '@pytest.fixture\ndef peer():\n    pytest.skip("no")\n\n@pytest.mark.spec("X-2")\ndef test_two(peer):\n    pass\n',
            id="a fixture skips",
        ),
        pytest.param(
            '@pytest.mark.skip\n@pytest.mark.spec("X-2")\nclass TestTwo:\n    def test_two(self):\n        pass\n',
            id="its class",
        ),
        pytest.param(
            '@pytest.mark.spec("X-2")\nclass TestTwo:\n    def helps(self):\n        pass\n', id="a class of no test"
        ),
        pytest.param('@pytest.mark.spec("X-2")\ndef helps():\n    pass\n', id="a helper"),
        pytest.param(
            'def helps():\n    @pytest.mark.spec("X-2")\n    def test_two():\n        pass\n', id="within a helper"
        ),
        pytest.param(
            'class Other:\n    @pytest.mark.spec("X-2")\n    def test_two(self):\n        pass\n', id="no test class"
        ),
        pytest.param(
            'from pytest import mark\n\n@mark.skip\n@pytest.mark.spec("X-2")\ndef test_two():\n    pass\n',
            id="by another name",
        ),
        pytest.param(
            'import unittest\n\n@unittest.skipIf(1, "")\n@pytest.mark.spec("X-2")\ndef test_two():\n    pass\n',
            id="as unittest skips",
        ),
        pytest.param(
            'def ask():\n    pytest.skip("no")\n\ndef helps():\n    ask()\n\n'
            '@pytest.mark.spec("X-2")\ndef test_two():\n    helps()\n',
            id="a helper's helper skips",
        ),
        pytest.param(
            '@pytest.fixture\ndef peer():\n    pytest.skip("no")\n\n'
            '@pytest.mark.usefixtures("peer")\n@pytest.mark.spec("X-2")\ndef test_two():\n    pass\n',
            id="a fixture that is used skips",
        ),
        pytest.param(
            '@pytest.mark.spec("X-2")\ndef test_two():\n    pass\n\ndef test_two():\n    pass\n',
            id="put out by another",
        ),
        pytest.param(
            '@pytest.mark.spec("X-2")\nclass TestTwo:\n    __test__ = False\n\n    def test_two(self):\n        pass\n',
            id="a class that says it is none",
        ),
        pytest.param(
            '@pytest.mark.spec("X-2")\nclass TestTwo:\n    def __init__(self):\n        pass\n\n'
            "    def test_two(self):\n        pass\n",
            id="a class that pytest does not make",
        ),
        pytest.param(
            'if False:\n\n    @pytest.mark.spec("X-2")\n    def test_two():\n        pass\n', id="under a condition"
        ),
        pytest.param('@pytest.mark.spec("X-22")\ndef test_two():\n    pass\n', id="misspelt"),
        pytest.param('CASES = [pytest.param(1, marks=pytest.mark.spec("X-2"))]\n', id="a case of no test"),
        pytest.param(
            '@pytest.mark.parametrize("n", [pytest.param(1, marks=[pytest.mark.spec("X-2"), pytest.mark.skip])])\n'
            "def test_two(n):\n    pass\n",
            id="a case that is skipped",
        ),
    ],
)
def test_what_does_not_run_stands_for_nothing(test: str, tmp_path: Path) -> None:
    assert "X-2: no test that always runs cites it (x.md)" in lapses(tmp_path, test=ONE + test)


def test_what_a_fixture_of_the_folder_skips_stands_for_nothing(tmp_path: Path) -> None:
    shared = HEAD + '@pytest.fixture\ndef peer():\n    pytest.skip("no")\n'
    test = ONE + '@pytest.mark.spec("X-2")\ndef test_two(peer):\n    pass\n'
    assert "X-2: no test that always runs cites it (x.md)" in lapses(tmp_path, test=test, tests__conftest_py=shared)


@pytest.mark.parametrize(
    "module",
    [
        "__test__ = False\n",
        'pytestmark = pytest.mark.skip(reason="")\n',
        'pytest.importorskip("no")\n',
        "pytestmark = [pytest.mark.xfail]\n",
    ],
)
def test_what_does_not_run_as_a_whole_stands_for_nothing(module: str, tmp_path: Path) -> None:
    assert len(lapses(tmp_path, test=TEST.replace(HEAD, HEAD + module))) == 2


@pytest.mark.parametrize(
    "test",
    [
        pytest.param('@pytest.mark.spec("X-2")\nclass TestTwo:\n    def test_two(self):\n        pass\n', id="a class"),
        pytest.param(
            'class TestTwo:\n    @pytest.mark.spec("X-2")\n    async def test_two(self):\n        pass\n', id="a method"
        ),
        pytest.param('pytestmark = pytest.mark.spec("X-2")\n', id="a module"),
        pytest.param(
            'CASES = [pytest.param(1, marks=pytest.mark.spec("X-2")), pytest.param(2, marks=pytest.mark.skip)]\n\n'
            '@pytest.mark.parametrize("n", CASES)\ndef test_two(n):\n    pass\n',
            id="a case beside one that is skipped",
        ),
    ],
)
def test_what_runs_counts(test: str, tmp_path: Path) -> None:
    assert not lapses(tmp_path, test=ONE + test)


def test_what_no_vector_cites_is_noticed(tmp_path: Path) -> None:
    assert lapses(tmp_path, cites=("X-1",)) == ["X-2: no vector cites it (x.md)"]


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ({"area": "y"}, "y.json: not as the schema says: $ 'vectors' is a required property"),
        (
            {"area": "x", "vectors": [{"name": "z", "cites": ["X-2"]}]},
            "y.json: not as the schema says: it is the file of another",
        ),
    ],
)
def test_a_file_that_is_not_as_the_schema_says_stands_for_nothing(
    file: dict[str, object], said: str, tmp_path: Path
) -> None:
    found = lapses(tmp_path, cites=("X-1",), docs__spec__vectors__y_json=json.dumps(file))
    assert "X-2: no vector cites it (x.md)" in found
    assert any(line.startswith(said) for line in found)


def test_a_vector_that_cites_nothing_is_noticed(tmp_path: Path) -> None:
    assert lapses(tmp_path, cites=("X-1", "X-2", "X-3")) == ["X-3: cited by x: a case, and nowhere said"]


def test_what_stands_for_a_sentence_is_what_pytest_collects(request: pytest.FixtureRequest) -> None:
    """Of the files that are collected in this run: in `make test`, of all. (What then does not run fails, by tests/conftest.py.)"""
    collected = {item.nodeid.partition("[")[0] for item in request.session.items}
    files = {test.partition("::")[0] for test in collected}
    asked = {Path(str(argument).partition("::")[0]).resolve() for argument in request.config.args}
    everything = not asked.isdisjoint({ROOT, ROOT / "tests"}) and not request.config.option.keyword
    alone = any("::" in str(argument) for argument in request.config.args) or request.config.option.keyword
    cited = {test for tests in by_tests().values() for test in tests}
    assert all(test.startswith("tests/") for test in cited)
    due = {test for test in cited if everything or (not alone and test.partition("::")[0] in files)}
    assert sorted(due - collected) == []


def test_a_test_that_stands_for_a_sentence_and_does_not_run_fails(request: pytest.FixtureRequest) -> None:
    from tests.conftest import unkept

    (cited, *_) = (test for tests in by_tests().values() for test in tests)
    assert "T-9" in (unkept(f"{cited}[a case]", ["T-9"]) or "")
    assert unkept("tests/test_x.py::test_that_may_be_skipped", ["T-9"]) is None
    assert unkept(cited, []) is None


def test_every_test_that_a_page_names_is_there() -> None:
    paths = [*(ROOT / "tests").rglob("*.py")]
    files = {path: path.read_text(encoding="utf-8") for path in paths}
    named, unknown = 0, []
    for page in sorted(SPEC.glob("*.md")):
        for file, name in NAMED.findall(page.read_text(encoding="utf-8")):
            inside = [
                text
                for path, text in files.items()
                if f"/{path.relative_to(ROOT)}".endswith(f"/{file}" if file else "")
            ]
            named += 1
            if not inside or (name and not any(f"def {name}(" in text for text in inside)):
                unknown.append(f"{page.name}: {file} {name}")
    assert named > 80
    assert not unknown
