"""A story told step by step, from what happened, with its promises counted: what the demos share.

Owns how a step is put out. Knows no engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from causal.errors import CausalError, GateError
from causal.lab.trace import Operation

if TYPE_CHECKING:
    from collections.abc import Callable

    from causal.blocks import Read
    from causal.cli.output import Output
    from causal.core.receipt import Receipt


class Story:
    """The steps, each told from what it returned. Thread-safety: none."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.broken: list[str] = []
        self.checked = self.steps = 0

    def step(self, title: str, result: str, receipt: Receipt | None = None, **data: object) -> None:
        """Put out one step: what was done, what came of it, and the receipt of the read."""
        self.steps += 1
        account = {} if receipt is None else {"receipt": receipt.as_dict()}
        text = Text(f"{self.steps}. {title}\n", style="bold")
        text.append(f"   {result}", style="not bold")
        if receipt is not None:
            text.append(f"\n   receipt: {receipt}", style="not bold dim")
        self.output.record({"step": title, "result": result, **data, **account}, text)

    def expect(self, what: str, held: bool) -> None:
        """Check one promise."""
        self.checked += 1
        if not held:
            self.broken.append(what)

    def must_refuse(self, title: str, block: Read[Any], look: Callable[[Any], str | None]) -> None:
        """Put out a read that nobody can serve soundly, and check that it is refused."""
        found, refused = None, None
        try:
            with block as db:
                found = look(db)
        except GateError as error:
            refused = type(error).__name__
        said = f"Refused: {refused}." if refused else f"Her photo: {found}."
        self.step(title, said, block.receipt, found=found, refused=refused)
        self.expect("a read that nobody can serve is refused, not answered wrongly", refused is not None)

    def end(self) -> None:
        """Say that all held. Raises: CausalError, naming what did not."""
        if self.broken:
            raise CausalError(f"the demo went wrong: not so: {'; '.join(self.broken)}")
        self.output.record(
            {"held": True, "checked": self.checked}, f"\nAll {self.checked} checks of what was promised held."
        )


def small_trace(users: int = 20, posts: int = 10) -> list[Operation]:
    """Return a short made-up history: users who post and look at once, and at each other."""
    operations: list[Operation] = []
    for n in range(posts):
        for user in range(users):
            t_s, me, friend = n * 2.0 + user * 0.09, f"user{user}", f"user{(user + n + 1) % users}"
            plan = [
                ("write", f"photo/{me}"),
                ("read", f"photo/{me}"),
                ("read", f"photo/{friend}"),
                ("read", f"photo/{me}"),
            ]
            for k, (op, key) in enumerate(plan):
                value = f"{n}.jpg" if op == "write" else None
                operations.append(Operation(0, t_s + k * 0.01, me, op, key, value))
    operations.sort(key=lambda o: o.t_s)
    return [Operation(i, o.t_s, o.session, o.op, o.key, o.value) for i, o in enumerate(operations)]
