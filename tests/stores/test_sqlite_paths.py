"""A directory that was given by a relative path stays the same directory when the process changes its own."""

from pathlib import Path

import pytest

from causal.stores.sqlite import SQLiteEngine


def test_a_process_may_change_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "one")
    engine = SQLiteEngine("data", site="eu", replicate="manual")
    link = engine.open()
    monkeypatch.chdir(tmp_path / "two")
    try:
        assert link.probe("eu", 1.0)
        engine.pause("eu")
    finally:
        link.close()
    assert not list((tmp_path / "two").iterdir())
