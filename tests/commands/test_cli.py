"""The commands, run as a user runs them."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

import gpurender as gr
from gpurender import sheet
from gpurender.commands import cli
from gpurender.commands.image_folder import export
from tests.golden import TRIANGLE
from tests.support import ROOT
from tests.support.messages import said


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "tiny.json"
    path.write_text(
        gr.FractalDB(categories=[TRIANGLE] * 3, points=1000, image_size=32, patches=2, weights=[[1] * 6]).to_json()
    )
    return str(path)


def run(*arguments, **options):
    return subprocess.run([sys.executable, "-m", "gpurender", *arguments], capture_output=True, text=True, **options)


def test_help_teaches():
    overview = run("--help")
    assert overview.returncode == 0
    for word in ("doctor", "recipes", "recipe", "preview", "explore", "bench", "export", "onepfrac-1k", "examples:"):
        assert word in overview.stdout
    for command in ("doctor", "recipes", "recipe", "preview", "explore", "bench", "export"):
        shown = run(command, "--help")
        assert shown.returncode == 0
        assert len(shown.stdout.splitlines()) > 5
    assert run("--version").stdout.split() == ["gpurender", gr.__version__]


@pytest.mark.parametrize(
    ("command", "defaults"),
    [
        ("doctor", {"json": False, "warm": None, "clean_cache": False}),
        ("recipes", {}),
        ("recipe R", {"recipe": "R", "settings": [], "output": None}),
        (
            "preview R",
            {"recipe": "R", "gallery": None, "output": None, "rows": None, "cols": 6, "classes": None, "augment": None}
            | {"device": "cpu"},
        ),
        (
            "bench",
            {"recipe": None, "device": None, "batch_size": 256, "seconds": 5.0, "augment": "crop", "train": None}
            | {"json": None, "trace": None, "plot": None, "output": None},
        ),
        ("explore", {"recipe": None, "port": 8050, "host": "127.0.0.1", "no_browser": False}),
        ("card R", {"of": "R", "output": "card.md", "device": "cpu"}),
        ("verify C", {"card": "C", "device": "cpu"}),
        (
            "replay S",
            {"state": "S", "steps": None, "output": None, "json": None, "images": 16, "recipe": None}
            | {"batch_size": None, "image_size": None, "drop_last": False, "augment": None, "world_size": None}
            | {"device": "cpu"},
        ),
        (
            "export R D",
            {"recipe": "R", "directory": "D", "per_class": None, "classes": None, "limit": None, "shard": None}
            | {"verify": False, "repair": False, "format": "imagefolder", "per_tar": None, "device": "cpu"},
        ),
    ],
)
def test_what_a_command_does_without_options(command, defaults):
    options = vars(cli._parser().parse_args(command.split()))
    assert callable(options.pop("run"))
    assert options == defaults


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "draw",
        "preview",
        "preview nonesuch",
        "preview onepfrac-1k --classes 1000",
        "preview onepfrac-1k --classes 9-0",
        "doctor --warm sm_90 --clean-cache",
        "doctor --json --clean-cache",
        "doctor --json --warm",
        "doctor --clean-cach",
        "recipe onepfrac-1k --set classes=1 seed=2",
        "bench onepfrac-1k -o x.png",
        "bench onepfrac-1k --plot .",
        "preview onepfrac-2k -o x.png",
        "preview onepfrac-1k -o x.txt",
        "preview onepfrac-1k -o x.psd",
        "preview onepfrac-1k -o nowhere/x.png",
        "preview onepfrac-1k -o x.png --device cuda",
        "bench onepfrac-1k --device cuda",
        "export onepfrac-1k out --device cuda",
        "export onepfrac-1k /proc/nope",
        "preview onepfrac-1k -o x.png --rows 0",
        "preview onepfrac-1k -o x.png --rows two",
        "preview onepfrac-1k -o x.png --augment none",
        "preview onepfrac-1k -o x.png --device tpu9",
        "bench onepfrac-1k --batch-size 0",
        "bench onepfrac-1k --seconds nan",
        "bench onepfrac-1k --seconds -1",
        "bench onepfrac-1k --json no/such/directory/r.json",
        "export onepfrac-1k",
        "export missing.json out",
        "export onepfrac-1k out --limit 0",
        "export onepfrac-1k out --format zip",
    ],
)
def test_wrong_input_exits_2_with_one_line(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        code = cli.main(arguments.split())
    except SystemExit as leaving:
        code = leaving.code
    lines = capsys.readouterr().err.strip().splitlines()
    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith("gpurender: error: ")
    assert list(tmp_path.iterdir()) == []


MEANT = [
    ("prevew onepfrac-1k -o x.png", "preview"),
    ("Export onepfrac-1k out", "export"),
    ("export onepfrac-1k out --format image-folders", "imagefolder"),
    ("doctor --clean-cach", "--clean-cache"),
    ("export onepfrac-1k out --clases 0-9", "--classes"),
    ("export onepfrac-1k out --perclass=1", "--per-class"),
    ("preview 1p-frac -o x.png", "onepfrac-1k"),
    ("preview onepfrac-1k -o x.png --augment dite", "deit"),
    ("bench onepfrac-1k --augment visual-atom", "visualatom"),
]


@pytest.mark.parametrize(("arguments", "meant"), MEANT)
def test_wrong_words_are_refused_with_the_one_that_was_meant(arguments, meant, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        code = cli.main(arguments.split())
    except SystemExit as leaving:
        code = leaving.code
    errors = capsys.readouterr().err
    assert code == 2
    assert len(errors.splitlines()) == 1
    assert f"; did you mean {meant!r}?" in errors


def test_an_unknown_option_is_named_with_its_command(capsys):
    with pytest.raises(SystemExit) as leaving:
        cli.main(["export", "onepfrac-1k", "out", "--clases"])
    assert leaving.value.code == 2
    assert capsys.readouterr().err == (
        "gpurender: error: unrecognized arguments: --clases; did you mean '--classes'? (see gpurender export --help)\n"
    )


def test_the_picture_s_name_without_o_is_in_the_help(capsys):
    with pytest.raises(SystemExit):
        cli.main(["bench", "--help"])
    assert "(default bench.png)" in capsys.readouterr().out


def test_the_examples_of_the_help_are_aligned():
    lines = [line for line in cli.EPILOG.splitlines() if line.startswith("  gpurender")]
    column = lines[0].index("which kernels")
    assert [line for line in lines if line[column - 1] != " " or line[column] == " "] == []


def test_a_wrong_model_is_refused_with_the_one_that_was_meant(capsys):
    pytest.importorskip("timm")
    assert cli.main(["bench", "onepfrac-1k", "--train", "vit_tinny"]) == 2
    assert capsys.readouterr().err.endswith("got 'vit_tinny'; did you mean 'vit_tiny_patch16_224'?\n")


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [('"not\\nthis way"', 1, "gpurender: error: not this way\n"), ("None", 0, ""), ("0", 0, ""), ("3", 3, "")],
)
def test_a_program_that_leaves_says_a_text_in_one_line(root, what, code, said):
    program = f"""
