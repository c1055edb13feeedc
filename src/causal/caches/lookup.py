"""One lookup from its beginning to its account: no backend, no loop. Both caches drive it, so that every rule is written once.

Owns when an entry may be served, and when what was read may be stored. The rules:

* An entry is served to a session only if it covers what the session demands of the shards that it was read from (`wanted.py`), is of no
  history that has ended before it, and is not too old. What it showed joins the session first (I7).
* Only what was read at an endpoint, in a snapshot that the gate has judged, outside of the session's write blocks, and that is shown
  to be fresh, is stored; with the watermarks of that very snapshot.

HAZARD: a loader that reads through anything but the connections that it is given stores, under their watermarks, what they do not show.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from causal.blocks import enclosing
from causal.caches.account import Account
from causal.caches.base import seconds
from causal.caches.entry import COPIED, Entry, Standing, covers, stands
from causal.caches.wanted import wanted
from causal.core.decision import UNCHECKED
from causal.core.endpoint import NEVER
from causal.core.frontier import Frontier
from causal.core.policy import Strategy
from causal.kv import check_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from causal.blocks import AsyncRead, Read
    from causal.caches.account import Outcome
    from causal.caches.base import CacheBase, Shards
    from causal.core.policy import ReadPolicy
    from causal.core.receipt import Receipt
    from causal.session import SessionState

_CONSULTING: Final = frozenset({Strategy.SESSION, Strategy.EVENTUAL})
"""The strategies that an entry can satisfy. The others ask for more than the session demands: only an endpoint knows."""
_SHAREABLE: Final = frozenset({str, bytes, int, float, bool, type(None)})
_WHY: Final[dict[Standing, tuple[Outcome, str]]] = {
    Standing.BEHIND: ("behind", "it does not cover what the session demands"),
    Standing.DEAD: ("dead", "its history has ended before it"),
    Standing.ELSEWHERE: ("miss", "what is there was read from other shards"),
}


def quick(cache: CacheBase, session: SessionState, entry: Entry, shards: Shards) -> bool:
    """Return whether an entry may be served at once, and join what it showed: what `Lookup` would find, in the common case only.

    The hot path. The same frontiers are the same demand, whoever's they are, and the same ends the same knowledge: they are values. Then
    only the time is left to judge.
    """
    own, seen, touched, ends, judged = (
        session.own,
        session.seen,
        session.touched,
        cache.settings.view.ends,
        entry.judged,
    )
    if (
        judged is not None
        and judged[1] is own
        and judged[2] is seen
        and judged[3] is ends
        and judged[0] is shards  # which are this cache's own
        and judged[4] is touched
    ):
        joins = judged[5]
    else:
        if ends or seen.marks or seen.floors or entry.value is None or entry.shards != shards.ids:
            return False
        counting, wm = cache.counting, entry.wm
        if own.entries and counting.own:
            if not counting.seen:
                return False  # it hangs on what was touched
            for key, offset in own.entries.items():
                if wm.get(key, -1) < offset and key >> 32 in shards.ids:
                    return False
        if counting.seen:
            for key, offset in seen.entries.items():
                if wm.get(key, -1) < offset and key >> 32 in shards.ids:
                    return False
        joins = True
    if not cache.plain or session.policy is not None or cache.on_account is not None or enclosing.get():
        return False
    if cache.store._live is None:
        return False  # who has asked nobody yet knows of no history that has ended
    until, now = entry.fresh_until, cache.settings.monotonic()
    if now > cache.heard_until or (cache.is_old(entry) if until is None else now > until):
        return False
    if joins:
        session.join(entry.seen, own=False, now=cache.settings.wall)
        entry.judged = (shards, own, seen, ends, touched, session.seen is not seen)
    return True


class Lookup:
    """One lookup. Raises: ConfigError. Thread-safety: one thread or task."""

    __slots__ = (
        "cache",
        "dead",
        "given",
        "key",
        "leased",
        "name",
        "not_stored",
        "outcome",
        "policy",
        "receipt",
        "session",
        "shards",
        "stored",
        "touches",
        "ttl_s",
        "value",
        "waited_s",
        "where",
        "why",
    )

    def __init__(
        self,
        cache: CacheBase,
        session: Any,
        key: str,
        shards: Shards,
        policy: ReadPolicy | None,
        ttl_s: float | None,
    ) -> None:
        self.cache = cache
        self.session = session._state
        self.key = check_key(key)
        self.name = cache.prefix + key
        self.where = shards
        self.shards = shards.ids
        self.given = policy
        self.policy = cache.settings.chosen(policy, self.session.policy)
        self.ttl_s = cache.ttl_s if ttl_s is None else seconds("ttl_s", ttl_s)
        self.touches = lambda: session.touches(cache.settings.number, key)
        self.outcome: Outcome = "miss"
        self.why = self.not_stored = ""
        self.stored = self.leased = False
        self.waited_s = 0.0
        self.receipt: Receipt | None = None
        self.dead: Entry | None = None
        self.value: Any = None

    # --- whether an entry may be served ------------------------------------------------------------------------------

    def bypassed(self, *, heard: bool) -> bool:
        """Return whether no entry, whatever it is, may be served; `heard` says whether an endpoint was asked lately."""
        if self.policy.strategy not in _CONSULTING:
            return self._bypass(f"the policy is {self.policy}")
        if not heard and self.policy.unproven == "refuse":
            return self._bypass("no endpoint can be asked whether its history has ended")
        settings, session = self.cache.settings, self.session
        blocks = enclosing.get()
        if blocks and any(block.concerns(settings, session, shard) for block in blocks for shard in self.shards):
            return self._bypass("inside a write block, which may have changed it")
        need = self.need(session.own, session.seen, settings.view.ends)
        return isinstance(need, str) and self._bypass(need)

    def _bypass(self, why: str) -> bool:
        self.outcome, self.why = "bypass", why
        return True

    def need(self, own: Frontier, seen: Frontier, ends: Mapping[int, int]) -> Mapping[int, int] | str:
        """Return what is demanded of these shards, or why only the gate can answer."""
        cache = self.cache
        if seen.marks:
            seen = seen.lapse(cache.settings.wall())
        return wanted(own, seen, cache.counting, self.shards, ends, self.touches)

    def serves(self, entry: Entry | None, outcome: Outcome = "hit") -> bool:
        """Judge an entry, and serve it if it may be. A dead one is left in `dead`, to be discarded."""
        cache, session = self.cache, self.session
        self.dead = None
        if entry is None:
            self.outcome, self.why = "miss", "nothing is there"
            return False
        # What the session demands now: it may have moved since the lookup began.
        ends, own, seen, touched = cache.settings.view.ends, session.own, session.seen, session.touched
        need = self.need(own, seen, ends)
        if isinstance(need, str):
            return not self._bypass(need)
        standing = stands(entry, need, self.shards, ends)
        if standing is Standing.DEAD:
            self.dead = entry
        if standing is not Standing.COVERS:
            self.outcome, self.why = _WHY[standing]
            return False
        if entry.value is None:
            self.outcome, self.why = "miss", "it was invalidated"
            return False
        if cache.is_old(entry):
            self.outcome, self.why = "miss", "it is not shown to be fresh any more"
            return False
        try:
            self.value = entry.shared if entry.shared is not COPIED else cache.deserialize(entry.value)
        except Exception as error:  # noqa: BLE001 - whatever a damaged value does to a decoder
            self.dead = entry
            self.outcome, self.why = "miss", f"its value cannot be decoded: {type(error).__name__}"
            return False
        session.join(entry.seen, own=False, now=cache.settings.wall)
        if not seen.marks:
            # Frontiers are values: of the same ones the same is demanded, whoever's they are.
            entry.judged = (self.where, own, seen, ends, touched, session.seen is not seen)
        self.outcome, self.why = outcome, ""
        return True

    # --- whether what was read may be stored --------------------------------------------------------------------------

    def keeps(self, value: Any, reads: Sequence[Reading]) -> Entry | None:
        """Return the entry that a load makes, or None if it may make none; `value` becomes what a hit would hand out."""
        cache = self.cache
        self.receipt = reads[0].block.receipt
        data, self.value = cache.encoded(value)
        why = "the value cannot be encoded" if data is None else self._unfit(reads)
        entry = None
        if not why:
            assert data is not None
            wm: dict[int, int] = {}
            seen = Frontier()
            for read in reads:
                wm.update(read.wm)
                seen |= read.block.showed
            fresh_at = min(read.fresh_at for read in reads)
            shared = self.value if shareable(cache, self.value) else COPIED
            good_until_ms, fresh_until = cache.good_until(fresh_at, self.ttl_s)
            entry = Entry(wm, max(0, good_until_ms), seen, data, fresh_until, shared)
            if cache.is_old(entry):
                why, entry = "it is not shown to be fresh enough", None
        self.not_stored = why
        return entry

    def _unfit(self, reads: Sequence[Reading]) -> str:
        """Say why what was read may not be stored, or nothing."""
        if self.session.writing:
            return "a write block of the session is open"
        for read in reads:
            if not read.wm:
                return "it was not read in a snapshot of an endpoint"
            if not read.block.receipt.held:
                return "the read did not hold the session's guarantees"
            if read.fresh_at == NEVER:
                return "it is not shown to be fresh"
        if not consistent(reads):
            return "its snapshots are of different moments"
        return ""

    def put(self, done: bool | None) -> None:
        """Note whether what was read is stored now; None: the backend failed."""
        self.stored = bool(done)
        self.not_stored = "" if done else "the cache failed" if done is None else "what is there is newer"

    # --- the account -------------------------------------------------------------------------------------------------

    def done(self) -> Account:
        """Return the account, after counting it and telling whoever listens."""
        account = Account(self.key, self.outcome, self.why, self.stored, self.not_stored, self.waited_s, self.receipt)
        self.cache.tell(account)
        return account


class Reading:
    """One read block of a load, and what its snapshot was: noted anew by each try, because each may be of another endpoint.

    Thread-safety: one thread or task.
    """

    __slots__ = ("began", "block", "fresh_at", "shard", "wm")

    def __init__(self, block: Read[Any] | AsyncRead[Any], shard: int) -> None:
        self.block = block
        self.shard = shard
        self.wm: dict[int, int] = {}
        self.began = self.fresh_at = NEVER

    def begins(self, now: float) -> None:
        """Forget an earlier try: the block is about to be entered."""
        self.began, self.fresh_at, self.wm = now, NEVER, {}

    def entered(self) -> None:
        """Note what the snapshot of the open block holds."""
        marks = self.block.watermarks
        mark = None if marks is None else marks.get(self.shard)
        if mark is None or mark.diverged:
            return
        shard = self.shard << 32
        self.wm = {shard | origin: applied for origin, (applied, _) in mark.origins.items()}
        if mark.leads and not self.block._store._state.engine.capabilities.exact:
            # Its log may hold a commit that nobody is shown yet; when that is acknowledged, its position may be one that the log has now.
            self.wm |= {shard | origin: 0 for origin in mark.leads}
        self.fresh_at = shown_fresh(self.block, self.began)


def shown_fresh(block: Any, began: float) -> float:
    """Return when at the latest all was acknowledged that an open block's snapshot is shown to hold; `began` is from before it."""
    request = block._request or block._account()
    serve = request.serve
    if serve is None or serve.how in UNCHECKED or request.unproven:
        return NEVER
    # Who numbers everything is current whenever it is asked, however long ago that was found out: the snapshot says that it still does.
    known: float = serve.known.fresh_at
    return began if known == math.inf else min(known, began)


def consistent(reads: Sequence[Reading]) -> bool:
    """Return whether no snapshot lacks what another one showed: an effect is not stored without its cause."""
    if len(reads) < 2:
        return True
    showed = Frontier()
    for read in reads:
        showed |= read.block.showed
    return all(covers(read.wm, {k: v for k, v in showed.entries.items() if k >> 32 == read.shard}) for read in reads)


def shareable(cache: CacheBase, value: Any) -> bool:
    """Return whether all hits may be handed the same object."""
    return cache.shares or type(value) in _SHAREABLE
