"""Class parameters as authors publish them: FractalDB's folders of folders, VisualAtom's folder of parameters."""

import csv
import dataclasses
import itertools
import json
import os

import numpy as np
import pytest
import torch

import gpurender as gr

HALVES = "0.5,0,0,0.5,{:.3f},0,0.5\n0.5,0,0,0.5,0.5,0.5,0.5\n"


def write(folder, number, text=HALVES, name="{:05d}.csv"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name.format(number)
    path.write_text(text.format(number / 1000))
    return path


def order(recipe):
    """The numbers that `write` put into the categories."""
    return [round(1000 * rows[0][4]) for rows in recipe.categories]


# ------------------------------------------------------------------------------------------------------ FractalDB


def test_folders_of_folders_are_one_dataset_by_file_name(tmp_path):
    """FractalDB-1k lies in csv0, csv1, ..., csv39; csv10 would come before csv2, were it sorted by path."""
    root = tmp_path / "csv_rate0.2_category1000"
    for number in range(130):
        write(root / f"csv{number // 3}", number)
    assert order(gr.FractalDB.from_csv(root)) == list(range(130))
    assert order(gr.FractalDB.from_csv(root / "csv10")) == [30, 31, 32]
    write(root, 130)  # beside the folders
    write(root / "a" / "b", 131)  # deeper
    assert order(gr.FractalDB.from_csv(root)) == list(range(132))
    assert order(gr.FractalDB.from_csv(root, classes=7)) == list(range(7))


def test_the_published_files_in_folders_are_those_in_one(tmp_path, shared_dir):
    source = shared_dir / "data" / "fractaldb-1k" / "categories"
    for number, path in enumerate(sorted(source.iterdir())):
        folder = tmp_path / f"csv{number // 25}"
        folder.mkdir(exist_ok=True)
        (folder / path.name).write_bytes(path.read_bytes())
    recipe = gr.FractalDB.from_csv(tmp_path)
    assert recipe == gr.FractalDB.from_csv(source)
    assert recipe.classes == 1000


def test_a_name_in_two_folders_is_refused(tmp_path):
    one, other = write(tmp_path / "csv0", 7), write(tmp_path / "csv1", 7)
    write(tmp_path / "csv1", 8)
    with pytest.raises(ValueError, match="same name") as caught:
        gr.FractalDB.from_csv(tmp_path)
    assert str(one) in str(caught.value)
    assert str(other) in str(caught.value)


def test_what_is_hidden_is_left_out(tmp_path):
    write(tmp_path / "csv0", 0)
    write(tmp_path / ".ipynb_checkpoints", 0)
    write(tmp_path / "csv0" / ".git", 1)
    write(tmp_path / "csv0", 0, "no category", "._{:05d}.csv")
    write(tmp_path / "csv0", 0, "no category", "notes{}.txt")
    write(tmp_path / "csv0", 7, name="#{:05d}.csv")  # listed before the hidden ones
    assert order(gr.FractalDB.from_csv(tmp_path)) == [7, 0]
    assert order(gr.FractalDB.from_csv(tmp_path / ".ipynb_checkpoints")) == [0]  # if it is asked for


def test_links_are_followed_and_loops_harmless(tmp_path):
    write(tmp_path / "elsewhere" / "csv0", 0)
    write(tmp_path / "all" / "csv1", 1)
    (tmp_path / "all" / "csv0").symlink_to(tmp_path / "elsewhere" / "csv0", target_is_directory=True)
    (tmp_path / "all" / "csv1" / "up").symlink_to(tmp_path / "all", target_is_directory=True)
    (tmp_path / "all" / "again").symlink_to(tmp_path / "all" / "csv1", target_is_directory=True)
    (tmp_path / "all" / "itself").symlink_to(tmp_path / "all" / "itself")
    (tmp_path / "all" / "00002.csv").symlink_to(write(tmp_path, 2))
    assert order(gr.FractalDB.from_csv(tmp_path / "all")) == [0, 1, 2]
    (tmp_path / "all" / "00003.csv").symlink_to(tmp_path / "nothing")  # a class that is missing shifts all others
    with pytest.raises(ValueError, match=r"00003\.csv cannot be read"):
        gr.FractalDB.from_csv(tmp_path / "all")


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    """Left out, it would shift the labels of all classes behind it."""
    write(tmp_path / "csv0", 0)
    write(tmp_path / "csv1", 1)
    real = os.scandir

    def scandir(path):
        if os.fspath(path).endswith("csv1"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(ValueError, match=r"folder '.*csv1' cannot be read: Permission denied"):
        gr.FractalDB.from_csv(tmp_path)


def test_one_level_too_high_is_told_where_the_categories_are(tmp_path):
    """The released repository's folder `data` holds the categories' folder and the weights' files."""
    weights = write(tmp_path / "weights", 4, "0.2,1,1,1,1,1\n", "weights_0.{}.csv")
    for number in range(6):
        write(tmp_path / "csv_rate0.2" / f"csv{number // 2}", number)
    with pytest.raises(ValueError, match="line 1") as caught:
        gr.FractalDB.from_csv(tmp_path)
    assert str(caught.value) == (
        f"{weights}, line 1: expected 7 comma-separated numbers, got '0.2,1,1,1,1,1' (6 are instance weights: such a "
        f"file is given as weights); categories are in {tmp_path / 'csv_rate0.2'}: give that folder"
    )
    weights.rename(tmp_path / "csv_rate0.2" / "weights_0.4.csv")  # among the folders
    with pytest.raises(ValueError, match=r"weights_0\.4\.csv, line 1.*; categories are in .*csv0 and 2 other folders$"):
        gr.FractalDB.from_csv(tmp_path)
    (tmp_path / "csv_rate0.2" / "weights_0.4.csv").rename(tmp_path / "csv_rate0.2" / "csv0" / "weights_0.4.csv")
    with pytest.raises(ValueError, match=r"csv0.weights_0\.4\.csv, line 1.* given as weights\)$"):  # beside categories
        gr.FractalDB.from_csv(tmp_path)


def test_none_found_says_what_was_looked_for(tmp_path):
    write(tmp_path / "a" / "b", 0, name="{}.png")
    with pytest.raises(ValueError, match="found none") as caught:
        gr.FractalDB.from_csv(tmp_path)
    assert str(caught.value) == (
        f"folder {str(tmp_path)!r} must hold category files (*.csv), itself or in folders below it; found none "
        "(folders looked at: 3, files of other kinds: 1)"
    )
    with pytest.raises(ValueError, match="Not a directory"):
        gr.FractalDB.from_csv(tmp_path / "a" / "b" / "0.png")


def test_a_folder_of_other_things_is_given_up(tmp_path, monkeypatch):
    """Such as / or a million images, by mistake."""
    monkeypatch.setattr("gpurender.recipes.published.MOST_OTHERS", 10)
    for number in range(20):
        write(tmp_path / "csv", number)
    for number in range(5):
        write(tmp_path / "images" / str(number), 0, name="{}.png")
    with pytest.raises(ValueError, match="and little else, found more than 10 other files and folders"):
        gr.FractalDB.from_csv(tmp_path)
    assert order(gr.FractalDB.from_csv(tmp_path / "csv")) == list(range(20))
    write(tmp_path / "deep" / "a" / "b", 7)  # two other folders before the last
    monkeypatch.setattr("gpurender.recipes.published.MOST_OTHERS", 2)
    assert order(gr.FractalDB.from_csv(tmp_path / "deep")) == [7]
    write(tmp_path / "deep" / "c", 7, name="{}.png")  # c is looked at before a
    with pytest.raises(ValueError, match="found more than 2 other files and folders"):
        gr.FractalDB.from_csv(tmp_path / "deep")


# ----------------------------------------------------------------------------------------------------- VisualAtom

NAMES = {  # in the order of the released programs of the family
    "Vertex": "q", "Perlin_noise": "eta", "line_width": "w", "Center_rad": "r0", "Line_num": "K",
    "Oval_rate_x": "oval_x", "Oval_rate_y": "oval_y", "nami 1": "n1", "nami 2": "n2",
}  # fmt: skip
SMALL = {"image_size": 64, "instances": 3}
VALUES = {"q": 300, "eta": 1.5, "w": 0.05, "r0": 20, "K": 30, "oval_x": 1.25, "oval_y": 1.75, "n1": 3, "n2": 0}


def write_atom(folder, number, values):
    """A file as Python's csv.writer leaves it, with a place that belongs to one image."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{number:05d}.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([name, values[symbol]] for name, symbol in NAMES.items())
        writer.writerows([["start_pos_h", 261.5], ["start_pos_w", 90.0]])
    return path


def test_an_atom_is_read_as_its_symbols(tmp_path):
    write_atom(tmp_path, 0, VALUES)
    recipe = gr.VisualAtom.from_csv(tmp_path, seed=4)
    assert (recipe.classes, recipe.instances, recipe.seed, recipe.variant) == (1, 1000, 4, "released")
    found = {name: value.item() for name, value in recipe.parameters(np.arange(1)).items()}
    assert found == VALUES | {"lambda1": 0.5, "lambda2": 0.5}
    assert {name for name, value in found.items() if isinstance(value, int)} == {"K", "q", "n1", "n2", "r0"}


def test_the_files_are_classes_by_name(tmp_path):
    law = gr.VisualAtom(classes=12, **SMALL)
    drawn = {name: values.tolist() for name, values in law.parameters(np.arange(12)).items()}
    for number in range(12):
        write_atom(tmp_path / f"p{number // 4}", number, {name: values[number] for name, values in drawn.items()})
    recipe = gr.VisualAtom.from_csv(tmp_path, **SMALL)
    assert recipe.classes == 12
    assert {name: values.tolist() for name, values in recipe.parameters(np.arange(12)).items()} == drawn
    assert torch.equal(gr.Renderer(recipe)(range(36)), gr.Renderer(law)(range(36)))  # the same atoms, the same images


@pytest.mark.parametrize("variant", ["released", "paper"])
def test_given_classes_are_drawn_as_those_of_the_law(variant):
    law = gr.VisualAtom(variant=variant, classes=6, amplitudes=(0.2, 0.6), **SMALL)
    p = law.parameters(np.arange(6))
    rows = list(zip(*(p[name].tolist() for name in columns(variant)), strict=True))
    given = gr.VisualAtom(variant=variant, categories=rows, **SMALL)
    assert torch.equal(gr.Renderer(given)(range(18), 2), gr.Renderer(law)(range(18), 2))
    assert gr.VisualAtom(variant=variant, categories=np.array(rows), **SMALL) == given
    again = gr.Recipe.from_json(given.to_json())
    assert again == given
    assert (again.fingerprint, hash(again)) == (given.fingerprint, hash(given))
    assert again.categories == tuple(rows)
    few = dataclasses.replace(given, classes=2)
    assert few.categories == tuple(rows[:2])
    assert torch.equal(gr.Renderer(few)(range(6)), gr.Renderer(law)(range(6)))
    assert gr.Renderer(given).catalog.most_vertices == max(p["q"])


def columns(variant):
    common = ["K", "q", "n1", "n2", "lambda1", "lambda2", "eta"]
    return common + (["w", "r0", "oval_x", "oval_y"] if variant == "released" else ["a1", "b1"])


ROWS = {
    "released": (30, 300, 3, 5, 0.5, 0.25, 1.5, 0.05, 20, 1.5, 1.75),
    "paper": (30, 300, 3, 5, 0.5, 0.25, 0.5, 90.0, 120.0),
}


@pytest.mark.parametrize("variant", ROWS)
def test_a_fingerprint_changes_if_and_only_if_an_image_could(variant):
    def fingerprint(row=ROWS[variant], **more):
        return gr.VisualAtom(variant=variant, categories=[row], **more).fingerprint

    def changed(**more):
        return tuple(more.get(name, value) for name, value in zip(columns(variant), ROWS[variant], strict=True))

    one, laws = fingerprint(), [gr.VisualAtom(variant=variant, classes=1).fingerprint]
    names = columns(variant)
    others = [fingerprint(changed(**{name: value + 1})) for name, value in zip(names, ROWS[variant], strict=True)]
    others += [fingerprint(seed=1), fingerprint(nucleus=(0, 0)), fingerprint(line_color=(0, 0.5))]
    two = gr.VisualAtom(variant=variant, categories=[ROWS[variant], changed(n1=4)]).fingerprint
    assert len({one, two, *laws, *others}) == len(others) + 3
    # the same images, said differently
    waves = changed(n1=5, n2=3, lambda1=0.25, lambda2=0.5)
    assert fingerprint(waves) == fingerprint(changed(n1=303)) == fingerprint(changed(lambda1=0.5 + 1e-12)) == one
    assert fingerprint([float(x) for x in ROWS[variant]]) == one
    if variant == "released":
        assert fingerprint(changed(r0=40, oval_x=0.75, oval_y=0.875)) == one
        small = {"image_size": 64, "instances": 2}
        pictures = [
            gr.Renderer(gr.VisualAtom(categories=[row], **small))(range(2))
            for row in (ROWS[variant], waves, changed(n1=303), changed(r0=40, oval_x=0.75, oval_y=0.875))
        ]
        assert all(torch.equal(picture, pictures[0]) for picture in pictures)


def test_without_given_classes_all_is_as_before():
    recipe = gr.VisualAtom()
    assert recipe.classes == 1000
    assert recipe.fingerprint == "ec4796ab834bf7ecfd0b752fb3516005e608c101c0d7d1ed11282cc329ddce04"
    assert "categories" not in json.loads(recipe.to_json())
    assert "categories" not in recipe.canonical()


def test_given_classes_and_the_law_replace_one_another():
    law = gr.VisualAtom(classes=1)
    given = dataclasses.replace(law, categories=[ROWS["released"]])
    assert given == gr.VisualAtom(categories=[ROWS["released"]])
    assert dataclasses.replace(given, categories=None) == law


WRONG = [
    ({"categories": 7}, TypeError, "categories must be a sequence of rows"),
    ({"categories": []}, ValueError, "categories must hold at least one row"),
    ({"categories": [ROWS["paper"]]}, TypeError, r"categories\[0\] must be 11 numbers, K, q,"),
    ({"categories": [ROWS["released"]], "variant": "paper"}, TypeError, r"categories\[0\] must be 9 numbers"),
    ({"categories": [ROWS["released"]], "variant": "both"}, ValueError, "variant"),
    ({"categories": [ROWS["released"], 5]}, TypeError, r"categories\[1\] must be 11 numbers"),
    ({"categories": itertools.repeat(5)}, TypeError, r"categories\[0\] must be 11 numbers"),
    ({"categories": [ROWS["released"]], "classes": 2}, ValueError, r"classes must be an integer in \[1, 1\]"),
    ({"categories": [(0, *ROWS["released"][1:])]}, ValueError, r"categories\[0\]: K must be an integer in \[1, 2048\]"),
    ({"categories": [(1.5, *ROWS["released"][1:])]}, TypeError, r"categories\[0\]: K must be an integer"),
    ({"categories": [(*ROWS["released"][:6], 17, 0, 9, 1, 1)]}, ValueError, r"\]: eta must be a finite number"),
    ({"categories": [(*ROWS["released"][:10], "x")]}, TypeError, r"\]: oval_y must be"),
]


@pytest.mark.parametrize(("parameters", "error", "says"), WRONG)
def test_what_is_no_class_is_refused(parameters, error, says):
    with pytest.raises(error, match=says) as caught:
        gr.VisualAtom(**parameters)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("orbits", (1, 9)), ("quantization", (9, 9)), ("frequencies", (1, 20)), ("amplitudes", (0, 1)),
     ("noise_level", (0, 1)), ("line_width", (0, 1)), ("radius", (0, 1)), ("oval", (1, 1))],
)  # fmt: skip
def test_ranges_that_would_say_nothing_are_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be left out when categories are given"):
        gr.VisualAtom(categories=[ROWS["released"]], **{name: value})


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("Vertex", r"line 1: expected a name, a comma and a number, got 'Vertex'"),
        ("0.5,0,0,0.5,0,0,1", "line 1: expected a name"),
        ("Vertex,many", "line 1: Vertex must be a number, got 'many'"),
        ("Vertex,2", r"line 1: Vertex must be an integer in \[3, 4096\], got 2"),
        ("Vertex,300.5", r"line 1: Vertex must be an integer in \[3, 4096\], got 300.5"),
        ("Vertex,nan", "line 1: Vertex must be an integer"),
        ("Perlin_noise,17", "line 1: Perlin_noise must be a finite number in"),
        ("vertices,300", "a line is missing for Vertex;"),
        ("Line_num,30", "line 5: Line_num is there twice"),
    ],
)
def test_malformed_atoms_are_named(line, says, tmp_path):
    write_atom(tmp_path, 0, VALUES)
    path = write_atom(tmp_path, 1, VALUES)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([line, *(lines if line.startswith("Perlin") else lines[1:])]))
    with pytest.raises(ValueError, match=says) as caught:
        gr.VisualAtom.from_csv(tmp_path)
    assert "00001.csv" in str(caught.value)


def test_other_spellings_are_read(tmp_path):
    write_atom(tmp_path / "a", 0, VALUES)
    text = (tmp_path / "a" / "00000.csv").read_text()
    other = "\ufeff" + text.replace("nami ", "Nami_").replace("Vertex,300", "Vertex , 300.0") + "\r\nnote,by hand\r\n"
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "00000.csv").write_text(other)
    assert gr.VisualAtom.from_csv(tmp_path / "b") == gr.VisualAtom.from_csv(tmp_path / "a")


def test_wrong_folders_are_named(tmp_path):
    for wrong in (5, None, b"folder"):
        with pytest.raises(TypeError, match="folder"):
            gr.VisualAtom.from_csv(wrong)
    with pytest.raises(ValueError, match="found none"):
        gr.VisualAtom.from_csv(tmp_path)
    write_atom(tmp_path, 0, VALUES)
    with pytest.raises(TypeError, match="categories must be left out"):
        gr.VisualAtom.from_csv(tmp_path, categories=[ROWS["released"]])
    with pytest.raises(TypeError, match="must be 9 numbers"):
        gr.VisualAtom.from_csv(tmp_path, variant="paper")


@pytest.mark.parametrize("name", ["categories", "fill_rate"])
def test_what_the_files_say_is_not_said_again(name, tmp_path):
    (tmp_path / "a.csv").write_text("0.5,0,0,0.5,0,0,1\n")
    with pytest.raises(TypeError, match=f"^{name} must be left out: the files in folder are the categories$"):
        gr.FractalDB.from_csv(tmp_path, **{name: None})


@pytest.mark.parametrize("variant", ROWS)
def test_a_published_parameter_below_its_least_value_is_refused_and_the_least_is_taken(variant):
    least = {"K": 1, "q": 3, "n1": 0, "n2": 0, "eta": 0.0, "w": 0.0, "r0": 0, "oval_x": 0.0, "oval_y": 0.0}
    for place, name in enumerate(columns(variant)):
        if name.startswith("lambda"):
            continue
        low = {**least, "a1": 0.0, "b1": 0.0}[name]
        row = list(ROWS[variant])
        row[place] = low
        assert gr.VisualAtom(variant=variant, categories=[row]).categories[0][place] == low
        row[place] = low - (1 if isinstance(low, int) else 0.01)
        with pytest.raises(ValueError, match=name):
            gr.VisualAtom(variant=variant, categories=[row])


# -------------------------------------------------------------------------------------------------------- writing


THREE = [
    [[0.5, 0.1, -0.2, 0.5, 1 / 3, 1e-17], [0.25, 0, 0, 0.5, -0.5, 0.7]],
    [[0.5, 0, 0, 0.5, 0.1, 0, 0.3], [0.5, 0, 0, 0.5, 0.5, 0.5, 0.7]],  # with probabilities
    [[0.5, 0, 0, 0.5, 0.1, 0, 3], [0.5, 0, 0, 0.5, 0.5, 0.5, 1], [0.1, 0, 0, 0.1, 0, 0, 0]],  # as shares
]
STYLE = {"points": 300, "image_size": 32}


def rendered(recipe, count=12):
    return gr.Renderer(recipe)(list(range(min(count, len(recipe)))))


@pytest.mark.parametrize("family", [gr.FractalDB, gr.OFDB])
def test_categories_are_read_back_as_they_were(tmp_path, family):
    recipe = family(categories=THREE, **STYLE)
    recipe.to_csv(tmp_path / "csv")
    assert sorted(path.name for path in (tmp_path / "csv").iterdir()) == ["00000.csv", "00001.csv", "00002.csv"]
    for path, rows in zip(sorted((tmp_path / "csv").iterdir()), THREE, strict=True):
        table = np.loadtxt(path, delimiter=",")  # as the released renderers read them
        assert np.array_equal(table[:, :6], np.array(rows)[:, :6])
        assert table[:, 6].sum() == pytest.approx(1)
    again = family.from_csv(tmp_path / "csv", **STYLE)
    assert again.fingerprint == recipe.fingerprint
    assert torch.equal(rendered(again), rendered(recipe))
    again.to_csv(tmp_path / "csv2")
    assert family.from_csv(tmp_path / "csv2", **STYLE) == again  # equal, not only the same images


def test_the_published_categories_are_written_as_they_are_read(tmp_path, shared_dir):
    source, few = shared_dir / "data" / "fractaldb-1k", tmp_path / "few"
    few.mkdir()
    for path in sorted((source / "categories").iterdir())[::40]:
        (few / path.name).write_bytes(path.read_bytes())
    for name in ("0.1", "0.4"):
        weights = source / "weights" / f"weights_{name}.csv"
        recipe = gr.FractalDB.from_csv(few, weights)
        recipe.to_csv(tmp_path / name, tmp_path / f"{name}.csv")
        assert gr.FractalDB.from_csv(tmp_path / name, tmp_path / f"{name}.csv") == recipe
        assert np.array_equal(np.loadtxt(tmp_path / f"{name}.csv", delimiter=","), np.loadtxt(weights, delimiter=","))


@pytest.mark.parametrize("family", [gr.FractalDB, gr.OFDB])
@pytest.mark.parametrize("variant", ["released", "paper"])
def test_categories_that_were_searched_have_the_same_images(tmp_path, family, variant):
    recipe = family(classes=4, variant=variant, seed=3, **STYLE)
    recipe.to_csv(tmp_path / "csv")
    again = family.from_csv(tmp_path / "csv", variant=variant, seed=3, **STYLE)
    samples = list(range(0, len(recipe), max(1, len(recipe) // 40)))
    assert torch.equal(gr.Renderer(again)(samples), gr.Renderer(recipe)(samples))


def test_atoms_are_read_back_as_they_were(tmp_path):
    recipe = gr.VisualAtom(classes=6, instances=2, image_size=48, orbits=(1, 9), quantization=(9, 40), seed=4)
    recipe.to_csv(tmp_path / "param")
    names = [line.split(",")[0] for line in (tmp_path / "param" / "00000.csv").read_text().splitlines()]
    assert {"Vertex", "Line_num", "nami 1", "nami 2", "Perlin_noise", "Oval_rate_x"} <= set(names)
    again = gr.VisualAtom.from_csv(tmp_path / "param", instances=2, image_size=48, seed=4)
    assert again.classes == 6
    assert torch.equal(rendered(again), rendered(recipe))
    again.to_csv(tmp_path / "param2")
    assert gr.VisualAtom.from_csv(tmp_path / "param2", instances=2, image_size=48, seed=4) == again


def test_systems_in_space_are_read_back_as_they_were(tmp_path):
    rng = np.random.default_rng(3)
    shares = np.array([0.1, 2.0, 0.9])[:, None]  # neither of sum 1 nor |det|
    given = [rng.uniform(-1, 1, (2, 12)), np.hstack([rng.uniform(-1, 1, (3, 12)), shares])]
    recipe = gr.ExFractalDB(categories=given, views=2, **STYLE)
    recipe.to_csv(tmp_path / "csv", tmp_path / "weights.csv")
    for name, rows in zip(("00000.csv", "00001.csv"), given, strict=True):
        table = np.genfromtxt(tmp_path / "csv" / name, delimiter=",")  # as the released renderer reads them
        chances = rows[:, 12] if rows.shape[1] == 13 else np.abs(np.linalg.det(rows[:, :9].reshape(-1, 3, 3)))
        assert np.array_equal(table[:, :12], rows[:, :12])
        assert np.allclose(table[:, 12], chances / chances.sum(), rtol=1e-12)
    assert np.genfromtxt(tmp_path / "weights.csv", delimiter=",").shape == (145, 12)
    again = gr.ExFractalDB.from_csv(tmp_path / "csv", weights=tmp_path / "weights.csv", views=2, **STYLE)
    one, other = (gr.Renderer(r).catalog for r in (again, recipe))
    assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in vars(one))
    assert torch.equal(rendered(again), rendered(recipe))
    again.to_csv(tmp_path / "csv2", tmp_path / "weights2.csv")
    assert gr.ExFractalDB.from_csv(tmp_path / "csv2", weights=tmp_path / "weights2.csv", views=2, **STYLE) == again


def test_systems_in_space_that_were_searched_have_the_same_images(tmp_path):
    recipe = gr.ExFractalDB(classes=4, seed=3, weights="one", viewpoints="drawn", **STYLE)
    recipe.to_csv(tmp_path / "csv")
    again = gr.ExFractalDB.from_csv(tmp_path / "csv", weights="one", seed=3, viewpoints="drawn", **STYLE)
    assert torch.equal(rendered(again), rendered(recipe))


POLYGONS = {"instances": 2, "image_size": 48, "seed": 4, "radius": (1, 9)}
GIVEN = {"instances": 2, "image_size": 48, "seed": 4}


def test_polygons_are_read_back_as_they_were(tmp_path):
    """With the sizes of each class's first image, which the released program writes, and no other image has."""
    recipe = gr.RCDB(classes=6, polygons=(1, 9), vertices=(3, 40), **POLYGONS)
    recipe.to_csv(tmp_path / "param")
    labels = [line.split(",")[0] for line in (tmp_path / "param" / "00005.csv").read_text().splitlines()]
    assert labels == [
        "Vertex", "Perlin_noise", "line_width", "Center_rad", "Line_num", "Oval_rate_x", "Oval_rate_y", "start_pos_h",
        "start_pos_w",
    ]  # fmt: skip
    again = gr.RCDB.from_csv(tmp_path / "param", **POLYGONS)
    assert again.classes == 6
    assert torch.equal(rendered(again), rendered(recipe))
    again.to_csv(tmp_path / "param2")
    assert gr.RCDB.from_csv(tmp_path / "param2", **POLYGONS) == again
    of_class = gr.RCDB.from_csv(tmp_path / "param", variant="paper", **GIVEN)
    same = (rendered(of_class) == rendered(recipe)).flatten(1).all(1)
    assert same.tolist() == [True, False] * 6


def test_the_centre_in_a_file_is_that_of_the_first_image(tmp_path):
    one = {"polygons": (1, 1), "vertices": (4, 4), "noise_level": (0, 0), "line_width": (1, 1), "greys": (0, 0)}
    recipe = gr.RCDB(
        classes=5, instances=3, image_size=128, radius=(5, 5), oval=(1, 1), centre=(-0.5, 0.5), seed=2, **one
    )
    recipe.to_csv(tmp_path / "param")
    for number, image in enumerate(gr.Renderer(recipe)(range(0, 15, 3))[:, 0].numpy()):
        text = (tmp_path / "param" / f"{number:05d}.csv").read_text()
        written = dict(line.split(",") for line in text.splitlines())
        y, x = np.nonzero(image == 0)  # a square on its corner, of half diagonal 6
        assert abs((y.min() + y.max()) / 2 - float(written["start_pos_h"])) <= 0.5
        assert abs((x.min() + x.max()) / 2 - float(written["start_pos_w"])) <= 0.5


@pytest.mark.parametrize(
    "recipe",
    [
        gr.RCDB(variant="paper", classes=6, polygons=(1, 9), **POLYGONS),
        gr.RCDB(classes=6, polygons=(9, 9), vertices=(9, 9), line_width=(0, 0), perturb=0.3, **POLYGONS),
        gr.VisualAtom(classes=6, orbits=(9, 9), quantization=(9, 40), perturb=0.3, **POLYGONS),
    ],
    ids=lambda recipe: f"{recipe.family}-{recipe.variant}",
)
def test_classes_with_sizes_and_what_is_perturbed_are_read_back(tmp_path, recipe):
    """Of perturbations the file is what is perturbed: neither all of them nor their random numbers have a layout."""
    recipe.to_csv(tmp_path / "param")
    assert len(list((tmp_path / "param").iterdir())) == (6 if recipe.perturb is None else 1)
    given = GIVEN | {"classes": 6, "variant": recipe.variant, "perturb": recipe.perturb}
    again = type(recipe).from_csv(tmp_path / "param", **given)
    assert torch.equal(rendered(again), rendered(recipe))
    again.to_csv(tmp_path / "param2")
    assert type(recipe).from_csv(tmp_path / "param2", **given) == again


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"variant": "paper"}, r"^variant must be 'released': .*, got 'paper'$"),
        ({"amplitudes": (0.5, 0.75)}, r"^lambda1 must be 0\.5 in every class: .*, got 0\.\d+$"),
    ],
)
def test_atoms_without_a_published_layout_are_refused(tmp_path, parameters, complaint):
    with pytest.raises(ValueError, match=complaint):
        gr.VisualAtom(classes=3, **parameters).to_csv(tmp_path / "param")
    assert not list(tmp_path.iterdir())


