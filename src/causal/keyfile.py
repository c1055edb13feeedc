"""The key file: keys as JSON that only their owner can read, and edits that lose nothing.

Owns the file's format, what makes it safe to use, and its edits. Knows nothing of keyrings: `keys.KeyFile` follows a file.
Neither an error nor a log line shows what a file holds.

HAZARD: a key file is as safe as its owner's account. It is refused when anybody else could read or change it, or when it
belongs to somebody else; who may replace the directory it lies in is not checked.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shlex
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from causal.core.keyring import Key
from causal.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_FILE_BYTES: Final = 1 << 20
_VERSION: Final = 1


@attrs.frozen
class StoredKeys:
    """What a key file holds: its keys, which of them seals, and when each was added (Unix seconds; None if not recorded).

    Thread-safety: immutable.
    """

    keys: tuple[Key, ...]
    primary: int
    added: Mapping[int, int | None] = attrs.field(factory=dict)

    def get(self, key_id: int) -> Key:
        """Return a key by its id. Raises: ConfigError if it is not here."""
        for key in self.keys:
            if key.id == key_id:
                return key
        raise ConfigError(f"key {key_id} is not in this file: it has {', '.join(str(k.id) for k in self.keys)}")


def create_key_file(path: str | os.PathLike[str]) -> StoredKeys:
    """Write a new file with one fresh key, readable by its owner alone. Raises: ConfigError if the path exists already."""
    path = _named(path)
    key = Key.generate()
    stored = StoredKeys((key,), key.id, {key.id: int(time.time())})
    _write(path, stored, new=True)
    return stored


def read_key_file(path: str | os.PathLike[str]) -> StoredKeys:
    """Return what a key file holds. Raises: ConfigError if it is missing, unsafe or broken; the error shows no secret."""
    return load(Path(path))[0]


def add_key(path: str | os.PathLike[str], key: Key | None = None) -> Key:
    """Add a key (default: a fresh one with the next free id) that opens but does not seal yet; return it.

    Raises: ConfigError if its id is taken, or the file cannot be edited.
    """
    with _editing(_named(path)) as edit:
        stored = edit.stored
        taken = {k.id for k in stored.keys}
        if key is None:
            after = max(taken) + 1
            free = [i % 256 for i in range(after, after + 256) if i % 256 not in taken]
            if not free:
                raise ConfigError(f"{path} holds 256 keys: drop some")
            key = Key.generate(free[0])
        elif key.id in taken:
            raise ConfigError(f"key {key.id} is in {path} already")
        edit.stored = attrs.evolve(stored, keys=(*stored.keys, key), added={**stored.added, key.id: int(time.time())})
    return key


def promote_key(path: str | os.PathLike[str], key_id: int) -> None:
    """Make a key the one that seals. Raises: ConfigError if it is not there, or the file cannot be edited."""
    with _editing(_named(path)) as edit:
        edit.stored = attrs.evolve(edit.stored, primary=edit.stored.get(key_id).id)


def drop_key(path: str | os.PathLike[str], key_id: int) -> None:
    """Remove a key. Raises: ConfigError for the primary, for one not there, or if the file cannot be edited."""
    with _editing(_named(path)) as edit:
        gone = edit.stored.get(key_id)
        if gone.id == edit.stored.primary:
            raise ConfigError(f"key {key_id} is the primary: promote another key before dropping it")
        edit.stored = attrs.evolve(edit.stored, keys=tuple(k for k in edit.stored.keys if k is not gone))


def _named(path: str | os.PathLike[str]) -> Path:
    """Return a path that can be a file's. Raises: ConfigError."""
    named = Path(path)
    if not named.name:
        raise ConfigError(f"{os.fspath(path)!r} names no file: a key file needs a name")
    return named


@attrs.define
class _Edit:
    stored: StoredKeys


@contextlib.contextmanager
def _editing(path: Path) -> Iterator[_Edit]:
    """Read, let the caller change, and replace the file, one process at a time: concurrent edits lose nothing."""
    if path.is_symlink():
        raise ConfigError(
            f"key file {path} is a symbolic link, which an edit would replace: edit {os.path.realpath(path)}"
        )
    lock = path.with_name(path.name + ".lock")
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ConfigError(f"{lock}: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        edit = _Edit(load(path)[0])
        before = edit.stored
        yield edit
        if edit.stored != before:
            _write(path, edit.stored)
    finally:
        os.close(fd)


def signature(path: Path) -> object:
    """Return what changes whenever the file may have changed."""
    try:
        return _of(os.stat(path))
    except OSError as error:
        return error.errno


def _of(s: os.stat_result) -> tuple[int, ...]:
    return s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns


def load(path: Path) -> tuple[StoredKeys, object]:
    """Return a file's keys and its signature. Raises: ConfigError if it is missing, unsafe or broken.

    What is checked is what is read: one open file, whatever its path names later.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(fd)
            _check_safe(path, status)
            with os.fdopen(fd, "rb", closefd=False) as file:
                data = file.read(MAX_FILE_BYTES + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise ConfigError(f"key file {path}: {error.strerror}") from None
    return _parsed(path, data), _of(status)


def _check_safe(path: Path, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"key file {path} is not a regular file")
    if mode & 0o077:
        raise ConfigError(
            f"key file {path} has mode {mode:04o}: others can use the keys in it. Run: chmod 600 {shlex.quote(str(path))}"
        )
    if status.st_uid not in {0, os.geteuid()}:
        raise ConfigError(
            f"key file {path} belongs to user {status.st_uid}, neither to this process's user nor to root"
        )


def _parsed(path: Path, data: bytes) -> StoredKeys:
    try:
        if len(data) > MAX_FILE_BYTES:
            raise ValueError("too large")
        document: Any = json.loads(data)
        if document["version"] != _VERSION:
            raise ValueError("another version")
        keys = tuple(Key.parse(f"{item['id']:d}:{item['secret']}") for item in document["keys"])
        added = {key.id: item.get("added") for key, item in zip(keys, document["keys"], strict=True)}
        stored = StoredKeys(keys, document["primary"], added)
        stored.get(stored.primary)
        if len(added) != len(keys):
            raise ValueError("an id twice")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass  # what it holds must not be shown: not even as the context of the error
    else:
        return stored
    raise ConfigError(f"key file {path} is not a key file of version {_VERSION}, or is damaged")


def _write(path: Path, stored: StoredKeys, *, new: bool = False) -> None:
    """Put a whole file in place at once, readable by its owner alone, and on the disk before anybody relies on it."""
    keys = [{"id": k.id, "secret": k.to_text().partition(":")[2], "added": stored.added.get(k.id)} for k in stored.keys]
    data = json.dumps({"version": _VERSION, "primary": stored.primary, "keys": keys}, indent=2) + "\n"
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if new:
                os.link(draft, path)  # unlike a rename, it does not replace what is there
            else:
                os.replace(draft, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError:
        raise ConfigError(f"{path} exists already: add a key to it, or choose another path") from None
    except OSError as error:
        raise ConfigError(f"key file {path}: {error.strerror}") from None
