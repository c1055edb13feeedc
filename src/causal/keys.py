"""Keyrings whose keys come from the environment, or from a file that is read again when it changes.

Owns the environment's format, the following of a key file (`keyfile` owns the file itself), and the warning about keys that no
other process has. What keys do is `core/keyring.py`. Never logs a key or a token's text.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self

from causal.core import keyring as core
from causal.core.keyring import Key, Profile
from causal.errors import ConfigError, TokenError
from causal.keyfile import add_key, drop_key, load, promote_key, signature

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from causal.core.token import Token

log: Final = logging.getLogger("causal")
WARN_EVERY_S: Final = 60.0


class Keyring(core.Keyring):
    """Keys that seal and open tokens: the primary one seals, all of them open.

    What `causal.core.keyring.Keyring` does, and: it can take its keys from the environment, its keys can be changed from several
    threads at a time, and one made by `generate` warns, at most once a minute, when it meets a token it cannot open.

    Raises: ConfigError for no keys, or an id twice. Thread-safety: safe from any thread.
    """

    def __init__(
        self,
        keys: Iterable[Key],
        *,
        primary: int | None = None,
        profile: Profile = "signed",
        tag_bits: Literal[64, 256] = 64,
        cache: int = 2048,
    ) -> None:
        super().__init__(keys, primary=primary, profile=profile, tag_bits=tag_bits, cache=cache)
        self._changing = threading.Lock()
        self._warned_at = -WARN_EVERY_S
        self._unopened_since = 0

    @classmethod
    def from_env(
        cls,
        var: str = "CAUSAL_KEYS",
        *,
        profile: Profile = "signed",
        tag_bits: Literal[64, 256] = 64,
        cache: int = 2048,
        environ: Mapping[str, str] = os.environ,
    ) -> Self:
        """Return the keys in an environment variable: `ID:SECRET[,ID:SECRET...]`, the first of which seals.

        A secret is 32 bytes in base64url without padding; `Key.to_text` writes one. To rotate: append the new key everywhere, then
        move it to the front everywhere, then remove the old one once its last token expired.
        Raises: ConfigError if the variable is missing or wrong; the error shows no secret.
        """
        text = environ.get(var, "")
        if not text.strip():
            raise ConfigError(
                f"the environment variable {var} is not set: it holds the keys, as ID:SECRET[,ID:SECRET...]"
            )
        try:
            return cls.parse(text, profile=profile, tag_bits=tag_bits, cache=cache)
        except ConfigError as error:
            raise ConfigError(f"the environment variable {var}: {error}") from None

    def add(self, key: Key) -> None:
        """Open with one more key; what seals stays. Raises: ConfigError if its id is taken."""
        with self._changing:
            super().add(key)

    def promote(self, key_id: int) -> None:
        """Seal with another key that this keyring has. Raises: ConfigError if it has not."""
        with self._changing:
            super().promote(key_id)

    def drop(self, key_id: int) -> None:
        """Forget a key: its tokens raise UnknownKey from now on. Raises: ConfigError for the primary, or one not held."""
        with self._changing:
            super().drop(key_id)

    def _unopened(self, error: TokenError) -> TokenError:
        if self.generated:
            now, count = time.monotonic(), 0
            with self._changing:
                self._unopened_since += 1
                if now - self._warned_at >= WARN_EVERY_S:
                    self._warned_at, count, self._unopened_since = now, self._unopened_since, 0
            if count:
                log.warning(
                    "%d tokens could not be opened with keys that Keyring.generate() made, which no other process has: "
                    "share keys between processes with Keyring.from_env() or KeyFile",
                    count,
                )
        return error


class KeyFile(Keyring):
    """A keyring that follows a key file: when the file changes, the next use after `check_every_s` reads it again, without a restart.

    A changed file that is broken, missing or unsafe leaves the keys as they were, and is logged once. `add`, `promote` and `drop` edit
    the file itself, so that every process that follows it does the same.

    Units: seconds of `monotonic`. Raises: ConfigError if the file cannot be used when it is first read.
    Thread-safety: safe from any thread; one thread reads the file again while the others go on with the keys they have.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        profile: Profile = "signed",
        tag_bits: Literal[64, 256] = 64,
        cache: int = 2048,
        check_every_s: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path: Final = Path(path)
        self._monotonic = monotonic
        self._check_every_s = check_every_s
        self._reading = threading.Lock()
        self._complained: object = None
        stored, self._seen = load(self.path)
        self._next_check = monotonic() + check_every_s
        super().__init__(stored.keys, primary=stored.primary, profile=profile, tag_bits=tag_bits, cache=cache)

    def seal(self, token: Token, *, subject: str | None, audience: str) -> str:
        """Return the text of a token, sealed with the key that is the file's primary now."""
        self._follow()
        return super().seal(token, subject=subject, audience=audience)

    def open(self, text: str, *, subject: str | None, audience: str, now: float) -> Token:
        """Return the claims of a text that one of the file's keys sealed for this subject and audience."""
        self._follow()
        return super().open(text, subject=subject, audience=audience, now=now)

    def _current(self) -> core._Ring:
        self._follow()
        return super()._current()

    @property
    def key_ids(self) -> tuple[int, ...]:
        """The ids of the keys that open, in ascending order."""
        self._follow()
        return super().key_ids

    @property
    def primary_id(self) -> int:
        """The id of the key that seals."""
        self._follow()
        return super().primary_id

    def add(self, key: Key) -> None:
        """Add a key to the file. Raises: ConfigError if its id is taken, or the file cannot be edited."""
        add_key(self.path, key)
        self.reload()

    def promote(self, key_id: int) -> None:
        """Make a key of the file its primary. Raises: ConfigError if it is not there, or the file cannot be edited."""
        promote_key(self.path, key_id)
        self.reload()

    def drop(self, key_id: int) -> None:
        """Remove a key from the file. Raises: ConfigError for the primary, for one not there, or if the file cannot be edited."""
        drop_key(self.path, key_id)
        self.reload()

    def reload(self) -> None:
        """Read the file now. Raises: ConfigError if it cannot be used; the keys then stay as they were."""
        with self._reading:
            self._read()

    def _follow(self) -> None:
        now = self._monotonic()
        if now < self._next_check or not self._reading.acquire(blocking=False):
            return
        try:
            self._next_check = now + self._check_every_s
            found = signature(self.path)
            if found not in (self._seen, self._complained):
                try:
                    self._read()
                except ConfigError as error:
                    self._complained = found
                    log.error("%s; the keys read before stay in use", error)  # noqa: TRY400 - a trace adds nothing
        finally:
            self._reading.release()

    def _read(self) -> None:
        stored, seen = load(self.path)
        self._replace(stored.keys, stored.primary)
        self._seen, self._complained = seen, None
