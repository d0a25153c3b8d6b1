"""The whole policy against the whole of timm's: same parameters, same bytes, same targets."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

import gpurender as gr
from gpurender.augment.normalise import lookup_table
from gpurender.kernels.image_ops import Operation
from tests.support.optional import optional, resizing_pillow

timm_ops = optional("timm.data.auto_augment")
timm_mixup = optional("timm.data.mixup")
functional = optional("torchvision.transforms.functional")

DeiT = gr.augment.DeiT
SIZE = 64
FILTERS = [Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC]
NAMES = {
    Operation.AUTO_CONTRAST: "AutoContrast", Operation.EQUALIZE: "Equalize", Operation.INVERT: "Invert",
    Operation.SOLARIZE: "Solarize", Operation.SOLARIZE_ADD: "SolarizeAdd", Operation.BRIGHTNESS: "Brightness",
    Operation.CONTRAST: "Contrast", Operation.COLOR: "Color", Operation.SHARPNESS: "Sharpness",
    Operation.ROTATE: "Rotate", Operation.SHEAR_X: "ShearX", Operation.SHEAR_Y: "ShearY",
    Operation.TRANSLATE_X_REL: "TranslateXRel", Operation.TRANSLATE_Y_REL: "TranslateYRel",
    Operation.GAUSSIAN_BLUR: "GaussianBlur",
}  # fmt: skip


def photographs(n, side=120):
    """uint8 [n, 3, side, side]: pieces of scikit-image's photographs."""
    data = optional("skimage.data")
    rng, found = np.random.default_rng(0), []
    for i in range(n):
        photo = (data.astronaut, data.coffee, data.chelsea, data.rocket)[i % 4]()
        top, left = rng.integers(0, photo.shape[0] - side + 1), rng.integers(0, photo.shape[1] - side + 1)
        found.append(photo[top : top + side, left : left + side])
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).contiguous()


def canvases(n):
    """uint8 [n, 1, 128, 128]: fractals."""
    triangle = [[0.5, 0, 0, 0.5, x, y] for x, y in ((0, 0), (0.5, 0), (0.25, 0.5))]
    recipe = gr.OnePFrac(classes=64, base=triangle, points=20_000, image_size=128)
    return gr.Renderer(recipe)(range(n))


def operated(image, code, argument, interpolation, fill):
    """One operation by timm or torchvision."""
    if code == Operation.IDENTITY:
        return image
    if code == Operation.POSTERIZE:  # timm with Pillow 13 refuses to keep no bit
        return timm_ops.posterize(image, int(argument)) if argument >= 1 else Image.new("RGB", image.size)
    if code == Operation.HUE:
        return functional.adjust_hue(image, argument)
    arguments = () if code in (Operation.AUTO_CONTRAST, Operation.EQUALIZE, Operation.INVERT) else (argument,)
    if code in (Operation.SOLARIZE, Operation.SOLARIZE_ADD):
        arguments = (int(argument),)
    keywords = {"fillcolor": fill, "resample": FILTERS[interpolation]}
    return timm_ops.NAME_TO_OP[NAMES[code]](image, *arguments, **keywords)


def transformed(canvas, drawn, n, fill):
    """Sample n by Pillow, timm and torchvision: uint8 [3, SIZE, SIZE]."""
    resizing_pillow()
    image = Image.fromarray(canvas.permute(1, 2, 0).expand(-1, -1, 3).numpy())
    top, left, h, w = drawn["boxes"][n].tolist()
    image = image.crop((left, top, left + w, top + h)).resize((SIZE, SIZE), FILTERS[int(drawn["interpolations"][n])])
    for flipped, how in zip(drawn["flips"][n], (Image.FLIP_LEFT_RIGHT, Image.FLIP_TOP_BOTTOM), strict=True):
        image = image.transpose(how) if flipped else image
    chain = (drawn[name][n].tolist() for name in ("operations", "arguments", "operation_interpolations"))
    for code, argument, interpolation in zip(*chain, strict=True):
        image = operated(image, code, argument, interpolation, fill)
    return np.array(image).transpose(2, 0, 1)


def given_to(mixer, drawn):
    """timm's collate function, with weights and patches that are given."""
    weights, cut = drawn["mix_weights"], drawn["cutmix"]
    mixer._params_per_batch = lambda: (weights[0].item(), bool(cut[0]))
    mixer._params_per_elem = lambda n: (weights[:n].to(torch.float32).numpy().copy(), cut[:n].numpy())
    pasted = cut & ((weights != 1.0) | (mixer.mode == "batch"))  # those that are asked for, in this order
    return mixer, iter(drawn["cutmix_patches"][pasted].tolist())


