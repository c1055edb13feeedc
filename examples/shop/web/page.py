"""One request, and all that it does with a session. The handlers beside this file are short because of it.

The session is the one that the middleware has begun. Whatever is done through a page is also written down, for the page's foot.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastapi import HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.templating import Jinja2Templates

from causal import ReadPolicy, current_session
from causal.core.position import pack
from causal.derived import mixed
from examples.shop.controls import PARTS
from examples.shop.web.account import Line, packed, unpacked
from examples.shop.web.cookies import FLASH, MARKS, token_sizes, user

if TYPE_CHECKING:
    from collections.abc import Callable

    from causal import Frontier
    from examples.shop.web.shop import Shop

TEMPLATES: Final = Jinja2Templates(Path(__file__).with_name("templates"))
TEMPLATES.env.trim_blocks = TEMPLATES.env.lstrip_blocks = True
EVENTUAL: Final = ReadPolicy.eventual()


class Page:
    """A request that is being answered. Thread-safety: one thread at a time."""

    parts = PARTS

    def __init__(self, request: Request) -> None:
        self.request = request
        self.shop: Shop = request.app.state.shop
        self.rows = self.shop.rows
        self.user = user(request)
        self.controls = self.shop.controls.state()
        self.session = current_session(self.shop.store)
        self.account: list[Line] = []

    def has(self, part: str) -> bool:
        """Return whether a part is in use, and not left out."""
        return part not in self.controls.without

    # --- rows ----------------------------------------------------------------------------------------------------------

    def read(self, what: str, fn: Callable[..., Any], *args: Any, shard: str | None) -> Any:
        """Read rows, at the nearest endpoint that has what this user wrote and saw."""
        block = self.session.read(shard=shard)
        with block as db:
            found = fn(db, *args)
        self.account.append(Line.of("read", what, block.receipt))
        return found

    def write(self, what: str, fn: Callable[..., Any], row: Any, *, shard: str | None, key: str | None = None) -> None:
        """Write a row. `key` is what it is cached under, if it is."""
        if key is not None and self.has("cache-gate"):
            block = self.shop.cache.write(self.session, key, shard=shard)
        elif self.has("filter"):
            # Says which cache entries this makes old, so that all others are still good enough for whoever wrote it.
            block = self.session.write(shard=shard, touching=() if key is None else (key,))
        else:
            block = self.session.write(shard=shard)
        with block as db:
            fn(db, row)
        self.account.append(Line.of("write", what, block.receipt))
        if key is not None and not self.has("cache-gate"):
            self.shop.plain_cache.delete(key)

    def cached(self, key: str, fn: Callable[..., Any], *args: Any, shard: str | None) -> Any:
        """Read a row through the cache."""
        if not self.has("cache-gate"):
            found, hit = self.shop.plain_cache.get(key, lambda: self.read(key, fn, *args, shard=shard))
            if hit:
                self.account.append(
                    Line("cache", key, "cache", "hit", why="a plain cache: nobody knows how old this is")
                )
            return found
        found, account = self.shop.cache.lookup(self.session, key, lambda db: fn(db, *args), shard=shard)
        if account.receipt is None:
            waited_ms = round(account.waited_s * 1000)
            self.account.append(Line("cache", key, "cache", "hit", waited_ms=waited_ms, why="covers what is demanded"))
        else:
            line = Line.of("cache", key, account.receipt)
            self.account.append(line.noting(f"{account.outcome}: {account.why}"))
        return found

    # --- elsewhere -------------------------------------------------------------------------------------------------------

    def search(self, text: str) -> Any:
        """Return what the index finds, with this session's own rows mixed in; without that, what the index finds."""
        shop = self.shop
        if not self.has("mixed"):
            block = shop.store.session().read(shop.search, policy=EVENTUAL)
            with block as index:
                hits = index.search(text)
            self.account.append(Line.of("search", text, block.receipt))
            return [hit.document for hit in hits]
        found = mixed(self.session, shop.search, shop.store, text, lag=EVENTUAL, recent=shop.recent(self.user))
        self.account.append(Line.of("search", text, found.index))
        for receipt in found.source:
            came = ", ".join(f"{key} {how}" for (_, key), how in found.overlaid.items()) or "nothing to correct"
            self.account.append(Line.of("read", "own rows for the search", receipt).noting(came))
        return [hit.document for hit in found.hits]

    def called(self, what: str, answer: dict[str, Any]) -> dict[str, Any]:
        """Note what the orders service did, by what it says itself."""
        self.account.append(Line.of("service", what, answer["receipt"], "orders: "))
        return answer

    def queue(self, what: str, job: str, *args: str) -> None:
        """Queue a job."""
        carries = self.has("jobs")
        self.shop.jobs.queue(job, *args, carries=carries)
        self.account.append(Line("job", what, "queue", "with a token" if carries else "without a token"))

    def positions(self, frontier: Frontier) -> str:
        """Return a frontier in the shop's words: which shard, up to where, and who numbered it, if that is known here."""
        store = self.shop.store
        shards = {number: name for name, number in store.shards.items()}
        parts = []
        for position in frontier:
            by = store.view.leaders.get(pack(position.shard, position.origin))
            name = shards.get(position.shard, "orders")
            parts.append(f"{name} {position.offset}" + (f" of {by}" if by else ""))
        return ", ".join(parts)

    # --- the answer ------------------------------------------------------------------------------------------------------

    def who(self) -> str:
        """Return who is logged in. Raises: HTTPException where nobody is."""
        if self.user is None:
            raise HTTPException(403, "Log in first.")
        return self.user

    def show(self, template: str, status: int = 200, **values: Any) -> Response:
        """Return a page, with its account at the foot."""
        message, before = unpacked(self.request.cookies.get(FLASH))
        shop, path = self.shop, self.request.url.path
        other = next(site for site in shop.settings.sites if site != shop.site)
        query = f"?{self.request.url.query}" if self.request.url.query else ""
        again = path + query if self.request.method == "GET" else "/"
        values |= {
            "page": self,
            "again": again,
            "site": shop.site,
            "other": other,
            "elsewhere": shop.settings.sites[other] + again,
            "message": message,
            "before": before,
            "tokens": token_sizes(self.request.cookies),
        }
        response = TEMPLATES.TemplateResponse(self.request, template, values, status)
        if message or before:
            response.delete_cookie(FLASH, **MARKS)
        return response

    def lead(self, path: str, message: str) -> Response:
        """Lead a browser that has sent a form to the page that shows what came of it."""
        target = path if path.startswith("/") and not path.startswith("//") else "/"  # never to another host
        response = RedirectResponse(target, 303)
        response.set_cookie(FLASH, packed(message, self.account), max_age=60, **MARKS)
        return response
