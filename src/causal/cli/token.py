"""`causal token inspect`: what a token says, and whether anything vouches for it."""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING, Any, Final

import click

from causal.cli.output import LAST_S, Output, json_option
from causal.cli.presented import ALGORITHMS, key_options, keyring, look, text_of
from causal.core.position import ANY_ORIGIN, EVERY_STORE, FOREVER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from causal.cli.presented import Presented
    from causal.core.position import LeaderMark
    from causal.core.token import Token

COLUMNS: Final = {
    "claim": "Claim",
    "store": "Store",
    "shard": "Shard",
    "origin": "Origin",
    "offset": "Offset",
}
EXPIRES: Final = {"expires": "Expires"}


@click.group()
def token() -> None:
    """Look at tokens."""


@token.command()
@click.argument("text")
@key_options
@json_option
def inspect(
    text: str, key_file: str | None, env: str | None, audience: str | None, subjects: Sequence[str], as_json: bool
) -> None:
    """Show what the token TEXT says. `-` reads it from standard input.

    It is verified only with keys. The exit code is 1 if keys were given and it does not verify.
    """
    keys = keyring(key_file, env, audience)
    found = look(text_of(text), keys, audience, subjects)
    _show(Output(as_json=as_json), found, audience, time.time())
    if keys is not None and found.unverified is not None:
        click.get_current_context().exit(1)


def _show(output: Output, found: Presented, audience: str | None, now: float) -> None:
    verified = found.unverified is None
    head: dict[str, Any] = {
        "verified": verified,
        "reason": found.unverified,
        "subject": found.subject if verified else None,
        "audience": audience if verified else None,
        "profile": "encrypted" if found.encrypted else "signed",
        "algorithm": ALGORITHMS[found.algorithm],
        "key": found.key_id,
        "characters": found.characters,
    }
    claims = None if found.token is None else _claims(found.token, now)
    if output.as_json:
        output.record(head | {"claims": claims})
        return
    if verified:
        whose = "an anonymous session" if found.subject is None else repr(found.subject)
        output.say(f"Verified: sealed for {whose}, audience {audience!r}.", style="bold green")
    else:
        output.say(f"NOT VERIFIED: {found.unverified}. Believe nothing of what follows.", style="bold red")
    shown = {name: head[name] for name in ("profile", "algorithm", "key", "characters")}
    if claims is None:
        output.record(shown)
        output.say("Its claims are encrypted: they cannot be shown without its key.")
        return
    output.record(shown | {"expires": claims["expires"]} | ({"hybrid time": at} if (at := claims["timestamp"]) else {}))
    rows = claims["positions"]
    if rows:
        differ = any(row["expires_at"] != claims["expires_at"] for row in rows)
        # As text: a number of a log is a name, and has no thousands.
        output.table([{k: str(v) for k, v in row.items()} for row in rows], COLUMNS | (EXPIRES if differ else {}))
    for part in claims["floors"]:
        output.say(f"Floor: every origin of store {part['store']}, up to {part['offset']}.")
    for part in claims["marks"]:
        output.say(_mark_said(part))
    for part in claims["touched"]:
        output.say(_touched_said(part))


def _claims(token: Token, now: float) -> dict[str, Any]:
    """Return what a token demands, as plain values."""
    positions = [
        {
            "claim": name,
            "store": p.shard >> 16,
            "shard": p.shard & 0xFFFF,
            "origin": p.origin,
            "offset": p.offset,
            "expires_at": (at := token.expiry(p.shard << 32 | p.origin)),
            "expires": when(at, now),
        }
        for name, frontier in (("own", token.own), ("seen", token.seen))
        for p in frontier
    ]
    return {
        "expires_at": token.expires_at,
        "expires": when(token.expires_at, now),
        "expired": now >= token.expires_at,
        "timestamp": None if token.timestamp is None else str(token.timestamp),
        "positions": positions,
        "floors": [{"store": store, "offset": floor} for store, floor in sorted(token.seen.floors.items())],
        "marks": [_mark(store, mark, now) for store, mark in sorted(token.seen.marks.items())],
        "touched": [
            {"store": store, "fingerprints": [f"{one:04x}" for one in sorted(fingerprints)]}
            for store, fingerprints in sorted(token.touched.items())
        ],
    }


def _mark(store: int, mark: LeaderMark, now: float) -> dict[str, Any]:
    return {
        "store": None if store == EVERY_STORE else store,
        "until": None if mark.until >= FOREVER else mark.until,
        "until_said": "for ever" if mark.until >= FOREVER else f"until {when(mark.until, now)}",
        "except_shards": sorted(shard & 0xFFFF for shard in mark.exact),
        "dropped_origins": "any" if ANY_ORIGIN in mark.origins else sorted(mark.origins),
    }


def _mark_said(mark: dict[str, Any]) -> str:
    where = "every store" if mark["store"] is None else f"store {mark['store']}"
    but = f" but {', '.join(map(str, mark['except_shards']))}" if mark["except_shards"] else ""
    return f"Leader mark: every shard of {where}{but}, at the leader only, {mark['until_said']}."


def _touched_said(part: dict[str, Any]) -> str:
    found = ", ".join(part["fingerprints"])
    keys = f"at most the cache keys with the fingerprints {found}" if found else "no cache key"
    return f"Filter: own writes on store {part['store']} touched {keys}."


def when(at: int, now: float) -> str:
    """Return a Unix time as a date, and how far off it is."""
    if at > LAST_S:
        return "after the year 9999"
    date = dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    return f"{date} (in {_span(at - now)})" if at > now else f"{date} ({_span(now - at)} ago)"


def _span(seconds: float) -> str:
    """Return a duration in its two largest units."""
    rest = int(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
