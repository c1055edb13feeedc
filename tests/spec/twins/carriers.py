"""Carriers, as docs/spec/carriers.md writes them: texts in, texts out."""

import math
from typing import Any

FIELD = "Causal-Token"
MOST_TOKENS = 16
LONG_COOKIES = 4
READ = 65_536
TAKEN = 64
SLOT = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
UNOPENABLE = None
"""Stands among tokens for one that cannot be opened."""
Pairs = list[list[Any]]


def is_field(name: str, wanted: str) -> bool:
    return name.lower() == wanted.lower()


def tokens_of(value: Any) -> list[str | None]:
    """What one field's value holds."""
    if value is None:
        return []
    if isinstance(value, list):
        return [token for one in value for token in ([UNOPENABLE] if isinstance(one, list) else tokens_of(one))]
    if not isinstance(value, str):
        return [UNOPENABLE]
    return [*filter(None, (part.strip(" \t") for part in value.split(",")))]


def presented(tokens: list[str | None]) -> dict[str, Any]:
    different: list[str | None] = []
    for token in tokens:
        if token not in different:
            different.append(token)
    kept = different[:MOST_TOKENS]
    unopenable = UNOPENABLE in kept or len(different) > MOST_TOKENS
    return {"tokens": [token for token in kept if token is not UNOPENABLE], "unopenable": unopenable}


def extract(carrier: Pairs, field: str = FIELD) -> dict[str, Any]:
    return presented([token for name, value in carrier if is_field(name, field) for token in tokens_of(value)])


def inject(carrier: Pairs, token: str | None) -> Pairs:
    kept = [pair for pair in carrier if not is_field(pair[0], FIELD)]
    return kept if token is None else [*kept, [FIELD, token]]


def prefix(cookies: dict[str, Any]) -> str:
    return ("__Host-" if cookies.get("secure", True) else "") + cookies.get("name", "causal") + "-"


def arrived(headers: Pairs, cookies: dict[str, Any] | None) -> tuple[list[str], list[str | None]]:
    """The names of cookies that hold tokens, and the tokens."""
    names: list[str] = []
    tokens: list[str | None] = []
    read = 0
    for field, header in headers:
        if cookies is None or not is_field(field, "cookie") or prefix(cookies) not in header:
            continue
        read += len(header)
        if read > READ:
            tokens.append(UNOPENABLE)
            break
        for pair in header.split(";"):
            if "=" not in pair:
                continue
            at = pair.index("=")
            name, value = pair[:at].lstrip(" \t"), pair[at + 1 :].rstrip(" \t")
            if not name.startswith(prefix(cookies)):
                continue
            slot = name[len(prefix(cookies)) :]
            if 1 <= len(slot) <= 64 and all(letter in SLOT for letter in slot):
                tokens.append(value)
                if name not in names:
                    names.append(name)
    return names[:TAKEN], tokens


def present(headers: Pairs, cookies: dict[str, Any] | None, by_header: bool) -> dict[str, Any]:
    by_field = [token for name, value in headers if by_header and is_field(name, FIELD) for token in tokens_of(value)]
    names, by_cookie = arrived(headers, cookies)
    return {**presented(by_field + by_cookie), "cookies": names}


def directives(value: str) -> list[str]:
    """The directives of a field such as Cache-Control: commas in quotes separate nothing."""
    found, quoted, escaped = [""], False, False
    for letter in value:
        if letter == "," and not quoted:
            found.append("")
            continue
        found[-1] += letter
        if escaped:
            escaped = False
        elif quoted and letter == "\\":
            escaped = True
        elif letter == '"':
            quoted = not quoted
    return [*filter(None, (one.strip() for one in found))]


def words(value: str) -> set[str]:
    return {one.split("=")[0].strip().lower() for one in directives(value)}


def is_for_a_cdn(name: str) -> bool:
    return name == "edge-control" or any(
        name == end or (name.endswith("-" + end) and name != "-" + end)
        for end in ("cdn-cache-control", "surrogate-control")
    )


def is_public(response: Pairs) -> bool:
    for name, value in ((name.lower(), value) for name, value in response):
        if name == "cache-control" and words(value) & {"public", "s-maxage"}:
            return True
        if is_for_a_cdn(name) and words(value) and not words(value) & {"private", "no-store", "bypass-cache"}:
            return True
        if name == "x-accel-expires" and value.strip() != "0":
            return True
    return False


def lines(fields: Pairs) -> Pairs:
    return sorted([name.lower(), value] for name, value in fields)


def value_of(fields: Pairs, wanted: str) -> str:
    return next((str(value) for name, value in fields if is_field(name, wanted)), "")


