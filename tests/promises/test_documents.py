"""Every snippet of Python and every command in README and docs runs, on smaller datasets and for fewer steps.

What is made smaller is written down here, once; a command that is not run is named with the test that does.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

import gpurender as gr
from gpurender.commands.recipe import as_text
from tests.support import ROOT
from tests.support.pictures import image_folder

PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "examples/README.md",
    *sorted(f"docs/{p.name}" for p in ROOT.glob("docs/*.md")),
]
SMALLER = {  # in Python: a part of the text, and what is run in its place
    "range(loader.epoch, 240)": "range(loader.epoch, 2)",
    "steps_per_epoch=1000": "steps_per_epoch=2",
    "len(loader) == 1000": "len(loader) == 2",
    "batch_size=256": "batch_size=4",
    '"onepfrac-1k", 256': '"onepfrac-1k", 4',
    'vit_tiny_patch16_224", num_classes=1000, img_size=224': 'test_vit", num_classes=10, img_size=32',
    "checkpoint_path=": "img_size=32, checkpoint_path=",
    "minutes=0.05": "minutes=0",
}
SMALL = {  # instead of the presets, in commands
    "onepfrac-1k": gr.OnePFrac(classes=12, points=500, image_size=32, fill_rate=0.0),
    "fractaldb-1k": gr.FractalDB(categories=[[[0.5, 0, 0, 0.5, 0, 0], [0.5, 0, 0, 0.5, 0.5, 0]]] * 50, points=500),
    "visualatom-1k": gr.VisualAtom(classes=100, instances=11, image_size=32, orbits=(1, 3), quantization=(5, 9)),
}
MORE = {  # appended to a command
    "examples/pretrain.py": "--steps 2 --model test_vit --batch-size 4 --image-size 32 --save-every 1 --output out",
    "gpurender bench": "--batch-size 2 --seconds 0 --device cpu",
    "gpurender preview": "--cols 2",
    "gpurender pretrain onepfrac-1k": "--model test_vit --steps 2 --batch-size 4 --image-size 32 --device cpu",
    "gpurender finetune": "--epochs 1 --batch-size 4 --device cpu",
    "gpurender probe": "--device cpu",
}
ELSEWHERE = {  # beginnings of commands that other tests run
    "python3 -m venv": "README's two commands: .ci/run, tests/promises/test_packaging.py",
    ". .venv/bin/activate": "of the shell",
    "export ": "of the shell",
    "sbatch": "tests/test_examples.py",
    "pip wheel": "tests/promises/test_packaging.py",
    "pip install": "tests/promises/test_packaging.py",
    ".venv/bin/pip": "tests/promises/test_packaging.py",
    '"$VENV"/bin/pip': "README's two commands",
    '"$VENV"/bin/python': "README's two commands",
    ".venv/bin/python -m pytest": "this is it",
    ".venv/bin/gpurender pretrain": "README's two commands",
    ".venv/bin/ruff": "the formatter",
    ".venv/bin/mypy": "the type checker",
    "python examples/quickstart.py": "tests/test_examples.py",
    "gpurender preview --gallery": "tests/commands/gallery/test_page.py",
    "gpurender explore": "tests/commands/explorer",
    "ssh -N -L": "of the network",
    "gpurender doctor --warm": "tests/commands/checkup/test_precompile.py",
    "gpurender search": "tests/commands/test_search.py",
    "gpurender experts": "tests/commands/test_server.py",
    "gpurender adapt": "tests/commands/test_server.py",
    "gpurender recommend": "tests/commands/test_server.py",
    "gpurender serve": "tests/server/test_application.py",
}


def blocks(page, language):
    """Yield the code blocks of a page, with HTML comments around them left out."""
    text = (ROOT / page).read_text(encoding="utf-8")
    yield from re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(block):
    """Return the commands of a block of bash; a line that ends in && or \\ goes on."""
    lines = re.sub(r"&&\n\s*", "&& ", re.sub(r"\\\n\s*", "", block)).splitlines()
    parts = [part for line in lines for part in re.split(r"\s&&\s", line.partition("  #")[0].strip())]
    return [part for part in parts if part and not part.startswith("#")]


SNIPPETS = [(page, number, text) for page in PAGES for number, text in enumerate(blocks(page, "python"))]
BLOCKS = [(page, commands(block)) for page in PAGES for block in blocks(page, "bash")]
COMMANDS = [words for _, block in BLOCKS for words in block]


def environment(**more):
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **more}


@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page, "python"))])
def test_snippets_of_a_page_run_one_after_the_other(page, tmp_path):
    """As a reader would type them into one session."""
    snippets = [text for where, _, text in SNIPPETS if where == page]
    if any(word in text for text in snippets for word in ("timm", "gr.training")):
        pytest.importorskip("timm", reason="needs timm, of the extra 'train'")
    code = "\n".join(snippets)
    if "gr." in code:  # what is put before it below may import gpurender, too
        assert "import gpurender as gr\n" in code[: code.index("gr.")]
    for old, new in SMALLER.items():
        code = code.replace(old, new)
    if "run/checkpoint.safetensors" in code:
        code = TRAINED + code
    if '"pictures"' in code:
        image_folder(tmp_path / "pictures", train=10)
    if "first_light/checkpoint.pt" in code:
        code = CHECKPOINT + code
    if 'DataServer("server")' in code:
        code = SERVER + code
    if page == "docs/augmentation.md":
        code = AUGMENTATION + code
    if page == "README.md":
        code += README
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{code}\n{done.stderr}"


README = """
import torch
assert (images.dtype, images.shape) == (torch.float32, (4, 3, 224, 224))
assert targets.shape == (4, 1000) and bool((targets.sum(1) - 1).abs().max() < 1e-5)
assert (canvas.dtype, canvas.shape) == (torch.uint8, (1, 1, 512, 512))
"""
AUGMENTATION = """
import torch
canvases, labels = torch.zeros(256, 1, 512, 512, dtype=torch.uint8), torch.arange(256)
images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
"""
SERVER = """
import gpurender as gr
parts = [gr.VisualAtom(classes=2, instances=4, image_size=32, orbits=(2, 3), radius=(4, 8), seed=i) for i in range(2)]
gr.server.build(parts, "server", model="test_resnet", image_size=32, images=16, batch_size=8, device="cpu")
"""
CHECKPOINT = """
import pathlib, timm, torch
pathlib.Path("first_light").mkdir()
trained = timm.create_model("test_vit", num_classes=10, img_size=32)
torch.save({"model": trained.state_dict()}, "first_light/checkpoint.pt")
"""


TRAINED = """
import gpurender as gr
gr.training.pretrain(
    gr.OnePFrac(classes=12, points=500, image_size=32, fill_rate=0.0), "test_vit", "run", steps=1, batch_size=4,
    image_size=32, device="cpu",
)
"""


def run(words, folder):
    """Run a command, made smaller, in a folder."""
    for name, recipe in SMALL.items():
        (folder / f"{name}.json").write_text(recipe.to_json())
        words = re.sub(rf"{name}(?=\s|$)", f"{name}.json", words)
    if "--data pictures" in words and not (folder / "pictures").exists():
        image_folder(folder / "pictures", train=10)
    if "run/checkpoint.safetensors" in words and not (folder / "run").exists():
        run("gpurender pretrain onepfrac-1k --model vit_tiny_patch16_224 --output run", folder)
    words = words.replace("torchrun --nproc-per-node 8", "python")  # several processes: tests/test_examples.py
    words += "".join(f" {more}" for start, more in MORE.items() if start in words)
    parts = shlex.split(words)
    if parts[0] == "gpurender":
        parts[:1] = [sys.executable, "-m", "gpurender"]
    elif parts[0] == "python":
        parts[0] = sys.executable
    else:
        pytest.fail(f"it is not said how to run {words!r}")
    own = {
        "XDG_CACHE_HOME": str(folder),
        "NUMBA_CACHE_DIR": str(folder / "numba"),
    }  # else all tests would compile again
    done = subprocess.run(
        [part.replace("examples/", f"{ROOT}/examples/") for part in parts], cwd=folder,
        env=environment(**own) if "clean-cache" in words else environment(),
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{parts}\n{done.stdout}\n{done.stderr}"
    shutil.rmtree(folder / "out", ignore_errors=True)  # the next training starts anew


@pytest.mark.parametrize(("page", "block"), BLOCKS, ids=[f"{page}: {block[0][:50]}" for page, block in BLOCKS])
def test_the_commands_of_a_block_run_one_after_the_other(page, block, tmp_path):
    if any(
        word in command for command in block for word in ("pretrain", "finetune", "probe", "--train", "replay", "card")
    ):
        pytest.importorskip("timm", reason="needs timm, of the extra 'train'")
    for words in block:
        if not words.startswith(tuple(ELSEWHERE)):
            run(words, tmp_path)


def test_the_recipe_that_is_shown_is_what_the_command_prints():
    """And the defaults that the page states are those of the family."""
    [shown] = blocks("docs/recipes.md", "json")
    recipe = gr.recipe("onepfrac-1k", classes=10)
    assert shown == as_text(recipe) + "\n"
    assert gr.recipe(shown) == recipe


def test_documents_have_snippets_and_commands():
    """And no command is said to run elsewhere that no page has."""
    assert {page for page, _, _ in SNIPPETS} >= {"README.md", "docs/recipes.md", "docs/training.md", "docs/stacks.md"}
    run = {words.split()[1] for words in COMMANDS if words.startswith("gpurender ")}
    assert run >= {"doctor", "recipes", "recipe", "preview", "bench", "export", "pretrain", "finetune", "probe"}
    assert run >= {"replay", "card", "verify"}
    assert {start for start in ELSEWHERE if any(words.startswith(start) for words in COMMANDS)} == set(ELSEWHERE)
