"""Building: experts by any number of processes, each once; the catalogue; recipes that are added."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.search.leases import leased
from gpurender.server import building as builder
from gpurender.server import plan
from gpurender.server.building import add, build
from tests.search.support import task
from tests.server.support import MODEL, expert, pictures, recipe, recipe_server
from tests.server.test_plan import study_of

pytest.importorskip("timm", reason="needs timm")
pytest.importorskip("accelerate", reason="needs accelerate")
SMALL = {"model": MODEL, "image_size": 32, "images": 32, "batch_size": 8, "device": "cpu"}


def named(number):
    return plan.name_of(recipe(number))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A server of two recipes, really trained (a little)."""
    root = tmp_path_factory.mktemp("made") / "server"
    build([recipe(0), recipe(1)], root, **SMALL)
    return root


def fake(monkeypatch):
    """Let experts have random weights, and scores no time; return the names of those trained."""
    done = []

    def trained(source, how, about, folder, device):
        done.append(about["source"])
        made = expert(folder, "x", len(done), 4 if how.task == "rotation" else source.classes)
        return folder / made.path

    monkeypatch.setattr(builder, "trained", trained)
    monkeypatch.setattr(builder, "score", lambda path, task, shown, device: len(shown.at(8)) / 10_000)
    return done


def test_experts_are_trained_on_rotations_of_their_recipes(made):
    server = gr.DataServer(made)
    assert [e.name for e in server.catalogue.experts] == [named(0), named(1)]
    for number in range(2):
        about = gr.training.describe(server.expert(named(number)))
        assert about["kind"] == "expert-rotation"
        assert about["model"] == {"name": MODEL, "classes": 4, "image_size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
        assert about["data"]["fingerprint"] == recipe(number).fingerprint
        assert gr.recipe(json.dumps(about["data"]["recipe"])) == recipe(number)
        assert about["step"] == 4
        assert about["settings"]["batch_size"] == 8
        assert about["settings"]["lr"] == 1e-3
    assert server.catalogue.provenance["schooling"]["images"] == 32
    assert sorted(entry.name for entry in made.iterdir()) == ["catalogue.json", "experts", "leases", "plan.json"]


def test_the_catalogue_knows_what_experts_make_of_each_others_images(made):
    from gpurender.server.experts import Shown, score
    from gpurender.server.sources import RecipeSource

    server = gr.DataServer(made)
    for row in range(2):
        shown = Shown(RecipeSource(recipe(row)).shown(False))
        for column in range(2):
            expected = score(server.expert(named(column)), "rotation", shown, torch.device("cpu"))
            assert server.catalogue.vectors[row, column] == expected


def test_a_finished_server_is_not_built_again(made, monkeypatch):
    done = fake(monkeypatch)
    before = (made / "catalogue.json").read_bytes()
    (made / "work" / "part").mkdir(parents=True)  # of a process that was killed at the very end
    assert build([recipe(0), recipe(1)], made, **SMALL).catalogue.experts
    assert done == []
    assert not (made / "work").exists()
    assert (made / "catalogue.json").read_bytes() == before
    with pytest.raises(ValueError, match="is a server with another recipes"):
        build([recipe(0), recipe(2)], made, **SMALL)


@pytest.mark.parametrize(("accuracy", "warned"), [(0.2999, True), (0.3, False)])
def test_an_expert_that_has_learned_nothing_is_said(tmp_path, monkeypatch, caplog, accuracy, warned):
    fake(monkeypatch)
    monkeypatch.setattr(builder, "score", lambda path, task, shown, device: accuracy)
    build([recipe(0)], tmp_path / "s", **SMALL)
    said = f"expert {named(0)} is right about 30 % of the rotations of its own source, and 25 % is chance"
    assert (said in caplog.text) == warned
    caplog.clear()
    build([recipe(0)], tmp_path / "t", **SMALL, task="classify")
    assert said not in caplog.text


def test_a_build_goes_on_with_what_is_left(tmp_path, monkeypatch):
    done = fake(monkeypatch)
    right = builder.trained

    def failing(source, how, about, folder, device):
        if len(done) == 1:
            raise OSError(28, "No space left on device")
        return right(source, how, about, folder, device)

    monkeypatch.setattr(builder, "trained", failing)
    with pytest.raises(OSError, match="No space left"):
        build([recipe(0), recipe(1), recipe(2)], tmp_path / "s", **SMALL)
    with pytest.raises(ValueError, match=r"has no catalogue.json"):
        gr.DataServer(tmp_path / "s")
    first = (tmp_path / "s" / "experts" / f"{named(0)}.safetensors").read_bytes()
    monkeypatch.setattr(builder, "trained", right)
    server = build([recipe(0), recipe(1), recipe(2)], tmp_path / "s", **SMALL)
    assert done == [named(0), named(1), named(2)]
    assert server.expert(named(0)).read_bytes() == first
    assert server.catalogue.vectors.tolist() == [[32 / 10_000] * 3] * 3


def test_what_another_process_does_is_waited_for(tmp_path, monkeypatch):
    done = fake(monkeypatch)
    monkeypatch.setattr(builder, "WAIT", 0.01)
    root = tmp_path / "s"
    for name in ("leases", "experts"):
        (root / name).mkdir(parents=True)
    how = plan.Schooling(**{key: value for key, value in SMALL.items() if key != "device"})
    chosen = plan.planned([recipe(0), recipe(1)], None, None, how)
    plan.publish(root / "plan.json", json.loads(json.dumps(chosen.values())))

    def other():
        with leased(root / "leases" / named(0), 60.0) as lease:
            assert lease is not None
            held.set()
            while done != [named(1)]:
                time.sleep(0.01)
            made = expert(tmp_path / "other", "x", 7)
            (tmp_path / "other" / made.path).rename(root / "experts" / f"{named(0)}.safetensors")

    held = threading.Event()
    thread = threading.Thread(target=other)
    thread.start()
    held.wait()
    server = build([recipe(0), recipe(1)], root, **SMALL)
    thread.join()
    assert done == [named(1)]
    assert len(server.catalogue.experts) == 2


def test_processes_share_the_experts(tmp_path):
    """Two processes at once: every expert is trained once, and all end with the same server."""
    code = (
        "import sys; import gpurender as gr; from tests.server.support import recipe;"
        f"gr.server.build([recipe(i) for i in range(3)], sys.argv[1], **{SMALL!r})"
    )
    root = Path(__file__).parents[2]
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "s")], cwd=root, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    texts = [process.communicate(timeout=240)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], texts
    said = [line for text in texts for line in text.splitlines() if "is trained" in line]
    assert sorted(said) == sorted(f"expert {named(i)} is trained" for i in range(3))
    assert len(gr.DataServer(tmp_path / "s").catalogue.experts) == 3


