"""The launches of a chain of image operations in Triton: which there are, their grids, options and memory, by hand.

The interpreter, by which the bytes are tested, runs none of a launch's options, and grids of its own. Tensors are on
the meta device, so one that is made elsewhere shows.
"""

import pytest
import torch

from gpurender.kernels.image_ops import Operation

pytest.importorskip("triton", reason="needs Triton")
import triton.language as tl

from gpurender.kernels.image_ops import gpu, tables

META = torch.device("meta")
EXACT = {"enable_fp_fusion": False}
FILL = (1, 2, 3)
N, CHANNELS, HEIGHT, WIDTH = 130, 3, 100, 96  # 9,600 pixels: two runs of a program that changes them
AREA = HEIGHT * WIDTH


def zeros(*shape, dtype=torch.uint8, device=META):
    return torch.zeros(shape, dtype=dtype, device=device)


def chain(n, layers, device=META):
    """Operations, arguments and interpolations."""
    return [zeros(n, layers, dtype=dtype, device=device) for dtype in (torch.int32, torch.float64, torch.uint8)]


@pytest.fixture
def launched(monkeypatch):
    """Launches: (kernel, grid, arguments, options) each."""
    log = []

    class Recorded:
        def __init__(self, name):
            self.name = name

        def __getitem__(self, grid):
            return lambda *arguments, **options: log.append((self.name, grid, arguments, options))

    for name in ("plan_steps", "weigh", "tabulate", "change", "move", "blur"):
        monkeypatch.setattr(gpu, name, Recorded(name))
    monkeypatch.setattr(gpu, "coefficients", lambda *given: log.append(("coefficients", None, given, {})) or given[1])
    return log


def shown(arguments):
    """Tensors by dtype and shape, and values as they are."""
    return [
        (str(x.dtype).removeprefix("torch."), *x.shape) if isinstance(x, torch.Tensor) and x.device == META else x
        for x in arguments
    ]


def test_all_launches_of_a_step(launched):
    images, given = zeros(N, CHANNELS, HEIGHT, WIDTH), chain(N, 2)
    found = gpu.apply_ops(images, *given, FILL)
    assert (found.shape, found.dtype, found.device) == (images.shape, images.dtype, META)
    names = ["tabulate", "change", "move", "blur", "blur"]
    assert [launch[0] for launch in launched] == ["plan_steps", "coefficients", "weigh", *names, *names]
    planned, (_, _, moved, _), weighed, *steps = launched
    steps_of, values = ("int32", 260), ("float64", 260)
    codes = [("int32", N, 2), ("float64", N, 2)]
    specs = ("float64", 21, 3)
    every = 2**21 - 1
    assert planned[1] == (2,)
    assert shown(planned[2]) == [*codes, specs, steps_of, values, N, 2, every, 128]
    assert planned[3] == {"num_warps": 4, **EXACT}
    assert shown(moved) == [*codes, HEIGHT, WIDTH]
    weights = ("float32", 260, 16)
    assert (weighed[1], shown(weighed[2])) == ((3,), [steps_of, values, weights, 260, 128])
    assert weighed[3] == {"num_warps": 4, **EXACT}
    image = ("uint8", N, CHANNELS, HEIGHT, WIDTH)
    ways, luts = [image] * 3, ("uint8", N, CHANNELS, 256)
    pitch = 4 * AREA  # float32 between the axes of a blur by a kernel
    between, sums = ("uint8", N * CHANNELS * pitch), ("float32", N * CHANNELS * AREA)
    for step, (tabulate, change, move, along, down) in enumerate((steps[:5], steps[5:])):
        when, size = [2, step], [HEIGHT, WIDTH, AREA]
        assert tabulate[1] == (N * CHANNELS,)
        assert shown(tabulate[2]) == [image, steps_of, values, luts, *when, AREA, CHANNELS, tl.int32, 4096]
        assert tabulate[3] == {"num_warps": 8, **EXACT}
        assert change[1] == (N * 2,)
        tail = [CHANNELS, tl.int32, True]
        assert shown(change[2]) == [*ways, steps_of, values, luts, *when, 2, *size, *tail, 512, 8192]
        assert change[3] == {"num_warps": 4, **EXACT}
        assert move[1] == (N * 3 * 4,)  # three times 32 columns, four times 32 rows
        inputs = [*ways, steps_of, ("float64", N, 2), ("uint8", N, 2)]
        assert shown(move[2]) == [*inputs, *when, 12, 3, *size, *FILL, *tail, False, 32, 2, 32]
        assert move[3] == {"num_warps": 1, "maxnreg": 144, **EXACT}
        for launch, blocks, vertical in ((along, 4, False), (down, 3, True)):
            assert launch[1] == (N * CHANNELS * blocks,)  # of 32 rows, or columns, each
            inputs = [*ways, between, sums, steps_of, values, weights]
            tail = [CHANNELS, pitch, vertical, tl.int32, 1024]
            assert shown(launch[2]) == [*inputs, *when, blocks, *size, *tail]
            assert launch[3] == {"num_warps": 4, "maxnreg": 96, **EXACT}


