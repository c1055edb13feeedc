"""`EngineContract`: every promise of `causal.engine`, as a test that an engine passes or fails."""

from causal.testing.contract.apart import Apart
from causal.testing.contract.configuration import Configuration
from causal.testing.contract.failing import Failures
from causal.testing.contract.faithful import Faithful
from causal.testing.contract.meanwhile import Meanwhile
from causal.testing.contract.play import ContractBroken
from causal.testing.contract.sessions import Sessions
from causal.testing.contract.shown import Shows
from causal.testing.contract.watermarks import Watermarks
from causal.testing.contract.writes import Writes

__all__ = ["ContractBroken", "EngineContract"]


class EngineContract(Configuration, Watermarks, Writes, Shows, Faithful, Meanwhile, Apart, Failures, Sessions):
    """Proves that an engine keeps what `causal.engine` promises to the gate: one test for each promise, for both kinds of link.

        class TestMyEngine(EngineContract):
            def stage(self):
                return MyStage()  # a causal.testing.Stage: how to make the engine, to read and write, to make it lag

    pytest collects the subclass. A test whose hook the stage does not have is skipped, and says which; a failure says what was seen, what
    was promised and what to do. Every test has a new stage.

    Thread-safety: one thread at a time.
    """
