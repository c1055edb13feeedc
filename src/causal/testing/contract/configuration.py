"""What an engine and its links say of themselves: shards, endpoints, who numbers what; and what they refuse."""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import select
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any, cast

from causal.core.frontier import Frontier
from causal.engine import Capabilities
from causal.errors import CausalError, ConfigError, Unreachable
from causal.testing.contract.base import Promises, once
from causal.testing.stage import NotOffered

if TYPE_CHECKING:
    from collections.abc import Callable

    from causal.testing.contract.play import Play

_CHILD_S = 60.0
_LOOKS = 20
_LOOK_S = 0.01


class Configuration(Promises):
    """Engines, links and endpoints."""

    @once
    async def test_an_engine_says_what_it_is(self, play: Play) -> None:
        """`shards` maps names to indexes in 0..65535, no index twice; `capabilities` never changes."""
        engine = play.stage.engine(play.main)
        indexes, said = list(engine.shards.values()), cast("object", engine.capabilities)
        play.insist(
            bool(indexes)
            and len(set(indexes)) == len(indexes)
            and all(type(i) is int and 0 <= i < 2**16 for i in indexes),
            f"shards are {dict(engine.shards)}",
            "give every shard an index of its own in 0..65535, which is stored and never reused",
        )
        play.insist(
            isinstance(said, Capabilities) and said == engine.capabilities,
            f"capabilities are {said!r}",
            "return one causal.engine.Capabilities, always equal",
        )

    @once
    async def test_making_an_engine_connects_nothing(self, play: Play) -> None:
        """An engine is configuration: it connects nothing and starts nothing, so that it may be made before a fork."""
        play.stage.engine(play.main)
        before = _held()
        engine = play.stage.engine(play.main)
        _ = engine.shards, engine.capabilities
        left = _left(before)
        play.insist(
            not left,
            f"making an engine left open files or threads: {', '.join(sorted(left))}",
            "connect in open() and aopen(), and start threads there; close() ends them",
        )

    @once
    async def test_an_engine_is_the_same_after_pickling(self, play: Play) -> None:
        """An engine that promises it can be sent to another process."""
        if not play.stage.pickles:
            raise NotOffered("this stage does not promise that its engine pickles (Stage.pickles)")
        link = await play.link()
        await play.wrote(link, "k", "one")
        play.follow()
        copy = pickle.loads(pickle.dumps(play.stage.engine(play.main)))  # noqa: S301 - what was just dumped
        other = copy.open(play.stage.store)
        try:
            shown = await play.look(other, play.main, "k")
        finally:
            other.close()
        play.insist(
            shown.value == "one", f"the copy shows {shown.value!r}, not 'one'", "pickle the configuration, nothing live"
        )

    @once
    async def test_an_engine_made_before_a_fork_works_in_the_child(self, play: Play) -> None:
        """An engine may be created before a fork: the child opens a link of its own."""
        if not play.stage.forks or not hasattr(os, "fork"):
            raise NotOffered("this stage does not promise that its engine can be made before a fork (Stage.forks)")
        link = await play.link()
        await play.wrote(link, "k", "one")
        play.follow()
        await play.close()  # what is open when a process forks is another matter, and no engine's promise
        engine = play.stage.engine(play.main)

        def child() -> str:
            other = engine.open(play.stage.store)
            handle = other.read(play.main, (play.shard,))
            value = play.stage.get(handle.connection, "k")
            handle.close()
            other.close()
            return str(value)

        said = _forked(child)
        play.insist(
            said == "one",
            f"the child of a fork was shown {said}",
            "hold nothing live in the engine: no connection, lock or thread",
        )

    async def test_links_of_one_engine_are_apart(self, play: Play) -> None:
        """Closing a link is idempotent, and ends that link alone; what is asked of it afterwards is refused."""
        one, other = await play.link(), await play.link()
        await play.wrote(other, "k", "one")
        play.follow()
        await play.done(one.close())
        await play.done(one.close())
        for what in (lambda: one.probe(play.main, 1.0), lambda: one.read(play.main, (play.shard,))):
            play.insist(
                isinstance(await _refusal(play, what), CausalError),
                "a closed link still answers, or fails with something else than a CausalError",
                "raise ConfigError or StoreError after close()",
            )
        shown = await play.look(other, play.main, "k")
        play.insist(
            shown.value == "one", f"another link shows {shown.value!r}, not 'one'", "share nothing that close() ends"
        )

    # --- endpoints ----------------------------------------------------------------------------------------------------

    async def test_endpoints_have_names_of_their_own(self, play: Play) -> None:
        """`endpoints` lists each server once, with a name and an expected round trip; one of them serves."""
        link = await play.link()
        listed = list(link.endpoints)
        names = [e.name for e in listed]
        play.insist(
            len(set(names)) == len(names)
            and all(isinstance(n, str) and n for n in names)
            and any(e.serves for e in listed),
            f"endpoints are {listed}",
            "give each endpoint a text as its own name, and let one of them serve",
        )
        play.insist(
            all(0 <= e.latency_s < math.inf for e in listed),
            f"latencies are {[e.latency_s for e in listed]}",
            "give the expected round trip in seconds",
        )
        wanted = [n for n in (play.stage.leader, play.stage.follower) if n and n not in names]
        play.insist(
            not wanted, f"{wanted} are not endpoints: there are {names}", "name endpoints in the stage as the link does"
        )

    async def test_a_probe_answers_for_every_shard_under_the_stores_number(self, play: Play) -> None:
        """A probe returns a watermark for each shard that its endpoint holds; shard ids are `store << 16 | index`."""
        link, every = await play.link(), frozenset(play.shards().values())
        for endpoint in link.endpoints:
            marks = await play.probe(link, endpoint.name)
            held = every if endpoint.shards is None else every & endpoint.shards
            play.insist(
                set(marks) == held and all(mark.shard == shard for shard, mark in marks.items()),
                f"{endpoint.name} answers for {sorted(marks)} ({sorted(m.shard for m in marks.values())}), not for {sorted(held)}",
                f"number shards under the store that open() was given: {play.stage.store} << 16 | index",
            )

    async def test_the_leader_is_an_endpoint_that_numbers(self, play: Play) -> None:
        """`leader(shard)` names an endpoint whose watermark leads an origin of that shard, and lists it."""
        link = await play.link(play.leader)
        play.insist(
            link.leader(play.shard) == play.leader,
            f"leader({play.shard}) is {link.leader(play.shard)!r} beside {play.leader!r}, which is said to lead",
            "return the endpoint that takes this process's writes; or the stage names the wrong one as its `leader`",
        )
        for name, shard in play.shards().items():
            leader = link.leader(shard)
            play.insist(
                leader in {e.name for e in link.endpoints if e.serves},
                f"leader({name}) is {leader!r}: no endpoint that serves",
                "return the name of an endpoint that takes writes",
            )
            mark = (await play.probe(link, leader))[shard]
            play.insist(
                bool(mark.leads) and mark.leads <= mark.origins.keys(),
                f"leader({name}) is {leader!r}, which leads {sorted(mark.leads)} of the origins {sorted(mark.origins)}",
                "name the server that numbers the writes, and put its origin into `leads` and `origins` of its watermark",
            )

    async def test_a_commit_is_numbered_by_its_leader(self, play: Play) -> None:
        """The origin of a commit is one that the endpoint of `leader(shard)` leads, and nobody else."""
        link = await play.link(play.leader)
        for name, shard in play.shards().items():
            position = (await play.commit(link, {"k": "one"}, shard=shard)).position
            leads = {
                e.name: (await play.probe(link, e.name))[shard].leads
                for e in link.endpoints
                if e.shards is None or shard in e.shards
            }
            who = sorted(n for n, origins in leads.items() if position is not None and position.origin in origins)
            play.insist(
                who == [link.leader(shard)],
                f"{position} was written at {link.leader(shard)!r}; its origin is led by {who or 'nobody'}",
                f"let leader({name}) and the watermarks' `leads` agree: one endpoint for each origin",
            )

    # --- what is not there ---------------------------------------------------------------------------------------------

    async def test_an_unknown_endpoint_is_refused(self, play: Play) -> None:
        """What is asked of an endpoint that is not listed is refused with Unreachable or ConfigError."""
        link = await play.link()
        for what in (lambda: link.probe("nowhere", 1.0), lambda: link.read("nowhere", (play.shard,))):
            error = await _refusal(play, what)
            play.insist(
                isinstance(error, Unreachable | ConfigError),
                f"an endpoint 'nowhere' gave {error!r}",
                "raise Unreachable or ConfigError for a name that is not in `endpoints`",
            )

    async def test_an_unknown_shard_is_refused(self, play: Play) -> None:
        """A read or write of a shard that the engine does not have is refused, and leaves no lock behind."""
        link, unknown = await play.link(play.leader), play.stage.store << 16 | 0xFFFF
        endpoint = link.leader(play.shard)
        attempts: list[Callable[[], Any]] = [lambda: link.write(endpoint, unknown, Frontier())]
        if not play.stage.engine(play.leader).capabilities.whole:
            attempts.append(lambda: link.read(endpoint, (unknown,)))
        for what in attempts:
            error = await _refusal(play, what)
            play.insist(
                isinstance(error, Unreachable | ConfigError),
                f"shard {unknown}, which is none, gave {error!r}",
                "raise ConfigError for a shard id that is not of this engine and store number",
            )
        await play.wrote(link, "k", "one")


