"""Speed beside the peers: `python -m benchmarks` measures both in one run and compares medians (see harness.py)."""
