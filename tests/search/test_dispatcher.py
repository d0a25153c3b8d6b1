"""The dispatcher: jobs by messages, with all it knows in the folder."""

import json
import os
import time

import pytest

import gpurender as gr
from gpurender.search.dispatcher import Dispatcher
from gpurender.search.leases import leased
from tests.search.support import TEMPLATE, score_of, task

pytest.importorskip("timm", reason="needs timm")
LADDER = gr.search.Ladder((32, 64), eta=2, finetune_steps=2, seeds=2)


@pytest.fixture
def made(tmp_path):
    """A study of three configs."""
    tasks = {"a": task(tmp_path)}
    return gr.search.create(
        tmp_path / "s", gr.search.Space(TEMPLATE), tasks, ladder=LADDER, configs=3, patience=60.0
    )  # fmt: skip


def taken(dispatcher, worker, attempt):
    """A job for a worker; None if there is none."""
    found = dispatcher.take(worker, attempt)
    return found[0] if found else None


def values(key, rung):
    return {
        "rung": rung, "score": score_of(key, rung), "tasks": {"a": {"score": score_of(key, rung), "accuracy": 0.5}},
        "seconds": {"training": time.time()},
    }  # fmt: skip


def leases(study):
    return {path.name: json.loads(path.read_text())["worker"] for path in (study.root / "leases").iterdir()}


def old(study, key, rung):
    path = study.root / "leases" / f"{key}.{rung}"
    os.utime(path, (time.time() - 90.0,) * 2)
    return path


def test_jobs_are_those_of_a_worker_without_it(made):
    """One after another, promotions first, until none is left."""
    one, done = Dispatcher(str(made.root)), []
    while (ticket := taken(one, "w", "1")) is not None:
        key, rung, config = ticket
        assert gr.search.Config.from_data(json.loads(config)).key == key
        assert one.publish(key, rung, values(key, rung))
        assert not one.publish(key, rung, values(key, rung))
        one.drop("1", key, rung)
        done.append((key, rung))
        assert one.is_done() == (len(done) == 4)
    keys = [made.space.random(0, number).key for number in range(3)]
    assert [key for key, rung in done if rung == 0] == keys
    best = max(keys[:2], key=lambda key: score_of(key, 0))
    assert done == [(keys[0], 0), (keys[1], 0), (best, 1), (keys[2], 0)]
    assert leases(made) == {}
    assert one.is_idle()
    assert made.status()["done"]


def test_two_workers_have_two_jobs(made):
    one = Dispatcher(str(made.root))
    first, second = taken(one, "v", "1"), taken(one, "w", "2")
    assert first[:2] != second[:2]
    assert leases(made) == {f"{first[0]}.0": "v", f"{second[0]}.0": "w"}
    assert one.touch("1", first[0], 0)
    assert not one.touch("2", first[0], 0)
    one.drop("2", first[0], 0)  # it is not its own
    assert one.touch("1", first[0], 0)
    assert not one.is_done()
    assert not one.is_idle()
    assert made.status()["running"] == 2


def test_another_dispatcher_knows_what_the_last_one_knew(made):
    """The first one is gone without a word; workers keep their jobs, and no one else gets them."""
    before = taken(Dispatcher(str(made.root)), "v", "1")
    after = Dispatcher(str(made.root))
    assert taken(after, "w", "2")[0] != before[0]
    assert after.touch("1", before[0], 0)
    assert after.publish(before[0], 0, values(before[0], 0))


def test_a_worker_that_begins_again_gives_up_what_it_had(made):
    one = Dispatcher(str(made.root))
    before, other = taken(one, "v", "1"), taken(one, "w", "2")
    after = taken(one, "v", "3")
    assert after == before
    assert not one.touch("1", before[0], 0)  # if the first attempt lives on, it has lost the job
    one.drop("1", before[0], 0)
    assert one.touch("3", after[0], 0)
    assert one.touch("2", other[0], 0)


def test_a_repeated_question_leaves_one_job(made):
    """Ray asks again when an answer was lost."""
    one = Dispatcher(str(made.root))
    assert taken(one, "v", "1") == taken(one, "v", "1")
    assert len(leases(made)) == 1


def test_the_job_of_a_silent_worker_goes_to_another_one(made):
    one = Dispatcher(str(made.root))
    key = taken(one, "v", "1")[0]
    path = old(made, key, 0)
    assert one.is_idle()
    assert one.touch("1", key, 0)  # it was only slow
    assert time.time() - path.stat().st_mtime < 30.0
    assert not one.is_idle()
    old(made, key, 0)
    assert made.status()["stuck"] == 1
    assert taken(one, "w", "2")[0] == key
    assert not one.touch("1", key, 0)
    assert leases(made) == {f"{key}.0": "w"}


def test_workers_without_ray_may_work_beside_it(made):
    one = Dispatcher(str(made.root))
    key = taken(one, "v", "1")[0]
    one.drop("1", key, 0)
    with leased(made.root / "leases" / f"{key}.0", 60.0):
        assert taken(one, "v", "1")[0] != key
        assert not one.touch("1", key, 0)
        assert not one.is_idle()


def test_a_job_whose_result_has_just_come_is_passed_over(made, monkeypatch):
    one = Dispatcher(str(made.root))
    key = taken(one, "v", "1")[0]
    one.drop("1", key, 0)
    folder, seen = one._desk.folder, []
    plain = folder.results

    def late():
        found = plain()
        seen.append(1)
        if len(seen) == 1:
            folder.add_result(key, 0, values(key, 0))
        return found

    monkeypatch.setattr(folder, "results", late)
    assert taken(one, "v", "1")[0] != key
    assert len(leases(made)) == 1


def test_what_is_wrong_with_the_study_is_said_by_the_first_call(made):
    (made.root / "study.json").write_text('{"layout": 7}')
    one = Dispatcher(str(made.root))
    with pytest.raises(ValueError, match="has layout 7, and this version of gpurender reads layout 1"):
        taken(one, "v", "1")
