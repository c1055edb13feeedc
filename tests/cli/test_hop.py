"""`causal hop`, against a real server."""

import json
from typing import Any

import pytest
from click.testing import CliRunner

from causal import current_session
from causal.cli.main import main
from causal.integrations.wsgi import CausalMiddleware
from tests.integrations.serving import wsgiref_serves
from tests.integrations.wires import PLAIN, paused, put, store


def hop(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["hop", *arguments])


def test_what_comes_back() -> None:
    asked: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        asked.append(environ)
        if environ["REQUEST_METHOD"] == "POST":
            put(current_session())
        start_response("200 OK", [("Content-Length", "0"), ("Vary", environ.get("HTTP_X_VARY", "Accept"))])
        return [b""]

    with wsgiref_serves(CausalMiddleware(app, store(paused()), cookies=PLAIN)) as url:
        nothing = hop(f"{url}/photo?a=b")
        assert (nothing.exit_code, nothing.output.splitlines()[0]) == (0, "200")
        assert "no token" in nothing.output
        assert asked[-1]["QUERY_STRING"] == "a=b"
        wrote = hop(url, "--method", "post", "--json")
        assert wrote.exit_code == 0
        said = json.loads(wrote.stdout)
        assert said["status"] == 200
        assert [one["text"].split(":")[0] for one in said["findings"]] == ["token by header", "token by cookie"]
        assert not any(one["wrong"] for one in said["findings"])
        told = hop(url, "--method", "POST", "--header", "X-Vary: Causal-Token", "--origin", "https://page")
        assert told.exit_code == 1
        assert "! Vary" in told.output
        assert asked[-1]["HTTP_ORIGIN"] == "https://page"


@pytest.mark.parametrize("arguments", [("ftp://x",), ("shop",), ("http://localhost", "--header", "x")])
def test_what_cannot_be_asked(arguments: tuple[str, ...]) -> None:
    assert hop(*arguments).exit_code == 2


def test_nobody_answers() -> None:
    result = hop("http://127.0.0.1:1/")
    assert result.exit_code == 1
    assert "does not answer" in str(result.exception)
