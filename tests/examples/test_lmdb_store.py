"""The engine over LMDB of docs/howto/test-your-store.md keeps the contract; with a bug in it, it does not."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lmdb")

from causal.testing import EngineContract, Stage
from examples.lmdb_store.engine import LMDBEngine
from examples.lmdb_store.stage import LMDBStage


class OnDisk(LMDBStage):
    def __init__(self, kind: type[LMDBEngine] = LMDBEngine) -> None:
        super().__init__(Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)), kind)

    def close(self) -> None:
        super().close()
        shutil.rmtree(self.directory)


class TestLMDB(EngineContract):
    def stage(self) -> Stage:
        return OnDisk()
