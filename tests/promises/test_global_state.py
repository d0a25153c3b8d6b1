"""Torch's global state: whatever a process has set, every result has the bytes that it has without.

Where there is no GPU, the default device ``meta`` stands for ``cuda``: what is made there without asking for a device
has no values, and the first look at it is an error.
"""

import ast
import contextlib
import random
import sys
import warnings

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils import deterministic
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode

import gpurender as gr
from gpurender.commands.checkup import examine
from gpurender.commands.image_folder.export import export
from gpurender.kernels.image_ops import BY_NAME
from gpurender.recipes.exfractaldb import TETRAHEDRON
from gpurender.sheet import contact_sheet
from gpurender.util import disk_cache
from tests.golden import DIVERGENT, TRIANGLE
from tests.support import ROOT

augment = gr.augment
CPU = torch.device("cpu")

# ------------------------------------------------------------------------------------------------------------- states


@contextlib.contextmanager
def default_device(name):
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextlib.contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def default_tensor_type(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch has deprecated it, and scripts still begin with it
        torch.set_default_tensor_type(kind)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def deterministic_algorithms(filled):
    before = deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    deterministic.fill_uninitialized_memory = filled
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
        deterministic.fill_uninitialized_memory = before


@contextlib.contextmanager
def flushed_subnormals():
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextlib.contextmanager
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def warnings_as_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


class Functions(TorchFunctionMode):
    """Sees every function of torch's, and calls it."""

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        return function(*arguments, **keywords or {})


class Dispatches(TorchDispatchMode):
    """Sees every operator of torch's, and calls it."""

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        return function(*arguments, **keywords or {})


STATES = {
    "nothing": contextlib.nullcontext,
    "default device": lambda: default_device("meta"),
    "device as a context": lambda: torch.device("meta"),
    "float16": lambda: default_dtype(torch.float16),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
    "default tensor type": lambda: default_tensor_type(torch.DoubleTensor),
    "inference mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "deterministic": lambda: deterministic_algorithms(True),
    "deterministic, memory as it is": lambda: deterministic_algorithms(False),
    "autocast to bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", torch.float16),
    "subnormals flushed": flushed_subnormals,
    "anomalies": lambda: torch.autograd.set_detect_anomaly(True),
    "function mode": Functions,
    "dispatch mode": Dispatches,
    "one thread": one_thread,
    "warnings are errors": warnings_as_errors,
    "NumPy raises": lambda: np.errstate(all="raise"),
}
ON_A_GPU = {
    "default device": lambda: default_device("cuda"),
    "device as a context": lambda: torch.device("cuda"),
    "autocast on the GPU": lambda: torch.autocast("cuda", torch.float16),
} | {name: STATES[name] for name in ("float16", "float64", "inference mode", "deterministic", "warnings are errors")}

# ------------------------------------------------------------------------------------------------------------- works

