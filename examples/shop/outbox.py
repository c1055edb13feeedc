"""What the worker has done: mails and thumbnails, as files, because no mail leaves this machine."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import attrs

from examples.shop.data.seed import new_id

if TYPE_CHECKING:
    from pathlib import Path


@attrs.frozen
class Outbox:
    """A folder of results. Thread-safety: safe, from any process."""

    folder: Path

    def add(self, **result: Any) -> None:
        """Add a result."""
        self.folder.mkdir(exist_ok=True)
        new = self.folder / f".{new_id()}"
        new.write_text(json.dumps(result), encoding="utf-8")
        os.replace(new, self.folder / f"{new.name[1:]}.json")

    def read(self) -> list[dict[str, Any]]:
        """Return all results, the newest first."""
        return [
            json.loads(path.read_text(encoding="utf-8")) for path in sorted(self.folder.glob("*.json"), reverse=True)
        ]