@pytest.mark.parametrize(
    ("possible", "names", "codes"),
    [
        ([Operation.SHARPNESS], ["change"], 2**11),
        ([Operation.INVERT, Operation.HUE], ["tabulate", "change"], 2**3 + 2**10),
        ([Operation.ROTATE], ["coefficients", "change", "move"], 2**14),
        ([Operation.GAUSSIAN_BLUR], ["change", "blur", "blur"], 2**12),
        ([Operation.GAUSSIAN_KERNEL], ["weigh", "change", "blur", "blur"], 2**13),
        ([], ["change"], 0),
    ],
)
def test_what_cannot_occur_is_not_launched(launched, possible, names, codes):
    gpu.apply_ops(zeros(3, 1, 40, 40), *chain(3, 1), FILL, possible)
    assert [launch[0] for launch in launched] == ["plan_steps", *names]
    assert launched[0][2][7] == codes
    for name, _, arguments, _ in launched:
        if name == "change":
            assert shown(arguments)[5] == (("uint8", 3, 1, 256) if "tabulate" in names else ("uint8", 0))


def test_bytes_lie_between_the_axes_of_pillow_s_blur(launched):
    gpu.apply_ops(zeros(3, 1, 40, 30), *chain(3, 1), FILL, [Operation.GAUSSIAN_BLUR])
    assert shown(launched[-1][2])[3:8] == [
        ("uint8", 3600),
        ("float32", 0),
        ("int32", 3),
        ("float64", 3),
        ("float32", 0),
    ]
    assert launched[-1][2][-4] == 1200


@pytest.mark.parametrize(("layers", "ways"), [(1, ["0r"]), (2, ["0a", "aa"]), (5, ["0a", "ab", "ba", "ab", "ba"])])
def test_steps_alternate_between_two_images(launched, layers, ways):
    """From the images (0) to scratch images (a, b); a last step has one for nothing, and one layer none."""
    images = zeros(3, 1, 8, 8)
    result = gpu.apply_ops(images, *chain(3, layers), FILL, [Operation.HUE])
    names, found = {id(images): "0", id(result): "r"}, []
    for _, _, (source, scratch, target, *_), _ in launched[1:]:
        assert target is result
        names.setdefault(id(scratch), "ab"[len(names) - 2 : len(names) - 1])
        found.append(names[id(source)] + names[id(scratch)])
    assert found == ways


@pytest.mark.parametrize(
    ("height", "width", "begin", "aligned"),
    [(8, 4, 0, True), (8, 3, 0, False), (2, 4, 0, True), (3, 4, 0, False), (8, 8, 8, True), (8, 8, 4, False)],
)
def test_words_are_read_where_images_and_memory_allow(launched, height, width, begin, aligned):
    """Of areas that are multiples of eight bytes, rows of four pixels, from an address that is a multiple of eight."""
    memory = torch.zeros(begin + height * width, dtype=torch.uint8)
    images = memory[begin:].view(1, 1, height, width)
    assert memory.data_ptr() % 8 == 0
    gpu.apply_ops(images, *chain(1, 1, "cpu"), FILL, [Operation.ROTATE])
    (change,) = (arguments for name, _, arguments, _ in launched if name == "change")
    (move,) = (arguments for name, _, arguments, _ in launched if name == "move")
    assert change[-3] is aligned
    assert move[-5] is aligned


@pytest.mark.parametrize(("shape", "layers"), [((0, 3, 8, 8), 2), ((2, 3, 8, 8), 0)])
def test_nothing_to_do_is_a_copy(launched, shape, layers):
    images = torch.ones(shape, dtype=torch.uint8)
    found = gpu.apply_ops(images, *chain(shape[0], layers, "cpu"), FILL)
    assert torch.equal(found, images)
    assert found is not images
    assert not launched


def test_estimates_in_float32_are_for_gpus_that_are_slow_in_float64(launched, monkeypatch):
    for capability, fast in (((7, 0), True), ((8, 0), True), ((9, 0), True), ((10, 0), True), ((8, 6), False),
                             ((8, 9), False), ((12, 0), False)):  # fmt: skip
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        assert gpu.fast_double.__wrapped__(torch.device("cuda", 1)) is fast
    assert gpu.fast_double.__wrapped__(torch.device("cpu"))
    monkeypatch.setattr(gpu, "fast_double", lambda device: False)
    gpu.apply_ops(zeros(1, 1, 8, 8), *chain(1, 1), FILL, [Operation.ROTATE])
    assert launched[-1][2][-4] is True


def test_the_table_of_operations_is_on_the_device():
    """Kind, lowest and highest argument; 0 where an operation takes none."""
    lut, any_size, from_zero = 1, (-1e6, 1e6), (0, 1e6)
    found = tables.specs(torch.device("cpu"))
    assert found.dtype == torch.float64
    assert [tuple(row) for row in found.tolist()] == [
        (0, 0, 0), (lut, 0, 0), (lut, 0, 0), (lut, 0, 0), (lut, 0, 8), (lut, *any_size), (lut, *from_zero),
        (lut, *from_zero), (lut, *from_zero), (2, *from_zero), (2, -0.5, 0.5), (3, *from_zero), (4, 0, 64),
        (4, 0.1, 2), *[(5, *any_size)] * 7,
    ]  # fmt: skip
    assert tables.specs(META).device == tables.turns(META).device == META
