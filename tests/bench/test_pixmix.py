"""The speed of PixMix: what is measured, and the figures of a result."""

import json
import sys

import numpy as np
import pytest
import torch

import gpurender as gr
from bench import pixmix

CPU = torch.device("cpu")


def small(device):
    return {"PixMix": gr.augment.PixMix(gr.Renderer(gr.Noise(classes=4, instances=5, image_size=32), device))}


def test_as_many_pictures_are_drawn_as_a_batch_mixes_in(monkeypatch):
    """Counted by a renderer that is asked for them."""
    mix, asked = small(CPU)["PixMix"], []

    class Counting:
        recipe, device = mix.pictures.recipe, CPU

        def render(self, indices, draw_ids, fresh):
            asked.append(len(indices))
            return mix.pictures.render(indices, draw_ids, fresh)

    counting = gr.augment.PixMix(Counting())
    for number in range(60):
        counting(torch.zeros((16, 3, 8, 8), dtype=torch.uint8), number)
    expected = pixmix.pictures_of(mix, 16)
    assert np.mean(asked) == pytest.approx(expected, abs=4 * np.std(asked) / 60**0.5)
    assert 0.3 * 16 < expected < 0.8 * 16


def test_images_are_noise_of_their_type(monkeypatch):
    monkeypatch.setattr(pixmix, "SIZE", 16)
    levels, units = (pixmix.noise(4, dtype, CPU) for dtype in (torch.uint8, torch.float32))
    assert levels.shape == units.shape == (4, 3, 16, 16)
    assert torch.equal(units, levels / 255)
    assert abs(levels.double().mean() - 127.5) < 5
    assert len(levels.unique()) > 240


def test_steps_are_timed_in_turn(monkeypatch):
    calls = []
    found = pixmix.in_turn({"a": lambda n: calls.append(("a", n)), "b": lambda n: calls.append(("b", n))}, 0.0, CPU)
    assert calls == [(name, n) for n in range(7) for name in "ab"]
    assert {name: len(some) for name, some in found.items()} == {"a": 6, "b": 6}  # the first warms up


def test_a_result_has_its_figures(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(pixmix, "mixers", small)
    monkeypatch.setattr(pixmix, "SIZE", 16)
    words = ["pixmix", "--batch-size", "4", "--seconds", "0", "--json", str(tmp_path / "x.json")]
    monkeypatch.setattr(sys, "argv", words)
    threads = torch.get_num_threads()
    assert pixmix.main() == 0
    torch.set_num_threads(threads)
    result = json.loads((tmp_path / "x.json").read_text())
    assert list(result) == ["environment", "pixmix"]
    assert [(row["mixer"], row["dtype"]) for row in result["pixmix"]] == [("PixMix", "uint8"), ("PixMix", "float32")]
    assert all(row["images_per_second"]["median"] > 0 for row in result["pixmix"])
    assert capsys.readouterr().out.startswith("PixMix   uint8 ")
