"""Trainings in step: each ends as alone, whatever happens to the others, and each batch is drawn once."""

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import weakref
from types import SimpleNamespace

import pytest
import torch

import gpurender as gr
from gpurender.training import checkpoint
from gpurender.training.loop import Training
from gpurender.training.stopping import Interrupted
from tests.support import ROOT
from tests.support.modules import module

pytest.importorskip("timm", reason="needs timm, of the extra 'train'")
pytest.importorskip("accelerate", reason="needs accelerate, of the extra 'train'")

together = module("gpurender.training.together")
pretrain = module("gpurender.training.pretrain")
RECIPE = gr.VisualAtom(classes=4, instances=5, image_size=32, orbits=(2, 4), radius=(4, 8))  # two batches an epoch
SHARED = {"steps": 6, "batch_size": 8, "image_size": 32, "device": "cpu", "augment": "deit", "amp": "bf16"}
STUDENTS = {
    "a": {"model": "test_vit", "lr": 0.01, "ema": 0.9},
    "b": {"model": "test_resnet", "lr": 0.001},
    "c": {"model": "test_vit", "lr": 0.1, "clip": 1.0},
}


def prepared(folder, name, **changes):
    return pretrain.prepared(RECIPE, output=folder / name, **{**SHARED, **STUDENTS[name], **changes})


@contextlib.contextmanager
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _of_one_thread():
    """Sums depend on the number of threads."""
    with one_thread():
        yield


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What each training leaves that runs alone."""
    folder = tmp_path_factory.mktemp("alone")
    with one_thread():  # as that process has which is killed
        for name, own in STUDENTS.items():
            gr.training.pretrain(RECIPE, output=folder / name, log_every=2, save_every=2, **SHARED, **own)
    return {name: left(folder / name) for name in STUDENTS}


def left(folder):
    """All that a training has left, but for times."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        assert row.pop("images_per_second") > 0
        assert 0 <= row.pop("data_wait") <= 1
    return *ended(folder), rows


def ended(folder):
    """What a training has left but for its reports, which begin anew where it was cut off."""
    path = folder / "checkpoint.safetensors"
    state = torch.load(folder / "state.pt", weights_only=True)
    return state, gr.training.describe(path), checkpoint.read_weights(path)


