"""``gpurender recipes``: a line per preset."""

import gpurender as gr
from gpurender.commands import cli


def test_every_preset_has_a_line(capsys):
    assert cli.main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == gr.presets()
    for line in lines:
        name, classes, x, instances, side, _, other_side, *paper = line.split()
        preset = gr.recipe(name)
        assert (classes, x, instances) == (f"{preset.classes:,}", "x", f"{preset.instances:,}")
        assert int(side) == int(other_side) == preset.image_size
        assert " ".join(paper) == preset.source


def test_what_the_papers_say(capsys):
    """1p-frac has one image per class, the other two a thousand."""
    cli.main(["recipes"])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "1,000 x 1 " in lines["onepfrac-1k"]
    assert "21,000 x 1,000 " in lines["visualatom-21k"]
    assert "362 x 362  Kataoka et al., Pre-training without Natural Images, ACCV 2020, " in lines["fractaldb-1k"]
