"""The embedded store: several sites on one machine, each a SQLite file, crash safe, with dependencies stored with versions.

`SQLiteEngine` is what a user names. The files say what they own: `schema` the tables, `registry` the members and numbers, `shard`
one open file, `reading` and `writing` the two handles, `apply` one step of replication, `replicate` its rounds, `rebuild` and
`members` how sites come and go, `link` the contract.

It is the default for one machine, and does not pretend to span machines.
"""

from causal.stores.sqlite.engine import SQLiteEngine
from causal.stores.sqlite.link import SQLiteLink
from causal.stores.sqlite.reading import Reader
from causal.stores.sqlite.writing import Writer

__all__ = ["Reader", "SQLiteEngine", "SQLiteLink", "Writer"]
