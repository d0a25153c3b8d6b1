"""FractalDB's category search: what is accepted, and that an interruption loses nothing."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tqdm import tqdm

import gpurender as gr
from gpurender.recipes import fractaldb, search
from gpurender.util import disk_cache

CPU = torch.device("cpu")


@pytest.fixture
def law(tmp_path, monkeypatch):
    """A search of a cache of its own in which every 37th candidate is filled; the calls so far, as first candidates.

    ``law.stop`` is called before every batch, with the number of batches so far.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    law = SimpleNamespace(calls=[], stop=lambda batches: None)

    def covered(systems, addresses, **keywords):
        numbers = addresses & (2**63 - 1)
        law.stop(len(law.calls))
        law.calls.append(int(numbers[0]))
        return torch.where(numbers % 37 == 5, least(), 0)

    monkeypatch.setattr(fractaldb, "covered_pixels", covered)
    return law


def least():
    return gr.FractalDB(seed=1)._least


def searched(classes):
    return gr.FractalDB(seed=1, classes=classes)._search(CPU)


def saved():
    """What lies in the cache."""
    files = list(disk_cache.directory().glob("fractaldb-*.json"))
    return disk_cache.load("fractaldb", files[0].stem.removeprefix("fractaldb-")) if files else None


def test_a_category_that_covers_just_enough_is_accepted(law):
    """The released rule: at least the fill rate; here each 37th covers exactly that, and one pixel less is too few."""
    assert least() == np.ceil(0.2 * 512 * 512)
    assert searched(3)[:3] == [5, 42, 79]


def test_one_pixel_less_is_too_few(law, monkeypatch):
    monkeypatch.setattr(fractaldb, "covered_pixels", lambda systems, *a, **k: torch.full((len(systems),), least() - 1))
    monkeypatch.setattr(fractaldb, "SEARCH_LIMIT", 300)
    with pytest.raises(ValueError, match="300 random systems in a row"):
        searched(1)


def test_the_limit_counts_from_the_last_category_found(law, monkeypatch):
    """40 categories, of which the last is the 1,448th candidate: never 300 in a row without one."""
    monkeypatch.setattr(fractaldb, "SEARCH_LIMIT", 300)
    assert searched(40)[39] == 5 + 39 * 37


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("batches", [1, 3, 9])
def test_an_interrupted_search_goes_on_where_it_was(law, error, batches, tmp_path, monkeypatch):
    whole = searched(40)
    uninterrupted = len(law.calls)
    assert saved() == whole
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "second"))
    law.calls.clear()

    def stop(done):
        if done == batches:
            raise error

    law.stop = stop
    with pytest.raises(error):
        searched(40)
    assert saved() == [number for number in whole if number < 128 * batches]
    law.stop = lambda done: None
    assert searched(40) == whole == saved()
    assert len(law.calls) <= uninterrupted + 1
    done = len(law.calls)
    assert searched(40) == searched(len(whole)) == whole
    assert len(law.calls) == done <= uninterrupted + 1  # found once


def test_a_search_stopped_again_and_again_ends_all_the_same(law):
    """Two batches a try: at the second of them the one before is known."""
    tries = 0
    while True:
        begun = len(law.calls)

        def stop(done, begun=begun):
            if done == begun + 2:
                raise KeyboardInterrupt

        law.stop = stop
        tries += 1
        try:
            found = searched(40)
        except KeyboardInterrupt:
            continue
        break
    law.stop = lambda done: None
    assert found == [5 + 37 * i for i in range(len(found))]
    assert 40 <= len(found) < 44
    assert tries <= 12


def test_a_search_that_is_killed_has_saved_on_its_way(law, monkeypatch):
    """A kill leaves no time to save: what is found is saved every few seconds."""
    monkeypatch.setattr(search, "SAVE_SECONDS", -1.0)
    on_disk = []
    law.stop = lambda done: on_disk.append(len(saved() or ()))
    found = searched(20)
    assert on_disk == [sum(number < 128 * done for number in found) for done in range(len(law.calls))]


def test_saving_is_rare(law, monkeypatch):
    written = []
    real = disk_cache.save
    monkeypatch.setattr(disk_cache, "save", lambda *arguments: written.append(1) or real(*arguments))
    searched(20)
    assert len(written) == 1  # at the end, as it takes less than the seconds between two


def test_of_two_searches_the_longer_result_stays(law):
    longer = []

    def stop(done):
        if done == 2:
            law.stop = lambda done: None
            longer.extend(searched(60))

    law.stop = stop
    short = searched(20)
    assert len(short) < len(longer)
    assert short == longer[: len(short)]
    assert saved() == longer


def test_nothing_found_is_not_saved(law):
    def stop(done):
        raise KeyboardInterrupt

    law.stop = stop
    with pytest.raises(KeyboardInterrupt):
        searched(4)
    assert saved() is None


def test_a_search_goes_on_from_any_length(law):
    """Also from one of another batch size, or the shipped one, which end anywhere."""
    found = searched(10)
    key = next(disk_cache.directory().glob("*.json")).stem.removeprefix("fractaldb-")
    for length in range(1, 8):
        disk_cache.save("fractaldb", key, found[:length])
        assert searched(10) == found


