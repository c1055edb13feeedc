"""A prediction and what came of it: one schedule of operations, simulated and run on real files."""
