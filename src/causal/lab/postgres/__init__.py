"""Real PostgreSQL for tests and demos: a primary and streaming standbys that anyone can start, and a network that misbehaves on request.

Needs the extra `lab-postgres`, or PostgreSQL's own programs and psycopg.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from causal.lab.postgres.cluster import PostgresCluster
    from causal.lab.postgres.proxy import Proxy
    from causal.lab.postgres.server import Server

__all__ = ["PostgresCluster", "Proxy", "Server"]


def __getattr__(name: str) -> object:
    # pytest imports the plugin, and so this package, at the start of every run: what it does not use, it does not pay for.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from causal.lab.postgres import cluster, proxy, server

    return {"PostgresCluster": cluster.PostgresCluster, "Proxy": proxy.Proxy, "Server": server.Server}[name]
