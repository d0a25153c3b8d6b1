"""Visual atoms against Pillow's lines, the `noise` package's Perlin noise and arbitrary-precision sines."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from gpurender.kernels.device import cpu_lines
from gpurender.kernels.philox import bounded, words
from gpurender.kernels.visual_atom import MAX_GREY, RULES, Atoms, cpu, render_atoms
from gpurender.numerics.streams import Stream
from gpurender.numerics.unit_circle import cos_sin_table
from tests.support.released_lines import PACKAGE_GRADIENTS
from tests.support.two_sample import same_law

# noise.pnoise1(x) of the package `noise` 1.2.2; 255.5 to 1024 cross the ends of its tables.
KNOWN_NOISE = [
    (0.5, 0.699999988079071),
    (1.25, 0.12070312350988388),
    (3.75, 0.05859375),
    (100.1, 0.08239549398422241),
    (255.5, -0.30000001192092896),
    (256.5, 0.699999988079071),
    (1023.25, 0.19980469346046448),
    (1024.0, 0.0),
    (5000.3, 0.5203607678413391),
    (9999.9, 0.04560413584113121),
]

# Recorded from the package: one cell of the noise from end to end in sixteenths.
PACKAGE_CELL = [
    0.0, -0.029935598, -0.082907103, -0.166441873, -0.275976568, -0.399509192, -0.521530151, -0.626232326, -0.7,
    -0.733177364, -0.721115112, -0.664497137, -0.568945348, -0.443903893, -0.300802618, -0.150499105, 0.0,
]  # fmt: skip


def pillow(polygons, greys, size, ground=0):
    """Closed polygons drawn by Pillow, one call a segment as the released generator does; uint8 [size, size]."""
    image = Image.new("L", (size, size), ground)
    draw = ImageDraw.Draw(image)
    for polygon, grey in zip(polygons, greys, strict=True):
        for i, (x, y) in enumerate(polygon):
            draw.line((*polygon[i - 1], x, y), fill=int(grey), width=1)
    return np.asarray(image)


def ours(polygons, greys, size):
    canvas = np.zeros((size, size), np.uint8)
    x, y = np.array(polygons, np.float32).transpose(2, 0, 1)
    cpu_lines.render_polygons(np.ascontiguousarray(x), np.ascontiguousarray(y), np.array(greys, np.uint8), canvas)
    return canvas


@st.composite
def scenes(draw):
    """A canvas and up to four polygons on, beside or far around it; coordinates are float32."""
    size = draw(st.integers(16, 600))
    reach = draw(st.sampled_from([4, size, 3 * size, 20_000, 2**20]))
    low, high = draw(st.sampled_from([(0, min(reach, size - 1)), (-reach, reach), (-min(reach, 40), size + 40)]))
    coordinate = st.one_of(
        st.integers(low, high).map(float),
        st.floats(low, high, width=32),
        st.sampled_from([-1.0, -0.75, -0.0, 0.0, 0.5, size - 1.0, size - 0.5, float(size), size / 2.0]),
    ).map(lambda value: float(np.float32(value)))
    vertices = draw(st.integers(2, 5))
    point = st.tuples(coordinate, coordinate)
    polygons = draw(st.lists(st.lists(point, min_size=vertices, max_size=vertices), min_size=1, max_size=4))
    return size, polygons, [60 * (k + 1) for k in range(len(polygons))]


@settings(max_examples=400, deadline=None)
@given(scenes())
def test_polygons_are_pillows_byte_for_byte(scene):
    size, polygons, greys = scene
    np.testing.assert_array_equal(ours(polygons, greys, size), pillow(polygons, greys, size))


@pytest.mark.parametrize("size", [16, 33, 512, 600])
@pytest.mark.parametrize("spread", [0.4, 1.5, 8.0, 300.0])
def test_many_random_segments(size, spread):
    rng = np.random.default_rng(size)
    polygons = rng.normal(size / 2, spread * size, (500, 3, 2)).astype(np.float32)
    polygons[::2] = np.trunc(polygons[::2])  # integer ends hit the ties of Bresenham
    polygons[::5, 1] = polygons[::5, 0] + rng.integers(-9, 10, (100, 2)).astype(np.float32)  # short ones too
    greys = rng.integers(1, 256, len(polygons))
    np.testing.assert_array_equal(ours(polygons, greys, size), pillow(polygons.tolist(), greys, size))


def test_a_single_crossing_segment_has_its_last_pixel():
    rng = np.random.default_rng(3)
    for _ in range(3000):
        size = int(rng.integers(16, 64))
        x0, y0, x1, y1 = (int(v) for v in rng.integers(-2 * size, 3 * size, 4))
        canvas, image = np.zeros((size, size), np.uint8), Image.new("L", (size, size))
        cpu_lines.render_crossing(*np.array([x0, y0, x1, y1], np.int32), np.uint8(9), (size,) * 3, canvas.ravel())
        ImageDraw.Draw(image).line((x0, y0, x1, y1), fill=9, width=1)
        np.testing.assert_array_equal(canvas, np.asarray(image))


def test_the_longest_segments_of_the_largest_canvas():
    """The fixed-point slopes stay exact up to 8192 pixels."""
    rng = np.random.default_rng(8)
    polygons = rng.integers(0, 8192, (4, 60, 2)).astype(np.float32)
    polygons[1, ::2, 0], polygons[1, 1::2, 0] = 0, 8191  # as long as can be, by any slope
    polygons[2, 1::2] = polygons[2, ::2] + [[4096, 2048]]  # exact halves
    polygons[2] %= 8192
    greys = [10, 20, 30, 40]
    assert np.array_equal(ours(polygons, greys, 8192), pillow(polygons.tolist(), greys, 8192))


def test_later_polygons_cover_earlier_ones():
    square = [(2.0, 2.0), (2.0, 9.0), (9.0, 9.0), (9.0, 2.0)]
    assert set(np.unique(ours([square, square], [7, 200], 16))) == {0, 200}
    assert set(np.unique(ours([square, square], [200, 0], 16))) == {0}


def perlin(x):
    """The kernel's noise at float32 abscissae."""
    x = np.asarray(x, np.float32)
    cells = np.floor(x)
    return np.array([cpu.perlin(np.int64(c), np.float32(v - c)) for c, v in zip(cells, x, strict=True)])


