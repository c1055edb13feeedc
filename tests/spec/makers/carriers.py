"""Chooses what travels: headers, cookies and messages as they arrive, responses of every kind of caching, calls, jobs and refusals."""

from collections.abc import Iterator
from typing import Any

from tests.spec.twins import carriers as twin

ABOUT = (
    "Tokens are opaque texts here. Header fields and messages are lists of [name, value]; those of an answer are sorted, names in lower "
    "case (of carrier.inject they stay as they are, and ours is the last). carrier.extract: a `carrier` -> its `tokens`, and whether one "
    "more stands among them that is `unopenable`. carrier.inject: a "
    "`carrier` and a `token`, or null -> the `carrier`. carrier.present: a request's `headers`, how `cookies` are set (null: not at all) "
    "and whether the `header` is used (if absent: it is) -> what it presents, and the names of the `cookies` that a response "
    "takes back. carrier.answer: the same, "
    "what the `session` has come to (`changed`; its `token`, null if nothing is demanded), the application's `response` fields, and "
    "`ttl_s` -> the response's `headers` without the cookies that are added, the cookie that it `gives` (`prefix` of its name, whether "
    "the name is `fresh`: a slot of at least 6 characters, which 32 random bits take, and none that arrived; "
    "its `value` and `attributes`), the names that it `deletes`, and the `marks`: the different sets of attributes of those. "
    "carrier.call: of a service's `origin`, a `url`, its `headers` and the session's `token` -> "
    "whether it `goes` there, and the `headers`. carrier.job: a `message`, and `now` in Unix seconds -> what it presents, whether it says "
    "all that the job depends on (`whole`), and whether it was `retried`. carrier.refusal: an `error`, the `evidence` that it has, "
    "`retry_after_s` and the request's `accept` -> whether it is `answered`, the `status`, `headers` without the length, members of a "
    "`problem`, and whether any of it `tells` the evidence. carrier.replay: "
    "`header`, `value`, `seen` and `methods` of the setting; `headers` and `method` of the request; the `site` that could serve; whether "
    "the session `wrote` -> the `field`, or null."
)
Vector = dict[str, Any]
HOST, PLAIN = "__Host-causal-", "causal-"


def vector(name: str, op: str, cites: str, given: dict[str, Any], out: dict[str, Any]) -> Vector:
    return {"name": name, "op": f"carrier.{op}", "cites": cites.split(), "in": given, "out": out}


def extract(name: str, cites: str, *carrier: list[Any]) -> Vector:
    return vector(name, "extract", cites, {"carrier": list(carrier)}, twin.extract(list(carrier)))


def inject(name: str, cites: str, token: str | None, *carrier: list[Any]) -> Vector:
    given = {"carrier": list(carrier), "token": token}
    return vector(name, "inject", cites, given, {"carrier": twin.inject(list(carrier), token)})


def present(name: str, cites: str, *headers: list[Any], **settings: Any) -> Vector:
    given = {"headers": list(headers), **settings}
    out = twin.present(list(headers), settings.get("cookies", {}), settings.get("header", True))
    return vector(name, "present", cites, given, out)


def answer(
    name: str,
    cites: str,
    *headers: list[Any],
    response: list[list[str]] | None = None,
    token: str | None = "NEW",
    changed: bool = True,
    **settings: Any,
) -> Vector:
    given = {
        "headers": list(headers),
        "session": {"changed": changed, "token": token},
        "response": response or [],
        "ttl_s": 86_400,
        **settings,
    }
    out = twin.answer(
        list(headers),
        settings.get("cookies", {}),
        settings.get("header", True),
        given["session"],
        given["response"],
        given["ttl_s"],
    )
    return vector(name, "answer", cites, given, out)


def cookies(*pairs: str) -> list[str]:
    return ["Cookie", "; ".join(pairs)]


def vectors() -> Iterator[Vector]:
    yield from fields()
    yield from arriving()
    yield from answering()
    yield from caching()
    yield from calls()
    yield from jobs()
    yield from refusals()