RECIPES = [
    gr.FractalDB(categories=THREE), gr.OFDB(categories=THREE), gr.VisualAtom(classes=3), gr.RCDB(classes=3),
    gr.ExFractalDB(categories=np.random.default_rng(1).uniform(-1, 1, (3, 2, 12))),
]  # fmt: skip
FAMILIES = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.family)


@FAMILIES
def test_a_folder_with_other_files_is_refused(tmp_path, recipe):
    """They would be read as classes, and a second run would mix two datasets."""
    (tmp_path / "csv").mkdir()
    recipe.to_csv(tmp_path / "csv")  # an empty one is taken
    before = {path.name: path.read_bytes() for path in (tmp_path / "csv").iterdir()}
    assert len(before) == 3
    with pytest.raises(ValueError, match=r"^folder '.*csv' must be new or empty, it holds '\d+\.csv'$"):
        recipe.to_csv(tmp_path / "csv")
    assert {path.name: path.read_bytes() for path in (tmp_path / "csv").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["csv"]


@FAMILIES
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_folder_is_whole_or_absent(tmp_path, monkeypatch, recipe, error):
    real = type(tmp_path).write_text

    def failing(path, *arguments, **keywords):
        if path.name == "00001.csv":
            raise error
        return real(path, *arguments, **keywords)

    monkeypatch.setattr(type(tmp_path), "write_text", failing)
    with pytest.raises((ValueError, KeyboardInterrupt)) as caught:
        recipe.to_csv(tmp_path / "deep" / "csv")
    assert isinstance(error, KeyboardInterrupt) or "csv' cannot be written: No space left" in str(caught.value)
    assert not list(tmp_path.rglob("*.csv"))
    assert not list(tmp_path.rglob(".gpurender*"))


@FAMILIES
@pytest.mark.parametrize("wrong", [5, None, "", "a\0b"])
def test_wrong_folders_to_write_are_named(recipe, wrong):
    with pytest.raises((TypeError, ValueError), match=r"^folder"):
        recipe.to_csv(wrong)


@FAMILIES
def test_a_file_is_no_folder_to_write(tmp_path, recipe):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="cannot be written: Not a directory"):
        recipe.to_csv(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_weights_lie_outside_the_folder_of_categories(tmp_path):
    recipe = gr.FractalDB(categories=THREE)
    for inside in (tmp_path / "csv" / "weights.csv", tmp_path / "csv" / "deeper" / "weights.csv"):
        with pytest.raises(ValueError, match=r"^weights must be a file outside folder"):
            recipe.to_csv(tmp_path / "csv", inside)
    with pytest.raises(ValueError, match=r"cannot write .*there is no folder"):
        recipe.to_csv(tmp_path / "csv", tmp_path / "nowhere" / "weights.csv")
    assert not list(tmp_path.iterdir())
