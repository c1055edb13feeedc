"""Cookies as a set: names, marks, limits, and what is not taken for a token."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from causal import ConfigError
from causal.integrations.cookies import MAX_CHARS, MAX_TAKEN, TOO_LONG, Arrived, Cookies

HOST = Cookies()
PLAIN = Cookies(secure=False)


@pytest.mark.spec("H-5", "H-6")
@pytest.mark.parametrize(
    ("headers", "names", "tokens"),
    [
        ([], (), ()),
        ([""], (), ()),
        (["theme=dark; a=b"], (), ()),
        (["__Host-causal-a1=T1"], ("__Host-causal-a1",), ("T1",)),
        (
            ["x=1; __Host-causal-a1=T1;__Host-causal-b2=T2 ; y=2"],
            ("__Host-causal-a1", "__Host-causal-b2"),
            ("T1", "T2"),
        ),
        (["x=1", "__Host-causal-a1=T1", "__Host-causal-b2=T2"], ("__Host-causal-a1", "__Host-causal-b2"), ("T1", "T2")),
        (
            ["__Host-causal-a1=T1; __Host-causal-a1=T2"],
            ("__Host-causal-a1",),
            ("T1", "T2"),
        ),  # one name, set for two paths
        (["__Host-causal-a1="], ("__Host-causal-a1",), ("",)),
        (['__Host-causal-a1="T1"'], ("__Host-causal-a1",), ('"T1"',)),  # not our spelling: it will not open
        (["__Host-causal-a1=T=1"], ("__Host-causal-a1",), ("T=1",)),
        (["__Host-causal-a1"], (), ()),
        (["__Host-causal-=T1"], (), ()),
        (["__Host-causal-a b=T1; __Host-causal-a,b=T1; __Host-causal-\r=T1"], (), ()),
        (["__host-causal-a1=T1; __HOST-CAUSAL-a1=T1"], (), ()),  # browsers hold these to the rules only of late
        (["causal-a1=T1; my-__Host-causal-a1=T1"], (), ()),
        (['prefs={"a": 1, __Host-causal-a1=T1}; b=__Host-causal-a1=T1'], (), ()),  # inside another's value
    ],
)
def test_what_is_taken_for_a_token(headers: list[str], names: tuple[str, ...], tokens: tuple[str, ...]) -> None:
    assert HOST.arrived(headers) == Arrived(names, tokens)


@pytest.mark.spec("H-5")
def test_each_kind_is_deaf_to_the_other() -> None:
    both = ["causal-a1=T1; __Host-causal-b2=T2"]
    assert PLAIN.arrived(both) == Arrived(("causal-a1",), ("T1",))
    assert HOST.arrived(both) == Arrived(("__Host-causal-b2",), ("T2",))
    assert Cookies(name="shop").arrived(["__Host-shop-a=T; __Host-causal-a=T"]).names == ("__Host-shop-a",)


@pytest.mark.spec("H-5")
def test_the_names_of_one_application_are_none_of_anothers() -> None:
    for one, other in (("causal", "causal-admin"), ("a", "a-a"), ("causal", "causal_x")):
        mine, theirs = Cookies(name=one), Cookies(name=other)
        both = [line.partition(";")[0] for kind in (mine, theirs) for line in kind.replacing((), kind.name, 60)]
        assert mine.arrived(both).tokens == (one,)
        assert theirs.arrived(both).tokens == (other,)


@pytest.mark.spec("H-8")
def test_a_response_takes_back_no_more_than_fits_into_one() -> None:
    many = HOST.arrived(["; ".join(f"__Host-causal-{n}=T{n}" for n in range(1000))])
    assert many.names == tuple(f"__Host-causal-{n}" for n in range(MAX_TAKEN))
    assert len(many.tokens) == 1000  # how many are opened is not for the names to say
    assert sum(map(len, HOST.replacing(many.names, "T", 60))) < 8_000


@pytest.mark.spec("H-7")
def test_what_is_too_long_is_not_read_and_not_forgotten() -> None:
    token = "__Host-causal-a1=T1"
    fits = f"{token}; x={'y' * (MAX_CHARS - len(token) - 4)}"
    assert len(fits) == MAX_CHARS
    assert HOST.arrived([fits]).tokens == ("T1",)
    assert HOST.arrived([fits + "y"]) == Arrived((), (TOO_LONG,))
    assert HOST.arrived([token, fits]) == Arrived(("__Host-causal-a1",), ("T1", TOO_LONG))
    assert HOST.arrived(["x" * (2 * MAX_CHARS), token]).tokens == ("T1",)  # what holds none is none of ours to limit


@given(st.lists(st.text(alphabet='ab1=;, \t"\r\n-_\xff') | st.text() | st.just("__Host-causal-a1=T1"), max_size=8))
def test_whatever_arrives_only_sound_names_come_back(parts: list[str]) -> None:
    for headers in ([";".join(parts)], ["; __Host-causal-".join(parts)], parts):
        arrived = HOST.arrived(headers)
        for line in HOST.replacing(arrived.names, "T", 60):
            assert re.fullmatch(r"__Host-causal-[A-Za-z0-9_-]{1,64}=T?; Max-Age=\d+(; [A-Za-z/=]+)+", line)


def marks(value: str) -> tuple[str, str, set[str]]:
    pair, *rest = value.split("; ")
    name, _, text = pair.partition("=")
    return name, text, set(rest)


@pytest.mark.spec("H-13")
@pytest.mark.parametrize(
    ("cookies", "pattern", "expected"),
    [
        (HOST, r"__Host-causal-[0-9a-f]{8}", {"Path=/", "HttpOnly", "Secure", "SameSite=Lax"}),
        (PLAIN, r"causal-[0-9a-f]{8}", {"Path=/", "HttpOnly", "SameSite=Lax"}),
        (
            Cookies(same_site="None", partitioned=True, name="shop"),
            r"__Host-shop-[0-9a-f]{8}",
            {"Path=/", "HttpOnly", "Secure", "SameSite=None", "Partitioned"},
        ),
        (
            Cookies(same_site="Strict"),
            r"__Host-causal-[0-9a-f]{8}",
            {"Path=/", "HttpOnly", "Secure", "SameSite=Strict"},
        ),
    ],
)
def test_what_is_set_and_what_is_taken_back(cookies: Cookies, pattern: str, expected: set[str]) -> None:
    old = [f"{cookies.prefix}a1", f"{cookies.prefix}b2"]
    *deleted, given = cookies.replacing(old, "T3", 86_400.0)
    assert [marks(value) for value in deleted] == [(name, "", {*expected, "Max-Age=0"}) for name in old]
    name, text, rest = marks(given)
    assert re.fullmatch(pattern, name)
    assert (text, rest) == ("T3", {*expected, "Max-Age=86400"})
    assert cookies.arrived([f"{name}={text}"]) == Arrived((name,), ("T3",))
    assert cookies.replacing(["x"], None, 1.0) == [cookies.replacing(["x"], "T", 1.0)[0]]


def test_no_name_is_given_twice() -> None:
    names = {marks(HOST.replacing((), "T", 60)[0])[0] for _ in range(200)}
    assert len(names) == 200


@pytest.mark.spec("H-11")
def test_a_name_that_has_just_arrived_is_not_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(("aaaaaaaa", "aaaaaaaa", "bbbbbbbb"))
    monkeypatch.setattr("causal.integrations.cookies.secrets.token_hex", lambda _: next(drawn))
    deleted, given = HOST.replacing(["__Host-causal-aaaaaaaa"], "T", 60)
    assert deleted.startswith("__Host-causal-aaaaaaaa=;")  # else this would take back what the other gives
    assert given.startswith("__Host-causal-bbbbbbbb=T")


@pytest.mark.parametrize(
    "settings",
    [
        {"same_site": "lax"},
        {"name": ""},
        {"name": "a b"},
        {"name": "a=b"},
        {"name": None},
        {"secure": False, "same_site": "None"},
        {"secure": False, "partitioned": True},
    ],
)
def test_settings_that_no_browser_would_take(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Cookies(**settings)  # type: ignore[arg-type]