def fields() -> Iterator[Vector]:
    yield extract("no token", "H-1", ["Accept", "application/json"])
    yield extract("one token", "H-1", ["Causal-Token", "A"])
    yield extract("a name in any case", "H-1", ["CAUSAL-token", "A"])
    yield extract("a name that begins alike", "H-1", ["Causal-Token-Of-Old", "A"], ["X-Causal-Token", "B"])
    yield extract("a field that is repeated", "H-1", ["Causal-Token", "A"], ["x", "1"], ["causal-token", "B"])
    yield extract("a field that a proxy has folded", "H-1", ["Causal-Token", "A, B,C"])
    yield extract("empty places are no tokens", "H-1", ["Causal-Token", " , A,, ,B, "])
    yield extract("an empty field", "H-1", ["Causal-Token", ""])
    yield extract("blanks and tabs around", "H-1", ["Causal-Token", "\tA \t,  B\t"])
    yield extract("other white space is part of what it is beside", "H-1", ["Causal-Token", "A\u00a0,\u2003B,C\n"])
    yield extract("a token twice is one", "H-2", ["Causal-Token", "A, B"], ["Causal-Token", "A"])
    yield extract("a message's field that is a list", "H-2", ["Causal-Token", ["A", "B,C"]])
    yield extract("a message's field that is null", "H-2", ["Causal-Token", None])
    yield extract("a message's field that is no text may have demanded anything", "H-2", ["Causal-Token", 17])
    yield extract("a list with what is no text", "H-2", ["Causal-Token", ["A", {"token": "B"}]])
    yield extract(
        "a list with null, which is none, and with a list, which is no text", "H-2", ["Causal-Token", [None, ["A"]]]
    )
    yield extract("a list with null alone", "H-2", ["Causal-Token", [None]])
    full = ",".join(f"T{n}" for n in range(16))
    yield extract("what is no text, before 16 tokens", "H-2 H-3", ["Causal-Token", 17], ["Causal-Token", full])
    for count in (16, 17, 40):
        name = f"{count} tokens of one carrier"
        yield extract(name, "H-3", ["Causal-Token", ",".join(f"T{n}" for n in range(count))])
    yield extract(
        "17 tokens, one of them twice", "H-2 H-3", ["Causal-Token", ",".join([*(f"T{n}" for n in range(16)), "T3"])]
    )
    yield inject("a token put into a carrier", "H-4", "A", ["Accept", "text/html"])
    yield inject(
        "a token put in the place of others", "H-4", "A", ["causal-token", "OLD"], ["x", "1"], ["CAUSAL-TOKEN", "OLDER"]
    )
    yield inject("nothing to demand", "H-4", None, ["x", "1"])
    yield inject("nothing to demand any more", "H-4", None, ["causal-token", "OLD"], ["x", "1"])


