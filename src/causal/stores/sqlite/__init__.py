"""The embedded store: several sites on one machine, each a SQLite file, crash safe, with dependencies stored with versions.

`SQLiteEngine` is what a user names, `link` the contract over it. Below: `files/` what is on the disk, `blocks/` what one block reads and
writes through, `replication/` how sites come to hold the same.

It is the default for one machine, and does not pretend to span machines.
"""

from causal.stores.sqlite.blocks.reading import Reader
from causal.stores.sqlite.blocks.writing import Writer
from causal.stores.sqlite.engine import SQLiteEngine
from causal.stores.sqlite.link import SQLiteLink

__all__ = ["Reader", "SQLiteEngine", "SQLiteLink", "Writer"]
