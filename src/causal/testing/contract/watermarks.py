"""What a watermark promises: no later than the snapshot, visible where applied, and never back within one life of a server."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from causal.core.frontier import Frontier
from causal.core.watermark import Verdict
from causal.testing.contract.base import Promises, once
from causal.testing.contract.interleaved import interleaved
from causal.testing.contract.play import driven, verdict
from causal.testing.stage import NotOffered, Stage

if TYPE_CHECKING:
    from causal.core.watermark import Watermark
    from causal.testing.contract.play import Play

_ANOTHER = (
    "name another incarnation whenever a server may have less than before: make it of what changes then (start time, system identity, "
    "address, a number in the files)"
)


class Watermarks(Promises):
    """Watermarks, snapshots and incarnations."""

    async def test_a_watermark_is_no_later_than_its_snapshot(self, play: Play) -> None:
        """A handle's watermarks are of its snapshot or older: what is written after it opened is shown, or not called applied."""
        link, other = await play.link(), await play.link()
        await play.wrote(other, "k", "one")
        play.follow()
        for ask_first in (True, False):
            handle = await play.done(link.read(play.main, (play.shard,)))
            try:
                early = handle.watermarks if ask_first else None
                later = await play.wrote(other, "k", "two")
                play.follow()
                value = await play.get(handle.connection, "k")
                for marks in (early, handle.watermarks):
                    if marks is not None:
                        self._not_later(play, marks, later, value, "two")
            finally:
                await play.done(handle.close())
            await play.wrote(other, "k", "one")

    @once
    async def test_a_watermark_is_no_later_than_its_snapshot_whenever_a_write_comes(self, play: Play) -> None:
        """A watermark is taken before the snapshot, or in it: also when a write is committed in the middle of `read()`."""
        await self._in_the_middle(play, play.main, catch_up=play.stage.read_only)

    @once
    async def test_a_replicas_watermark_is_no_later_than_its_snapshot_whenever_a_write_comes(self, play: Play) -> None:
        """A replica's watermark is taken before the snapshot, or in it: also when a write is applied in the middle of `read()`."""
        _ = play.leader
        await self._in_the_middle(play, play.follower, catch_up=True)

    async def _in_the_middle(self, play: Play, endpoint: str, *, catch_up: bool) -> None:
        link, writing = await play.link(endpoint), await play.link()
        stage, written = play.stage, [0]
        await play.wrote(writing, "k", "0")
        stage.catch_up(endpoint) if catch_up else None

        def read() -> tuple[Any, str | None]:
            handle = link.read(endpoint, (play.shard,))
            try:
                return handle.watermarks, stage.get(handle.connection, "k")
            finally:
                handle.close()

        def write() -> Frontier:
            found: list[Frontier] = []

            async def work() -> None:
                written[0] += 1
                found.append(await play.wrote(writing, "k", str(written[0])))

            driven(work())
            if catch_up:
                stage.catch_up(endpoint)
            return found[0]

        for (marks, value), later in interleaved(read, write, stage.interleavings):
            self._not_later(play, marks, later, value, str(written[0]))

    @once
    async def test_a_write_blocks_watermarks_are_no_later_than_what_it_shows_whenever_a_write_comes(
        self, play: Play
    ) -> None:
        """A write block's watermarks are taken with what it shows, or before: also when a write is committed in the middle of `write()`."""
        link, writing = await play.link(play.leader), await play.link(play.leader)
        leader, stage, written, both = link.leader(play.shard), play.stage, [0], False
        await play.wrote(writing, "k", "0")

        def block() -> tuple[Any, str | None] | None:
            try:
                handle = link.write(leader, play.shard, Frontier())
                try:
                    return handle.watermarks, stage.get(handle.connection, "k")
                finally:
                    handle.rollback()
            except Exception as error:  # noqa: BLE001 - what it is, is judged
                play.refusal(error, "a block, while another one was open,")
                return None

        def write() -> Frontier | None:
            found: list[Frontier] = []

            async def work() -> None:
                found.append(await play.wrote(writing, "k", str(written[0] + 1)))

            try:
                driven(work())
            except Exception as error:  # noqa: BLE001 - what it is, is judged
                play.refusal(error, "a block, while another one was open,")
                return None
            written[0] += 1
            return found[0]

        for mine, later in interleaved(block, write, stage.interleavings):
            if mine is None or later is None:
                continue  # one was refused for the other's sake
            marks, value = mine
            both = True
            play.insist(
                value == str(written[0]) or verdict(marks, later) is not Verdict.APPLIED,
                f"a write block's watermarks call {later} applied, and it is shown {value!r}, not {str(written[0])!r}",
                "take the state that a write block reads inside the write lock, and its watermarks with it: what was read before "
                "lets a write through that rests on a state which is gone",
            )
        play.insist(
            both, "of two blocks that began side by side, never both had their turn", "let one wait for the other"
        )

    def _not_later(self, play: Play, marks: Any, later: Frontier, value: str | None, written: str) -> None:
        play.insist(
            value == written or verdict(marks, later) is not Verdict.APPLIED,
            f"a watermark calls {later} applied, and its snapshot shows {value!r}, not {written!r}: it was taken later",
            "take the watermark before the snapshot or inside it: a stale read is served as fresh otherwise",
        )

    async def test_what_is_applied_is_visible(self, play: Play) -> None:
        """Everything up to `applied` is visible to a snapshot taken after the watermark, at every endpoint, lagging or not."""
        writing = await play.link()
        if play.stage.follower and not play.stage.read_only:
            with suppress(NotOffered):
                play.stage.pause(play.stage.follower)
        endpoints = [play.follower] if play.stage.read_only else [e for e in (play.leader, play.stage.follower) if e]
        for turn in range(4):
            value = f"v{turn}"
            written = await play.wrote(writing, "k", value)
            for endpoint in endpoints:
                link = await play.link(endpoint)
                if turn % 2 and endpoint == play.stage.follower:
                    play.stage.catch_up(endpoint)
                for asked in (True, False):
                    marks = await play.probe(link, endpoint) if asked else None
                    shown = await play.look(link, endpoint, "k")
                    play.insist(
                        shown.value == value or verdict(marks or shown.watermarks, written) is not Verdict.APPLIED,
                        f"{endpoint} calls {written} applied {'when asked' if asked else 'in a block'}, and shows {shown.value!r}",
                        "let `applied` go up only once readers can see the write",
                    )

    async def test_a_lagging_replica_says_that_it_lags_and_then_that_it_does_not(self, play: Play) -> None:
        """A replica that has not applied a write says BEHIND (or UNKNOWN), and APPLIED once it has: then it shows the write."""
        writing, link = await play.link(), await play.link(play.follower)
        await play.wrote(writing, "k", "one")
        play.stage.catch_up(play.follower)
        if not play.stage.read_only:
            play.stage.pause(play.follower)
        written = await play.wrote(writing, "k", "two")
        shown = await play.look(link, play.follower, "k")
        for how, marks in (("in a block", shown.watermarks), ("when asked", await play.probe(link, play.follower))):
            said = verdict(marks, written)
            play.insist(
                shown.value == "one" and said in {Verdict.BEHIND, Verdict.UNKNOWN},
                f"{play.follower} stands still, shows {shown.value!r}, and says {said.name} of {written} {how}",
                "answer with what this very server has applied; if it shows 'two', then pause() does not hold it back",
            )
        if not play.stage.read_only:
            play.stage.resume(play.follower)
        play.stage.catch_up(play.follower)
        marks = await play.probe(link, play.follower)
        shown = await play.look(link, play.follower, "k")
        play.insist(
            verdict(marks, written) is verdict(shown.watermarks, written) is Verdict.APPLIED and shown.value == "two",
            f"{play.follower} has caught up, shows {shown.value!r}, and says {verdict(marks, written).name} of {written}",
            "let the watermark follow what is applied: nobody is ever served otherwise",
        )

    async def test_a_snapshot_does_not_move(self, play: Play) -> None:
        """A block reads one snapshot: it shows the same at its end as at its beginning, whatever is written meanwhile."""
        if not play.stage.snapshots:
            raise NotOffered("this stage's engine gives each statement a snapshot of its own (Stage.snapshots)")
        link, writing = await play.link(), await play.link()
        await play.wrote(writing, "a", "one")
        await play.wrote(writing, "b", "one")
        play.follow()
        handle = await play.done(link.read(play.main, (play.shard,)))
        try:
            before = await play.get(handle.connection, "a")
            await play.wrote(writing, "a", "two")
            await play.wrote(writing, "b", "two")
            play.follow()
            after = [await play.get(handle.connection, key) for key in "ab"]
        finally:
            await play.done(handle.close())
        play.insist(
            [before, *after] == ["one", "one", "one"],
            f"a block showed a = {before}, then a = {after[0]} and b = {after[1]}",
            "open one snapshot (a transaction with repeatable reads) for the whole block",
        )

    async def test_watermarks_never_go_back_within_one_incarnation(self, play: Play) -> None:
        """A server that has said that it applied something says so ever after, unless it has another incarnation."""
        last: dict[tuple[str, int, Any], Watermark] = {}
        names = [e for e in (play.stage.leader, play.stage.follower) if e]

        async def ask() -> None:
            for name in names:
                link = await play.link(name)
                for marks in (await play.probe(link, name), (await play.look(link, name, "k")).watermarks):
                    for shard, mark in marks.items():
                        before = last.get((name, shard, mark.incarnation))
                        back = {} if before is None else _went_back(before, mark)
                        play.insist(
                            not back,
                            f"{name} went back, in one incarnation ({mark.incarnation!r}): by origin, {back}",
                            _ANOTHER,
                        )
                        last[name, shard, mark.incarnation] = mark

        for n in range(3):
            await play.wrote(await play.link(), "k", str(n))
            await ask()
            if play.stage.follower is not None:
                play.stage.catch_up(play.stage.follower)
            await ask()
        if play.stage.follower is not None and type(play.stage).forgetting is not Stage.forgetting:
            with play.stage.forgetting(play.stage.follower):
                await play.wrote(await play.link(), "k", "forgotten")
                play.stage.catch_up(play.stage.follower)
                await ask()
                await play.close()
            await ask()

    async def test_a_server_that_goes_back_has_another_incarnation(self, play: Play) -> None:
        """A server that lost what it had applied (restarted, replaced) has another incarnation, known on every new connection."""
        await play.wrote(await play.link(), "k", "one")
        play.stage.catch_up(play.follower)
        with play.stage.forgetting(play.follower):
            await play.wrote(await play.link(), "k", "two")
            play.stage.catch_up(play.follower)
            before = (await play.probe(await play.link(play.follower), play.follower))[play.shard]
            await play.close()
        link = await play.link(play.follower)
        asked, shown = await play.probe(link, play.follower), await play.look(link, play.follower, "k")
        for how, now in (("when asked", asked), ("in a block", shown.watermarks)):
            play.insist(
                now[play.shard].incarnation != before.incarnation,
                f"{play.follower} went back and has the same incarnation {how}: {before.incarnation!r}",
                _ANOTHER,
            )

    async def test_a_server_that_went_back_says_what_it_has_left(self, play: Play) -> None:
        """After a server lost what it had applied, its watermark is of what it has now: what is not there is not APPLIED."""
        kept = await play.wrote(await play.link(), "k", "one")
        play.stage.catch_up(play.follower)
        with play.stage.forgetting(play.follower):
            gone = await play.wrote(await play.link(), "k", "two")
            play.stage.catch_up(play.follower)
            await play.close()
        link = await play.link(play.follower)
        shown = await play.look(link, play.follower, "k")
        asked = await play.probe(link, play.follower)
        for how, marks, shows in (
            ("in a block", shown.watermarks, shown),
            ("when asked", asked, await play.look(link, play.follower, "k")),
        ):
            said = [verdict(marks, frontier) for frontier in (kept, gone)]
            play.insist(
                shows.value == "two" or said[1] is not Verdict.APPLIED,
                f"{play.follower} went back, shows {shows.value!r}, and calls {gone}, the position of 'two', applied {how}",
                "store how far a server is with its data, in one transaction, and read both together: a mark kept apart survives the data",
            )

    async def test_two_servers_are_two_incarnations(self, play: Play) -> None:
        """An incarnation names the life of one server: two servers never have the same."""
        link = await play.link(play.leader)
        one, two = [(await play.probe(link, e))[play.shard].incarnation for e in (play.leader, play.follower)]
        play.insist(
            one != two,
            f"both servers are the incarnation {one!r}",
            "let the server's identity be part of the incarnation",
        )


def _went_back(before: Watermark, now: Watermark) -> dict[int, tuple[int, int | None]]:
    """Return, by origin, what was applied before and is now, where that is less."""
    return {
        origin: (applied, now.origins.get(origin, (None, None))[0])
        for origin, (applied, _) in before.origins.items()
        if origin not in now.origins or now.origins[origin][0] < applied
    }
