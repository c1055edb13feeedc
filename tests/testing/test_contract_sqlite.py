"""The embedded store keeps the contract."""

from causal.testing import EngineContract, Stage
from tests.testing.stages import SQLiteStage


class TestSQLite(EngineContract):
    def stage(self) -> Stage:
        return SQLiteStage()
