"""The mirror of Clock.tla: hybrid logical clocks on two nodes whose wall clocks drift apart and step back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mirror.bfs import Action, Config, Machine, Model, State, put

NODES = (0, 1)
NAMES = ("eu", "us")


def machine(k: Mapping[str, bool | int]) -> Machine:
    """A state is (wall, high, backs, last, chain, done, sent, broken), as in the module."""
    radix, max_drift = k["Radix"], k["MaxDrift"]
    start = -1 if k["START"] else 0

    def successor(last: int) -> int:
        """The next timestamp; without the carry, the counter starts again in the same millisecond."""
        return last + 1 if k["CARRY"] or (last + 1) % radix else last + 1 - radix

    def stamped(last: int, wall: int, remote: int | None) -> int:
        now = wall * radix
        if not k["NEVER_BACK"] and wall != last // radix:
            return now  # whatever the wall says
        least = successor(last) if k["STEP"] else last
        if remote is not None and k["RECEIVE"]:
            least = max(least, successor(remote))
        return max(least, now) if k["WALL"] else least

    def event(state: State, node: int, remote: tuple | None) -> State:
        wall, high, backs, last, chain, done, sent, broken = state
        mine, at = last[node], wall[node]
        ts = stamped(mine, at, None if remote is None else remote[1])
        ms, counter = divmod(ts, radix)
        links = [0]
        if done[node] and mine // radix == ms:
            links.append(chain[node])
        if remote is not None and remote[1] // radix == ms:
            links.append(remote[2])
        long = max(links) + 1
        wrongs = {
            "StrictIncrease": bool(done[node]) and ts <= mine,
            "ReceiveDominance": remote is not None and ts <= remote[1],
            "NotBelowWall": ms < at,
            "CounterCounts": counter > long - 1,
        }
        return (
            wall,
            high,
            backs,
            put(last, node, ts),
            put(chain, node, long),
            put(done, node, done[node] + 1),
            sent | {(node, ts, long)} if remote is None else sent,
            broken | {name for name, wrong in wrongs.items() if wrong},
        )

    def after(state: State) -> Iterator[tuple[Action, State]]:
        wall, high, backs, last, chain, done, sent, broken = state
        rest = (last, chain, done, sent, broken)
        for node in NODES:
            at = wall[node]
            if at < k["MaxWall"]:
                yield (
                    ("advance", node),
                    (put(wall, node, at + 1), put(high, node, max(high[node], at + 1)), backs, *rest),
                )
            if backs < k["Backs"]:
                for back in range(at):
                    yield ("back", node), (put(wall, node, back), high, backs + 1, *rest)
            if done[node] < k["Events"]:
                yield ("send", node), event(state, node, None)
                for message in sent:
                    if message[0] != node and (message[1] // radix <= at + max_drift or not k["DRIFT_CHECK"]):
                        yield ("receive", node, message), event(state, node, message)

    def bounded_drift(state: State) -> bool:
        _, high, _, last, _, done, _, _ = state
        return all(last[n] <= (high[n] + max_drift) * radix + (radix - 1) + done[n] for n in NODES)

    def shown(ts: int) -> str:
        return f"({ts // radix}, {ts % radix})"

    def tell(action: Action, before: State, after: State) -> str:
        what, node = action[0], action[1]
        name, reading = NAMES[node], after[0][node]
        if what == "advance":
            return f"The wall clock at {name} goes on to {reading}."
        if what == "back":
            return f"The wall clock at {name} is set back, from {before[0][node]} to {reading}."
        ts = shown(after[3][node])
        if what == "send":
            return f"{name} sends a message, at {reading} by its wall clock. It is stamped {ts}."
        return (
            f"{name} receives the message that {NAMES[1 - node]} stamped {shown(action[2][1])}, at {reading} by its own wall clock. "
            f"The event is stamped {ts}."
        )

    def broken(invariant: str, state: State) -> str:
        return {
            "StrictIncrease": "The timestamp is not above the one before it at the same node.",
            "ReceiveDominance": "The timestamp is not above the one of the message that was received.",
            "NotBelowWall": "The timestamp is below the wall clock's reading.",
            "CounterCounts": "The counter says that events of that millisecond came before. There were not as many.",
            "BoundedDrift": f"The node is more than {max_drift} ms ahead of anything that its own wall clock ever said.",
        }[invariant]

    first = ((0, 0), (0, 0), 0, (start, start), (0, 0), (0, 0), frozenset(), frozenset())
    flags = ("StrictIncrease", "ReceiveDominance", "NotBelowWall", "CounterCounts")
    return Machine(
        initial=[first],
        after=after,
        invariants={**{n: (lambda s, n=n: n not in s[7]) for n in flags}, "BoundedDrift": bounded_drift},
        tell=tell,
        broken=broken,
    )


MODEL = Model(
    module="Clock",
    constants={
        "START": True,
        "STEP": True,
        "NEVER_BACK": True,
        "WALL": True,
        "RECEIVE": True,
        "CARRY": True,
        "DRIFT_CHECK": True,
        "Radix": 2,
        "MaxDrift": 1,
        "MaxWall": 2,
        "Backs": 1,
        "Events": 3,
    },
    machine=machine,
    configs=(
        Config("", states=53_654, depth=13),
        Config(
            "start",
            {"START": False},
            violates="CounterCounts",
            depth=2,
            story="""With a clock that starts at 0: a counter of 1 with nothing before it

            The clock stands at 0 before its first event, as in the paper, and the wall clock's first reading may be 0, too. A timestamp's
            counter is then no longer bounded by the number of events before it in the same millisecond. A clock that starts at -1 has no
            such first event.""",
        ),
        Config(
            "step",
            {"STEP": False},
            violates="StrictIncrease",
            depth=3,
            story="""With a clock that only never goes back: two events with one timestamp

            As long as the wall clock stands still, so does this one. It is never wrong, and orders nothing.""",
        ),
        Config(
            "never_back",
            {"NEVER_BACK": False},
            violates="StrictIncrease",
            depth=5,
            story="""With a clock that follows the wall back: the same time twice

            Whenever the wall clock says another millisecond than the last timestamp, it is believed.""",
        ),
        Config(
            "wall",
            {"WALL": False},
            violates="NotBelowWall",
            depth=3,
            story="""Without the wall clock: a logical clock says nothing of when

            The clock only counts, as Lamport's does. Its timestamps order events, and say nothing about when they happened: floors and
            ages could not be told from them.""",
        ),
        Config(
            "receive",
            {"RECEIVE": False},
            violates="ReceiveDominance",
            depth=3,
            story="""Without the merge: an effect that is stamped before its cause

            Whoever receives a message makes its next timestamp, and does not look at the message's.""",
        ),
        Config(
            "carry",
            {"CARRY": False},
            violates="StrictIncrease",
            depth=4,
            story="""Without the carry: an exhausted counter starts again

            The counter has room for two events a millisecond here (the real one for 65,536). The third starts again at 0 in the same
            millisecond, instead of at 0 in the next.""",
        ),
        Config(
            "drift_check",
            {"DRIFT_CHECK": False},
            violates="BoundedDrift",
            depth=5,
            story="""Without a limit on drift: one fast clock takes all others along

            A message is believed however far ahead its timestamp is of the receiver's own wall clock.""",
        ),
    ),
)
