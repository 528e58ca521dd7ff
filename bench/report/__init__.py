"""ci/bench: runs, keeps, compares and draws whole-process comparisons (docs/benchmarks.md)."""
