"""Contact sheets: what they show, where, how bright, and what notebooks make of them."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

import gpurender as gr
from gpurender import sheet
from gpurender.augment import Crop, DeiT, TwoViews
from gpurender.util import disk_cache
from tests.golden import TRIANGLE
from tests.support.bars import Bars

SMALL = gr.FractalDB(categories=[TRIANGLE] * 5, points=1000, image_size=32, patches=2, weights=[[1] * 6])
STEP = 24 + sheet.GAP  # of a sheet with cells of 24


def contact_sheet(recipe, *size, **options):
    return sheet.contact_sheet(gr.Renderer(recipe), *size, **options)


def cells(shown, side=24):
    """The pictures of a sheet, ``[rows, cols, side, side, 3]``, and the lines above them."""
    pixels, step = np.asarray(shown)[sheet.GAP :, sheet.GAP :], side + sheet.GAP
    rows, cols = pixels.shape[0] // (step + sheet.CAPTION), pixels.shape[1] // step
    blocks = pixels.reshape(rows, step + sheet.CAPTION, cols, step, 3).swapaxes(1, 2)
    return blocks[:, :, sheet.CAPTION : -sheet.GAP, : -sheet.GAP], blocks[:, :, : sheet.CAPTION]


def test_classes_and_instances_lie_far_apart_and_then_in_further_epochs():
    recipe = gr.VisualAtom(classes=10, instances=5, image_size=32)
    grid = sheet._grid(recipe, np.array([0, 3, 6, 9]), 3)
    assert grid.samples.tolist() == [[0, 2, 4], [15, 17, 19], [30, 32, 34], [45, 47, 49]]
    assert not grid.epochs.any()
    grid = sheet._grid(gr.OnePFrac(classes=3, instances=2, image_size=32), np.array([0, 2]), 4)
    assert grid.samples.tolist() == [[0, 1, 0, 1], [4, 5, 4, 5]]
    assert grid.epochs.tolist() == [[0, 0, 1, 1]] * 2


def test_a_picture_is_the_canvas_as_pillow_resizes_it(monkeypatch):
    monkeypatch.setattr(sheet, "BRIGHTEST", 1.0)
    with torch.device("meta"):  # whatever torch's default is
        pictures, _ = cells(contact_sheet(SMALL, 2, 3, cell=24))
    canvases = gr.Renderer(SMALL)([0, 3, 7, 32, 35, 39])[:, 0].numpy()
    for picture, canvas in zip(pictures.reshape(6, 24, 24, 3), canvases, strict=True):
        resized = np.asarray(Image.fromarray(canvas).resize((24, 24), Image.Resampling.BICUBIC))
        assert np.array_equal(picture, np.stack([resized] * 3, -1))


@pytest.mark.parametrize(
    ("recipe", "one_per_cell"),
    [
        (gr.OnePFrac(classes=9), True),  # one image a class
        (gr.OnePFrac(classes=9, instances=4), True),  # only the masks differ
        (gr.OnePFrac(classes=9, instances=4, variant="paper"), True),  # the points, too
        (gr.VisualAtom(classes=9, instances=4), False),
        (gr.VisualAtom(classes=9, instances=1), True),
        (gr.FractalDB(categories=[TRIANGLE] * 9), False),  # weights
        (gr.FractalDB(categories=[TRIANGLE] * 9, weights=[[1] * 6], flips=1), True),  # patches only
        (gr.FractalDB(categories=[TRIANGLE] * 9, weights=[[1] * 6]), False),  # flips
    ],
)
def test_every_cell_is_a_class_where_instances_look_alike(recipe, one_per_cell, monkeypatch):
    shown = []
    monkeypatch.setattr(sheet, "_pictures", lambda _, grid, *__: shown.append(grid) or np.zeros((8, 9, 9, 3), np.uint8))
    contact_sheet(recipe, 2, 4, cell=9)
    classes = shown[0].samples // recipe.instances
    assert classes.tolist() == ([[0], [1], [2], [3], [4], [5], [6], [8]] if one_per_cell else [[0] * 4, [8] * 4])


def test_a_name_is_above_each_row_or_each_cell():
    def inked(lines):
        return (lines < 200).any((2, 3, 4)).tolist()

    _, lines = cells(contact_sheet(SMALL, 2, 4, cell=24))
    assert [row[0] for row in inked(lines)] == [True, True]
    assert [row[3] for row in inked(lines)] == [False, False]  # the names of rows are short
    alike = gr.FractalDB(categories=[TRIANGLE] * 5, image_size=32, points=1000, weights=[[1] * 6], flips=1, patches=1)
    for side in (48, 96):  # the name alone, and "class" before it
        pictures, lines = cells(contact_sheet(alike, 2, 3, cell=side), side)
        assert inked(lines) == [[True] * 3, [True, True, False]]
        assert (pictures[1, 2] == sheet.PAPER).all()  # five classes, six cells
        assert len({lines[i // 3, i % 3].tobytes() for i in range(5)}) == 5


def test_rows_follow_the_chosen_classes(monkeypatch):
    monkeypatch.setattr(sheet, "BRIGHTEST", 1.0)
    assert contact_sheet(SMALL, cols=1, cell=24, classes=[4, 1, 2]).height == sheet.GAP + 3 * (STEP + sheet.CAPTION)
    one, _ = cells(contact_sheet(SMALL, cols=2, cell=24, classes=[3]))
    every, _ = cells(contact_sheet(SMALL, 5, cols=2, cell=24))
    assert np.array_equal(one[0], every[3])
    for same in (3, "3", np.array([3])):
        assert np.array_equal(cells(contact_sheet(SMALL, cols=2, cell=24, classes=same))[0], one)
    with pytest.raises(ValueError, match=r"^classes must be an integer in \[0, 4\], got 5"):
        contact_sheet(SMALL, classes=[5])
    with pytest.raises(ValueError, match=r"^classes must be one or more integers in \[0, 4\], got \[\]"):
        contact_sheet(SMALL, classes=[])
    tail = gr.VisualAtom(classes=3, instances=4, image_size=32, class_prior=[1.0, 0.0, 1.0])
    with pytest.raises(ValueError, match=r"^classes must have images, and class 1 of this recipe has none"):
        contact_sheet(tail, classes=[0, 1])
    many = gr.VisualAtom(classes=100, instances=4, image_size=32)
    with pytest.raises(ValueError, match=r"^classes must be at most 64 without rows, got 65"):
        contact_sheet(many, classes=range(65), cols=1)


@pytest.mark.parametrize("cell", [0, 65536, 1.5, "24", True])
def test_a_wrong_cell_is_refused_by_name(cell):
    with pytest.raises((TypeError, ValueError), match=r"^cell must be an integer in \[1, 65535\], got "):
        contact_sheet(SMALL, cell=cell)


# ------------------------------------------------------------------------------------------------------------ mixing


GRIDS = [(4, 6, 6), (24, 1, 6), (12, 1, 6), (11, 1, 6), (2, 6, 6), (30, 1, 5), (64, 64, 64), (3, 8, 8)]


@pytest.mark.parametrize(
    ("classes", "instances", "cols"), [*GRIDS, (5, 1, 5), (3, 1, 3), (4, 1, 4), (4, 1, 1), (7, 2, 2)]
)
def test_partners_are_of_other_classes_and_never_mutual(classes, instances, cols):
    partners = sheet._partners(classes, instances, cols)
    numbers = np.arange(classes * instances)
    assert sorted(partners) == numbers.tolist()
    assert (partners // instances != numbers // instances).all()
    if classes > 2:
        assert (partners[partners] != numbers).all()


@pytest.mark.parametrize(("classes", "instances", "cols"), GRIDS)
def test_partners_are_no_neighbours(classes, instances, cols):
    partners, numbers = sheet._partners(classes, instances, cols), np.arange(classes * instances)
    down, across = abs(partners // cols - numbers // cols), abs(partners % cols - numbers % cols)
    assert (np.maximum(down, across) > 1).all()


def test_the_smallest_sheets_have_partners():
    assert sheet._partners(1, 1, 1).tolist() == [0]
    assert sheet._partners(2, 1, 2).tolist() == sheet._partners(2, 1, 1).tolist() == [1, 0]
    assert sheet._partners(1, 4, 4).tolist() == [2, 3, 0, 1]


def test_a_picture_is_mixed_with_its_partner_alone(monkeypatch):
    """As the policy mixes a batch of the two."""
    monkeypatch.setattr(sheet, "BRIGHTEST", 1.0)
    policy = DeiT(re_prob=0.0, cutmix_alpha=0.0, auto_augment=None, color_jitter=None)
    pictures, _ = cells(contact_sheet(SMALL, 3, 2, augment=policy, cell=24))
    samples = sheet._grid(SMALL, np.array([0, 2, 4]), 2).samples.reshape(-1)
    for number, partner in enumerate(sheet._partners(3, 2, 2)):
        pair = samples[[number, partner]]
        drawn = policy.draw(pair, canvas_size=32, image_size=24)
        assert 0 < drawn["mix_weights"][0] < 1
        image = policy.apply(gr.Renderer(SMALL)(pair), drawn, image_size=24)[0]
        levels = ((image + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)
        assert np.array_equal(pictures.reshape(6, 24, 24, 3)[number], levels.numpy())


# -------------------------------------------------------------------------------------------------------- brightness


def test_a_dark_sheet_is_brightened_by_one_factor():
    recipe = gr.VisualAtom(classes=4, instances=4, image_size=64)
    dark = np.full((3, 32, 32, 3), 20, np.uint8)
    dark[1] = 10
    bright = sheet._brightened(dark)
    assert (bright[0] == 80).all()  # four times, the most
    assert (bright[1] == 40).all()
    assert (sheet._brightened(np.full((1, 32, 32, 3), 100, np.uint8)) == 150).all()
    for level in (0, 200, 255):  # nothing is ever darkened
        assert (sheet._brightened(np.full((1, 32, 32, 3), level, np.uint8)) == level).all()
    before = gr.Renderer(recipe)(range(16))
    contact_sheet(recipe, 2, 2, cell=24)
    assert torch.equal(gr.Renderer(recipe)(range(16)), before)


def test_a_thumbnail_of_1p_frac_is_seen():
    """Its lit pixels are 127 of 255 and mostly single ones: half the sheet was darker than 30 of 255."""
    shown = contact_sheet(gr.OnePFrac(classes=6), 2, 3, cell=96)
    pictures = np.asarray(shown.convert("L").resize((shown.width // 4, shown.height // 4), Image.Resampling.BOX))
    middle = pictures[8:24]
    assert np.percentile(middle, 75) > 60


# --------------------------------------------------------------------------------------------------------- notebooks


def opened(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@pytest.mark.parametrize("make", [lambda r: r, gr.Renderer, gr.Dataset, lambda r: gr.DataLoader(r, device="cpu")])
def test_a_notebook_shows_a_small_sheet(make):
    shown = make(SMALL)._repr_png_()
    assert shown.startswith(b"\x89PNG")
    assert np.array_equal(opened(shown), np.asarray(contact_sheet(SMALL, 2, 6, cell=112)))


def test_a_notebook_shows_what_the_loader_makes():
    plain = opened(gr.Dataset(SMALL)._repr_png_())
    loader = gr.DataLoader(SMALL, augment=DeiT(), device="cpu", shuffle=True)
    before = loader.state_dict()
    assert np.array_equal(opened(loader._repr_png_()), np.asarray(contact_sheet(SMALL, 2, 6, augment=DeiT(), cell=112)))
    assert loader.state_dict() == before
    assert np.array_equal(opened(gr.DataLoader(SMALL, augment=TwoViews(Crop()), device="cpu")._repr_png_()), plain)


def test_a_notebook_never_starts_a_search(tmp_path, monkeypatch):
    monkeypatch.setenv("GPURENDER_CACHE_DIR", str(tmp_path))
    unknown = gr.FractalDB(classes=3, seed=99)
    mixed = gr.Mixture({SMALL: 1, unknown: 1})
    for recipe in (unknown, mixed):
        for make in (lambda r: r, gr.Renderer, gr.Dataset, lambda r: gr.DataLoader(r, device="cpu")):
            assert make(recipe)._repr_png_() is None
    assert list(tmp_path.iterdir()) == []
    assert not gr.recipe("fractaldb-1k").needs_search()  # shipped
    disk_cache.save("fractaldb", unknown._search_key, [1, 2])
    assert unknown.needs_search()
    disk_cache.save("fractaldb", unknown._search_key, [1, 2, 5])
    assert not unknown.needs_search()
    assert mixed._repr_png_().startswith(b"\x89PNG")


def test_a_notebook_never_waits_for_huge_canvases(monkeypatch):
    monkeypatch.setattr(gr.Renderer, "render", lambda *_: pytest.fail("rendered"))
    for recipe in (gr.OnePFrac(image_size=2049), gr.VisualAtom(image_size=8192)):
        for make in (lambda r: r, gr.Renderer, gr.Dataset, lambda r: gr.DataLoader(r, device="cpu")):
            assert make(recipe)._repr_png_() is None


def test_ipython_takes_the_picture():
    formatters = pytest.importorskip("IPython.core.formatters")
    shown, _ = formatters.DisplayFormatter().format(SMALL)
    assert opened(shown["image/png"]).shape[2] == 3
    assert shown["text/plain"].startswith("FractalDB(")


@pytest.mark.parametrize(
    ("classes", "instances", "down", "across"), [(4, 6, 3, 3), (5, 3, 3, 1), (3, 8, 2, 4), (2, 6, 1, 3), (1, 5, 0, 2)]
)
def test_instances_are_mixed_with_those_half_the_rows_and_half_the_columns_away(classes, instances, down, across):
    """One row more where pictures would pair up."""
    wanted = [
        (row + down) % classes * instances + (col + across) % instances
        for row in range(classes)
        for col in range(instances)
    ]
    assert sheet._partners(classes, instances, 6).tolist() == wanted


@pytest.mark.parametrize(("total", "cols", "shift"), [(10, 4, 6), (12, 4, 7), (9, 3, 4), (20, 5, 12), (2, 2, 1)])
def test_one_instance_per_class_is_mixed_with_that_half_the_rows_down(total, cols, shift):
    """Rounded down: of ceil(total / cols) rows, half, and half the columns; one more if pictures would pair up."""
    assert sheet._partners(total, 1, cols).tolist() == [(i + shift) % total for i in range(total)]


# ------------------------------------------------------------------------------------------------------------- layout


def test_a_sheet_is_pictures_between_gaps_of_4_under_lines_of_16():
    pictures = np.arange(4 * 48 * 48 * 3).reshape(4, 48, 48, 3).astype(np.uint8)
    for names, captions in ((["a", "b", "c", "d"], [True] * 4), (["a", "b"], [True, False] * 2)):
        shown = np.asarray(sheet._drawn(pictures, names, 2)).copy()
        assert shown.shape == (4 + 2 * (16 + 48 + 4), 4 + 2 * (48 + 4), 3)
        inked = []
        for number in range(4):
            left, top = 4 + number % 2 * 52, 4 + number // 2 * 68
            assert np.array_equal(shown[top + 16 :, left:][:48, :48], pictures[number])
            shown[top + 16 :, left:][:48, :48] = 255
            inked.append(bool((shown[top:, left:][:16, :48] < 255).any()))
        assert inked == captions
        lines = np.concatenate([np.arange(4, 20), np.arange(72, 88)])
        assert (np.delete(shown, lines, 0) == 255).all()
    three = sheet._drawn(pictures[:3], ["a", "b", "c"], 2)
    assert three.size == (108, 140)  # two rows, the last cell empty


def test_a_name_stands_after_the_word_class_where_there_is_room(monkeypatch):
    drawn = []

    class Draw:
        def __init__(self, line):
            self.line = line

        def text(self, *given, **more):
            drawn.append((self.line.size, self.line.getpixel((0, 0)), given, more))

    font = type("Font", (), {"getlength": lambda self, text: 50.0 if text == "class n1" else 0.0})()
    monkeypatch.setattr(sheet, "font", lambda: font)
    monkeypatch.setattr(sheet.ImageDraw, "Draw", Draw)
    for width in (50, 51):
        assert sheet._caption("n1", width).mode == "L"
    same = {"fill": 64, "font": font}
    assert drawn == [((50, 16), 255, ((1, 1), "n1"), same), ((51, 16), 255, ((1, 1), "class n1"), same)]


@pytest.mark.parametrize("error", [None, TypeError, ImportError])
def test_the_font_is_pillow_s_of_12_pixels_where_it_can_be_scaled(monkeypatch, error):
    def load(*size):
        if size and error is not None:
            raise error
        return size

    monkeypatch.setattr(sheet.ImageFont, "load_default", load)
    assert sheet.font() == ((12,) if error is None else ())


def shown_grids(monkeypatch):
    """Grids and columns of the sheets that are asked for from now on; nothing is rendered."""
    grids = []

    def pictures(renderer, grid, cols, augment, cell):
        grids.append((grid, cols))
        return np.zeros((grid.samples.size, 9, 9, 3), np.uint8)

    monkeypatch.setattr(sheet, "_pictures", pictures)
    return grids


def test_how_many_rows_there_are(monkeypatch):
    grids = shown_grids(monkeypatch)
    many = gr.VisualAtom(classes=100, instances=4, image_size=32)
    contact_sheet(many, cell=9)
    contact_sheet(many, cell=9, classes=range(64), cols=1)
    contact_sheet(many, cell=9, classes=range(7), rows=3)
    contact_sheet(gr.VisualAtom(classes=3, instances=1, image_size=32), cell=9)
    assert [(len(grid.classes), grid.samples.shape, cols) for grid, cols in grids] == [
        (4, (4, 6), 6), (64, (64, 1), 1), (3, (3, 6), 6), (3, (3, 1), 3),
    ]  # fmt: skip
    assert grids[2][0].classes.tolist() == [0, 3, 6]
    single = gr.VisualAtom(classes=500, instances=1, image_size=32)
    contact_sheet(single, cell=9, classes=range(13), cols=6)
    assert grids[4][0].classes.tolist() == list(range(13))  # three rows
    with pytest.raises(ValueError, match=r"^classes must be at most 384 without rows, got 385"):
        contact_sheet(single, classes=range(385), cols=6)


class Fake:
    """Renders what it is told to, by sample, and notes what it is asked for."""

    device = torch.device("cpu")

    def __init__(self, recipe, canvases=None):
        self.recipe, self.canvases, self.asked = recipe, canvases, []

    def __call__(self, samples, epoch=0):
        self.asked.append((np.asarray(samples).tolist(), epoch))
        if self.canvases is None:
            return torch.tensor([[[[sample + 100 * epoch]]] for sample in np.asarray(samples).tolist()])
        return torch.stack([self.canvases[sample] for sample in np.asarray(samples).tolist()])


def test_instances_look_alike_from_a_correlation_of_98_hundredths():
    """Of the means of 16 x 16 blocks; details within a block do not count."""
    recipe = gr.VisualAtom(classes=2, instances=2, image_size=32)
    x, y = torch.zeros(256), torch.zeros(256)
    x[:128], y[::2] = 1.0, 1.0  # without correlation
    x, y = (2 * each - 1 for each in (x, y))

    def canvas(correlation):
        blocks = correlation * x + (1 - correlation**2) ** 0.5 * y
        whole = (blocks.view(16, 16) * 10 + 100).repeat_interleave(2, 0).repeat_interleave(2, 1)
        whole[::2, ::2] += 5.0
        whole[1::2, 1::2] -= 5.0
        return whole[None]

    for correlation, alike in ((0.985, True), (0.975, False)):
        renderer = Fake(recipe, [canvas(1.0), canvas(correlation), canvas(1.0), canvas(correlation)])
        assert sheet._look_alike(renderer, np.array([0, 1]), 2) == alike
    odd = Fake(recipe, [canvas(1.0), canvas(1.0), canvas(1.0), canvas(0.5)])
    assert not sheet._look_alike(odd, np.array([0, 1]), 2)
    assert not sheet._look_alike(Fake(recipe, [torch.zeros(1, 32, 32)] * 4), np.array([0, 1]), 2)


@pytest.mark.parametrize(("cols", "instances"), [(2, 2), (6, 6), (7, 6)])
def test_at_most_six_instances_of_the_first_and_the_middle_class_are_compared(monkeypatch, cols, instances):
    grids, asked = shown_grids(monkeypatch), []
    monkeypatch.setattr(
        sheet, "_look_alike", lambda _, classes, count: asked.append((classes.tolist(), count)) or False
    )
    contact_sheet(gr.VisualAtom(classes=7, instances=9, image_size=32), cols=cols, cell=9)
    assert asked == [([0, 3], instances)]
    assert len(grids) == 1


def test_canvases_of_several_epochs_come_in_their_own_order():
    renderer = Fake(SMALL)
    found = sheet._canvases(renderer, np.array([4, 1, 3, 2, 5]), np.array([2, 0, 2, 0, 1]))
    assert found.flatten().tolist() == [204, 1, 203, 2, 105]
    assert renderer.asked == [([1, 2], 0), ([5], 1), ([4, 3], 2)]


def test_a_policy_is_asked_with_the_numbers_of_the_epochs(monkeypatch):
    """A picture of a later epoch has other randomness; levels are what the policy's mean and deviation say."""
    asked = []

    class Noted(Crop):
        def draw(self, numbers, **more):
            asked.append((np.asarray(numbers).tolist(), more))
            return super().draw(numbers, **more)

        def apply(self, canvases, parameters, **more):
            asked.append((tuple(canvases.shape), more))
            return torch.tensor([0.0, 1.0, -9.0, 9.0]).view(1, 1, 2, 2).expand(2, 3, 2, 2)

    policy = Noted(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 0.125))
    recipe = gr.VisualAtom(classes=3, instances=4, image_size=32)
    found = sheet._augmented(gr.Renderer(recipe), np.array([5, 7]), np.array([0, 2]), policy, 2)
    size = {"canvas_size": 32, "image_size": 2}
    assert asked == [([5, 7 + 2 * 12], size), ((2, 1, 32, 32), {"image_size": 2})]
    assert found.shape == (2, 2, 2, 3)
    assert found.dtype == np.uint8
    assert found[0].reshape(4, 3).tolist() == [[128, 64, 0], [255, 128, 32], [0, 0, 0], [255, 255, 255]]


