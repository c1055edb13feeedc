"""For the tests of users' own engines: Hypothesis strategies, and a state machine that drives an engine through sessions.

    from causal.testing import StoreMachine, Subject, VirtualTime

    class MyMachine(StoreMachine):
        def make(self, lag):
            time = VirtualTime()
            engines = {site: MyEngine(site, lag=lag, now=time.monotonic) for site in self.sites}
            return [Subject("mine", engines, time)]

    TestMyEngine = MyMachine.TestCase

Needs the package `hypothesis`.
"""

try:
    import hypothesis as _hypothesis  # noqa: F401 - the modules below need it: its absence is said once, here
except ModuleNotFoundError as error:
    if error.name != "hypothesis":
        raise
    raise ImportError(
        "causal.testing needs the package hypothesis: pip install 'causal-tokens[testing]'", name=error.name
    ) from error

from causal.testing.assertions import (
    assert_covered,
    assert_freshest_token_sent,
    assert_no_read_went_backwards,
    assert_read_your_writes,
)
from causal.testing.book import Book
from causal.testing.contract import ContractBroken, EngineContract
from causal.testing.lagging import LaggingEngine, LaggingReplica
from causal.testing.machine import POLICIES, StoreMachine
from causal.testing.stage import NotOffered, Stage
from causal.testing.strategies import (
    frontiers,
    histories,
    keyrings,
    leader_marks,
    positions,
    timestamps,
    tokens,
    watermarks,
)
from causal.testing.subject import Data, Forgets, KeyValue, PlaceLag, Subject, VirtualTime

__all__ = [
    "POLICIES",
    "Book",
    "ContractBroken",
    "Data",
    "EngineContract",
    "Forgets",
    "KeyValue",
    "LaggingEngine",
    "LaggingReplica",
    "NotOffered",
    "PlaceLag",
    "Stage",
    "StoreMachine",
    "Subject",
    "VirtualTime",
    "assert_covered",
    "assert_freshest_token_sent",
    "assert_no_read_went_backwards",
    "assert_read_your_writes",
    "frontiers",
    "histories",
    "keyrings",
    "leader_marks",
    "positions",
    "timestamps",
    "tokens",
    "watermarks",
]
