"""End to end: what sessions are shown through `CausalStore` and its asynchronous twin, over an engine whose replica lags."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from causal.core.policy import ReadPolicy
from causal.errors import GateError, WriteLost
from causal.session import Written
from causal.testing.contract.base import Promises
from causal.testing.contract.play import EVENTUAL
from causal.testing.stage import Stage

if TYPE_CHECKING:
    from causal.testing.contract.play import Play

_PATIENT = ReadPolicy(wait_s=60.0, then="error", unproven="serve")
"""Its patience is never used up: the test lets the replica catch up while the read waits."""
_ENOUGH = 100
"""How often a read may look again before it is said to wait, or to be refused, for ever."""
_STRICT = ReadPolicy(wait_s=0.02, then="error", unproven="serve")


class Sessions(Promises):
    """The session guarantees, over this engine."""

    async def _lagging(self, play: Play, *, alone: bool = False, **settings: Any) -> tuple[Any, Any, str | None]:
        """Open a store beside each server; let alice write 'new' while the follower stands still; return also her token."""
        near = await play.store(play.follower, alone=alone, **settings)
        if play.stage.read_only:
            writing = await play.link()
            await play.wrote(writing, "k", "old")
            play.stage.catch_up(play.follower)
            session = near.session(subject="alice")
            session.join(Written.of(dict((await play.wrote(writing, "k", "new")).entries)))
            return near, near, session.token()
        far = await play.store(play.leader)
        await play.write(far.session(subject="nobody"), "k", "old")
        play.stage.catch_up(play.follower)
        play.stage.pause(play.follower)
        alice = far.session(subject="alice")
        await play.write(alice, "k", "new")
        (value,), _ = await play.read(near.session(subject="nobody"), "k", policy=EVENTUAL)
        play.insist(
            value == "old",
            f"a read without a token, beside the paused {play.follower}, shows {value!r}: it does not read there, or that does not lag",
            "engine(near) lists the endpoint beside it as the nearest; pause() holds back what is applied there",
        )
        return far, near, alice.token()

    async def test_a_session_reads_its_own_writes_though_the_replica_lags(self, play: Play) -> None:
        """Read your writes: a read with the writer's token shows the write, at the leader if it must be."""
        _ = play.leader
        _, near, token = await self._lagging(play)
        (value,), receipt = await play.read(near.session(token, subject="alice"), "k")
        play.insist(
            value == "new" and receipt.held,
            f"alice reads {value!r} after she wrote 'new': {receipt}, {receipt.considered}",
            "look at what the watermark of the lagging replica says of her position",
        )

    async def test_a_read_is_held_back_until_the_replica_has_caught_up(self, play: Play) -> None:
        """A read that demands more than a replica has waits for it, and is served there."""
        slept = 0

        def pause(_: float) -> None:
            nonlocal slept
            play.stage.catch_up(play.follower)
            slept += 1
            play.insist(
                slept < _ENOUGH,
                f"{play.follower} has caught up, and a read still waits for it",
                "let probe() see what is applied meanwhile",
            )

        async def apause(_: float) -> None:
            pause(_)
            await asyncio.sleep(0)

        settings: Any = {"sleep": pause if play.kind == "synchronous" else apause}
        _, near, token = await self._lagging(play, alone=True, **settings)
        (value,), receipt = await play.read(near.session(token, subject="alice"), "k", policy=_PATIENT)
        play.insist(
            value == "new" and receipt.endpoint == play.follower and receipt.held,
            f"a read that waited for {play.follower} shows {value!r}: {receipt}, {receipt.considered}",
            "let probe() see what is applied meanwhile",
        )

    async def test_a_read_that_nobody_covers_in_time_is_refused(self, play: Play) -> None:
        """A read that no other endpoint may serve is refused when its time is up, and may be tried again."""
        _, near, token = await self._lagging(play, alone=True)
        try:
            (value,), receipt = await play.read(near.session(token, subject="alice"), "k", policy=_STRICT)
        except GateError as error:
            play.insist(
                error.retryable, f"the refusal is final: {error!r}", "say BEHIND of what may still come, never LOST"
            )
            return
        play.broken(
            f"{play.follower} stands still, and alice was served {value!r} there: {receipt}",
            "look at what the watermark of the lagging replica says of her position",
        )

    async def test_a_token_is_handed_on(self, play: Play) -> None:
        """A token that is sealed for another makes them see what its giver knew."""
        _ = play.leader
        far, near, token = await self._lagging(play)
        sealed = far.session(token, subject="alice").token(subject="bob")
        (value,), receipt = await play.read(near.session(sealed, subject="bob"), "k")
        play.insist(
            value == "new", f"bob, with alice's token, reads {value!r}: {receipt}", "see above: read your writes"
        )

    async def test_reads_never_go_backwards(self, play: Play) -> None:
        """Monotonic reads: who was shown a write somewhere is never shown the state before it elsewhere."""
        _ = play.leader
        far, near, _ = await self._lagging(play)
        bob = far.session(subject="bob")
        (first,), _ = await play.read(bob, "k")
        (again,), receipt = await play.read(near.session(bob.token(), subject="bob"), "k")
        play.insist(
            (first, again) == ("new", "new"),
            f"bob read {first!r}, and then {again!r} at another server: {receipt}",
            "report in seen() what reads showed: that is what his token demands",
        )

    async def test_own_writes_come_in_their_order(self, play: Play) -> None:
        """Monotonic writes: nobody is shown a session's later write without its earlier one."""
        _ = play.leader
        far, near, token = await self._lagging(play)
        with suppress(GateError):
            await play.write(near.session(token, subject="alice"), "later", "yes")
        await self._in_order(play, far, near, "later")

    async def test_a_write_that_changes_nothing_is_a_write(self, play: Play) -> None:
        """A write of what is there already counts: its writer is never shown what was there before that, on a replica that lags."""
        _ = play.leader
        far, near, _ = await self._lagging(play)
        bob = far.session(subject="bob")
        await play.write(bob, "k", "new")
        (value,), receipt = await play.read(near.session(bob.token(), subject="bob"), "k")
        play.insist(
            value == "new",
            f"bob wrote 'new', which was there at {play.leader}, and then reads {value!r}: {receipt}",
            "acknowledge every block that wrote with a position, also where no value changed (or count its key in seen())",
        )

    async def test_a_deletion_of_nothing_is_a_write(self, play: Play) -> None:
        """A deletion of what is gone already counts: who made it is never shown the key again, on a replica that lags."""
        _ = play.leader
        if type(play.stage).delete is Stage.delete:
            play.stage.delete(None, "k")  # says what is missing
        far, near, _ = await self._lagging(play)
        await play.write(far.session(subject="alice"), "k", None)
        bob = far.session(subject="bob")
        await play.write(bob, "k", None)
        (value,), receipt = await play.read(near.session(bob.token(), subject="bob"), "k")
        play.insist(
            value is None,
            f"bob deleted k, which was gone at {play.leader}, and then reads {value!r}: {receipt}",
            "acknowledge every block that wrote with a position, also where nothing was found to delete (or count its key in seen())",
        )

    async def test_writes_follow_reads(self, play: Play) -> None:
        """Writes follow reads: nobody is shown a reply without what it replies to."""
        _ = play.leader
        far, near, _ = await self._lagging(play)
        bob = far.session(subject="bob")
        await play.read(bob, "k")
        with suppress(GateError):
            await play.write(near.session(bob.token(), subject="bob"), "reply", "yes")
        await self._in_order(play, far, near, "reply")

    async def _in_order(self, play: Play, far: Any, near: Any, effect: str) -> None:
        for store in (far, near):
            shown, receipt = await play.read(store.session(subject="carol"), effect, "k", policy=EVENTUAL)
            play.insist(
                shown[0] is None or shown[1] == "new",
                f"{receipt.endpoint} shows the effect {effect} = {shown[0]!r}, and of its cause {shown[1]!r}",
                "give the write handle the watermarks of the leader, so that the write is refused or waits (I9)",
            )

    async def test_a_lost_write_is_said_and_can_be_accepted(self, play: Play) -> None:
        """A session whose acknowledged write is lost is told so, by reads and writes, and can go on without it."""
        far = await play.store(play.leader)
        kept = far.session(subject="alice")
        await play.write(kept, "k", "kept")
        play.stage.catch_up(play.follower)
        with play.stage.losing():
            await play.write(kept, "k", "lost")
        token = kept.token()
        await far.close() if play.kind == "asynchronous" else far.close()
        for near in (play.leader, play.follower):
            store = await play.store(near)
            session = store.session(token, subject="alice")
            error = await self._said(play, session)
            play.insist(
                isinstance(error, WriteLost),
                f"alice's write is lost, and her read beside {near} gave {error!r}",
                "end the origin of a log that forgets, and tell the end in the watermarks",
            )
            if isinstance(error, WriteLost):
                session.forget(error.lost)
                (value,), _ = await play.read(session, "k")
                play.insist(
                    value == "kept", f"after she accepted the loss, alice reads {value!r}", "keep what is below the end"
                )

    async def _said(self, play: Play, session: Any) -> GateError | list[str | None]:
        """Read until it is no more a matter of time."""
        for _ in range(_ENOUGH):
            try:
                shown, _ = await play.read(session, "k")
            except GateError as error:
                if not error.retryable:
                    return error
            else:
                return shown
        return GateError("refused for ever")
