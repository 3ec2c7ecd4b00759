"""Node data sets of the Open Graph Benchmark, without its package (arXiv 2005.00687)."""
