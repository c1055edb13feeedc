"""Several sites in one process: how they replicate, and how a test makes them lag, part and forget.

Owns the order of things: whole transactions, each origin's in its order, dependencies before effects. Knows nothing of
sessions, tokens or the gate.

HAZARD: `restart(back=...)`, `fail_over` and `forget_tail` forget on purpose, as servers do that were restored or lost.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from causal.controls import Lag
from causal.core.frontier import Frontier, Position, pack, shard_id
from causal.engine import Commit
from causal.errors import ConfigError, StoreError
from causal.kv import next_stamp, stored_deps
from causal.stores.memory.site import Copy, Entry, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class MemoryCluster:
    """Sites that replicate to each other, shared by the engines of one process, and the controls over them.

    `lag_s` is how long after its commit a write is applied elsewhere. With `clock_offsets`, offsets are hybrid logical
    timestamps and each origin sends a heartbeat every `heartbeat_s`; otherwise they count 1, 2, 3. `skew_s` sets a
    site's wall clock ahead. `store` is the store's number, which stands in every stored dependency.

    Units: seconds; `wall` returns Unix nanoseconds, `monotonic` seconds. Raises: ConfigError.
    Thread-safety: all methods, from any thread.
    """

    def __init__(
        self,
        sites: Sequence[str] = ("eu", "us"),
        *,
        shards: Sequence[str] = ("main",),
        lag_s: float | Lag = 0.0,
        clock_offsets: bool = False,
        heartbeat_s: float = 0.1,
        skew_s: Mapping[str, float] | None = None,
        store: int = 0,
        wall: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        for what, names in (("site", sites), ("shard", shards)):
            if isinstance(names, str) or not names or len(set(names)) < len(names):
                raise ConfigError(f"{what} names are a list of different names, not {names!r}")
        self.shards = {name: index for index, name in enumerate(shards)}
        self.lag = Lag.of(lag_s)
        self.clock_offsets = clock_offsets
        self.store = store
        self.lock = threading.RLock()
        self.sleep = sleep
        self._wall, self._monotonic = wall, monotonic
        self._skew_ms = {name: int((skew_s or {}).get(name, 0) * 1000) for name in sites}
        self._heartbeat_ms = int(heartbeat_s * 1000)
        self._origins = len(sites)
        first = dict.fromkeys(range(1, len(sites) + 1), (0, None))
        ids = [shard_id(store, index) for index in self.shards.values()]
        self.sites = {
            name: Site(name, {i: Copy(i, own, dict(first)) for i in ids}) for own, name in enumerate(sites, start=1)
        }

    def site(self, name: str) -> Site:
        """Return a site. Raises: ConfigError for a name that it does not have."""
        if name not in self.sites:
            raise ConfigError(f"no site {name!r}; there are {', '.join(self.sites)}")
        return self.sites[name]

    # --- writing and replicating ---------------------------------------------------------------------------------

    def append(self, site: Site, shard: int, changes: Mapping[str, bytes | None], deps: Frontier) -> Commit:
        """Number and stamp a transaction, store its dependencies with it, and apply it where it was written.

        The stamp is above every stamp that the shard has met here, so an effect wins over its cause whatever the clocks say.
        Dependencies accumulate along the log: who sees this position demands all that led to it (I8).
        """
        copy = site.copies[shard]
        last = copy.origins[copy.own][0]
        own = pack(shard, copy.own)
        if deps.entries.get(own, 0) > last:
            raise StoreError(f"a write cannot depend on what its own log does not hold: {deps}, at {last}")
        stored = stored_deps(deps, self.store, site.applied())
        if log := copy.log(copy.own):
            stored |= log[-1].deps
        stored = stored.without([own])  # its own position stands for all before it
        site.clock = max(site.clock + 1, self._wall_ms(site) << 16)
        stamp = next_stamp(site.clock, (copy.high,))
        position = Position(shard, copy.own, stamp if self.clock_offsets else last + 1)
        site.apply(Entry(position, stamp, dict(changes), stored, self._monotonic()))
        return Commit(position, stored)

    def step(self) -> int:
        """Apply everywhere what is due now; return how many transactions that were. Every use of a link begins so."""
        with self.lock:
            if self.clock_offsets:
                self.heartbeat(self._heartbeat_ms)
            now_s = self._monotonic()
            return sum(self._replicate(site, now_s) for site in self.sites.values() if not site.paused)

    def heartbeat(self, every_ms: int = 0) -> None:
        """Let every origin that has been silent for `every_ms` say how far it is, as an empty transaction."""
        with self.lock:
            for site in self.sites.values():
                for shard, copy in site.copies.items():
                    log = copy.log(copy.own)
                    if not site.stopped and self._wall_ms(site) >= (log[-1].stamp >> 16 if log else 0) + every_ms:
                        self.append(site, shard, {}, Frontier())

    def _replicate(self, site: Site, now_s: float | None) -> int:
        """Apply at one site all that it can reach and that is due (None: due or not), until nothing more moves."""
        count, moved = 0, True
        while moved:
            moved = False
            for source in self._in_touch(site):
                for shard, theirs in source.copies.items():
                    for log in theirs.logs.values():
                        while (entry := self._next(site, shard, log)) is not None and self._may_apply(
                            site, entry, now_s
                        ):
                            site.apply(entry)
                            count, moved = count + 1, True
        return count

    def _next(self, site: Site, shard: int, log: list[Entry]) -> Entry | None:
        """Return what follows, in this log, what the site holds of it."""
        held = len(site.copies[shard].log(log[0].position.origin)) if log else 0
        return log[held] if held < len(log) else None

    def _may_apply(self, site: Site, entry: Entry, now_s: float | None) -> bool:
        """Say whether an entry belongs to a history that survives, is due, and has its dependencies applied here."""
        shard, origin, offset = entry.position.shard, entry.position.origin, entry.position.offset
        place = site.copies[shard].origins.get(origin)
        if place is None or (place[1] is not None and offset > place[1]):
            return False
        if now_s is not None and entry.committed_s + self.lag.delay_s(site.name, shard, origin, offset) > now_s:
            return False
        return site.covers(entry.deps, self.store)

    def _in_touch(self, site: Site) -> list[Site]:
        """Return the sites that a site can replicate from."""
        if site.cut or site.stopped:
            return []
        return [s for s in self.sites.values() if s is not site and not (s.cut or s.stopped)]

    def _wall_ms(self, site: Site) -> int:
        return self._wall() // 1_000_000 + self._skew_ms[site.name]

    # --- controls ------------------------------------------------------------------------------------------------

    def pause(self, endpoint: str) -> None:
        """Stop applying others' writes at an endpoint, and hearing of origins; it stays readable and falls behind."""
        with self.lock:
            self.step()
            self.site(endpoint).paused = True

    def resume(self, endpoint: str) -> None:
        """Undo `pause`."""
        with self.lock:
            self.site(endpoint).paused = False
            self._tell()

    def catch_up(self, endpoint: str) -> None:
        """Apply now, at an endpoint, everything it can reach, whatever the lag or pause."""
        with self.lock:
            site = self.site(endpoint)
            for other in self._in_touch(site):
                self._learn(site, other)
            self._replicate(site, None)

    def cut_off(self, site: str) -> None:
        """Separate a site from all others: no replication either way, and unreachable from other sites."""
        with self.lock:
            self.step()
            self.site(site).cut = True

    def rejoin(self, site: str) -> None:
        """Undo `cut_off`. Where its origin was ended meanwhile, the site drops its tail and goes on under a new one."""
        with self.lock:
            self.site(site).cut = False
            self._tell()

    def stop(self, endpoint: str, *, hang: bool = False) -> None:
        """Make an endpoint unreachable for everybody, at once or (`hang`) after the whole timeout of each question."""
        with self.lock:
            self.step()
            self.site(endpoint).stopped, self.site(endpoint).hanging = True, hang

    def start(self, endpoint: str) -> None:
        """Undo `stop`."""
        with self.lock:
            self.site(endpoint).stopped = self.site(endpoint).hanging = False
            self._tell()

    def restart(self, endpoint: str, *, back: int = 0) -> None:
        """Give an endpoint a new life that lacks the last `back` of others' transactions, until they are applied again.

        Its own stay; what lies past a known end goes, so that an endpoint that held lost writes can be used again.
        """
        with self.lock:
            site, kept = self.site(endpoint), list[Entry]()
            for entry in reversed(site.history):
                if back and entry.position.origin != site.copies[entry.position.shard].own:
                    back -= 1
                else:
                    kept.append(entry)
            site.restart(reversed(kept))

    def fail_over(self, site: str) -> None:
        """Crash a site: what no other site holds is lost, its origins end there, and it goes on under new ones.

        A site that is cut off hears of it when it rejoins, and acknowledges writes until then that are lost as well.
        """
        with self.lock:
            for name, index in self.shards.items():
                shard = shard_id(self.store, index)
                origin = self.site(site).copies[shard].own
                held = (
                    s.copies[shard].origins.get(origin, (0, None))[0] for s in self.sites.values() if s.name != site
                )
                self.forget_tail(site, max(held, default=0), shard=name)

    def forget_tail(self, site: str, end: int, *, shard: str = "main") -> None:
        """End the origin that a site numbers: nothing of it past the offset `end` survives."""
        with self.lock:
            failed = self.site(site)
            index = shard_id(self.store, self.shards[shard])
            origin = failed.copies[index].own
            for hears in self.sites.values():
                if (hears is failed and not hears.cut) or _awake(hears):
                    self._end(hears, index, origin, end)
            self._tell()

    def lose_answer(self, site: str, *, committed: bool) -> None:
        """Let the next commit at a site raise CommitUnknown, having committed or not."""
        with self.lock:
            self.site(site).lose_answer = committed

    def collect(self) -> int:
        """Remove the tombstones below which nothing can arrive any more; return how many.

        A tombstone of stamp T goes when every site has every origin past T, or all that survives of it. HAZARD: at once, so a cache may
        still show what was deleted to a session that has found it gone.
        """
        with self.lock:
            before = after = 0
            for shard in next(iter(self.sites.values())).copies:
                copies = [s.copies[shard] for s in self.sites.values()]
                past = min(c.past(origin) for c in copies for origin in {o for c in copies for o in c.origins})
                for copy in copies:
                    before += len(copy.versions)
                    copy.versions = {
                        k: v for k, v in copy.versions.items() if v.value is not None or v.entry.stamp > past
                    }
                    after += len(copy.versions)
            return before - after

    # --- what sites know of origins --------------------------------------------------------------------------------

    def _tell(self) -> None:
        """Let all sites in touch know each other's origins and ends."""
        awake = [s for s in self.sites.values() if _awake(s)]
        for _ in range(2):  # an end makes a site start a new origin: the second round tells of it
            for site in awake:
                for other in awake:
                    self._learn(site, other)

    def _learn(self, site: Site, other: Site) -> None:
        for shard, theirs in other.copies.items():
            for origin, (_, end) in list(theirs.origins.items()):
                site.copies[shard].origins.setdefault(origin, (0, None))
                if end is not None:
                    self._end(site, shard, origin, end)

    def _end(self, site: Site, shard: int, origin: int, end: int) -> None:
        """Let a site know where an origin ended. If it is its own, the site drops its tail and starts a new origin."""
        copy = site.copies[shard]
        applied, known = copy.origins.get(origin, (0, None))
        if known is None:
            copy.origins[origin] = (applied, end)
            if origin == copy.own:
                self._origins += 1
                copy.own = self._origins
                copy.origins[copy.own] = (0, None)
                site.restart(site.history)


def _awake(site: Site) -> bool:
    return not (site.cut or site.stopped or site.paused)
