"""A loader's batches are the same whether a family renders whole canvases or only the windows that the policy reads."""

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.augment.policy import windows
from gpurender.kernels.visual_atom import render_atoms
from gpurender.loading import pipeline
from gpurender.recipes.visualatom import NOISES
from gpurender.renderer import Renderer
from gpurender.runtime import host_memory
from tests.golden import TRIANGLE
from tests.support.emulation import ADA, HOPPER, TINY, emulated_gpu

ATOMS = {"classes": 7, "instances": 9, "image_size": 50, "orbits": (1, 9), "quantization": (3, 60)}
RECIPES = {
    "released": gr.VisualAtom(**ATOMS),
    "paper": gr.VisualAtom(**ATOMS, variant="paper", axes=(1.0, 30.0)),
    "tail": gr.VisualAtom(**ATOMS, class_prior=4),
    "onepfrac": gr.OnePFrac(classes=9, instances=4, base=TRIANGLE, fill_rate=0.0, points=600, image_size=64),
    "mixture": gr.Mixture(
        {
            gr.VisualAtom(classes=3, image_size=50): 1,
            gr.OnePFrac(classes=9, base=TRIANGLE, fill_rate=0.0, points=600, image_size=64): 1,
        }
    ),
}
POLICIES = {
    "resize": None,
    "crop": gr.augment.Crop(interpolation="random", vflip=0.5),
    "deit": gr.augment.DeiT.visualatom(num_aug_repeats=2),
    "views": gr.augment.TwoViews(gr.augment.Crop(), gr.augment.Crop()),
}
READING = ("crop", "deit")  # policies that read windows only


def batches(recipe, policy, monkeypatch, cut=True, **keywords):
    """Four batches, and the windows that each was rendered for."""
    seen, real = [], Renderer.render

    def render(self, indices, ids, fresh, bits=False, read=None):
        seen.append(read)
        return real(self, indices, ids, fresh, bits, read)

    with monkeypatch.context() as patched:
        patched.setattr(Renderer, "render", render)
        if not cut:
            patched.setattr(pipeline, "windows", lambda policy, parameters: None)
        loader = gr.DataLoader(
            recipe,
            batch_size=6,
            image_size=40,
            augment=policy,
            shuffle=True,
            drop_last=True,
            prefetch_factor=0,
            steps_per_epoch=4,
            **keywords,
        )
        return list(loader), seen


def filled_memory(shape, dtype):
    """Memory that holds 77 wherever nobody writes."""
    return np.full(shape, 77, dtype)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("fresh", [False, True])
def test_a_loader_gives_the_same_batches_from_windows_as_from_canvases(name, policy, fresh, monkeypatch):
    recipe = RECIPES[name]
    wanted, none = batches(recipe, POLICIES[policy], monkeypatch, cut=False, fresh=fresh)
    monkeypatch.setattr(host_memory, "empty", filled_memory)
    found, read = batches(recipe, POLICIES[policy], monkeypatch, fresh=fresh)
    for (images, targets), (others, theirs) in zip(found, wanted, strict=True):
        assert all(map(torch.equal, images, others))
        assert torch.equal(targets, theirs)
    assert none == [None] * 4
    assert len(read) == 4
    assert all((each is not None) == (policy in READING) for each in read)


def test_the_windows_are_the_boxes_that_the_policy_draws(monkeypatch):
    _, read = batches(RECIPES["released"], POLICIES["crop"], monkeypatch, seed=3)
    boxes = torch.cat(read).tolist()
    everything = POLICIES["crop"].draw(torch.arange(63), seed=3, canvas_size=50, image_size=40)["boxes"].tolist()
    assert len(boxes) == 24
    assert all(box in everything for box in boxes)


class Mirrored(gr.augment.Crop):
    """A user's policy, which reads whole canvases: it takes the declaration neither of its base nor of its boxes."""

    def apply(self, canvases, parameters, **keywords):
        return super().apply(canvases.flip(3), parameters, **keywords)


class Own:
    """A user's policy that is no subclass."""

    takes_windows = True

    def draw(self, numbers, **keywords):
        return gr.augment.Crop().draw(numbers, **keywords)

    def apply(self, canvases, parameters, **keywords):
        return gr.augment.Crop().apply(canvases.flip(3), parameters, **keywords)


@pytest.mark.parametrize("policy", [Mirrored(), Own()])
def test_other_policies_are_given_whole_canvases(policy, monkeypatch):
    found, read = batches(RECIPES["released"], policy, monkeypatch)
    assert read == [None] * 4
    wanted, _ = batches(RECIPES["released"], Mirrored(), monkeypatch, cut=False)
    assert all(torch.equal(images, others) for (images, _), (others, _) in zip(found, wanted, strict=True))


def test_only_policies_that_say_so_read_windows():
    numbers = torch.arange(5)
    for policy in (gr.augment.Crop(), gr.augment.DeiT(), gr.augment.DeiT.onepfrac()):
        parameters = policy.draw(numbers)
        assert windows(policy, parameters) is parameters["boxes"]
    for policy in (gr.augment.Resize(), Mirrored(), POLICIES["views"]):
        assert windows(policy, policy.draw(numbers)) is None


def random_recipe(rng):
    """Any recipe of visual atoms with few lines, on any small canvas."""
    size = int(rng.choice([16, 17, 33, 50, 97, 224, 362], p=[0.2, 0.2, 0.2, 0.15, 0.15, 0.05, 0.05]))
    return gr.VisualAtom(
        classes=4,
        instances=5,
        image_size=size,
        seed=int(rng.integers(2**63)),
        variant=str(rng.choice(["released", "paper"])),
        orbits=(1, int(rng.integers(1, 12))),
        quantization=(3, int(rng.choice([5, 40, 300]))),
        frequencies=(0, int(rng.integers(1, 40))),
        noise_level=(0.0, float(rng.choice([1.0, 9.0]))),
        nucleus=(-2.0, 2.0),
    )