def collated(images, labels, drawn, policy, classes, monkeypatch):
    """Bytes [N, 3, SIZE, SIZE] and targets [N, classes], by timm."""
    keywords = {"mode": policy.mixup_mode, "num_classes": classes, "label_smoothing": policy.label_smoothing}
    keywords |= {"mixup_alpha": policy.mixup_alpha, "cutmix_alpha": policy.cutmix_alpha}
    mixer, patches = given_to(timm_mixup.FastCollateMixup(**keywords), drawn)

    def patch(shape, lam, **_):
        top, left, h, w = next(patches)
        own = 1.0 - h * w / float(shape[-2] * shape[-1])
        return (top, top + h, left, left + w), own

    monkeypatch.setattr(timm_mixup, "cutmix_bbox_and_lam", patch)
    return mixer(list(zip(images, labels.tolist(), strict=True)))


POLICIES = {
    "papers": DeiT(re_mode="const"),
    "elem": DeiT(mixup_mode="elem", auto_augment="rand-m9-n3-mstd2-p0.9", interpolation="bilinear", re_mode="const"),
    "pair": DeiT(mixup_mode="pair", auto_augment="original-mstd1", interpolation="random", vflip=0.5, re_prob=0.0),
    "v0": DeiT(auto_augment="v0r", mixup_prob=0.5, re_prob=1.0, re_mode="const", re_count=3),
    "3a": DeiT(auto_augment="3a", color_jitter=(0.4, 0.4, 0.4, 0.1), cutmix_alpha=0.0, re_prob=0.0),
    "coloured": DeiT(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), mixup_alpha=0.0, re_prob=0.0),
    "jitter": DeiT(auto_augment=None, color_jitter=0.8, grayscale_prob=0.3, mixup_alpha=0, cutmix_alpha=0, re_prob=0),
}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("name", POLICIES)
def test_a_batch_is_timms(name, grey, seed, monkeypatch):
    policy, n = POLICIES[name], 24
    given = canvases(n) if grey else photographs(n)
    drawn = policy.draw(range(n), seed=seed, canvas_size=given.shape[-1], image_size=SIZE)
    fill = tuple(min(255, round(255 * x)) for x in policy.mean)
    wanted = [transformed(given[i], drawn, i, fill) for i in range(n)]
    labels = torch.arange(n) % 7
    if policy.mixup_alpha or policy.cutmix_alpha:
        wanted, targets = collated(wanted, labels, drawn, policy, 7, monkeypatch)
        assert torch.equal(policy.targets(labels, drawn, 7), targets)
    else:
        wanted = torch.from_numpy(np.stack(wanted))
    table = lookup_table(policy.mean, policy.std, torch.float32, torch.device("cpu")).expand(3, 256)
    images = torch.stack([table[c][wanted[:, c].long()] for c in range(3)], 1)
    for i, boxes in enumerate(drawn.get("erasing_boxes", torch.zeros(n, 0, 4, dtype=torch.int32)).tolist()):
        for top, left, h, w in boxes:
            images[i, :, top : top + h, left : left + w] = 0.0
    found = policy.apply(given, drawn, image_size=SIZE)
    assert torch.equal(found, images), (found != images).flatten(1).any(1).nonzero().flatten()


@pytest.mark.parametrize("name", POLICIES)
def test_grey_canvases_as_three_bands(name):
    """The cheap path: one band through everything, where timm has three equal ones."""
    policy, given = POLICIES[name], canvases(40)
    drawn = policy.draw(range(40), canvas_size=128, image_size=SIZE)
    alone = policy.apply(given, drawn, image_size=SIZE)
    assert torch.equal(alone, policy.apply(given.expand(-1, 3, -1, -1), drawn, image_size=SIZE))


def test_normalisation_is_timms_and_comes_before_the_noise():
    """timm's prefetcher subtracts 255 mean and divides by 255 std, then erases."""
    policy = DeiT(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), mixup_alpha=0, cutmix_alpha=0, re_prob=1.0)
    given = photographs(16)
    drawn = policy.draw(range(16), canvas_size=120, image_size=SIZE)
    images = policy.apply(given, drawn, image_size=SIZE)
    mean, std = (torch.tensor([255 * x for x in triple]).view(3, 1, 1) for triple in (policy.mean, policy.std))
    fill, noise = tuple(round(255 * x) for x in policy.mean), []
    for i in range(16):
        wanted = (torch.from_numpy(transformed(given[i], drawn, i, fill)).float() - mean) / std
        ((top, left, h, w),) = drawn["erasing_boxes"][i].tolist()
        noise.append(images[i, :, top : top + h, left : left + w].flatten())
        images[i, :, top : top + h, left : left + w] = wanted[:, top : top + h, left : left + w]
        torch.testing.assert_close(images[i], wanted, rtol=0, atol=2e-6)
    noise = torch.cat(noise)
    assert abs(noise.mean()) < 4 / len(noise) ** 0.5
    assert abs(noise.var() - 1) < 4 * (2 / len(noise)) ** 0.5


