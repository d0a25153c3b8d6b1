"""How many kernels a batch launches: bounds, so that none of torch's comes back unnoticed."""

import pytest
import torch

pytest.importorskip("triton")
from bench import host_cost

# Kernels of torch in a batch: the cursor's step; of VisualAtom the classes; of fresh fractals the systems, gathered
TORCH = {
    ("onepfrac-1k", False): 1,
    ("onepfrac-1k", True): 5,
    ("fractaldb-1k", False): 1,
    ("fractaldb-1k", True): 10,
    ("visualatom-1k", False): 2,
    ("visualatom-1k", True): 2,
}
DRAWN = ["place", "divide"]
CROPPED = ["resized_crop_bits"]  # of bitmaps that are kept
CHANGED = ["plan_steps", "fill", *["tabulate", "change", "move"] * 2]


@pytest.mark.parametrize("preset", host_cost.PRESETS)
def test_a_batch_launches_few_kernels(preset):
    catalog = host_cost.catalog_of(preset)
    for policy, own in [("crop", 7), ("deit", 20)]:
        for fresh in (False, True):
            found = host_cost.sequence(preset, policy, fresh, catalog)
            assert len(found.torch) == TORCH[preset, fresh], found.torch
            assert len(found.own) <= own, found.own


def test_the_launches_of_a_batch_are_those_of_the_path():
    found = host_cost.sequence("onepfrac-1k", "deit", False, host_cost.catalog_of("onepfrac-1k"))
    draws = ["draw"] * 4
    assert sorted(found.own) == sorted([*DRAWN, *draws, *CROPPED, *CHANGED, "mix_erase_pixels", "soft_targets_rows"])
    assert found.torch == ["aten::add_"]


def test_operators_that_launch_are_counted_and_others_not():
    found = []
    with host_cost.Counted(found):
        a = torch.empty(4, device="cpu")
        a.view(2, 2)[0].add_(1)
        a[:0] * 2
        torch.cat([a, a]) + 1
        a.expand(3, 4).contiguous()
    assert found == ["aten::add_", "aten::cat", "aten::add", "aten::clone"]
