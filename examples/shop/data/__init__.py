"""The rows of the shop. `keyvalue` and `tables` have the same functions: one for the embedded store, one for PostgreSQL."""
