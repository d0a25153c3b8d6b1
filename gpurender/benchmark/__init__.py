"""Benchmarks: measuring, timing and plotting."""
