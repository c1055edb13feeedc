"""Somebody with a browser: a cookie jar, and eyes for what a page says."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final, Self

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable

    from examples.shop.settings import Settings

TIMEOUT_S: Final = 30.0
_LINE: Final = re.compile(r'data-kind="([^"]*)" data-where="([^"]*)" data-how="([^"]*)"')


class Visitor:
    """A browser without a window: it follows redirects, and keeps cookies by host, whatever the port. Thread-safety: one thread."""

    def __init__(self, settings: Settings) -> None:
        self._sites = settings.sites
        self.http = httpx.Client(follow_redirects=True, timeout=TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def get(self, site: str, path: str, **query: str) -> str:
        """Return a page."""
        return self._asked(lambda: self.http.get(self._sites[site] + path, params=query or None))

    def post(self, site: str, path: str, **form: str) -> str:
        """Send a form, and return the page that it leads to."""
        return self._asked(lambda: self.http.post(self._sites[site] + path, data=form))

    def send(self, site: str, path: str, **form: str) -> httpx.Response:
        """Send a form, and do not follow to where it leads."""
        return self.http.post(self._sites[site] + path, data=form, follow_redirects=False)

    def log_in(self, site: str, name: str) -> None:
        """Log in."""
        self.post(site, "/login", name=name)

    def until(self, look: Callable[[], str | None], deadline_s: float = TIMEOUT_S) -> str | None:
        """Look again and again until there is something to see; None if there is nothing in time."""
        deadline = time.monotonic() + deadline_s
        while (seen := look()) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return seen

    @staticmethod
    def _asked(ask: Callable[[], httpx.Response]) -> str:
        """Ask, and come again when a site says when: nothing was shown, and nothing was saved."""
        deadline = time.monotonic() + TIMEOUT_S
        while (answer := ask()).status_code == httpx.codes.SERVICE_UNAVAILABLE and time.monotonic() < deadline:
            time.sleep(float(answer.headers["Retry-After"]))
        if answer.is_server_error:
            answer.raise_for_status()
        return answer.text


def shown(page: str, name: str) -> list[str]:
    """Return what a page shows under a data attribute."""
    return re.findall(f'data-{name}="([^"]*)"', page)


def account(page: str, kind: str) -> list[tuple[str, str]]:
    """Return, of each line of one kind at the page's foot, who answered and how."""
    return [(where, how) for k, where, how in _LINE.findall(page) if k == kind]
