"""Each numbered sentence of docs/spec/carriers.md: its vectors hold for this library, and notice who violates it."""

import types
from collections.abc import Mapping
from typing import Any

import pytest

from tests.spec.violations import Changes, check


def answers(twin: types.ModuleType, op: str, given: Mapping[str, Any]) -> Any:
    """What a twin answers."""
    cookies, by_header = given.get("cookies", {}), given.get("header", True)
    match op:
        case "carrier.extract":
            return twin.extract(given["carrier"])
        case "carrier.inject":
            return {"carrier": twin.inject(given["carrier"], given["token"])}
        case "carrier.present":
            return twin.present(given["headers"], cookies, by_header)
        case "carrier.answer":
            return twin.answer(
                given["headers"], cookies, by_header, given["session"], given["response"], given["ttl_s"]
            )
        case "carrier.call":
            return twin.call(given["origin"], given["url"], given["headers"], given["token"])
        case "carrier.job":
            return twin.job(given["message"], given["now"])
        case "carrier.refusal":
            return twin.refusal(given["error"], given["retry_after_s"], given["accept"])
        case _:
            return twin.replay(given)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            (("return name.lower() == wanted.lower()", "return name == wanted"),),
            marks=pytest.mark.spec("H-1"),
            id="H-1: names in one case",
        ),
        pytest.param(
            (('(part.strip(" \\t") for part in value.split(","))', '(part.strip(" \t") for part in [value])'),),
            marks=pytest.mark.spec("H-1"),
            id="H-1: no commas",
        ),
        pytest.param(
            (
                (
                    '[*filter(None, (part.strip(" \\t") for part in value.split(",")))]',
                    '[part.strip(" \\t") for part in value.split(",")]',
                ),
            ),
            marks=pytest.mark.spec("H-1"),
            id="H-1: empty places count",
        ),
        pytest.param(
            (('(part.strip(" \\t") for part', "(part.strip() for part"),),
            marks=pytest.mark.spec("H-1"),
            id="H-1: any white space is dropped",
        ),
        pytest.param(
            (
                (
                    "        if token not in different:\n            different.append(token)",
                    "        different.append(token)",
                ),
            ),
            marks=pytest.mark.spec("H-2"),
            id="H-2: equal tokens are two",
        ),
        pytest.param(
            (("        return [UNOPENABLE]", "        return []"),),
            marks=pytest.mark.spec("H-2"),
            id="H-2: what is no text is nothing",
        ),
        pytest.param((("MOST_TOKENS = 16", "MOST_TOKENS = 17"),), marks=pytest.mark.spec("H-3"), id="H-3: 17"),
        pytest.param(
            ((" or len(different) > MOST_TOKENS", ""),), marks=pytest.mark.spec("H-3"), id="H-3: the rest is forgotten"
        ),
        pytest.param(
            (("kept = [pair for pair in carrier if not is_field(pair[0], FIELD)]", "kept = carrier"),),
            marks=pytest.mark.spec("H-4"),
            id="H-4: the old one stays",
        ),
        pytest.param(
            (("1 <= len(slot) <= 64", "1 <= len(slot) <= 65"),), marks=pytest.mark.spec("H-5"), id="H-5: 65 letters"
        ),
        pytest.param(
            (("1 <= len(slot) <= 64", "len(slot) <= 64"),), marks=pytest.mark.spec("H-5"), id="H-5: no letters"
        ),
        pytest.param((('0123456789_"', '0123456789_-"'),), marks=pytest.mark.spec("H-5"), id="H-5: hyphens"),
        pytest.param(
            (('("__Host-" if cookies.get("secure", True) else "") + ', '"" + '),),
            marks=pytest.mark.spec("H-5"),
            id="H-5: the other kind counts",
        ),
        pytest.param(
            (('pair[:at].lstrip(" \\t")', "pair[:at].lstrip()"),),
            marks=pytest.mark.spec("H-6"),
            id="H-6: any white space is dropped",
        ),
        pytest.param(
            (('rstrip(" \\t")', 'strip("\\"")'),), marks=pytest.mark.spec("H-6"), id="H-6: quotes are dropped"
        ),
        pytest.param((("READ = 65_536", "READ = 65_537"),), marks=pytest.mark.spec("H-7"), id="H-7: 65,537"),
        pytest.param(
            (
                (
                    "            tokens.append(UNOPENABLE)\n            break",
                    "            tokens.append(UNOPENABLE)\n            read -= len(header)\n            continue",
                ),
            ),
            marks=pytest.mark.spec("H-7"),
            id="H-7: a later header is read",
        ),
        pytest.param((("TAKEN = 64", "TAKEN = 65"),), marks=pytest.mark.spec("H-8"), id="H-8: 65"),
        pytest.param(
            (("**presented(by_field + by_cookie)", "**presented(by_cookie + by_field)"),),
            marks=pytest.mark.spec("H-9"),
            id="H-9: cookies first",
        ),
        pytest.param(
            (("for name, value in headers if by_header and is_field", "for name, value in headers if is_field"),),
            marks=pytest.mark.spec("H-9"),
            id="H-9: fields that are not used",
        ),
        pytest.param(
            (('wanted = session["changed"] or len(names) > LONG_COOKIES', "wanted = True"),),
            marks=pytest.mark.spec("H-10"),
            id="H-10: always",
        ),
        pytest.param(
            (("        deletes = names\n", "        deletes = []\n"),),
            marks=pytest.mark.spec("H-11"),
            id="H-11: nothing is deleted",
        ),
        pytest.param(
            (("LONG_COOKIES = 4", "LONG_COOKIES = 5"),), marks=pytest.mark.spec("H-12"), id="H-12: five may stay"
        ),
        pytest.param(
            (("LONG_COOKIES = 4", "LONG_COOKIES = 3"),), marks=pytest.mark.spec("H-12"), id="H-12: four may not"
        ),
        pytest.param(
            (('always = ["HttpOnly", "Path=/", ', 'always = ["Path=/", '),),
            marks=pytest.mark.spec("H-13"),
            id="H-13: scripts may read it",
        ),
        pytest.param(
            (("math.floor(ttl_s)", "math.ceil(ttl_s)"),),
            marks=pytest.mark.spec("H-13"),
            id="H-13: a life that is rounded up",
        ),
        pytest.param(
            (("        out.append([FIELD, token])", "        pass"),),
            marks=pytest.mark.spec("H-14"),
            id="H-14: no field",
        ),
        pytest.param(
            (
                (
                    'if not is_field(pair[0], FIELD) and not is_field(pair[0], "cache-control")]',
                    'if not is_field(pair[0], "cache-control")]',
                ),
            ),
            marks=pytest.mark.spec("H-14"),
            id="H-14: the application's stays",
        ),
        pytest.param(
            (("if cookies is not None and (names or not presents_field):", "if cookies is not None:"),),
            marks=pytest.mark.spec("H-15"),
            id="H-15: cookies for everybody",
        ),
        pytest.param(
            (
                (
                    "if cookies is not None and (names or not presents_field):",
                    "if cookies is not None and not presents_field:",
                ),
            ),
            marks=pytest.mark.spec("H-15"),
            id="H-15: none for who presents both",
        ),
        pytest.param(
            (("or (token is None and not names):", "or token is None:"),),
            marks=pytest.mark.spec("H-16"),
            id="H-16: the cookies stay",
        ),
        pytest.param(
            (('", ".join(["private", *said])', '"private"'),),
            marks=pytest.mark.spec("H-17"),
            id="H-17: the rest is forgotten",
        ),
        pytest.param(
            (('", ".join(["private", *said])', '", ".join([*said, "private"])'),),
            marks=pytest.mark.spec("H-17"),
            id="H-17: private comes last",
        ),
        pytest.param(
            (('& {"public", "s-maxage"}', '& {"public"}'),),
            marks=pytest.mark.spec("H-18"),
            id="H-18: s-maxage is private",
        ),
        pytest.param(
            (('("cdn-cache-control", "surrogate-control")', '("cdn-cache-control",)'),),
            marks=pytest.mark.spec("H-19"),
            id="H-19: surrogates do not count",
        ),
        pytest.param(
            (('if name == "x-accel-expires" and value.strip() != "0":', "if False:"),),
            marks=pytest.mark.spec("H-19"),
            id="H-19: nginx does not count",
        ),
        pytest.param(
            (('{"private", "no-store", "bypass-cache"}', '{"private", "bypass-cache"}'),),
            marks=pytest.mark.spec("H-19"),
            id="H-19: no-store does not count",
        ),
        pytest.param(
            (("        out.append([FIELD, token])", '        out += [[FIELD, token], ["vary", FIELD]]'),),
            marks=pytest.mark.spec("H-20"),
            id="H-20: Vary",
        ),
        pytest.param(
            (('if crosses or any(is_field(name, "access-control-allow-origin") for name, _ in out):', "if False:"),),
            marks=pytest.mark.spec("H-21"),
            id="H-21: nobody else may read it",
        ),
        pytest.param(
            (("if not any(is_field(one, FIELD) for one in shown):", "if True:"),),
            marks=pytest.mark.spec("H-21"),
            id="H-21: twice",
        ),
        pytest.param(
            (("goes = spelled(origin) == spelled(url)", "goes = spelled(origin)[:2] == spelled(url)[:2]"),),
            marks=pytest.mark.spec("H-22"),
            id="H-22: any port",
        ),
        pytest.param(
            (("goes = spelled(origin) == spelled(url)", "goes = spelled(origin)[1] == spelled(url)[1]"),),
            marks=pytest.mark.spec("H-22"),
            id="H-22: any scheme",
        ),
        pytest.param(
            (('inject(headers, ",".join(there))', "inject(headers, token)"),),
            marks=pytest.mark.spec("H-23"),
            id="H-23: the caller's goes",
        ),
        pytest.param(
            (('lines(inject(headers, ""))', "lines(headers)"),),
            marks=pytest.mark.spec("H-23"),
            id="H-23: no empty field",
        ),
        pytest.param(((' and one != "1"', ""),), marks=pytest.mark.spec("H-24"), id="H-24: 1 is a time that is over"),
        pytest.param(
            (("one.isascii() and one.isdecimal()", "one.isdecimal()"),),
            marks=pytest.mark.spec("H-24"),
            id="H-24: digits of other scripts",
        ),
        pytest.param((("len(one) < 16", "len(one) < 17"),), marks=pytest.mark.spec("H-24"), id="H-24: 16 digits"),
        pytest.param(
            (('(found["tokens"] != [] or found["unopenable"]) and over', "over"),),
            marks=pytest.mark.spec("H-24"),
            id="H-24: no token says all",
        ),
        pytest.param(
            (("any(tokens_of(value) for name", "any([value] for name"),),
            marks=pytest.mark.spec("H-25"),
            id="H-25: an empty mark counts",
        ),
        pytest.param(
            (('"WriteLost": 409', '"WriteLost": 503'),), marks=pytest.mark.spec("H-26"), id="H-26: 503 for what is lost"
        ),
        pytest.param(
            (("max(1, math.ceil(retry_after_s))", "max(1, math.floor(retry_after_s))"),),
            marks=pytest.mark.spec("H-27"),
            id="H-27: rounded down",
        ),
        pytest.param(
            (("    elif status == 503:", "    elif False:"),),
            marks=pytest.mark.spec("H-27"),
            id="H-27: none where nothing is known",
        ),
        pytest.param(
            (('[["cache-control", "no-store"]]', '[["cache-control", "no-cache"]]'),),
            marks=pytest.mark.spec("H-28"),
            id="H-28: it may be kept",
        ),
        pytest.param((('"tells": False', '"tells": True'),), marks=pytest.mark.spec("H-28"), id="H-28: what it knows"),
        pytest.param(
            (('as_json = "json" in accept.lower()', "as_json = True"),),
            marks=pytest.mark.spec("H-28"),
            id="H-28: always JSON",
        ),
        pytest.param((('not given["wrote"]', "True"),), marks=pytest.mark.spec("H-29"), id="H-29: after a write"),
        pytest.param(
            (('and value_of(given["headers"], mark) == ""', "and mark"),),
            marks=pytest.mark.spec("H-29"),
            id="H-29: round and round",
        ),
        pytest.param(
            (("(methods is None or given", "(True or given"),), marks=pytest.mark.spec("H-29"), id="H-29: any method"
        ),
    ],
)
def test_a_sentence_holds_and_its_violation_is_noticed(changes: Changes, request: pytest.FixtureRequest) -> None:
    mark = request.node.get_closest_marker("spec")
    assert mark is not None
    check("carriers", mark.args[0], changes, answers)