LITTLE = {"orbits": (2, 9), "quantization": (20, 40), "radius": (1, 6)}
RECIPES = {
    "onepfrac": gr.OnePFrac(classes=30, points=300, image_size=24, seed=3),  # finds its base and perturbations
    "onepfrac in colour": gr.OnePFrac(
        classes=3, instances=4, base=TRIANGLE, points=300, image_size=24, variant="paper", draw_type="patch_color"
    ),
    "fractaldb": gr.FractalDB(classes=2, points=300, image_size=24, seed=1, fill_rate=0.01),  # searches
    "fractaldb of categories": gr.FractalDB(
        categories=[TRIANGLE, DIVERGENT], points=300, image_size=24, draw_type="point_color"
    ),
    "fractaldb of the paper": gr.FractalDB(categories=[TRIANGLE], points=300, image_size=24, variant="paper"),
    "ofdb": gr.OFDB(classes=8, points=300, image_size=24, seed=1, fill_rate=0.01),  # searches
    "exfractaldb": gr.ExFractalDB(classes=2, points=300, image_size=24, seed=1, variance_threshold=0.01),  # searches
    "3d-ofdb of categories": gr.ExFractalDB(
        categories=[TETRAHEDRON] * 30, weights="one", viewpoints="drawn", points=300, image_size=24
    ),
    "visualatom": gr.VisualAtom(classes=9, instances=4, image_size=32, **LITTLE),
    "visualatom of the paper": gr.VisualAtom(
        classes=9, instances=4, image_size=32, variant="paper", orbits=(2, 9), quantization=(20, 40), axes=(1, 9)
    ),
    "long tail": gr.OnePFrac(
        classes=9, instances=8, base=TRIANGLE, points=300, image_size=24, class_prior=4.0, label_noise=0.5
    ),
    "confused": gr.FractalDB(
        categories=[TRIANGLE, DIVERGENT], points=300, image_size=24, class_prior=[1, 2],
        label_noise=[[0.5, 0.5], [0, 1]],
    ),
}  # fmt: skip
MIXED = {RECIPES["long tail"]: 1, RECIPES["fractaldb of categories"]: 2, RECIPES["visualatom"]: 0.5}
RECIPES |= {
    "colorfractal": gr.ColorFractal(classes=9, instances=4, points=300, image_size=24, jitter="sval", systems=2),
    "multifractal": gr.MultiFractal(classes=9, instances=4, points=300, image_size=24, jitter="svd"),
}
RECIPES |= {
    "rcdb": gr.RCDB(classes=9, instances=4, image_size=32, polygons=(2, 9), vertices=(3, 20), radius=(1, 6)),
    "rcdb-lpce": gr.RCDB(
        classes=9, image_size=32, polygons=(4, 4), vertices=(3, 20), radius=(1, 6), centre=(0, 0), perturb=0.2
    ),
    "moire": gr.Moire(classes=9, instances=4, image_size=24),
    "noise": gr.Noise(classes=9, image_size=24),
    "singleimage": gr.SingleImage.smallest(),
}
RECIPES |= {"schedule": gr.Schedule(RECIPES["moire"], margin=((0, 0.1), (20, 0.3), (50, 0.0)))}
RECIPES |= {"mixture": gr.Mixture(MIXED), "separate": gr.Mixture(MIXED, labels="separate")}

DeiT = augment.DeiT
POLICIES = {
    "none": augment.Resize(interpolation="bilinear"),
    "crop": augment.Crop(interpolation="random", vflip=0.5, mean=(0.1, 0.2, 0.3)),
    "onepfrac": DeiT.onepfrac(),
    "visualatom": DeiT.visualatom(),
    "resnet": DeiT.resnet(),
    "original": DeiT(auto_augment="original-mstd0.5", mixup_mode="pair", re_mode="rand", re_count=(1, 3)),
    "v0r": DeiT(auto_augment="v0r", mixup_prob=0.5, re_mode="const", label_smoothing=0.0),
    "weights": DeiT(auto_augment="rand-n3-tweights-mstd101", mixup_mode="elem", interpolation="random"),
    "w0": DeiT(auto_augment="rand-m9-w0-inc1", mixup_alpha=0.0, cutmix_alpha=0.0),
    "3a": DeiT(auto_augment="3a", color_jitter=(0.4, 0.3, 0.2, 0.1), cutmix_minmax=(0.2, 0.8)),
    "jitter": DeiT.resnet(color_jitter=0.8, color_jitter_prob=0.8, grayscale_prob=0.4, gaussian_blur_prob=0.5),
    "two": augment.TwoViews(DeiT.resnet(auto_augment="v0"), augment.Crop()),
    "several": augment.MultiCrop((augment.Crop(scale=(0.4, 1.0)), 2), (augment.Crop(scale=(0.05, 0.4)), 2, 9)),
}


def loaded(recipe, device, batches=2, **keywords):
    """The first batches."""
    keywords = {"batch_size": 5, "image_size": 16, "shuffle": True, "seed": 4, **keywords}
    pairs = zip(range(batches), gr.DataLoader(recipe, device=device, **keywords), strict=False)
    return [batch for _, batch in pairs]


def renderers(device, _):
    for name, recipe in RECIPES.items():
        renderer = gr.Renderer(recipe, device)
        yield name, [renderer(range(4)), renderer([len(recipe) - 1, 2], epoch=1), renderer(0, fresh=True)]
        yield f"labels of {name}", [renderer.labels(range(8)), renderer.labels(torch.arange(8, device=CPU), epoch=2)]


