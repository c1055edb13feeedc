"""What a hop does to a token, as whoever receives the response sees it."""

import pytest

from causal.integrations.cookies import Cookies
from causal.integrations.hops import findings

GOOD = [
    ("Cache-Control", "private"),
    ("Set-Cookie", Cookies().replacing(("__Host-causal-a1",), "T", 60)[0]),
    ("Set-Cookie", "theme=dark"),
    ("Set-Cookie", "__Host-causal-5b0c2f1e=T; Max-Age=60; Path=/; HttpOnly; Secure; SameSite=Lax"),
    ("Causal-Token", "T"),
]
URL = "https://shop.example/photo"


def wrong(fields: list[tuple[str, str]], url: str = URL, **settings: str) -> list[str]:
    return [one.text for one in findings(url, fields, **settings) if one.wrong]


def test_what_the_middleware_sends_is_right() -> None:
    assert wrong(GOOD) == []
    assert [one.text for one in findings(URL, GOOD)] == [
        "token by header: 1 characters",
        "taken back: __Host-causal-a1",
        "token by cookie: __Host-causal-5b0c2f1e",
    ]
    assert "no token" in findings(URL, [("Set-Cookie", "theme=dark")])[0].text
    plain = ("Set-Cookie", Cookies(secure=False).replacing((), "T", 60)[0])
    assert wrong([plain, ("cache-control", "no-store")], "http://shop.example/") == []
    assert wrong([plain, ("cache-control", "private")], name="shop") == []  # not one of theirs


def but(name: str, value: str, start: str = "") -> list[tuple[str, str]]:
    """The good response, with one field replaced or added."""
    kept = [(k, v) for k, v in GOOD if k != name or not v.startswith(start)]
    return [*kept, (name, value)]


COOKIE = "__Host-causal-5b0c2f1e"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (but("Cache-Control", "public, max-age=60"), "public"),
        (but("Cache-Control", "max-age=60"), "not private any more"),
        (but("Age", "7"), "comes from a cache"),
        (but("X-Cache", "HIT from edge"), "comes from a cache"),
        (but("Vary", "Accept, causal-token"), "Vary"),
        ([*GOOD, ("causal-token", "U")], "twice"),
        (but("Set-Cookie", f"{COOKIE}=T; Path=/shop; HttpOnly; Secure", COOKIE), "no Domain"),
        (but("Set-Cookie", f"{COOKIE}=T; Path=/; Domain=shop.example; HttpOnly; Secure", COOKIE), "no Domain"),
        (but("Set-Cookie", f"{COOKIE}=T; Path=/; HttpOnly", COOKIE), "no Domain"),
        (but("Set-Cookie", f"{COOKIE}=T; Path=/; Secure", COOKIE), "scripts read"),
        (but("Set-Cookie", "causal-a=T; Path=/; HttpOnly; SameSite=None", COOKIE), "SameSite=None"),
        (but("Set-Cookie", f"{COOKIE}=T; Path=/; HttpOnly; Secure, __Host-causal-b2=U; Path=/", COOKIE), "folded"),
    ],
)
def test_what_a_hop_has_done(fields: list[tuple[str, str]], said: str) -> None:
    (text,) = wrong(fields)
    assert said in text


def test_names_that_want_tls() -> None:
    (text,) = wrong(GOOD, "http://shop.example/photo")
    assert "no TLS" in text
    for url in ("http://localhost:8000/", "http://127.0.0.1/", "http://[::1]:8000/", "http://a.localhost/"):
        assert wrong(GOOD, url) == []
        assert any("not every browser" in one.text for one in findings(url, GOOD))


def test_pages_of_another_origin() -> None:
    allowed = [
        *GOOD,
        ("Access-Control-Allow-Origin", "https://page"),
        ("Access-Control-Expose-Headers", "X, Causal-Token"),
    ]
    assert wrong(allowed, origin="https://page") == []
    assert len(wrong(allowed, origin="https://other")) == 1
    assert len(wrong(GOOD, origin="https://page")) == 2
    starred = [*GOOD, ("Access-Control-Allow-Origin", "*"), ("Access-Control-Expose-Headers", "*")]
    assert wrong(starred, origin="https://page") == []
    assert len(wrong([*starred, ("Access-Control-Allow-Credentials", "true")], origin="https://page")) == 1
