"""What each part costs, against a floor or a peer in the same run: `python -m benches`."""
