"""Cookies as a set: a fresh name for each token, and the names taken back that a response started from.

Two tabs' responses may arrive in any order, and a later one replaces a cookie of the same name: so no two tokens share one. A name is
`__Host-causal-<slot>`, which a browser takes only over TLS, from the very host, for every path: no other host of the site can set it.
Where there is no TLS, in development, it is `causal-<slot>`.

Each kind is deaf to the other. A plain name can be set by any host of the same site, and by whoever is on a path without TLS: if it
counted where `__Host-` is meant, they could hand users tokens that cannot be opened, and send all of them to a leader (I12).

Knows no protocol: header values in, header values out, all texts.
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Final, Literal

import attrs

from causal.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX_COOKIES: Final = 4
"""How many cookies of tokens a client may hold for long: if more arrive, they are folded into one, whatever else happens."""
MAX_CHARS: Final = 65_536
"""How much of the Cookie headers of one request is read. Servers allow less by default, and 16 of the longest tokens take this much."""
TOO_LONG: Final = "!"
"""Stands for the tokens of a header that was not read: no keyring opens it, so the policy decides, and nothing is dropped in silence."""
MAX_TAKEN: Final = 64
"""How many cookies one response takes back at most: what is left goes next time, and no server's limit of a response is passed."""
_SLOT: Final = re.compile(r"[A-Za-z0-9_]{1,64}")
"""Without '-': where two applications of one host are `causal` and `causal-admin`, neither takes the other's cookies."""
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")


def _checked(_: object, __: object, value: object) -> None:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ConfigError(f"a cookie's name is 1 to 32 letters, digits, '-' and '_', not {value!r}")


@attrs.frozen
class Arrived:
    """The cookies of a request that hold tokens: their names, to take back, and their tokens. Thread-safety: immutable."""

    names: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()


_NONE: Final = Arrived()


@attrs.frozen
class Cookies:
    """How cookies are named and marked. All names that are `prefix` and one more word are taken for tokens.

    `secure=False` is for development without TLS. `same_site="None"`, best with `partitioned=True`, is for pages that others embed:
    then every site can make the browser present the token, which is no login and gives no right to anything.

    Raises: ConfigError. Thread-safety: immutable.
    """

    secure: bool = True
    same_site: Literal["Lax", "Strict", "None"] = "Lax"
    partitioned: bool = False
    name: str = attrs.field(default="causal", validator=_checked)
    prefix: str = attrs.field(init=False, repr=False)
    _marks: str = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.same_site not in {"Lax", "Strict", "None"}:
            raise ConfigError(f"same_site is 'Lax', 'Strict' or 'None', not {self.same_site!r}")
        if not self.secure and (self.partitioned or self.same_site == "None"):
            raise ConfigError(
                "browsers take partitioned cookies, and those with same_site='None', only if they are secure"
            )
        marks = "; Path=/; HttpOnly" + "; Secure" * self.secure + f"; SameSite={self.same_site}"
        object.__setattr__(self, "prefix", f"{'__Host-' * self.secure}{self.name}-")
        object.__setattr__(self, "_marks", marks + "; Partitioned" * self.partitioned)

    def arrived(self, headers: Iterable[str]) -> Arrived:
        """Return the cookies with tokens among these Cookie headers' values: there may be several.

        Names are taken exactly, and only `;` separates: what stands inside another cookie's value is none. A name that comes twice is one
        cookie with two tokens.
        Complexity: linear in what is read, which is at most MAX_CHARS; a search for one text where there is no such cookie.
        """
        prefix = self.prefix
        names: list[str] = []
        tokens: list[str] = []
        left = MAX_CHARS
        for header in headers:
            if prefix not in header:
                continue
            left -= len(header)
            if left < 0:
                tokens.append(TOO_LONG)
                break
            for pair in header.split(";"):
                name, equals, value = pair.strip(" \t").partition("=")
                if equals and name.startswith(prefix) and _SLOT.fullmatch(name, len(prefix)):
                    names.append(name)
                    tokens.append(value)
        if not tokens:
            return _NONE
        return Arrived(tuple(dict.fromkeys(names))[:MAX_TAKEN], tuple(tokens))

    def replacing(self, names: Sequence[str], token: str | None, ttl_s: float) -> list[str]:
        """Return the values of the Set-Cookie headers that give a client a token under a fresh name, and take back exactly these names.

        No token: nothing is given, for there is nothing to demand. Units: seconds.
        """
        marks = self._marks
        values = [f"{name}=; Max-Age=0{marks}" for name in names]
        if token is not None:
            name = self.prefix + secrets.token_hex(4)
            while name in names:
                name = self.prefix + secrets.token_hex(4)
            values.append(f"{name}={token}; Max-Age={int(ttl_s)}{marks}")
        return values
