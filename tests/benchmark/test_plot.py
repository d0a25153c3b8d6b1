"""The picture of results: its bars are the rows of the files, each once, in order and to scale."""

import itertools
import json
import sys

import pytest

from gpurender.benchmark import plot

pytest.importorskip("matplotlib", reason="needs matplotlib")
from matplotlib.colors import to_hex
from matplotlib.figure import Figure


def row(recipe, stage, median, device="cpu", **more):
    rates = {"median": median, "p5": median - 1.0, "p95": median + 3.0}
    return {"recipe": recipe, "stage": stage, "device": device, "batch_size": 64, "images_per_second": rates, **more}


ROWS = [
    row("b", "loader", 10.0),
    row("b", "raster", 40.0),
    row("a", "train", 2000.0, model="vit", augment="deit"),
    row("a", "loader", 7.0, augment="crop"),
    row("a", "raster", 90.0, cached=True),
    row("a", "raster", 30.0, cached=False),
]


def test_rows_of_a_stage_are_told_apart():
    rows = [
        {"augment": policy, "cached": kept, **model}
        for policy in ("crop", "deit")
        for kept in (True, False)
        for model in ({}, {"model": "vit"})
    ]
    assert [plot._label(row) for row in rows] == [
        ", kept", " vit, kept", ", rendered", " vit, rendered",
        ", deit, kept", " vit, deit, kept", ", deit, rendered", " vit, deit, rendered",
    ]  # fmt: skip
    assert plot._label({"augment": "deit"}) == ", deit"
    assert plot._label({}) == ""


