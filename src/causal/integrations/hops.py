"""What a hop would do to a token: a response's header fields, as whoever receives them reads them.

Pure. Says what a browser, a shared cache and a script do; who asks, from outside, is `causal hop`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs

from causal.integrations.carrier import HEADER
from causal.integrations.headers import directives, is_public

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LOOPBACK: Final = re.compile(r"localhost|.*\.localhost|127\.[0-9.]+|::1")
_DELETED: Final = re.compile(r"max-age=-?0*$", re.IGNORECASE)


@attrs.frozen
class Finding:
    """One thing about a response. `wrong`: somebody would lose a token by it, or show it to others. Thread-safety: immutable."""

    text: str
    wrong: bool = False


def findings(
    url: str, fields: Iterable[tuple[str, str]], *, origin: str | None = None, name: str = "causal"
) -> list[Finding]:
    """Return what a response says of a token. `origin`: of the page that a script asks from, if of another; `name`: of the cookies."""
    fields = [(key.lower(), value) for key, value in fields]
    by_header = [value for key, value in fields if key == HEADER.lower()]
    lines = [value for key, value in fields if key == "set-cookie"]
    found: list[Finding] = []
    if by_header:
        found.append(Finding(f"token by header: {len(by_header[0])} characters"))
    if len(by_header) > 1:
        found.append(Finding("the header comes twice: two middlewares, or a hop that adds to it", wrong=True))
    given = False
    for line in lines:
        for finding, gives in _cookie(url, line, name):
            found.append(finding)
            given |= gives
    if not by_header and not given:
        found.append(Finding("no token: nothing changed for this client, or a hop has taken it out"))
    found += _caching(fields, token=bool(by_header) or given)
    if by_header and origin is not None:
        found += _shared(fields, origin)
    return found


def _cookie(url: str, line: str, name: str) -> Iterator[tuple[Finding, bool]]:
    pattern = re.compile(rf"(__Host-)?{re.escape(name)}-[A-Za-z0-9_-]+(?==)", re.IGNORECASE)
    match = pattern.match(line)
    if match is None:
        return
    cookie = match[0]
    marks = [mark.strip() for mark in line.split(";")[1:]]
    lower = {mark.lower() for mark in marks}
    if any(_DELETED.match(mark) for mark in marks):
        yield Finding(f"taken back: {cookie}"), False
        return
    yield Finding(f"token by cookie: {cookie}"), True
    if re.search(rf",\s*{pattern.pattern}", line, re.IGNORECASE):
        yield Finding("a hop has folded several Set-Cookie fields into one: browsers read the first", wrong=True), True
        return
    parts = urlsplit(url)
    secure = "secure" in lower
    if parts.scheme != "https" and (secure or match[1]):
        if _LOOPBACK.fullmatch(parts.hostname or ""):
            yield Finding("not every browser takes a Secure cookie from this host without TLS"), True
        else:
            why = "it is Secure, and this is no TLS. In development: Cookies(secure=False)"
            yield Finding(f"a browser drops {cookie}: {why}", wrong=True), True
    if match[1] and (
        not secure or "path=/" not in lower or any(mark.startswith("domain=") and mark != "domain=" for mark in lower)
    ):
        why = "__Host- wants Secure, Path=/ and no Domain: a hop rewrites cookies"
        yield Finding(f"a browser drops {cookie}: {why}", wrong=True), True
    if "samesite=none" in lower and not secure:
        yield Finding(f"a browser drops {cookie}: SameSite=None wants Secure", wrong=True), True
    if "httponly" not in lower:
        yield Finding(f"scripts read {cookie}: a hop has taken HttpOnly from it", wrong=True), True


def _caching(fields: list[tuple[str, str]], *, token: bool) -> Iterator[Finding]:
    values = dict(fields)
    said = {directive for directive, _ in directives(value for key, value in fields if key == "cache-control")}
    old = "age" in values or re.search(
        r"\bhit\b", values.get("x-cache", values.get("cf-cache-status", "")), re.IGNORECASE
    )
    if token and is_public(fields):
        yield Finding("the response is public, and carries a token: a shared cache may hand it to others", wrong=True)
    elif token and not said & {"private", "no-store"}:
        yield Finding("the response is not private any more: a hop has replaced Cache-Control", wrong=True)
    if old:
        text = "the response comes from a cache: nobody was asked"
        yield Finding(text + (", and its token is somebody's of before" if token else ""), wrong=bool(token))
    if HEADER.lower() in {one.strip().lower() for key, value in fields if key == "vary" for one in value.split(",")}:
        yield Finding("Vary on the token: every user has another, so no cache ever has a hit", wrong=True)


def _shared(fields: list[tuple[str, str]], origin: str) -> Iterator[Finding]:
    values = dict(fields)
    if values.get("access-control-allow-origin") not in {"*", origin}:
        yield Finding(
            f"pages of {origin} may not read this response: it allows {values.get('access-control-allow-origin')}",
            wrong=True,
        )
    exposed = {one.strip().lower() for one in values.get("access-control-expose-headers", "").split(",")}
    if HEADER.lower() not in exposed and ("*" not in exposed or "access-control-allow-credentials" in values):
        yield Finding(
            f"pages of {origin} cannot read the header: it is not in Access-Control-Expose-Headers", wrong=True
        )
