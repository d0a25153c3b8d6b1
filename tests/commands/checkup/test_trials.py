"""The small cases of the kernels: each sees what it is there for."""

import hashlib

import pytest
import torch

import gpurender as gr
from gpurender.commands.checkup import trials


def test_the_trial_of_mixing_erases_every_image(monkeypatch):
    """Else a kernel that cannot erase would pass on most machines."""
    drawn = []
    draw = gr.augment.DeiT.draw

    def noted(self, *arguments, **keywords):
        drawn.append(draw(self, *arguments, **keywords))
        return drawn[-1]

    monkeypatch.setattr(gr.augment.DeiT, "draw", noted)
    trials._mix_erase(torch.device("cpu"))
    (parameters,) = drawn
    assert parameters["erasing_boxes"][..., 2:].amax((1, 2)).min() > 0


def test_the_trial_of_augment_params_sees_each_draw(monkeypatch):
    """A GPU that drew one layer, crop, box or weight otherwise would be seen."""
    whole = trials._augment_params(torch.device("cpu"))
    from gpurender.augment import DeiT

    real = DeiT.draw
    for name in ("boxes", "flips", "interpolations", "operations", "arguments", "mix_weights", "cutmix_patches",
                 "erasing_boxes", "noise_keys"):  # fmt: skip

        def other(self, *arguments, name=name, **keywords):
            drawn = real(self, *arguments, **keywords)
            last = drawn[name].reshape(-1)[-1:]
            changed = torch.nextafter(last, last + 1) if last.is_floating_point() else last ^ 1
            return drawn | {name: torch.cat([drawn[name].reshape(-1)[:-1], changed])}

        monkeypatch.setattr(DeiT, "draw", other)
        assert not torch.equal(trials._augment_params(torch.device("cpu")), whole), name


DRAWN = {  # shapes and hashes, which are equal on every machine
    "philox": ((40, 8), "3d9ee0c57f9b"), "chaos_game": ((1, 1, 32, 32), "bb42d8e28746"),
    "visual_atom": ((1, 1, 32, 32), "8b605b64e322"), "point_cloud": ((1, 1, 32, 32), "c0b28717da9f"),
    "diamond_square": ((1, 3, 33, 33), "6a3930f2e4b8"), "collage": ((2, 3, 32, 32), "a89ea1a5940b"),
    "pixel_noise": ((1, 3, 16, 16), "301bc55484fb"), "warp": ((2, 1, 16, 16), "b2f4c729c495"),
    "shuffle": ((3, 20), "66a9559482ba"), "augment_params": ((1184,), "579809592041"),
    "image_ops": ((21, 3, 32, 32), "4efd4a6541da"),
}  # fmt: skip
NORMALISED = {"resized_crop": ((2, 3, 16, 16), -509.69410), "mix_erase": ((4, 3, 16, 16), 71.759517)}


@pytest.mark.parametrize("name", trials.TRIALS)
def test_what_a_trial_draws_is_known(name):
    """Else a trial could come to try nothing, and every kernel would pass it. It draws where it is told to, and in the
    precision that it names, whatever torch's defaults are.
    """
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = trials.TRIALS[name](torch.device("cpu"))
    finally:
        torch.set_default_dtype(torch.float32)
    if name in NORMALISED:
        shape, total = NORMALISED[name]
        assert (tuple(found.shape), found.double().sum().item()) == (shape, pytest.approx(total))
    else:
        digest = hashlib.sha256(found.contiguous().numpy().tobytes()).hexdigest()
        assert (tuple(found.shape), digest[:12]) == DRAWN[name]
