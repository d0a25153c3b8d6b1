"""Replay: does the state of a loader lead to the very bytes of any of its steps?

    python -m trials.replay --json FILE    # --pairs 1000, --seed S

A pair is a state, saved at a random step of a random loader (family, policy, ranks, order, ``fresh``, ``drop_last``,
``steps_per_epoch``, schedules and mixtures among the recipes), and another random step: ``gr.replay.replay`` of both
must give the batch of every rank that the loaders gave at that step, bit for bit. Exit status 1 if one differs.
"""

import argparse
import itertools
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import gpurender as gr
from gpurender.util.atomic_files import replacing
from gpurender.util.environment import environment

TRIANGLE = [[0.5, 0, 0, 0.5, 0, 0], [0.5, 0, 0, 0.5, 0.5, 0], [0.5, 0, 0, 0.5, 0.25, 0.5]]
POINTS = gr.OnePFrac(classes=3, instances=4, image_size=32, points=300, fill_rate=0.0, base=TRIANGLE)
ATOMS = gr.VisualAtom(classes=2, instances=5, image_size=32, orbits=(1, 3), quantization=(5, 9), radius=(2, 4))
RECIPES = {
    "onepfrac": POINTS,
    "visualatom": ATOMS,
    "rcdb": gr.RCDB(classes=3, instances=4, image_size=32, vertices=(3, 6), polygons=(1, 3)),
    "noise": gr.Noise(classes=3, instances=5, image_size=16, label_noise=0.3),
    "moire": gr.Moire(classes=3, instances=4, image_size=24),
    "long tail": gr.VisualAtom(
        classes=3, instances=5, image_size=32, orbits=(1, 3), quantization=(5, 9), radius=(2, 4), class_prior=3.0
    ),
    "mixture": gr.Mixture({POINTS: 1, ATOMS: 2}),
    "schedule": gr.Schedule(POINTS, points=((0, 300), (7, 100), (30, 200))),
}
POLICIES = {
    "none": None, "crop": "crop", "deit": "deit", "two views": gr.augment.TwoViews("crop"),
    "mixing by element": gr.augment.DeiT(mixup_mode="elem", mixup_off_epoch=1, num_aug_repeats=2),
}  # fmt: skip
MOST = 24  # the last step of a pair


def endless(loader: gr.DataLoader) -> Iterator[Any]:
    """Yield the batches of all epochs."""
    while True:
        yield from loader


def pair(chosen: random.Random) -> dict[str, Any]:
    """Return the settings of a pair."""
    recipe, world = chosen.choice(sorted(RECIPES)), chosen.randint(1, 3)
    return {
        "recipe": recipe, "policy": chosen.choice(sorted(POLICIES)), "world_size": world,
        "batch_size": chosen.randint(1, 3), "shuffle": chosen.random() < 0.8, "fresh": chosen.random() < 0.5,
        "drop_last": chosen.random() < 0.5, "steps_per_epoch": chosen.choice([None, None, 3, 5]),
        "seed": chosen.getrandbits(64), "saved": chosen.randint(0, MOST), "step": chosen.randint(0, MOST),
    }  # fmt: skip


def is_replayed(given: dict[str, Any]) -> bool:
    """Return whether a pair's step is replayed bit for bit."""
    keywords = {
        name: given[name] for name in ("batch_size", "shuffle", "fresh", "drop_last", "steps_per_epoch", "seed")
    }
    policy, world = POLICIES[given["policy"]], given["world_size"]
    loaders = [
        gr.DataLoader(RECIPES[given["recipe"]], augment=policy, image_size=16, rank=rank, world_size=world, **keywords)
        for rank in range(world)
    ]
    seen: Any = None
    state: Any = None
    for number, batches in enumerate(zip(*map(endless, loaders), strict=True)):
        seen = batches if number == given["step"] else seen
        state = loaders[0].state_dict() if number + 1 == max(1, given["saved"]) else state
        if seen is not None and state is not None:
            break
    options = {"image_size": 16, "drop_last": given["drop_last"], "world_size": world}
    found = gr.replay.replay(
        state, given["step"], recipe=RECIPES[given["recipe"]], batch_size=given["batch_size"], augment=policy, **options
    )
    return all(
        same(one.images, images) and torch.equal(one.targets, targets)
        for one, (images, targets) in itertools.zip_longest(found, seen, fillvalue=(None, None))
    )


def same(a: Any, b: Any) -> bool:
    """Return whether images, or lists of views, are equal."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    return len(a) == len(b) and all(map(torch.equal, a, b))


def main() -> int:
    """Run the trial; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    chosen = random.Random(options.seed)
    wrong, tried, seen = [], 0, dict.fromkeys(RECIPES, 0)
    with tqdm(total=options.pairs, unit="pair") as bar:
        while tried < options.pairs:
            given = pair(chosen)
            if given["drop_last"] and given["batch_size"] * given["world_size"] > len(RECIPES[given["recipe"]]):
                continue  # an epoch without a step
            tried += 1
            seen[given["recipe"]] += 1
            if not is_replayed(given):
                wrong.append(given)
            bar.update()
    result = {
        "environment": environment(), "replay": {"seed": options.seed, "pairs": tried, "wrong": len(wrong), **seen},
        "differ": wrong,
    }  # fmt: skip
    print(result["replay"])
    if options.json is not None:
        with replacing(options.json) as temporary:
            Path(temporary).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
