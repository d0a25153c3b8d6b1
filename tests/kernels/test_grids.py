"""Grids, shared memory and arguments of the launches of CUDA C, worked out by hand for an H100 and for smaller GPUs.

The kernels compute the same with other grids: too few blocks or too much memory would cost time alone, on a GPU. The
tensors are on the meta device, so a tensor that a launcher makes on another device than its arguments shows.
"""

import numpy as np
import pytest
import torch

from gpurender.kernels.chaos_game import Systems
from gpurender.kernels.chaos_game import gpu as chaos_game
from gpurender.kernels.collage import Objects
from gpurender.kernels.collage import gpu as collage
from gpurender.kernels.device import runs
from gpurender.kernels.device.bit_canvases import BitCanvases
from gpurender.kernels.diamond_square import gpu as diamond_square
from gpurender.kernels.pixel_noise import gpu as pixel_noise
from gpurender.kernels.point_cloud import SpaceSystems
from gpurender.kernels.point_cloud import gpu as point_cloud
from gpurender.kernels.resized_crop import gpu as resized_crop
from gpurender.kernels.resized_crop import gpu_room
from gpurender.kernels.visual_atom import Atoms
from gpurender.kernels.visual_atom import gpu as visual_atom
from gpurender.kernels.warp import gpu as warp
from gpurender.runtime import cuda
from tests.support.emulation import ADA, HOPPER, TINY

META = torch.device("meta")


def zeros(*shape, dtype=torch.float32):
    return torch.zeros(shape, dtype=dtype, device=META)


def ids(n):
    return zeros(n, dtype=torch.int64)


def int32s(*shape):
    return zeros(*shape, dtype=torch.int32)


def uint8s(*shape):
    return zeros(*shape, dtype=torch.uint8)


@pytest.fixture
def launched(monkeypatch):
    """Launches on an H100 that is none: (kernel, blocks, threads, shared, tensors, scalars) each, by dtype."""
    log = []

    def launch(operation, name, *, device, blocks, threads, shared=0, arguments):
        tensors = [x for x in arguments if not isinstance(x, np.generic)]
        assert {x.device for x in tensors if x is not None} == {device} == {META}
        assert all(x is None or x.is_contiguous() for x in tensors)
        found = [None if x is None else (str(x.dtype).removeprefix("torch."), *x.shape) for x in tensors]
        scalars = [(x.dtype.name, x.item()) for x in arguments if isinstance(x, np.generic)]
        log.append((f"{operation}/{name}", blocks, threads, shared, found, scalars))

    monkeypatch.setattr(cuda, "launch", launch)
    monkeypatch.setattr(cuda, "limits", lambda device: HOPPER)
    return log


def systems(n, columns=6):
    kind = Systems if columns == 6 else SpaceSystems
    return kind(zeros(n, 2, columns), int32s(n, 2), int32s(n))


def game(n, columns=6):
    """The tensors of so many systems of two maps."""
    return [("float32", n, 2, columns), ("int32", n, 2), ("int32", n)]


SEED = (7 << 32) + 5
KEY = [("uint32", 5), ("uint32", 7)]


def int32(*values):
    return [("int32", value) for value in values]


I64_3 = ("int64", 3)

# --------------------------------------------------------------------------------------------------------- chaos game


@pytest.mark.parametrize(
    ("limits", "size", "rows", "parts", "shared"),
    [
        (HOPPER, 16, 16, 1, 2048),  # 4 (32 + 3) bytes, but the pilot's maps take 2 KiB
        (HOPPER, 512, 512, 1, 4 * 16 * 515),
        (HOPPER, 1344, 1344, 1, 4 * 42 * 1347),
        (HOPPER, 1345, 673, 2, 4 * 43 * 676),
        (ADA, 864, 864, 1, 4 * 27 * 867),
        (ADA, 865, 433, 2, 4 * 28 * 436),  # its rows would fit one band, a square would not
        (TINY, 100, 100, 1, 4 * 4 * 131),
        (TINY, 161, 81, 2, 2048),
        (TINY, 200, 100, 2, 4 * 7 * 103),
        (TINY, 512, 57, 9, 4 * 16 * 60),
    ],
)
def test_bands_are_as_few_as_fit(limits, size, rows, parts, shared):
    assert chaos_game.bands(size, limits) == (rows, parts, shared)


