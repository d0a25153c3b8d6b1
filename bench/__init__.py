"""Measurements: ``python -m bench.NAME`` at the root of a checkout. README.md has the method of each."""
