"""What every test shares: Hypothesis profiles, recorded outputs, and word of which package is under test."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import causal

# An installed package brings it along by its entry point of the same name; from source, this does.
pytest_plugins = ["_causal_pytest"]

SCENARIOS = Path(__file__).parent / "scenarios"

# dev: while working. ci: for every change, the same examples each time; a failure prints the blob that replays it. deep: long
# runs, found by example count alone. No profile has a deadline: a slow machine is no failure.
settings.register_profile("dev", max_examples=25, deadline=None)
settings.register_profile("ci", max_examples=200, deadline=None, print_blob=True, derandomize=True, database=None)
settings.register_profile(
    "deep",
    max_examples=20_000,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
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
