"""The study of what the images teach: its cells, its choice of rates, its pieces."""

import dataclasses
import json
import types

import numpy as np
import pytest
from PIL import Image

import gpurender as gr
from bench import teach, teach_figure

CELLS = teach.few_labels(teach.TRANSFORMER)


def test_cells_are_distinct_and_equal_but_for_the_pre_training():
    every = [cell for name, make in teach.STUDIES.items() for model in teach.NETS[name] for cell in make(model)]
    assert len({cell.key for cell in every}) == len(set(every))
    rest = {
        recipe: [(cell.task, cell.labels, cell.seed) for cell in CELLS if cell.recipe == recipe]
        for recipe in ("scratch", *teach.MAIN)
    }
    assert len(set(map(tuple, rest.values()))) == 1
    assert not any(cell.held_out for cell in CELLS)
    assert all(cell.held_out and cell.seed not in teach.SEEDS for cell in teach.rates(teach.TRANSFORMER))


def test_rates_are_chosen_for_each_kind_of_weights(tmp_path, monkeypatch):
    best = {"scratch": 1e-3, "onepfrac": 3e-4}
    with pytest.raises(ValueError, match="the study 'rates' of levit_128s must be complete first"):
        teach.chosen_rate(tmp_path, CELLS[0])
    monkeypatch.setattr(
        teach,
        "measure",
        lambda tasks, work, cell, lr: dataclasses.asdict(cell) | {"accuracy": float(cell.lr == best[cell.recipe])},
    )
    teach.run(tmp_path, tmp_path, teach.rates(teach.TRANSFORMER), 1.0)
    for cell in CELLS:
        assert teach.chosen_rate(tmp_path, cell) == best["scratch" if cell.recipe == "scratch" else "onepfrac"]
    teach.run(tmp_path, tmp_path, teach.rates(teach.RESNET), 1.0)
    for cell in teach.structure(teach.LARGER):  # compared with the smaller net at the same rate
        assert teach.chosen_rate(tmp_path, cell) == best["onepfrac"]


def test_a_study_goes_on_where_it_was(tmp_path, monkeypatch):
    done = []

    def measure(tasks, work, cell, lr):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(cell)
        return dataclasses.asdict(cell) | {"lr": lr, "accuracy": 0.5}

    monkeypatch.setattr(teach, "measure", measure)
    cells = teach.rates(teach.TRANSFORMER)[:5]
    with pytest.raises(KeyboardInterrupt):
        teach.run(tmp_path, tmp_path, cells, 1.0)
    monkeypatch.setattr(
        teach, "measure", lambda tasks, work, cell, lr: done.append(cell) or {"lr": lr, "accuracy": 0.5}
    )
    teach.run(tmp_path, tmp_path, cells, 1.0)
    assert done == cells
    teach.run(tmp_path, tmp_path, teach.rates(teach.TRANSFORMER), -1.0)  # no time
    assert done == cells
    teach.write(tmp_path / "found.json", tmp_path)
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found["studies"]) == [f"rates {teach.TRANSFORMER}"]
    assert len(found["studies"][f"rates {teach.TRANSFORMER}"]) == 5
    assert set(found["teach"]["recipes"]) == set(teach.RECIPES)


def test_a_study_that_is_of_another_net_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["teach", "t", "w", "--model", "resnet18", "--study", "few-labels"])
    with pytest.raises(SystemExit):
        teach.main()
    assert "--study few-labels is of levit_128s and resnet10t, not of resnet18" in capsys.readouterr().err


def test_a_study_goes_on_from_an_earlier_result_file(tmp_path, monkeypatch):
    """On another machine, where the folder of checkpoints and rows is gone."""

    def measure(tasks, work, cell, lr):
        return dataclasses.asdict(cell) | {"lr": lr, "accuracy": int(cell.key, 16) % 97 / 97}

    monkeypatch.setattr(teach, "SEEDS", (0,))
    monkeypatch.setattr(teach, "measure", measure)
    cells = [*teach.rates(teach.TRANSFORMER), *teach.few_labels(teach.TRANSFORMER)[:7]]
    teach.run(tmp_path, tmp_path / "old", cells, 1.0)
    teach.write(tmp_path / "found.json", tmp_path / "old")
    teach.restore(tmp_path / "found.json", tmp_path / "new")
    assert len(list((tmp_path / "new" / "rows").iterdir())) == 31
    for cell in cells:
        assert teach.read(tmp_path / "new", cell) == teach.read(tmp_path / "old", cell)
    monkeypatch.setattr(teach, "RECIPES", {**teach.RECIPES, "later": teach.RECIPES["noise"]})
    teach.restore(tmp_path / "found.json", tmp_path / "later")  # a study that was added changes no earlier cell
    assert len(list((tmp_path / "later" / "rows").iterdir())) == 31
    monkeypatch.setattr(teach, "RECIPES", {**teach.RECIPES, "noise": teach.RECIPES["onepfrac"]})
    with pytest.raises(ValueError, match="was made with other settings"):
        teach.restore(tmp_path / "found.json", tmp_path / "newer")
    monkeypatch.undo()
    monkeypatch.setattr(teach, "STEPS", 201)
    with pytest.raises(ValueError, match=r"found\.json was made with other settings: give another file"):
        teach.restore(tmp_path / "found.json", tmp_path / "newer")


