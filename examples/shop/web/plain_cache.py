"""The cache as it is written everywhere: get, else load and set; delete on write. It is what "without the cache gate" means.

Nothing is wrong with it but what it cannot know: a value that is loaded from a replica which is behind stays until its time is over.
"""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

TTL_S: Final = 300
PREFIX: Final = "plain:"


class PlainCache:
    """A dict of this process, or Valkey. Units: seconds. Thread-safety: safe."""

    def __init__(self, url: str | None) -> None:
        self._entries: dict[str, tuple[float, str]] = {}
        self._lock = threading.Lock()
        self._server: Any = None
        if url is not None:
            import valkey

            self._server = valkey.Valkey.from_url(url)

    def get(self, key: str, load: Callable[[], Any]) -> tuple[Any, bool]:
        """Return the value, and whether it was there."""
        text = self._get(key)
        if text is not None:
            return json.loads(text), True
        value = load()
        self._set(key, json.dumps(value))
        return value, False

    def delete(self, key: str) -> None:
        """Forget a value."""
        if self._server is not None:
            self._server.delete(PREFIX + key)
        with self._lock:
            self._entries.pop(key, None)

    def _get(self, key: str) -> str | bytes | None:
        if self._server is not None:
            found: bytes | None = self._server.get(PREFIX + key)
            return found
        with self._lock:
            until, text = self._entries.get(key, (0.0, ""))
        return text if time.monotonic() < until else None

    def _set(self, key: str, text: str) -> None:
        if self._server is not None:
            self._server.set(PREFIX + key, text, ex=TTL_S)
            return
        with self._lock:
            self._entries[key] = time.monotonic() + TTL_S, text