@pytest.fixture
def results(tmp_path):
    here = {"cpu": "Chip", "threads": 2, "gpu": "Card"}
    (tmp_path / "one.json").write_text(json.dumps({"environment": here, "rows": ROWS[:3]}))
    (tmp_path / "two.json").write_text(json.dumps({"environment": here, "rows": ROWS[3:]}))
    (tmp_path / "three.json").write_text(json.dumps({"environment": here, "rows": [row("a", "raster", 5.0, "cuda:0")]}))
    (tmp_path / "fuzz.json").write_text(json.dumps({"fuzz": 1}))
    return tmp_path


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved meanwhile."""
    figures = []
    save = Figure.savefig

    def saved(self, *arguments, **keywords):
        figures.append(self)
        return save(self, *arguments, **keywords)

    monkeypatch.setattr(Figure, "savefig", saved)
    return figures


def test_every_row_is_a_bar(results, drawn, tmp_path):
    out = tmp_path / "rates.svg"
    assert plot.plot([str(results)], str(out)) == 7
    card, chip = drawn[0].axes
    assert (card.get_title(loc="left"), chip.get_title(loc="left")) == (
        "gpurender on Card",
        "gpurender on Chip, 2 threads",
    )
    assert [label.get_text() for label in chip.get_yticklabels()] == [
        "a: raster, kept, batch 64",
        "a: raster, rendered, batch 64",
        "a: loader, batch 64",
        "a: train vit, deit, batch 64",
        "b: raster, batch 64",
        "b: loader, batch 64",
    ]
    medians = [90.0, 30.0, 7.0, 2000.0, 40.0, 10.0]
    assert [bar.get_width() for bar in chip.patches] == medians
    colors = [to_hex(bar.get_facecolor()) for bar in chip.patches]
    assert colors == [plot.STAGES[stage] for stage in ("raster", "raster", "loader", "train", "raster", "loader")]
    (errors,) = chip.collections
    assert [tuple(line[:, 0]) for line in errors.get_segments()] == [(median - 1, median + 3) for median in medians]
    assert [text.get_text().strip() for text in chip.texts] == ["90", "30", "7", "2,000", "40", "10"]
    assert [text.get_position()[0] for text in chip.texts] == [median + 3 for median in medians]
    assert chip.get_xlabel().startswith("images per second")
    assert not card.get_xlabel()


def test_recipes_stand_apart_and_from_top_to_bottom(results, drawn, tmp_path):
    plot.plot([str(results)], str(tmp_path / "rates.svg"))
    chip = drawn[0].axes[1]
    centres = [bar.get_y() + bar.get_height() / 2 for bar in chip.patches]
    gaps = [round(after - before, 6) for before, after in itertools.pairwise(centres)]
    assert gaps[:3] == [1.0] * 3
    assert gaps[3] > gaps[4] == 1.0
    assert list(chip.get_yticks()) == pytest.approx(centres)
    assert chip.yaxis_inverted()
    assert all(bar.get_height() < 1.0 for bar in chip.patches)


def test_files_and_folders_may_be_named(results, tmp_path):
    assert plot.plot([str(results / "one.json"), str(results / "two.json")], str(tmp_path / "rates.PNG")) == 6
    with pytest.raises(ValueError, match=r"^no bench results \(with rows\) in .*fuzz\.json$"):
        plot.plot([str(results / "fuzz.json")], str(tmp_path / "rates.png"))


@pytest.mark.parametrize(("name", "form"), [("r.png", "png"), ("r.SVG", "svg"), ("r.pdf", "pdf")])
def test_a_picture_is_as_high_as_it_has_bars(results, monkeypatch, tmp_path, name, form):
    """Two panels of one and six bars, and two lines each."""
    saved = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **options: saved.append((figure, options)))
    plot.plot([str(results)], str(tmp_path / name))
    [(figure, options)] = saved
    assert options == {"format": form, "dpi": 150}
    assert figure.get_size_inches().tolist() == pytest.approx([9, 0.4 + 0.32 * (2 + 1 + 2 + 6)])
    assert figure.axes[0].get_gridspec().get_height_ratios() == [3, 8]
    assert type(figure.get_layout_engine()).__name__ == "ConstrainedLayoutEngine"


def test_bars_have_whiskers_numbers_and_room(results, drawn, tmp_path):
    plot.plot([str(results)], str(tmp_path / "rates.svg"))
    chip = drawn[0].axes[1]
    assert chip.margins() == (0.12, 0.02)
    assert chip.xaxis.get_major_formatter()(1_234_567) == "1,234,567"
    assert not chip.spines["top"].get_visible()
    assert not chip.spines["right"].get_visible()
    assert chip.spines["left"].get_visible()
    assert {text.get_va() for text in chip.texts} == {"center"}
    assert {text.get_text()[:2] for text in chip.texts} == {"  "}
    assert [text.get_position()[1] for text in chip.texts] == pytest.approx(list(chip.get_yticks()))
    assert list(chip.get_yticks()) == pytest.approx([1.0, 2.0, 3.0, 4.0, 5.6, 6.6])
    assert {round(bar.get_height(), 9) for bar in chip.patches} == {0.85}
    [errors] = [each for each in chip.containers if type(each).__name__ == "ErrorbarContainer"]
    _, caps, [whiskers] = errors.lines
    assert {cap.get_markersize() for cap in caps} == {4}
    assert whiskers.get_linewidth().tolist() == [1.0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "JSONDecodeError: "), ("3", "TypeError: "), ('{"rows": [{}]}', "KeyError: 'environment'"),
        ('{"rows": 3, "environment": {"cpu": 1, "threads": 2}}', "TypeError: "), (None, "No such file or directory"),
    ],
)  # fmt: skip
def test_what_is_no_result_says_why(tmp_path, text, said):
    path = tmp_path / "r.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=rf"^{path} is not a bench result: {said}"):
        plot.plot([str(path)], str(tmp_path / "rates.png"))


def test_a_folder_that_is_not_there_is_refused_before_results_are_read(tmp_path):
    with pytest.raises(ValueError, match=r"^cannot write '.*none/rates\.png': there is no folder"):
        plot.plot([str(tmp_path / "nothing.json")], str(tmp_path / "none" / "rates.png"))


def test_without_matplotlib_its_installation_is_named(results, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(RuntimeError, match=r"^plotting needs matplotlib: pip install 'gpurender\[plot\]'$"):
        plot.plot([str(results)], str(tmp_path / "rates.png"))
