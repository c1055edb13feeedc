"""What is said when servers fail: unreachable ones, logs that forget, writes that are lost."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs

from causal.core.frontier import Frontier, Position
from causal.core.watermark import Verdict
from causal.errors import CausalError, StoreError, Unreachable
from causal.testing.contract.base import Promises
from causal.testing.contract.play import verdict
from causal.testing.stage import NotOffered, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from causal.core.watermark import Watermark
    from causal.testing.contract.play import Play

_PATIENCE_S = 20.0
"""How long a failover may take until a new leader takes writes: after that the test says that none does."""


@attrs.frozen
class _Failover:
    """A failover that has been: a link that was opened after it, by key what is kept and where that was written, and what is lost.

    `early` is the watermark of the follower from before it had what is kept. Thread-safety: as the link.
    """

    link: Any
    kept: Mapping[str, tuple[str | None, Frontier]]
    lost: Frontier
    early: Watermark


class Failures(Promises):
    """Unreachable endpoints and lost writes."""

    async def test_an_unreachable_endpoint_says_so_and_no_other(self, play: Play) -> None:
        """What is asked of an endpoint that cannot be reached raises Unreachable, never an answer from memory; others answer."""
        link, away = await play.link(play.leader), play.follower
        await play.wrote(link, "k", "one")
        play.stage.catch_up(away)
        await play.probe(link, away)
        await play.look(link, away, "k")
        play.stage.cut_off(away)
        try:
            for what, call in (
                ("probe", lambda: link.probe(away, 1.0)),
                ("read", lambda: link.read(away, (play.shard,))),
            ):
                error = await self._error(play, call)
                play.insist(
                    isinstance(error, Unreachable),
                    f"{away} is cut off, and {what} gave {error!r}",
                    "ask the server every time, and raise Unreachable when it does not answer: an old answer proves nothing",
                )
            leader = link.leader(play.shard)
            marks, shown = await play.probe(link, leader), await play.look(link, leader, "k")
            play.insist(
                play.shard in marks and shown.value == "one",
                f"{away} is cut off, and {leader} shows {shown.value!r}",
                "let an endpoint fail alone",
            )
        finally:
            play.stage.rejoin(away)
        back = await self._patiently(play, lambda: link.probe(away, 5.0), f"{away} rejoined and is asked")
        play.insist(
            play.shard in back, f"{away} rejoined and answers for {sorted(back)}", "connect again once it is there"
        )

    async def test_writes_say_that_their_leader_is_unreachable(self, play: Play) -> None:
        """A write to a leader that cannot be reached raises Unreachable: nothing was committed."""
        link = await play.link(play.follower)
        play.stage.cut_off(play.leader)
        try:
            error = await self._error(play, lambda: link.write(play.leader, play.shard, Frontier()))
        finally:
            play.stage.rejoin(play.leader)
        play.insist(
            isinstance(error, Unreachable),
            f"{play.leader} is cut off, and a write there gave {error!r}",
            "raise Unreachable from write(): CommitUnknown is for commit() alone",
        )

    # --- a log that forgets ------------------------------------------------------------------------------------------------

    async def test_a_log_that_forgets_ends_its_origin_and_starts_another(self, play: Play) -> None:
        """Whatever makes a log forget gives its origin an `end` and starts a new origin: origins are numbered once."""
        failover = await self._lost(play)
        link, lost = failover.link, failover.lost
        marks = await self._mark(play, link)
        (gone,) = lost
        play.insist(
            marks.origins.get(gone.origin, (0, None))[1] is not None,
            f"{gone} is lost, and its origin has no end: {dict(marks.origins)}",
            "note where the surviving history of an origin stops, and tell it in every watermark",
        )
        again = await self._again(play, link)
        play.insist(
            all(p.origin != gone.origin for p in again.on(play.shard)),
            f"{gone} is lost, and a write after that is numbered {again}: under the same origin",
            "start a new origin whenever the log may have forgotten: a name that is used again makes lost writes look applied",
        )

    async def test_a_lost_write_is_past_the_end_and_never_applied(self, play: Play) -> None:
        """A lost write is LOST where it is known, never APPLIED, also after the log has grown past its offset."""
        failover = await self._lost(play)
        link, lost = failover.link, failover.lost
        said = verdict({play.shard: await self._mark(play, link)}, lost)
        play.insist(
            said is Verdict.LOST,
            f"{lost} is lost, and whoever leads says {said.name}",
            "give its origin an end below it: nobody waits for ever then, and nobody is served without it",
        )
        for _ in range(3):
            await self._again(play, link)
        for name, marks in (await self._all(play, link)).items():
            said = verdict(marks, lost)
            play.insist(
                said is not Verdict.APPLIED,
                f"{lost} is lost, and {name} says APPLIED",
                "never let an ended origin go on",
            )

    async def test_what_survives_a_failover_is_still_applied(self, play: Play) -> None:
        """What a log has not forgotten stays APPLIED, is shown, deletions too, and is seen, under the name of its ended origin."""
        failover = await self._lost(play)
        link = failover.link
        for when in ("", ", and one more write later"):
            marks = {play.shard: await self._mark(play, link)}
            leader = link.leader(play.shard)
            lacking = attrs.evolve(
                failover.early,
                origins=dict.fromkeys(marks[play.shard].origins, (0, None)) | dict(failover.early.origins),
            )
            for key, (value, written) in failover.kept.items():
                said, shown = verdict(marks, written), await play.look(link, leader, key)
                play.insist(
                    said is Verdict.APPLIED and shown.value == value,
                    f"{key} = {value!r}, of {written}, was on every server before the failover; {leader} shows {shown.value!r} and "
                    f"says {said.name}{when}",
                    "keep every origin of the past in the watermarks, with its end, and deletions (None) as values are kept",
                )
                play.insist(
                    verdict({play.shard: lacking}, shown.seen) is not Verdict.APPLIED,
                    f"{leader} shows {key} = {value!r}, of {written}, and has seen {shown.seen}{when}: {play.follower} covered "
                    f"that before it had {written}, by its watermark of then, with 0 of new origins: {dict(lacking.origins)}",
                    "report in seen() the positions of every origin that was shown, ended ones included, and not of the newest alone",
                )
            await self._again(play, link)

    async def test_every_failover_starts_an_origin_of_its_own(self, play: Play) -> None:
        """Origins are numbered once, over all failovers: no origin comes again, and no position is given to two writes."""
        if play.stage.failovers < 2:
            raise NotOffered(f"{type(play.stage).__name__} has no second failover (failovers = {play.stage.failovers})")
        given, ended, lost = dict[Position, str](), dict[int, str](), Frontier()
        lives = ("before the first failover", "after the first", "after the second")
        for n, life in enumerate(lives):
            link = await play.link(play.leader)
            if verdict({play.shard: await self._mark(play, link)}, lost) is not Verdict.APPLIED:
                ended |= {p.origin: lives[n - 1] for p in lost}
            for _ in range(3):
                for p in (await self._again(play, link)).on(play.shard):
                    before = ended.get(p.origin) or given.get(p)
                    play.insist(
                        before is None,
                        f"a write {life} has {p}, which is of the history of {before!r}",
                        "start at each failover an origin that was never there: one more than all that this server ever heard of",
                    )
                    given[p] = life
            if life != lives[-1]:
                with play.stage.losing():
                    lost = play.joined(await play.commit(link, {"k": "lost"})).on(play.shard)
                    await play.close()

    async def test_a_link_that_was_open_meanwhile_finds_the_new_leader(self, play: Play) -> None:
        """A link lives through a failover: who leads then it says as a new link does, or refuses; and it reads and writes there."""
        opened = {near: await play.link(near) for near in (play.leader, play.follower)}
        for link in opened.values():
            await play.commit(link, {"k": "kept"})
            await self._all(play, link)
        play.stage.catch_up(play.follower)
        play.stage.fail_over(play.leader)
        for near, link in opened.items():
            new = await play.link(near)
            await self._again(play, new)
            leader, said = new.leader(play.shard), await self._says(play, link, new.leader(play.shard))
            play.insist(
                said in {leader, None},
                f"{play.leader} failed over; beside {near}, a link of before that says that {said} leads, and a new one {leader}",
                "look up who leads in leader(shard), or whenever a server was asked or did not answer: not once, when the link is opened",
            )
            if said is None:
                continue  # it refuses: whoever has it knows that it is no use any more
            await self._again(play, link)
            shown = (await play.look(link, leader, "k")).value
            play.insist(
                shown == "kept",
                f"{play.leader} failed over; a link that was opened before that shows k = {shown!r} at {leader}, not 'kept'",
                "connect again where a link's connections are of a server that is gone",
            )

    async def _says(self, play: Play, link: Any, leader: str) -> str | None:
        """Return who leads, as a link says once it has had time to find out; None where it refuses."""
        deadline = time.monotonic() + _PATIENCE_S
        said: str | None = None
        while said != leader:
            await self._all(play, link)
            try:
                said = link.leader(play.shard)
            except CausalError:
                said = None
            if time.monotonic() > deadline:
                break
        return said

    async def test_a_commit_survives_a_crash_or_is_known_to_be_lost(self, play: Play) -> None:
        """An acknowledged commit is durable where it is acknowledged: after a crash it is APPLIED and shown, or its origin has an end."""
        link, leader, written = await play.link(play.leader), play.leader, Frontier()
        for value in ("one", "two", "three"):
            written = play.joined(await play.commit(link, {"k": value})).on(play.shard)
        with play.stage.crashing(leader):
            await play.close()
        link = await play.link(leader)
        await self._patiently(play, lambda: link.probe(link.leader(play.shard), 5.0), f"{leader} crashed and is asked")
        for when in ("", ", and one more write later"):
            mark, shown = await self._mark(play, link), await play.look(link, link.leader(play.shard), "k")
            said = verdict({play.shard: mark}, written)
            play.insist(
                shown.value == "three" if said is Verdict.APPLIED else said is Verdict.LOST and shown.value != "three",
                f"{leader} crashed after it had acknowledged 'three' at {written}: it shows {shown.value!r} and says {said.name}{when}",
                "write and sync the log before commit() returns; where commits may be dropped, start a new origin at every start",
            )
            again = await self._again(play, link)
            play.insist(
                all(p.origin != q.origin or p.offset > q.offset for p in again.on(play.shard) for q in written),
                f"{leader} crashed after it had acknowledged {written}, and then gave {again} to another write",
                "never give a number twice under one origin",
            )

    async def _lost(self, play: Play) -> _Failover:
        """Write what is kept, then lose a write."""
        writing, kept = await play.link(play.leader), dict[str, tuple[str | None, Frontier]]()
        deletes = type(play.stage).delete is not Stage.delete
        await play.commit(writing, {"k": "old"} | ({"gone": "old"} if deletes else {}))
        play.stage.catch_up(play.follower)
        early = (await play.probe(writing, play.follower))[play.shard]
        for key, value in ({"k": "kept"} | ({"gone": None} if deletes else {})).items():
            kept[key] = value, play.joined(await play.commit(writing, {key: value})).on(play.shard)
        play.stage.catch_up(play.follower)
        with play.stage.losing():
            lost = play.joined(await play.commit(writing, {"k": "lost"})).on(play.shard)
            await play.close()  # a process that has the old server open need not see it replaced
        link = await play.link(play.leader)
        await self._patiently(
            play, lambda: link.probe(link.leader(play.shard), 5.0), "a leader is asked after the failover"
        )
        return _Failover(link, kept, lost, early)

    async def _mark(self, play: Play, link: Any) -> Watermark:
        marks: Mapping[int, Watermark] = await self._patiently(
            play, lambda: link.probe(link.leader(play.shard), 5.0), "a leader is asked after the failover"
        )
        return marks[play.shard]

    async def _again(self, play: Play, link: Any) -> Frontier:
        """Write after a failover, again until a leader takes it."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                await self._all(play, link)
                return play.joined(await play.commit(link, {"after": "x"}))
            except CausalError as error:
                if time.monotonic() > deadline:
                    play.broken(
                        f"no write was possible after the failover: {error!r}", "find the new leader in leader(shard)"
                    )

    async def _all(self, play: Play, link: Any) -> dict[str, Mapping[int, Watermark]]:
        found = {}
        for endpoint in link.endpoints:
            with suppress(StoreError):
                found[endpoint.name] = await play.probe(link, endpoint.name)
        return found

    async def _patiently(self, play: Play, ask: Callable[[], Any], what: str) -> Any:
        """Ask until there is an answer, of everybody in between: who leads may have to be found out."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return await play.done(ask())
            except StoreError as error:
                if time.monotonic() > deadline:
                    play.broken(f"{what}, and there is no answer: {error!r}", "connect again, and find the new leader")

    async def _error(self, play: Play, call: Callable[[], Any]) -> BaseException | None:
        try:
            given = await play.done(call())
        except Exception as error:  # noqa: BLE001 - what it is, the test judges
            return error
        for end in ("close", "rollback"):
            if hasattr(given, end):
                await play.done(getattr(given, end)())
        return None
