"""Trials of what the library promises, by chance and at length: ``python -m trials.NAME`` at the root of a checkout."""
