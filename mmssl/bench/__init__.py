"""Benchmarks that ship: each contender in a process of its own, in shuffled order, compared by in-run ratios of CPU time."""