def test_perlin_has_the_known_values():
    x, expected = np.array(KNOWN_NOISE).T
    np.testing.assert_allclose(perlin(x), expected, rtol=0, atol=1e-6)
    i = np.arange(256)
    halves = np.rint(10 * perlin(i + 0.5)).astype(int)  # differences of neighbouring gradients
    assert ((i + 1) ** 2 * halves).sum() == -417_006  # as of pnoise1


def test_perlin_is_what_the_noise_package_gave():
    step = 2.0**-10
    gradients = np.rint(perlin(np.arange(256) + step) / step * 2.5).astype(int)
    assert "".join(str(gradient + 1) for gradient in gradients) == PACKAGE_GRADIENTS
    np.testing.assert_allclose(perlin(77 + np.arange(17) / 16), PACKAGE_CELL, rtol=0, atol=1e-6)


def test_perlin_is_that_of_the_noise_package():
    package = pytest.importorskip("noise", reason="the package `noise` is not installed")
    x = np.random.default_rng(1).uniform(0, 10_000, 20_000).astype(np.float32)
    x = np.concatenate([x, np.arange(0, 10_000, 7, dtype=np.float32)])
    np.testing.assert_allclose(perlin(x), [package.pnoise1(float(v)) for v in x], rtol=0, atol=1e-6)


def noise_of(u):
    """The rule of the words, in NumPy: abscissa 10000 u / 2^32, its fraction cut to 24 bits. u  # uint32, any shape"""
    wide = u.astype(np.uint64) * np.uint64(10_000)
    cell, t = wide >> np.uint64(32), ((wide & np.uint64(0xFFFFFFFF)) >> np.uint64(8)).astype(np.float32)
    t = t * np.float32(2.0**-24)
    gradient = cpu.GRADIENTS[np.stack([cell, cell + np.uint64(1)]).astype(np.int64) & 255]  # [2, ...] float32
    left, right = gradient[0] * t, gradient[1] * (t - np.float32(1))
    fade = t * t * t * (t * (t * np.float32(6) - np.float32(15)) + np.float32(10))
    return (left + fade * (right - left)) * np.float32(0.4)


def test_noise_of_uniform_words_has_the_released_distribution():
    """Mean 0, deviation 0.3291, quartiles -0.153 and 0.143, range within 0.952: figures of pnoise1 over U(0, 10000)."""
    u = np.random.default_rng(2).integers(0, 2**32, 400_000, dtype=np.uint32)
    sample = noise_of(u)
    assert [cpu.noise(word) for word in u[:2000]] == sample[:2000].tolist()
    assert abs(sample.mean()) < 0.003
    assert abs(sample.std() - 0.3291) < 0.003
    np.testing.assert_allclose(np.quantile(sample, [0.25, 0.75]), [-0.153, 0.143], atol=0.004)
    assert np.abs(sample).max() < 0.953


