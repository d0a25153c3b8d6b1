"""The callback for a recorder in the real Lightning: which losses are noted, and that their batches are found again."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gpurender as gr

lightning = pytest.importorskip("lightning", reason="needs Lightning, of the extra 'lightning'")
from gpurender.interop.lightning import NoteLosses  # noqa: E402

RECIPE = gr.Noise(classes=4, instances=10, image_size=16)
BATCHES = 20  # of an epoch


def loader(**changes):
    keywords = {"batch_size": 2, "image_size": 16, "shuffle": True, "augment": "crop", "seed": 3, "device": "cpu"}
    return gr.DataLoader(RECIPE, **keywords | changes)


class Module(lightning.LightningModule):
    """A module whose losses are given; it keeps the images that it sees."""

    def __init__(self, losses, wrap=lambda loss: loss):
        super().__init__()
        self.layer, self.losses, self.wrap, self.seen = torch.nn.Linear(1, 1), losses, wrap, []

    def training_step(self, batch, index):
        self.seen.append(batch[0])
        loss = self.losses(len(self.seen) - 1)
        return None if loss is None else self.wrap(self.layer.weight.sum() * 0 + loss)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Manual(Module):
    """The same, with an optimisation of its own."""

    automatic_optimization = False


def jumping(*steps):
    """Losses between 1 and 2, and 100 at some steps."""
    return lambda step: 100.0 if step in steps else 1.0 + (step * 7 % 10) / 10


@pytest.fixture
def fit(tmp_path):
    def run(module, recorder, source, epochs=2, resume=None, **keywords):
        trainer = lightning.Trainer(
            max_epochs=epochs, callbacks=[NoteLosses(recorder)], accelerator="cpu", logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            default_root_dir=tmp_path, **keywords,
        )  # fmt: skip
        trainer.fit(module, source, ckpt_path=resume)
        return trainer

    return run


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("wrap", [lambda loss: loss, lambda loss: {"loss": loss, "other": 1}], ids=["alone", "named"])
def test_spikes_of_a_fit_are_replayed(fit, tmp_path, accumulate, wrap):
    source, module = loader(), Module(jumping(15, 19, 33), wrap)
    recorder = gr.replay.Recorder(source)
    fit(module, recorder, source, accumulate_grad_batches=accumulate)
    assert len(module.seen) == 2 * BATCHES
    assert [spike.step for spike in recorder.spikes] == [15, 19, 33]
    assert [spike.loss for spike in recorder.spikes] == pytest.approx([100.0] * 3, rel=1e-6)
    (tmp_path / "spikes.json").write_text(recorder.to_json())
    again = list(gr.replay.replay(tmp_path / "spikes.json"))
    assert [(batch.step, batch.epoch) for batch in again] == [(15, 0), (19, 0), (33, 1)]
    assert all(torch.equal(batch.images, module.seen[batch.step]) for batch in again)


def test_a_loss_of_a_manual_optimisation_is_noted(fit):
    source = loader()
    recorder = gr.replay.Recorder(source)
    fit(Manual(jumping(12)), recorder, source, epochs=1)
    assert [spike.step for spike in recorder.spikes] == [12]


def test_a_step_without_a_loss_is_not_noted(fit):
    source = loader()
    recorder = gr.replay.Recorder(source)
    module = Module(lambda step: None if step in (2, 17) else jumping(15, 18)(step))
    with pytest.warns(UserWarning, match="returned `None`"):
        fit(module, recorder, source, epochs=1)
    assert [spike.step for spike in recorder.spikes] == [14, 16]  # the numbers of those that were noted
    again = loader()
    for spike, step in zip(recorder.spikes, (15, 18), strict=True):
        again.load_state_dict(spike.state)
        assert torch.equal(next(iter(again))[0], module.seen[step])


def test_a_checkpoint_goes_on_with_its_record(fit, tmp_path, caplog):
    source, resumed, other = loader(), loader(), loader(image_size=17)
    trainer = fit(Module(jumping(15)), gr.replay.Recorder(source), source, epochs=1)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    recorder = gr.replay.Recorder(resumed)
    fit(Module(jumping(12)), recorder, resumed, epochs=2, resume=tmp_path / "one.ckpt")
    assert [spike.step for spike in recorder.spikes] == [15, BATCHES + 12]
    recorder = gr.replay.Recorder(other)
    trainer = fit(Module(jumping(12)), recorder, other, epochs=2, resume=tmp_path / "one.ckpt")
    assert [spike.step for spike in recorder.spikes] == [12]
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "gpurender: a new record of losses begins, the checkpoint's is kept as it was: text is of another loader's "
        "recorder: its image_size is 16, this loader's is 17"
    ]
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    kept = torch.load(tmp_path / "two.ckpt", weights_only=False)["callbacks"]["NoteLosses"]
    assert kept["record"] == recorder.to_json()
    (text,) = kept["earlier"]
    again = gr.replay.Recorder(loader())
    again.load_json(text)
    assert [spike.step for spike in again.spikes] == [15]
    last = NoteLosses(gr.replay.Recorder(loader()))
    last.load_state_dict(kept)  # of the other size: the second that is kept
    assert last.earlier == [text, kept["record"]]


TWO_RANKS = """
import logging, sys
from pathlib import Path

