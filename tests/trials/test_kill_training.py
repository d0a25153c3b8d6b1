"""Killed trainings end as if nothing had happened: trials/kill_training, shortened, and what it would notice."""

import random

import pytest
import torch

import gpurender as gr
from trials import kill_training

pytest.importorskip("timm", reason="needs timm, of the extra 'train'")
pytest.importorskip("accelerate", reason="needs accelerate, of the extra 'train'")


def test_a_killed_training_ends_with_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(kill_training, "STEPS", 8)
    (tmp_path / "recipe.json").write_text(kill_training.RECIPE.to_json())
    words = ["pretrain", str(tmp_path / "recipe.json"), "--model", "test_vit", "--image-size", "32", "--steps", "8"]
    command = [*words, *kill_training.COMMON]
    assert kill_training.start(tmp_path, command, "calm").wait(kill_training.PATIENCE) == 0
    expected = kill_training.outcome(tmp_path / "calm")
    row = kill_training.trial(tmp_path, command, 0, random.Random(2), expected)
    assert row["equal"]
    assert len(row["kills"]) == 1
    assert row["kills"][0]["whole"]
    # and the comparison sees a single changed weight
    name, value = next(iter(expected[0].items()))
    spoiled = {**expected[0], name: value + 1e-6}
    assert not kill_training.same((spoiled, expected[1]), expected)
    assert not kill_training.same((expected[0], [(1, 0.5)]), expected)


def test_what_a_kill_leaves_is_judged(tmp_path):
    """A state or a checkpoint that is too old, or newer than the state, is a loss."""
    short = {"batch_size": 8, "image_size": 32, "device": "cpu", "log_every": 1, "save_every": 3, "augment": "crop"}
    gr.training.pretrain(kill_training.RECIPE, "test_vit", tmp_path, steps=7, **short)
    assert kill_training.found(tmp_path, 0) == {"state": 7, "checkpoint": 7, "whole": True, "torn": False}
    assert not kill_training.found(tmp_path, 8)["whole"]  # an earlier kill left a later step
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    for step, whole in ((6, False), (8, True), (10, True), (11, False)):  # the checkpoint stays that of step 7
        torch.save({**state, "step": step}, tmp_path / "state.pt")
        assert kill_training.found(tmp_path, 0)["whole"] == whole
    torch.save({**state, "step": 7}, tmp_path / "state.pt")
    journal = tmp_path / "metrics.jsonl"
    journal.write_text(journal.read_text() + journal.read_text().splitlines()[-1] + "\n")
    assert kill_training.found(tmp_path, 0)["whole"]  # 8 lines: the state of step 6 or later is enough
    journal.write_text(journal.read_text() * 2)
    assert not kill_training.found(tmp_path, 0)["whole"]
    (tmp_path / "checkpoint.safetensors").write_bytes(b"cut off")
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors"):
        kill_training.found(tmp_path, 0)
