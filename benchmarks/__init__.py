"""One question a file: `python -m benchmarks.NAME` prints the answer as a table."""
