"""What a commit promises, and a rollback; and what is said when no answer came."""

from __future__ import annotations

from typing import TYPE_CHECKING

from causal.core.frontier import Frontier
from causal.core.watermark import Verdict
from causal.engine import Commit
from causal.errors import CommitUnknown
from causal.testing.contract.base import Promises, once
from causal.testing.contract.interleaved import interleaved
from causal.testing.contract.play import driven, verdict
from causal.testing.stage import NotOffered

if TYPE_CHECKING:
    from causal.testing.contract.play import Play


class Writes(Promises):
    """Commits and rollbacks."""

    async def test_a_commit_is_applied_at_the_leader_at_once(self, play: Play) -> None:
        """An acknowledged commit is there where it was acknowledged: its position is applied, and a new snapshot shows it."""
        link = await play.link(play.leader)
        leader = link.leader(play.shard)
        for value in ("one", "two"):
            written = play.joined(await play.commit(link, {"k": value}))
            said, shown = (
                verdict(await play.probe(link, leader), written.on(play.shard)),
                await play.look(link, leader, "k"),
            )
            play.insist(
                said is verdict(shown.watermarks, written.on(play.shard)) is Verdict.APPLIED and shown.value == value,
                f"after a commit at {written}, {leader} says {said.name} of it and shows {shown.value!r}, not {value!r}",
                "acknowledge a commit once it is durable and visible, with the position that the leader's watermark has then",
            )

    async def test_positions_grow_with_every_commit(self, play: Play) -> None:
        """A later commit has a higher offset in its origin, through whichever link: no position covers less than what came before it."""
        links, last = [await play.link(play.leader) for _ in range(2)], None
        for n in range(5):
            position = (await play.commit(links[n // 2 % 2], {"k": str(n)})).position
            if position is None or position.shard != play.shard or position.offset <= 0:
                play.broken(
                    f"a commit on shard {play.shard} has the position {position}",
                    "number writes from 1 up, in the shard that was written",
                )
            play.insist(
                last is None or position.origin != last.origin or position.offset > last.offset,
                f"a commit has {position}, and the one before it {last}",
                "take the position after the commit, or inside the write lock: never before it",
            )
            last = position

    async def test_a_position_is_not_applied_where_its_write_is_not(self, play: Play) -> None:
        """A commit's position covers the commit: a replica that has applied that position shows what was written."""
        link, near = await play.link(play.leader), await play.link(play.follower)
        await play.commit(link, {"k": "one"})
        play.stage.catch_up(play.follower)
        play.stage.pause(play.follower)
        written = play.joined(await play.commit(link, {"k": "two"}))
        shown = await play.look(near, play.follower, "k")
        play.stage.resume(play.follower)
        play.insist(
            shown.value == "two" or verdict(shown.watermarks, written) is not Verdict.APPLIED,
            f"{play.follower} shows {shown.value!r} and has applied {written}, which is said to be the position of 'two'",
            "take the position after the commit, or inside the write lock: this one was the head before it",
        )

    @once
    async def test_an_exact_position_is_of_its_own_transaction(self, play: Play) -> None:
        """Where `exact` is promised, a position is that of its own transaction, also when others commit in the middle of it."""
        if not play.stage.engine(play.leader).capabilities.exact:
            raise NotOffered("this engine does not promise exact positions (Capabilities.exact)")
        one, two = await play.link(play.leader), await play.link(play.leader)
        stage, shard = play.stage, play.shard

        def write(link: object, key: str) -> Commit:
            found: list[Commit] = []

            async def work() -> None:
                found.append(await play.commit(link, {key: "v"}, shard=shard))

            try:
                driven(work())
            except Exception as error:  # noqa: BLE001 - what it is, is judged
                play.refusal(error, "a block, while another one was open,")
                return Commit(None)  # refused for the other's sake
            return found[0]

        for mine, other in interleaved(lambda: write(one, "a"), lambda: write(two, "b"), stage.interleavings):
            play.insist(
                mine.position != other.position or mine.position is None,
                f"two commits, one in the middle of the other, have one position: {mine.position}",
                "take the position inside the write lock, or promise no `exact`",
            )

    async def test_a_block_that_wrote_nothing_has_no_position(self, play: Play) -> None:
        """A commit without a write is acknowledged with no position, and nothing is demanded because of it."""
        link = await play.link(play.leader)
        await play.commit(link, {"k": "one"})
        handle = await play.done(link.write(link.leader(play.shard), play.shard, Frontier()))
        await play.get(handle.connection, "k")
        commit = await play.done(handle.commit(Frontier()))
        play.insist(
            commit.position is None,
            f"nothing was written, at {commit.position}",
            "return Commit(None) where nothing was written",
        )

    async def test_a_rollback_leaves_nothing(self, play: Play) -> None:
        """A rollback undoes everything and frees what was locked; it is idempotent."""
        link = await play.link(play.leader)
        leader = link.leader(play.shard)
        await play.commit(link, {"k": "one"})
        for _ in range(2):
            handle = await play.done(link.write(leader, play.shard, Frontier()))
            await play.put(handle.connection, "k", "two")
            await play.put(handle.connection, "other", "two")
            await play.done(handle.rollback())
            await play.done(handle.rollback())
            shown = [(await play.look(link, leader, key)).value for key in ("k", "other")]
            play.insist(
                shown == ["one", None],
                f"after a rollback, k and other are {shown}, not ['one', None]",
                "undo the transaction in rollback()",
            )
        await play.commit(link, {"k": "three"})
        play.insist(
            (await play.look(link, leader, "k")).value == "three",
            "a write after a rollback is not shown",
            "free the lock, and leave nothing of the old transaction on its connection",
        )

    async def test_a_block_that_has_ended_cannot_commit_again(self, play: Play) -> None:
        """A commit after the end of its block is refused, and a rollback then undoes nothing."""
        link = await play.link(play.leader)
        leader = link.leader(play.shard)
        for end in ("rollback", "commit"):
            handle = await play.done(link.write(leader, play.shard, Frontier()))
            await play.put(handle.connection, "k", end)
            await play.done(handle.rollback() if end == "rollback" else handle.commit(Frontier()))
            again = None
            try:
                again = await play.done(handle.commit(Frontier()))
            except Exception as error:  # noqa: BLE001 - what it is, is judged
                play.refusal(error, f"a commit after a {end}")
            play.insist(
                again is None,
                f"a commit after a {end} was acknowledged: {again}",
                "raise StoreError from a commit of an ended block",
            )
            await play.done(handle.rollback())
        value = (await play.look(link, leader, "k")).value
        play.insist(
            value == "commit", f"k is {value!r}, not what was committed", "let rollback() after a commit do nothing"
        )

    async def test_nothing_is_shown_before_it_is_committed(self, play: Play) -> None:
        """A block's writes are shown to itself, and to nobody else before the commit."""
        link, other = await play.link(play.leader), await play.link(play.leader)
        leader = link.leader(play.shard)
        await play.commit(link, {"k": "one"})
        handle = await play.done(link.write(leader, play.shard, Frontier()))
        try:
            await play.put(handle.connection, "k", "two")
            mine, theirs = await play.get(handle.connection, "k"), (await play.look(other, leader, "k")).value
        finally:
            await play.done(handle.rollback())
        play.insist(
            (mine, theirs) == ("two", "one"),
            f"before the commit, the block itself is shown {mine!r} and another {theirs!r}",
            "let a write block read its own writes, and isolate it from others",
        )

    async def test_a_write_blocks_watermarks_are_the_leaders(self, play: Play) -> None:
        """A write handle has the leader's watermark of its shard, with all that was committed before it: writes are gated on it."""
        link = await play.link(play.leader)
        written = play.joined(await play.commit(link, {"k": "one"}))
        handle = await play.done(link.write(link.leader(play.shard), play.shard, written))
        try:
            marks = handle.watermarks
            await play.put(handle.connection, "k", "two")
            later = play.joined(await play.done(handle.commit(written)))
        finally:
            await play.done(handle.rollback())
        before, own = verdict(marks, written.on(play.shard)), verdict(marks, later.on(play.shard))
        play.insist(
            before is Verdict.APPLIED and own is not Verdict.APPLIED and bool(marks[play.shard].leads),
            f"a write block after {written} says {before.name} of it, and {own.name} of {later}, which it wrote itself: {dict(marks)}",
            "give write handles the leader's watermarks, `leads` included, taken inside the write lock",
        )

    async def test_what_was_written_outside_has_a_position(self, play: Play) -> None:
        """`position(connection)` covers what was written and committed on a connection of the application's own."""
        link = await play.link(play.leader)
        if play.stage.follower is not None:
            await play.commit(link, {"k": "one"})
            play.stage.catch_up(play.follower)
            play.stage.pause(play.follower)
        asked = [link]
        if play.stage.follower is not None:
            asked.append(await play.link(play.follower))
        with play.stage.outside("k", "two") as connection:
            found = [(await play.done(one.position(connection))).on(play.shard) for one in asked]
        play.insist(
            all(found),
            f"position() is {found}, after a write was committed on that connection",
            "return the leader's head after that commit, or the position of the commit",
        )
        if play.stage.follower is None:
            return
        near = asked[-1]
        early = await play.look(near, play.follower, "k")
        for covered in found:
            play.insist(
                early.value == "two" or verdict(early.watermarks, covered) is not Verdict.APPLIED,
                f"position() is {covered}; {play.follower} calls that applied and shows {early.value!r}, not 'two'",
                "return the leader's head after that commit, asked for now, or the position of the commit; wherever the process is",
            )
        play.stage.resume(play.follower)
        play.stage.catch_up(play.follower)
        marks, shown = await play.probe(near, play.follower), await play.look(near, play.follower, "k")
        for covered in found:
            play.insist(
                shown.value == "two" and verdict(marks, covered) is Verdict.APPLIED,
                f"position() is {covered}; {play.follower} shows {shown.value!r} and says {verdict(marks, covered).name}",
                "return the leader's head after that commit, or the position of the commit",
            )

    async def test_who_does_not_lead_takes_no_writes(self, play: Play) -> None:
        """An endpoint that leads no origin of a shard, as its watermark says, refuses writes of it, and nothing is left of them."""
        leader, away = play.leader, play.follower
        link, writing = await play.link(away), await play.link(leader)
        await play.commit(writing, {"k": "one"})
        play.stage.catch_up(away)
        if (await play.probe(link, away))[play.shard].leads:
            raise NotOffered(f"{away} leads an origin of its own, as its watermark says: it may take writes")
        said: Commit | None = None
        try:
            handle = await play.done(link.write(away, play.shard, Frontier()))
            try:
                await play.put(handle.connection, "k", "two")
                said = await play.done(handle.commit(Frontier()))
            finally:
                await play.done(handle.rollback())
        except Exception as error:  # noqa: BLE001 - what it is, is judged
            play.refusal(error, f"a write at {away}, which leads nothing,")
            play.insist(
                not isinstance(error, CommitUnknown),
                f"a write at {away}, which leads nothing, is in doubt: {error!r}",
                "refuse it before anything is written: CommitUnknown is for a commit that may have been made",
            )
        play.insist(
            said is None,
            f"{away} says that it leads no origin of shard {play.shard}, and has acknowledged a write: {said}",
            "raise Unreachable from write() at a server that does not lead (look inside its lock: a failover may come before)",
        )
        shown = {e: (await play.look(near, e, "k")).value for e, near in ((leader, writing), (away, link))}
        play.insist(
            set(shown.values()) == {"one"},
            f"{away} has refused to write 'two', and by endpoint shown is {shown}",
            "leave nothing of a write that was refused",
        )
        await play.commit(writing, {"k": "three"})

    # --- no answer --------------------------------------------------------------------------------------------------

    async def test_a_commit_without_an_answer_is_said_made_or_not(self, play: Play) -> None:
        """`commit` raises CommitUnknown when no answer came, whether it was made or not, and nothing else does."""
        link = await play.link(play.leader)
        leader = link.leader(play.shard)
        for committed in (True, False):
            await play.commit(link, {"k": "before"})
            play.stage.lose_answer(leader, committed=committed)
            handle = await play.done(link.write(leader, play.shard, Frontier()))
            await play.put(handle.connection, "k", "in doubt")
            said: object = None
            try:
                said = await play.done(handle.commit(Frontier()))
            except Exception as error:  # noqa: BLE001 - what it is, is judged
                said = error
            await play.done(handle.rollback())
            play.insist(
                isinstance(said, CommitUnknown),
                f"a commit whose answer was lost ({'made' if committed else 'not made'}) gave {said!r}",
                "raise CommitUnknown whenever the outcome is not known: never a position, never an error that says not committed",
            )
            value = (await play.look(link, leader, "k")).value
            play.insist(
                value == ("in doubt" if committed else "before"),
                f"after a commit in doubt that was {'made' if committed else 'not made'}, k is {value!r}",
                "let lose_answer(committed=...) of the stage lose the answer alone",
            )