SIZES = pytest.mark.parametrize("classes", [21_000, 100_000])


@pytest.fixture
def quick(law, monkeypatch):
    """The law without the systems, which take a microsecond each: 100,000 categories are four million candidates."""

    def accepted(recipe, candidate_ids, device):
        law.stop(len(law.calls))
        law.calls.append(int(candidate_ids[0]))
        first = int(candidate_ids[0])
        return list(range(first + (5 - first) % 37, int(candidate_ids[-1]) + 1, 37))

    monkeypatch.setattr(gr.FractalDB, "_accepted", accepted)
    return law


@SIZES
def test_a_search_of_a_preset_s_size_goes_on_in_its_middle(quick, classes, monkeypatch):
    """A kill in the middle: the file has what was found until the last save, and only the rest is searched."""

    def kill(done):
        if done == 1000:
            raise KeyboardInterrupt

    quick.stop = kill
    with pytest.raises(KeyboardInterrupt):
        searched(classes)
    half = saved()
    assert half == list(range(5, 1000 * 128, 37))
    quick.stop = lambda done: None
    found = searched(classes)
    assert found[:classes] == [5 + 37 * i for i in range(classes)]
    assert saved() == found
    assert len(quick.calls) <= -(-37 * classes // 128) + 2
    assert next(disk_cache.directory().glob("*.json")).stat().st_size < 10 * classes


@SIZES
def test_saving_on_the_way_is_rare(quick, classes, monkeypatch):
    """The whole file is written each time: every ten seconds, whatever its length."""
    clock, written = iter(range(10**9)), []
    monkeypatch.setattr(search.time, "monotonic", lambda: next(clock) / 100)  # 10 ms per batch and look at the clock
    monkeypatch.setattr(disk_cache, "save", lambda kind, key, values: written.append(len(values)))
    searched(classes)
    assert len(written) <= len(quick.calls) / 100 * 2 / search.SAVE_SECONDS + 2
    assert written == sorted(written)


def test_progress_moves_while_nothing_is_found(law, monkeypatch):
    """How many systems were tried, at every batch; the bar's redraws need no category."""
    shown, options = [], {}

    class Bar:
        n = 0

        def __init__(self, **given):
            options.update(given)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self, count):
            self.n += count

        def set_postfix_str(self, text, refresh):
            shown.append((self.n, text))

    monkeypatch.setattr(search, "progress", Bar)
    monkeypatch.setattr(fractaldb, "covered_pixels", lambda systems, *a, **k: torch.zeros(len(systems)))
    monkeypatch.setattr(fractaldb, "SEARCH_LIMIT", 300)
    with pytest.raises(ValueError, match="300 random systems in a row"):
        searched(5)
    assert shown == [(0, "128 systems tried"), (0, "256 systems tried"), (0, "384 systems tried")]
    assert (options["total"], options["initial"], options["miniters"]) == (5, 0, 0)
    shown.clear()
    monkeypatch.setattr(fractaldb, "SEARCH_LIMIT", 256)  # of which 256 in a row are not yet more
    with pytest.raises(ValueError, match="256 random systems in a row"):
        searched(5)
    assert shown[-1] == (0, "384 systems tried")


def test_progress_goes_on_where_the_search_was_and_ends_at_what_was_asked_for(law, monkeypatch):
    begun, updates = [], []

    def bar(**options):
        begun.append((options["initial"], options["total"]))
        return tqdm(disable=True, **options)

    def update(self, count):
        self.n += count
        updates.append(count)

    monkeypatch.setattr(search, "progress", bar)
    monkeypatch.setattr(tqdm, "update", update)
    searched(5)  # four categories below 128, seven below 256
    searched(9)  # the last batch is tested again
    assert begun == [(0, 5), (4, 9)]
    assert updates == [4, 1, 3, 2]


def test_a_search_asks_for_more_candidates_at_once_on_a_gpu(monkeypatch):
    recipe = gr.FractalDB()
    assert (recipe._searching(CPU).batch, recipe._searching(CPU).limit) == (128, 50_000)
    monkeypatch.setattr(fractaldb.dispatch, "on_host", lambda device: False)
    assert recipe._searching(CPU).batch == 4096


def test_as_many_pixels_as_the_search_has_points_may_be_asked_for(monkeypatch):
    """100,000 of 512 x 512; one pixel more is covered by no system."""
    monkeypatch.setattr(gr.FractalDB, "_searching", lambda self, device: SimpleNamespace(ids=lambda classes: [7]))
    assert gr.FractalDB(fill_rate=100_000 / 512**2, classes=1)._search(CPU) == [7]
    with pytest.raises(ValueError, match=r"^fill_rate must be at most 0\.3814 for a search, got 0\.38147\d*: 100000"):
        gr.FractalDB(fill_rate=100_001 / 512**2, classes=1)._search(CPU)


@pytest.mark.parametrize("recipe", [gr.FractalDB.smallest(), gr.ExFractalDB.smallest()], ids=lambda r: r.family)
def test_weights_are_multiplied_with_all_their_digits(recipe):
    """0.4 is no float32: products of rounded factors would be other parameters."""
    assert torch.equal(recipe.catalog(CPU).factors, torch.tensor(recipe.factors(), dtype=torch.float64))