def same(one, two):
    """Whether two trees of values are equal, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(value, two[name]) for name, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two


@pytest.fixture
def drawn(monkeypatch):
    """The places of the batches that are drawn."""
    found, batches = [], pretrain.Stream.batches
    monkeypatch.setattr(pretrain.Stream, "drawers", set(), raising=False)

    def noted(self):
        self.drawers.add(self)
        for batch in batches(self):
            place = self.state_dict()
            found.append((place["epoch"], place["position"]))
            yield batch

    monkeypatch.setattr(pretrain.Stream, "batches", noted)
    return found


PLACES = [(0, 8), (1, 0), (1, 8), (2, 0), (2, 8), (3, 0)]


def test_each_ends_as_alone_and_a_batch_is_drawn_once(tmp_path, alone, drawn):
    together.together([prepared(tmp_path, name) for name in STUDENTS], 2, 2)
    assert drawn == PLACES
    assert all(same(left(tmp_path / name), alone[name]) for name in STUDENTS)


def test_trainings_that_were_cut_off_at_different_steps_come_together(tmp_path, alone, drawn):
    """One had step 4, one step 2, one nothing: the last ones go first, until all are in step; one is done."""
    for name, steps in {"a": 2, "b": 4}.items():
        with pytest.MonkeyPatch.context() as patch:
            stop_at(patch, {tmp_path / name: steps})
            with pytest.raises(KeyError):
                together_alone(prepared(tmp_path, name))
    drawn.clear()
    trainings = [prepared(tmp_path, name) for name in STUDENTS]
    assert [training.resume() for training in trainings] == [True, True, False]
    pretrain.Stream.drawers.clear()
    together.together(trainings, 2, 2)
    assert drawn == PLACES
    assert len(pretrain.Stream.drawers) == 1  # one who draws has kernels and memory of its own
    assert all(same(ended(tmp_path / name), alone[name][:3]) for name in STUDENTS)
    again = [prepared(tmp_path, name) for name in STUDENTS]
    assert all(training.resume() for training in again)
    together.together(again, 2, 2)
    assert drawn == PLACES  # nothing is left to do
    assert all(same(ended(tmp_path / name), alone[name][:3]) for name in STUDENTS)


def together_alone(training):
    training.run(SimpleNamespace(advance=lambda: None, report=lambda values: None), 2, 2)


def stop_at(patch, steps, error=KeyError):
    """Let trainings fail at a step, by their folder."""
    take = Training._take_step

    def step(self, batches):
        if self.step == steps.get(self.folder):
            raise error("no\nreason")
        return take(self, batches)

    patch.setattr(Training, "_take_step", step)


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_one_that_fails_leaves_and_the_others_go_on(tmp_path, alone, drawn, monkeypatch, caplog, name):
    """Also where it was the one that drew: the next one draws from the same place on."""
    with monkeypatch.context() as patch:
        stop_at(patch, {tmp_path / name: 3}, RuntimeError)
        together.together([prepared(tmp_path, other) for other in STUDENTS], 2, 2)
    assert drawn == PLACES
    assert [record.getMessage() for record in caplog.records] == [f"{tmp_path / name} leaves its group: no reason"]
    assert all(same(left(tmp_path / other), alone[other]) for other in STUDENTS if other != name)
    state = torch.load(tmp_path / name / "state.pt", weights_only=True)
    assert state["step"] == 2
    gr.training.pretrain(RECIPE, output=tmp_path / name, log_every=2, save_every=2, **SHARED, **STUDENTS[name])
    assert same(ended(tmp_path / name), alone[name][:3])


def test_one_that_fails_frees_its_memory(tmp_path, monkeypatch):
    """At once: on a GPU the others may need it."""
    models = {}

    def made():
        for name in ("a", "b"):
            training = prepared(tmp_path, name)
            models[name] = weakref.ref(training.network)
            yield training
            del training

    take, seen = Training._take_step, []

    def step(self, batches):
        if self.folder == tmp_path / "a":
            if self.step == 2:
                raise MemoryError
        elif self.step >= 2:
            gc.collect()
            seen.append(models["a"]() is None)
        return take(self, batches)

    monkeypatch.setattr(Training, "_take_step", step)
    together.together(made(), 10, 10)
    assert seen == [False, True, True, True]


def test_a_loss_that_is_lost_is_one_failure(tmp_path, alone, caplog):
    together.together([prepared(tmp_path, "a"), prepared(tmp_path, "c", lr=1e6)], 2, 2)
    assert same(left(tmp_path / "a"), alone["a"])
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"{tmp_path / 'c'} leaves its group: the loss is ")


def test_a_batch_that_cannot_be_drawn_fails_all_in_turn(tmp_path, monkeypatch, caplog):
    def none(self):
        raise RuntimeError("no kernel")
        yield

    monkeypatch.setattr(pretrain.Stream, "batches", none)
    together.together([prepared(tmp_path, name) for name in STUDENTS], 2, 2)
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / name} leaves its group: no kernel" for name in STUDENTS
    ]


def test_a_model_that_writes_into_its_images_does_not_change_the_others_(tmp_path, alone):
    spoiler = prepared(tmp_path, "b")
    spoiler.network.register_forward_pre_hook(lambda module, given: (given[0].zero_(),))
    together.together([spoiler, prepared(tmp_path, "a")], 2, 2)
    assert same(left(tmp_path / "a"), alone["a"])
    assert not same(left(tmp_path / "b"), alone["b"])


@pytest.mark.parametrize("step", [1, 5])
def test_a_signal_saves_all_and_ends(tmp_path, alone, monkeypatch, step):
    """It comes while the second of three takes a step; in the last step all are done, and the caller is to end."""
    raised, take = [], Training._take_step
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def signalled(self, batches):
        if (self.folder.name, self.step) == ("b", step):
            signal.getsignal(signal.SIGTERM)(signal.SIGTERM, None)
        return take(self, batches)

    monkeypatch.setattr(together.signal, "raise_signal", raised.append)
    with monkeypatch.context() as patch:
        patch.setattr(Training, "_take_step", signalled)
        trainings = [prepared(tmp_path, name) for name in STUDENTS]
        if step == 1:
            with pytest.raises(Interrupted) as stopped:
                together.together(trainings, 10, 10)
            assert stopped.value.number == signal.SIGTERM
        else:
            together.together(trainings, 10, 10)
    assert {number: signal.getsignal(number) for number in handlers} == handlers
    assert raised == ([] if step == 1 else [signal.SIGTERM])
    steps = [torch.load(tmp_path / name / "state.pt", weights_only=True)["step"] for name in STUDENTS]
    assert steps == ([3, 2, 2] if step == 1 else [6, 6, 6])
    for name, own in STUDENTS.items():
        gr.training.pretrain(RECIPE, output=tmp_path / name, log_every=2, save_every=2, **SHARED, **own)
        assert same(ended(tmp_path / name), alone[name][:3])


def test_the_time_of_a_report_is_that_of_its_own_steps_and_of_the_drawing(tmp_path, monkeypatch):
    """By a clock that goes by hand: drawing takes 1 s, a step of the first training 2 s, one of the second 4 s."""
    now = [100.0]

    def passing(seconds, real):
        def call(self, *given):
            found = real(self, *given)
            now[0] += seconds if isinstance(seconds, float) else seconds[self.folder.name]
            return found

        return call

    journal = module("gpurender.training.journal")
    monkeypatch.setattr(journal, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(Training, "_take_step", passing({"a": 2.0, "b": 4.0}, Training._take_step))
    monkeypatch.setattr(together._Student, "draw", drawing(now, together._Student.draw))
    together.together([prepared(tmp_path, name) for name in ("a", "b")], 3, 6)
    for name, seconds in {"a": 3.0, "b": 5.0}.items():
        rows = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        assert [row["images_per_second"] for row in rows] == pytest.approx([8 / seconds] * 2)
        assert [row["data_wait"] for row in rows] == pytest.approx([1 / seconds] * 2)


def drawing(now, real):
    def draw(self):
        stream = self._stream

        def slow():
            now[0] += 1.0
            return next(stream)

        self._stream = iter(slow, None)
        try:
            return real(self)
        finally:
            self._stream = stream

    return draw


def test_one_bar_is_shown(tmp_path, monkeypatch):
    shown, journal = [], together.Journal
    monkeypatch.setattr(together, "Journal", lambda *given: shown.append(given[1:]) or journal(*given))
    together.together([prepared(tmp_path, name, steps=1) for name in STUDENTS], 2, 2)
    assert shown == [(0, 1, True, False, True), (0, 1, True, False, False), (0, 1, True, False, False)]


KILLED = """
import os, pathlib, signal, sys
from tests.training import test_together as own
take = own.Training._take_step
def step(self, batches):
    if (self.folder.name, self.step) == ("b", 3):
        os.kill(os.getpid(), signal.SIGKILL)
    return take(self, batches)
own.Training._take_step = step
own.together.together([own.prepared(pathlib.Path(sys.argv[1]), name) for name in own.STUDENTS], 2, 1)
"""


def test_after_a_kill_the_group_goes_on(tmp_path, alone, monkeypatch):
    """One was at step 4, the others at 3."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, env=env, capture_output=True,
                          timeout=300, check=False)  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    trainings = [prepared(tmp_path, name) for name in STUDENTS]
    assert all(training.resume() for training in trainings)
    assert [training.step for training in trainings] == [4, 3, 3]
    together.together(trainings, 2, 2)
    for name in STUDENTS:
        assert same(ended(tmp_path / name), alone[name][:3])
