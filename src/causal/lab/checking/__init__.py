"""What `causal.lab.checker` is made of: the order of a history, the clocks of its operations, and one judge for each promise."""
