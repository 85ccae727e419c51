"""Benchmarks: ours beside what people would use instead, in one run. `python -m bench --help`."""
