"""The examples run as a person runs them; a training run that was killed goes on as if nothing had happened."""

import importlib.util
import os
import re
import runpy
import signal
import socket
import subprocess
import sys

import pytest
import torch
from PIL import Image

import gpurender as gr
from gpurender.augment import named

STEPS = 60  # enough to be killed in the middle of, however late the signal comes
PYTHON = [sys.executable]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def timm():
    """Needed by the training script alone."""
    return pytest.importorskip("timm", reason="needs timm, of the extra 'train'")


@pytest.fixture(scope="module")
def command(root, tmp_path_factory, timm):
    """Arguments of a small run. Its model has dropout: unless torch's generator is restored too, the losses differ."""
    file = tmp_path_factory.mktemp("recipe") / "small.json"
    recipe = gr.OnePFrac(classes=10, instances=5, image_size=64, points=2_000, fill_rate=0.0)
    file.write_text(recipe.to_json())
    model = ["--model", "test_vit_relpos", "--image-size", "32", "--batch-size", "6", "--lr", "0.01"]
    length = ["--steps", str(STEPS), "--log-every", "1", "--save-every", "3"]
    return [root / "examples/pretrain.py", "--recipe", file, *model, *length]


def start(root, words, output, *more):
    """A run in a session of its own, one thread a process."""
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    words = [str(word) for word in [*words, "--output", output, *more]]
    return subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def losses(text):
    return dict(re.findall(r"^step +(\d+)  loss (\S+)", text, flags=re.MULTILINE))


def finished(process):
    """Its loss lines, step to loss."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return losses(output)


def killed(process, step, how):
    """Its loss lines up to the one of ``step``; then a signal."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if str(step) in losses(line):
            break
    process.send_signal(how)
    process.communicate(timeout=60)
    assert process.returncode != 0
    return losses("".join(lines))


