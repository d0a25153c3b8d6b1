"""The trial of replays, shortened; it notices a batch that differs."""

import json
import random

import torch

import gpurender as gr
from trials import replay


def test_replays_are_right(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["replay", "--pairs", "12", "--seed", "3", "--json", str(tmp_path / "r.json")])
    assert replay.main() == 0
    found = json.loads((tmp_path / "r.json").read_text())
    assert (found["replay"]["pairs"], found["replay"]["wrong"], found["differ"]) == (12, 0, [])
    assert sum(found["replay"][name] for name in replay.RECIPES) == 12


def test_a_wrong_batch_is_noticed(monkeypatch, tmp_path):
    right = gr.replay.replay

    def wrong(*words, **options):
        for batch in right(*words, **options):
            images = batch.images if isinstance(batch.images, torch.Tensor) else batch.images[-1]
            images[-1, -1, -1, -1] += 1
            yield batch

    monkeypatch.setattr(gr.replay, "replay", wrong)
    monkeypatch.setattr("sys.argv", ["replay", "--pairs", "2", "--json", str(tmp_path / "r.json")])
    assert replay.main() == 1
    assert len(json.loads((tmp_path / "r.json").read_text())["differ"]) == 2


def test_pairs_are_those_of_the_seed():
    chosen = [replay.pair(random.Random(1)) for _ in range(2)]
    assert chosen[0] == chosen[1]
    assert set(chosen[0]) == {
        "recipe", "policy", "world_size", "batch_size", "shuffle", "fresh", "drop_last", "steps_per_epoch", "seed",
        "saved", "step",
    }  # fmt: skip
