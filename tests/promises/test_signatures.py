"""Signatures as users see them: the order of parameters, which are given by name, and every default.

A default is a promise: scripts that leave a parameter out depend on it. Whoever changes one changes it here as well,
and names it in the CHANGELOG.
"""

import importlib
import inspect

import pytest

RECIPE = "image_size={}, seed=0, variant='released', class_prior=None, label_noise=None"
CROP = (
    "*, scale=(0.08, 1.0), ratio=(0.75, 1.3333333333333333), interpolation='bicubic', hflip=0.5, vflip=0.0, "
    "{}mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)"
)
DRAW = "self, numbers, *, seed=0, canvas_size=512, image_size=224"
POINTS = "draw_type='patch_gray', mask_mode='random'"
SIGNATURES = {
    "gpurender.DataLoader": (
        "recipe, batch_size=1, shuffle=None, sampler=None, batch_sampler=None, num_workers=0, collate_fn=None, "
        "pin_memory=False, drop_last=False, timeout=0, worker_init_fn=None, multiprocessing_context=None, "
        "generator=None, *, prefetch_factor=None, persistent_workers=False, pin_memory_device='', in_order=True, "
        "image_size=224, augment=None, steps_per_epoch=None, device=None, dtype=torch.float32, "
        "memory_format=torch.contiguous_format, seed=None, fresh=False, rank=None, world_size=None, "
        "cache_bytes=None"
    ),
    "gpurender.Dataset": "recipe, transform=None, *, cache_bytes=None",
    "gpurender.Renderer": "recipe, device='cpu', *, cache_bytes=None",
    "gpurender.Renderer.__call__": "self, samples, epoch=0, *, fresh=None",
    "gpurender.Renderer.labels": "self, samples, epoch=0, *, fresh=None",
    "gpurender.recipe": "x, **overrides",
    "gpurender.presets": "",
    "gpurender.export": (
        "recipe, folder, *, limit=None, per_class=None, classes=None, shard=None, format='imagefolder', "
        "per_tar=None, device='cpu'"
    ),
    "gpurender.OnePFrac": (
        f"*, classes=1000, instances=1, {RECIPE.format(512)}, sigma=None, maps=None, base=None, delta=0.1, "
        f"points=100000, fill_rate=0.05, {POINTS}, redraw=False"
    ),
    "gpurender.FractalDB": (
        f"*, classes=None, instances=None, {RECIPE.format(362)}, weights='base', patches=None, flips=4, "
        f"points=200000, fill_rate=None, categories=None, {POINTS}"
    ),
    "gpurender.FractalDB.from_csv": "folder, weights='base', **parameters",
    "gpurender.FractalDB.to_csv": "self, folder, weights=None",
    "gpurender.OFDB": (
        f"*, classes=None, instances=1, {RECIPE.format(362)}, points=200000, fill_rate=None, categories=None"
    ),
    "gpurender.OFDB.from_csv": "folder, **parameters",
    "gpurender.OFDB.to_csv": "self, folder",
    "gpurender.ExFractalDB": (
        f"*, classes=None, instances=None, {RECIPE.format(224)}, weights='all', views=None, viewpoints='random', "
        "points=10000, variance_threshold=None, categories=None"
    ),
    "gpurender.ExFractalDB.from_csv": "folder, weights='all', **parameters",
    "gpurender.ExFractalDB.to_csv": "self, folder, weights=None",
    "gpurender.VisualAtom": (
        f"*, classes=None, instances=None, {RECIPE.format(512)}, orbits=(1, 200), quantization=(200, 1000), "
        "frequencies=(0, 20), amplitudes=(0.5, 0.5), noise_level=None, line_width=None, radius=None, oval=None, "
        "axes=None, interval=None, noise=None, line_thickness=1, line_color=(0.0, 1.0), nucleus=(-1.0, 1.0), "
        "categories=None, perturb=None"
    ),
    "gpurender.RCDB": (
        f"*, classes=None, instances=None, {RECIPE.format(512)}, polygons=(1, 200), vertices=(3, 200), "
        "noise_level=(0.0, 4.0), line_width=(0.0, 0.1), radius=(0, 100), oval=(1.0, 2.0), greys=(0, 256), "
        "centre=(-0.78125, 0.78125), categories=None, perturb=None"
    ),
    "gpurender.RCDB.from_csv": "folder, **parameters",
    "gpurender.RCDB.to_csv": "self, folder",
    "gpurender.losses.LPCE": "*, label_smoothing=0.0, reduction='mean'",
    "gpurender.losses.LPCE.forward": "self, logits, targets",
    "gpurender.VisualAtom.from_csv": "folder, **parameters",
    "gpurender.VisualAtom.to_csv": "self, folder",
    "gpurender.ColorFractal": (
        f"*, classes=1000, instances=1000, {RECIPE.format(224)}, systems=1, maps=(2, 4), points=100000, "
        "jitter='basic', color=True, background=True"
    ),
    "gpurender.MultiFractal": (
        f"*, classes=1000, instances=1000, {RECIPE.format(224)}, systems=1, maps=(2, 4), points=100000, "
        "jitter='none', objects=(1, 5), sizes=(0.15, 0.6)"
    ),
    "gpurender.Moire": (
        f"*, classes=1000, instances=1000, {RECIPE.format(224)}, centres=(1, 3), frequencies=(1, 100), margin=0.08"
    ),
    "gpurender.Noise": (f"*, classes=1000, instances=1, {RECIPE.format(512)}, distribution='gaussian', perturb=0.1"),
    "gpurender.Schedule": "recipe, /, **knots",
    "gpurender.Schedule.at": "self, number",
    "gpurender.SingleImage": (
        f"image=None, *, classes=1000, instances=1, {RECIPE.format(512)}, edges='canny', thresholds=(0.1, 0.2), "
        "transform='affine', perturb=0.1"
    ),
    "gpurender.Mixture": "recipes, *, labels='joint'",
    "gpurender.augment.Crop": CROP.format(""),
    "gpurender.augment.Crop.draw": DRAW,
    "gpurender.augment.Crop.apply": (
        "self, canvases, parameters, *, image_size=224, dtype=torch.float32, memory_format=torch.contiguous_format"
    ),
    "gpurender.augment.PixMix": ("pictures, *, k=4, beta=4.0, severity=1.0, all_ops=False, crop=0.875, seed=0"),
    "gpurender.augment.PixMix.__call__": "self, images, numbers",
    "gpurender.augment.Resize": "*, interpolation='bicubic', mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)",
    "gpurender.augment.Resize.draw": DRAW,
    "gpurender.augment.DeiT": CROP.format(
        "color_jitter=0.4, color_jitter_prob=None, force_color_jitter=False, grayscale_prob=0.0, "
        "gaussian_blur_prob=0.0, auto_augment='rand-m9-mstd0.5-inc1', "
    )
    + (
        ", re_prob=0.25, re_mode='pixel', re_count=1, re_area=(0.02, 0.3333333333333333), "
        "re_aspect=(0.3, 3.3333333333333335), mixup_alpha=0.8, cutmix_alpha=1.0, cutmix_minmax=None, mixup_prob=1.0, "
        "mixup_switch_prob=0.5, mixup_mode='batch', mixup_off_epoch=0, correct_lam=True, label_smoothing=0.1, "
        "num_aug_repeats=0"
    ),
    "gpurender.augment.DeiT.draw": DRAW,
    "gpurender.augment.MultiCrop": "*each, crops=()",
    "gpurender.augment.MultiCrop.draw": DRAW,
    "gpurender.augment.TwoViews": "policy, second=None",
    "gpurender.augment.Policy.draw": DRAW,
    "gpurender.augment.op": "name, images, argument=None, *, fill=(128, 128, 128), interpolation='bilinear'",
    "gpurender.augment.resized_crop": "images, boxes, size, interpolation='bicubic'",
    "gpurender.sheet.contact_sheet": "renderer, rows=None, cols=6, *, classes=None, augment=None, cell=224",
    "gpurender.tasks.Task": "data, kind=None, labels_per_class=None, validation=0.0, seed=0",
    "gpurender.training.load": "path, *, classes=None, image_size=None",
    "gpurender.training.pretrain.pretrain": (
        "recipe, model, output, *, preset=None, initial_checkpoint=None, steps=None, images=None, image_size=224, "
        "batch_size=None, accumulate=1, lr=None, weight_decay=None, schedule=None, warmup=None, augment=None, "
        "fresh=False, ema=None, clip=None, amp=None, compile=False, device=None, seed=0, log_every=10, "
        "save_every=500, tensorboard=False"
    ),
    "gpurender.training.finetune.finetune": (
        "source, data, output, *, labels_per_class=None, validation=0.0, from_scratch=False, epochs=100, "
        "steps=None, image_size=None, batch_size=None, accumulate=1, optimizer='sgd', lr=None, weight_decay=None, "
        "mixup=0.8, cutmix=1.0, drop_path=0.0, ema=None, clip=None, warm_up=None, minutes=10.0, amp=None, "
        "compile=False, device=None, seed=0, workers=0, log_every=10, save_every=500, tensorboard=False"
    ),
    "gpurender.training.probe.probe": (
        "source, data, *, layers=None, labels_per_class=None, from_scratch=False, image_size=None, batch_size=64, "
        "device=None, seed=0, workers=0"
    ),
    "gpurender.warm_up": (
        "model, recipe='onepfrac-1k', minutes=10.0, *, augment='deit', image_size=224, batch_size=256, lr=0.0005, "
        "weight_decay=0.05, device=None, seed=0"
    ),
    "gpurender.benchmark.measure.measure": (
        "recipe, *, device=None, batch_size=256, seconds=5.0, augment='crop', "
        "stages=('raster', 'augment', 'loader'), model=None, on_row=None"
    ),
    "gpurender.benchmark.trace.trace": "recipe, output, *, device=None, batch_size=256, augment='crop'",
    "gpurender.Cached": "loader, *, batches=1",
    "gpurender.DataLoader.batch_at": "self, step",
    "gpurender.DataLoader.parameters_at": "self, step",
    "gpurender.replay.Recorder": "loader, *, most=64, above=6.0",
    "gpurender.replay.Recorder.note": "self, loss",
    "gpurender.replay.batches.replay": (
        "state, steps=None, *, recipe=None, batch_size=None, image_size=None, augment=None, drop_last=False, "
        "world_size=None, device='cpu'"
    ),
    "gpurender.replay.cards.write_card": "of, output, *, device='cpu'",
    "gpurender.replay.cards.verify_card": "path, *, device='cpu'",
    "gpurender.interop.timm.create_loader": (
        "dataset, input_size, batch_size, *args, seed=None, fresh=False, steps_per_epoch=None, **keywords"
    ),
    "gpurender.interop.timm.CenterCrop": (
        "*, interpolation='bicubic', mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop_pct=0.875, border=0"
    ),
    "gpurender.interop.timm.CenterCrop.draw": DRAW,
    "gpurender.interop.dali.Source": (
        "recipe, batch_size, *, device='cpu', shuffle=False, seed=0, fresh=False, drop_last=False, rank=None, "
        "world_size=None"
    ),
    "gpurender.interop.dali.Iterator": "loader, output_map=('data', 'label'), *, auto_reset=False",
}
NEEDED = {"gpurender.interop.timm": "timm"}  # what a module imports


def found(name):
    """The object of a dotted name: a module as far as there is one, then attributes."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            thing = getattr(thing, part)
        return thing
    raise AssertionError(name)


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_signature_is_as_promised(name):
    for module, package in NEEDED.items():
        if name.startswith(module):
            pytest.importorskip(package, reason=f"needs {package}, which the extra 'test' brings")
    signature = inspect.signature(found(name))
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    text = str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    assert text == f"({SIGNATURES[name]})"