def test_a_grey_image_takes_a_block_a_band(launched):
    codes, flags = uint8s(3), {"color": False, "patch": True, "mask": False}
    chaos_game.render_systems(systems(3), ids(3), ids(3), codes, SEED, 9, 1345, **flags)
    tensors = [*game(3), I64_3, I64_3, ("uint8", 3), ("int32", 1346), ("uint8", 3, 1, 1345, 1345)]
    scalars = [*int32(2), *KEY, *int32(9, 1345, 1, 0, 673, 2)]
    assert launched == [("chaos_game/chaos_game_grey", 6, 128, 116_272, tensors, scalars)]


@pytest.mark.parametrize(("n", "size", "blocks", "rows", "shared"), [(265, 9, 264, 9, 2048), (3, 800, 3, 64, 6400)])
def test_coloured_images_share_two_canvases_a_multiprocessor(launched, n, size, blocks, rows, shared):
    codes, flags = uint8s(n), {"color": True, "patch": False, "mask": True}
    chaos_game.render_systems(systems(n), ids(n), ids(n), codes, SEED, 9, size, **flags)
    numbers, scratch = ("int64", n), ("int32", blocks, size + 3, size + 3)
    given, tables = [*game(n), numbers, numbers, ("uint8", n)], [("int32", size + 1), ("uint8", 128, 3)]
    tensors = [*given, *tables, scratch, ("uint8", n, 3, size, size)]
    scalars = [*int32(2), *KEY, *int32(9, size, 0, 1, 128, rows), ("int64", n)]
    assert launched == [("chaos_game/chaos_game_color", blocks, 128, shared, tensors, scalars)]


def test_mask_rows_of_a_coloured_image_are_as_many_as_fit(launched, monkeypatch):
    """Of 2,048 columns 16, in 4 KiB."""
    monkeypatch.setattr(cuda, "limits", lambda device: TINY)
    codes = uint8s(1)
    chaos_game.render_systems(systems(1), ids(1), ids(1), codes, 0, 9, 2048, color=True, patch=True, mask=True)
    ((_, blocks, _, shared, _, scalars),) = launched
    assert (blocks, shared) == (1, 4096)
    assert scalars[-2:] == [("int32", 16), ("int64", 1)]


@pytest.mark.parametrize(("size", "rows", "shared"), [(1345, 673, 116_272), (1376, 688, 118_852)])
def test_bitmaps_and_counts_take_a_block_a_band(launched, size, rows, shared):
    """Both of 43 words a row."""
    chaos_game.occupancy(systems(3), ids(3), SEED, 9, size)
    chaos_game.masked_occupancy(systems(3), ids(3), ids(3), SEED, 9, size, True)
    chaos_game.covered_pixels(systems(3), ids(3), SEED, 9, size)
    bits, counts = ("int32", 3, size, 43), ("int32", 3)
    outputs = [(None, bits, None, 0), (I64_3, bits, None, 1), (None, None, counts, 0)]
    for found, (masks, bitmaps, covered, mask) in zip(launched, outputs, strict=True):
        tensors = [*game(3), I64_3, masks, ("int32", size + 1), bitmaps, covered]
        scalars = [*int32(2), *KEY, *int32(9, size, mask, rows, 2)]
        assert found == ("chaos_game/chaos_game_cover", 6, 128, shared, tensors, scalars)


def test_masks_and_paint_take_a_block_a_band(launched):
    bits, which, codes = int32s(2, 1345, 43), ids(3), uint8s(3)
    assert chaos_game.mask_bitmaps(bits, which, ids(3), SEED, True).shape == (3, 1345, 43)
    assert chaos_game.render_bitmaps(bits, which, ids(3), codes, SEED, True, False).shape == (3, 1, 1345, 1345)
    given, table = [("int32", 2, 1345, 43), I64_3, I64_3], ("int32", 1346)
    masked = [*given, table, ("int32", 3, 1345, 43)], [*KEY, *int32(1345, 1, 673, 2)]
    painted = [*given, ("uint8", 3), table, ("uint8", 3, 1, 1345, 1345)], [*KEY, *int32(1345, 1, 0, 673, 2)]
    assert launched == [
        ("chaos_game/chaos_game_mask", 6, 128, 116_272, *masked),
        ("chaos_game/chaos_game_paint", 6, 128, 116_272, *painted),
    ]


@pytest.mark.parametrize(("n", "blocks"), [(5, 5), (793, 792)])
def test_densities_share_six_counts_a_multiprocessor(launched, n, blocks):
    chaos_game.densities(systems(n), ids(n), zeros(n, 4), int32s(n), SEED, 9, 8)
    views = [("float32", n, 4), ("int32", n)]
    tensors = [*game(n), ("int64", n), *views, ("int32", blocks, 10, 10), ("float32", n, 8, 8)]
    scalars = [*int32(2), *KEY, *int32(9, 8), ("int64", n)]
    assert launched == [("chaos_game/chaos_game_density", blocks, 128, 2048, tensors, scalars)]


