"""The mirror of Gate.tla: the read gate, versions that carry dependencies, and two shards that replicate apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mirror.bfs import Action, Config, Machine, Model, State, put

SESSIONS, SHARDS, REPLICAS = (0, 1), (0, 1), (0, 1)
PEOPLE, NAMES = ("Alice", "Bob"), ("photos", "posts")
NOTHING = (0, 0)
IDLE = ()


def join(a: tuple, b: tuple) -> tuple:
    return tuple(map(max, a, b))


def machine(k: Mapping[str, bool | int]) -> Machine:
    """A state is (log, applied, token, past, wrote, shown, reading, broken), as in the module."""

    def write(state: State, who: int, shard: int) -> State:
        log, applied, token, past, wrote, shown, reading, broken = state
        n = len(log[shard]) + 1
        before, caused = log[shard][-1] if log[shard] else (NOTHING, NOTHING)
        mine, truth = put(token[who], shard, n), put(past[who], shard, n)
        stored = join(mine, before) if k["MERGE"] else put(NOTHING, shard, n)
        cause = join(truth, caused)
        acked = join(mine, stored) if k["ACK_JOIN"] else mine
        return (
            put(log, shard, (*log[shard], (stored, cause))),
            applied,
            put(token, who, acked),
            put(past, who, cause if k["Strict"] else truth),
            put(wrote, who, put(wrote[who], shard, n)) if k["History"] else wrote,
            shown,
            reading,
            broken,
        )

    def served(state: State, who: int, shard: int, seen: int, joined: int) -> State:
        log, applied, token, past, wrote, shown, reading, broken = state
        stored = log[shard][joined - 1][0] if joined else NOTHING
        cause = log[shard][seen - 1][1] if seen else NOTHING
        misses = {
            "ReadYourWrites": seen < wrote[who][shard],
            "MonotonicReads": seen < shown[who][shard],
            "CausalReads": seen < past[who][shard],
        }
        most = max(shown[who][shard], seen)
        return (
            log,
            applied,
            put(token, who, join(token[who], put(stored if k["MERGE"] else NOTHING, shard, joined))),
            put(past, who, join(past[who], put(cause, shard, seen))),
            wrote,
            put(shown, who, put(shown[who], shard, most)) if k["History"] else shown,
            put(reading, who, IDLE),
            broken | {name for name, missed in misses.items() if missed},
        )

    def after(state: State) -> Iterator[tuple[Action, State]]:
        log, applied, token, _, _, _, reading, _ = state
        written = sum(map(len, log))
        for who in SESSIONS:
            for shard in SHARDS:
                if reading[who] == IDLE and len(log[shard]) < k["PerShard"] and written < k["InAll"]:
                    yield ("write", who, shard), write(state, who, shard)
                for replica in REPLICAS:
                    here = applied[shard][replica]
                    covers = here >= token[who][shard] or not k["GATE"]
                    if not k["Split"]:
                        if covers:
                            yield ("read", who, shard, replica), served(state, who, shard, here, here)
                    elif reading[who] == IDLE and (covers or not k["WATERMARK_FIRST"]):
                        held = put(reading, who, (shard, replica, here))
                        yield ("begin", who, shard, replica), (*state[:6], held, state[7])
            if reading[who] != IDLE:
                shard, replica, noted = reading[who]
                here = applied[shard][replica]
                if k["WATERMARK_FIRST"]:
                    joined = here if k["TOKEN_FROM_SNAPSHOT"] else noted
                    yield ("end", who, shard, replica), served(state, who, shard, here, joined)
                elif here >= token[who][shard]:
                    yield ("end", who, shard, replica), served(state, who, shard, noted, noted)
        for shard in SHARDS:
            for replica in REPLICAS:
                here = applied[shard][replica]
                if here < len(log[shard]):
                    now = put(applied, shard, put(applied[shard], replica, here + 1))
                    yield ("apply", shard, replica), (log, now, *state[2:])
        if not k["COMMITTED"] and reading[1] == IDLE:
            yield ("abort", 1, 1), (*state[:2], put(token, 1, put(token[1], 1, len(log[1]) + 1)), *state[3:])

    def every_gate_opens(state: State) -> bool:
        """Replication alone ends when every replica has applied the whole log of its shard."""
        log, token = state[0], state[2]
        return all(token[who][shard] <= len(log[shard]) for who in SESSIONS for shard in SHARDS)

    def tell(action: Action, before: State, after: State) -> str:
        what, *rest = action
        if what == "apply":
            shard, replica = rest
            n = after[1][shard][replica]
            return f"Replica {replica + 1} of the {NAMES[shard]} applies write #{n}."
        who, shard, *at = rest
        person, name = PEOPLE[who], NAMES[shard]
        if what == "abort":
            return f"{person} writes to the {name}, which is to be write #{after[2][who][shard]} there, and rolls back."
        if what == "write":
            return f"{person} writes to the {name}; it is write #{len(after[0][shard])} there."
        here, where = before[1][shard][at[0]], f"replica {at[0] + 1} of the {name}"
        demand = before[2][who][shard]
        asks = f"(the token demands #{demand})" if demand else "(the token demands nothing there)"
        if what == "read":
            return f"{person} reads at {where}, which has applied {upto(here)}, and is served {asks}."
        if what == "begin":
            if k["WATERMARK_FIRST"]:
                return f"{person}'s read comes to {where}, whose watermark is {upto(here)}: it passes the gate {asks}."
            return f"{person}'s read opens its snapshot at {where}, which has applied {upto(here)} {asks}."
        if k["WATERMARK_FIRST"]:
            joins = here if k["TOKEN_FROM_SNAPSHOT"] else before[6][who][2]
            return f"The read opens its snapshot, which shows {upto(here)}; {person}'s token joins {upto(joins)}."
        noted = before[6][who][2]
        return f"The watermark is taken now: {upto(here)}, which covers. {person} is shown the snapshot: {upto(noted)}."

    def upto(n: int) -> str:
        return f"#{n}" if n else "nothing"

    def broken(invariant: str, state: State) -> str:
        return {
            "ReadYourWrites": "The read misses a write that the same session had acknowledged before.",
            "MonotonicReads": "The read shows less than an earlier read of the same session.",
            "CausalReads": "The read misses something in the causal past of what the session has seen or written.",
            "EveryGateOpens": "However long the replicas go on, none of them will apply what is demanded.",
        }[invariant]

    zero = (NOTHING, NOTHING)
    start = (((), ()), zero, zero, zero, zero, zero, (IDLE, IDLE), frozenset())
    return Machine(
        initial=[start],
        after=after,
        invariants={n: (lambda s, n=n: n not in s[7]) for n in ("ReadYourWrites", "MonotonicReads", "CausalReads")},
        liveness={"EveryGateOpens": every_gate_opens},
        tell=tell,
        broken=broken,
    )


SPLIT = {"Split": True, "InAll": 2}
TOY = {"ACK_JOIN": False, "Strict": False, "History": False, "InAll": 4}

MODEL = Model(
    module="Gate",
    constants={
        "GATE": True,
        "MERGE": True,
        "ACK_JOIN": True,
        "WATERMARK_FIRST": True,
        "TOKEN_FROM_SNAPSHOT": True,
        "COMMITTED": True,
        "Strict": True,
        "History": True,
        "Split": False,
        "PerShard": 2,
        "InAll": 3,
    },
    machine=machine,
    configs=(
        Config("", states=37_707, depth=15),
        Config("split", SPLIT, states=35_947, depth=17),
        Config("toy", TOY, states=15_792, depth=16),
        Config(
            "gate",
            {"GATE": False},
            violates="ReadYourWrites",
            depth=3,
            story="""Without a gate: a user does not see her own write

            Reads go to any replica, whatever it has applied. This is what every asynchronously replicated store does by itself.""",
        ),
        Config(
            "merge",
            {"MERGE": False, **TOY},
            violates="CausalReads",
            depth=6,
            story="""Without dependencies: the post without its photo

            Each shard's part of the token works as it should: everybody sees their own writes, and nobody's reads go backwards on any
            shard. But versions carry nothing of what their writers had seen or written on other shards, so whoever reads them demands
            nothing there. Tokens per shard alone are not causal.""",
        ),
        Config(
            "ack_join",
            {"ACK_JOIN": False},
            violates="CausalReads",
            depth=5,
            story="""Without the join at the write's acknowledgement: a write whose past is not known to its writer

            A write is put behind whatever its shard's log already holds, and everybody who reads it later sees it in that order. Its own
            writer is told nothing of what it was put behind.""",
        ),
        Config(
            "watermark_first",
            {"WATERMARK_FIRST": False, **SPLIT},
            violates="ReadYourWrites",
            depth=5,
            story="""With the watermark taken after the snapshot: the gate vouches for a state that the read does not see

            The read opens its snapshot first, and asks the replica afterwards how far it has come. Meanwhile the replica goes on.""",
        ),
        Config(
            "token_from_snapshot",
            {"TOKEN_FROM_SNAPSHOT": False, **SPLIT},
            violates="MonotonicReads",
            depth=7,
            story="""With the token taken from the watermark instead of the snapshot: the session forgets what it saw

            The watermark is what the replica had applied when the gate was passed. The snapshot that is read may be newer, and the token
            joins only the older of the two.""",
        ),
        Config(
            "committed",
            {"COMMITTED": False},
            violates="EveryGateOpens",
            depth=2,
            story="""With a position that is joined before its commit: a demand for what there never was

            A session takes the place that its write is to have for its own before the write is committed. It comes to nothing.""",
        ),
    ),
)