def test_of_a_study_the_tasks_are_scored(tmp_path, monkeypatch):
    done = fake(monkeypatch)
    study, recipes = study_of(tmp_path, [(0.9, 0.1), (0.5, 0.7), (0.8, 0.61)])
    server = build(study.root, tmp_path / "s", k=2, **SMALL)
    assert done == [plan.name_of(recipes[2]), plan.name_of(recipes[0])]
    assert server.catalogue.seen["a"]["scores"] == [30 / 10_000] * 2
    assert server.catalogue.seen["a"]["gains"] == pytest.approx([0.8 - 2.2 / 3, 0.9 - 2.2 / 3])
    found = server.recommend(dict.fromkeys(done, 0.5), budget=100)
    assert found.gain_of == "accuracy"


# ------------------------------------------------------------------------------------------------------- image folders


def test_parts_of_an_image_folder(tmp_path):
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    data = tmp_path / "data"
    names = pictures(data, 12, side=32, classes=["w", "x", "y"])
    server = build(data, tmp_path / "s", k=2, partition="superclass", **SMALL)
    assert server.catalogue.kind == "files"
    assert [entry.name for entry in server.catalogue.sources] == ["part-0000", "part-0001"]
    listed = [json.loads((tmp_path / "s" / entry.path).read_text()) for entry in server.catalogue.sources]
    assert sorted(path for rows in listed for path, _ in rows) == names
    owners = [{path[0] for path, _ in rows} for rows in listed]
    assert not owners[0] & owners[1]
    for entry, rows in zip(server.catalogue.sources, listed, strict=True):
        assert (entry.images, entry.bytes) == (len(rows), sum(size for _, size in rows))
        assert all((data / path).stat().st_size == size for path, size in rows)
        about = gr.training.describe(server.expert(entry.name))
        assert about["data"] == {"source": entry.name, "images": entry.images, "bytes": entry.bytes}
    found = server.recommend({"part-0000": 0.2, "part-0001": 0.9}, budget=4)
    assert set(found.files[:2]) <= {path for path, _ in listed[1]}
    again = build(data, tmp_path / "s", k=2, partition="superclass", **SMALL)
    assert again.catalogue.to_json() == server.catalogue.to_json()
    with pytest.raises(ValueError, match="has parts of an image folder, and takes no recipes"):
        add(tmp_path / "s", recipe(), device="cpu")


