"""Training stacks take gr.DataLoader where torch's stood: the real libraries, on a CPU, batch by batch."""

import gc
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from functools import partial
from itertools import chain, islice

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader as TorchLoader
from torch.utils.data import IterableDataset, RandomSampler, default_collate

import gpurender as gr

TRIANGLE = [[0.5, 0, 0, 0.5, 0, 0], [0.5, 0, 0, 0.5, 0.5, 0], [0.5, 0, 0, 0.5, 0.25, 0.5]]
LENGTH, BATCH = 26, 4
BATCHES = 7  # of an epoch, the last of two samples


def tiny(classes=LENGTH):
    """One sample a class, so that a label is a sample's number."""
    return gr.OnePFrac(classes=classes, instances=1, image_size=32, points=300, fill_rate=0.0, base=TRIANGLE)


KEYWORDS = {"batch_size": BATCH, "image_size": 16, "shuffle": True, "augment": gr.augment.Crop(), "device": "cpu"}


def loader(**changes):
    return gr.DataLoader(tiny(), **KEYWORDS | changes)


def digest(images, targets):
    """What tells batches apart: the bytes and the labels."""
    return [hashlib.sha256(images.numpy().tobytes()).hexdigest()[:16], targets.tolist()]


def stream(epochs, **changes):
    """Digests of so many epochs of a plain loop."""
    plain = loader(**changes)
    return [digest(*batch) for _ in range(epochs) for batch in plain]


class Network(nn.Module):
    """A linear classifier that notes what it is given."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 16 * 16, LENGTH)
        self.seen = []

    def forward(self, images, targets):
        self.seen.append(digest(images, targets))
        return nn.functional.cross_entropy(self.layer(images.flatten(1)), targets)


def example(root, name, classes=1000):
    """An example's module, on a recipe of as many samples that are drawn faster."""
    spec = importlib.util.spec_from_file_location(name, root / f"examples/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.RECIPE == "onepfrac-1k"
    module.RECIPE = tiny(classes)
    return module


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny models are slower on more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# ------------------------------------------------------------------------------------------------------- Lightning


@pytest.fixture
def lightning():
    return pytest.importorskip("lightning", reason="needs Lightning, of the extra 'lightning'")


@pytest.fixture
def fit(lightning, tmp_path):
    """Trains like Lightning's first example; what the model saw, how often it was stepped, and the loader."""
    from lightning.pytorch.callbacks import ModelCheckpoint

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network, self.steps = Network(), 0

        def training_step(self, batch, index):
            return self.network(*batch)

        def on_before_zero_grad(self, optimizer):
            self.steps += 1

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    def run(max_epochs, every=0, resume=None, changes=None, **keywords):
        saving = [ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=every, save_top_k=-1)] if every else []
        trainer = lightning.Trainer(
            max_epochs=max_epochs, callbacks=saving, accelerator="cpu", logger=False, enable_checkpointing=bool(every),
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path, **keywords,
        )  # fmt: skip
        module, source = Module(), loader(**changes or {})
        trainer.fit(module, source, ckpt_path=resume)
        return module.network.seen, trainer.global_step, source

    return run


def test_lightning_sees_every_batch_of_every_epoch(fit):
    """Although it calls iter() twice before the first batch and never next() after the last."""
    seen, steps, source = fit(max_epochs=4)
    assert seen == stream(4)
    assert steps == 4 * BATCHES
    assert (source.state_dict()["epoch"], source.state_dict()["position"]) == (4, 0)


def test_lightning_resumes_with_the_very_next_batch(fit, tmp_path):
    """In a fresh Trainer with a fresh loader: from within an epoch, its end and the next one."""
    expected = stream(3)
    assert fit(max_epochs=3, every=1)[0] == expected
    for step in (5, 6, 7, 8, 16):
        seen, steps, _ = fit(max_epochs=3, resume=tmp_path / f"step={step}.ckpt")
        assert seen == expected[step:], step
        assert steps == 3 * BATCHES


def test_lightning_accumulates_gradients(fit):
    seen, steps, _ = fit(max_epochs=2, accumulate_grad_batches=3)
    assert seen == stream(2)
    assert steps == 2 * 3  # 3 + 3 + 1 batches