def datasets(_, __):
    for name, recipe in RECIPES.items():
        dataset = gr.Dataset(recipe)
        yield name, [(np.asarray(image), label) for image, label in (dataset[0], dataset[-1])]


def loaders(device, _):
    for name, recipe in RECIPES.items():
        mixes = name != "separate"
        yield name, loaded(recipe, device, augment=DeiT.onepfrac() if mixes else augment.Crop(), fresh=True)
    atoms = RECIPES["visualatom"]
    yield "ahead", loaded(atoms, device, prefetch_factor=2, augment=DeiT())
    yield (
        "sampler",
        loaded(atoms, device, shuffle=False, sampler=[3, 1, 1, 7, 5, 0, 2], augment=DeiT(mixup_off_epoch=1)),
    )
    for name, policy in POLICIES.items():
        finish = {"dtype": torch.float16, "memory_format": torch.channels_last}
        yield f"policy {name}", loaded(RECIPES["onepfrac in colour"], device, augment=policy, **finish)


def policies(device, _):
    grey = gr.Renderer(RECIPES["fractaldb of the paper"], device)(range(6))
    numbers = [*range(5), 2**64 - 1]
    with torch.inference_mode(False):  # labels that nothing changes are returned as they are
        there = torch.arange(6, dtype=torch.int64, device=device)
        labels = there % 3
    for name, policy in POLICIES.items():
        for given in (numbers, np.array(numbers, np.uint64), there):
            drawn = policy.draw(given, seed=2**63 + 1, canvas_size=24, image_size=20)
            yield f"{name} draws", drawn
        for dtype in (torch.float32, torch.bfloat16):
            yield f"{name} applies", policy.apply(grey, drawn, image_size=20, dtype=dtype)
        yield f"{name} makes targets", policy.targets(labels, drawn, 3)


def operations(device, _):
    images = gr.Renderer(RECIPES["onepfrac in colour"], device)(range(3))
    for name, code in BY_NAME.items():
        if name == "GaussianBlurRand":  # draws its argument itself
            continue
        arguments = [None] if code.spec.limits is None else [1, np.array([0.0, 1.0, 1.0]), [0, 1, 0]]
        yield name, [augment.op(name, images, argument, fill=(9, 99, 200)) for argument in arguments]
    boxes = [[0, 0, 24, 24], [3, 4, 9, 20], [1, 1, 1, 1]]
    for given in (boxes, np.array(boxes, np.int32), torch.tensor(boxes, dtype=torch.int64, device=CPU)):
        yield "resized_crop", augment.resized_crop(images, given, (9, 30))
    yield "resized_crop of none", augment.resized_crop(images[:0], [], 9)


def sheets(device, _):
    for name, policy in {"plain": None, "onepfrac": DeiT.onepfrac(), "visualatom": DeiT.visualatom()}.items():
        yield name, np.asarray(contact_sheet(gr.Renderer(RECIPES["onepfrac"], device), 2, 3, augment=policy, cell=20))
    for name in ("long tail", "separate"):
        yield name, np.asarray(contact_sheet(gr.Renderer(RECIPES[name], device), 3, 2, cell=20))


def exports(device, folder):
    for name in ("fractaldb", "confused", "separate"):
        root = folder / name.replace(" ", "-")
        export(RECIPES[name], root, limit=9, device=str(device))
        export(RECIPES[name], root / "tars", limit=9, device=str(device), format="webdataset", per_tar=4)
        yield name, [(path.relative_to(root).as_posix(), path.read_bytes()) for path in files(root)]


def examinations(device, _):
    """What the doctor tries of every kernel."""
    for name, tried in examine.TRIALS.items():
        yield name, tried(device).cpu().numpy()


def files(root):
    return sorted(path for path in root.rglob("*.*") if path.suffix in (".png", ".json", ".tar"))


WORKS = {
    work.__name__: work for work in (renderers, datasets, loaders, policies, operations, sheets, exports, examinations)
}

# ------------------------------------------------------------------------------------------------------- comparisons