# --------------------------------------------------------------------------------------------------------------- runs


@pytest.mark.parametrize(("sides", "parts"), [((31, 33), 1), ((32, 32), 1), ((25, 41), 2), ((512, 512), 256)])
def test_a_block_renders_1024_pixels(launched, sides, parts):
    runs.launch("warp", "any", (np.int32(3),), uint8s(2, 3, *sides))
    assert launched == [("warp/any", 2 * parts, 256, 0, [("uint8", 2, 3, *sides)], int32(3, 1024, parts))]


def test_what_the_kernels_of_runs_are_given(launched):
    collage.collages(
        Objects(zeros(4, 5, 5), uint8s(4), zeros(4, 3), int32s(4, 3)), uint8s(2, 3, 40, 40), int32s(2), 0.25
    )
    pixel_noise.pixels(zeros(2, 3, 4), ids(2), True, SEED, 40)
    warp.warped(uint8s(3, 40, 40), zeros(2, 2, 6), zeros(2, 2, 5, 5))
    images, run = ("uint8", 2, 3, 40, 40), int32(1024, 2)
    objects, hue = [("float32", 4, 5, 5), ("uint8", 4), ("float32", 4, 3), ("int32", 4, 3)], ("float32", 0.25)
    laws, field = [("float32", 2, 3, 4), ("int64", 2)], [("float32", 2, 2, 6), ("float32", 2, 2, 5, 5)]
    assert launched == [
        ("collage/collage_paste", 4, 256, 0, [*objects, images, images], [*int32(2, 5), hue, *int32(40), *run]),
        ("collage/collage_blur", 4, 256, 0, [images, ("int32", 2), images], [*int32(40), *run]),
        (
            "pixel_noise/pixel_noise_render", 4, 256, 0, [*laws, ("float32", 3970), images],
            [*int32(1), *KEY, *int32(1600), *run],
        ),
        ("warp/warp_render", 4, 256, 0, [("uint8", 3, 40, 40), *field, images], [*int32(5, 3, 40), *run]),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------ textures and clouds


@pytest.mark.parametrize(("n", "size", "blocks", "levels", "side"), [(3, 33, 3, 6, 65), (529, 2, 528, 1, 3)])
def test_textures_share_four_fields_of_heights_a_multiprocessor(launched, n, size, blocks, levels, side):
    diamond_square.textures(zeros(n, 7), ids(n), SEED, size, 0.25)
    tensors = [("float32", n, 7), ("int64", n), ("float32", blocks, side, side), ("uint8", n, 3, size, size)]
    scalars = [*KEY, *int32(size, levels), ("float32", 0.25), ("int64", n)]
    assert launched == [("diamond_square/diamond_square_render", blocks, 256, 0, tensors, scalars)]


def test_a_cloud_takes_a_block(launched):
    """The camera's scale is half of the canvas by the cotangent of 22.5 degrees, 1 + sqrt 2."""
    point_cloud.render_clouds(systems(3, 12), ids(3), zeros(3, 2), SEED, 9, 64)
    point_cloud.moments(systems(3, 12), ids(3), SEED, 9)
    clouds, scale = [*game(3, 12), I64_3], float(np.float32(77.25483399593904))
    assert launched == [
        (
            "point_cloud/point_cloud_render", 3, 128, 0, [*clouds, ("float32", 3, 2), ("uint8", 3, 64, 64)],
            [*int32(2), *KEY, *int32(9, 64), ("float32", scale)],
        ),
        ("point_cloud/point_cloud_moments", 3, 128, 0, [*clouds, ("int64", 3, 7)], [*int32(2), *KEY, *int32(9)]),
    ]  # fmt: skip


# -------------------------------------------------------------------------------------------------------------- crops


@pytest.mark.parametrize(
    ("limits", "room"),
    [
        # 896 taps a table; 4 words a tap, of 64 outputs; 129 quads a line, 16 lines; 56 quads a column of 8 lines
        (HOPPER, (896, 4, 64, 4 * 129, 33 * 56)),  # four blocks, of 3568 units: 1676 and 33 columns
        (ADA, (896, 4, 64, 4 * 129, 25 * 56)),  # two, of 3120
    ],
)
def test_blocks_share_a_multiprocessor_at_the_size_of_training(limits, room):
    assert gpu_room.shared_room(512, 512, 224, 224, limits) == room


@pytest.mark.parametrize(
    ("blocks", "units", "less", "source", "column"),
    [
        # 72 units beside the columns, of 2 units each; a strip has more than four times the 2 words of an output's taps
        (4, 90, 0, 36, 9),
        (4, 90, 1, 18, 17),  # 8 columns beside 16 lines are too few; beside 8 lines, which take 54 units, there are 17
        (4, 72, 0, 18, 9),
        (3, 72, 0, 18, 9),
        (2, 72, 0, 18, 9),
        (1, 80, 0, 36, 4),  # alone it needs one column more than words
        (1, 79, 0, 18, 12),
        (1, 62, 0, 18, 4),
    ],
)
def test_memory_goes_to_blocks_then_to_lines_then_to_columns(blocks, units, less, source, column):
    """Of a canvas of 8 x 8 pixels. A block takes 1,024 bytes of its multiprocessor and 256 for its plan; ``less``
    bytes are missing.
    """
    a_block = 16 * units + 256 - less
    limits = cuda.Limits(132, a_block if blocks == 1 else 1 << 20, blocks * (a_block + 1024))
    assert gpu_room.shared_room(8, 8, 8, 8, limits) == (16, 2, 8, source, 2 * column)


def test_shared_memory_that_is_too_small_is_not_taken():
    assert gpu_room.shared_room(8, 8, 8, 8, cuda.Limits(132, 16 * 61 + 256, 1 << 10)) is None
    assert gpu_room.device_room(512, 512, 224, 224) == (896, 4, 32, 2 * 129, 10 * 56)
    assert gpu_room.device_room(8, 8, 8, 8).units == 16 + 2 * 8 + 18 + 6 * 2 + 2 * 2


@pytest.mark.parametrize(("n_in", "n_out", "words"), [(8, 8, 2), (7, 224, 2), (512, 224, 4), (448, 224, 3), (9, 1, 10)])
def test_taps_lie_in_so_many_words(n_in, n_out, words):
    """2 ceil(2 scale) + 1 taps, which may begin in the last of a word's four bytes and have one to spare."""
    assert gpu_room.words_of(n_in, n_out) == words


@pytest.mark.parametrize(
    ("sides", "stride"), [((1, 1), 9), ((32, 1), 9), ((33, 1), 17), ((5, 512), 129), ((528, 9), 137)]
)
def test_a_line_of_the_window_has_whole_warps_of_pixels_and_a_quad(sides, stride):
    assert gpu_room.needs(*sides, 8, 8).stride == stride


def test_a_crop_takes_a_block(launched):
    boxes, flips, codes = zeros(3, 4, dtype=torch.int64), zeros(3, 2, dtype=torch.bool), uint8s(3)
    given, crops = uint8s(3, 1, 512, 512), [("int32", 3, 4), ("bool", 3, 2), ("uint8", 3)]
    resized_crop.crop_resize(given, boxes, flips, codes, (224, 223))
    for table, form in ((3, torch.channels_last), (1, torch.contiguous_format)):
        lut = zeros(table, 256, dtype=torch.float16)
        resized_crop.begin_crop_resize_normalise(given, boxes, flips, codes, lut, (224, 224), form)()
    room, images = int32(896, 4, 64, 516, 1848), ("float16", 3 * 3 * 224 * 224)
    for (name, blocks, threads, shared, tensors, scalars), more in zip(
        launched,
        [
            ([None, ("uint8", 3 * 224 * 223)], int32(0, 1, 1), [("int64", 223 * 224)] * 2, int32(223, 1)),
            ([("float16", 3, 256), images], int32(256, 2, 3), [("int64", 3 * 224 * 224), ("int64", 1)],
             int32(3 * 224, 3)),
            ([("float16", 1, 256), images], int32(0, 2, 3), [("int64", 3 * 224 * 224), ("int64", 224 * 224)],
             int32(224, 1)),
        ],
        strict=True,
    ):  # fmt: skip
        width = 223 if more[0][0] is None else 224
        assert (name, blocks, threads, shared) == ("resized_crop/resized_crop_bytes", 3, 256, 16 * 3524)
        assert tensors == [("uint8", 3, 1, 512, 512), *crops, *more[0]]
        assert scalars == [*int32(1, 512, 512, 224, width), *room, *more[1], *more[2], *more[3]]


def test_numbers_of_boxes_that_are_too_large_are_cut():
    """The kernel moves any box into the canvas, so they need not be right, but on the same side."""
    boxes = torch.tensor([[2**31 - 1, 2**31, -(2**31) + 1, -(2**31)], [2**62, -(2**63), 7, -7]])
    most = 2**31 - 1
    assert resized_crop.int32_boxes(boxes).tolist() == [[most, most, -most, -most], [most, -most, 7, -7]]
    assert resized_crop.int32_boxes(boxes).dtype == torch.int32


def test_bits_take_a_block_in_shared_memory_and_become_bytes_in_device_memory(launched, monkeypatch):
    """Which has for each of the three blocks 16 bytes for 16 + 2 * 8 + 18 + 6 * 2 + 2 * 2 units."""
    given = BitCanvases(int32s(2, 8, 1), ids(3), uint8s(3)), int32s(3, 4), zeros(3, 2, dtype=torch.bool), uint8s(3)
    resized_crop.crop_resize(*given, (8, 8))
    monkeypatch.setattr(cuda, "limits", lambda device: TINY._replace(shared_a_multiprocessor=0))
    painted = []
    monkeypatch.setattr(resized_crop, "render_bitmaps", lambda *_, **how: painted.append(how) or uint8s(3, 1, 8, 8))
    resized_crop.crop_resize(*given, (8, 8))
    crops, image = [("int32", 3, 4), ("bool", 3, 2), ("uint8", 3), None, ("uint8", 192)], ("uint8", 3, 1, 8, 8)
    strides = [*int32(0, 1, 1), ("int64", 64), ("int64", 64), *int32(8, 1)]
    assert painted == [{"seed": 0, "patch": False, "mask": False}]  # as the bits are
    within, beside = launched
    assert within[:4] == ("resized_crop/resized_crop_bits", 3, 256, 16 * 3568)
    assert within[5] == [*int32(8, 8, 8, 16, 2, 8, 36, 3568 - 72), *strides]
    assert within[4] == [("int32", 2, 8, 1), ("int64", 3), ("uint8", 3), *crops]
    assert beside[:4] == ("resized_crop/resized_crop_large", 3, 256, 0)
    assert beside[4] == [("uint8", 3 * 16 * 66), image, *crops]
    assert beside[5] == [*int32(1, 8, 8, 8, 8, 16, 2, 8, 18, 12), *strides]


# -------------------------------------------------------------------------------------------------------------- atoms


@pytest.mark.parametrize(
    ("limits", "size", "vertices", "reach", "layout"),
    [
        (HOPPER, 512, 1000, 8191.0, (2, 220_352, 228_352, True)),  # 430 rows beside 8,000 bytes of vertices
        (HOPPER, 512, 1000, 8192.0, (2, 228_352, 228_352, False)),
        (HOPPER, 224, 1024, 1.0, (1, 50_176, 58_368, True)),
        (HOPPER, 224, 1025, 1.0, (1, 50_176, 50_176, False)),
        (HOPPER, 33, 3, 1.0, (1, 1104, 1128, True)),  # 1,089 pixels, in units of 16
        (TINY, 127, 3, 1.0, (4, 4064, 4088, True)),  # 32 rows of 127 in 4,072 bytes
        (TINY, 128, 3, 1.0, (4, 4096, 4096, False)),  # 31 of 128
        (TINY, 16, 480, 1.0, (1, 256, 4096, True)),
        (TINY, 16, 481, 1.0, (1, 256, 256, False)),
    ],
)
def test_atoms_are_in_shared_memory_where_it_suffices(limits, size, vertices, reach, layout):
    assert visual_atom.layout(size, vertices, reach, limits) == layout


@pytest.mark.parametrize(
    ("most", "threads", "scratch"), [(32, 32, None), (33, 64, None), (1025, 1024, ("uint8", 2, 65_600))]
)
def test_an_atom_takes_a_thread_a_vertex_in_whole_warps(launched, most, threads, scratch):
    table = {
        "rings": int32s(1), "vertices": int32s(1), "frequencies": int32s(1, 2), "axes": zeros(1, 2), "growth": zeros(1),
        "amplitudes": zeros(1, 2), "noise_levels": zeros(1), "offsets": ids(1), "cosines": zeros(9), "sines": zeros(9),
    }  # fmt: skip
    atoms = Atoms(**table, most_vertices=most, reach=100.0)
    visual_atom.render_atoms(atoms, ids(2), zeros(2, 2), ids(2), (3, 5), SEED, 40, True, int32s(2, 4), axes=zeros(2, 2))
    ((name, blocks, found, _, tensors, scalars),) = launched
    assert (name, blocks, found) == ("visual_atom/visual_atom_render", 2, threads)
    assert tensors[10:] == [
        ("float32", 256), ("int64", 2), ("float32", 2, 2), ("float32", 2, 2), ("int64", 2), ("int32", 2, 4), scratch,
        ("uint8", 2, 40, 40),
    ]  # fmt: skip
    assert scalars == [("int64", 1), *KEY, *int32(1, 0, 0, 3, 3, 40, 1, 1600, most)]
