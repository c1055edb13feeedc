"""Runs that are recorded for Trace.tla: of the embedded store, of the memory engine while it fails over, and of the simulator.

Owns what is recorded beyond a history's lines: what sessions demanded before and after, which ends were known, and when histories ended.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from causal import CausalStore, CommitUnknown, Keyring, ReadPolicy, Recorder, Session, WriteLost
from causal.core.frontier import Frontier
from causal.errors import GateError, StoreError
from causal.lab.faults import MIXES
from causal.lab.planet.recording import Recording
from causal.lab.planet.small import small_world
from causal.lab.simulator import STRATEGIES, Simulation
from causal.stores.memory import MemoryEngine
from causal.stores.sqlite import SQLiteEngine

Row = dict[str, Any]
OPERATIONS = ("read", "write", "end", "lost", "forget")


def places(frontier: Frontier) -> list[tuple[int, int, int]]:
    return [(p.shard, p.origin, p.offset) for p in frontier]


# --- stores --------------------------------------------------------------------------------------------------------------


class Undone(Exception):
    """A user changes their mind inside a write block."""


class Shop:
    """Users of stores at several sites, who go from one to another, one after the other. What they do is recorded."""

    def __init__(self, engines: dict[str, Any], **settings: Any) -> None:
        self.rows: list[Row] = []
        self.tokens: dict[str, str | None] = {}
        self.engines = engines
        self.recorders = {site: Recorder(self.line, values=True) for site in engines}
        keys = Keyring.generate()
        self.stores = {
            site: CausalStore(engine, keyring=keys, audience="shop", history=self.recorders[site], **settings)
            for site, engine in engines.items()
        }

    def line(self, line: Row) -> None:
        if line["op"] in ("read", "write", "lost", "forget"):
            self.rows.append(line)

    def session(self, who: str, site: str) -> Session[Any, Any]:
        return self.stores[site].session(self.tokens.get(who), subject=who)

    @contextmanager
    def noted(self, session: Session[Any, Any], who: str, site: str, at: str) -> Iterator[None]:
        """Say of the lines of an operation whose they are, and what their session demanded before and after it.

        What another operation inside of it has left its session with, it comes with when it ends. Of a block with several lines the first
        says what it came with, and the last what it was left with: nobody could look in between.
        """
        before, known = len(self.rows), self.known(at)
        self.came = session.own | session.seen
        try:
            yield
        finally:
            self.over()
            self.recorders[site].flush()
            self.came, came = session.own | session.seen, self.came
            rows = [row for row in self.rows[before:] if "session" in row and row["session"] != who]
            for row in rows:
                row["session"] = who
            rows = [row for row in rows if row["op"] in ("read", "write")]
            if rows:
                rows[0]["in"], rows[-1]["out"] = places(came), places(self.came)
            for row in rows:
                self.knew(row, known)

    def known(self, site: str) -> list[tuple[int, int, int]]:
        """Return the ends that a process knows."""
        return []

    def over(self) -> None:
        """Note what else has happened when an operation is over."""

    def knew(self, row: Row, known: list[tuple[int, int, int]]) -> None:
        """Say of a row what its process knew before, and its endpoint when it answered."""

    def block(
        self, session: Session[Any, Any], who: str, site: str, shard: str, key: str, value: Any, **how: Any
    ) -> Any:
        """Let a session write; return what its block has shown.

        `reads`: first it reads keys of the shard, inside of the block; `meanwhile`: it reads what is there elsewhere, (site, shard, key);
        `then`: it reads a key of the shard as any read does, which goes through the block;
        `undone`: then it changes its mind.
        """
        shown = []
        try:
            with session.write(shard=shard) as tx:
                shown = [tx.get(read) for read in how.get("reads", ())]
                tx.put(key, value)
                if "meanwhile" in how:
                    at, other, read = how["meanwhile"]
                    with (
                        self.noted(session, who, site, at),
                        session.read(self.stores[at], shard=other, policy=ReadPolicy.eventual()) as db,
                    ):
                        db.get(read)
                if "then" in how:
                    with session.read(shard=shard) as db:
                        shown.append(db.get(how["then"]))
                if how.get("undone"):
                    raise Undone
        except Undone:
            pass
        return shown

    def write(self, who: str, site: str, shard: str, key: str, value: str, **how: Any) -> Any:
        session = self.session(who, site)
        try:
            with self.noted(session, who, site, site):
                return self.block(session, who, site, shard, key, value, **how)
        finally:
            self.tokens[who] = session.token()

    def read(self, who: str, site: str, shard: str, key: str, policy: ReadPolicy | None = None) -> Any:
        session = self.session(who, site)
        try:
            with self.noted(session, who, site, site), session.read(shard=shard, policy=policy) as db:
                return db.get(key)
        finally:
            self.tokens[who] = session.token()

    def ship(self, site: str) -> None:
        """Let a site apply what the others have."""
        engine = self.engines[site]
        engine.resume(site)
        engine.catch_up(site)
        engine.pause(site)


def embedded(path: Path, **settings: Any) -> Shop:
    """Return a shop on the embedded store, at two sites."""
    far = {"eu": {"us": 0.001}, "us": {"eu": 0.001}}  # each site is nearest to itself
    return Shop(
        {
            site: SQLiteEngine(
                path / "data", site=site, shards=("photos", "posts"), replicate="manual", rtt_s=far[site]
            )
            for site in ("eu", "us")
        },
        **settings,
    )


START_S = 1_700_000_000


class Failing(Shop):
    """A shop on the memory engine, at sites that replicate when told to, that fail over, and whose answers are lost.

    Of each row it is recorded which ends its process knew before, and which its endpoint knew when it answered; and in which life that was.
    """

    def __init__(self, seed: int = 0, sites: tuple[str, ...] = ("eu", "us", "ap")) -> None:
        self.random, self.now_s, self.written = random.Random(seed), 0.0, 0
        clocks: Any = {"monotonic": lambda: self.now_s, "wall": lambda: START_S + self.now_s, "sleep": lambda s: None}
        engine = MemoryEngine(
            sites, shards=("photos", "posts"), **clocks | {"wall": lambda: int((START_S + self.now_s) * 1e9)}
        )
        self.cluster = engine.cluster
        self.sites = sites
        super().__init__({site: engine.at(site) for site in sites}, policy=ReadPolicy(0.0), **clocks)
        self.alone()

    def alone(self, *awake: str) -> None:
        """Let sites hear of nothing but what they are told, but for some."""
        for site in self.sites:
            (self.cluster.resume if site in awake else self.cluster.pause)(site)

    def fails_over(self, site: str, *hear: str) -> None:
        """Let a site fail over; only some of the others hear of it at once."""
        self.alone(*hear)
        self.cluster.fail_over(site)
        self.told()
        self.alone()

    def replaced(self, site: str) -> None:
        """Let a site be replaced without a loss, and not hear of it: it goes on as if it led."""
        others = [other for other in self.sites if other != site]
        for other in others:
            self.cluster.catch_up(other)
        self.cluster.cut_off(site)
        self.fails_over(site, *others)
        self.cluster.rejoin(site)

    def told(self) -> None:
        """Note the ends that anybody has been told of by now."""
        noted = {(row["shard"], row["origin"], row["offset"]) for row in self.rows if row["op"] == "end"}
        for site in self.sites:
            for place in self.ends(site):
                if place not in noted:
                    noted.add(place)
                    self.rows.append({"op": "end", **dict(zip(("shard", "origin", "offset"), place, strict=True))})

    def ends(self, site: str) -> list[tuple[int, int, int]]:
        """Return the ends that a site has heard of."""
        copies = self.cluster.sites[site].copies.items()
        return [(shard, o, end) for shard, copy in copies for o, (_, end) in copy.origins.items() if end is not None]

    def heard(self, site: str) -> bool:
        """Return whether all sites have heard of what a site numbers."""
        copies = self.cluster.sites[site].copies.items()
        return all(
            copy.own in other.copies[shard].origins for shard, copy in copies for other in self.cluster.sites.values()
        )

    def known(self, site: str) -> list[tuple[int, int, int]]:
        return [(key >> 32, key & 0xFFFFFFFF, end) for key, end in self.stores[site]._state.view.ends.items()]

    def over(self) -> None:
        self.told()

    def knew(self, row: Row, known: list[tuple[int, int, int]]) -> None:
        endpoint = row.get("endpoint")
        row["ends"] = known
        if "watermark" in row:
            row["ends"] = lowest([*known, *self.ends(endpoint)])
            row["life"] = (endpoint, self.cluster.sites[endpoint].incarnation)

    def ask(self, who: str, site: str, act: Callable[[Session[Any, Any]], Any], *, forgets: bool = True) -> Any:
        """Do one operation of a user; return what it gives, or the error that it ends with."""
        self.now_s += 0.1
        session = self.session(who, site)
        given: Any = None
        with self.noted(session, who, site, site):
            try:
                given = act(session)
            except (GateError, StoreError) as error:
                given = error
        if forgets and isinstance(given, WriteLost | CommitUnknown):
            with self.noted(session, who, site, site):
                session.forget(given.lost)
        self.tokens[who] = session.token()
        return given

    def put(self, who: str, site: str, shard: str, key: str, **how: Any) -> Any:
        """Let a user write a value that nobody wrote before; return it, or the error."""
        self.written += 1
        value = self.written

        def act(session: Session[Any, Any]) -> int:
            self.block(session, who, site, shard, key, value, **how)
            return value

        return self.ask(who, site, act)

    def get(self, who: str, site: str, shard: str, key: str, policy: ReadPolicy | None = None, **how: bool) -> Any:
        """Let a user read; return what is shown, or the error."""

        def act(session: Session[Any, Any]) -> Any:
            with session.read(shard=shard, policy=policy) as db:
                return db.get(key)

        return self.ask(who, site, act, **how)

    def live(self, operations: int) -> "Failing":
        """Let four users go about, while everything fails."""
        r = self.random
        for _ in range(operations):
            who, site, shard = f"user {r.randrange(4)}", r.choice(self.sites), r.choice(("photos", "posts"))
            key, x = f"k{r.randrange(2)}", r.random()
            if x < 0.4:
                if not self.heard(site):
                    self.cluster.sites[site].lose_answer = None  # that is a limit, and a test of its own
                self.put(who, site, shard, key, **self.how(shard))
            else:
                self.get(who, site, shard, key, ReadPolicy.eventual() if x > 0.95 else None, forgets=r.random() < 0.7)
            self.fail()
        return self

    def how(self, shard: str) -> Row:
        """Say what else happens in a write block, now and then: it reads, and is undone at times; or its user reads elsewhere meanwhile."""
        r, x = self.random, self.random.random()
        if x < 0.25:
            return {"reads": [f"k{r.randrange(2)}"], "undone": r.random() < 0.4}
        if x < 0.5:
            elsewhere = (r.choice(self.sites), r.choice((shard, shard, "photos", "posts")), f"k{r.randrange(2)}")
            return {"meanwhile": elsewhere} | ({"then": f"k{r.randrange(2)}"} if r.random() < 0.3 else {})
        return {}

    def fail(self) -> None:
        """Let something happen, now and then."""
        r, cluster, x = self.random, self.cluster, self.random.random()
        site = r.choice(self.sites)
        if x < 0.15:
            cluster.catch_up(site)
        elif x < 0.19:
            self.fails_over(site, *r.sample(self.sites, r.randrange(1, 4)))
        elif x < 0.22:
            cluster.lose_answer(site, committed=r.random() < 0.6)
        elif x < 0.25:
            cluster.restart(site, back=r.randrange(4))
        elif x < 0.28:
            cluster.cut_off(site)
        elif x < 0.34:
            cluster.rejoin(site)  # where it is paused, it goes on as if nothing had happened until it is told
        elif x < 0.36:
            self.alone(site)
            self.alone()
        elif x < 0.4:
            self.replaced(site)
        self.told()


def lowest(ends: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Return each origin's lowest end."""
    found: dict[tuple[int, int], int] = {}
    for shard, origin, end in ends:
        found[shard, origin] = min(end, found.get((shard, origin), end))
    return [(*place, end) for place, end in found.items()]