def test_brightness_is_that_of_the_98th_percentile_of_blocks():
    """One hundred pictures of 256 blocks: of 2 percent and more the level counts, of less it does not."""
    dark = np.full((100, 16, 16, 3), 50, np.uint8)
    for lit, level in ((1, 150), (3, 75)):  # 50 becomes 150; 100 becomes 150, and so 50 is 75
        dark[:lit] = 100
        assert sheet._brightened(dark)[-1, 0, 0, 0] == level
    dark[:] = 0
    dark[50:] = 1
    assert sheet._brightened(dark)[-1, 0, 0, 0] == 4


def test_progress_is_told_picture_by_picture(monkeypatch):
    bars = Bars()
    monkeypatch.setattr(sheet, "progress", bars)
    contact_sheet(SMALL, 2, 3, cell=9)
    assert bars.made == [{"total": 6, "desc": "preview", "unit": "image"}]
    assert bars.steps == [1] * 6


def test_the_largest_canvas_for_a_notebook(monkeypatch):
    asked = []
    monkeypatch.setattr(
        sheet, "contact_sheet", lambda *given, **more: asked.append((given[1:], more)) or Image.new("RGB", (1, 1))
    )
    assert sheet.notebook_png(gr.Renderer(gr.VisualAtom(classes=2, image_size=2048))).startswith(b"\x89PNG")
    assert asked == [((2, 6), {"augment": None, "cell": 112})]