def arriving() -> Iterator[Vector]:
    yield present("a request that presents nothing", "H-5", ["Cookie", "theme=dark"])
    yield present("a cookie", "H-5", cookies("theme=dark", f"{HOST}a1=A"))
    yield present("several cookies", "H-5 H-9", cookies(f"{HOST}a1=A", f"{HOST}b2=B"), cookies(f"{HOST}c3=C"))
    yield present(
        "a cookie's name is taken exactly", "H-5", cookies("__host-causal-a1=A", "__HOST-CAUSAL-b2=B", f"x{HOST}c3=C")
    )
    yield present(
        "a name that any host of the site could set counts for nothing", "H-5", cookies(f"{PLAIN}a1=A", f"{HOST}b2=B")
    )
    yield present("also if it comes second", "H-5", cookies(f"{HOST}b2=B", f"{PLAIN}a1=A", "causal-c3=C"))
    plain = {"secure": False}
    yield present(
        "without TLS the other kind counts, and alone", "H-5", cookies(f"{PLAIN}a1=A", f"{HOST}b2=B"), cookies=plain
    )
    yield present(
        "another application's name", "H-5", cookies("__Host-shop-a1=A", f"{HOST}b2=B"), cookies={"name": "shop"}
    )
    yield present("a name that goes on with a hyphen is another application's", "H-5", cookies(f"{HOST}admin-a1=A"))
    yield present(
        "a slot of 64 letters, digits and underscores, and one of 65",
        "H-5",
        cookies(f"{HOST}{'x_9Z' * 16}=A", f"{HOST}{'x' * 65}=B"),
    )
    yield present(
        "no slot, and slots of other characters",
        "H-5",
        cookies(f"{HOST}=A", f"{HOST}a b=B", f"{HOST}a,b=C", f"{HOST}a.b=D"),
    )
    for letters in ("\u00e9t\u00e9", "stra\u00dfe", "\u0663\u0664", "\uff21\uff11", "\u212a"):
        yield present(
            f"a slot of letters and digits that are not ASCII: {letters!a}",
            "H-5",
            cookies(f"{HOST}{letters}=A", f"{HOST}a1=B"),
        )
    yield present("a cookie without a value", "H-6", cookies(f"{HOST}a1=", f"{HOST}b2"))
    yield present("a value in quotes is not unquoted", "H-6", cookies(f'{HOST}a1="A"'))
    yield present("a value with an equals sign", "H-6", cookies(f"{HOST}a1=A=1"))
    yield present("blanks and tabs around a cookie", "H-6", ["Cookie", f"x=1;{HOST}a1=A;\t{HOST}b2=B\t ; y=2"])
    for white in ("\u00a0", "\u0085", "\u2000", "\u3000", "\x0b", "\x0c", "\x1f", "\r", "\n", "\ufeff"):
        yield present(
            f"U+{ord(white):04X} is part of a name, which any host of the site could set",
            "H-5 H-6",
            ["Cookie", f"x=1; {white}{HOST}a1=A; {HOST}b2{white}=B"],
        )
    yield present("a blank before the equals sign", "H-5 H-6", cookies(f"{HOST}a1 =A"))
    yield present("a blank after the equals sign", "H-6", cookies(f"{HOST}a1= A"))
    yield present("a comma separates nothing", "H-6", cookies(f"{HOST}a1=A,{HOST}b2=B"))
    yield present(
        "what stands inside another's value is none", "H-6", cookies(f'prefs={{"a": 1, {HOST}a1=A}}', f"b={HOST}b2=B")
    )
    yield present("one name, set for two paths", "H-6", cookies(f"{HOST}a1=A", f"{HOST}a1=B"))
    pair = f"{HOST}a1=A"
    filled = f"{pair}; x={'y' * (65_536 - len(pair) - 4)}"
    yield present("65,536 characters of cookies", "H-7", ["Cookie", filled])
    yield present("65,537 characters of cookies", "H-7", ["Cookie", filled + "y"])
    yield present(
        "what was read before counts", "H-7", cookies(f"{HOST}b2=B"), ["Cookie", filled], cookies(f"{HOST}c3=C")
    )
    yield present("headers without such a cookie are not counted", "H-7", ["Cookie", "x" * 70_000], cookies(pair))
    many = cookies(*(f"{HOST}{n}=A" for n in range(66)))
    yield present("66 cookies with one token", "H-8", many)
    yield present(
        "cookies and a header are one set", "H-9", ["Causal-Token", "A, B"], cookies(f"{HOST}a1=C", f"{HOST}b2=A")
    )
    both = (["Causal-Token", ",".join(f"T{n}" for n in range(12))], cookies(*(f"{HOST}{n}=C{n}" for n in range(5))))
    yield present("17 tokens of header and cookies together", "H-3 H-9", *both)
    yield present("a header where none is used", "H-9", ["Causal-Token", "A"], cookies(f"{HOST}a1=C"), header=False)
    yield present("cookies where none are used", "H-9", ["Causal-Token", "A"], cookies(f"{HOST}a1=C"), cookies=None)


