"""Somebody who looks at every endpoint past all sessions: what it has called applied, it shows; and in the end, all is everywhere.

Owns what the contract of `causal.engine` lets anybody demand of an endpoint at any moment. Does not look at a token.
"""

from __future__ import annotations

import reprlib
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import attrs

from causal.core.frontier import Frontier, Position, shard_id
from causal.core.watermark import Verdict, Watermark
from causal.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence

    from causal.engine import Commit, Endpoint, Link, ReadHandle
    from causal.testing.book import Book
    from causal.testing.subject import Subject

    Marks = Mapping[int, Watermark]
    Life = tuple[str, int, Hashable]


@attrs.frozen
class Look:
    """What an endpoint said and showed of one shard, in one snapshot. Thread-safety: immutable."""

    endpoint: str
    shard: str
    mark: Watermark
    promised: Mapping[int, int]
    """What that server had called applied in its life, by origin: it shows all of that."""
    shown: Mapping[str, str | None]
    seen: Frontier


@attrs.frozen
class Opened:
    """A snapshot that is open, and what it showed of a key: the rest is found out when it ends. Thread-safety: one thread at a time."""

    endpoint: str
    shard: str
    handle: ReadHandle[Any]
    first: str | None
    promised: Mapping[Life, Mapping[int, int]]