def random_windows(rng, count, size):
    """Windows of any shape and place, odd ones and single rows, columns and pixels among them."""
    sides = np.where(rng.random((count, 2)) < 0.1, 1, rng.integers(1, size + 1, (count, 2)))
    corners = (rng.random((count, 2)) * (size - sides + 1)).astype(np.int64)
    return torch.from_numpy(np.concatenate([corners, sides], axis=1).astype(np.int32))


def cut(canvases, boxes):
    """The windows of canvases."""
    return [canvas[:, y : y + h, x : x + w] for canvas, (y, x, h, w) in zip(canvases, boxes.tolist(), strict=True)]


def part_of(recipe, samples, boxes, fresh):
    """Canvases of which only the boxes are rendered."""
    ids = samples + len(recipe)
    return Renderer(recipe).render(samples, ids if fresh else samples, fresh, False, boxes)


def part_on_gpu(recipe, samples, boxes, fresh, limits=HOPPER):
    """The same by the kernel for GPUs, whose host side here is a CPU's."""
    catalog, ids = Renderer(recipe).catalog, samples + len(recipe) if fresh else samples
    arguments = {"centres": recipe._centres(ids), "draw_ids": ids, "greys": recipe.greys, "seed": recipe.seed}
    rule = "walk" if recipe.variant == "released" else NOISES[recipe.noise]
    with emulated_gpu(limits):
        return render_atoms(
            catalog, samples // recipe.instances, size=recipe.image_size, rule=rule, windows=boxes, **arguments
        )[:, None]


def test_windows_of_many_recipes_are_cut_from_their_canvases(monkeypatch):
    """By the reference, which leaves all other pixels alone, and by the kernel for GPUs."""
    rng, lit = np.random.default_rng(15), 0
    monkeypatch.setattr(host_memory, "empty", filled_memory)
    for number in range(200):
        recipe = random_recipe(rng)
        samples = torch.from_numpy(rng.integers(0, len(recipe), 3))
        boxes, fresh = random_windows(rng, 3, recipe.image_size), bool(number % 2)
        wanted = cut(Renderer(recipe)(samples, int(fresh)), boxes)
        found = part_of(recipe, samples, boxes, fresh)
        assert all(map(torch.equal, cut(found, boxes), wanted)), recipe.to_json()
        lit += sum(int(each.any()) for each in wanted)
        for each in cut(found, boxes):
            each[:] = 77
        assert (found == 77).all()
        found = part_on_gpu(recipe, samples, boxes, fresh, [HOPPER, ADA, TINY][number % 3])
        assert all(map(torch.equal, cut(found, boxes), wanted)), recipe.to_json()
    assert lit > 150


def test_a_gpu_renders_no_more_than_four_columns_allow(monkeypatch):
    recipe = gr.VisualAtom(**ATOMS | {"image_size": 64})
    boxes = torch.tensor([[5, 9, 20, 22], [0, 61, 64, 3], [63, 0, 1, 1]], dtype=torch.int32)
    real = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *given, **keywords: real(*given, **keywords).fill_(77))
    found = part_on_gpu(recipe, torch.tensor([3, 40, 62]), boxes, False, TINY)
    for canvas, (top, left, height, width) in zip(found[:, 0], boxes.tolist(), strict=True):
        canvas[top : top + height, left // 4 * 4 : (left + width + 3) // 4 * 4] = 77
    assert (found == 77).all()


def test_windows_on_a_gpu_are_moved_into_the_canvas(monkeypatch):
    """Nobody looks at them there; the kernel stays inside the canvas."""
    recipe = RECIPES["released"]
    wild = [[-5, -9, 0, -3], [40, 45, 20, 20], [2**31 - 1, 2**31 - 1, 2**31 - 1, 7], [-(2**31)] * 4]
    inside = torch.tensor([[0, 0, 1, 1], [30, 30, 20, 20], [0, 43, 50, 7], [0, 0, 1, 1]])
    samples = torch.tensor([3, 40, 62, 11])
    wanted = cut(Renderer(recipe)(samples), inside)
    monkeypatch.setattr("gpurender.kernels.device.boxes.readable", lambda tensor: False)
    found = part_on_gpu(recipe, samples, torch.tensor(wild, dtype=torch.int32), False)
    assert all(map(torch.equal, cut(found, inside), wanted))


BAD = [(-1, 0, 2, 2), (0, -1, 2, 2), (0, 0, 0, 1), (0, 0, 1, 0), (49, 0, 2, 1), (0, 49, 1, 2), (0, 0, 51, 1)]


@pytest.mark.parametrize("box", BAD)
def test_windows_that_leave_the_canvas_are_refused(box):
    boxes = torch.tensor([(0, 0, 50, 50), box], dtype=torch.int32)
    with pytest.raises(ValueError, match=r"^windows\[1\] must be .* inside an image of 50 x 50, got"):
        part_of(RECIPES["released"], torch.tensor([0, 1]), boxes, False)


@pytest.mark.parametrize("boxes", [torch.zeros(2, 4), torch.zeros(2, 4, dtype=torch.int64)])
def test_windows_of_another_type_are_refused(boxes):
    with pytest.raises(TypeError, match=r"^windows must be a tensor of torch.int32 \[2, 4\]"):
        part_of(RECIPES["released"], torch.tensor([0, 1]), boxes, False)