def answering() -> Iterator[Vector]:
    yield answer(
        "nothing has changed",
        "H-10",
        changed=False,
        response=[["Content-Type", "text/html"], ["Cache-Control", "max-age=60"]],
    )
    yield answer("nothing has changed for a client with a cookie", "H-10", cookies(f"{HOST}a1=A"), changed=False)
    yield answer("a client's first token", "H-11 H-13 H-14")
    yield answer(
        "exactly the cookies that arrived are taken back", "H-11 H-13", cookies("x=1", f"{HOST}a1=A", f"{HOST}b2=B")
    )
    yield answer("and none of another kind", "H-5 H-11", cookies(f"{PLAIN}a1=A", f"{HOST}b2=B"))
    yield answer("a name that came twice is taken back once", "H-11", cookies(f"{HOST}a1=A", f"{HOST}a1=B"))
    five = [f"{HOST}{n}=T{n}" for n in range(5)]
    four = five[:4]
    yield answer("four cookies stay four while nothing changes", "H-12", cookies(*four), changed=False)
    yield answer("five cookies are folded into one", "H-12", cookies(*four, f"{HOST}4=T4"), changed=False)
    yield answer("five cookies of four names", "H-12", cookies(*four, f"{HOST}3=T4"), changed=False)
    yield answer("no more than 64 are taken back at once", "H-8 H-12", cookies(*(f"{HOST}{n}=A" for n in range(66))))
    yield answer("without TLS", "H-13", cookies(f"{PLAIN}a1=A"), cookies={"secure": False})
    embedded = {"same_site": "None", "partitioned": True, "name": "shop"}
    yield answer("for pages that others embed", "H-13", cookies("__Host-shop-a1=A"), cookies=embedded)
    yield answer("strict", "H-13", cookies={"same_site": "Strict"})
    yield answer("a life in whole seconds", "H-13", ttl_s=3600.9)
    theirs = [["Causal-Token", "!of the application's own"], ["Set-Cookie", "a=1"]]
    yield answer("the application's own field gives way, its cookies do not", "H-14", response=theirs)
    yield answer(
        "the application's own field gives way where the header is not used, too",
        "H-4 H-14",
        response=[["Causal-Token", "OLD"]],
        header=False,
    )
    yield answer(
        "nothing is demanded any more, and the application's own field",
        "H-4 H-16",
        cookies(f"{HOST}a1=A"),
        token=None,
        response=[["Causal-Token", "OLD"], ["X", "1"]],
    )
    yield answer("five cookies, and nothing is demanded", "H-12 H-16", cookies(*five), token=None, changed=False)
    yield answer(
        "one cookie, nothing is demanded, and nothing has changed",
        "H-10 H-16",
        cookies(five[0]),
        token=None,
        changed=False,
    )
    yield answer("the header is not used", "H-14", header=False)
    yield answer("cookies are not used", "H-15", cookies(f"{HOST}a1=A"), cookies=None)
    yield answer("a client that presents the header is given no cookies", "H-15", ["Causal-Token", "A"])
    yield answer("also if it has nothing to present", "H-15", ["Causal-Token", ""])
    yield answer("but a client that presents both is given both", "H-15", ["Causal-Token", "A"], cookies(f"{HOST}a1=B"))
    yield answer("a header that is not used says nothing", "H-15", ["Causal-Token", "A"], header=False)
    yield answer("nothing is demanded any more", "H-16", cookies(f"{HOST}a1=A"), token=None)
    yield answer("nothing is demanded, and nothing was", "H-16", token=None)