def flat(value, device):
    """A result as something to compare: of tensors type, shape and bytes; they must be ordinary ones on the device."""
    if isinstance(value, torch.Tensor):
        assert value.device.type in {CPU.type, device.type}, value.device
        assert not value.is_inference()
        assert not value.requires_grad
        data = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        return str(value.dtype), tuple(value.shape), value.device.type, data
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, dict):
        return {name: flat(one, device) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [flat(one, device) for one in value]
    assert isinstance(value, (int, str, bytes)), type(value)
    return value


def results(work, device, folder):
    """What a work yields, by its name."""
    folder.mkdir()
    return [(name, flat(value, device)) for name, value in WORKS[work](device, folder)]


def forget():
    """Throw away the tables that the library keeps: a state must not find those that were made without it."""
    for name, module in list(sys.modules.items()):
        if name.startswith(("gpurender.augment", "gpurender.numerics.quantiles", "gpurender.kernels")):
            for kept in list(vars(module).values()):
                if hasattr(kept, "cache_clear"):
                    kept.cache_clear()


def generators():
    """The states of all default generators."""
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), str(np.random.get_state())


def differences(found, wanted):
    assert [name for name, _ in found] == [name for name, _ in wanted]
    return [name for (name, a), (_, b) in zip(found, wanted, strict=True) if a != b]


@pytest.fixture(autouse=True)
def every_search_searches(monkeypatch):
    """No category search is read from a file."""
    monkeypatch.setattr(disk_cache, "load", lambda *_: None)
    monkeypatch.setattr(disk_cache, "save", lambda *_: None)


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    """Results without any state, made once each."""
    kept = {}

    def get(work, device):
        key = work, device.type
        if key not in kept:
            kept[key] = results(work, device, tmp_path_factory.mktemp("without") / "files")
        return kept[key]

    return get


def holds_under(state, work, device, without, folder):
    wanted = without(work, device)
    forget()
    before = generators()
    with state():
        found = results(work, device, folder / "files")
    assert generators() == before
    assert not (names := differences(found, wanted)), names


@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize("state", STATES)
def test_results_do_not_depend_on_it(state, work, without, tmp_path):
    holds_under(STATES[state], work, CPU, without, tmp_path)


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize("state", ON_A_GPU)
def test_results_do_not_depend_on_it_beside_a_gpu(state, work, device, without, tmp_path):
    holds_under(ON_A_GPU[state], work, torch.device(device), without, tmp_path)


def begun(now, later):
    """Results of what is begun in one state and goes on in another."""
    forget()
    with now():
        drawers = [gr.Renderer(recipe) for recipe in RECIPES.values()]
        passes = [
            iter(gr.DataLoader(recipe, batch_size=3, image_size=16, device="cpu", augment=policy, fresh=True))
            for recipe in (RECIPES["onepfrac"], RECIPES["mixture"])
            for policy in (POLICIES["weights"], POLICIES["jitter"], POLICIES["two"])
        ]
        first = [renderer([0]) for renderer in drawers] + [next(batches) for batches in passes]
    with later():
        rest = [renderer(range(len(renderer.recipe) - 3, len(renderer.recipe))) for renderer in drawers]
        rest += [next(batches) for batches in passes]
    return flat([first, rest], CPU)


@pytest.fixture(scope="module")
def begun_without():
    return begun(contextlib.nullcontext, contextlib.nullcontext)


@pytest.mark.parametrize("state", STATES)
def test_what_was_begun_under_it_goes_on_without(state, begun_without):
    """Classes that are found later, tables, a pass of a loader; and the other way round."""
    assert begun(STATES[state], contextlib.nullcontext) == begun_without
    assert begun(contextlib.nullcontext, STATES[state]) == begun_without


