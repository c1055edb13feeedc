"""A token as it is given on a command line: its text, and the keys to open it with.

Owns opening it, and looking into one that nothing verifies. Shows neither a key nor the text of a token.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final, TypeVar, cast

import attrs
import click

from causal.core import cose
from causal.core.wire import decode_claims
from causal.errors import BadSignature, ExpiredToken, UnknownKey
from causal.keys import KeyFile, Keyring

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from causal.core.token import Token

ALGORITHMS: Final = {
    cose.HMAC_256_64: "HMAC-SHA-256, 64 bits",
    cose.HMAC_256_256: "HMAC-SHA-256, 256 bits",
    cose.A256GCM: "AES-256-GCM",
}

C = TypeVar("C", bound="Callable[..., object]")


@attrs.frozen
class Presented:
    """What could be learned of a token. `token` is None if only its frame can be read.

    `unverified` says why nothing vouches for it; None means that it was opened, for `subject`. Thread-safety: immutable.
    """

    characters: int
    algorithm: int
    key_id: int
    token: Token | None
    unverified: str | None
    subject: str | None = None

    @property
    def encrypted(self) -> bool:
        """Whether its claims are secret."""
        return self.algorithm == cose.A256GCM


def key_options(command: C) -> C:
    """Add the options that say how a token is opened."""
    options = (
        click.option("--key-file", type=click.Path(dir_okay=False), help="Open it with the keys of this file."),
        click.option("--env", metavar="VAR", help="Open it with the keys in this environment variable."),
        click.option("--audience", help="Whose tokens the keys seal, for example 'shop'."),
        click.option(
            "--subject",
            "subjects",
            multiple=True,
            help="Whose session it may be; repeat to try several. Without it: anonymous.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def keyring(key_file: str | None, env: str | None, audience: str | None) -> Keyring | None:
    """Return the keys that the options name, or None. Raises: UsageError, ConfigError."""
    if key_file is None and env is None:
        return None
    if key_file is not None and env is not None:
        raise click.UsageError("give --key-file or --env, not both")
    if not audience:
        raise click.UsageError("a token opens only for its audience: give --audience")
    return KeyFile(key_file) if key_file is not None else Keyring.from_env(env or "")


def text_of(argument: str) -> str:
    """Return a token's text; `-` reads it from standard input, where other users of the machine cannot see it."""
    if argument != "-":
        return argument
    return sys.stdin.buffer.read(2 * cose.MAX_CHARS).decode("utf-8", "replace").strip()


def look(text: str, keys: Keyring | None, audience: str | None, subjects: Sequence[str | None]) -> Presented:
    """Open a token for one of the subjects, or look into it unverified. Raises: MalformedToken."""
    frame = cose.parse(cose.from_text(text))
    key_id, algorithm, _, content, _ = frame
    token: Token | None = None
    why = "no keys were given to verify it with"
    if keys is not None and audience is not None:
        tried = subjects or (None,)
        for subject in tried:
            try:
                token = keys.open(text, subject=subject, audience=audience, now=time.time())
            except ExpiredToken as error:
                token = cast("Token", error.token)
            except UnknownKey as error:
                why = f"sealed with key {error.key_id}, which is not among the keys that were given"
                break
            except BadSignature:
                continue
            return Presented(len(text), algorithm, key_id, token, None, subject)
        else:
            names = ", ".join("an anonymous session" if one is None else repr(one) for one in tried)
            why = f"forged, damaged, or sealed for another audience than {audience!r} or another subject than {names}"
    if algorithm != cose.A256GCM:
        token = decode_claims(content)
    return Presented(len(text), algorithm, key_id, token, why)