def caching() -> Iterator[Vector]:
    for said in (
        ["max-age=60"],
        ["no-store"],
        ["no-cache, max-age=0", "must-revalidate"],
        ["private, max-age=60"],
        ['private="set-cookie", max-age=60'],
        ['no-cache="a, b", immutable'],
        ['no-cache="public, x", max-age=1'],
        [" , ,max-age=1,"],
    ):
        fields = [["cache-control", value] for value in said]
        yield answer(f"Cache-Control: {' and '.join(said)}", "H-17", response=[*fields, ["ETag", "x"]])
    for said in (
        ["public"],
        ["PUBLIC, max-age=60"],
        ["max-age=60", "public"],
        ["max-age=60, s-maxage=600"],
        ["s-maxage = 600"],
        ["public, private"],
        ["public, no-store"],
        ["no-store", "s-maxage=0"],
        ["public, no-cache, max-age=0"],
        ["private, no-store", "public"],
    ):
        fields = [["cache-control", value] for value in said]
        yield answer(f"a response for caches: {' and '.join(said)}", "H-18", cookies(f"{HOST}a1=A"), response=fields)
    yield answer("a directive that begins like one for caches", "H-18", response=[["cache-control", "publicity=1"]])
    for name, value in (
        ("CDN-Cache-Control", "max-age=60"),
        ("Vendor-CDN-Cache-Control", "s-maxage=60"),
        ("Surrogate-Control", "max-age=60"),
        ("Edge-Control", "cache-maxage=60s"),
        ("X-Accel-Expires", "60"),
        ("CDN-Cache-Control", "no-store"),
        ("CDN-Cache-Control", "private, max-age=60"),
        ("CDN-Cache-Control", ""),
        ("Edge-Control", "bypass-cache"),
        ("X-Accel-Expires", "0"),
        ("X-Accel-Expires", " 0\t"),
        ("X-Cache-Control-Was", "public"),
    ):
        yield answer(f"private, and {name}: {value}", "H-19", response=[["cache-control", "private"], [name, value]])
    yield answer("Vary is left as it is", "H-20", ["Causal-Token", "A"], response=[["Vary", "Accept"]])
    yield answer("Vary is not added", "H-20", cookies(f"{HOST}a1=A"))
    allows = ["Access-Control-Allow-Origin", "https://app.example"]
    yield answer("pages of another origin may read the response", "H-21", response=[allows])
    yield answer("and have a list of fields", "H-21", response=[allows, ["Access-Control-Expose-Headers", "X-A"]])
    yield answer(
        "which has the field already", "H-21", response=[allows, ["access-control-expose-headers", "x-a, CAUSAL-TOKEN"]]
    )
    yield answer("which is empty", "H-21", response=[allows, ["Access-Control-Expose-Headers", ""]])
    yield answer(
        "which is a star: that counts for requests without credentials only",
        "H-21",
        response=[allows, ["Access-Control-Expose-Headers", "*"]],
    )
    yield answer(
        "a page of another origin asks, who allows it is further out",
        "H-21",
        ["Origin", "https://app.example"],
        ["Host", "shop.example"],
    )
    yield answer(
        "a page of this origin asks, in another case",
        "H-21",
        ["Origin", "https://shop.example"],
        ["Host", "Shop.Example"],
    )
    for name, origin, host in (
        ("a page of this origin asks, in another case, the other way round", "https://SHOP.Example", "shop.example"),
        ("a page of this origin asks, on its port", "https://shop.example:8443", "shop.example:8443"),
        ("a page of another port asks", "https://shop.example:8444", "shop.example:8443"),
        ("a page of this host asks, from a port", "https://shop.example:8443", "shop.example"),
        (
            "the scheme's own port is written once: as written, it is another",
            "https://shop.example",
            "shop.example:443",
        ),
        ("the scheme's own port is written twice", "https://shop.example:443", "shop.example:443"),
        ("a page of a host that begins alike asks", "https://shop.example.org", "shop.example"),
        ("a page of another host of the site asks", "https://www.shop.example", "shop.example"),
        ("a page without an origin of its own asks", "null", "shop.example"),
        ("an empty Origin is none", "", "shop.example"),
    ):
        yield answer(name, "H-21", ["Origin", origin], ["Host", host])
    yield answer("who asks says no Origin", "H-21", ["Host", "shop.example"])
    yield answer("a page of this origin asks", "H-21", ["Origin", "https://shop.example"], ["Host", "shop.example"])
    yield answer("pages of another origin, and the header is not used", "H-21", header=False, response=[allows])


def calls() -> Iterator[Vector]:
    def call(
        name: str, cites: str, origin: str, url: str, token: str | None = "A", headers: list[list[str]] | None = None
    ) -> Vector:
        given = {"origin": origin, "url": url, "headers": headers or [], "token": token}
        return vector(name, "call", cites, given, twin.call(origin, url, given["headers"], token))

    service = "https://orders.internal"
    yield call("a call to the service", "H-22 H-23", service, f"{service}/photos?x=1")
    for url in (
        "https://ORDERS.internal:443/",
        "HTTPS://orders.internal/x",
        "http://orders.internal/",
        "http://orders.internal:443/x",
        "https://orders.internal:8443/",
        "https://orders.internal.example/",
        "https://orders/",
        "https://me@orders.internal/",
        "https://orders.internal@evil.example/",
    ):
        yield call(f"to {url}", "H-22", service, url, headers=[["Accept", "text/html"]])
    yield call("the service is written in capitals", "H-22", "HTTPS://Orders.INTERNAL", f"{service}/")
    yield call("a port is a number", "H-22", service, "https://orders.internal:0443/")
    yield call("a port that is the scheme's own", "H-22", "http://orders.internal:80", "http://orders.internal/")
    yield call("a port that begins alike", "H-22", "http://orders.internal:47", "http://orders.internal:4711/")
    yield call(
        "what the caller put there goes along", "H-23", service, service, headers=[["causal-token", "MINE"], ["x", "1"]]
    )
    yield call("the caller put the same there", "H-23", service, service, headers=[["Causal-Token", "A"]])
    many = ",".join(f"T{n}" for n in range(17))
    yield call("more of the caller's than are opened", "H-23", service, service, headers=[["Causal-Token", many]])
    blank = [["Causal-Token", " , "]]
    yield call("nothing is demanded, by the caller neither", "H-23", service, service, token=None, headers=blank)
    yield call("nothing is demanded", "H-23", service, service, token=None)
    yield call(
        "nothing is demanded but what the caller put there",
        "H-23",
        service,
        service,
        token=None,
        headers=[["Causal-Token", "MINE"]],
    )
    yield call(
        "elsewhere what the caller put there is the caller's",
        "H-22",
        service,
        "https://evil.example/",
        headers=[["Causal-Token", "MINE"]],
    )


