"""What a block reads and writes through: one snapshot, one transaction, or one moment over several shards."""
