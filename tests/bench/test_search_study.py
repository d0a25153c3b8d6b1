"""The comparison of a found recipe with others: gains and their intervals, by hand."""

import numpy as np
import pytest

import gpurender as gr
from bench import search_study

TASKS, FINER, SEEDS = tuple(search_study.VALIDATION), search_study.FINER, search_study.SEEDS


def rows_of(name, base):
    return [
        {"rival": name, "task": task, "seed": seed, "accuracy": base + 0.01 * number + 0.001 * (seed - 1001)}
        for number, task in enumerate(TASKS)
        for seed in SEEDS
    ]


def test_gains_are_means_over_tasks_and_seeds():
    randoms = [row for n in range(search_study.RANDOM) for row in rows_of(f"random {n}", 0.1 + 0.1 * n)]
    rows = rows_of("found", 0.5) + rows_of("onepfrac", 0.42) + randoms
    found = {row.pop("over"): row for row in search_study.gains(rows, TASKS)}
    assert found == {
        "onepfrac": {"gain": pytest.approx(8.0), "p5": pytest.approx(8.0), "p95": pytest.approx(8.0)},
        "median of random": {"gain": pytest.approx(20.0), "p5": pytest.approx(20.0), "p95": pytest.approx(20.0)},
    }
    assert [row["over"] for row in search_study.gains(rows[:-1], TASKS)] == ["onepfrac"]  # a random one is not complete
    assert search_study.gains(rows[1:], TASKS) == []  # nor is the found one


def test_gains_are_those_of_the_tasks_asked_for():
    def also(name, base):
        return [{"rival": name, "task": task, "seed": seed, "accuracy": base} for task in FINER for seed in SEEDS]

    rows = rows_of("found", 0.5) + rows_of("onepfrac", 0.42) + also("found", 0.3) + also("onepfrac", 0.33)
    assert [row["gain"] for row in search_study.gains(rows, TASKS)] == [pytest.approx(8.0)]
    assert [row["gain"] for row in search_study.gains(rows, FINER)] == [pytest.approx(-3.0)]
    assert search_study.gains(rows[:-1], FINER) == []


def test_finer_classes_judge_no_config_and_are_of_the_source_of_emoji(tmp_path):
    assert tuple(search_study.tasks_of(tmp_path, judging=True)) == TASKS
    assert tuple(search_study.tasks_of(tmp_path, judging=False)) == (*TASKS, *FINER)
    assert {search_study.source_of(task) for task in FINER} == {"emoji"}
    assert [search_study.source_of(task) for task in TASKS] == list(TASKS)


def test_intervals_are_over_tasks():
    tasks = list(TASKS)
    ours = {(task, seed): 10.0 * number + seed for number, task in enumerate(tasks) for seed in SEEDS}
    theirs = {(task, seed): float(seed) for task, seed in ours}
    found = search_study.interval(ours, theirs, tasks)
    assert found["gain"] == 20.0
    draws = np.random.default_rng(7).choice(10.0 * np.arange(len(tasks)), (20_000, len(tasks))).mean(1)
    assert [found["p5"], found["p95"]] == pytest.approx(np.percentile(draws, (5, 95)), abs=1.5)  # steps of 2


def test_the_space_holds_every_family_and_its_tasks_are_fetched():
    space = gr.search.Space(search_study.SPACE)
    families = {space.random(0, number).recipe.family for number in range(40)}
    assert families == {"onepfrac", "fractaldb", "visualatom", "rcdb", "colorfractal", "moire"}
    assert {*search_study.VALIDATION, *FINER} == set(search_study.SETS)
