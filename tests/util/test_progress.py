"""Progress bars: what they count, that they reach their end, and that they appear late and on a terminal alone."""

import pytest

import gpurender as gr
from gpurender.benchmark import timing
from gpurender.commands.gallery import cards
from gpurender.commands.image_folder.verify import verify
from gpurender.commands.web_dataset.verify import verify as verify_tars
from gpurender.runtime.devices import resolve
from gpurender.sheet import contact_sheet
from gpurender.util import progress

ATOMS = gr.VisualAtom(classes=3, instances=4, image_size=32, orbits=(1, 3), quantization=(5, 9))


class Bar:
    """As much of tqdm as the library uses."""

    def __init__(self, **options):
        self.options, self.n, self.total = options, 0, options.get("total")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True

    def update(self, count=1):
        self.n += count

    def refresh(self):
        pass

    def set_postfix(self, **_):
        pass

    def set_postfix_str(self, *_, **__):
        pass

    def close(self):
        self.closed = True


@pytest.fixture
def bars(monkeypatch, tmp_path):
    """The bars of a test, and a cache of its own: what is found there needs no search."""
    monkeypatch.setenv("GPURENDER_CACHE_DIR", str(tmp_path / "cache"))
    made = []
    monkeypatch.setattr(progress, "_bar", lambda: lambda **options: made.append(Bar(**options)) or made[-1])
    return made


def told(bar):
    return bar.options["desc"], bar.options["unit"], bar.total, bar.n


def test_a_sheet_counts_its_pictures(bars):
    contact_sheet(gr.Renderer(ATOMS), 2, 3, cell=16)
    assert [told(bar) for bar in bars] == [("preview", "image", 6, 6)]


def test_an_export_counts_all_images_and_a_verification_too(bars, tmp_path):
    folder = tmp_path / "atoms"
    gr.export(ATOMS, folder, per_class=2)
    gr.export(ATOMS, folder)
    verify(ATOMS, folder)
    assert [told(bar) for bar in bars] == [
        (f"export to {folder}", "image", 6, 6),
        (f"export to {folder}", "image", 12, 12),
        (f"verify {folder}", "image", 12, 12),
    ]


def test_an_export_in_tar_files_counts_all_images_and_a_verification_too(bars, tmp_path):
    gr.export(ATOMS, tmp_path, format="webdataset", per_tar=5, shard="1/2")
    gr.export(ATOMS, tmp_path, format="webdataset", per_tar=5)
    verify_tars(ATOMS, tmp_path, per_tar=5)
    assert [told(bar) for bar in bars] == [
        (f"export to {tmp_path}", "image", 8, 8),
        (f"export to {tmp_path}", "image", 12, 12),
        (f"verify {tmp_path}", "image", 12, 12),
    ]


def test_a_gallery_counts_its_presets(bars, monkeypatch):
    monkeypatch.setattr(cards, "presets", lambda: ["visualatom-lpce-1k", "visualatom-1k"])
    assert [card.name for card in cards.cards(1, None, "cpu")] == ["visualatom-lpce-1k", "visualatom-1k"]
    assert told(bars[0]) == ("gallery", "preset", 2, 2)


def test_a_search_of_perturbations_counts_its_classes(bars):
    gr.Renderer(gr.OnePFrac(classes=30, points=300, image_size=24, seed=3))(range(30))
    assert bars
    assert sum(bar.n for bar in bars) == 30
    assert {(bar.options["desc"], bar.options["unit"], bar.total - bar.n) for bar in bars} == {
        ("1p-frac: fill rates", "class", 0)
    }


def test_a_search_of_categories_counts_what_it_finds(bars):
    gr.Renderer(gr.FractalDB(classes=3, points=300, image_size=24, seed=1, fill_rate=0.01))([0])
    assert [told(bar)[1:] for bar in bars] == [("category", 3, 3)]


def test_a_measurement_counts_batches_of_the_warm_up_and_then_seconds(bars):
    timing.time_batches(lambda: [0], 0.2, resolve("cpu"), "raster")
    warm_up, measured = bars
    assert told(warm_up)[:3] == ("raster: warm-up", "batch", None)
    assert warm_up.n >= 1
    assert measured.options["desc"] == "raster"
    assert measured.total == 0.2
    assert measured.n == pytest.approx(0.2, rel=0.1)


def test_bars_appear_after_two_seconds_and_on_a_terminal_alone(bars):
    """``disable=None`` is tqdm's word for the latter."""
    progress.progress(total=3, desc="d", unit="u")
    progress.progress(delay=0)
    assert [bar.options["delay"] for bar in bars] == [2, 0]
    assert all(bar.options["disable"] is None and bar.options["miniters"] == 1 for bar in bars)
