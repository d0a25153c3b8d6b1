"""The steps of the acceptance run, one file a subject: each takes a ``Seen`` (seen.py) and fills it, or raises.

This file loads none of them: the process that watches over the steps stays small.
"""

from collections.abc import Callable
from importlib import import_module

from bench.steps.seen import Seen

Step = Callable[[Seen], None]

STEPS = {
    "start": "start:first_batches",
    "doctor": "start:doctor",
    "kernels": "kernels:kernels",
    "equality": "equality:equality",
    "table": "rates:table",
    "search": "search:search",
    "train": "train:train",
    "profile": "ncu:profile",
    "consumers": "consumers:consumers",
    "tests": "gpu_tests:gpu_tests",
    "memcheck": "sanitizer:memcheck",
    "racecheck": "sanitizer:racecheck",
    "augment": "rates:augment",
    "sweep": "rates:sweep",
    "files": "train:files",
    "pretrain": "train:pretrain",
    "soak": "soak:soak",
}


def step(name: str) -> Step:
    """The function of a step."""
    module, function = STEPS[name].split(":")
    return getattr(import_module(f"bench.steps.{module}"), function)
