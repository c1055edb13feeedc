"""What is true in the middle of a commit and of catching up: whoever reads then is not misled, and whoever writes then is not lost."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from causal.core.frontier import Frontier
from causal.core.watermark import Verdict
from causal.testing.contract.base import Promises, once
from causal.testing.contract.interleaved import interleaved
from causal.testing.contract.play import driven, verdict
from causal.testing.stage import NotOffered

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from causal.core.watermark import Watermark
    from causal.testing.contract.play import Play

    Look = tuple[Mapping[int, Watermark], tuple[str | None, ...]]

_KEYS: Final = ("a", "b", *[f"m{x}{y}" for x in "abcdefg" for y in "abcdefghijklmn"])
"""More than a store may replicate at once, of those that cut what is long."""


class Meanwhile(Promises):
    """Commits and replication, seen from the middle."""

    @once
    async def test_a_leader_is_whole_in_the_middle_of_a_commit(self, play: Play) -> None:
        """Who reads at the leader while a commit is made, also a large one, is shown all or nothing; nothing that it lacks is applied."""
        writing, reading = await play.link(play.leader), await play.link(play.leader)
        commit = _Counting(play, writing, long=False)
        for _, look in interleaved(
            commit, lambda: _look(play, reading, play.leader, commit.keys), play.stage.interleavings
        ):
            self._whole(play, play.leader, look, commit, "a commit was made")

    @once
    async def test_a_replica_is_whole_in_the_middle_of_catching_up(self, play: Play) -> None:
        """Who reads at a replica while it applies writes is shown whole transactions, also large ones; nothing that it lacks is applied."""
        writing, reading = await play.link(play.main), await play.link(play.follower)
        commit, stage = _Counting(play, writing, long=True), play.stage
        if not stage.read_only:
            with suppress(NotOffered):
                stage.pause(play.follower)

        def catch_up() -> None:
            stage.catch_up(play.follower)

        for _ in range(3):  # so that there is something to apply in the first pass, in which the steps are noted
            commit()

        def look_() -> Look:
            return _look(play, reading, play.follower, commit.keys)

        for _, look in interleaved(catch_up, look_, stage.interleavings):
            self._whole(play, play.follower, look, commit, "it caught up")
            commit()

    def _whole(self, play: Play, endpoint: str, look: Look, last: _Counting, when: str) -> None:
        (marks, shown), value, written = look, last.value, last.written
        play.insist(
            set(shown) == {value} or verdict(marks, written) is not Verdict.APPLIED,
            f"while {when}, {endpoint} called {written} applied and showed {_told(shown)}, not {value!r} at all of them",
            "let `applied` go up in the transaction that makes the write visible, in the order of the log and without gaps",
        )
        play.insist(
            len(set(shown)) == 1 or not play.stage.snapshots or play.stage.read_only,
            f"while {when}, {endpoint} showed {_told(shown)}, which were written in one transaction each time",
            "make a transaction visible as one, however many keys it has: a limit of your replication may cut no transaction in two",
        )

    @once
    async def test_commits_side_by_side_are_both_there(self, play: Play) -> None:
        """Where one block commits in the middle of another, both are there; neither is called applied before it is shown."""
        one, two, near = await play.link(play.leader), await play.link(play.leader), await play.link(play.leader)
        stage, turn = play.stage, [0]

        def write(link: Any, key: str) -> Frontier:
            try:
                return _run(lambda: _write(play, link, {key: str(turn[0])}))
            except Exception as error:  # noqa: BLE001 - what it is, is judged
                play.refusal(error, "a block, while another one was open,")
                return Frontier()  # refused for the other's sake: it may be tried again, and nothing was committed

        def other() -> tuple[Frontier, Look]:
            return write(two, "b"), _look(play, near, play.leader)

        both = False
        for first, (second, (marks, (a, b))) in interleaved(lambda: write(one, "a"), other, stage.interleavings):
            value, both = str(turn[0]), both or bool(first and second)
            play.insist(
                a == value or not first or verdict(marks, first) is not Verdict.APPLIED,
                f"a block was committed in the middle of another, which then got {first}: before that, {play.leader} called it "
                f"applied and showed {a!r}, not {value!r}",
                "give out numbers in the order in which commits become visible (inside the write lock), or report none above a gap",
            )
            play.insist(
                b == value or not second,
                f"a block was committed at {second} in the middle of another, and {play.leader} shows {b!r}, not {value!r}",
                "show a commit once it is acknowledged",
            )
            shown = _look(play, near, play.leader)[1]
            play.insist(
                (shown[0] == value or not first) and (shown[1] == value or not second),
                f"two blocks committed {value!r} side by side, at {first} and {second}; a, b = {shown}",
                "let a commit add its own changes to what is there then, not to what was there when its block began",
            )
            turn[0] += 1
        play.insist(
            both, "of two blocks that began side by side, never both were committed", "let one wait for the other"
        )


def _run(work: Callable[[], Coroutine[Any, Any, Frontier]]) -> Frontier:
    found: list[Frontier] = []

    async def told() -> None:
        found.append(await work())

    driven(told())
    return found[0]


async def _write(play: Play, link: Any, changes: Mapping[str, str]) -> Frontier:
    """Write in one transaction, where there are any."""
    if not play.stage.read_only:
        return play.joined(await play.commit(link, changes))
    written = Frontier()
    for key, value in changes.items():
        written |= await play.wrote(link, key, value)
    return written


class _Counting:
    """Writes the next number under all `keys`, `written` in one transaction, and then, if it is `long`, under c in another."""

    def __init__(self, play: Play, link: Any, *, long: bool) -> None:
        self.value, self.written = "", Frontier()
        self.keys = _KEYS[:2] if play.stage.read_only else _KEYS
        self._play, self._link, self._long, self._n = play, link, long, 0

    def __call__(self) -> None:
        self._n += 1
        self.value = str(self._n)
        self.written = _run(lambda: _write(self._play, self._link, dict.fromkeys(self.keys, self.value)))
        if self._long:
            _run(lambda: _write(self._play, self._link, {"c": self.value}))


def _look(play: Play, link: Any, endpoint: str, keys: Sequence[str] = _KEYS[:2]) -> Look:
    handle = link.read(endpoint, (play.shard,))
    try:
        marks = handle.watermarks
        page = play.stage.page(handle.connection, keys)
        return marks, tuple(page[key] for key in keys)
    finally:
        handle.close()


def _told(shown: Sequence[str | None]) -> str:
    return ", ".join(f"{value!r} at {n} keys" for value, n in Counter(shown).items())
