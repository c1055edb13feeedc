"""A small key-value store that knows nothing of causal, LMDB, as an engine, tested with causal.testing (docs/howto/test-your-store.md)."""
