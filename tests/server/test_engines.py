"""Experts by workers on Ray, by what stands for Ray; those of a real cluster are in tests/search/test_ray_engine.py."""

import sys
from pathlib import Path

import pytest

from gpurender.server import building, engines
from gpurender.server.building import begin
from tests.search import fake_ray
from tests.server.support import MODEL, recipe

pytest.importorskip("timm", reason="needs timm")
pytest.importorskip("accelerate", reason="needs accelerate")
SMALL = {
    "k": None, "task": "rotation", "partition": None, "model": MODEL, "image_size": 32, "images": 32, "batch_size": 8,
    "lr": 1e-3, "seed": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("resources", "workers", "count", "gpus"),
    [
        ({"CPU": 2.0}, None, 2, 0),
        ({"CPU": 8.0}, None, 3, 0),  # one for each expert
        ({"CPU": 8.0}, 5, 5, 0),
        ({"CPU": 8.0, "GPU": 2.0}, None, 2, 1),
    ],
)
def test_how_many_workers_go_on_with_the_server(tmp_path, monkeypatch, resources, workers, count, gpus):
    ray, went_on = fake_ray.FakeRay(**resources), []
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(engines, "go_on", lambda place, device: went_on.append(place))
    monkeypatch.setattr(engines, "DataServer", lambda place: place)
    folder = begin([recipe(number) for number in range(3)], tmp_path / "server", **SMALL)
    assert engines.on_ray(folder, workers, "host:1") == folder
    assert ray.begun == [{"address": "host:1", "namespace": "gpurender"}]
    assert [options for options, _ in ray.tasks] == [{"num_cpus": 1, "num_gpus": gpus, "max_retries": -1}] * count
    assert went_on == [Path(tmp_path / "server")] * count
    assert not ray.connected


def test_what_goes_wrong_in_a_worker_is_said(tmp_path, monkeypatch):
    ray = fake_ray.FakeRay(CPU=1.0)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(building._Builder, "build", lambda self: 1 / 0)
    folder = begin([recipe()], tmp_path / "server", **SMALL)
    with pytest.raises(ZeroDivisionError):
        engines.on_ray(folder, None, None)
    with pytest.raises(ValueError, match="workers must be an integer"):
        engines.on_ray(folder, 0, None)
    with pytest.raises(ValueError, match="is no server that was begun"):
        engines.on_ray(tmp_path / "nothing", 1, None)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RuntimeError, match="engine 'ray' needs the extra 'ray'"):
        engines.on_ray(folder, None, None)