def jobs() -> Iterator[Vector]:
    def job(name: str, cites: str, *message: list[Any]) -> Vector:
        given = {"message": list(message), "now": 1000}
        return vector(name, "job", cites, given, twin.job(list(message), 1000))

    token = ["Causal-Token", "A"]
    yield job("a message with a token", "H-24", ["id", 17], token)
    yield job("a message without a token", "H-24", ["id", 17])
    yield job("a message whose token is no text", "H-24", ["Causal-Token", 5])
    yield job("published inside a block", "H-24", token, ["Causal-Partial", "1"])
    yield job("of a publisher who knew in part until later", "H-24", token, ["Causal-Partial", "1001"])
    yield job("of a publisher who knew in part until now", "H-24", token, ["Causal-Partial", "1000"])
    yield job("a time that is none", "H-24", token, ["causal-partial", "soon"])
    yield job("a time that is too long to be one", "H-24", token, ["Causal-Partial", "0" * 16])
    yield job("a time in digits of another script", "H-24", token, ["Causal-Partial", "\u0669\u0660\u0660"])
    yield job("a time in digits of a fraction", "H-24", token, ["Causal-Partial", "900.0"])
    yield job("0 is a time that is over, 1 is none", "H-24", token, ["Causal-Partial", "0"])
    yield job("two times, one of which is over", "H-24", token, ["Causal-Partial", ["900", "1100"]])
    yield job("a message that was put off", "H-25", token, ["Causal-Retried", "1"])
    yield job("a message with an empty mark", "H-25", token, ["Causal-Retried", ""])


def refusals() -> Iterator[Vector]:
    def refusal(name: str, cites: str, error: str, again: float | None = None, accept: str = "") -> Vector:
        given = {"error": error, "evidence": "shard 7, origin 41", "retry_after_s": again, "accept": accept}
        return vector(name, "refusal", cites, given, twin.refusal(error, again, accept))

    for error in (*twin.STATUS, "ConfigError", "StoreError", "ClockDrift"):
        yield refusal(error, "H-26 H-27 H-28", error)
    for again in (0.0, 0.2, 1, 1.5, 30):
        yield refusal(f"come back after {again} s", "H-27", "Overloaded", again)
    yield refusal("a loss, and when to come back", "H-27", "WriteLost", 2.5)
    yield refusal("to who accepts JSON", "H-28", "WriteLost", accept="text/html, Application/JSON;q=0.9")
    yield refusal("to who accepts problem details", "H-28", "GateTimeout", 1, accept="application/problem+json")
    yield refusal("to a browser", "H-28", "GateTimeout", 1, accept="text/html,*/*")

    def replay(name: str, *headers: list[str], **more: Any) -> Vector:
        given = {
            "header": "Fly-Replay",
            "value": "region={site}",
            "headers": list(headers),
            "method": "GET",
            "site": "eu",
            "wrote": False,
        }
        given |= more
        return vector(name, "replay", "H-29", given, twin.replay(given))

    yield replay("sent to a site that can serve it")
    yield replay("a session that wrote is not sent round", wrote=True)
    yield replay("a request that was sent here is not sent on", ["Fly-Replay-Src", "instance=1"])
    yield replay("an empty mark is none", ["Fly-Replay-Src", ""])
    yield replay("a mark of another name", ["X-Sent", "1"], seen="X-Sent")
    yield replay("a mark that is not the one", ["Fly-Replay-Src", "instance=1"], seen="X-Sent")
    yield replay("a method that may be sent again", methods=["get"])
    yield replay("a method that may not", methods=["get"], method="POST")
