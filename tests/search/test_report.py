"""What is said about a study: importances, calibration, costs, its page."""

import html.parser
import json
import re

import numpy as np
import pytest

import gpurender as gr
from gpurender.search import analysis, proposers, report
from tests.search.support import TEMPLATE, task

pytest.importorskip("timm", reason="needs timm")


def row(key, rung, score, choices=None, **figures):
    tasks = {} if score is None else {name: {"accuracy": 0.5, "score": score, **figures} for name in ("a", "b")}
    return {"key": key, "number": int(key), "rung": rung, "score": score, "choices": choices or {}, "tasks": tasks,
            "seconds": {"training": 10.0 * (rung + 1)}, "error": None if score is not None else "the loss is <nan>",
            "images": 100 * 4**rung}  # fmt: skip


def test_omega_squared_is_that_of_the_analysis_of_variance():
    """From scipy's F: omega² = (k - 1)(F - 1) / ((k - 1)(F - 1) + N)."""
    stats = pytest.importorskip("scipy.stats", reason="needs scipy")
    generator = np.random.default_rng(0)
    groups = generator.integers(0, 3, 60)
    scores = generator.normal(size=60) + groups
    f = stats.f_oneway(*(scores[groups == k] for k in range(3))).statistic
    assert analysis.omega_squared(scores, groups) == pytest.approx(2 * (f - 1) / (2 * (f - 1) + 60))
    assert analysis.omega_squared(np.array([1.0, 1.0, 2.0, 2.0]), np.array([0, 0, 1, 1])) == 1.0
    assert analysis.omega_squared(np.array([1.0, 2.0, 1.0, 2.0]), np.array([0, 0, 1, 1])) == 0.0
    assert analysis.omega_squared(np.ones(4), np.array([0, 0, 1, 1])) == 0.0
    assert analysis.omega_squared(np.arange(3.0), np.arange(3)) == 0.0  # one config per value


def test_the_parameter_that_decides_is_found():
    space = gr.search.Space(TEMPLATE)
    rows = []
    for number in range(80):
        choices = dict(space.random(0, number).choices)
        score = choices["model"] + 0.3 * np.log10(choices["training.lr"])
        rows.append(row(str(number), 0, float(score), choices))
    found = analysis.importances([*rows, row("99", 1, 9.0, rows[0]["choices"]), row("98", 0, None)], space)
    assert [name for name, _, _ in found[:2]] == ["model", "training.lr"]
    assert found[0][1] > 0.6 > found[1][1] > max(share for _, share, _ in found[2:])
    counts = {name: count for name, _, count in found}
    assert counts["model"] == 80
    assert counts["recipe:0.instances"] + counts["recipe:1.points"] == 80
    assert analysis.importances(rows[:7], space) == []


def test_quarters_are_by_rank_and_equal_values_together():
    assert analysis._quarters([1, 100, 2, 1000]).tolist() == [0, 2, 1, 3]
    assert analysis._quarters([5, 5, 5, 7, 8, 9, 9, 9]).tolist() == [0, 0, 0, 1, 2, 2, 2, 2]


def test_low_rungs_are_compared_with_the_highest_that_enough_have_reached():
    first = [row(str(k), 0, k / 10, ridge=-k, logme=float(k % 2)) for k in range(8)]
    second = [row(str(k), 1, k / 5) for k in range(2, 8)]
    third = [row(str(k), 2, -k) for k in range(3)]
    found = analysis.calibration([*third, *second, *first, row("9", 0, None), row("9", 1, None)])
    table = {(line["rung"], line["figure"]): line for line in found}
    assert table[0, "score"] == {"rung": 0, "figure": "score", "top": 1, "configs": 6, "spearman": pytest.approx(1.0)}
    assert table[0, "ridge"]["spearman"] == pytest.approx(-1.0)
    assert abs(table[0, "logme"]["spearman"]) < 1
    assert set(table) == {(0, "score"), (0, "ridge"), (0, "logme")}
    assert analysis.calibration(first) == []
    assert analysis.calibration([*first, *second[:3]]) == []


def test_points_that_no_cheaper_one_beats():
    points = [(3.0, 0.5), (1.0, 0.2), (2.0, 0.2), (4.0, 0.9), (3.0, 0.6), (5.0, 0.9)]
    assert analysis.pareto(points) == [1, 4, 3]
    assert analysis.costs([row("1", 0, 0.1), row("1", 1, 0.2), row("2", 0, None)]) == {"1": 30.0, "2": 10.0}


class Tags(html.parser.HTMLParser):
    """Checks that what is opened is closed, and keeps the text."""

    EMPTY = ("meta", "img", "polyline", "circle", "path", "br")

    def __init__(self):
        super().__init__()
        self.open, self.text, self.seen = [], "", []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def study(tmp_path):
    """A study with results of two rungs, as workers leave them."""
    made = gr.search.create(tmp_path / "s", gr.search.Space(TEMPLATE), {"a": task(tmp_path), "b": task(tmp_path, "b")},
                            ladder=gr.search.Ladder((100, 400), eta=2), configs=12)  # fmt: skip
    made._folder.make()
    for number in range(12):
        config = made.space.random(0, number)
        made._folder.add_config(number, config)
        for rung in range(1 + (number >= 6)):
            values = row(str(number), rung, None if number == 5 else 0.05 * number, ridge=0.1)
            values["error"] = "the loss is <nan>" if number == 5 else None
            made._folder.add_result(config.key, rung, values)
    return gr.search.Study(made.root)


