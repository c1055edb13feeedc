"""What is tried: each probe does what a user does, and says what it saw, and whether something of theirs was missing.

The replicas stand still while probes run, so that each comes out the same way every time. Whoever is needed logs in anew, with an empty
cookie jar, as on a new device.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import attrs

from examples.shop.check.visitor import Visitor, account, shown
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
    """Something to try, and the part without which it goes wrong. Thread-safety: immutable."""

    name: str
    without: str
    run: Callable[[Settings], Saw]


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


def seen(settings: Settings) -> Saw:
    """Read a post at eu before logging in at us: it is still there."""
    text = _new("news")
    with Visitor(settings) as bob, Visitor(settings) as guest:
        bob.log_in("eu", "bob")
        bob.post("eu", "/posts", text=text)
        first = guest.until(lambda: page if text in (page := guest.get("eu", "/")) else None) or ""
        guest.log_in("us", "carol")
        after = guest.get("us", "/")
    found = {"eu, before the login": [text] * (text in first), "us, after it": [text] * (text in after)}
    return _missing("what was read", text, found)


def tabs(settings: Settings) -> Saw:
    """Post in one tab while another loads. The other's answer arrives last, and takes nothing away."""
    new = _new("alice")
    with Visitor(settings) as alice, Visitor(settings) as other:
        alice.log_in("eu", "alice")
        other.http.cookies.update(alice.http.cookies)
        posting = alice.http.post(f"{settings.sites['eu']}/photo", data={"photo": new}, follow_redirects=False)
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
        alice.post("eu", "/photo", photo=new)
        for site in SITES:
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


PROBES: Final = (
    Probe("A new photo is on the profile at once", "middleware", photo),
    Probe("What was read before the login is there after it", "middleware", seen),
    Probe("Of two tabs, the later answer takes nothing back", "middleware", tabs),
    Probe("The old photo does not come back from the cache", "cache-gate", cache),
    Probe("Who posts keeps their cache hits", "filter", hits),
    Probe("The orders page has the order at once", "service", order),
    Probe("The confirmation finds its order", "jobs", confirmation),
    Probe("The thumbnail finds its photo", "jobs", thumbnail),
    Probe("One's own post is in one's own search", "mixed", search),
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
