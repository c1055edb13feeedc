"""Who runs the servers: PostgreSQL refuses to run as root, so root lends it an account that has no rights.

Owns the choice of that account, what it may read, and how a program is run as it. It makes no account: root uses `postgres` where a
package made one, else `nobody`. Anyone else runs the servers as themselves.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from causal.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable

_CANDIDATES: Final = ("postgres", "nobody")


@attrs.frozen
class Account:
    """An account of this machine. Thread-safety: immutable."""

    name: str
    uid: int
    gid: int
    lent: bool
    """Whether it is another account than this process's own."""

    @classmethod
    def choose(cls) -> Account:
        """Return the account that servers run as. Raises: ConfigError if root finds nobody to lend them."""
        if os.geteuid() != 0:
            return cls(str(os.geteuid()), os.geteuid(), os.getegid(), lent=False)
        for name in _CANDIDATES:
            try:
                found = pwd.getpwnam(name)
            except KeyError:
                continue
            if found.pw_uid != 0:
                return cls(name, found.pw_uid, found.pw_gid, lent=True)
        raise ConfigError(
            f"PostgreSQL does not run as root, and this machine has no account {' or '.join(_CANDIDATES)} to run it as"
        )

    @property
    def popen(self) -> dict[str, Any]:
        """What makes `subprocess` run a program as this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.lent else {}

    def run(self, command: Iterable[object], what: str, *, stdin: str = "", timeout_s: float = 60) -> str:
        """Run a program to its end as this account and return what it printed. Raises: StoreError with its last lines."""
        try:
            done: subprocess.CompletedProcess[str] = subprocess.run(  # noqa: S603 - a server program found by `binaries`, and no shell
                [str(part) for part in command],
                input=stdin,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
                env=environment(),
                cwd="/",
                **self.popen,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StoreError(f"{what} failed: {error}") from error
        if done.returncode:
            raise StoreError(f"{what} failed ({done.returncode}):\n{last_lines(done.stderr + done.stdout)}")
        return done.stdout

    def own(self, *paths: Path) -> None:
        """Give paths that this process has made, not what is below them, to the account."""
        if self.lent:
            for path in paths:
                os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def barred_from(self, path: Path) -> Path | None:
        """Return the first folder on the way to `path`, or itself, that the account may not pass; None if it may pass all."""
        if not self.lent:
            return None
        for folder in (*reversed(path.parents), path):
            info = folder.stat()
            bit = 0o100 if info.st_uid == self.uid else 0o010 if info.st_gid == self.gid else 0o001
            if not info.st_mode & bit:
                return folder
        return None


def environment() -> dict[str, str]:
    """Return the environment of a server program: no PGDATA, PGHOST or language of the caller's reaches it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def last_lines(text: str, count: int = 20) -> str:
    """Return the end of a log, for an error."""
    return "\n".join(text.rstrip().splitlines()[-count:]) or "(it printed nothing)"
