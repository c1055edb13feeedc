"""One idea for everything that tokens travel in: put a session's token in, take every token out.

A carrier is a mapping (an HTTP client's headers, a job's headers, a dictionary in a message) or a list of pairs (as ASGI and WSGI
have them), of texts or of bytes. It is a *set*: any number of tokens presented together are joined.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from causal.errors import ConfigError

if TYPE_CHECKING:
    from causal.claims import Claims

HEADER: Final = "Causal-Token"
"""The field that carries a token, of requests and of responses. It may be repeated."""
MAX_TOKENS: Final = 16
"""How many tokens of one carrier are opened. Who presents more is taken for somebody whose token cannot be opened (I12)."""
_TOO_MANY: Final = "!"
"""Stands for the tokens past the limit: no keyring opens it, so the policy decides, and nothing is dropped in silence."""


def inject(session: Claims, carrier: Any, *, subject: str | None = None, name: str = HEADER) -> None:
    """Put what a session demands into a carrier, in place of any token that is there; nothing while there is nothing to demand.

    `subject` is whom the token is sealed for, by default the session's own. `carrier` is a mutable mapping or a list of pairs; pairs of
    bytes where the list has such.
    Raises: ConfigError for what is neither; TokenError as `session.token`.
    """
    put(session.token(subject=subject), carrier, name=name)


def put(text: str | None, carrier: Any, *, name: str = HEADER) -> None:
    """Put a token that is sealed already into a carrier, in place of any that is there; None only takes those out.

    Raises: ConfigError for what is no carrier.
    """
    lower = name.lower()
    if isinstance(carrier, MutableMapping) or (hasattr(carrier, "keys") and hasattr(carrier, "__setitem__")):
        for key in [key for key in carrier.keys() if _text(key).lower() == lower]:  # noqa: SIM118 - werkzeug's iterate over pairs
            with suppress(KeyError):  # one name may stand there twice, and both be gone with the first
                del carrier[key]
        if text is not None:
            carrier[name] = text
    elif isinstance(carrier, list):
        raw = bool(carrier) and isinstance(carrier[0][0], bytes)
        carrier[:] = [pair for pair in carrier if _text(pair[0]).lower() != lower]
        if text is not None:
            carrier.append((lower.encode("ascii"), text.encode("ascii")) if raw else (name, text))
    else:
        raise ConfigError(f"a carrier is a mapping or a list of pairs, not a {type(carrier).__name__}")


def extract(carrier: Any, *, name: str = HEADER) -> list[str]:
    """Return every token in a carrier: what `store.session(*extract(headers))` joins.

    Names are matched whatever their case. A value may be a text, bytes, or a list of them; one text may hold several tokens with commas in
    between, as proxies fold repeated fields. What is no text at all counts as a token that cannot be opened: it may have demanded anything.
    Beyond MAX_TOKENS, one more stands for the rest, and cannot be opened either (I12).
    Raises: ConfigError for what is no carrier. Complexity: linear.
    """
    lower = name.lower()
    if isinstance(carrier, Mapping) or hasattr(carrier, "items"):
        pairs: Iterable[tuple[Any, Any]] = carrier.items()
    elif isinstance(carrier, Iterable) and not isinstance(carrier, (str, bytes)):
        pairs = carrier
    else:
        raise ConfigError(f"a carrier is a mapping or a list of pairs, not a {type(carrier).__name__}")
    found: list[str] = []
    for key, value in pairs:
        if _text(key).lower() == lower:
            for one in value if isinstance(value, (list, tuple)) else (value,):
                found += split(one)
    return limited(found)


def split(value: Any) -> list[str]:
    """Return the tokens in one field's value."""
    if value is None:
        return []
    if not isinstance(value, (str, bytes)):
        return [_TOO_MANY]
    return [part for part in (part.strip(" \t") for part in _text(value).split(",")) if part]


def limited(tokens: list[str]) -> list[str]:
    """Return different tokens, of the first MAX_TOKENS; one more stands for the rest."""
    different = list(dict.fromkeys(tokens)) if len(tokens) > 1 else tokens
    return different if len(different) <= MAX_TOKENS else [*different[:MAX_TOKENS], _TOO_MANY]


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else ""
