"""Malformed input by the hundred thousand: accepted and sound, or refused by name."""