def answer(
    headers: Pairs,
    cookies: dict[str, Any] | None,
    by_header: bool,
    session: dict[str, Any],
    response: Pairs,
    ttl_s: float,
) -> dict[str, Any]:
    names, _ = arrived(headers, cookies)
    token = session["token"]
    wanted = session["changed"] or len(names) > LONG_COOKIES
    if not wanted or is_public(response) or (token is None and not names):
        return {"headers": lines(response), "gives": None, "deletes": [], "marks": []}
    out = [pair for pair in response if not is_field(pair[0], FIELD) and not is_field(pair[0], "cache-control")]
    said = [one for name, value in response if is_field(name, "cache-control") for one in directives(value)]
    said = [one for one in said if one.split("=")[0].strip().lower() != "private"]
    out.append(["cache-control", ", ".join(["private", *said])])
    gives, deletes, marks = None, [], []
    presents_field = by_header and any(is_field(name, FIELD) for name, _ in headers)
    if cookies is not None and (names or not presents_field):
        always = ["HttpOnly", "Path=/", f"SameSite={cookies.get('same_site', 'Lax')}"]
        always += ["Secure"] if cookies.get("secure", True) else []
        always += ["Partitioned"] if cookies.get("partitioned", False) else []
        deletes = names
        marks = [sorted([*always, "Max-Age=0"])] if names else []
        if token is not None:
            attributes = sorted([*always, f"Max-Age={math.floor(ttl_s)}"])
            gives = {"prefix": prefix(cookies), "fresh": True, "value": token, "attributes": attributes}
    if by_header and token is not None:
        asked = value_of(headers, "origin")
        crosses = asked != "" and asked.partition("://")[2].lower() != value_of(headers, "host").lower()
        if crosses or any(is_field(name, "access-control-allow-origin") for name, _ in out):
            place = next((n for n, pair in enumerate(out) if is_field(pair[0], "access-control-expose-headers")), None)
            if place is None:
                out.append(["access-control-expose-headers", FIELD])
            else:
                shown = [one.strip() for one in out[place][1].split(",") if one.strip()]
                if not any(is_field(one, FIELD) for one in shown):
                    old = out[place][1]
                    out[place] = [out[place][0], f"{old}, {FIELD}" if shown else FIELD]
        out.append([FIELD, token])
    return {"headers": lines(out), "gives": gives, "deletes": deletes, "marks": marks}


def spelled(url: str) -> tuple[str, str, str]:
    """A URL's scheme, host and port. Only URLs that everybody reads alike come here."""
    scheme, rest = url.lower().split("://")
    host = rest.split("/")[0].split("?")[0].split("@")[-1]
    port = {"http": "80", "https": "443"}.get(scheme, "")
    if ":" in host:
        host, port = host.split(":")
        port = str(int(port))
    return scheme, host, port


def call(origin: str, url: str, headers: Pairs, token: str | None) -> dict[str, Any]:
    goes = spelled(origin) == spelled(url)
    if not goes:
        return {"goes": False, "headers": lines(headers)}
    theirs = extract(headers)
    there = [*theirs["tokens"], *(["!"] if theirs["unopenable"] else [])]
    if token is not None and token not in there:
        there = [*there, token]
    if not there:
        return {"goes": True, "headers": lines(inject(headers, ""))}
    if token is None:
        return {"goes": True, "headers": lines(headers)}
    return {"goes": True, "headers": lines(inject(headers, ",".join(there)))}


def job(message: Pairs, now: int) -> dict[str, Any]:
    found = extract(message)
    said = [value for name, value in message if is_field(name, "Causal-Partial") for value in tokens_of(value)]
    over = all(
        one is not UNOPENABLE and one != "1" and one.isascii() and one.isdecimal() and len(one) < 16 and int(one) <= now
        for one in said
    )
    retried = any(tokens_of(value) for name, value in message if is_field(name, "Causal-Retried"))
    return {**found, "whole": (found["tokens"] != [] or found["unopenable"]) and over, "retried": retried}


STATUS = {
    "GateTimeout": 503,
    "NoEndpoint": 503,
    "Overloaded": 503,
    "Unreachable": 503,
    "WriteLost": 409,
    "CommitUnknown": 500,
    "TokenError": 400,
    "MalformedToken": 400,
    "BadSignature": 400,
    "UnknownKey": 400,
    "ExpiredToken": 400,
}


def refusal(error: str, retry_after_s: float | None, accept: str) -> dict[str, Any]:
    if error not in STATUS:
        return {"answered": False}
    status = STATUS[error]
    as_json = "json" in accept.lower()
    headers = [["cache-control", "no-store"]]
    headers.append(["content-type", "application/problem+json" if as_json else "text/plain; charset=utf-8"])
    if retry_after_s is not None:
        headers.append(["retry-after", str(max(1, math.ceil(retry_after_s)))])
    elif status == 503:
        headers.append(["retry-after", "1"])
    problem = {"status": status, "error": error} if as_json else {}
    return {"answered": True, "status": status, "headers": lines(headers), "problem": problem, "tells": False}


def replay(given: dict[str, Any]) -> dict[str, Any]:
    mark = given.get("seen") or given["header"] + "-src"
    methods = given.get("methods")
    sends = (
        not given["wrote"]
        and value_of(given["headers"], mark) == ""
        and (methods is None or given["method"].upper() in [name.upper() for name in methods])
    )
    return {"field": [given["header"].lower(), given["value"].replace("{site}", given["site"])] if sends else None}
