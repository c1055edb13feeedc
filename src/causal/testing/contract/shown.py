"""What reads report of what they showed: positions, tombstones, dependencies; and what handles may offer besides."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from causal.core.frontier import Frontier, Position
from causal.core.watermark import Verdict
from causal.engine import Traced, TracedWrite
from causal.testing.contract.base import Promises
from causal.testing.contract.play import verdict
from causal.testing.stage import NotOffered, Stage

if TYPE_CHECKING:
    from causal.engine import KeyVersion
    from causal.testing.contract.play import Play


class Shows(Promises):
    """`seen()`, dependencies, shards, traces and ends."""

    async def test_seen_covers_what_was_shown(self, play: Play) -> None:
        """`seen()` reports at least the position of every write that was shown, at every endpoint."""
        link, writing = await play.link(play.main), await play.link()
        written = await play.wrote(writing, "k", "one")
        play.follow()
        await self._seen(play, link, play.main, "k", "one", written)

    async def test_a_replicas_seen_covers_what_it_showed(self, play: Play) -> None:
        """`seen()` at a replica reports what was shown under the name that its leader gave it."""
        link, writing = await play.link(play.follower), await play.link()
        written = await play.wrote(writing, "k", "one")
        play.stage.catch_up(play.follower)
        await self._seen(play, link, play.follower, "k", "one", written)

    async def test_seen_covers_tombstones(self, play: Play) -> None:
        """`seen()` reports a deletion that was shown: who found a key gone may not find it again."""
        link = await play.link(play.leader)
        await play.wrote(link, "k", "one")
        gone = await play.wrote(link, "k", None)
        await self._seen(play, link, link.leader(play.shard), "k", None, gone)

    async def test_what_a_write_block_reads_counts(self, play: Play) -> None:
        """`seen()` of a write block reports what reads inside the transaction showed."""
        link = await play.link(play.leader)
        written = play.joined(await play.commit(link, {"k": "one"}))
        handle = await play.done(link.write(link.leader(play.shard), play.shard, Frontier()))
        try:
            value, seen = await play.get(handle.connection, "k"), await self._after_end(play, handle)
        finally:
            await play.done(handle.rollback())
        play.insist(
            value == "one" and seen >= written.on(play.shard),
            f"a write block showed {value!r}, written at {written}, and has seen {seen}",
            "report in seen() what the transaction's reads showed",
        )

    async def _seen(self, play: Play, link: Any, endpoint: str, key: str, value: str | None, written: Frontier) -> None:
        handle = await play.done(link.read(endpoint, (play.shard,)))
        try:
            shown = await play.get(handle.connection, key)
            seen = await self._after_end(play, handle)
        finally:
            await play.done(handle.close())
        play.insist(
            shown == value and seen >= written.on(play.shard),
            f"{endpoint} showed {key} = {shown!r}, written at {written}, and has seen {seen}",
            "report in seen() the position of every version that was shown, deleted ones included (or all that the snapshot holds)",
        )

    async def _after_end(self, play: Play, handle: Any) -> Frontier:
        """Return what a handle has seen; one that is `Ending` says so at its end."""
        if hasattr(handle, "end"):
            await play.done(handle.end())
        seen: Frontier = handle.seen()
        return seen

    # --- dependencies -------------------------------------------------------------------------------------------------

    async def test_dependencies_travel_with_what_was_written(self, play: Play) -> None:
        """Where `dependencies` are promised, a version carries its writer's frontier: acknowledged, and seen by all who read it."""
        deps, link = await self._caused(play)
        commit = await play.commit(link, {"effect": "one"}, deps)
        play.insist(
            commit.deps >= deps,
            f"a write that depends on {deps} was acknowledged with {commit.deps}",
            "store the frontier that commit() is given with the version, and return it in Commit.deps",
        )
        seen = (await play.look(link, link.leader(play.shard), "effect")).seen
        play.insist(
            seen >= deps | play.joined(commit),
            f"who is shown a write that depends on {deps} has seen {seen}",
            "join the dependencies of each version that is shown into seen()",
        )
        if type(play.stage).delete is not Stage.delete:
            gone = play.joined(await play.commit(link, {"effect": None}, deps))
            seen = (await play.look(link, link.leader(play.shard), "effect")).seen
            play.insist(
                seen >= deps | gone,
                f"who finds a key gone whose deletion depends on {deps} has seen {seen}",
                "store the dependencies of a deletion with its tombstone, and join them into seen()",
            )

    async def test_dependencies_travel_to_replicas(self, play: Play) -> None:
        """Where `dependencies` are promised, they are replicated with their version."""
        deps, link = await self._caused(play)
        near, endpoint = await play.link(play.follower), play.follower
        written = play.joined(await play.commit(link, {"effect": "one"}, deps))
        play.stage.catch_up(endpoint)
        shown = await play.look(near, endpoint, "effect")
        play.insist(
            shown.value == "one" and shown.seen >= deps | written,
            f"{endpoint} shows {shown.value!r}, which depends on {deps}, and has seen {shown.seen}",
            "replicate the dependencies with the version that they belong to",
        )

    async def _caused(self, play: Play) -> tuple[Frontier, Any]:
        if not play.stage.engine(play.leader).capabilities.dependencies:
            raise NotOffered(
                "this engine does not promise dependencies (Capabilities.dependencies): it is causal shard by shard"
            )
        link = await play.link(play.leader)
        cause = play.joined(await play.commit(link, {"cause": "one"}, shard=list(play.shards().values())[-1]))
        return cause | Frontier([Position((play.stage.store + 1) << 16, 7, 5)]), link

    # --- shards -------------------------------------------------------------------------------------------------------

    async def test_shards_are_apart(self, play: Play) -> None:
        """A commit is numbered in its own shard, shown in that shard, and moves the watermark of no other."""
        link, shards = await play.link(play.leader), list(play.shards().values())
        if len(shards) == 1:
            raise NotOffered("this stage's engine has one shard")
        for n, shard in enumerate(shards):
            before = {s: (await play.probe(link, link.leader(s)))[s] for s in shards}
            commit = await play.commit(link, {f"k{n}": "one"}, shard=shard)
            written, leader = play.joined(commit), link.leader(shard)
            after = {s: (await play.probe(link, link.leader(s)))[s] for s in shards}
            own = Frontier([] if commit.position is None else [commit.position])
            play.insist(
                own.shards == {shard} and verdict(after, written) is Verdict.APPLIED,
                f"a commit on shard {shard} has {own}, and {leader} says {verdict(after, written).name} of it",
                "name in position and watermark the shard that was written",
            )
            moved = [s for s in shards if s != shard and after[s].origins != before[s].origins]
            where = [s for s in shards if (await play.look(link, link.leader(s), f"k{n}", [s])).value is not None]
            play.insist(
                not moved and where == [shard],
                f"a commit on shard {shard} moved the watermarks of {moved}, and is shown in {where}",
                "keep a log of its own for each shard, and read only the shards that were asked for",
            )

    # --- what handles may offer -----------------------------------------------------------------------------------------

    async def test_closed_handles_stay_closed(self, play: Play) -> None:
        """`close` is idempotent, and a snapshot that has ended holds nothing up."""
        link, writing = await play.link(), await play.link()
        await play.wrote(writing, "k", "one")
        play.follow()
        for _ in range(3):
            handle = await play.done(link.read(play.main, (play.shard,)))
            await play.done(handle.close())
            await play.done(handle.close())
        await play.wrote(writing, "k", "two")
        play.follow()
        value = (await play.look(link, play.main, "k")).value
        play.insist(
            value == "two", f"after two closed blocks, k is {value!r}, not 'two'", "end the snapshot in close(), once"
        )

    async def test_a_traced_block_names_the_versions_that_it_shows_and_writes(self, play: Play) -> None:
        """A handle that is `Traced` tells of each version that is shown; `written()` names one only once it is acknowledged."""
        link = await play.link(play.leader)
        leader = link.leader(play.shard)
        first = (await play.commit(link, {"k": "one"})).position
        handle = await play.done(link.read(leader, (play.shard,)))
        try:
            traced: object = handle  # what it is found to be hides nothing else that it is
            if not isinstance(traced, Traced):
                raise NotOffered("this engine's handles are not Traced: what sessions did cannot be recorded")
            told: list[KeyVersion] = []
            handle.trace(told.append)
            await play.get(handle.connection, "k")
        finally:
            await play.done(handle.close())
        place = None if first is None else (first.origin, first.offset)
        play.insist(
            [(one.key, one.version) for one in told] == [("k", place)],
            f"a block that showed k, written at {first}, told of {told}",
            "tell of each version that is shown, with the (origin, offset) of the write",
        )
        handle = await play.done(link.write(leader, play.shard, Frontier()))
        try:
            traced = handle
            if not isinstance(traced, TracedWrite):
                return
            handle.trace(told.append)
            await play.put(handle.connection, "k", "two")
            early = [one.version for one in handle.written()]
            last = (await play.done(handle.commit(Frontier()))).position
        finally:
            await play.done(handle.rollback())
        late = [(one.key, one.version) for one in handle.written()]
        play.insist(
            early == [None] and last is not None and late == [("k", (last.origin, last.offset))],
            f"written() told of the versions {early} before the commit and {late} after it, at {last}",
            "name a version in written() once the commit was acknowledged, and not before",
        )

    async def test_an_ending_block_can_be_ended_twice(self, play: Play) -> None:
        """A handle that is `Ending` may be ended twice, then says what was shown, and does not blame the endpoint for others' errors."""
        link = await play.link()
        await play.wrote(link, "k", "one")
        handle = await play.done(link.read(play.main, (play.shard,)))
        try:
            if not hasattr(handle, "end"):
                raise NotOffered("this engine's handles are not Ending: seen() is known at any time")
            await play.get(handle.connection, "k")
            await play.done(handle.end())
            seen = handle.seen()
            await play.done(handle.end())
            blamed = handle.blame(ZeroDivisionError()) if hasattr(handle, "blame") else None
        finally:
            await play.done(handle.close())
        play.insist(
            handle.seen() == seen and blamed is None and not inspect.isawaitable(seen),
            f"ended twice, a block has seen {handle.seen()} and {seen}; a ZeroDivisionError of its user is called {blamed!r}",
            "let end() do nothing the second time, and blame() return None for what is not the endpoint's",
        )
