"""The reference engine keeps the contract."""

from causal.testing import EngineContract, Stage
from tests.testing.stages import MemoryStage


class TestMemory(EngineContract):
    def stage(self) -> Stage:
        return MemoryStage()
