"""What is said when servers fail: unreachable ones, logs that forget, writes that are lost."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from causal.core.frontier import Frontier
from causal.core.watermark import Verdict
from causal.errors import CausalError, StoreError, Unreachable
from causal.testing.contract.base import Promises
from causal.testing.contract.play import verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from causal.core.watermark import Watermark
    from causal.testing.contract.play import Play

_PATIENCE_S = 20.0
"""How long a failover may take until a new leader takes writes: after that the test says that none does."""


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
        link, _, lost = await self._lost(play)
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
        link, _, lost = await self._lost(play)
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
        """What a log has not forgotten stays APPLIED, and is shown."""
        link, kept, _ = await self._lost(play)
        await self._again(play, link)
        leader = link.leader(play.shard)
        marks, shown = await play.probe(link, leader), await play.look(link, leader, "k")
        said = verdict(marks, kept)
        play.insist(
            said is Verdict.APPLIED and shown.value == "kept",
            f"{kept} was on every server before the failover; {leader} shows {shown.value!r} and says {said.name}",
            "keep every origin of the past in the watermarks, with its end",
        )

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

    async def _lost(self, play: Play) -> tuple[Any, Frontier, Frontier]:
        """Write what is kept, then lose a write; return a new link beside the follower, and where both are."""
        writing = await play.link(play.leader)
        kept = play.joined(await play.commit(writing, {"k": "kept"})).on(play.shard)
        play.stage.catch_up(play.follower)
        with play.stage.losing():
            lost = play.joined(await play.commit(writing, {"k": "lost"})).on(play.shard)
            await play.close()  # a process that has the old server open need not see it replaced
        link = await play.link(play.leader)
        await self._patiently(
            play, lambda: link.probe(link.leader(play.shard), 5.0), "a leader is asked after the failover"
        )
        return link, kept, Frontier(p for p in lost if p not in set(kept))

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
