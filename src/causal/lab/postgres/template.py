"""A fresh data directory, and copies of it that are clusters of their own.

Owns initdb's options, the role and database that tests use, and the system identifier: two clusters made from one template must not
take each other for the same, so each copy gets its own, as PostgreSQL's pg_createsubscriber gives one to the copy that it makes.
"""

from __future__ import annotations

import os
import secrets
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from causal.errors import StoreError

if TYPE_CHECKING:
    import psycopg

    from causal.lab.postgres.account import Account
    from causal.lab.postgres.binaries import Binaries

USER: Final = "app"
SUPERUSER: Final = "postgres"
# The file is the same on all servers of a cluster, as pg_rewind and base backups copy it: what differs stands outside the data directory.
_CONFIGURATION: Final = "include_if_exists '../server.conf'\n"
_CONTROL: Final = "global/pg_control"
_BLOCK: Final = 1 << 16
_CRC32C: Final = 0x82F63B78


def make_template(binaries: Binaries, account: Account, data: Path, initdb: tuple[str, ...] = ()) -> Path:
    """Make a data directory with the role `app` and its database. Raises: StoreError with what initdb printed."""
    account.run(
        [
            *(binaries.program("initdb"), "-D", data, "--username", SUPERUSER, "--auth=trust", "--no-sync"),
            *("--locale=C", "--encoding=UTF8", "--no-instructions"),
            "--data-checksums",  # pg_rewind wants them, and they are the default since 18
            *initdb,
        ],
        "initdb",
    )
    statements = f"CREATE ROLE {USER} LOGIN;\nCREATE DATABASE {USER} OWNER {USER};\n"
    _run_alone(binaries, account, data, statements)
    with (data / "postgresql.conf").open("w", encoding="utf-8") as file:
        file.write(_CONFIGURATION)
    return data


def copy_tree(source: Path, target: Path) -> None:
    """Copy a data directory with its owners and modes, and holes for its zeros. Raises: StoreError."""
    try:
        _copy_folder(os.fspath(source), os.fspath(target))
    except OSError as error:
        raise StoreError(f"cannot copy {source} to {target}: {error}") from error


def _copy_folder(source: str, target: str) -> None:
    os.mkdir(target, 0o700)
    with os.scandir(source) as listed:
        entries = list(listed)
    for entry in entries:
        to = f"{target}/{entry.name}"
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), to)
        elif entry.is_dir():
            _copy_folder(entry.path, to)
        elif entry.is_file():
            _copy_file(entry.path, to)
    _copy_owner(source, target)


def _copy_file(source: str, target: str) -> None:
    with open(source, "rb", buffering=0) as old, open(target, "xb", buffering=0) as new:
        while block := old.read(_BLOCK):
            # Half of a fresh data directory is one preallocated log segment; memory for it would cost as long as the rest.
            if block.count(0) == len(block):
                new.seek(len(block), os.SEEK_CUR)
            else:
                new.write(block)
        new.truncate()
    _copy_owner(source, target)


def _copy_owner(source: str, target: str) -> None:
    info = os.stat(source)
    os.chmod(target, info.st_mode & 0o7777)
    if os.geteuid() == 0:
        os.chown(target, info.st_uid, info.st_gid)


def copy_as_new(binaries: Binaries, account: Account, template: Path, data: Path) -> None:
    """Copy a template and make it a cluster of its own, with a system identifier that no other has. Raises: StoreError."""
    copy_tree(template, data)
    control = data / _CONTROL
    image = bytearray(control.read_bytes())
    # The identifier is the first field of the file in every version, and the checksum the last: it covers all before it.
    covered = _covered(bytes(image))
    image[:8] = struct.pack("=Q", secrets.randbits(63) | 1 << 62)
    image[covered : covered + 4] = struct.pack("=I", crc32c(bytes(image[:covered])))
    with control.open("r+b") as file:
        file.write(image)
    account.run(
        [binaries.program("pg_resetwal"), "-f", "-D", data], "pg_resetwal"
    )  # the log's pages name the identifier too
    # The new log says wal_level=minimal until a server has run, and no standby starts from that.
    _run_alone(binaries, account, data, "")


def _run_alone(binaries: Binaries, account: Account, data: Path, statements: str) -> None:
    """Run statements, one a line, on a server that serves nobody else."""
    quiet = "fsync=off log_min_messages=warning shared_buffers=8MB wal_level=replica".split()
    options = [part for setting in quiet for part in ("-c", setting)]
    account.run(
        [binaries.program("postgres"), "--single", *options, "-D", data, "postgres"],
        "postgres --single",
        stdin=statements,
    )


def _covered(image: bytes) -> int:
    """Return how many bytes of a control file its checksum covers. Raises: StoreError if none is found."""
    crc = 0xFFFFFFFF
    for nth, byte in enumerate(image[:508]):
        if nth >= 100 and image[nth : nth + 4] == struct.pack("=I", crc ^ 0xFFFFFFFF):
            return nth
        crc = _step(crc, byte)
    raise StoreError("no checksum found in pg_control: an unknown version of PostgreSQL?")


def crc32c(data: bytes) -> int:
    """Return the Castagnoli checksum, as PostgreSQL computes it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _step(crc, byte)
    return crc ^ 0xFFFFFFFF


def _step(crc: int, byte: int) -> int:
    crc ^= byte
    for _ in range(8):
        crc = crc >> 1 ^ (_CRC32C if crc & 1 else 0)
    return crc


def reset_databases(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    """Bring databases and roles back to the template's. The connection is a superuser's, to the database `postgres`, in autocommit."""
    from psycopg import sql

    connection.execute("SET client_min_messages = error")
    for (name,) in connection.execute(
        "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'"
    ):
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
    found = connection.execute(
        "SELECT rolname FROM pg_roles WHERE NOT starts_with(rolname, 'pg_') AND rolname <> ALL(%s)",
        ([USER, SUPERUSER],),
    )
    for (name,) in found:
        connection.execute(sql.SQL("DROP OWNED BY {0} CASCADE").format(sql.Identifier(name)))
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))
    connection.execute(f"ALTER ROLE {USER} RESET ALL")
    connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active")
    connection.execute(f"CREATE DATABASE {USER} OWNER {USER}")


def write_private(account: Account, path: Path, text: str | bytes) -> None:
    """Write a file that only the servers' account and this process read; whole or not at all."""
    beside = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(text.encode() if isinstance(text, str) else text)
    account.own(beside)
    beside.replace(path)
