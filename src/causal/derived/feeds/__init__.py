"""What feeds an index from a source: a module for each kind of source."""