async def _refusal(play: Play, what: Callable[[], Any]) -> BaseException | None:
    """Return what a call raises; None if it raised nothing, and then what it gave is closed."""
    try:
        given = await play.done(what())
    except Exception as error:  # noqa: BLE001 - what it is, the test judges
        return error
    for end in ("close", "rollback"):
        if hasattr(given, end):
            await play.done(getattr(given, end)())
    return None


def _left(before: set[str]) -> set[str]:
    """Return what is held since then and stays: other threads of this process open files, too, for a moment."""
    left = _held() - before
    for _ in range(_LOOKS):
        if left:
            time.sleep(_LOOK_S)
            left &= _held()
    return left


def _held() -> set[str]:
    """Name this process's open files and threads."""
    held = {f"thread {thread.name} {thread.ident}" for thread in threading.enumerate()}
    for folder in ("/proc/self/fd", "/dev/fd"):
        if os.path.isdir(folder):
            for number in os.listdir(folder):
                with contextlib.suppress(OSError):  # of this very look, or closed since
                    os.fstat(int(number))
                    held.add(f"file {number} {os.path.realpath(f'{folder}/{number}')}")
            break
    return held


def _forked(work: Callable[[], str]) -> str:
    """Run work in a child process; return what it returned, or how it ended otherwise."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: the child uses none that was there before
        pid = os.fork()
    if pid == 0:
        try:
            os.write(write, work().encode())
        except BaseException as error:  # noqa: BLE001 - the parent says it
            os.write(write, repr(error).encode()[:4000])
        finally:
            os._exit(0)
    os.close(write)
    ready, _, _ = select.select([read], [], [], _CHILD_S)
    said = os.read(read, 4096).decode() if ready else "nothing: the child hangs"
    if not ready:
        os.kill(pid, 9)
    os.close(read)
    os.waitpid(pid, 0)
    return said
