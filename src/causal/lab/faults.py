"""Faults: everything that a simulation can break, each an option with a rate, and mixes of them.

Owns the options and their words. `planet/breaking.py` does the breaking; the network and the clients draw their own from here.

An option is a *rate* (how often in a virtual second, somewhere on the planet), a *chance* (how likely each time that it could happen),
or a time in *seconds* that shapes another. All are 0, or harmless, by default.
"""

from __future__ import annotations

import math
from typing import Any, Final

import attrs

from causal.errors import ConfigError


def _option(kind: str, default: float, said: str) -> Any:
    def check(_: object, attribute: Any, value: object) -> None:
        most = 1.0 if kind == "chance" else math.inf
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most or value == math.inf:
            bounds = "from 0 to 1" if kind == "chance" else "0 or more"
            raise ConfigError(f"the fault {attribute.name} is a {kind}, {bounds}, not {value!r}")

    return attrs.field(default=default, validator=check, metadata={"kind": kind, "said": said})


@attrs.frozen
class Faults:
    """How often each thing breaks. Thread-safety: immutable. Raises: ConfigError for what is no rate."""

    # --- clocks
    clock_back: float = _option("rate", 0, "a server's or a process's wall clock steps back by up to clock_step_s")
    clock_forward: float = _option("rate", 0, "a wall clock steps forward by up to clock_step_s")
    clock_step_s: float = _option("seconds", 0.4, "how far a clock steps at most, and still keeps its bound")
    clock_drift: float = _option(
        "rate", 0, "a server's wall clock is drift_s ahead for outage_s: past the bound of the others"
    )
    drift_s: float = _option("seconds", 600, "how far ahead a clock is that has drifted past the bound")
    counter_exhaustion: float = _option("rate", 0, "a server's hybrid clock has used up its counter")
    # --- links
    delay: float = _option("chance", 0, "a message takes longer: exponential, delay_s on average")
    delay_s: float = _option("seconds", 0.2, "how much longer a delayed message takes on average")
    loss: float = _option("chance", 0, "a replication message is lost: what it carried is asked for again later")
    duplication: float = _option("chance", 0, "a replication message arrives twice")
    reordering: float = _option("chance", 0, "a replication message is overtaken by later ones")
    partition: float = _option("rate", 0, "two groups of sites are cut off from each other for outage_s")
    clogging: float = _option(
        "rate", 0, "swizzle: some servers' links are cut one after the other, and restored in another order"
    )
    outage_s: float = _option("seconds", 1.0, "how long an outage lasts on average")
    # --- servers
    pause: float = _option("rate", 0, "a replica stops applying for outage_s, and stays readable")
    crash: float = _option("rate", 0, "a replica crashes, and restarts after outage_s with all that it had applied")
    restart_behind: float = _option("rate", 0, "a replica restarts behind what it had shown before")
    reclone: float = _option(
        "rate", 0, "a replica is replaced, under its address, by a copy of one that is further behind"
    )
    cold_start: float = _option("rate", 0, "an application process restarts and knows nothing")
    # --- membership and failover
    leave: float = _option("rate", 0, "a site leaves the cluster, and returns after outage_s as a new member")
    leader_crash: float = _option(
        "rate", 0, "the leader of some shards crashes; a replica is promoted after promotion_s"
    )
    promotion_s: float = _option("seconds", 0.5, "how long it takes until somebody is promoted")
    lost_tail: float = _option("chance", 0, "a promotion loses what the promoted replica had not got")
    two_promotions: float = _option(
        "chance", 0, "two replicas are promoted; one of them is told after outage_s that it was not to be"
    )
    restart_forgets: float = _option(
        "rate", 0, "a leader restarts without its newest writes, which were not on its disk yet"
    )
    # --- processes
    suspension: float = _option("chance", 0, "a process is suspended between its decision and the snapshot")
    suspension_s: float = _option("seconds", 3.0, "how long a suspended process sleeps on average")
    key_rotation: float = _option(
        "rate",
        0,
        "a new key is rolled out, process by process: added everywhere, then promoted, then the old one dropped",
    )
    early_drop: float = _option("chance", 0, "a rotation drops the old key while its tokens are still in use")
    membership: float = _option(
        "rate", 0, "a replica joins or goes, and processes hear of it one after the other, over outage_s"
    )
    # --- clients
    parallel: float = _option("chance", 0, "a session starts its next request before this one is answered")
    token_dropped: float = _option("chance", 0, "a client comes without its token")
    token_replayed: float = _option("chance", 0, "a client presents a token from earlier")
    token_tampered: float = _option("chance", 0, "a token is changed on the way")
    token_expired: float = _option("chance", 0, "a client stays away until its token has expired")
    token_retired: float = _option("chance", 0, "a token was sealed with a key that nobody has any more")
    token_swapped: float = _option("chance", 0, "a client presents the tokens of another one, and not its own")
    ack_lost: float = _option("chance", 0, "a commit is sent, and no answer comes: it has, or it has not, happened")
    ack_doubled: float = _option("chance", 0, "a write's acknowledgement is handled twice")
    impatience: float = _option("chance", 0, "a read has next to no time to wait: the gate times out")
    herd: float = _option("rate", 0, "herd_reads reads of one key arrive at one process at once")
    herd_reads: float = _option("seconds", 50, "how many reads a herd is")
    # --- caches
    eviction: float = _option("chance", 0, "a cached value is gone when it is looked up")
    stale_refill: float = _option(
        "chance", 0, "a value is put into a cache outage_s after it was read: behind newer ones"
    )

    def __bool__(self) -> bool:
        return any(getattr(self, f.name) for f in attrs.fields(type(self)) if f.metadata["kind"] != "seconds")

    def as_dict(self) -> dict[str, float]:
        """Return every option with its value."""
        return {f.name: getattr(self, f.name) for f in attrs.fields(type(self))}

    @classmethod
    def options(cls) -> dict[str, tuple[str, float, str]]:
        """Return every option: its kind, its default, and what it does."""
        return {f.name: (f.metadata["kind"], f.default, f.metadata["said"]) for f in attrs.fields(cls)}

    @classmethod
    def of(cls, given: dict[str, float]) -> Faults:
        """Make faults of options by name. Raises: ConfigError for an unknown one."""
        unknown = sorted(given.keys() - cls.options().keys())
        if unknown:
            raise ConfigError(f"no fault {unknown[0]!r}: there are {', '.join(cls.options())}")
        return cls(**given)