def smooth_noise_of(u, q):
    """Noise of period 32 on the circle, in NumPy: 32 consecutive gradients of the table, the first of them again at the
    end, evaluated from a random place on. u  # uint32 [n]; float32 [n, q]
    """
    place = (u.astype(object) * (256 * 32 * q)) // 2**32  # Python's integers
    rows = []
    for number in place.tolist():
        first, begin = divmod(number, 32 * q)
        gradients = cpu.GRADIENTS[(first + np.arange(32)) % 256]
        along = (begin + 32 * np.arange(q)) % (32 * q)
        cell, t = along // q, (along % q).astype(np.float32) / np.float32(q)
        left, right = gradients[cell] * t, np.roll(gradients, -1)[cell] * (t - np.float32(1))
        fade = t * t * t * (t * (t * np.float32(6) - np.float32(15)) + np.float32(10))
        rows.append((left + fade * (right - left)) * np.float32(0.4))
    return np.array(rows)


@pytest.mark.parametrize("q", [3, 200, 997, 4096])
def test_smooth_noise_is_a_function_on_the_circle(q):
    """Neighbours differ by less than the steepest slope of the noise, 0.4 x 22, also across theta = 0; independent
    noise does not.
    """
    u = np.random.default_rng(q).integers(0, 2**32, 20, dtype=np.uint32)
    u[:2] = 0, 2**32 - 1
    values = np.array([[cpu.smooth_noise(word, np.int64(j), np.int64(q)) for j in range(q)] for word in u])
    np.testing.assert_array_equal(values, smooth_noise_of(u, q))
    steps = np.abs(values - np.roll(values, 1, axis=1)).max()
    assert steps < 8.8 * 32 / q
    if q >= 997:
        other = noise_of(np.random.default_rng(0).integers(0, 2**32, q, dtype=np.uint32))
        assert np.abs(np.diff(other)).max() > 2 * steps


def test_smooth_noise_at_one_vertex_has_the_distribution_of_independent_noise():
    rng = np.random.default_rng(4)
    u = rng.integers(0, 2**32, (2, 40_000), dtype=np.uint32)
    for j in (0, 7):
        smooth = [cpu.smooth_noise(word, np.int64(j), np.int64(211)) for word in u[0]]
        same_law(smooth, noise_of(u[1]), f"vertex {j}")


def test_tables_of_cos_and_sin_are_correctly_rounded():
    mpmath = pytest.importorskip("mpmath", reason="the package `mpmath` is not installed")
    with mpmath.workprec(150):
        for q in (3, 4, 5, 8, 200, 257, 999, 1000, 4096):
            for values, function in zip(cos_sin_table(q), (mpmath.cos, mpmath.sin), strict=True):
                exact = np.array([float(mpmath.chop(function(2 * mpmath.pi * i / q), 1e-40)) for i in range(q)])
                np.testing.assert_array_max_ulp(values, exact, maxulp=2)
                np.testing.assert_array_equal(values.astype(np.float32), exact.astype(np.float32))


def atoms(count=6, seed=0, **changes):
    """A table of small random atoms, each with its own sines."""
    rng = np.random.default_rng(seed)
    q = rng.integers(3, 90, count)
    tables = [np.stack(cos_sin_table(int(n))).astype(np.float32) for n in q]
    cosines, sines = np.concatenate(tables, axis=1)
    values = {
        "rings": rng.integers(1, 23, count).astype(np.int32),
        "vertices": q.astype(np.int32),
        "frequencies": rng.integers(0, 21, (count, 2)).astype(np.int32),
        "axes": rng.uniform(5, 60, (count, 2)).astype(np.float32),
        "growth": rng.uniform(0, 1, count).astype(np.float32),
        "amplitudes": rng.uniform(0, 1, (count, 2)).astype(np.float32),
        "noise_levels": rng.uniform(0, 3, count).astype(np.float32),
        "offsets": np.cumsum(q) - q,
        "cosines": cosines,
        "sines": sines,
    }
    return Atoms(**{name: torch.from_numpy(array) for name, array in (values | changes).items()}, most_vertices=90)


