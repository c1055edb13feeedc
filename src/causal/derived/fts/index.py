"""A full-text index as a value: where it is, what of a document is searched and sorted by, what feeds it.

Owns the public class and the layout of a document. Connects nothing until `open`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from causal.derived.fts.file import IndexFile, Layout
from causal.errors import ConfigError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from causal.derived.contract import Feeding, SourceView
    from causal.engine import Engine

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
_TAKEN: Final = frozenset({"rank", "rowid", "key", "id", "shard", "stored"})


class IndexFeed(Protocol):
    """What feeds a `SearchIndex` from one kind of source. Thread-safety: immutable; safe to create before a fork."""

    def open(self, file: IndexFile, source: Engine[Any, Any], shards: Mapping[str, int], store: int) -> Feeding:
        """Open what feeds a file, which is closed with it. Raises: ConfigError for a source of another kind, StoreError."""

    def view(self, connection: Any, index: int) -> SourceView:
        """Return what the source says of a shard in one of its read blocks. Raises: ConfigError for a connection of another kind."""


class SearchIndex:
    """A full-text index (SQLite FTS5) in a file of its own, derived from a source's rows.

    Args:
        path: the file; made if it is not there, and a `-wal`, a `-shm` and a `-feeder` beside it. One for each source and each layout.
        fields: what of a document is searched. Texts; None is an empty one.
        sorts: what of a document pages may be sorted by: numbers or texts.
        feed: what derives documents from the source: `EmbeddedFeed`, `PostgresFeed`, or one of your own.
        tokenize: how FTS5 splits texts into words, in its own words.
        version: a number to raise when the same rows become other documents: then `rebuild` is due.

    Raises: ConfigError. Thread-safety: immutable; safe to make before a fork.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fields: Sequence[str],
        feed: IndexFeed,
        sorts: Sequence[str] = (),
        tokenize: str = "unicode61",
        version: int = 1,
    ) -> None:
        self.path = Path(path).absolute()
        if isinstance(fields, str) or not fields or isinstance(sorts, str):
            raise ConfigError("fields and sorts are lists of names, and there is at least one field")
        for name in (*fields, *sorts):
            if not _NAME.fullmatch(str(name)) or name.lower() in _TAKEN:
                raise ConfigError(
                    f"{name!r} cannot name a field: ASCII letters, digits and _, and none of {sorted(_TAKEN)}"
                )
        for names in (fields, sorts):
            if len({name.lower() for name in names}) < len(names):
                raise ConfigError(f"a name is there twice: {list(names)}")
        if "'" in tokenize:
            raise ConfigError(f"a tokenizer is named without quotes: {tokenize!r}")
        self.layout = Layout(tuple(fields), tuple(sorts), tokenize, version)
        self.feed = feed

    def open(self, shards: Mapping[str, int]) -> IndexFile:
        """Open it for reading. Raises: ConfigError for a file of another layout, StoreError."""
        return IndexFile(self.path, self.layout, {index: name for name, index in shards.items()})

    def feeding(self, source: Engine[Any, Any], shards: Mapping[str, int], store: int) -> Feeding:
        """Open what feeds it from a source. Raises: ConfigError, StoreError."""
        file = self.open(shards)
        try:
            return self.feed.open(file, source, shards, store)
        except BaseException:
            file.close()
            raise

    def source_view(self, connection: Any, index: int) -> SourceView:
        """Return what the source says of a shard in one of its read blocks."""
        return self.feed.view(connection, index)
