"""`python -m causal`: the command line."""

import sys

from causal.cli import run

if __name__ == "__main__":
    sys.exit(run())
