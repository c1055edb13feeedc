"""A small key-value store that knows nothing of causal, LMDB, made an engine and tested with causal.testing: docs/howto/test-your-store.md."""