def batch(count=6, seed=0):
    rng = np.random.default_rng(seed + 1)
    return {
        "which": torch.arange(count),
        "centres": torch.from_numpy(rng.uniform(0, 101, (count, 2)).astype(np.float32)),
        "draw_ids": torch.from_numpy(rng.integers(0, 2**64, count, dtype=np.uint64).view(np.int64)),
        "greys": (3, 250),
        "seed": 2**63 + 12345,
        "size": 101,
    }


FIELDS = [
    field.name for field in dataclasses.fields(Atoms) if field.type == "torch.Tensor" or field.type is torch.Tensor
]


def rings_by_numpy(atom, n, rule, centre, number, seed):
    """The vertices of one atom, straight from the formulas and addresses the kernel documents; float32 [K, q, 2]."""
    atom = SimpleNamespace(**{name: tensor.numpy() for name, tensor in zip(FIELDS, atom.tensors(), strict=True)})
    q, eta, (a, b), one = atom.vertices[n], atom.noise_levels[n], atom.axes[n], np.float32(1)
    table = slice(atom.offsets[n], atom.offsets[n] + q)
    cosines, sines, j = atom.cosines[table], atom.sines[table], np.arange(q)
    (n1, n2), (l1, l2) = atom.frequencies[n], atom.amplitudes[n]
    waves = l1 * sines[n1 * j % q] + l2 * sines[n2 * j % q]
    noise_words = words(seed, Stream.NOISE, np.array([number]), blocks=12 << 12 if rule == "walk" else 6 << 12)
    noise_words = noise_words.reshape(-1, 4096, 4)[:, :q]  # [groups, q, 4]
    x, y = cosines * a + centre[0], sines * b + centre[1]
    rings = []
    for k in range(atom.rings[n]):
        if rule == "walk":
            px, py = (noise_of(noise_words[k // 2, :, 2 * (k % 2) + side]) for side in (0, 1))
            x = x + cosines * ((eta + atom.growth[n]) + waves - eta * px)
            y = y + sines * ((eta + atom.growth[n]) + waves - eta * py)
        else:
            own = noise_words[k // 4, :, k % 4]
            noise = noise_of(own) if rule == "orbits" else smooth_noise_of(own[:1], q)[0]
            stretch = one + (waves + eta * noise)
            grown = atom.growth[n] * np.float32(k)
            x, y = centre[0] + (a + grown) * stretch * cosines, centre[1] + (b + grown) * stretch * sines
        rings.append(np.stack([x, y], axis=1))
    assert rings[0].dtype == np.float32
    return rings


@pytest.mark.parametrize("rule", RULES)
def test_whole_atoms_are_pillows_given_the_formulas(rule):
    many, arguments = atoms(), batch()
    images = render_atoms(many, rule=rule, **arguments).numpy()
    for n, number in enumerate(arguments["draw_ids"].numpy().view(np.uint64)):
        rings = rings_by_numpy(many, n, rule, arguments["centres"][n].numpy(), number, arguments["seed"])
        drawn = words(arguments["seed"], Stream.LINE_COLOR, np.array([number]), blocks=6)[0, : len(rings)]
        greys = 3 + bounded(drawn, 248)
        np.testing.assert_array_equal(images[n], pillow([ring.tolist() for ring in rings], greys, 101))
        np.testing.assert_array_equal(images[n], ours(rings, greys, 101))


def test_ground_half_axes_and_light_greys_are_the_image_s_own():
    """On white, as RCDB: greys above 255 are white, as Pillow has them."""
    many, arguments = atoms(), batch() | {"greys": (150, 400)}
    own = torch.from_numpy(np.random.default_rng(3).uniform(5, 60, (6, 2)).astype(np.float32))
    for rule in RULES:
        images = render_atoms(many, rule=rule, **arguments, ground=255, axes=own).numpy()
        for n, number in enumerate(arguments["draw_ids"].numpy().view(np.uint64)):
            table = Atoms(**vars(many) | {"axes": own})
            rings = rings_by_numpy(table, n, rule, arguments["centres"][n].numpy(), number, arguments["seed"])
            drawn = words(arguments["seed"], Stream.LINE_COLOR, np.array([number]), blocks=6)[0, : len(rings)]
            greys = np.minimum(150 + bounded(drawn, 251), 255)
            np.testing.assert_array_equal(images[n], pillow([ring.tolist() for ring in rings], greys, 101, 255))
    image = Image.new("RGB", (3, 1))
    ImageDraw.Draw(image).line((0, 0, 2, 0), fill=(256, 256, 256))
    assert image.getpixel((1, 0)) == (255, 255, 255)


@pytest.mark.parametrize("rule", RULES)
def test_images_do_not_depend_on_their_batch(rule):
    many, arguments = atoms(), batch()
    images = render_atoms(many, rule=rule, **arguments)
    order = torch.tensor([4, 0, 5, 4])
    picked = arguments | {name: arguments[name][order] for name in ("which", "centres", "draw_ids")}
    assert torch.equal(render_atoms(many, rule=rule, **picked), images[order])
    none = arguments | {name: arguments[name][:0] for name in ("which", "centres", "draw_ids")}
    assert render_atoms(many, rule=rule, **none).shape == (0, 101, 101)


def test_seed_and_number_are_used_in_full():
    one, arguments = atoms(1), batch(1)
    image = render_atoms(one, rule="walk", **arguments)
    for bit in (0, 31, 32, 63):
        other = arguments | {"seed": arguments["seed"] ^ (1 << bit)}
        assert not torch.equal(render_atoms(one, rule="walk", **other), image)
        flipped = torch.from_numpy(arguments["draw_ids"].numpy() ^ np.array(1 << bit, np.uint64).view(np.int64))
        other = arguments | {"draw_ids": flipped}
        assert not torch.equal(render_atoms(one, rule="walk", **other), image)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"centres": torch.zeros((6, 2), dtype=torch.float64)}, "centres"),
        ({"centres": torch.zeros((5, 2))}, "centres"),
        ({"draw_ids": torch.zeros(6, dtype=torch.int32)}, "draw_ids"),
        ({"which": torch.tensor([0, 1, 2, 3, 4, 6])}, "which"),
        ({"which": torch.tensor([0, 1, 2, 3, 4, -1])}, "which"),
        ({"greys": (5, 4)}, "greys"),
        ({"greys": (0, MAX_GREY + 1)}, "greys"),
        ({"ground": 256}, "ground"),
        ({"ground": -1}, "ground"),
        ({"axes": torch.zeros((6, 2), dtype=torch.float64)}, "axes"),
        ({"axes": torch.zeros((6, 3))}, "axes"),
        ({"axes": torch.zeros((6, 2), device="meta")}, "axes"),
        ({"size": 0}, "size"),
        ({"size": 8193}, "size"),
        ({"rule": "paper"}, "rule"),
    ],
)
def test_wrong_arguments_are_named(changes, name):
    with pytest.raises(ValueError, match=f"^{name} must "):
        render_atoms(atoms(), **({"rule": "walk"} | batch() | changes))


