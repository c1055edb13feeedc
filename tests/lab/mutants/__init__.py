"""Planted bugs that the simulator must find, and the hunt for the seeds that find them.

`mutants.toml` is the table; `python -m tests.lab.mutants` hunts; `tests/lab/test_mutants.py` holds the table to it.
"""
