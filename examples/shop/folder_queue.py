"""Celery's queue as a folder, so that jobs need no server: kombu's own transport for that, with one repair.

Kombu writes a message under the name that workers look for. One that finds it too early reads half of it, or nothing, and ends. Here a
message gets that name once it is whole.
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import Any, Final

from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps

SCHEME: Final = "folder"


class Channel(filesystem.Channel):
    """A connection to the folder. Thread-safety: as kombu's."""

    def _put(self, queue: str, payload: Any, **_: Any) -> None:
        whole = Path(self.data_folder_out) / f"{time.monotonic_ns():020d}_{uuid.uuid4()}.{queue}.msg"
        part = whole.with_name(f"{whole.name}.part")
        part.write_text(dumps(payload), encoding="utf-8")
        os.replace(part, whole)


class Transport(filesystem.Transport):
    """What a URL that begins with `folder://` names. Thread-safety: as kombu's."""

    Channel = Channel


TRANSPORT_ALIASES[SCHEME] = f"{__name__}:{Transport.__name__}"
