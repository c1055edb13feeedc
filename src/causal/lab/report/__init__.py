"""What comes out of comparisons, for people and for programs: rows, sweeps, figures, and files that replay a failure."""