_NETWORK: Final = {"delay": 0.1, "loss": 0.1, "duplication": 0.1, "reordering": 0.2, "partition": 0.2, "clogging": 0.1}
_CLOCKS: Final = {"clock_back": 0.5, "clock_forward": 0.5, "clock_drift": 0.1, "counter_exhaustion": 0.3}
_SERVERS: Final = {"pause": 0.4, "crash": 0.3, "restart_behind": 0.4, "reclone": 0.3, "cold_start": 0.2}
_FAILOVER: Final = {"leader_crash": 0.3, "lost_tail": 0.5, "two_promotions": 0.2, "restart_forgets": 0.2, "pause": 0.3}
_MEMBERS: Final = {"leave": 0.2, "membership": 0.4, "cold_start": 0.3, "pause": 0.3}
_TOKENS: Final = {
    "token_dropped": 0.02,
    "token_replayed": 0.05,
    "token_tampered": 0.05,
    "token_expired": 0.01,
    "token_retired": 0.03,
    "token_swapped": 0.03,
    "key_rotation": 0.2,
    "early_drop": 0.3,
}
_CLIENTS: Final = {"parallel": 0.3, "impatience": 0.2, "herd": 0.2, "suspension": 0.05}
_ACKS: Final = {"ack_lost": 0.2, "ack_doubled": 0.2, "crash": 0.2, "pause": 0.4}
_CACHES: Final = {"eviction": 0.1, "stale_refill": 0.3, "pause": 0.4}

MIXES: Final[dict[str, Faults]] = {
    "calm": Faults(),
    "clocks": Faults(**_CLOCKS),
    "network": Faults(**_NETWORK),
    "servers": Faults(**_SERVERS),
    "failover": Faults(**_FAILOVER),
    "members": Faults(**_MEMBERS),
    "tokens": Faults(**_TOKENS),
    "rotation": Faults(key_rotation=0.6, cold_start=0.2),
    "clients": Faults(**_CLIENTS),
    "acks": Faults(**_ACKS),
    "caches": Faults(**_CACHES),
    "suspended": Faults(suspension=0.3, pause=0.5, restart_behind=0.5, reclone=0.3, outage_s=3.0),
    "stale": Faults(pause=0.6, partition=0.2, token_dropped=0.1, outage_s=4.0),
    "expiry": Faults(**_FAILOVER | {"token_expired": 0.2, "lost_tail": 0.8, "outage_s": 2.0}),
    "folding": Faults(**_FAILOVER | {"lost_tail": 0.8}),
    "everything": Faults(**_CLOCKS | _NETWORK | _SERVERS | _FAILOVER | _MEMBERS | _TOKENS | _CLIENTS | _ACKS | _CACHES),
}
"""Faults that belong together, by name. "everything" is all of them at once."""
