"""A site that joins must not make the others refuse: they hear of its origin before they look at the list of sites again."""

from pathlib import Path

import pytest

from causal import CausalStore, Keyring
from causal.stores.sqlite import SQLiteEngine
from causal.stores.sqlite import link as sqlite_link


def test_a_site_that_has_just_joined_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_link, "_LOOK_S", 3600.0)
    keys = Keyring.generate()
    eu, us = (
        CausalStore(SQLiteEngine(tmp_path, site=site, replicate="manual"), keyring=keys, audience="test")
        for site in ("eu", "us")
    )
    with eu, us, (read := eu.session().read()) as db:
        assert db.get("key") is None
    assert read.receipt.endpoint == "eu"
    assert read.receipt.held
