"""Adapters to training stacks, one module per stack; each is imported only by name and says what package it needs."""