import lightning
import torch

import gpurender as gr
from gpurender.interop.lightning import NoteLosses
from tests.interop import test_lightning as of

folder, said = Path(sys.argv[1]), []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
logging.getLogger("gpurender").addHandler(handler)
torch.set_num_threads(1)


def fit(epochs, steps, resume=None):
    source = of.loader()
    recorder = gr.replay.Recorder(source)  # before there is a process group
    note = NoteLosses(recorder)
    trainer = lightning.Trainer(
        max_epochs=epochs, callbacks=[note], accelerator="cpu", devices=2, strategy="ddp_find_unused_parameters_true",
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=folder,
    )
    module = of.Module(lambda step: of.jumping(steps[trainer.global_rank])(step))
    trainer.fit(module, source, ckpt_path=resume)
    trainer.save_checkpoint(folder / f"{epochs}.ckpt")
    name = f"{epochs}-{trainer.global_rank}"
    (folder / f"spikes-{name}.json").write_text(recorder.to_json())
    torch.save({"images": module.seen, "said": said, "earlier": note.earlier}, folder / f"seen-{name}.pt")


fit(2, (12, 14))
fit(4, (13, 12), folder / "2.ckpt")
"""


def test_two_ranks_record_their_own_batches(tmp_path):
    """Launched by Lightning itself; 10 steps an epoch and rank. A checkpoint has the record of rank 0."""
    script = tmp_path / "two_ranks.py"
    script.write_text(TWO_RANKS)
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    root = str(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    finished = subprocess.run(
        [sys.executable, script, tmp_path], env=environment, cwd=root, capture_output=True, text=True, timeout=600
    )
    assert finished.returncode == 0, finished.stderr
    expected = {"2-0": [12], "2-1": [14], "4-0": [12, BATCHES + 13], "4-1": [12]}
    images = {name: torch.load(tmp_path / f"seen-{name}.pt") for name in expected}
    for name, steps in expected.items():
        file = tmp_path / f"spikes-{name}.json"
        record = json.loads(file.read_text())
        assert (record["loader"]["rank"], record["loader"]["world_size"]) == (int(name[-1]), 2)
        assert [spike["step"] for spike in record["spikes"]] == steps
        before = images["2-0"]["images"] if name == "4-0" else []
        for batch in gr.replay.replay(file):
            assert torch.equal(batch.images, [*before, *images[name]["images"]][batch.step])
    assert not torch.equal(images["2-0"]["images"][0], images["2-1"]["images"][0])
    assert images["4-0"]["said"] == images["4-0"]["earlier"] == []
    assert images["4-1"]["said"] == [
        "gpurender: a new record of losses begins, the checkpoint's is kept as it was: text is of another loader's "
        "recorder: its rank is 0, this loader's is 1"
    ]
    assert images["4-1"]["earlier"] == [(tmp_path / "spikes-2-0.json").read_text()]


def test_what_is_no_recorder_is_refused():
    with pytest.raises(TypeError, match=r"^recorder must be a gr\.replay\.Recorder, got \[1\]$"):
        NoteLosses([1])
