"""What every test shares: Hypothesis profiles, recorded outputs, and word of which package is under test."""

import os
import signal
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import causal

# An installed package brings it along by its entry point of the same name; from source, this does.
pytest_plugins = ["_causal_pytest"]

SCENARIOS = Path(__file__).parent / "scenarios"

# Whoever starts the tests in the background may have them ignore Ctrl-C, and so would all that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# dev: while working. ci: for every change, the same examples each time; a failure prints the blob that replays it. deep: long
# runs, found by example count alone. No profile has a deadline, for a test or for what it draws: a slow machine is no failure.
UNTIMED = [HealthCheck.too_slow]
settings.register_profile("dev", max_examples=25, deadline=None, suppress_health_check=UNTIMED)
settings.register_profile(
    "ci",
    max_examples=200,
    deadline=None,
    print_blob=True,
    derandomize=True,
    database=None,
    suppress_health_check=UNTIMED,
)
settings.register_profile(
    "deep",
    max_examples=20_000,
    deadline=None,
    print_blob=True,
    suppress_health_check=[*UNTIMED, HealthCheck.data_too_large],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-scenarios",
        action="store_true",
        help="record what the scenarios do now in tests/scenarios/*.txt; review the difference before you commit it",
    )


def pytest_report_header() -> list[str]:
    return [f"causal: {Path(causal.__file__).parent}", f"hypothesis profile: {settings.get_current_profile_name()}"]


def unkept(nodeid: str, numbers: list[str]) -> str | None:
    """What to say of a test that was skipped, or failed as was expected, if it stands for numbered sentences."""
    from tests.spec.cited import by_tests

    cited = {test for tests in by_tests().values() for test in tests} if numbers else set()
    return f"it stands for {', '.join(numbers)}, and did not run" if nodeid.partition("[")[0] in cited else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A sentence of the specification is not shown by what is skipped, in whatever way: `python -m tests.spec.cited` sees some."""
    report = yield
    if report.outcome == "skipped":
        numbers = [str(number) for mark in item.iter_markers("spec") for number in mark.args]
        if said := unkept(item.nodeid, numbers):
            report.outcome, report.longrepr = "failed", f"{item.nodeid}: {said}: {report.longrepr}"
    return report


@pytest.fixture
def recorded(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`recorded(name, text)`: the text is what tests/scenarios/NAME.txt says, word for word."""

    def check(name: str, text: str) -> None:
        path = SCENARIOS / f"{name}.txt"
        text = text.rstrip("\n") + "\n"
        if request.config.getoption("--rewrite-scenarios"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        assert path.exists(), f"{path} is not recorded: run pytest --rewrite-scenarios, and review what it writes"
        assert text == path.read_text(encoding="utf-8"), f"not as recorded in {path}"

    return check
