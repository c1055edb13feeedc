"""Every mapping that tokens are put into and taken out of, as the libraries have them."""

from http.client import HTTPMessage
from typing import Any

import httpx
import pytest
from requests.structures import CaseInsensitiveDict
from starlette.datastructures import MutableHeaders
from werkzeug.datastructures import Headers

from causal.integrations.carrier import HEADER, extract, put


class Quick(dict[str, Any]):
    """As multidict's: a name that stands there twice is gone, in every spelling, with the first `del`."""

    def __delitem__(self, key: str) -> None:
        found = [one for one in self if one.lower() == key.lower()]
        if not found:
            raise KeyError(key)
        for one in found:
            super().__delitem__(one)


def message() -> HTTPMessage:
    made = HTTPMessage()
    made[HEADER], made[HEADER.lower()] = "old", "older"
    return made


@pytest.mark.spec("H-4")
@pytest.mark.parametrize("text", ["T", None])
@pytest.mark.parametrize(
    "carrier",
    [
        {HEADER: "old", "causal-token": "older"},
        Quick({HEADER: "old", "causal-token": "older"}),
        [(HEADER, "old"), ("causal-token", "older")],
        [(b"causal-token", b"old"), (b"causal-token", b"older")],
        Headers([(HEADER, "old"), ("causal-token", "older")]),
        httpx.Headers([(HEADER, "old"), ("causal-token", "older")]),
        MutableHeaders(raw=[(b"causal-token", b"old"), (b"causal-token", b"older")]),
        CaseInsensitiveDict({HEADER: "old"}),
        message(),
    ],
    ids=lambda carrier: type(carrier).__name__,
)
def test_a_token_takes_the_place_of_what_was_there(carrier: Any, text: str | None) -> None:
    put(text, carrier)
    assert extract(carrier) == ([] if text is None else [text])


MANY = [f"T{n}" for n in range(16)]


@pytest.mark.spec("H-2", "H-3")
@pytest.mark.parametrize(
    ("value", "tokens"),
    [
        ("A, B,A", ["A", "B"]),
        (["A", "B,C", None], ["A", "B", "C"]),
        (None, []),
        (17, ["!"]),
        (["A", 17], ["A", "!"]),
        (",".join([*MANY, "T3"]), MANY),
        (",".join([*MANY, "T16", "T17"]), [*MANY, "!"]),
    ],
)
def test_a_set_of_tokens_is_no_longer_than_it_may_be(value: Any, tokens: list[str]) -> None:
    assert extract({HEADER: value}) == tokens
    text = next(iter(tokens), None)
    assert extract([(HEADER, value), ("causal-token", text)]) == tokens