# --- the simulator -------------------------------------------------------------------------------------------------------


class Told(Recording):
    """The history of a simulated run, and which ends the servers knew whose watermarks it has."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        super().__init__(self._kept)

    def _kept(self, row: Row) -> None:
        if row["op"] in OPERATIONS:
            self.rows.append(row)

    def read(self, *answer: Any, **how: Any) -> None:
        super().read(*answer, **how)
        marks = answer[6]
        if marks is not None:
            self.rows[-1]["ends"] = known_ends(answer[4], marks[answer[4]].origins)

    def doubted(self, *doubt: Any) -> None:
        before = len(self.rows)
        super().doubted(*doubt)
        self.rows[before:] = [row | {"doubt": True} for row in self.rows[before:] if row["op"] == "forget"]

    def finish(self, cluster: Any) -> None:
        """Nothing more to note: ends were told as they came."""


class Simulated(Simulation):
    """A simulation that notes when histories end, what leaders have applied when they commit, and what heartbeats number."""

    def __init__(self, seed: int, mix: str, **store: Any) -> None:
        world = small_world(seed)
        # Without jobs, which go on from what another session knew.
        population = tuple(attrs.evolve(users, jobs=0.0) for users in world.population)
        world = attrs.evolve(world, population=population, store=attrs.evolve(world.store, **store))
        self.rows: list[Row] = []
        self.leads: dict[int, Row] = {}
        self.beaten: set[tuple[int, int, int]] = set()
        super().__init__(world, STRATEGIES["token"], MIXES[mix], seed, recording=Told(self.rows))
        cut = self.cluster.end

        def end(log: Any, at: int) -> Any:
            self.rows.append({"op": "end", "shard": log.shard, "origin": log.pk & 0xFFFFFFFF, "offset": at})
            return cut(log, at)

        self.cluster.end = end  # type: ignore[method-assign]

    def committed(self, leader: Any, entry: Any) -> None:
        super().committed(leader, entry)
        shard, origin = entry.pk >> 32, entry.pk & 0xFFFFFFFF
        origins = leader.copies[shard].origins
        self.leads[entry.number] = {
            "session": entry.session,
            "key": str(entry.key),
            "shard": shard,
            "version": [origin, entry.offset],
            "stamp": entry.stamp,
            "watermark": {str(o): max(0, applied) for o, (applied, _) in origins.items()},
            "ends": known_ends(shard, origins),
        }

    def _beats(self) -> float:
        again = super()._beats()
        self.beaten |= {(log.shard, log.pk & 0xFFFFFFFF, log.head) for log in self.cluster.logs.values()}
        return again

    def beats(self, rows: list[Row]) -> list[Row]:
        """Return the heartbeats that a watermark covers: a log's head, after one was sent, if no write has that number."""
        written = {(row["shard"], *row["version"]) for row in rows if row["op"] != "end" and "version" in row}
        covered = {(row["shard"], int(o), n) for row in rows for o, n in row.get("watermark", {}).items()}
        return [
            {"op": "number", "shard": shard, "origin": origin, "offset": offset}
            for shard, origin, offset in sorted(self.beaten & covered - written)
            if offset
        ]

    def recorded(self) -> list[Row]:
        """Run; return the rows. Who was not answered in time never learns what became of its write."""
        self.run(live=False)
        answered = {row["value"] for row in self.rows if row["op"] == "write"}
        rows = [row | self.said(row) for row in self.rows]
        rows += [
            {"op": "write", "value": number, "ok": None, **row}
            for number, row in self.leads.items()
            if number not in answered
        ]
        return self.beats(rows) + rows

    def said(self, row: Row) -> Row:
        """Return what a leader said of itself, if a row is a write that it has committed."""
        said = self.leads.get(row["value"], {}) if row["op"] == "write" else {}
        return {name: said[name] for name in ("watermark", "ends") if name in said}


def known_ends(shard: int, origins: Any) -> list[tuple[int, int, int]]:
    return [(shard, origin, end) for origin, (_, end) in origins.items() if end is not None]


def simulated(seed: int, limit: int | None = None, mix: str = "calm", **store: Any) -> list[Row]:
    """Return the rows of a simulated run; with a limit, those of its first operations."""
    rows = Simulated(seed, mix, **store).recorded()
    beats = sum(row["op"] == "number" for row in rows)
    return rows if limit is None else rows[: beats + limit]
