"""One ceiling stays one file when the process changes its directory; two would not be restart safe."""

from pathlib import Path

import pytest

from causal.ceiling import FileCeiling


def test_a_process_may_change_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "one")
    ceiling = FileCeiling("clock.ceiling")
    ceiling.reserve(5 << 16)
    monkeypatch.chdir(tmp_path / "two")
    assert ceiling.load() == 5 << 16
    ceiling.reserve(7 << 16)
    assert not list((tmp_path / "two").iterdir())
