"""The cookies of the shop itself, and how large the library's are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import Request

NAME: Final = re.compile(r"[a-z][a-z0-9]{0,19}")
"""What somebody, or something, may be called."""
USER: Final = "shop-user"
"""Who is logged in. This is a demonstration: a real site signs it."""
FLASH: Final = "shop-flash"
"""What the last form did, for the page that it leads to."""
PREFIX: Final = "causal-"
"""What the names of the library's cookies begin with in development. In production it is `__Host-causal-`."""
MARKS: Final[dict[str, Any]] = {"httponly": True, "samesite": "lax"}


def user(request: Request) -> str | None:
    """Return who is logged in: whose session it is."""
    name = request.cookies.get(USER, "")
    return name if NAME.fullmatch(name) else None


def token_sizes(cookies: Mapping[str, str]) -> list[int]:
    """Return how long each token is that the browser holds. Units: characters."""
    return [len(value) for name, value in cookies.items() if name.startswith(PREFIX)]
