"""`causal hop`: what comes back of a token at one hop, and what a browser, a cache and a script would do with it."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import click

from causal.cli.output import Output, json_option
from causal.errors import Unreachable
from causal.integrations.hops import findings

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMEOUT_S: Final = 10.0


@click.command()
@click.argument("url")
@click.option("--method", default="GET", show_default=True, help="POST, where a write is what gives a token.")
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Send this, too; repeat it.")
@click.option("--origin", help="Ask as a page of this origin would.")
@click.option("--cookie-name", default="causal", show_default=True, help="The name of the application's Cookies.")
@json_option
def hop(url: str, method: str, headers: Sequence[str], origin: str | None, cookie_name: str, as_json: bool) -> None:
    """Ask URL, and show what comes back of a token, and who would lose it.

    Run it at the application's own port, then at each hop further out: the first that differs is the one.
    The exit code is 1 if something is wrong.
    """
    sent = [("Origin", origin)] if origin else []
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon:
            raise click.BadParameter(f"a header is 'NAME: VALUE', not {name!r}", param_hint="--header")
        sent.append((name.strip(), value.strip()))
    status, fields = _ask(url, method.upper(), sent)
    found = findings(url, fields, origin=origin, name=cookie_name)
    output = Output(as_json=as_json)
    wrong = [finding for finding in found if finding.wrong]
    output.record(
        {"status": status, "findings": [{"text": one.text, "wrong": one.wrong} for one in found]},
        "\n".join([str(status), *(f"{'!' if one.wrong else ' '} {one.text}" for one in found)]),
    )
    if wrong:
        click.get_current_context().exit(1)


def _ask(url: str, method: str, headers: Sequence[tuple[str, str]]) -> tuple[int, list[tuple[str, str]]]:
    """Make one request, follow nothing, and return the status and all fields. Raises: Unreachable; click.BadParameter for no URL."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise click.BadParameter("a URL begins with http:// or https://", param_hint="URL")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=TIMEOUT_S)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.putrequest(method, target)
        for name, value in headers:
            connection.putheader(name, value)
        if method not in {"GET", "HEAD"}:
            connection.putheader("Content-Length", "0")
        connection.endheaders()
        response = connection.getresponse()
        return response.status, response.getheaders()
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"{parts.hostname} does not answer: {error}") from error
    finally:
        connection.close()