def test_what_was_not_drawn_is_refused():
    policy, given, labels = DeiT(), canvases(2), torch.tensor([0, 1])
    drawn = policy.draw(range(2), canvas_size=128, image_size=SIZE)
    for name in drawn.keys() - {"sizes"}:
        less = {key: value for key, value in drawn.items() if key != name}
        with pytest.raises(ValueError, match=f"parameters must be .* '{name}' is missing"):
            policy.apply(given, less, image_size=SIZE)
    with pytest.raises(ValueError, match="'mix_weights' is missing"):
        policy.targets(labels, {}, 2)
    with pytest.raises(TypeError, match=r"parameters must be what draw\(\) returned, got list"):
        policy.apply(given, [drawn], image_size=SIZE)
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 0\], got 0 to 1"):
        policy.targets(labels, drawn, 1)
    with pytest.raises(TypeError, match="labels must be a tensor of"):
        policy.targets([0, 1], drawn, 2)
    for classes, error in ((0, ValueError), (2.0, TypeError), (np.True_, TypeError), (None, TypeError)):
        with pytest.raises(error, match="classes must be an integer in"):
            policy.targets(labels, drawn, classes)
    for wrong in (torch.ones(3), torch.ones(2)), (torch.ones(3).double(), torch.ones(1, 2).double()):
        for weights in wrong:
            with pytest.raises((TypeError, ValueError), match=r"mix_weights must be a tensor of torch.float64 \[2\]"):
                policy.targets(labels, {**drawn, "mix_weights": weights}, 2)
    for wrong in (1.5, -0.1, float("nan")):
        weights = torch.tensor([0.5, wrong], dtype=torch.float64)
        with pytest.raises(ValueError, match=r"mix_weights must lie in \[0, 1\]"):
            policy.targets(labels, {**drawn, "mix_weights": weights}, 2)
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 0\]"):  # also where they are not changed
        DeiT.resnet().targets(labels, drawn, 1)


def stored(drawn):
    file = io.BytesIO()
    torch.save(drawn, file)
    file.seek(0)
    return torch.load(file)


@pytest.mark.parametrize(
    "kept",
    [dict, stored, copy.deepcopy, lambda drawn: pickle.loads(pickle.dumps(drawn)),
     lambda drawn: {name: values[1:3] for name, values in drawn.items()},
     lambda drawn: {name: values[torch.tensor([3, 0])] for name, values in drawn.items()},
     lambda drawn: {name: torch.cat([values, values]) for name, values in drawn.items()}],
)  # fmt: skip
def test_parameters_remember_their_sizes(kept):
    """However they are stored, sliced and put together, without a value that a GPU would have to be asked for."""
    policy = DeiT()
    drawn = kept(policy.draw(range(4), canvas_size=128, image_size=SIZE))
    given = canvases(len(drawn["boxes"]))
    assert drawn["sizes"].numel() == 0
    assert policy.apply(given, drawn, image_size=SIZE).shape == (len(given), 3, SIZE, SIZE)
    with pytest.raises(ValueError, match="image_size must be 64, which the parameters were drawn for, got 65"):
        policy.apply(given, drawn, image_size=65)
    with pytest.raises(ValueError, match="canvases must be 128 x 128, which the parameters were drawn for"):
        policy.apply(given[:, :, :64, :64], drawn, image_size=SIZE)


def test_images_of_any_size_where_nothing_is_placed_in_them():
    policy = DeiT(mixup_alpha=0, cutmix_alpha=0, re_prob=0)
    drawn = policy.draw(range(2), canvas_size=128)
    assert policy.apply(canvases(2), drawn, image_size=17).shape == (2, 3, 17, 17)
    views = gr.augment.MultiCrop((gr.augment.Crop(), 1), (DeiT(mixup_alpha=0, cutmix_alpha=0, label_smoothing=0), 1))
    drawn = views.draw(range(2), canvas_size=128, image_size=24)
    assert len(views.apply(canvases(2), drawn, image_size=24)) == 2
    with pytest.raises(ValueError, match="image_size must be 24, which the parameters were drawn for, got 25"):
        views.apply(canvases(2), drawn, image_size=25)


@pytest.mark.parametrize("side", [0, -1, 65_536])
def test_a_side_that_no_image_has_is_refused(side):
    policy = DeiT()
    drawn = policy.draw([0, 1], canvas_size=16, image_size=8)
    with pytest.raises(ValueError, match=r"image_size must be an integer in \[1, 65535\]"):
        policy.apply(torch.zeros((2, 1, 16, 16), dtype=torch.uint8), drawn, image_size=side)


def test_replay():
    """Drawn parameters can be stored and applied later, one sample alone or with others (but for its partner)."""
    policy, given = DeiT(mixup_alpha=0.0, cutmix_alpha=0.0), canvases(6)
    drawn = policy.draw(range(6), canvas_size=128, image_size=SIZE)
    images = policy.apply(given, drawn, image_size=SIZE)
    for i in range(6):
        one = {name: values[i : i + 1] for name, values in drawn.items()}
        assert torch.equal(policy.apply(given[i : i + 1], one, image_size=SIZE)[0], images[i])
