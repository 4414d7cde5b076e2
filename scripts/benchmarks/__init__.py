"""Benchmarks: each scene measures one job, and what bounds it, in the same run."""
