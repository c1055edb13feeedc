"""What is shown is what was written: values and keys as they are, deletions, the last change of a block, at the leader and at replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from causal.core.frontier import Frontier
from causal.core.watermark import Verdict
from causal.testing.contract.base import Promises
from causal.testing.contract.play import verdict
from causal.testing.stage import NotOffered, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from causal.testing.contract.play import Play

_VALUES = {
    "empty": "",
    "blank": " ",
    "lines": "one\ntwo\r\n\ttabs, 'quotes' and \"others\" \\n %s",
    "letters": "åß∂ƒ 雪 \N{SNOWMAN}\N{GRINNING FACE}",
    "composed": "caf\N{LATIN SMALL LETTER E WITH ACUTE} \N{ANGSTROM SIGN} \N{LATIN SMALL LIGATURE FI}",
    "decomposed": "cafe\N{COMBINING ACUTE ACCENT} A\N{COMBINING RING ABOVE} \N{DEVANAGARI LETTER QA}",
    "marks": "\N{ZERO WIDTH NO-BREAK SPACE}\x01\x7f\x85 \N{LINE SEPARATOR} \N{RIGHT-TO-LEFT MARK} \N{ZERO WIDTH JOINER} ",
    "long": "long" * 20_000,
    "case": "small",
    "CASE": "capital",
}


class Faithful(Promises):
    """Values, deletions, and the changes of one block."""

    async def test_values_are_shown_as_they_were_written(self, play: Play) -> None:
        """What is shown is what was written, to the character, at every endpoint: also empty, long, decomposed; keys differ by case."""
        link = await play.link()
        written = Frontier()
        for key, value in _VALUES.items():
            written |= await play.wrote(link, key, value)
        await self._everywhere(play, written, _VALUES)

    async def test_a_deletion_reaches_replicas(self, play: Play) -> None:
        """A deletion is applied like any write: who has applied it shows nothing, at the leader and at a replica."""
        link, near = await play.link(play.leader), await play.link(play.follower)
        await play.wrote(link, "k", "one")
        await play.wrote(link, "kept", "one")
        play.stage.catch_up(play.follower)
        play.insist(
            (await play.look(near, play.follower, "k")).value == "one",
            f"{play.follower} has caught up and does not show k",
            "apply in catch_up(endpoint) all that there is",
        )
        gone = await play.wrote(link, "k", None)
        await self._everywhere(play, gone, {"k": None, "kept": "one"})

    async def test_a_block_keeps_what_it_changed_last(self, play: Play) -> None:
        """Of several changes of a key in one block, the last one counts: in the block itself, at the leader and at replicas."""
        link = await play.link(play.leader)
        steps: dict[str, list[str | None]] = {"twice": ["one", "two"]}
        if type(play.stage).delete is not Stage.delete:
            steps |= {"back": [None, "two"], "gone": ["two", None], "deleted": [None]}
        await play.commit(link, dict.fromkeys(steps, "old"))
        expected = {key: values[-1] for key, values in steps.items()}
        handle = await play.done(link.write(link.leader(play.shard), play.shard, Frontier()))
        try:
            for key, values in steps.items():
                for value in values:
                    await play.put(handle.connection, key, value)
            shown = {key: await play.get(handle.connection, key) for key in steps}
            page = await self._page(play, handle.connection, list(steps))
            written = play.joined(await play.done(handle.commit(Frontier())))
        finally:
            await play.done(handle.rollback())
        for how, found in (("key by key", shown), ("all at once", page)):
            play.insist(
                found == expected,
                f"a block changed {steps}; it is itself shown, {how}, {found}",
                "let a write block read its own changes, deletions included, one by one and in scans",
            )
        await self._everywhere(play, written, expected)

    async def test_a_rollback_gives_no_number_away(self, play: Play) -> None:
        """A rolled back block counts for nothing: no watermark had the next commit's position, and replicas get past it."""
        link = await play.link(play.leader)
        leader = link.leader(play.shard)
        await play.commit(link, {"k": "one"})
        for turn in range(2):
            handle = await play.done(link.write(leader, play.shard, Frontier()))
            await play.put(handle.connection, "k", "undone")
            await play.done(handle.rollback())
            before = await play.probe(link, leader)
            written = play.joined(await play.commit(link, {"k": f"{turn}"})).on(play.shard)
            play.insist(
                verdict(before, written) is not Verdict.APPLIED,
                f"after a rollback {leader} called {written} applied: the position of a commit that came later",
                "number a write when it is committed; let no watermark count what was rolled back",
            )
            if play.stage.follower is not None:
                await self._everywhere(play, written, {"k": f"{turn}"})

    async def _everywhere(self, play: Play, written: Frontier, expected: Mapping[str, str | None]) -> None:
        """Let everybody catch up: they say APPLIED and show what is expected."""
        for endpoint in [e for e in (play.stage.leader, play.stage.follower) if e]:
            if endpoint == play.stage.follower:
                play.stage.catch_up(endpoint)
            link = await play.link(endpoint)
            said = verdict(await play.probe(link, endpoint), written)
            play.insist(
                said is Verdict.APPLIED,
                f"{endpoint} has caught up, and says {said.name} of {written}",
                "let the watermark follow what is applied: nobody is ever served otherwise",
            )
            shown = {key: (await play.look(link, endpoint, key)).value for key in expected}
            wrong = {key: (_short(shown[key]), _short(value)) for key, value in expected.items() if shown[key] != value}
            play.insist(
                not wrong,
                f"{endpoint} has applied {written} and shows, by key (what it shows, what was written): {wrong!a}",
                "store and replicate every change as it is (no text is cut, stripped, normalized); or let the stage's get() and put() fit",
            )

    async def _page(self, play: Play, connection: Any, keys: list[str]) -> Mapping[str, str | None]:
        if play.kind == "asynchronous":
            return await play.stage.apage(connection, keys)
        return play.stage.page(connection, keys)

    async def test_a_page_shows_what_single_reads_show(self, play: Play) -> None:
        """A scan shows the same snapshot as single reads, deletions left out, and `seen()` covers what it showed."""
        if type(play.stage).page is Stage.page:
            raise NotOffered(f"{type(play.stage).__name__} has no page(connection, keys): no scan was tested")
        link = await play.link(play.leader)
        written = play.joined(await play.commit(link, {"a": "one", "b": "one"}))
        if type(play.stage).delete is not Stage.delete:
            written |= play.joined(await play.commit(link, {"b": None}))
        handles = [await play.done(link.read(link.leader(play.shard), (play.shard,))) for _ in range(2)]
        try:
            if play.stage.snapshots:
                await play.commit(link, {"a": "two", "c": "two"})
            page = await self._page(play, handles[0].connection, ["a", "b", "c"])
            if hasattr(handles[0], "end"):
                await play.done(handles[0].end())
            seen = handles[0].seen()
            single = {key: await play.get(handles[1].connection, key) for key in "abc"}
        finally:
            for handle in handles:
                await play.done(handle.close())
        play.insist(
            page == single and seen >= written.on(play.shard),
            f"a page shows {page}, single reads {single}; {written} was shown, and the page has seen {seen}",
            "let scans and single reads look at one snapshot, and count what both showed, what was found deleted too",
        )


def _short(value: str | None) -> str | None:
    return value if value is None or len(value) < 40 else f"{value[:20]}... ({len(value)} characters)"