import sys
from gpurender.commands import cli
def leaves(words):
    raise SystemExit({what})
cli._run = leaves
sys.exit(cli._program())
"""
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", said)


def test_doctor_reports_and_tries(capsys):
    assert cli.main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["gpurender"] == gr.__version__
    assert (
        report["packages"]["torch"] == torch.__version__.split("+")[0]
        or report["packages"]["torch"] == torch.__version__
    )
    on = {kernel["kernel"] for kernel in report["kernels"] if kernel["device"] == "cpu" and kernel["available"]}
    names = {
        "philox",
        "chaos_game",
        "visual_atom",
        "point_cloud",
        "diamond_square",
        "collage",
        "pixel_noise",
        "warp",
        "shuffle",
        "augment_params",
        "resized_crop",
        "image_ops",
        "mix_erase",
    }
    assert on == names
    if not torch.cuda.is_available():
        off = [kernel for kernel in report["kernels"] if kernel["device"] == "cuda"]
        assert {kernel["kernel"] for kernel in off} == on
        assert {kernel["reason"] for kernel in off} == {"torch sees no CUDA device"}
        assert not any(kernel["available"] for kernel in off)
    assert cli.main(["doctor"]) == 0
    assert re.search(r"chaos_game +cpu +on \(numba\)", capsys.readouterr().out)


def test_doctor_names_the_cache(tmp_path, monkeypatch, capsys):
    from gpurender.commands.checkup import examine

    monkeypatch.setattr(examine, "TRIALS", {"nothing": lambda device: torch.zeros(1)})
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setenv("GPURENDER_CACHE_DIR", str(tmp_path / "own"))
    assert cli.main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["cache"]
    assert (found["folder"], found["writable"]) == (str(tmp_path / "own"), True)
    assert found["kernels"].startswith(str(tmp_path / "own/kernels-"))
    assert cli.main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert found["kernels"] in shown
    assert "cannot be written" not in shown
    (tmp_path / "file").touch()
    monkeypatch.setenv("GPURENDER_CACHE_DIR", str(tmp_path / "file"))
    assert cli.main(["doctor"]) == 0
    assert "the cache cannot be written: every process compiles the kernels again" in capsys.readouterr().out


def test_doctor_says_why_a_kernel_is_off(monkeypatch, capsys):
    from gpurender.commands.checkup import examine

    def broken(device):
        raise RuntimeError("no luck")

    monkeypatch.setattr(examine, "TRIALS", {"chaos_game": broken})
    assert cli.main(["doctor"]) == 1
    assert "off: RuntimeError: no luck" in capsys.readouterr().out


def test_preview_draws_one_class_a_row(recipe_file, tmp_path):
    out = tmp_path / "grid.png"
    step = 228 + sheet.CAPTION
    assert cli.main(["preview", recipe_file, "-o", str(out), "--rows", "2", "--cols", "3"]) == 0
    with Image.open(out) as shown:
        assert shown.size == (4 + 3 * 228, 4 + 2 * step)
        pixels = np.array(shown.convert("L"))

    def cells(pixels):
        tops = [4 + sheet.CAPTION + step * row for row in range(2)]
        return [pixels[top : top + 224, 4 + 228 * col : 228 + 228 * col] for top in tops for col in range(3)]

    assert all(0.02 < (cell > 30).mean() < 0.98 for cell in cells(pixels))
    assert not np.array_equal(*cells(pixels)[:2])
    arguments = ["preview", recipe_file, "-o", str(out), "--rows", "2", "--cols", "3"]
    for policy in ("crop", "deit", "visualatom", "resnet"):
        assert cli.main([*arguments, "--augment", policy]) == 0
        with Image.open(out) as shown:
            augmented = np.array(shown.convert("L"))
        assert augmented.shape == pixels.shape
        for number, (one, other) in enumerate(zip(cells(augmented), cells(pixels), strict=True)):
            assert not np.array_equal(one, other), (policy, number)
    assert [path.name for path in tmp_path.iterdir() if "unfinished" in path.name] == []


def test_preview_names_its_picture_after_the_recipe(recipe_file, tmp_path, monkeypatch, capsys):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert cli.main(["preview", recipe_file, "--rows", "1", "--cols", "1"]) == 0
    assert capsys.readouterr().out.startswith("tiny.png: 232 x ")
    assert cli.main(["preview", "visualatom-1k", "--rows", "1", "--cols", "1"]) == 0
    assert sorted(os.listdir()) == ["tiny.png", "visualatom-1k.png"]


def test_preview_shows_the_chosen_classes(recipe_file, tmp_path):
    seen = {}
    for classes, rows in {"2": 1, "0,2": 2, "0-2": 3}.items():
        assert (
            cli.main(["preview", recipe_file, "-o", str(tmp_path / "a.png"), "--cols", "1", "--classes", classes]) == 0
        )
        with Image.open(tmp_path / "a.png") as shown:
            step = 228 + sheet.CAPTION
            assert shown.size == (232, 4 + rows * step)
            seen[classes] = np.array(shown)[4 : 4 + rows * step].reshape(rows, step, 232, 3)
    assert np.array_equal(seen["2"][0, : sheet.CAPTION], seen["0-2"][2, : sheet.CAPTION])  # its name
    assert np.array_equal(seen["0,2"][1, : sheet.CAPTION], seen["0-2"][2, : sheet.CAPTION])
    assert not np.array_equal(seen["0,2"][0, : sheet.CAPTION], seen["0,2"][1, : sheet.CAPTION])


def test_bench_writes_the_stated_json(recipe_file, tmp_path, capsys):
    out = tmp_path / "r.json"
    assert cli.main(["bench", recipe_file, "--batch-size", "8", "--seconds", "0.2", "--json", str(out)]) == 0
    assert "images/s" in capsys.readouterr().out
    result = json.loads(out.read_text())
    assert set(result) == {"environment", "rows"}
    wanted = {
        "gpu",
        "driver",
        "cuda",
        "torch",
        "triton",
        "cupy",
        "numba",
        "gpurender",
        "commit",
        "date",
        "cpu",
        "cores",
    }
    assert wanted <= set(result["environment"])
    stages = [(row["stage"], row.get("cached")) for row in result["rows"]]
    assert stages == [("raster", True), ("raster", False), ("augment", None), ("loader", True), ("loader", False)]
    for row in result["rows"]:
        assert set(row) >= {"recipe", "stage", "device", "batch_size", "image_size", "dtype"}
        assert set(row) >= {"images_per_second", "host_ms", "device_ms", "peak_mib"}
        rate = row["images_per_second"]
        assert 0 < rate["p5"] <= rate["median"] <= rate["p95"]
        assert row["batch_size"] == 8


@pytest.mark.parametrize("name", ["rows", "cols"])
@pytest.mark.parametrize("value", [0, 65])
def test_a_sheet_has_1_to_64_rows_and_columns(recipe_file, name, value):
    size = {"rows": 1, "cols": 1, name: value}
    with pytest.raises(ValueError, match=rf"^{name} must be an integer in \[1, 64\], got {value}"):
        sheet.contact_sheet(gr.Renderer(recipe_file), **size)


def test_export_is_an_image_folder(recipe_file, tmp_path, capsys):
    datasets = pytest.importorskip("torchvision.datasets")
    out = tmp_path / "out"
    assert cli.main(["export", recipe_file, str(out)]) == 0
    assert "24 images written, 0 there before" in capsys.readouterr().out
    folder = datasets.ImageFolder(str(out))
    renderer = gr.Renderer(recipe_file)
    assert len(folder) == 24
    assert folder.classes == ["00000", "00001", "00002"]
    for sample in (0, 7, 8, 23):
        image, label = folder[sample]
        assert label == sample // 8
        assert np.array_equal(np.array(image)[..., 0], renderer(sample)[0, 0].numpy())
    assert cli.main(["export", recipe_file, str(out)]) == 0
    assert "0 images written, 24 there before" in capsys.readouterr().out


def test_export_limit_and_missing_files(recipe_file, tmp_path):
    out = tmp_path / "out"
    assert export.export(recipe_file, out, limit=5) == (5, 0)
    victim = sorted(out.rglob("*.png"))[2]
    victim.unlink()
    assert export.export(recipe_file, out, limit=10**9) == (20, 4)
    assert len(list(out.rglob("*.png"))) == 24


def test_export_refuses_another_recipe_and_foreign_folders(recipe_file, tmp_path):
    out = tmp_path / "out"
    export.export(recipe_file, out, limit=1)
    with pytest.raises(ValueError, match="another recipe"):
        export.export(gr.FractalDB(categories=[TRIANGLE], points=1000, image_size=32), out)
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "cat.jpg").write_bytes(b"meow")
    with pytest.raises(ValueError, match="must be empty"):
        export.export(recipe_file, foreign)
    assert [path.name for path in foreign.iterdir()] == ["cat.jpg"]
    with pytest.raises(ValueError, match="not a directory"):
        export.export(recipe_file, foreign / "cat.jpg")


# ------------------------------------------------------------------------------------- outputs, streams and signals


def test_an_output_that_is_a_link_stays_one(recipe_file, tmp_path, monkeypatch):
    """Of every command that writes a file."""
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    from gpurender.benchmark import measure

    result = {"environment": {"cpu": "a", "threads": 1, "gpu": None}, "rows": []}
    monkeypatch.setattr(measure, "measure", lambda *_, **__: result)
    monkeypatch.setattr(measure, "table", lambda _: "")
    rates = {"median": 1.0, "p5": 1.0, "p95": 1.0}
    row = {"device": "cpu", "recipe": "r", "stage": "raster", "images_per_second": rates, "batch_size": 1}
    (tmp_path / "rows.json").write_text(json.dumps({**result, "rows": [row]}))
    (tmp_path / "there").mkdir()
    commands = {
        "grid.png": ["preview", recipe_file, "--rows", "1", "--cols", "1", "-o"],
        "result.json": ["bench", recipe_file, "--json"],
        "rates.png": ["bench", "--plot", str(tmp_path / "rows.json"), "-o"],
    }
    for name, command in commands.items():
        (tmp_path / "there" / name).write_bytes(b"old")
        (tmp_path / name).symlink_to(f"there/{name}")
        assert cli.main([*command, str(tmp_path / name)]) == 0
        assert os.readlink(tmp_path / name) == f"there/{name}"
        assert (tmp_path / "there" / name).read_bytes()[:4] in (b"\x89PNG", b"{\n  ")
        (tmp_path / name).unlink()
        os.mkfifo(tmp_path / name)  # and a pipe gets its bytes, though PNG files are written with seeks
        reader = subprocess.Popen(["cat", str(tmp_path / name)], stdout=subprocess.PIPE)
        assert cli.main([*command, str(tmp_path / name)]) == 0
        assert reader.communicate(timeout=60)[0] == (tmp_path / "there" / name).read_bytes()
    assert sorted(os.listdir(tmp_path / "there")) == sorted(commands)


@pytest.mark.parametrize("output", ["/proc/a.png", "folder.png", "kept.png", "nowhere/a.png"])
@pytest.mark.parametrize("command", ["preview", "bench"])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    command, output, recipe_file, tmp_path, monkeypatch, capsys
):
    from gpurender.benchmark import measure

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sheet, "contact_sheet", lambda *_, **__: pytest.fail("drawn"))
    monkeypatch.setattr(measure, "measure", lambda *_, **__: pytest.fail("measured"))
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "kept.png").write_bytes(b"old")
    (tmp_path / "kept.png").chmod(0o400)
    assert cli.main([command, recipe_file, "-o" if command == "preview" else "--json", output]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"gpurender: error: cannot write '{output}': ")
    assert (tmp_path / "kept.png").read_bytes() == b"old"


def test_json_needs_a_name(recipe_file, capsys):
    assert cli.main(["bench", recipe_file, "--json", ""]) == 2
    assert "cannot write ''" in capsys.readouterr().err


def test_a_name_that_cannot_be_shown_fails_nothing(recipe_file, tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = run("preview", recipe_file, "-o", "図.png", "--rows", "1", "--cols", "1", cwd=tmp_path, env=environment)
    assert (done.returncode, said(done.stderr)) == (0, "")
    assert done.stdout.startswith("\\u56f3.png: 232 x 248")
    assert (tmp_path / "図.png").exists()


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["doctor", "--help"], ["bench"]])
def test_a_broken_pipe_is_silent(arguments, unbuffered):
    """As ``gpurender … | head -1``: it ends as other programs do, by SIGPIPE, without a word."""
    read, end = os.pipe()
    os.close(read)
    streams = {"stderr": end, "stdout": subprocess.PIPE} if arguments == ["bench"] else {"stdout": end}
    done = subprocess.run(
        [sys.executable, "-m", "gpurender", *arguments], env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        **({"stderr": subprocess.PIPE} | streams), timeout=60, check=False,
    )  # fmt: skip
    os.close(end)
    assert done.returncode == -signal.SIGPIPE
    assert not done.stdout
    assert not done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_command_whose_pipe_breaks_is_silent(unbuffered, recipe_file, tmp_path):
    read, end = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "gpurender", "preview", recipe_file, "-o", str(tmp_path / "a.png"), "--rows", "1"],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered}, stdout=end, stderr=subprocess.PIPE, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    os.close(end)
    assert (done.returncode, said(done.stderr)) == (-signal.SIGPIPE, "")
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_standard_output_is_one_line(unbuffered):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "gpurender", "--version"], env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "gpurender: error: standard output: No space left on device\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", ["--version", "bench"])
def test_two_full_streams_are_an_exit_status_of_1(arguments, unbuffered):
    """Python writes what is left again when it ends, and would end with 120."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "gpurender", arguments], env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=full, stderr=full, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1