class Onlooker:
    """Looks at the endpoints of one subject, by links of its own.

    Thread-safety: one thread at a time; `look`, in another thread than the rest.
    """

    def __init__(self, subject: Subject, book: Book, shards: Sequence[str], keys: Sequence[str]) -> None:
        engine = next(iter(subject.engines.values()))
        self._subject, self._book, self._keys = subject, book, keys
        self._ids = {shard: shard_id(subject.number, engine.shards[shard]) for shard in shards}
        self._links: dict[str, Link[Any, Any]] = {}
        self._places: dict[int, Position] = {}
        self._heads: dict[tuple[int, int], int] = {}
        self._promised: dict[Life, Mapping[int, int]] = {}
        self._given: dict[str, tuple[Marks, Marks]] = {}

    def acknowledged(self, shard: str, writes: Iterable[int], commit: Commit | None) -> None:
        """Note where writes stand. Raises: AssertionError for one without a position, of another shard, or not past the last."""
        name, place = self._subject.name, None if commit is None else commit.position
        if commit is None or place is None:
            assert commit is not None, f"a block of {name} wrote, and ended without an acknowledgement"
            assert not commit.captured, f"a block of {name} wrote, and was acknowledged without a position"
            return
        assert place.shard == self._ids[shard], f"a commit of {name} on shard {self._ids[shard]} has {place}"
        last = self._heads.get((place.shard, place.origin), 0)
        assert place.offset > last, f"a commit of {name} has {place}, and one before it has {last} of that origin"
        self._heads[place.shard, place.origin] = place.offset
        self._places.update(dict.fromkeys(writes, place))

    # --- looking ----------------------------------------------------------------------------------------------------

    def look(self, site: str) -> list[Look]:
        """Look at all endpoints and shards that a process at a site can reach."""
        return self.ended(self.begun(site))

    def begun(self, site: str) -> list[Opened]:
        """Ask all endpoints that a process at a site can reach, and open a snapshot of each shard."""
        if site not in self._links:
            self._links[site] = self._subject.engines[site].open(self._subject.number)
        link, opened = self._links[site], list[Opened]()
        with ExitStack() as stack:
            for endpoint in link.endpoints:
                for shard in self._held(endpoint):
                    with suppress(Unreachable):
                        said = link.probe(endpoint.name, 1.0)
                        self._unchanged(f"{endpoint.name} from {site}", said)
                        self._forward(endpoint.name, said)
                        handle = link.read(endpoint.name, (self._ids[shard],))
                        stack.callback(handle.close)
                        first = self._subject.data.get(handle.connection, self._keys[0])
                        opened.append(Opened(endpoint.name, shard, handle, first, dict(self._promised)))
            stack.pop_all()
        return opened

    def ended(self, opened: Iterable[Opened]) -> list[Look]:
        """Look at what snapshots show, and end them."""
        looks = []
        with ExitStack() as stack:
            for one in opened:
                stack.callback(one.handle.close)
            for one in opened:
                marks = dict(one.handle.watermarks)
                shown = self._subject.page(one.handle.connection, self._keys)
                moved = self._subject.snapshots and shown[self._keys[0]] != one.first
                assert not moved, (
                    f"a snapshot of {one.endpoint} of {self._subject.name} showed {one.first!r}, and then {shown}"
                )
                end = getattr(one.handle, "end", None)
                if end is not None:
                    end()
                self._promise(one.endpoint, marks)
                mark = marks[self._ids[one.shard]]
                promised = one.promised.get((one.endpoint, mark.shard, mark.incarnation), {})
                looks.append(Look(one.endpoint, one.shard, mark, _higher(promised, mark), shown, one.handle.seen()))
        return looks

    def _held(self, endpoint: Endpoint) -> list[str]:
        held = endpoint.shards
        return [s for s, n in self._ids.items() if endpoint.serves and (held is None or n in held)]

    def _unchanged(self, asked: str, said: Marks) -> None:
        given, was = self._given.get(asked, ({}, {}))
        assert dict(given) == was, f"the watermarks of {asked} have changed after they were given: {was}, now {given}"
        self._given[asked] = said, dict(said)

    def _forward(self, endpoint: str, said: Marks) -> None:
        for mark in said.values():
            before = self._promised.get((endpoint, mark.shard, mark.incarnation), {})
            back = {o: (before[o], a) for o, (a, _) in mark.origins.items() if a < before.get(o, 0)}
            assert not back, f"{endpoint} of {self._subject.name} has gone back, in one incarnation: by origin, {back}"
        self._promise(endpoint, said)

    def _promise(self, endpoint: str, marks: Marks) -> None:
        for mark in marks.values():
            life = endpoint, mark.shard, mark.incarnation
            self._promised[life] = _higher(self._promised.get(life, {}), mark)

    # --- judging ----------------------------------------------------------------------------------------------------

    def judge(self, looks: Iterable[Look]) -> None:
        """Judge what was seen. Raises: AssertionError."""
        for look in looks:
            if not look.mark.diverged:  # else it shows a history that was lost, and says so
                self._shows(look, f"{look.endpoint} of {self._subject.name}")

    def _shows(self, look: Look, where: str) -> None:
        known = {n for n, place in self._of(look.shard) if place.offset <= look.promised.get(place.origin, 0)}
        shown = reprlib.repr(dict(look.shown))
        try:
            self._book.read(look.shard, look.shown, frozenset(known))
        except AssertionError as error:
            said = f"{where} has said that it has applied {look.promised} (by origin), and shows {shown}"
            raise AssertionError(f"{said}: {error}") from None
        for n, place in self._of(look.shard):
            wrote = self._book.writes[n]
            ended = look.mark.origins.get(place.origin, (0, None))[1] is not None
            if wrote.value is not None and look.shown.get(wrote.key) == wrote.value and not ended:
                assert look.seen >= Frontier([place]), f"{where} shows {shown} of {place}, and has seen {look.seen}"

    def converged(self, looks: Collection[Look]) -> None:
        """Judge that every endpoint has all that survives, and shows the same. Raises: AssertionError."""
        self.judge(looks)
        name = f"with all sites in touch and brought up to date, {self._subject.name}"
        first: dict[str, Look] = {}
        for look in looks:
            if look.mark.diverged:
                continue  # no session is served there until it has been put right
            same = first.setdefault(look.shard, look)
            shown = {one.endpoint: dict(one.shown) for one in (same, look)}
            assert same.shown == look.shown, f"{name} shows of {look.shard} {shown}"
            for _, place in self._of(look.shard):
                verdict = look.mark.verdict(place.origin, place.offset)
                unheard = verdict is Verdict.UNKNOWN and self._subject.forgets is not None
                assert verdict is Verdict.APPLIED or unheard or self._book.is_lost(place), (
                    f"{name} says {verdict.name} of {place} at {look.endpoint}"
                )

    def _of(self, shard: str) -> list[tuple[int, Position]]:
        return [(n, place) for n, place in self._places.items() if self._book.writes[n].shard == shard]

    def close(self) -> None:
        """Close its links."""
        for link in self._links.values():
            link.close()


def _higher(applied: Mapping[int, int], mark: Watermark) -> Mapping[int, int]:
    return {**applied, **{o: max(a, applied.get(o, 0)) for o, (a, _) in mark.origins.items()}}
