"""Real PostgreSQL for tests and demos: a primary and streaming standbys that anyone can start, and a network that misbehaves on request.

Needs the extra `lab-postgres`, or PostgreSQL's own programs and psycopg.
"""

from causal.lab.postgres.cluster import PostgresCluster
from causal.lab.postgres.proxy import Proxy
from causal.lab.postgres.server import Server

__all__ = ["PostgresCluster", "Proxy", "Server"]
