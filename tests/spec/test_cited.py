"""Every numbered sentence of the specification has a vector and a test, and every test that a page names is there."""

import re

from tests.spec.cited import ROOT, SPEC, missing, sentences

TEST = re.compile(r"`(?:tests/)?([a-z_/]*\btest_\w+\.py)?(?:::)?(test_\w+)?`")


def test_each_numbered_sentence_has_a_vector_and_a_test() -> None:
    assert sentences()
    assert not missing(), "run: python -m tests.spec.cited"


def test_every_test_that_a_page_names_is_there() -> None:
    paths = [*(ROOT / "tests").rglob("*.py")]
    files = {path: path.read_text(encoding="utf-8") for path in paths}
    named, unknown = 0, []
    for page in sorted(SPEC.glob("*.md")):
        for file, name in TEST.findall(page.read_text(encoding="utf-8")):
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