def test_the_page_says_what_was_found(study):
    tags = Tags()
    tags.feed(report.report(study))
    assert tags.open == []
    for text in ("Study s", "12 of 12 configs", "Best configs", "Learning curves", "Do low rungs predict high ones?",
                 "Score and cost", "1 config failed", "the loss is <nan>", "Images of config 11"):  # fmt: skip
        assert text in tags.text, text
    pictures = [attributes for tag, attributes in tags.seen if tag == "img"]
    assert len(pictures) == report.PICTURES
    assert all(attributes["src"].startswith("data:image/png;base64,") for attributes in pictures)
    charts = [attributes for tag, attributes in tags.seen if tag == "svg"]
    assert [attributes["aria-label"] for attributes in charts] == [
        "score against images of the pre-training", "score against seconds of training"]  # fmt: skip
    assert not any(name in attributes for _, attributes in tags.seen for name in ("onclick", "onload"))
    assert not [value for _, attributes in tags.seen for value in attributes.values() if "http" in str(value)]


def test_a_weak_rung_is_a_warning(study):
    assert "says little about" not in report.report(study)
    for path in (study.root / "results").glob("*.1.json"):
        values = json.loads(path.read_text())
        path.write_text(json.dumps({**values, "score": -values["score"]}))
    text = report.report(gr.search.Study(study.root))
    assert "The score of rung 0 says little about rung 1: Spearman -1.00 over 6 configs" in text


def test_a_chart_has_its_points_in_its_frame():
    text = report._chart([[(10.0, 0.0), (1000.0, 1.0)], [(100.0, 0.5)]], "x", "y", log=True)
    circles = [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', text)]
    left, right, bottom, top = 48, 640 - 48, 300 - 48, 24
    assert circles == [(left, bottom), (right, top), ((left + right) / 2, (bottom + top) / 2)]
    assert re.findall(r'points="([^"]+)"', text)[0] == "48.0,252.0 592.0,24.0"
    flat = report._chart([[(10.0, 0.5)]], "x", "y")
    assert '<circle cx="320.0" cy="138.0"' in flat


def test_a_study_without_results_has_no_page(tmp_path):
    made = gr.search.create(tmp_path / "s", gr.search.Space(TEMPLATE), {"a": task(tmp_path)})
    with pytest.raises(ValueError, match="has no results yet"):
        report.report(made)


def test_optuna_reads_what_is_exported(study, tmp_path):
    optuna = pytest.importorskip("optuna", reason="needs optuna")
    url = f"sqlite:///{tmp_path}/o.db"
    for _ in range(2):  # again: the earlier one is replaced
        assert proposers.export(study.space, study.table(), url, "s") == 11
    loaded = optuna.load_study(study_name="s", storage=url)
    assert len(loaded.trials) == 11
    assert loaded.best_value == pytest.approx(0.55)
    best = loaded.best_trial
    assert best.params == dict(study.space.random(0, 11).choices)
    other = gr.search.Space({**TEMPLATE, "seed": 3})
    with pytest.raises(ValueError, match="cannot be written: it has another study 's'"):
        proposers.export(other, study.table(), url, "s")
    assert best.intermediate_values == {0: pytest.approx(0.55), 1: pytest.approx(0.55)}
    with pytest.raises(ValueError, match="--optuna: 'nothing://x' cannot be written"):
        proposers.export(study.space, study.table(), "nothing://x", "s")


def test_optuna_reads_two_objectives(study, tmp_path):
    """A trial has the score of the highest rung, and the seconds of all rungs."""
    optuna = pytest.importorskip("optuna", reason="needs optuna")
    url = f"sqlite:///{tmp_path}/o.db"
    assert proposers.export(study.space, study.table(), url, "s", ("accuracy", "seconds")) == 11
    loaded = optuna.load_study(study_name="s", storage=url)
    assert [direction.name for direction in loaded.directions] == ["MAXIMIZE", "MINIMIZE"]
    values = {tuple(trial.values) for trial in loaded.trials}
    assert values == {(0.05 * number, 10.0 if number < 6 else 30.0) for number in range(12) if number != 5}


def test_the_page_lists_the_front_of_the_highest_rung(study):
    (path,) = (study.root / "results").glob(f"{study.space.random(0, 8).key}.1.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": {"training": 2.0}}))
    text = report.report(gr.search.Study(study.root))
    head, _, table = text.partition("<th>seconds of training</th>")
    assert "The table has those of the highest rung alone." in head
    rows = re.findall(r"<tr><td>(\d+)</td><td>([\d.]+)</td><td>([\d.]+)</td>", table.partition("</table>")[0])
    assert rows == [("8", "0.4000", "12.0"), ("11", "0.5500", "30.0")]
