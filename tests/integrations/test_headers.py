"""What a response's header fields say of who may keep it, and a token among them."""

import pytest

from causal.integrations.headers import carrying_token, directives, exposed, is_public, made_private


@pytest.mark.spec("H-18")
@pytest.mark.parametrize(
    ("values", "public"),
    [
        ([], False),
        (["max-age=60"], False),
        (["private, max-age=60"], False),
        (["no-store"], False),
        (["public"], True),
        (["PUBLIC, max-age=60"], True),
        (["max-age=60", "public"], True),
        (["max-age=60, s-maxage=600"], True),
        (["s-maxage = 600"], True),
        (["public, private"], True),
        (["publicity=1"], False),
        (['no-cache="public, x", max-age=1'], False),  # a field's name, not a directive
        (['ext="a\\", public"'], False),
    ],
)
def test_who_may_keep_it(values: list[str], public: bool) -> None:
    assert is_public([("Cache-Control", value) for value in values]) is public


@pytest.mark.spec("H-19")
@pytest.mark.parametrize(
    ("name", "value", "public"),
    [
        ("CDN-Cache-Control", "max-age=60", True),
        ("Cloudflare-CDN-Cache-Control", "max-age=60", True),
        ("Vercel-CDN-Cache-Control", "s-maxage=60", True),
        ("Surrogate-Control", "max-age=60", True),
        ("CDN-Cache-Control", "no-store", False),
        ("CDN-Cache-Control", "private, max-age=60", False),
        ("CDN-Cache-Control", "", False),
        ("X-Cache-Control-Was", "public", False),
        ("Edge-Control", "cache-maxage=60s", True),
        ("Edge-Control", "bypass-cache", False),
        ("X-Accel-Expires", "60", True),
        ("X-Accel-Expires", "@1893456000", True),
        ("X-Accel-Expires", "0", False),
    ],
)
def test_a_field_for_a_cdn_alone_counts(name: str, value: str, public: bool) -> None:
    assert is_public([("cache-control", "private"), (name, value)]) is public


@pytest.mark.spec("H-17")
@pytest.mark.parametrize(
    ("values", "merged"),
    [
        ([], ["private"]),
        (["max-age=60"], ["private", "max-age=60"]),
        (["no-store"], ["private", "no-store"]),
        (["no-cache, max-age=0", "must-revalidate"], ["private", "no-cache", "max-age=0", "must-revalidate"]),
        (["private, max-age=60"], ["private", "max-age=60"]),
        (['private="set-cookie", max-age=60'], ["private", "max-age=60"]),  # all of it is, now
        (['no-cache="a, b", immutable'], ["private", 'no-cache="a, b"', "immutable"]),
        ([" , ,max-age=1,"], ["private", "max-age=1"]),
    ],
)
def test_private_is_merged_with_what_was_said(values: list[str], merged: list[str]) -> None:
    fields = [("a", "1"), *(("CACHE-control", value) for value in values), ("b", "2")]
    out = made_private(fields)
    assert out[:2] == [("a", "1"), ("b", "2")]
    ((name, value),) = out[2:]
    assert name == "cache-control"
    assert [text for _, text in directives([value])] == merged


@pytest.mark.spec("H-21")
@pytest.mark.parametrize(
    ("fields", "cross_origin", "expected"),
    [
        ([], False, None),
        ([], True, "Causal-Token"),  # whoever allows it may stand further out
        ([("Access-Control-Allow-Origin", "*")], False, "Causal-Token"),
        (
            [("access-control-allow-origin", "https://a"), ("Access-Control-Expose-Headers", "X-A")],
            False,
            "X-A, Causal-Token",
        ),
        ([("access-control-allow-origin", "*"), ("access-control-expose-headers", "*")], True, "*, Causal-Token"),
        (
            [("access-control-allow-origin", "*"), ("access-control-expose-headers", "a, CAUSAL-TOKEN")],
            True,
            "a, CAUSAL-TOKEN",
        ),
        ([("access-control-allow-origin", "*"), ("access-control-expose-headers", "")], True, "Causal-Token"),
    ],
)
def test_a_page_of_another_origin_may_read_it(
    fields: list[tuple[str, str]], cross_origin: bool, expected: str | None
) -> None:
    out = exposed(fields, cross_origin=cross_origin)
    assert [v for k, v in out if k.lower() == "access-control-expose-headers"] == ([expected] if expected else [])


@pytest.mark.spec("H-14", "H-20")
def test_a_token_among_the_fields() -> None:
    fields = [("Vary", "Accept"), ("causal-token", "of the application's own"), ("Set-Cookie", "a=1")]
    out = carrying_token(fields, "T", ["c=T"], by_header=True)
    assert out == [
        ("Vary", "Accept"),  # never the token: what is kept under one would be found by nobody else
        ("Set-Cookie", "a=1"),
        ("cache-control", "private"),
        ("set-cookie", "c=T"),
        ("causal-token", "T"),
    ]
    assert carrying_token([], "T", ["c=T"], by_header=False) == [("cache-control", "private"), ("set-cookie", "c=T")]
    assert carrying_token([], None, ["c="], by_header=True) == [("cache-control", "private"), ("set-cookie", "c=")]