@pytest.mark.parametrize("drop_last", [False, True])
def test_lightning_resumes_where_epochs_are_of_whole_steps(fit, tmp_path, drop_last):
    whole = {"batch_size": LENGTH // 2, "drop_last": drop_last}
    expected = stream(3, **whole)
    assert len(expected) == 6
    assert fit(max_epochs=3, every=1, changes=whole)[0] == expected
    for step in (1, 2, 3):
        assert fit(max_epochs=3, resume=tmp_path / f"step={step}.ckpt", changes=whole)[0] == expected[step:], step


def test_lightning_takes_a_length_in_steps(fit, tmp_path):
    steps, expected = {"steps_per_epoch": 5}, stream(3)
    seen, count, source = fit(max_epochs=3, every=1, changes=steps)
    assert seen == expected[:15]
    assert (count, len(source), source.state_dict()["pass"]) == (15, 5, 3)
    for step in (1, 5, 7, 14):
        assert fit(max_epochs=3, resume=tmp_path / f"step={step}.ckpt", changes=steps)[0] == expected[step:15], step


def test_lightning_overfits_batches_of_a_loader_in_order(fit):
    """The same samples in every epoch; one that shuffles is refused rather than trained on other samples."""
    seen, steps, _ = fit(max_epochs=3, overfit_batches=2, changes={"shuffle": False})
    assert [targets for _, targets in seen] == [list(range(4)), list(range(4, 8))] * 3
    assert steps == 6
    with pytest.warns(UserWarning, match="overfit"), pytest.raises(ValueError, match="needs to subclass"):
        fit(max_epochs=1, overfit_batches=2)


@pytest.mark.parametrize("shuffle", [False, True])
def test_lightning_knows_whether_a_loader_shuffles(lightning, shuffle):
    from lightning.pytorch.utilities.data import _is_dataloader_shuffled

    assert _is_dataloader_shuffled(loader(shuffle=shuffle)) is shuffle


LIGHTNING_RANKS = """
import json, sys
import lightning, torch
from tests.interop.test_stacks import Network, loader

class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = Network()

    def training_step(self, batch, index):
        return self.network(*batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

trainer = lightning.Trainer(
    max_epochs=2, accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False,
)
module = Module()
trainer.fit(module, loader())
with open(f"{sys.argv[1]}/{trainer.global_rank}.json", "w") as file:
    json.dump([targets for _, targets in module.network.seen], file)
"""


def test_lightning_ranks_share_each_epoch(lightning, root, tmp_path):
    """With its default use_distributed_sampler=True: it puts no sampler of its own into our loader."""
    script = tmp_path / "train.py"
    script.write_text(LIGHTNING_RANKS)
    finished([sys.executable, script, tmp_path], root, tmp_path)
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [list(map(len, rank)) for rank in ranks] == [[4, 4, 4, 1] * 2] * 2
    together = [first + second for first, second in zip(*ranks, strict=True)]
    assert together == [targets for _, targets in stream(2, batch_size=2 * BATCH)]


def finished(words, root, folder):
    """Standard output of a command that succeeds, on the CPU, one thread a process."""
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    words = [str(word) for word in words]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_of_lightning(lightning, root, capsys):
    example(root, "lightning_fit").main()
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert [line.split("  ")[::2] for line in printed] == [
        ["step 13", "the loader is at epoch 0, sample 650"],
        ["step 40", "the loader is at epoch 2, sample 0"],
    ]


# ------------------------------------------------------------------------------------------------------------ timm


@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("size", [LENGTH // 2, LENGTH // 2 - 1, LENGTH, LENGTH + 1])
def test_timms_lengths_at_the_ends_of_epochs(is_training, size):
    timm = pytest.importorskip("timm", reason="needs timm, of the extra 'train'")
    from gpurender.interop.timm import create_loader

    keywords = {"is_training": is_training, "device": torch.device("cpu"), "num_workers": 0}
    ours = create_loader(tiny(), 16, size, **keywords)
    theirs = timm.data.create_loader(gr.Dataset(tiny()), 16, size, **keywords)
    lengths = [len(targets) for _, targets in ours]
    assert len(ours) == len(lengths) == len(theirs)
    assert sum(lengths) == (LENGTH // size * size if is_training else LENGTH)
    assert ours.state_dict()["epoch"] == 1


# ------------------------------------------------------------------------------------------------------ Accelerate


@pytest.fixture
def accelerate():
    """Accelerate, whose state is one a process, as in a new process."""
    accelerate = pytest.importorskip("accelerate", reason="needs Accelerate, of the extra 'accelerate'")
    from accelerate.state import AcceleratorState, GradientState

    def forget():
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()

    forget()
    yield accelerate
    forget()


def accelerated(accelerate, make, windows=1):
    """An accelerator, and its model, optimiser and loader; ``make`` gets the accelerator."""
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=windows)
    source, network = make(accelerator), Network()
    model, optimizer, prepared = accelerator.prepare(network, torch.optim.SGD(network.parameters(), lr=0.1), source)
    return accelerator, model, optimizer, prepared, source


def train(accelerator, model, optimizer, batches):
    """The usual loop; for each batch, whether the gradients were stepped."""
    steps = []
    for batch in batches:
        with accelerator.accumulate(model):
            accelerator.backward(model(*batch))
            optimizer.step()
            optimizer.zero_grad()
        steps.append(accelerator.sync_gradients)
    return steps


def ours(**changes):
    from gpurender.interop.accelerate import DataLoader

    return lambda accelerator: DataLoader(accelerator, tiny(), **KEYWORDS | changes)


def plain(accelerator):
    return loader()


def torchs(accelerator):
    return TorchLoader([(torch.zeros(3, 16, 16), n) for n in range(LENGTH)], BATCH)


WINDOWS = [False, False, True, False, False, True, True]  # of three batches, in an epoch of seven


def test_loaders_of_stacks_take_names_and_name_what_was_meant(accelerate):
    from gpurender.interop.accelerate import DataLoader as Accelerated
    from gpurender.interop.transformers import DataLoader as Trained

    accelerator = accelerate.Accelerator(cpu=True)
    tiny = gr.VisualAtom(classes=2, instances=4, image_size=32).to_json()
    for make in (partial(Accelerated, accelerator, tiny), partial(Trained, tiny)):
        given = {"batch_size": 4, "image_size": 16}
        _, targets = next(iter(gr.DataLoader(tiny, device="cpu", augment=gr.augment.DeiT(), **given)))
        batch = next(iter(make(augment="deit", **given)))
        assert torch.equal(batch["labels"] if isinstance(batch, dict) else batch[1], targets)
        with pytest.raises(TypeError, match=r"^DataLoader\(\) got .* 'batchsize'; did you mean 'batch_size'\?$"):
            make(batchsize=4)
        with pytest.raises(ValueError, match=r"^augment must be one of .*; did you mean 'deit'\?$"):
            make(augment="dite")


def test_accelerate_returns_the_loader_as_it_is(accelerate):
    for make in (plain, ours()):
        accelerator, model, optimizer, prepared, source = accelerated(accelerate, make)
        assert prepared is source
        steps = [train(accelerator, model, optimizer, prepared) for _ in range(2)]
        assert steps == [[True] * BATCHES] * 2
        assert model.seen == stream(2)


def test_accelerate_steps_the_last_window_of_an_epoch(accelerate):
    """As with a loader of its own; over gr.DataLoader itself the windows run on into the next epoch."""
    steps = {}
    for name, make in {"torch's": torchs, "plain": plain, "ours": ours()}.items():
        accelerator, model, optimizer, prepared, _ = accelerated(accelerate, make, windows=3)
        steps[name] = [*chain(*(train(accelerator, model, optimizer, prepared) for _ in range(2)))]
    assert steps["torch's"] == steps["ours"] == WINDOWS * 2
    assert steps["plain"] == [*[False, False, True] * 4, False, False]


@pytest.mark.parametrize("drop_last", [False, True])
def test_accelerate_knows_the_end_and_what_is_left_there(accelerate, drop_last):
    accelerator, _, _, prepared, _ = accelerated(accelerate, ours(drop_last=drop_last))
    ends = []
    for _, targets in prepared:
        ends.append(accelerator.gradient_state.end_of_dataloader)
        assert accelerator.gradient_state.remainder == (0 if drop_last else LENGTH % BATCH)
        assert len(accelerator.gather_for_metrics(targets)) == len(targets)
    assert ends == [False] * (len(prepared) - 1) + [True]
    assert accelerator.gradient_state.active_dataloader is None


def test_accelerate_is_told_the_end_of_a_pass_once(accelerate, monkeypatch):
    """A second time it would take away the loader of the pass around this one."""
    _, _, _, prepared, _ = accelerated(accelerate, ours())
    ends = []
    monkeypatch.setattr(type(prepared), "end", lambda loader: ends.append(loader))
    batches = iter(prepared)
    assert len(list(batches)) == len(prepared)
    del batches
    gc.collect()
    assert ends == [prepared]


def test_accelerate_knows_what_is_left_behind_a_place_between_steps(accelerate):
    """A state of a loader with another batch size."""
    other = loader(batch_size=5)
    next(iter(other))
    accelerator, _, _, prepared, _ = accelerated(accelerate, ours())
    prepared.load_state_dict(other.state_dict())
    for left in (LENGTH - 5, LENGTH):
        found = [(len(targets), accelerator.gradient_state.remainder) for _, targets in prepared]
        assert found == [(BATCH, left % BATCH)] * (left // BATCH) + [(left % BATCH, left % BATCH)]


@pytest.mark.parametrize("drop_last", [False, True])
def test_accelerate_where_epochs_are_of_whole_steps(accelerate, tmp_path, drop_last):
    whole = {"batch_size": LENGTH // 2, "drop_last": drop_last}
    for stop in (0, 1, 2, 3):
        accelerator, _, _, prepared, _ = accelerated(accelerate, ours(**whole))
        ends, state, passes, seen = [], accelerator.gradient_state, iter(prepared), []
        while len(seen) < stop:
            for batch in passes:
                seen.append(digest(*batch))
                ends.append((state.end_of_dataloader, state.remainder))
                if len(seen) == stop:
                    break
            passes = iter(prepared)
        assert ends == ([(False, 0), (True, 0)] * 2)[:stop]
        accelerator.save_state(tmp_path / str(stop))
        accelerator, _, _, prepared, _ = accelerated(accelerate, ours(**whole))
        accelerator.load_state(tmp_path / str(stop))
        seen += [digest(*batch) for _ in range(2) for batch in prepared]
        expected = stream(4, **whole)
        assert seen == expected[: stop + 2 - stop % 2 + 2]


def test_accelerate_does_not_know_what_a_sampler_leaves(accelerate):
    accelerator, _, _, prepared, _ = accelerated(accelerate, ours(sampler=range(7), shuffle=None))
    found = [(accelerator.gradient_state.end_of_dataloader, accelerator.gradient_state.remainder) for _ in prepared]
    assert found == [(False, -1), (True, -1)]


def test_accelerate_forgets_a_pass_that_was_left(accelerate):
    """However it was: at its end, by break, by an exception, for another loader within it."""
    accelerator, _, _, outer, _ = accelerated(accelerate, ours())
    inner = ours()(accelerator)
    state = accelerator.gradient_state
    for _ in outer:
        assert state.active_dataloader is outer
        for _ in inner:
            assert state.active_dataloader is inner
        assert state.active_dataloader is outer
        assert not state.end_of_dataloader
        break
    assert state.active_dataloader is None
    with pytest.raises(KeyError, match="in this test"):
        leave_by_an_exception(outer)
    assert state.active_dataloader is None


def leave_by_an_exception(batches):
    for _ in batches:
        raise KeyError("in this test")


def test_accelerate_asks_again_for_a_batch_that_failed(accelerate):
    calls = []

    class Fails(gr.augment.Crop):
        def draw(self, numbers, **keywords):
            calls.append(numbers)
            if len(calls) == 3:
                raise OSError("no space left in this test")
            return super().draw(numbers, **keywords)

    accelerator, _, _, prepared, _ = accelerated(accelerate, ours(augment=Fails()))
    batches = iter(prepared)
    seen = [digest(*batch) for batch in islice(batches, 2)]
    with pytest.raises(OSError, match="no space left in this test"):
        next(batches)
    assert accelerator.gradient_state.active_dataloader is prepared
    assert seen + [digest(*batch) for batch in batches] == stream(1)
    assert accelerator.gradient_state.active_dataloader is None


@pytest.mark.parametrize("stop", [1, 3, 5, 6, 7, 12])
def test_accelerate_saves_and_restores_the_place(accelerate, tmp_path, stop):
    accelerator, model, optimizer, prepared, _ = accelerated(accelerate, ours(), windows=3)
    before = [train(accelerator, model, optimizer, prepared) for _ in range(stop // BATCHES)]
    before.append(train(accelerator, model, optimizer, islice(prepared, stop % BATCHES)))
    accelerator.save_state(tmp_path)
    accelerate.state.GradientState._reset_state()

    accelerator, model, optimizer, prepared, _ = accelerated(accelerate, ours(), windows=3)
    accelerator.load_state(tmp_path)
    after = [train(accelerator, model, optimizer, prepared) for _ in range(2 - stop // BATCHES)]
    assert model.seen == stream(2)[stop:]
    assert [*chain(*before, *after)] == WINDOWS * 2


@pytest.mark.parametrize("stop", [2, 5, 7, 9])
def test_accelerate_takes_a_length_in_steps(accelerate, tmp_path, stop):
    """Passes of five steps: a window of three and one of two; the second pass goes through the end of an epoch."""
    make, windows = ours(steps_per_epoch=5), [False, False, True, False, True]
    accelerator, model, optimizer, prepared, _ = accelerated(accelerate, make, windows=3)
    before = [train(accelerator, model, optimizer, prepared) for _ in range(stop // 5)]
    before.append(train(accelerator, model, optimizer, islice(prepared, stop % 5)))
    accelerator.save_state(tmp_path)
    accelerate.state.GradientState._reset_state()

    accelerator, model, optimizer, prepared, _ = accelerated(accelerate, make, windows=3)
    accelerator.load_state(tmp_path)
    after = [train(accelerator, model, optimizer, prepared) for _ in range(2 - stop // 5)]
    assert model.seen == stream(2)[stop:10]
    assert [*chain(*before, *after)] == windows * 2


def test_accelerate_knows_what_is_left_at_the_end_of_a_length_in_steps(accelerate):
    accelerator, _, _, prepared, _ = accelerated(accelerate, ours(steps_per_epoch=BATCHES * 2 - 1))
    found = [[accelerator.gradient_state.remainder for _ in prepared] for _ in range(3)]
    assert [set(some) for some in found] == [{0}, {0}, {0}]
    accelerator, _, _, prepared, _ = accelerated(accelerate, ours(steps_per_epoch=BATCHES * 2))
    assert {accelerator.gradient_state.remainder for _ in prepared} == {LENGTH % BATCH}


def test_accelerate_saves_a_plain_loader_that_is_registered(accelerate, tmp_path):
    for run in range(2):
        accelerator, model, optimizer, prepared, _ = accelerated(accelerate, plain)
        accelerator.register_for_checkpointing(prepared)
        if run:
            accelerator.load_state(tmp_path)
        train(accelerator, model, optimizer, islice(prepared, 3))
        accelerator.save_state(tmp_path)
        assert model.seen == stream(1)[3 * run : 3 * run + 3]


def test_skip_first_batches_of_a_plain_loader_is_an_error(accelerate):
    """It goes behind the loader, to the pictures; the message says that load_state_dict is the way."""
    accelerator = accelerate.Accelerator(cpu=True)
    for make in (plain, ours()):
        skipped = accelerator.skip_first_batches(make(accelerator), 2)
        with pytest.raises(TypeError, match=r"skip_first_batches.*loader\.load_state_dict.*accelerator\.load_state"):
            next(iter(skipped))


def test_the_accelerators_device_is_drawn_on(accelerate, monkeypatch):
    from gpurender.interop.accelerate import DataLoader

    accelerator = accelerate.Accelerator(cpu=True)
    assert next(iter(DataLoader(accelerator, tiny(), image_size=16)))[0].device == accelerator.device
    monkeypatch.setattr(accelerator.state, "device", torch.device("meta"))
    with pytest.raises(ValueError, match=r"device .*meta"):
        DataLoader(accelerator, tiny())


def test_what_is_no_accelerator_is_refused(accelerate):
    with pytest.raises(TypeError, match="accelerator must be"):
        ours()("cpu")


def test_the_example_of_accelerate(accelerate, root, capsys):
    example(root, "accelerate_loop").main()
    printed = [line.split(", loss")[0] for line in capsys.readouterr().out.splitlines() if "batches" in line]
    assert printed == ["7 batches, 2 optimizer steps", "13 batches, 5 optimizer steps"]


# ---------------------------------------------------------------------------------------------------- transformers


@pytest.fixture
def transformers(accelerate):
    return pytest.importorskip("transformers", reason="needs transformers, of the extra 'transformers'")


@pytest.fixture
def pretrain(transformers, tmp_path):
    """Trains a ViT by a Trainer over a loader; what the model was given, the losses, the Trainer."""

    def run(source, resume=None, stop=None, epochs=2, windows=3):
        class Pretraining(transformers.Trainer):
            def get_train_dataloader(self):
                return source

        class Stops(transformers.TrainerCallback):
            def on_step_end(self, args, state, control, **_):
                control.should_training_stop |= state.global_step == stop

        arguments = transformers.TrainingArguments(
            tmp_path / "run", per_device_train_batch_size=BATCH, num_train_epochs=epochs, use_cpu=True, report_to=[],
            gradient_accumulation_steps=windows, logging_steps=1, save_steps=1, disable_tqdm=True, seed=7,
        )  # fmt: skip
        checkpoint = tmp_path / f"run/checkpoint-{resume}" if resume else None
        model = vit(transformers, checkpoint)
        seen = []
        model.register_forward_pre_hook(
            lambda _, __, given: seen.append(digest(given["pixel_values"], given["labels"])), with_kwargs=True
        )
        trainer = Pretraining(model, arguments, callbacks=[Stops()])
        trainer.train(resume_from_checkpoint=checkpoint)
        losses = {entry["step"]: entry["loss"] for entry in trainer.state.log_history if "loss" in entry}
        return seen, losses, trainer

    return run


def vit(transformers, checkpoint):
    """With dropout: unless torch's generator is restored too, the losses differ."""
    torch.manual_seed(0)
    if checkpoint:
        return transformers.ViTForImageClassification.from_pretrained(checkpoint)
    config = transformers.ViTConfig(
        image_size=16, patch_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        num_labels=LENGTH, hidden_dropout_prob=0.2,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config)


def keyworded(**changes):
    from gpurender.interop.transformers import DataLoader

    return DataLoader(tiny(), **KEYWORDS | changes)


def as_keywords(samples):
    """The usual collate_fn of an image classifier's Trainer."""
    return {
        "pixel_values": torch.stack([image for image, _ in samples]),
        "labels": torch.stack([target for _, target in samples]),
    }


@pytest.mark.parametrize("kind", ["collate_fn", "ours", "ours with collate_fn"])
def test_a_trainer_sees_every_batch_of_every_epoch(pretrain, kind):
    source = keyworded() if kind == "ours" else (loader if kind == "collate_fn" else keyworded)(collate_fn=as_keywords)
    seen, losses, trainer = pretrain(source)
    assert seen == stream(2)
    assert len(losses) == trainer.state.global_step == 6  # windows of 3, 3 and 1 batches, twice
    assert trainer.state.epoch == 2.0
    assert trainer.num_examples(source) == LENGTH


@pytest.mark.parametrize("collate_fn", [None, as_keywords])
def test_a_trainer_resumes_with_the_very_next_batch(pretrain, collate_fn):
    """From every step of a run: within an epoch, before its last, short window, at its end, in the next one."""
    expected, losses, _ = pretrain(keyworded(collate_fn=collate_fn))
    for step, batches in {1: 3, 2: 6, 3: 7, 5: 13}.items():
        seen, again, trainer = pretrain(keyworded(collate_fn=collate_fn), resume=step)
        assert seen == expected[batches:], step
        assert again == losses, step  # those before the checkpoint are part of it
        assert trainer.state.epoch == 2.0


def test_a_trainer_takes_a_length_in_steps(pretrain):
    expected, _, trainer = pretrain(keyworded(steps_per_epoch=5))
    assert expected == stream(2)[:10]
    assert trainer.state.epoch == 2.0
    for count in (1, 5, 9):  # an epoch has seven batches, the last one smaller
        source = keyworded(steps_per_epoch=count)
        sizes = [len(batch["labels"]) for batch in source]
        assert len(sizes) == count
        assert trainer.num_examples(source) == sum(sizes)
    for step, batches in {1: 3, 2: 5, 3: 8}.items():  # windows of three and two batches
        assert pretrain(keyworded(steps_per_epoch=5), resume=step)[0] == expected[batches:], step


def test_a_trainer_draws_only_what_is_left(pretrain):
    drawn = []

    class Counts(gr.augment.Crop):
        def draw(self, numbers, **keywords):
            drawn.append(len(numbers))
            return super().draw(numbers, **keywords)

    pretrain(keyworded(), stop=4)
    drawn.clear()
    seen, _, _ = pretrain(keyworded(augment=Counts(), prefetch_factor=2, timeout=60), resume=4)
    assert seen == stream(2)[10:]
    assert drawn == [4, 4, 4, 2]


def test_a_loader_for_trainers_says_what_it_cannot(transformers):
    for keywords in ({"sampler": range(4)}, {"batch_sampler": [[0, 1]], "batch_size": 1}):
        with pytest.raises(ValueError, match=f"^{next(iter(keywords))} must be left out: a Trainer"):
            keyworded(shuffle=None, **keywords)


@pytest.mark.parametrize("drop_last", [False, True])
def test_a_trainer_resumes_where_epochs_are_of_whole_steps(pretrain, drop_last):
    def source():
        return keyworded(batch_size=LENGTH // 2, drop_last=drop_last)

    expected = stream(2, batch_size=LENGTH // 2)
    assert pretrain(source(), windows=1)[0] == expected
    for step in (1, 2, 3):
        assert pretrain(source(), resume=step, windows=1)[0] == expected[step:], step


@pytest.mark.parametrize("world", [{}, {"rank": 1, "world_size": 2}])
def test_a_loader_for_trainers_is_skipped_through(transformers, world):
    from accelerate import Accelerator, skip_first_batches

    Accelerator(cpu=True)
    source, expected = keyworded(**world), stream(3, **world)
    batches = len(source)
    with pytest.raises(RuntimeError, match="set_epoch must be called before every epoch"):
        list(skip_first_batches(source, 2))
    # What is left midway, before batch 3 of epoch 2, does not go on where the next one begins.
    for epoch, first, stop in ((1, 2, batches), (2, 1, 3), (0, 3, batches), (0, 0, batches)):
        source.set_epoch(epoch)
        rest = islice(skip_first_batches(source, first), stop - first)
        seen = [digest(batch["pixel_values"], batch["labels"]) for batch in rest]
        assert seen == expected[epoch * batches :][first:stop]
    with pytest.raises(RuntimeError, match="set_epoch must be called before every epoch"):  # said once for each
        list(skip_first_batches(source, 2))


def test_the_example_of_transformers(transformers, root, capsys):
    example(root, "transformers_trainer").main()
    assert "7 steps, the last 4 after the checkpoint" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------- torchdata


@pytest.fixture
def torchdata():
    return pytest.importorskip("torchdata", reason="needs torchdata, of the extra 'torchdata'")


def test_the_loader_keeps_torchdatas_protocol(torchdata):
    from torchdata.stateful_dataloader.stateful import Stateful

    assert isinstance(loader(), Stateful)


def nodes(ahead, **changes):
    """A pipeline of nodes, its last one the digest; with ``ahead`` a thread is three batches ahead."""
    from torchdata import nodes

    source = nodes.Mapper(nodes.IterableWrapper(loader(**changes)), lambda batch: digest(*batch))
    return nodes.Loader(nodes.Prefetcher(source, prefetch_factor=3) if ahead else source)


class Streamed(IterableDataset):
    """A loader as an iterable dataset, as StatefulDataLoader wants it."""

    def __init__(self, **changes):
        self.loader = loader(**changes)

    def __iter__(self):
        return (digest(*batch) for batch in self.loader)

    def state_dict(self):
        return self.loader.state_dict()

    def load_state_dict(self, state):
        self.loader.load_state_dict(state)


def streamed(**changes):
    from torchdata.stateful_dataloader import StatefulDataLoader

    return StatefulDataLoader(Streamed(**changes), batch_size=None)


PIPELINES = pytest.mark.parametrize(
    "make", [partial(nodes, False), partial(nodes, True), streamed], ids=["nodes", "ahead", "list"]
)


@PIPELINES
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("stop", [0, 1, 2])
def test_torchdata_goes_on_where_epochs_are_of_whole_steps(torchdata, make, drop_last, stop):
    whole = {"batch_size": LENGTH // 2, "drop_last": drop_last}
    first, second, expected = make(**whole), make(**whole), stream(4, **whole)
    assert list(first) == expected[:2]
    batches = iter(first)
    begun = [next(batches) for _ in range(stop)]
    second.load_state_dict(first.state_dict())
    assert begun + list(second) + list(second) == expected[2 : 6 if stop < 2 else 8]


@PIPELINES
@pytest.mark.parametrize("stop", [0, 3, 6, 7])
def test_torchdata_goes_on_from_a_state_in_json(torchdata, make, stop):
    """After an epoch and ``stop`` batches, in a new pipeline: the rest, then the epoch after it."""
    first, second, expected = make(), make(), stream(4)
    assert list(first) == expected[:BATCHES]
    batches = iter(first)
    begun = [next(batches) for _ in range(stop)]
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    rest = list(second) + list(second)
    assert begun + rest == expected[BATCHES : (3 if stop < BATCHES else 4) * BATCHES]


@pytest.mark.parametrize("stop", [1, 3, 6])
def test_torchdatas_loader_over_the_dataset(torchdata, stop):
    from torchdata.stateful_dataloader import StatefulDataLoader

    def make():
        dataset = gr.Dataset(tiny(), transform=lambda image: torch.tensor(list(image.tobytes())))
        return StatefulDataLoader(dataset, BATCH, shuffle=True, generator=torch.Generator().manual_seed(3))

    expected = [digest(*batch) for batch in make()]
    assert sorted(chain(*(targets for _, targets in expected))) == list(range(LENGTH))
    first, second = make(), make()
    batches = iter(first)
    assert [digest(*next(batches)) for _ in range(stop)] == expected[:stop]
    second.load_state_dict(first.state_dict())
    assert [digest(*batch) for batch in second] == expected[stop:]


def test_the_example_of_torchdata(torchdata, root, capsys):
    example(root, "torchdata_stateful").main()
    printed = capsys.readouterr().out
    assert printed.startswith("7 + 13 batches across ")
    assert printed.endswith("as in one go: True\n")


# ----------------------------------------------------------------------------------------------------- torchvision


@pytest.fixture
def v2():
    return pytest.importorskip("torchvision.transforms.v2", reason="needs torchvision, of the extra 'train'")


@pytest.mark.parametrize("name", ["MixUp", "CutMix"])
def test_torchvisions_mixing_in_collate_fn(v2, name):
    """It mixes the samples of our batches as it would mix the same tensors anywhere."""
    mix = getattr(v2, name)(num_classes=LENGTH)
    torch.manual_seed(5)
    expected = [mix(*batch) for batch in loader()]
    torch.manual_seed(5)
    got = list(loader(collate_fn=lambda samples: mix(*default_collate(samples))))
    assert len(got) == BATCHES
    for (images, targets), (same_images, same_targets) in zip(got, expected, strict=True):
        assert torch.equal(images, same_images)
        assert torch.equal(targets, same_targets)
        assert targets.shape == (len(images), LENGTH)
        torch.testing.assert_close(targets.sum(1), torch.ones(len(images)))
    assert any(not torch.equal(images, plain) for (images, _), (plain, _) in zip(got, loader(), strict=True))


def test_torchvisions_samplers(v2):
    """RandomSampler as in its references; what it has drawn is what comes, anew each epoch."""
    dataset = gr.Dataset(tiny())
    sampler = RandomSampler(dataset, generator=torch.Generator().manual_seed(1))
    twin = RandomSampler(dataset, generator=torch.Generator().manual_seed(1))
    sampled = gr.DataLoader(dataset, batch_size=BATCH, sampler=sampler, image_size=16)
    assert sampled.sampler is sampler
    assert (len(sampled), len(sampled.dataset), len(sampled.dataset.classes)) == (BATCHES, LENGTH, LENGTH)
    for _ in range(2):
        assert [n for _, targets in sampled for n in targets.tolist()] == list(twin)


def test_the_example_of_torchvision(v2, root, capsys):
    example(root, "torchvision_reference", classes=100).main()
    printed = capsys.readouterr().out.splitlines()
    assert [line.split("loss")[0].strip() for line in printed[:-1]] == ["epoch 0  [  2/2]", "epoch 1  [  2/2]"]
    assert printed[-1].endswith("% of 100 images recognised")


# ------------------------------------------------------------------------------------------------ plain torch, DDP

RANK = """
import json, os, sys
from pathlib import Path
import torch
import torch.distributed as dist
from torch.distributed.algorithms.join import Join

root, folder = Path(sys.argv.pop(1)), Path(sys.argv.pop(1))
import gpurender as gr
from tests.interop import test_stacks

rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
loader = test_stacks.loader()
seen, gr.DataLoader = test_stacks.noted(gr.DataLoader)
test_stacks.example(root, "ddp").main()

def join():
    network = test_stacks.Network()
    model = torch.nn.parallel.DistributedDataParallel(network)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Join([model]):
        for step, batch in enumerate(loader):
            if step == rank + 1:
                break  # this rank has had enough
            optimizer.zero_grad()
            model(*batch).backward()
            optimizer.step()
    weights = [torch.zeros_like(network.layer.weight) for _ in range(ranks)]
    dist.all_gather(weights, network.layer.weight.detach())
    equal = all(torch.equal(weights[0], weight) for weight in weights)
    (folder / f"{ranks}-{rank}.json").write_text(json.dumps([seen, len(network.seen), equal]))

dist.init_process_group("gloo", f"file://{folder}/join{ranks}", rank=rank, world_size=ranks)
join()  # a function: what gloo's threads hold must be gone before the interpreter ends, or it may abort
dist.destroy_process_group()
"""


def noted(loader_class):
    """A list, and the class of a loader that adds to it: for each batch its len, the bytes' digest and the labels."""
    seen = []

    class Noted(loader_class):
        def __iter__(self):
            for batch in super().__iter__():
                seen.append([len(self), *digest(*batch)])
                yield batch

    return seen, Noted


@pytest.fixture(scope="module")
def ranks(root, tmp_path_factory):
    """The example on 2 ranks, stopped within the first of two epochs; then on 3 up to the second; the rest on 1.

    By the number of ranks: what each rank saw; and how often it stepped under Join, to equal weights or not.
    """
    folder = tmp_path_factory.mktemp("ranks")
    script = folder / "rank.py"
    script.write_text(RANK)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    run = ["--epochs", 2, "--checkpoint", folder / "checkpoint.pt", "--steps"]
    seen, joined = {}, {}
    for number, steps in ((2, 3), (3, 7)):
        finished([*torchrun, number, script, root, folder, *run, steps], root, folder)
        logs = [json.loads((folder / f"{number}-{rank}.json").read_text()) for rank in range(number)]
        seen[number], joined[number] = [log[0] for log in logs], [log[1:] for log in logs]
    with pytest.MonkeyPatch.context() as patch:
        alone, noted_class = noted(gr.DataLoader)
        patch.setattr(gr, "DataLoader", noted_class)
        patch.setattr(sys, "argv", ["ddp.py", *map(str, run[:-1])])
        example(root, "ddp").main()
    return {**seen, 1: [alone]}, joined


def together(ranks):
    """The labels of each step, of all ranks in their order."""
    return [[*chain(*(labels for _, _, labels in step))] for step in zip(*ranks, strict=True)]


def big_batches(batch_size, epochs):
    """Labels of the steps of a single process."""
    plain = gr.DataLoader(tiny(1000), batch_size=batch_size, shuffle=True, image_size=32, device="cpu")
    return [targets.tolist() for _ in range(epochs) for _, targets in plain]


def test_ranks_under_torchrun_see_the_big_batch(ranks):
    on_two = ranks[0][2]
    assert together(on_two) == big_batches(100, 1)[:3]
    assert [[len(labels) for _, _, labels in rank] for rank in on_two] == [[50] * 3] * 2
    assert not {n for _, _, labels in on_two[0] for n in labels} & {n for _, _, labels in on_two[1] for n in labels}


def test_ranks_share_an_uneven_tail_and_have_equally_many_batches(ranks):
    on_three = ranks[0][3]
    assert [len(step) for step in together(on_three)] == [150, 150, 150, 150, 100, 150, 150]
    assert sorted(len(rank[4][2]) for rank in on_three) == [33, 33, 34]
    assert {length for rank in on_three for length, _, _ in rank} == {7}


def test_ranks_may_change_within_an_epoch(ranks):
    """Two, three, one: as one process alone, nothing repeated, nothing lost, the same bytes."""
    seen = [n for number in (2, 3, 1) for step in together(ranks[0][number]) for n in step]
    assert seen == [*chain(*big_batches(100, 2))]
    assert sorted(seen[:1000]) == sorted(seen[1000:]) == list(range(1000))
    rest = gr.DataLoader(tiny(1000), 50, True, image_size=32, augment=gr.augment.Crop(), device="cpu")
    rest.load_state_dict({**rest.state_dict(), "epoch": 1, "position": 300})
    assert [found for _, *found in ranks[0][1][0]] == [digest(*batch) for batch in rest]


def test_ranks_join(ranks):
    """Rank r stops after r + 1 batches; Join waits for nobody."""
    for number in (2, 3):
        assert ranks[1][number] == [[rank + 1, True] for rank in range(number)]


def test_the_example_of_plain_torch(root, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ddp.py", "--epochs", "2"])
    example(root, "ddp", classes=200).main()
    printed = [line.split("  loss")[0] for line in capsys.readouterr().out.splitlines()]
    assert printed == ["epoch 0  step 4", "epoch 1  step 8"]


def test_accelerate_is_not_given_a_last_step_that_ranks_cannot_share_evenly():
    """gather_for_metrics would abort the process there."""
    accelerate = pytest.importorskip("accelerate", reason="needs accelerate, of the extra 'accelerate'")
    from gpurender.interop.accelerate import DataLoader

    recipe = gr.OnePFrac(classes=11, image_size=32, points=300, fill_rate=0.0)
    ranks = {"batch_size": 4, "image_size": 16, "rank": 0, "world_size": 2}
    accelerator = accelerate.Accelerator(cpu=True)
    with pytest.raises(ValueError, match=r"drop_last must be True: the last step has 3 samples, which 2 ranks"):
        DataLoader(accelerator, recipe, **ranks)
    assert len(DataLoader(accelerator, recipe, drop_last=True, **ranks)) == 1
