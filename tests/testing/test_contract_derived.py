"""A search index that is fed from the embedded store keeps what the contract says of reading."""

from causal.testing import EngineContract, Stage
from tests.testing.stages import SearchStage


class TestSearchIndex(EngineContract):
    def stage(self) -> Stage:
        return SearchStage()