@pytest.mark.parametrize(("arguments", "code"), [("--version", 0), ("bench", 2)])
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_silent(closed, arguments, code):
    """What would have gone to one goes nowhere, not to the other."""
    words = f"exec {sys.executable} -m gpurender {arguments} {closed}"
    done = subprocess.run(["sh", "-c", words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code
    assert done.stdout == (f"gpurender {gr.__version__}\n" if code == 0 and closed == "2>&-" else "")
    assert done.stderr.count("\n") == (code == 2 and closed == ">&-")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-", "<&- >&- 2>&-"])
def test_a_file_is_never_taken_for_a_closed_stream(closed, tmp_path):
    """What opens first gets the lowest free number: a file of ours would be standard output."""
    code = "import sys; from gpurender.commands import cli; cli._open_streams(); file = open('number', 'w')"
    words = f'exec {sys.executable} -c "{code}; file.write(str(file.fileno()))" {closed}'
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    assert subprocess.run(["sh", "-c", words], cwd=tmp_path, env=environment, timeout=60, check=False).returncode == 0
    assert int((tmp_path / "number").read_text()) > 2


def test_export_survives_kills(tmp_path):
    """SIGKILL at random moments: whatever is there is whole, and running it again completes it."""
    recipe = gr.FractalDB(categories=[TRIANGLE] * 4, points=20_000, image_size=256, weights=[[1] * 6])
    path, out = tmp_path / "r.json", tmp_path / "out"
    path.write_text(recipe.to_json())
    export.export(path, out, limit=1)  # compiled
    rng = np.random.default_rng(0)
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-m", "gpurender", "export", str(path), str(out)], stdout=subprocess.DEVNULL
        )
        before = len(list(out.rglob("*.png")))
        while len(list(out.rglob("*.png"))) <= before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.wait()
        for file in out.rglob("*.png"):
            with Image.open(file) as image:
                image.load()
                assert image.size == (256, 256)
    assert cli.main(["export", str(path), str(out)]) == 0
    assert len(list(out.rglob("*.png"))) == len(recipe)
    assert not [file for file in out.rglob("*") if "unfinished" in file.name]


def test_export_to_a_full_disk(recipe_file, tmp_path, monkeypatch, capsys):
    """ENOSPC in the middle: exit 1, one line, complete images stay and nothing half-written does."""
    out = tmp_path / "out"
    real, written = Image.Image.save, []

    def full(self, path, *arguments, **options):
        if len(written) >= 10:
            with open(path, "wb") as file:
                file.write(b"half")
            raise OSError(28, os.strerror(28), str(path))
        written.append(path)
        return real(self, path, *arguments, **options)

    monkeypatch.setattr(Image.Image, "save", full)
    assert cli.main(["export", recipe_file, str(out)]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "No space left on device" in lines[0]
    assert len(list(out.rglob("*.png"))) == 10
    assert not [file for file in out.rglob("*") if "unfinished" in file.name]
    monkeypatch.setattr(Image.Image, "save", real)
    assert cli.main(["export", recipe_file, str(out)]) == 0
    assert len(list(out.rglob("*.png"))) == 24
