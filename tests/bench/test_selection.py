"""The study of what a data server selects: its cells, its table, and one of each kind from pool to figure."""

import json

import numpy as np
import pytest
from PIL import Image

from bench import selection
from bench.selection import Cell

pytest.importorskip("timm", reason="needs timm")
pytest.importorskip("accelerate", reason="needs accelerate")
pytest.importorskip("sklearn", reason="needs scikit-learn")


def test_cells_are_distinct_and_only_a_server_s_selection_knows_its_client():
    cells = selection.cells()
    assert len({cell.key for cell in cells}) == len(cells) == 3 * 5 * (2 + 2 * 5)
    shared = {cell.trained for cell in cells if cell.selection not in selection.SERVERS}
    assert len(shared) == 3 * (2 + 2)
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)  # whole seeds first


def test_the_table_has_the_means_of_whole_seeds(monkeypatch):
    monkeypatch.setattr(selection, "SEEDS", (0, 1))
    rows = [
        {"selection": cell.selection, "share": cell.share, "client": cell.client, "seed": cell.seed,
         "accuracy": 0.5 + 0.1 * cell.seed + 0.2 * (cell.selection == "all")}
        for cell in selection.cells()
    ]  # fmt: skip
    found = selection.table(rows)
    assert len(found) == 2 + 2 * 5
    assert {row["digits"] for row in found if row["selection"] != "all"} == {55.0}
    assert {(row["seeds"], row["emoji-food"]) for row in found if row["selection"] == "all"} == {(2, 75.0)}
    part = selection.table(rows[:-1])  # the second seed is not whole
    assert {(row["seeds"], row["digits"]) for row in part if row["selection"] == "uniform"} == {(1, 50.0)}


def coloured(folder, classes, count, seed):
    """Images of a class have its brightness."""
    generator = np.random.default_rng(seed)
    for label, name in enumerate(classes):
        for number in range(count):
            path = folder / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = generator.integers(0, 40, (16, 16, 3)) + 200 * label // len(classes)
            Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A pool of four classes with images held out, one client, and trainings of two steps."""
    coloured(tmp_path / "work" / "images" / "pool", ("a", "b", "c", "d"), 8, 0)
    coloured(tmp_path / "work" / "images" / "held", ("a", "b", "c", "d"), 4, 1)
    for part, seed in (("train", 2), ("val", 3)):
        coloured(tmp_path / "tasks" / "digits" / part, ("x", "y"), 4, seed)
    monkeypatch.setitem(selection.SETS, "digits", type("Set", (), {"result": "digits"}))
    for name in ("EXPERTS", "TRAINING", "FINETUNING"):
        tiny = {"model": "test_resnet", "k": 2, "images": 16} if name == "EXPERTS" else {"steps": 2}
        monkeypatch.setattr(selection, name, {**getattr(selection, name), **tiny, "batch_size": 8})
    monkeypatch.setattr(selection, "MODEL", "test_resnet")
    monkeypatch.setattr(selection, "LABELS", 2)
    monkeypatch.setattr(selection, "PLANTED", 3)
    return tmp_path / "tasks", tmp_path / "work"


def test_a_cell_of_each_kind_is_measured(small):
    tasks, work = small
    cells = [Cell(name, share, "digits", 0) for name, share in (("none", 0.0), ("uniform", 0.5), ("SP+SS", 0.5))]
    for cell in cells:
        row = selection.measure(tasks, work, cell)
        assert 0.0 <= row["accuracy"] <= 1.0
        assert selection.measure(tasks, work, cell) == row  # read, not measured again
    for cell in cells[1:]:
        chosen = selection.selected(tasks, work, cell)
        assert len(set(chosen)) == 16
        assert all((work / "images" / "pool" / name).exists() for name in chosen)
    assert sorted(path.name for path in (work / "trained").iterdir()) == ["none", "uniform-0.5-0"]  # no disk fills
    assert not list((work / "finetuned").iterdir())


def test_clients_have_images_of_one_part_that_the_pool_does_not_have(small, monkeypatch):
    _, work = small
    seen = []
    plain = selection.samples_of
    monkeypatch.setattr(
        selection, "samples_of", lambda folder, names: (seen.append((folder, names)), plain(folder, names))[1]
    )
    row = selection.planted(work, "SP+SS")
    assert sorted(kind for part in row["parts"] for kind in part) == ["a", "b", "c", "d"]
    assert row["clients"] == len(seen) == 3
    for number, (folder, names) in enumerate(seen):
        assert folder == work / "images" / "held"
        assert {name.partition("/")[0] for name in names} == set(row["parts"][number % 2])
    assert json.loads((work / "planted" / "SP+SS.json").read_text())["first"] == row["first"] <= 3
