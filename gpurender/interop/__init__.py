"""Adapters to training stacks, one module a stack; each needs the stack's own package and is imported by name."""
