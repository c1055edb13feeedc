"""Places in PostgreSQL's write-ahead log, as numbers. Pure.

Owns reading, writing and rounding them. An LSN is an offset in one history of one cluster: without its origin it says nothing.
"""

from __future__ import annotations

import re
from typing import Final

_LSN: Final = re.compile(r"([0-9A-F]{1,8})/([0-9A-F]{1,8})")
PAGE: Final = 8192
_PAGE_HEADER: Final = 24
_SEGMENT_HEADER: Final = 40


def parse(text: str | bytes) -> int:
    """Read an LSN as the server writes it, such as 16/B374D848. Raises: ValueError for anything else."""
    found = _LSN.fullmatch(text if isinstance(text, str) else text.decode("ascii"))
    if found is None:
        raise ValueError(f"not an LSN: {text!r}")
    return int(found[1], 16) << 32 | int(found[2], 16)


def spell(lsn: int) -> str:
    """Write an LSN as the server does."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def rounded(lsn: int, segment: int, page: int = PAGE) -> int:
    """Return where the last record ended that this insert position follows.

    A record that ends on a page's edge is followed by an insert position past the next page's header, which nothing reaches until there is
    another record: on an idle server, a reader that waits for it waits for ever.

    Units: bytes; `segment` and `page` are the server's `wal_segment_size` and `wal_block_size`.
    """
    if lsn % segment == _SEGMENT_HEADER:
        return lsn - _SEGMENT_HEADER
    if lsn % page == _PAGE_HEADER:
        return lsn - _PAGE_HEADER
    return lsn
