"""The soak with the asynchronous store: each client is a task of one event loop, and the trouble is made in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from causal import AsyncCausalStore, Keyring
from tests.stores.postgres_soak import LOOK, PACE_S, PUT, SETTLE_S, Carried, Plan, Reader, Soak, Verdict, prepared

if TYPE_CHECKING:
    import random


class AsyncSoak(Soak):
    """The same audit over the same trouble; only the clients differ. A writer's lock is never waited for: nobody else's task holds it."""

    async def awrite(self, who: Carried, rng: random.Random) -> None:
        session = self.session(rng, who.token, subject=who.name)
        n = max(who.attempted, who.acknowledged) + 1
        with self.tolerating(who, session, writing=True):
            before = session._state.own
            async with session.write() as connection:
                who.attempted = n
                await connection.execute(PUT, (who.name, n))
            self.acknowledged(who, n, before, session)

    async def look(self, connection: Any, key: str) -> int:
        return self.shown_by(await (await connection.execute(LOOK, (key,))).fetchone())

    async def aread_own(self, who: Carried, rng: random.Random) -> bool:
        session = self.session(rng, who.token, subject=who.name)
        with self.tolerating(who, session):
            expected = who.acknowledged
            async with (block := session.read(policy=self.reads)) as connection:
                found = await self.look(connection, who.name)
            self.judge_own(who, session, expected, found, block.receipt)
            return True
        return False

    async def awriting(self, who: Carried, rng: random.Random) -> None:
        while not self.over.is_set():
            with who.lock:
                await self.awrite(who, rng)
                await self.aread_own(who, rng)
            await asyncio.sleep(rng.random() * PACE_S)
        deadline = time.monotonic() + SETTLE_S
        for _ in iter(lambda: time.monotonic() < deadline, False):
            if await self.aread_own(who, rng):
                return
            await asyncio.sleep(PACE_S)

    async def areading(self, reader: Reader, rng: random.Random) -> None:
        while not self.over.is_set():
            link = self.handed(reader, rng)
            session = self.session(rng, reader.token, link[1], subject=reader.name)
            with self.telling(reader, session):
                found = {}
                async with (block := session.read(policy=self.reads)) as connection:
                    for key in (link[0].name, rng.choice(self.writers).name):
                        found[key] = await self.look(connection, key)
                self.judge(reader, session, link, found, block.receipt)
            await asyncio.sleep(rng.random() * PACE_S)

    async def aguarded(self, who: Carried | Reader, rng: random.Random) -> None:
        try:
            await (self.awriting(who, rng) if isinstance(who, Carried) else self.areading(who, rng))
        except Exception as error:  # noqa: BLE001 - whatever a user would see besides the documented errors is a finding
            self.sin(self.verdict.unexpected, f"{type(error).__name__}: {error}")

    async def arun(self) -> Verdict:
        tasks = [asyncio.create_task(self.aguarded(who, rng)) for _, who, rng in self.clients()]
        try:
            await asyncio.to_thread(self.trouble)
        finally:
            self.over.set()
            _, hanging = await asyncio.wait(tasks, timeout=2 * SETTLE_S)
        self.verdict.unexpected += ["a client hangs"] * len(hanging)
        await asyncio.to_thread(self.lost)
        return self.verdict


async def _soak(plan: Plan) -> Verdict:
    keyring = Keyring.generate()
    with prepared(plan) as (cluster, engines):
        async with contextlib.AsyncExitStack() as stack:
            stores = [
                await stack.enter_async_context(
                    AsyncCausalStore(e, keyring=keyring, audience="soak", policy=plan.policy)
                )
                for e in engines
            ]
            return await AsyncSoak(plan, cluster, stores).arun()


def asoak(plan: Plan) -> Verdict:
    """Run one soak, each client as a task."""
    return asyncio.run(_soak(plan))
