"""What is tried: each probe does what a user does, and says what it saw, and whether something of theirs was missing.

The replicas stand still while probes run, so that each comes out the same way every time. Whoever is needed logs in anew, with an empty
cookie jar, as on a new device.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import attrs
import httpx

from examples.shop.check.visitor import Visitor, account, shown
from examples.shop.controls import STANDS_STILL_S
from examples.shop.settings import SITES

if TYPE_CHECKING:
    from collections.abc import Callable

    from examples.shop.settings import Settings

ROUNDS: Final = 3
PRODUCTS: Final = ("teapot", "mug", "lamp")


@attrs.frozen
class Saw:
    """What a probe saw: in words, and whether it is an anomaly. Thread-safety: immutable."""

    said: str
    anomaly: bool


@attrs.frozen
class Probe:
    """Something to try, and the part without which it goes wrong, if it is one part's doing. Thread-safety: immutable."""

    name: str
    run: Callable[[Settings], Saw]
    without: str | None = None
    lag_s: float = STANDS_STILL_S
    embedded_only: bool = False


def photo(settings: Settings) -> Saw:
    """Change a photo at eu. It is on the page that the form leads to, and on the same page at us."""
    new = _new("alice")
    with Visitor(settings) as alice:
        alice.log_in("eu", "alice")
        pages = {
            "eu, through the redirect": alice.post("eu", "/photo", photo=new),
            "eu": alice.get("eu", "/people/alice"),
            "us": alice.get("us", "/people/alice"),
        }
    return _missing("the new photo", new, {where: shown(page, "photo") for where, page in pages.items()})


def login(settings: Settings) -> Saw:
    """Post at eu and log out: the post is still there at us, for a guest, and after another login."""
    text = _new("news")
    with Visitor(settings) as alice:
        alice.log_in("eu", "alice")
        alice.post("eu", "/posts", text=text)
        alice.post("eu", "/logout")
        pages = {"us, logged out": alice.get("us", "/")}
        alice.log_in("us", "carol")
        pages["us, logged in again"] = alice.get("us", "/")
    return _said("what was posted is there", [where for where, page in pages.items() if text not in page])


def tabs(settings: Settings) -> Saw:
    """Post in one tab while another loads. The other's answer arrives last, and takes nothing away."""
    new = _new("alice")
    with Visitor(settings) as alice, Visitor(settings) as other:
        alice.log_in("eu", "alice")
        other.http.cookies.update(alice.http.cookies)
        posting = alice.send("eu", "/photo", photo=new)
        loading = other.http.get(f"{settings.sites['eu']}/")
        browser = Visitor(settings)
        with browser:
            browser.log_in("eu", "alice")
            for answer in (posting, loading):
                browser.http.cookies.extract_cookies(answer)
            found = shown(browser.get("us", "/people/alice"), "photo")
    return _missing("the new photo", new, {"us": found})


def order(settings: Settings) -> Saw:
    """Order a mug at eu. It is on the orders page at once, at both sites."""
    with Visitor(settings) as alice:
        alice.log_in("eu", "alice")
        before = set(shown(alice.get("eu", "/orders"), "order"))
        pages = {
            "eu, through the redirect": alice.post("eu", "/orders", product="mug"),
            "us": alice.get("us", "/orders"),
        }
    new = {where: set(shown(page, "order")) - before for where, page in pages.items()}
    return _said("the order is on the page", [where for where, orders in new.items() if not orders])


def confirmation(settings: Settings) -> Saw:
    """Order a lamp. The worker finds the order that it is to confirm."""
    with Visitor(settings) as alice:
        alice.log_in("eu", "alice")
        newest = shown(alice.post("eu", "/orders", product="lamp"), "order")[0]
        return _job(alice, newest)


def thumbnail(settings: Settings) -> Saw:
    """Change a photo. The worker finds the photo that it is to make smaller."""
    new = _new("alice")
    with Visitor(settings) as alice:
        alice.log_in("eu", "alice")
        alice.post("eu", "/photo", photo=new)
        return _job(alice, new)


