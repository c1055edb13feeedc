"""A reader of as much CDDL (RFC 8610) as docs/spec/token.cddl is written in: does a value match, and by which parts of the rules?

A *point* is a member of an array or map, or one alternative of a choice. What has been matched by no value has not been tried.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import cbor2

TOKENS = re.compile(r'\s+|;[^\n]*|(?P<token>"[^"]*"|\.\.|\.[a-z]+|[A-Za-z_][\w-]*|\d+|[=/\[\]{}:,?*+()])')
Points = frozenset[str]
Match = Callable[[Any], Points | None]
NONE: Points = frozenset()
TYPES: dict[str, Callable[[Any], bool]] = {
    "bstr": lambda x: type(x) is bytes,
    "tstr": lambda x: type(x) is str,
    "null": lambda x: x is None,
}


def words(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        found = TOKENS.match(text, at)
        assert found, text[at : at + 40]
        at = found.end()
        if found["token"]:
            yield found["token"]


def deterministic(data: bytes, match: Match) -> Points | None:
    """What a whole CBOR item matches; None unless it is in its deterministic form, which CDDL cannot ask for and we always do."""
    try:
        value = cbor2.loads(data)
        return match(value) if cbor2.dumps(value, canonical=True) == data else None
    except cbor2.CBORError:
        return None


class Grammar:
    """The rules of a text, each a function from a value to the points that it took, or None."""

    def __init__(self, text: str) -> None:
        self.words = [*words(text)]
        self.rules: dict[str, Match] = {}
        self.points: dict[str, set[str]] = {}  # by rule
        while self.words:
            self.rule = self.take()
            self.points[self.rule] = set()
            self.take("=")
            self.rules[self.rule] = self.choice("")

    def take(self, expected: str | None = None) -> str:
        word = self.words.pop(0)
        assert expected in (None, word), f"{expected} expected, not {word}, in {self.rule}"
        return word

    def next_is(self, *expected: str) -> bool:
        return bool(self.words) and self.words[0] in expected

    def point(self, name: str) -> Points:
        self.points[self.rule].add(f"{self.rule} {name}".strip())
        return frozenset({f"{self.rule} {name}".strip()})

    def choice(self, where: str) -> Match:
        """A type: alternatives in order."""
        kinds = [self.kind(where)]
        while self.next_is("/"):
            self.take()
            kinds.append(self.kind(where))
        if len(kinds) == 1:
            return kinds[0]
        marks = [self.point(f"{where}/{nth}") for nth in range(len(kinds))]

        def match(value: Any) -> Points | None:
            found = ((kind(value), mark) for kind, mark in zip(kinds, marks, strict=True))
            return next((points | mark for points, mark in found if points is not None), None)

        return match

    def kind(self, where: str) -> Match:
        """A type without alternatives, and its control."""
        word = self.take()
        if word == "[":
            return self.array(where)
        if word == "{":
            return self.map(where)
        if word.isdigit():
            low, high = int(word), int(word)
            if self.next_is(".."):
                self.take()
                high = int(self.take())
            return lambda x: NONE if type(x) is int and low <= x <= high else None
        if word.startswith('"'):
            return lambda x: NONE if x == word[1:-1] else None
        if word not in TYPES:
            return lambda x: self.rules[word](x)
        base = TYPES[word]
        control = self.control() if self.words and re.fullmatch(r"\.[a-z]+", self.words[0]) else lambda _: NONE
        return lambda x: control(x) if base(x) else None

    def control(self) -> Match:
        name = self.take()
        if name == ".cbor":
            rule = self.take()
            return lambda x: deterministic(x, self.rules[rule])
        if name == ".regexp":
            pattern = self.take()[1:-1]
            return lambda x: NONE if re.fullmatch(pattern, x) else None
        assert name == ".size"
        if self.next_is("("):
            _, low, _, high, _ = (self.take() for _ in range(5))
        else:
            low = high = self.take()
        return lambda x: NONE if int(low) <= len(x) <= int(high) else None

    def members(self, where: str, end: str) -> Iterator[tuple[str, str, Match, Points]]:
        """(occurrence, key, type, point) of each member of a group."""
        while not self.next_is(end):
            occurrence = self.take() if self.next_is("?", "*", "+") else ""
            key = self.take() if self.words[1] == ":" else ""
            if key:
                self.take(":")
            inner = f"{where}.{key}" if key else f"{where}[]"
            yield occurrence, key, self.choice(inner), self.point(inner)
            if self.next_is(","):
                self.take()
        self.take(end)

    def array(self, where: str) -> Match:
        members = [*self.members(where, "]")]
        if len(members) == 1 and members[0][0]:
            ((least, _, kind, point),) = members  # a list of one kind

            def match_list(value: Any) -> Points | None:
                if type(value) is not list or (least == "+" and not value):
                    return None
                found = [kind(item) for item in value]
                return None if None in found else NONE.union(*(point | (one or NONE) for one in found))

            return match_list
        assert not any(occurrence for occurrence, *_ in members)

        def match(value: Any) -> Points | None:
            if type(value) is not list or len(value) != len(members):
                return None
            found = [kind(item) for item, (_, _, kind, _) in zip(value, members, strict=True)]
            return None if None in found else NONE.union(*(one or NONE for one in found), *(m[3] for m in members))

        return match

    def map(self, where: str) -> Match:
        members = [*self.members(where, "}")]

        def match(value: Any) -> Points | None:
            if type(value) is not dict:
                return None
            points, left = NONE, dict(value)
            for occurrence, key, kind, point in members:
                name: Any = int(key) if key.isdigit() else key
                if name in left:
                    found = kind(left.pop(name))
                    if found is None:
                        return None
                    points |= found | point
                elif occurrence != "?":
                    return None
            return None if left else points

        return match
