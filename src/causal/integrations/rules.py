"""The settings of a middleware, and what of its protocol's requests it needs to read.

HAZARD: who gives a token for the subject of another user lets that user's demands be replaced by less. The subject is what a login says,
never what the request says of itself.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Literal

from causal.claims import StoreBase
from causal.errors import ConfigError
from causal.integrations.cookies import Cookies
from causal.integrations.counting import Counters, Event
from causal.integrations.refusals import Replay

if TYPE_CHECKING:
    from collections.abc import Callable

Refusals = Literal["respond", "raise"]
Hold = Literal["open", "always", "never"]


class Rules:
    """The settings of one middleware, and how its protocol's requests are read.

    Raises: ConfigError. Thread-safety: the settings never change.
    """

    def __init__(
        self,
        store: Any,
        *,
        subject: Any,
        cookies: Cookies | None,
        header: bool,
        refusals: Refusals,
        hold: Hold,
        replay: Replay | tuple[Any, ...] | None,
        site: str | None,
        on_event: Callable[[Event], object] | None,
    ) -> None:
        if not isinstance(store, StoreBase):
            raise ConfigError(f"store is a CausalStore or an AsyncCausalStore, not a {type(store).__name__}")
        if subject is not None and (not callable(subject) or inspect.iscoroutinefunction(subject)):
            raise ConfigError(
                "subject is a plain function of the request that returns whose it is: the session is made when it is first asked for, "
                "which may be in code that cannot await. Look users up in a middleware of their own"
            )
        if cookies is not None and not isinstance(cookies, Cookies):
            raise ConfigError(f"cookies is a Cookies, or None for none, not a {type(cookies).__name__}")
        if cookies is None and not header:
            raise ConfigError("with cookies=None and header=False no token could travel")
        if refusals not in {"respond", "raise"}:
            raise ConfigError(f"refusals is 'respond' or 'raise', not {refusals!r}")
        if hold not in {"open", "always", "never"}:
            raise ConfigError(f"hold is 'open', 'always' or 'never', not {hold!r}")
        self.hold = hold
        self.store: StoreBase[Any, Any] = store
        self.subject: Callable[[Any], str | None] | None = subject
        self.cookies = cookies
        self.header = header
        self.refusals = refusals
        self.replay = Replay.of(replay)
        self.site = site if site is not None else getattr(store.engine, "site", "")
        if self.replay is not None and not self.site:
            raise ConfigError("replay needs to know which site this process is at: site=...")
        self.counters = Counters(on_event)
        self.shares = False
        """Whether somebody further in lets pages of other origins read what the application answers."""

    def route_of(self, facts: Any) -> str:
        """Return what a request's place is called: the route's pattern where a framework says it, else the path."""
        raise NotImplementedError("each protocol has this in a place of its own: asgi, wsgi")

    def method(self, facts: Any) -> str:
        """Return a request's method, in upper case."""
        raise NotImplementedError("each protocol has this in a place of its own: asgi, wsgi")

    def field(self, facts: Any, name: str) -> str:
        """Return a request's header field by its name in lower case; "" if there is none."""
        raise NotImplementedError("each protocol has this in a place of its own: asgi, wsgi")

    def cross_origin(self, facts: Any) -> bool:
        """Return whether a page of another origin asks."""
        origin = self.field(facts, "origin")
        return bool(origin) and origin.partition("://")[2].lower() != self.field(facts, "host").lower()