def search(settings: Settings) -> Saw:
    """Post something, and search for it: it is found, at both sites."""
    word = f"word{secrets.token_hex(4)}"
    with Visitor(settings) as alice:
        alice.log_in("eu", "alice")
        alice.post("eu", "/posts", text=f"Has anybody seen my {word}?")
        pages = {site: alice.get(site, "/search", q=word) for site in SITES}
    return _said("the search finds the post", [where for where, page in pages.items() if not shown(page, "hit")])


def cache(settings: Settings) -> Saw:
    """Change a photo that is cached, while somebody else looks at it where it is old: the old one does not come back."""
    new = _new("alice")
    with Visitor(settings) as alice, Visitor(settings) as guest:
        alice.log_in("eu", "alice")
        for site in SITES:
            alice.get(site, "/people/alice")
        alice.send("eu", "/photo", photo=new)
        for site in SITES:  # before the browser follows the redirect
            guest.get(site, "/people/alice")
        pages = {site: alice.get(site, "/people/alice") for site in SITES}
    return _missing("the new photo", new, {where: shown(page, "photo") for where, page in pages.items()})


def hits(settings: Settings) -> Saw:
    """Post, and look at products: the cache still has them."""
    how: list[str] = []
    with Visitor(settings) as alice:
        alice.log_in("eu", "alice")
        for name in PRODUCTS:
            alice.get("eu", f"/products/{name}")
        for nth in range(ROUNDS):
            alice.post("eu", "/posts", text=f"Post number {nth}.")
            how += [found for name in PRODUCTS for _, found in account(alice.get("eu", f"/products/{name}"), "cache")]
    rate = how.count("hit") / len(how)
    return Saw(f"{rate:.0%} of {len(how)} lookups after own posts are hits", rate < 1)


def refusal(settings: Settings) -> Saw:
    """Post at eu, then at us, which takes writes itself but lacks the first: it says so, and when to come again."""
    with Visitor(settings) as alice:
        alice.log_in("eu", "alice")
        alice.post("eu", "/posts", text="First this.")
        answer = alice.send("us", "/posts", text="Then that.")
    refused = answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and "retry-after" in answer.headers
    return Saw("refused, with a time to come again" if refused else "accepted, before what it follows", not refused)


def local(settings: Settings) -> Saw:
    """Post at eu, and look at us until us itself has it."""
    text = _new("news")
    with Visitor(settings) as alice:
        alice.log_in("eu", "alice")
        alice.post("eu", "/posts", text=text)

        def look() -> str | None:
            page = alice.get("us", "/")
            return page if account(page, "read") == [("us", "covered")] else None

        page = alice.until(look)
    return _said("us answers by itself, with the post", ["us"] if page is None or text not in page else [])


PROBES: Final = (
    Probe("A new photo is on the profile at once", photo, "middleware"),
    Probe("What was posted is there after a logout and a login", login, "middleware"),
    Probe("Of two tabs, the later answer takes nothing back", tabs, "middleware"),
    Probe("The old photo does not come back from the cache", cache, "cache-gate"),
    Probe("Who posts keeps their cache hits", hits, "filter"),
    Probe("The orders page has the order at once", order, "service"),
    Probe("The confirmation finds its order", confirmation, "jobs"),
    Probe("The thumbnail finds its photo", thumbnail, "jobs"),
    Probe("One's own post is in one's own search", search, "mixed"),
    Probe("What a site cannot show or take yet, it refuses", refusal, embedded_only=True),
    Probe("Once replicas have caught up, they answer again", local, lag_s=0),
)


def _new(name: str) -> str:
    return f"{name}-{secrets.token_hex(4)}"


def _missing(what: str, new: str, found: dict[str, list[str]]) -> Saw:
    return _said(f"{what} is there", [where for where, things in found.items() if new not in things])


def _said(good: str, without: list[str]) -> Saw:
    return Saw(f"not at {', '.join(without)}" if without else good, bool(without))


def _job(visitor: Visitor, about: str) -> Saw:
    def done() -> str | None:
        page = visitor.get("eu", "/jobs")
        return dict(zip(shown(page, "about"), shown(page, "done"), strict=True)).get(about)

    how = visitor.until(done)
    return Saw(
        {"true": "the row was there", "false": "it found no row"}.get(how or "", "nothing was done"), how != "true"
    )