def test_what_inference_mode_was_given_serves_in_training():
    """A model learns from it, which torch refuses of what its own functions give in inference mode."""
    policy, images = POLICIES["crop"], gr.Renderer(RECIPES["visualatom"])(range(3))
    with torch.inference_mode():
        own = images.float() / 255.0
        drawn = policy.draw(range(3), canvas_size=32, image_size=16)
        given = [
            policy.apply(images, drawn, image_size=16),
            POLICIES["weights"].targets(torch.arange(3), POLICIES["weights"].draw(range(3)), 3),
            *loaded(RECIPES["visualatom"], CPU, batches=1)[0][:1],
        ]
        found = gr.Renderer(RECIPES["onepfrac"])
        assert len(found.catalog.systems) == 30
        turned, drawn_again = augment.op("Rotate", images, 20), gr.Renderer(RECIPES["visualatom"])(range(3))
    weight = torch.ones((), requires_grad=True)
    for tensor in given:
        (tensor * weight).sum().backward()
    for tensor in (turned, drawn_again, found([5])):  # the class is looked for now, and written down
        tensor.add_(1)
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
        (own * weight).sum().backward()


# ------------------------------------------------------------------------------------------------------------ sources

FACTORIES = {function.__name__ for function in _device_constructors()}  # all that a default device decides about
OF_DATA = {"as_tensor", "asarray"}  # their type is that of what they are given
FORBIDDEN = {"set_default_device", "set_default_dtype", "set_default_tensor_type", "use_deterministic_algorithms"}


def faults(source):
    """Lines that leave a tensor's device or type to torch's global state, or change that state."""
    for node in ast.walk(ast.parse(source)):
        taken = {alias.name for alias in node.names} if isinstance(node, ast.ImportFrom) else set()
        if taken & FACTORIES and node.module == "torch":
            yield node.lineno, f"from torch import {', '.join(sorted(taken & FACTORIES))}"
        if not (isinstance(node, ast.Call) and ast.unparse(node.func).startswith("torch.")):
            continue
        name, given = ast.unparse(node.func).removeprefix("torch."), {keyword.arg for keyword in node.keywords}
        if name in FORBIDDEN or name.endswith("Tensor"):
            yield node.lineno, f"torch.{name}"
        elif name in FACTORIES:
            if "device" not in given:
                yield node.lineno, f"torch.{name} without device="
            if name not in OF_DATA and "dtype" not in given and not _integers(name, node):
                yield node.lineno, f"torch.{name} without dtype="


def _integers(name, node):
    """Whether a tensor is of integers for certain: a range without a float in its bounds, or integers written out."""
    inside = [each for argument in node.args for each in ast.walk(argument)]
    if any(isinstance(each, ast.Constant) and not isinstance(each.value, int) for each in inside):
        return False
    written = all(isinstance(each, (ast.List, ast.Constant, ast.Load)) for each in inside)
    return name == "arange" or (name == "tensor" and written)


def sources():
    return [path for folder in ("gpurender", "kernels") for path in sorted((ROOT / folder).rglob("*.py"))]


def test_no_source_leaves_a_device_or_a_type_to_it():
    paths = sources()
    assert len(paths) > 70
    found = {(path.name, line): what for path in paths for line, what in faults(path.read_text(encoding="utf-8"))}
    assert not found


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("torch.tensor([1.5], dtype=torch.float64)", ["torch.tensor without device="]),
        ("torch.tensor(x, device=device)", ["torch.tensor without dtype="]),
        ("torch.tensor([0.5], device=device)", ["torch.tensor without dtype="]),
        ("torch.zeros(3, device=device)", ["torch.zeros without dtype="]),
        ("torch.full((3,), value, device=device)", ["torch.full without dtype="]),
        ("torch.arange(0.0, n, device=device)", ["torch.arange without dtype="]),
        ("torch.arange(n)", ["torch.arange without device="]),
        ("torch.as_tensor(x)", ["torch.as_tensor without device="]),
        ("torch.empty(3)", ["torch.empty without device=", "torch.empty without dtype="]),
        ("torch.FloatTensor(3)", ["torch.FloatTensor"]),
        ("torch.set_default_dtype(torch.float64)", ["torch.set_default_dtype"]),
        ("from torch import zeros", ["from torch import zeros"]),
        ("torch.tensor([3, 5], device=device)", []),
        ("torch.arange(first, first + 7, device=device)", []),
        ("torch.as_tensor(x, device='cpu')", []),
        ("torch.empty(n, dtype=torch.int64, device=device)", []),
        ("torch.full_like(x, 3)", []),
    ],
)
def test_such_a_line_is_found(line, wrong):
    assert [what for _, what in faults(line)] == wrong
