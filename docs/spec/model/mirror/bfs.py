"""A breadth-first explorer of finite state machines, and the words in which a model declares what is to be checked.

Owns the second opinion on every model: it shares nothing with TLC but the numbers that both must find. Standard library only.

A state is any hashable value, one to one with the variables of the TLA+ module, so that the counts are equal. A property of states that
must hold in each of them is an invariant. "Every gate opens under fair replication" is one, too: from each state the fair actions are run
alone until nothing is left of them, and then the gate must be open. That is what TLC is asked with weak fairness, for machines in which all
other actions are finitely many or change nothing, and in which no action undoes what replication has done for a demand.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

State = Hashable
Action = tuple  # what happened, for the narrator: ("write", "alice", 0)
Holds = Callable[[State], bool]


@dataclass(frozen=True)
class Machine:
    """One model with its constants filled in.

    `after` yields each action that is possible in a state, with the state that it leads to. `invariants` and `liveness` map the names
    that the TLA+ module uses to predicates of a state (see above for `liveness`). `tell` says in one sentence what an action did, and
    `broken` what is wrong in the last state.
    """

    initial: Iterable[State]
    after: Callable[[State], Iterable[tuple[Action, State]]]
    invariants: Mapping[str, Holds]
    tell: Callable[[Action, State, State], str]
    broken: Callable[[str, State], str]
    liveness: Mapping[str, Holds] = field(default_factory=dict)


@dataclass(frozen=True)
class Config:
    """One run of a model: what differs from the model's constants, and what both checkers must find.

    `violates` None: everything holds, in `states` distinct states, `depth` levels deep. Else that invariant is violated, and the shortest
    way there has `depth` states. (Where `violates` names a liveness property, TLC's way there is not the shortest: only the verdict is
    compared.) Such a run is named after the rule that it turns off (`merge`, or `merge-again` for a second one of the same rule), checks
    what it is to violate and nothing else, and is otherwise a run that holds: it is that rule which makes the difference.
    `story` opens the counterexample's page: a heading, then a paragraph on what was left out. `by_hand`: too big for every day.
    """

    name: str
    constants: Mapping[str, bool | int] = field(default_factory=dict)
    violates: str | None = None
    states: int | None = None
    depth: int = 0
    story: str = ""
    liveness: bool = True
    by_hand: bool = False

    @property
    def rule(self) -> str | None:
        """The constant that a run turns off to be violated."""
        return None if self.violates is None else self.name.partition("-")[0].upper()


@dataclass(frozen=True)
class Model:
    """A TLA+ module, its mirror (a machine made from constants), and the runs of both.

    Constants in capitals are rules of the specification, which some run must turn off; the others are bounds, or say how the world is.
    """

    module: str
    constants: Mapping[str, bool | int]
    machine: Callable[[Mapping[str, bool | int]], Machine]
    configs: tuple[Config, ...]

    @property
    def name(self) -> str:
        """What the model is called wherever it is not TLA+ that is spoken."""
        return self.module.lower()

    def built(self, config: Config) -> Machine:
        """Return the machine of one run."""
        return self.machine({**self.constants, **config.constants})


@dataclass(frozen=True)
class Found:
    """What an exploration found. `trace` is the shortest way to a violation: (None, initial state), then (action, state) each."""

    states: int
    depth: int
    violated: str | None = None
    trace: tuple[tuple[Action | None, State], ...] = ()


def explore(machine: Machine, checks: Mapping[str, Holds]) -> Found:
    """Visit every reachable state, nearest first; stop at the first state that violates a check.

    Complexity: linear in states and actions; every state is kept, with the state and the action that it was first reached by.
    """
    came: dict[State, tuple[State, Action] | None] = {}
    level = list(dict.fromkeys(machine.initial))
    came.update(dict.fromkeys(level))
    depth = 0
    while level:
        depth += 1
        for state in level:
            for name, holds in checks.items():
                if not holds(state):
                    return Found(len(came), depth, name, tuple(way(came, state)))
        level = list(unseen(machine, level, came))
    return Found(len(came), depth)


def unseen(machine: Machine, level: Iterable[State], came: dict[State, tuple[State, Action] | None]) -> Iterator[State]:
    """Yield each state that is one action beyond a level and was not seen before, and remember how it was reached."""
    for state in level:
        for action, then in machine.after(state):
            if then not in came:
                came[then] = (state, action)
                yield then


def way(came: Mapping[State, tuple[State, Action] | None], state: State) -> list[tuple[Action | None, State]]:
    """Return how a state was reached, from the initial state on."""
    steps: list[tuple[Action | None, State]] = []
    while (step := came[state]) is not None:
        steps.append((step[1], state))
        state = step[0]
    return [(None, state), *reversed(steps)]


def checks(model: Model, config: Config) -> tuple[dict[str, Holds], dict[str, Holds]]:
    """Return the invariants and the liveness properties that a run checks."""
    machine = model.built(config)
    invariants, liveness = dict(machine.invariants), dict(machine.liveness)
    if config.violates is not None:
        invariants = {k: v for k, v in invariants.items() if k == config.violates}
        liveness = {k: v for k, v in liveness.items() if k == config.violates}
        assert invariants or liveness, f"{model.module} knows no {config.violates}"
    return invariants, liveness if config.liveness else {}


def check(model: Model, config: Config) -> Found:
    """Run the mirror of one configuration."""
    invariants, liveness = checks(model, config)
    return explore(model.built(config), invariants | liveness)


def put(items: tuple, index: int, item: object) -> tuple:
    """Return a tuple with one of its items replaced: machines are made of tuples."""
    return (*items[:index], item, *items[index + 1 :])
