"""Runs a contract in this process, and tells what became of each test."""

from __future__ import annotations

from collections.abc import Callable
from unittest import SkipTest

from causal.testing import EngineContract, Stage


def run(
    make: Callable[[], Stage], *names: str, contract: type[EngineContract] = EngineContract
) -> dict[str, str | None]:
    """Return, for each test, None if it passed, "skipped: why", or what it failed with."""

    class Contract(contract):  # type: ignore[valid-type, misc]
        def stage(self) -> Stage:
            return make()

    results: dict[str, str | None] = {}
    for name in names or Contract.tests:
        try:
            getattr(Contract(), name)()
        except SkipTest as why:
            results[name] = f"skipped: {why}"
        except Exception as error:  # noqa: BLE001 - whatever a broken engine raises
            results[name] = f"{type(error).__name__}: {error}"
        else:
            results[name] = None
    return results


def failures(results: dict[str, str | None]) -> dict[str, str]:
    return {name: said for name, said in results.items() if said is not None and not said.startswith("skipped: ")}
