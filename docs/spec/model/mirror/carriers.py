"""The mirror of Carriers.tla: one browser's cookies under parallel requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mirror.bfs import Action, Config, Machine, Model, State, put

NOT_YET, ASKED, ANSWERED, OVER = range(4)
NONE: frozenset = frozenset()


def machine(k: Mapping[str, bool | int]) -> Machine:
    """A state is (jar, phase, names, token, done, told), as in the module; requests count from 1 there, from 0 here."""
    requests = range(k["Requests"])

    def joined(jar: frozenset) -> frozenset:
        return frozenset().union(*(token for _, token in jar))

    def over(state: State, r: int) -> tuple:
        _, phase, names, token, done, _ = state
        return put(phase, r, OVER), put(names, r, NONE), put(token, r, NONE), done

    def after(state: State) -> Iterator[tuple[Action, State]]:
        jar, phase, names, token, done, told = state
        for r in requests:
            if phase[r] == NOT_YET:
                under_way = sum(p in (ASKED, ANSWERED) for p in phase)
                if NOT_YET not in phase[:r] and under_way < k["Parallel"]:
                    presented = frozenset(name for name, _ in jar)
                    yield (
                        ("send", r),
                        (jar, put(phase, r, ASKED), put(names, r, presented), put(token, r, joined(jar)), done, told),
                    )
            elif phase[r] == ASKED:
                answered = put(phase, r, ANSWERED)
                yield ("write", r), (jar, answered, names, put(token, r, token[r] | {r}), done | {r}, told)
                yield ("read", r), (jar, answered, names, put(token, r, token[r] | done), done, told)
            elif phase[r] == ANSWERED:
                name = r if k["FRESH_NAME"] else -1
                gone = names[r] if k["EXACT"] else {n for n, _ in jar}
                left = frozenset(c for c in jar if c[0] != name and (c[0] not in gone or not k["TAKE_BACK"]))
                yield ("arrive", r), (left | {(name, token[r])}, *over(state, r), told | token[r])
                yield ("lose", r), (jar, *over(state, r), told)

    def tab(r: int) -> str:
        return f"Request {r + 1}"

    def writes(token: frozenset) -> str:
        return " and ".join(f"write {w + 1}" for w in sorted(token)) or "nothing"

    def tell(action: Action, before: State, after: State) -> str:
        what, r = action
        if what == "send":
            many = len(before[0])
            cookies = f"{many} cookie{'s' * (many != 1)}"
            return f"{tab(r)} is sent with {cookies}: together they demand {writes(after[3][r])}."
        if what == "write":
            return f"The server writes for request {r + 1}: write {r + 1}. Its answer carries a token of {writes(after[3][r])}."
        if what == "read":
            return f"The server reads for request {r + 1}. Its answer carries a token of {writes(after[3][r])}."
        if what == "lose":
            return f"The answer to request {r + 1} never arrives."
        return f"The answer to request {r + 1} arrives. The browser now demands {writes(joined(after[0]))}; cookies: {len(after[0])}."

    def broken(invariant: str, state: State) -> str:
        jar, *_, told = state
        if invariant == "NothingForgotten":
            return f"The user was told of {writes(told)}; the next request will demand {writes(joined(jar))}."
        return f"{len(jar)} cookies, though never more than {k['Parallel']} requests were under way."

    n = len(requests)
    return Machine(
        initial=[(NONE, (NOT_YET,) * n, (NONE,) * n, (NONE,) * n, NONE, NONE)],
        after=after,
        invariants={
            "NothingForgotten": lambda s: s[5] <= joined(s[0]),
            "FewCookies": lambda s: len(s[0]) <= k["Parallel"],
        },
        tell=tell,
        broken=broken,
    )


MODEL = Model(
    module="Carriers",
    constants={"FRESH_NAME": True, "TAKE_BACK": True, "EXACT": True, "Requests": 4, "Parallel": 3},
    machine=machine,
    configs=(
        Config("", states=14_043, depth=13),
        Config("five", {"Requests": 5}, states=177_601, depth=16, by_hand=True),
        Config(
            "fresh_name",
            {"FRESH_NAME": False},
            violates="NothingForgotten",
            depth=7,
            story="""With one cookie name: the answer that arrives last wins

            Every answer sets the same cookie. Two tabs send what they have, and the slower answer replaces what the other one brought.""",
        ),
        Config(
            "exact",
            {"EXACT": False},
            violates="NothingForgotten",
            depth=7,
            story="""Taking back every cookie there is: another tab's token goes with them

            Each answer has a name of its own, but takes back all tokens that the browser holds by then, and not only those that its request
            had presented.""",
        ),
        Config(
            "take_back",
            {"TAKE_BACK": False},
            violates="FewCookies",
            depth=13,
            story="""Without taking anything back: a cookie for every request that there ever was

            Nothing is forgotten, and nothing ever goes: headers grow until some server refuses them.""",
        ),
    ),
)