def test_experts_on_classes_of_parts_and_one_part_alone(tmp_path):
    pictures(tmp_path / "data", 8, side=32, classes=["x", "y"])
    server = build(tmp_path / "data", tmp_path / "s", k=1, task="classify", **SMALL)
    about = gr.training.describe(server.expert("part-0000"))
    assert about["kind"] == "expert-classify"
    assert about["model"]["classes"] == 2
    assert server.catalogue.sources[0].images == 8


def test_a_part_of_one_class_is_said_to_teach_nothing(tmp_path, caplog):
    pictures(tmp_path / "data", 8, side=32, classes=["x", "y"])
    server = build(tmp_path / "data", tmp_path / "s", k=2, partition="superclass", task="classify", **SMALL)
    said = "expert part-000{} has images of one class alone, and learns nothing of them: take fewer parts"
    assert [said.format(part) in caplog.text for part in range(2)] == [True, True]
    assert server.catalogue.vectors.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_a_folder_that_changes_under_way_is_said(tmp_path, monkeypatch):
    fake(monkeypatch)
    pictures(tmp_path / "data", 4)
    planned = plan.planned

    def later(*words):
        found = planned(*words)
        (tmp_path / "data" / "000.png").unlink()
        return found

    monkeypatch.setattr(builder, "planned", later)
    with pytest.raises(ValueError, match="has 3 images, and it had 4 when this server was begun"):
        build(tmp_path / "data", tmp_path / "s", k=1, **SMALL)


# ----------------------------------------------------------------------------------------------------------- additions


def test_a_recipe_is_indexed_by_its_scores(made, monkeypatch):
    before = gr.DataServer(made).catalogue
    found = add(made, recipe(5), device="cpu")
    after = gr.DataServer(made).catalogue
    assert list(found) == [named(0), named(1)]
    assert [entry.name for entry in after.sources] == [named(0), named(1), named(5)]
    assert after.sources[2].recipe == recipe(5)
    np.testing.assert_array_equal(after.vectors, [*before.vectors, list(found.values())])
    assert (after.experts, after.provenance) == (before.experts, before.provenance)
    for again in (5, 0):
        with pytest.raises(ValueError, match=f"recipe: the server has '{named(again)}' already"):
            add(made, recipe(again), device="cpu")


def test_two_additions_at_once_are_both_kept(tmp_path, monkeypatch):
    recipe_server(tmp_path)
    gates = threading.Barrier(2)

    def scores(self, samples, device):
        gates.wait(20)
        return dict.fromkeys(("ant", "bee", "cow"), 0.5)

    monkeypatch.setattr(gr.DataServer, "scores", scores)
    threads = [threading.Thread(target=add, args=(tmp_path, recipe(i)), kwargs={"device": "cpu"}) for i in (7, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {entry.name for entry in gr.DataServer(tmp_path).catalogue.sources[3:]} == {named(7), named(8)}


def test_wrong_arguments_are_named(tmp_path):
    with pytest.raises(TypeError, match=r"build\(\) got an unexpected keyword argument 'taks'; did you mean 'task'"):
        build([recipe()], tmp_path / "s", taks="rotation")
    with pytest.raises(ValueError, match="device must be"):
        build([recipe()], tmp_path / "s", **{**SMALL, "device": "tpu"})
    with pytest.raises(ValueError, match=r"has no catalogue.json"):
        add(tmp_path, recipe(), device="cpu")
    assert not (tmp_path / "s").exists()


def test_a_clients_task_is_scored_by_a_real_server(made, tmp_path):
    server = gr.DataServer(made)
    found = server.adapt(task(tmp_path), device="cpu")
    assert set(found) == {named(0), named(1)}
    assert all(0.0 <= value <= 1.0 for value in found.values())