@pytest.mark.parametrize("name", ["which", "centres", "draw_ids"])
def test_a_tensor_on_another_device_is_refused(name):
    """A GPU would take the address for one of its own memory."""
    elsewhere = batch() | {name: batch()[name].to("meta")}
    with pytest.raises(ValueError, match=f"^{name} must be on cpu, as the atoms are, got meta"):
        render_atoms(atoms(), rule="walk", **elsewhere)


@pytest.mark.parametrize("name", ["vertices", "axes", "offsets", "cosines", "sines"])
def test_atoms_are_on_one_device(name):
    values = dict(vars(atoms()))
    with pytest.raises(ValueError, match=f"^{name} must be on cpu"):
        Atoms(**values | {name: values[name].to("meta")})


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"rings": np.ones(5, np.int32)}, "vertices"),
        ({"rings": np.zeros(6, np.int32)}, "rings"),
        ({"rings": np.full(6, 2049, np.int32)}, "rings"),
        ({"vertices": np.full(6, 2, np.int32)}, "vertices"),
        ({"vertices": np.full(6, 91, np.int32)}, "most_vertices"),
        ({"frequencies": np.full((6, 2), -1, np.int32)}, "frequencies"),
        ({"frequencies": np.full((6, 2), 2**16 + 1, np.int32)}, "frequencies"),
        ({"axes": np.ones((6, 2))}, "axes"),
        ({"offsets": np.full(6, 10**6)}, "offsets"),
        ({"offsets": np.full(6, -1)}, "offsets"),
        ({"sines": np.zeros(3, np.float32)}, "sines"),
    ],
)
def test_atoms_that_would_read_beyond_their_tables_are_refused(changes, name):
    with pytest.raises(ValueError, match=name):
        atoms(**changes)