def same(a, b):
    """Equality of nested states, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize(
    ("launcher", "how"), [(PYTHON, signal.SIGKILL), (TORCHRUN, signal.SIGTERM)], ids=["python", "torchrun"]
)
def test_a_killed_run_goes_on_bit_for_bit(root, command, tmp_path, launcher, how):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    expected = finished(start(root, [*launcher, *command], whole))
    assert list(expected) == [str(step) for step in range(1, STEPS + 1)]

    before = killed(start(root, [*launcher, *command], halves), 4, how)
    after = finished(start(root, [*launcher, *command], halves, "--resume"))
    first = int(next(iter(after)))
    assert 4 <= first < STEPS  # not from the beginning,
    assert first % 3 == 1  # but from a checkpoint
    assert {**before, **after} == expected

    state = torch.load(halves / "checkpoint.pt", weights_only=True)
    assert same(state, torch.load(whole / "checkpoint.pt", weights_only=True))
    assert state["step"] == STEPS
    assert len(state["random"]) == (2 if launcher is TORCHRUN else 1)
    assert sorted(path.name for path in halves.iterdir()) == ["checkpoint.pt", "contact_sheet.png"]
    assert Image.open(halves / "contact_sheet.png").size[0] > 500


def test_slurm_goes_on_with_another_number_of_processes(root, command, tmp_path):
    """The script as Slurm runs it on one node, whose srun and scontrol are the only pretence."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, does in {
        "srun": 'exec "${@:3}"',
        "scontrol": "echo 127.0.0.1",
        "torchrun": f'exec {sys.executable} -m torch.distributed.run "$@"',
        "python": f'exec {sys.executable} "$@"',
    }.items():
        (tools / name).write_text(f"#!/usr/bin/env bash\n{does}\n")
        (tools / name).chmod(0o755)
    options = [str(word) for word in [*command[1:], "--output", tmp_path / "run", "--save-every", "2"]]
    del options[options.index("--batch-size") : options.index("--batch-size") + 2]
    done = {}
    for processes, steps in ((3, "4"), (2, "7")):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = {
            **os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
            "PATH": f"{tools}:{os.environ['PATH']}", "SLURM_JOB_NUM_NODES": "1", "SLURM_GPUS_ON_NODE": str(processes),
            "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "here", "GLOBAL_BATCH": "12", "RENDEZVOUS_PORT": str(port),
        }  # fmt: skip
        run = subprocess.run(
            [root / "examples/slurm.sh", *options, "--steps", steps], cwd=root, env=environment, capture_output=True,
            text=True, timeout=300, check=False,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        done |= losses(run.stdout)
        state = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
        samples = int(steps) * 12  # of epochs of 50, of which 48 are seen: drop_last
        assert (state["loader"]["epoch"], state["loader"]["position"]) == divmod(samples, 48)
    assert list(done) == [str(step) for step in range(1, 8)]
    environment["GLOBAL_BATCH"] = "13"
    refused = subprocess.run([root / "examples/slurm.sh"], env=environment, capture_output=True, text=True, check=False)
    assert (refused.returncode, "GLOBAL_BATCH=13" in refused.stderr) == (2, True)


@pytest.mark.usefixtures("timm")
def test_a_run_does_not_overwrite_another(root, tmp_path, monkeypatch, capsys):
    (tmp_path / "checkpoint.pt").write_text("hours of work")
    monkeypatch.setattr(sys, "argv", ["pretrain.py", "--output", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(root / "examples/pretrain.py"), run_name="__main__")
    assert stopped.value.code == 2
    assert "--resume" in capsys.readouterr().err.splitlines()[-1]
    assert (tmp_path / "checkpoint.pt").read_text() == "hours of work"


@pytest.fixture
def pretrain(root, tmp_path, monkeypatch, timm):
    """The script as a module, and how it understands a command line."""
    spec = importlib.util.spec_from_file_location("pretrain", root / "examples/pretrain.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def policy(*words):
        monkeypatch.setattr(sys, "argv", ["pretrain.py", "--output", str(tmp_path / "none"), *words])
        return module.policy(module.parse_arguments())

    return module, policy


def test_presets_keep_their_normalisation(pretrain):
    module, policy = pretrain
    assert policy() == gr.augment.DeiT()
    for name in ("onepfrac", "ofdb", "fractaldb", "visualatom", "resnet"):
        assert policy("--augment", name) == getattr(gr.augment.DeiT, name)()
    assert policy("--augment", "resnet", "--std", "0.25") == gr.augment.DeiT.resnet(std=(0.25, 0.25, 0.25))
    assert policy("--augment", "crop", "--mean", "0") == gr.augment.Crop(mean=(0, 0, 0))
    assert module.POLICIES.keys() == named.POLICIES.keys()  # as of `gpurender preview --augment`


def test_a_checkpoint_goes_where_its_link_leads(pretrain, tmp_path, monkeypatch):
    """To a bigger disk, say; and a power cut leaves the old one or the new one."""
    module, synced, fsync = pretrain[0], [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(os.fstat(handle).st_size), fsync(handle)))
    (tmp_path / "disk").mkdir()
    (tmp_path / "checkpoint.pt").symlink_to("disk/checkpoint.pt")
    for step in (1, 2):
        model = torch.nn.Linear(1, 1)
        module.save_checkpoint(tmp_path / "checkpoint.pt", step, {"model": model}, torch.device("cpu"))
        assert os.readlink(tmp_path / "checkpoint.pt") == "disk/checkpoint.pt"
        assert os.listdir(tmp_path / "disk") == ["checkpoint.pt"]
        assert synced[step - 1] == os.path.getsize(tmp_path / "disk/checkpoint.pt") > 0
        assert module.load_checkpoint(tmp_path / "checkpoint.pt", {"model": model}) == step


def test_an_output_that_cannot_be_written_is_refused_before_the_training(pretrain, monkeypatch):
    module = pretrain[0]
    monkeypatch.setattr(module, "create_model", lambda *_: pytest.fail("too late"))
    monkeypatch.setattr(sys, "argv", ["pretrain.py", "--output", "/proc/nowhere"])
    with pytest.raises(SystemExit) as stopped:
        module.main()
    assert str(stopped.value).startswith("--output: ")
    assert "/proc/nowhere" in str(stopped.value)


def test_a_wrong_model_is_refused_with_the_one_that_was_meant(pretrain, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pretrain.py", "--model", "vit_tinny_patch16_224"])
    with pytest.raises(SystemExit) as stopped:
        pretrain[0].main()
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "timm has no model 'vit_tinny_patch16_224'; did you mean 'vit_tiny_patch16_224'?" in said


def test_quickstart(root, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(root)}
    words = [sys.executable, str(root / "examples/quickstart.py")]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "torch.float32 [64, 3, 224, 224]" in done.stdout
    assert Image.open(tmp_path / "quickstart.png").size[0] > 500


@pytest.mark.parametrize("installed", [False, True])
def test_jax_takes_batches_or_its_absence_is_said(root, installed, tmp_path):
    """Without JAX the example ends well; it is made to look absent by a module that cannot be imported."""
    if installed:
        pytest.importorskip("jax", reason="needs jax, of the extra 'jax'")
    else:
        (tmp_path / "jax.py").write_text("raise ImportError")
    code = f"import runpy; runpy.run_path({str(root / 'examples/jax_dlpack.py')!r}, run_name='__main__')"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(root)]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*PYTHON, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = r"20 steps, loss [0-9.]+\n" if installed else r"skipped: this example needs jax, pip install .*\n"
    assert re.fullmatch(found, done.stdout)
