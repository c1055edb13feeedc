"""What a response's header fields say of who may keep it, and how a token is put among them.

Pure: lists of (name, value), texts. Knows no session and no protocol beyond these fields.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from causal.integrations.carrier import HEADER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Fields = list[tuple[str, str]]

_DIRECTIVE: Final = re.compile(r"""((?:[^,"]|"(?:[^"\\]|\\.)*"?)+)""")
_SHARED: Final = frozenset({"public", "s-maxage"})
_OURS_ALONE: Final = frozenset({"private", "no-store", "bypass-cache"})
_AT_A_CDN: Final = re.compile(r"(?:[a-z0-9-]+-)?(?:cdn-cache|surrogate)-control|edge-control")
"""Fields by which caches of a site's own are told otherwise than by Cache-Control (RFC 9213, and what came before it)."""
_AT_NGINX: Final = "x-accel-expires"
"""How long nginx keeps a response, whatever Cache-Control says; 0: not at all."""
ALLOWS: Final = "access-control-allow-origin"
_EXPOSE: Final = "access-control-expose-headers"


def directives(values: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Return what fields such as Cache-Control say: each directive's name, in lower case, and its whole text."""
    for value in values:
        for text in _DIRECTIVE.findall(value):
            if text := text.strip():
                yield text.partition("=")[0].strip().lower(), text


def is_public(fields: Iterable[tuple[str, str]]) -> bool:
    """Return whether a response is meant for caches that many users share: `public`, `s-maxage`, or a field for a CDN alone.

    Who says both `public` and `private` is taken at the word that is the worse one here.
    """
    for name, value in fields:
        name = name.lower()
        if name == "cache-control":
            if any(directive in _SHARED for directive, _ in directives((value,))):
                return True
        elif name.endswith("-control") and _AT_A_CDN.fullmatch(name):
            told = {directive for directive, _ in directives((value,))}
            if told and not told & _OURS_ALONE:
                return True
        elif name == _AT_NGINX and value.strip() != "0":
            return True
    return False


def made_private(fields: Iterable[tuple[str, str]]) -> Fields:
    """Return header fields that say `Cache-Control: private`, and whatever else they said of caching, in one field."""
    kept: Fields = []
    said: list[str] = []
    for name, value in fields:
        if name.lower() == "cache-control":
            said += [text for directive, text in directives((value,)) if directive != "private"]
        else:
            kept.append((name, value))
    kept.append(("cache-control", ", ".join(["private", *said])))
    return kept


def exposed(fields: Iterable[tuple[str, str]], *, cross_origin: bool) -> Fields:
    """Return header fields that let a page of another origin read the token's, where such a page may read the response.

    `cross_origin`: whether it is asked for by such a page. Who allows that may stand further out, and adds its own fields later.
    """
    fields = list(fields)
    names = [name.lower() for name, _ in fields]
    if ALLOWS not in names and not cross_origin:
        return fields
    for place, (name, value) in enumerate(fields):
        if name.lower() == _EXPOSE:
            if HEADER.lower() not in {one.strip().lower() for one in value.split(",")}:
                fields[place] = (name, f"{value}, {HEADER}" if value.strip() else HEADER)
            return fields
    return [*fields, (_EXPOSE, HEADER)]


def carrying_token(
    fields: Iterable[tuple[str, str]],
    token: str | None,
    set_cookies: Sequence[str],
    *,
    by_header: bool,
    cross_origin: bool = False,
) -> Fields:
    """Return a response's header fields with a token among them.

    It is for one user: `private`. Never `Vary`: what is kept under a token would be found by nobody else.
    """
    lower = HEADER.lower()
    out = made_private(pair for pair in fields if pair[0].lower() != lower)
    out += [("set-cookie", value) for value in set_cookies]
    if by_header and token is not None:
        out = exposed(out, cross_origin=cross_origin)
        out.append((lower, token))
    return out
