"""Blocks that are open at once on one link are apart, shards of one block are one snapshot, and a cancelled call leaves nothing open."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from causal.core.frontier import Frontier
from causal.core.watermark import Verdict
from causal.errors import CausalError
from causal.testing.contract.base import Promises, once
from causal.testing.contract.interleaved import interleaved
from causal.testing.contract.play import verdict
from causal.testing.stage import NotOffered

if TYPE_CHECKING:
    from collections.abc import Callable

    from causal.testing.contract.play import Play

_STEPS = 24
"""Up to how many steps of the event loop a call is let go on before it is cancelled."""


class Apart(Promises):
    """Several blocks, several shards."""

    async def test_blocks_of_one_link_are_apart(self, play: Play) -> None:
        """A link is shared by all of a process: a block moves, ends or shows nothing of another that is open at the same time."""
        link, leader = await play.link(play.leader), play.leader
        await play.commit(link, {"k": "one"})
        open_: list[Any] = []

        async def read() -> Any:
            open_.append(await play.done(link.read(leader, (play.shard,))))
            return open_[-1]

        try:
            first = await read()
            before = [await play.get(first.connection, "k")]
            writing = await play.done(link.write(leader, play.shard, Frontier()))
            try:
                await play.put(writing.connection, "k", "two")
                second, closed = await read(), await read()
                uncommitted = [await play.get(h.connection, "k") for h in (first, second)]
                await play.done(closed.close())
                before.append(await play.get(first.connection, "k"))
                mine = await play.get(writing.connection, "k")
                await play.done(writing.commit(Frontier()))
            finally:
                await play.done(writing.rollback())
            third = await read()
            after, *old = [await play.get(h.connection, "k") for h in (third, first, second)]
        finally:
            for handle in open_:
                await play.done(handle.close())
        play.insist(
            uncommitted == ["one", "one"] and mine == "two",
            f"one link had a write block, which had put 'two' and was shown {mine!r}; its other blocks were shown {uncommitted}",
            "give each block a connection (or a transaction, or a copy) of its own",
        )
        play.insist(
            before == ["one", "one"] and after == "two" and (old == ["one", "one"] or not play.stage.snapshots),
            f"a block was shown k = {before}, then 'two' was committed: a new block was shown {after!r}, the old ones {old}",
            "let no block share its snapshot with a later one of the same link",
        )

    @once
    async def test_threads_of_one_link_are_apart(self, play: Play) -> None:
        """A link is used by many threads at once: what one of them is given has nothing of what another asks for in the middle of it."""
        link, leader, follower = await play.link(play.leader), play.leader, play.follower
        await play.commit(link, {"k": "one"})
        play.stage.catch_up(follower)
        play.stage.pause(follower)
        await play.commit(link, {"k": "two"})
        lives = {e: (await play.probe(link, e))[play.shard].incarnation for e in (leader, follower)}

        def read(endpoint: str) -> tuple[str | None, object]:
            handle = link.read(endpoint, (play.shard,))
            try:
                return play.stage.get(handle.connection, "k"), handle.watermarks[play.shard].incarnation
            finally:
                handle.close()

        for mine, other in interleaved(lambda: read(leader), lambda: read(follower), play.stage.interleavings):
            play.insist(
                mine == ("two", lives[leader]) and other == ("one", lives[follower]),
                f"two threads read at once through one link: {leader}, which has 'two' in the life {lives[leader]!r}, gave {mine}; "
                f"{follower}, which has 'one' in {lives[follower]!r}, gave {other}",
                "keep what a call works on in its own variables, not in the link",
            )
        play.stage.resume(follower)

    async def test_watermarks_that_were_given_stay_as_they_are(self, play: Play) -> None:
        """A mapping of watermarks is immutable: what was given is of its moment, and another one is given when something changed."""
        link = await play.link(play.main)
        await play.wrote(link, "k", "one")
        play.follow()
        early = await play.probe(link, play.main)
        written = await play.wrote(link, "k", "two")
        play.follow()
        late = await play.probe(link, play.main)
        play.insist(
            verdict(early, written) is not Verdict.APPLIED and early is not late,
            f"watermarks that were given before {written} now say {verdict(early, written).name} of it",
            "return a new mapping, with new watermarks, whenever something in it changed",
        )

    async def test_an_incarnation_stays_as_long_as_a_server_lives(self, play: Play) -> None:
        """An incarnation changes when a server may have less than before, and not otherwise: what was known of it counts till then."""
        link = await play.link(play.main)
        for endpoint in [e for e in (play.stage.leader, play.stage.follower) if e]:
            found = []
            for turn in range(2):
                await play.wrote(link, "k", str(turn))
                found.append((await play.probe(link, endpoint))[play.shard].incarnation)
                found.append((await play.look(link, endpoint, "k")).watermarks[play.shard].incarnation)
            play.insist(
                len(set(found)) == 1,
                f"{endpoint} did not restart, and its incarnations were {found}, when asked and in blocks in turn",
                "name what changes when the server's memory may (its start, its files): no counter of answers, and the same in both",
            )

    # --- several shards -------------------------------------------------------------------------------------------------

    async def test_several_shards_are_read_in_one_block(self, play: Play) -> None:
        """A block over several shards has an honest watermark for each, shows all of them, and has seen what it showed of each."""
        link, led = await play.link(play.leader), dict[str, list[int]]()
        for shard in play.shards().values():
            led.setdefault(link.leader(shard), []).append(shard)
        leader, shards = max(led.items(), key=lambda of: len(of[1]))
        shards, keys = shards[:2], [f"k{n}" for n in range(2)]
        if len(shards) == 1:
            raise NotOffered("this stage's engine has one shard, or none two with one leader")
        written = Frontier()
        for key, shard in zip(keys, shards, strict=True):
            written |= play.joined(await play.commit(link, {key: "one"}, shard=shard))
        await play.probe(
            link, leader
        )  # a handle's watermarks may be older than its snapshot, but not than what was asked before
        handle = await play.done(link.read(leader, tuple(shards)))
        try:
            await play.get(
                handle.connection, keys[0]
            )  # some begin their snapshot with the first read, and may: it is one
            later = Frontier()
            for key, shard in zip(keys, shards, strict=True):
                later |= play.joined(await play.commit(link, {key: "two"}, shard=shard))
            shown = [await play.get(handle.connection, key) for key in keys]
            if hasattr(handle, "end"):
                await play.done(handle.end())
            marks, seen = handle.watermarks, handle.seen()
        finally:
            await play.done(handle.close())
        play.insist(
            set(marks) >= set(shards) and verdict(marks, written) is Verdict.APPLIED,
            f"a block over the shards {shards} says {verdict(marks, written).name} of {written}, which it shows: {dict(marks)}",
            "give a read handle the watermark of every shard that it was opened for",
        )
        for value, shard in zip(shown, shards, strict=True):
            said = verdict(marks, later.on(shard))
            play.insist(
                value == ("one" if play.stage.snapshots else value) and (value == "two" or said is not Verdict.APPLIED),
                f"a block over the shards {shards} shows {shown}, where 'one' was replaced after it began; it says {said.name} of "
                f"{later.on(shard)}",
                "open the snapshots of all shards before any is read, and their watermarks before that",
            )
        play.insist(
            seen >= written,
            f"a block over the shards {shards} showed {written}, and has seen {seen}",
            "report in seen() what was shown of every shard",
        )

    async def test_watermarks_of_other_shards_are_honest_too(self, play: Play) -> None:
        """What a handle says of shards beside those that it was opened for is no more than its endpoint has."""
        link, near = await play.link(play.leader), await play.link(play.follower)
        held = next(e.shards for e in near.endpoints if e.name == play.follower)
        shards = [s for s in play.shards().values() if held is None or s in held]
        if len(shards) < 2:
            raise NotOffered("this stage's engine has one shard, or its follower holds no other")
        for shard in shards:
            await play.commit(link, {"k": "one"}, shard=shard)
        play.stage.catch_up(play.follower)
        play.stage.pause(play.follower)
        for shard, other in zip(shards, shards[1:] + shards[:1], strict=True):
            written = play.joined(await play.commit(link, {"k": "two"}, shard=other)).on(other)
            marks = (await play.look(near, play.follower, "k", [shard])).watermarks
            play.insist(
                verdict(marks, written) is not Verdict.APPLIED,
                f"a block at {play.follower} over shard {shard} says APPLIED of {written}, which that lacks",
                "leave out the shards that a block does not read, or say of them what its own endpoint has applied",
            )
        play.stage.resume(play.follower)

    # --- cancelled calls -------------------------------------------------------------------------------------------------

    async def test_a_cancelled_call_leaves_nothing_open(self, play: Play) -> None:
        """A cancelled call leaves nothing open: no lock, no transaction. At each of its steps in turn."""
        if play.kind == "synchronous":
            raise NotOffered("synchronous calls are not cancelled")
        link, leader = await play.link(play.leader), play.leader
        await play.commit(link, {"k": "one"})
        calls: list[tuple[Callable[[], Any], str]] = [
            (lambda: link.probe(leader, 5.0), ""),
            (lambda: link.read(leader, (play.shard,)), "close"),
            (lambda: link.write(leader, play.shard, Frontier()), "rollback"),
        ]
        for call, end in calls:
            for steps in range(_STEPS):
                if await self._ended(call, steps, end):
                    break
                value: object = None
                try:
                    await play.commit(link, {"k": str(steps)})
                    value = (await play.look(link, leader, "k")).value
                except CausalError as error:
                    value = error
                play.insist(
                    value == str(steps),
                    f"after a call that was cancelled in its step {steps}, {str(steps)!r} was written, and shown is {value!r}",
                    "free in `finally` (or in the except of CancelledError) what a call has taken",
                )

    async def _ended(self, call: Callable[[], Any], steps: int, end: str) -> bool:
        """Let a call make some steps, and cancel it; return whether it had ended before."""
        task: asyncio.Future[Any] = asyncio.ensure_future(call())
        for _ in range(steps):
            await asyncio.sleep(0)
        ended = task.done()
        task.cancel()
        given: list[Any] = [*await asyncio.gather(task, return_exceptions=True)]
        if end and not isinstance(given[0], BaseException):
            await getattr(given[0], end)()
        return ended
