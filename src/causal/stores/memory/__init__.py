"""The reference engine: several sites in one process, for tests and for reading.

What a store with several writing sites must do, said as plainly as it can be: `site.py` is what one site holds,
`cluster.py` how sites replicate and fail, `link.py` what the gate asks of them. Nothing is durable and nothing runs
in the background: what is due is applied when a link is used, so a test that owns `monotonic` owns every delay.
"""

from causal.stores.memory.cluster import MemoryCluster
from causal.stores.memory.link import MemoryEngine, MemoryReader, MemoryWriter

__all__ = ["MemoryCluster", "MemoryEngine", "MemoryReader", "MemoryWriter"]