def test_a_cell_is_trained_and_measured(tmp_path, monkeypatch):
    """From the formula to the figure, in seconds: a tiny model, a tiny task."""
    pytest.importorskip("timm", reason="needs timm")
    pytest.importorskip("accelerate", reason="needs accelerate")
    generator = np.random.default_rng(0)
    labels = np.arange(40) % 2
    images = (generator.integers(0, 60, (40, 8, 8)) + 150 * labels[:, None, None]).astype(np.uint8)
    np.savez(tmp_path / "digits.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    monkeypatch.setattr(teach, "STEPS", 3)
    monkeypatch.setattr(teach, "SIDE", 32)
    small = {"image_size": 32, "batch_size": 8}
    for name in ("PRETRAINING", "OPTIMISER", "FINETUNING"):
        monkeypatch.setattr(teach, name, {**getattr(teach, name), **small})
    recipe = gr.VisualAtom(classes=2, instances=8, image_size=32, orbits=(2, 4), radius=(4, 8))
    monkeypatch.setitem(teach.RECIPES, "visualatom", recipe)
    cell = teach.Cell(model="test_vit", recipe="visualatom", images=16, task="digits", labels=5, seed=0)
    row = teach.measure(tmp_path, tmp_path, cell, 1e-3)
    assert (row["classes"], row["train_images"], row["test_images"], row["steps"]) == (2, 10, 40, 4)
    assert 0.0 <= row["accuracy"] <= 1.0
    before = teach.checkpoint(tmp_path, cell).stat().st_mtime_ns
    again = teach.measure(tmp_path, tmp_path, dataclasses.replace(cell, labels=4), 1e-3)
    assert again["train_images"] == 8
    assert teach.checkpoint(tmp_path, cell).stat().st_mtime_ns == before  # shared
    stored = dataclasses.replace(cell, fed="stored")
    assert teach.measure(tmp_path, tmp_path, stored, 1e-3)["train_images"] == 10
    about = gr.training.describe(teach.checkpoint(tmp_path, stored))
    assert (about["kind"], about["images"], about["model"]["classes"]) == ("finetune", 16, 2)


def test_table_and_figure_show_means_over_seeds(tmp_path, monkeypatch, capsys):
    rows = [
        {"recipe": recipe, "task": task, "labels": 10, "seed": seed, "images": 1000 * (recipe != "scratch"),
         "accuracy": base + 0.01 * seed}
        for recipe, base in (("scratch", 0.5), ("onepfrac", 0.6))
        for task in ("fashion", "emoji")
        for seed in (0, 1, 2)
    ]  # fmt: skip
    longer = [{**row, "images": 5000, "accuracy": 0.7} for row in rows if row["recipe"] == "onepfrac"]
    studies = {"few-labels m": rows[:-1], "lengths m": longer, "rates m": rows}
    (tmp_path / "found.json").write_text(json.dumps({"studies": studies}))
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    monkeypatch.setattr("sys.argv", ["teach_figure", str(tmp_path / "found.json"), "-o", str(tmp_path / "found.png")])
    assert teach_figure.main() == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| m | scratch | 51.0 ± 1.0 | 51.0 ± 1.0 |",
        "| m | onepfrac | 60.5 ± 0.7 (2) | 61.0 ± 1.0 |",
    ]
    drawn = {}
    axes = types.SimpleNamespace(plot=lambda x, y, *_, label, **__: drawn.update({label: (x, y)}))
    monkeypatch.setattr(teach_figure, "_dressed", lambda axes: None)
    teach_figure.curves(axes, [*longer, *rows])
    x, y = drawn["onepfrac"]
    assert (x, y) == ([0.0, 1.0, 5.0], pytest.approx([50.0, 60.0, 70.0]))
    del studies["lengths m"]  # nothing is drawn against lengths then
    monkeypatch.setattr(teach_figure, "curves", None)
    teach_figure.draw(studies, tmp_path / "bars.png")
    with Image.open(tmp_path / "found.png") as picture:
        assert np.asarray(picture.convert("RGB")).std() > 10
