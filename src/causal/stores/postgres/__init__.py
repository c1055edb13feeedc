"""PostgreSQL with streaming replication: reads at standbys that are far enough, writes at whoever is primary.

`PostgresEngine` is what a user names; `link.py` and `alink.py` are the contract over it. Below: `lsn.py` and `lineage.py` say what a
server's answers prove (pure), `statements.py` what is said to it, `exchange.py` how, `server.py` what is known of it, `blocks.py` how a
block begins and ends. `install.py` is what a database's owner runs once, `examine.py` asks from outside.
"""

try:
    import psycopg_pool  # noqa: F401 - psycopg comes with it
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f'PostgreSQL needs {error.name}: pip install "causal-tokens[postgres]"', name=error.name
    ) from error

from causal.stores.postgres.engine import PostgresEngine, Replica, Shard
from causal.stores.postgres.install import install, script
from causal.stores.postgres.link import PostgresLink
from causal.stores.postgres.pools import PoolSettings

__all__ = ["PoolSettings", "PostgresEngine", "PostgresLink", "Replica", "Shard", "install", "script"]
