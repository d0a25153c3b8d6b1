"""Search results on disk: found once, whole or absent, rebuilt when damaged."""

import os
import stat

import pytest
import torch

import gpurender as gr
from gpurender.recipes import fractaldb
from gpurender.util import disk_cache


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "gpurender"


@pytest.fixture
def searches(monkeypatch):
    """How many candidates were tried."""
    tried = []
    real = fractaldb.covered_pixels

    def counting(systems, *arguments, **keywords):
        tried.append(len(systems))
        return real(systems, *arguments, **keywords)

    monkeypatch.setattr(fractaldb, "covered_pixels", counting)
    return tried


def test_a_search_is_done_once_and_carried_on(own_cache, searches):
    small = gr.Renderer(gr.FractalDB(classes=2, points=1000, seed=1))(0)
    first = len(searches)
    assert first > 0
    assert len(list(own_cache.iterdir())) == 1
    again = gr.Renderer(gr.FractalDB(classes=2, points=1000, seed=1))
    assert torch.equal(again(0), small)
    assert len(searches) == first
    more = gr.Renderer(gr.FractalDB(classes=6, points=1000, seed=1))  # the same search, further on
    assert torch.equal(more(0), small)
    assert len(searches) > first
    assert len(list(own_cache.iterdir())) == 1
    os.unlink(next(own_cache.iterdir()))
    whole = gr.Renderer(gr.FractalDB(classes=6, points=1000, seed=1))
    assert torch.equal(whole(list(range(0, 6000, 999))), more(list(range(0, 6000, 999))))


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff", b'{"sha256": "0", "values": [1, 2]}', "cut", "bit"])
def test_a_damaged_cache_is_rebuilt(own_cache, searches, damage):
    recipe = gr.FractalDB(classes=2, points=1000, seed=1)
    image = gr.Renderer(recipe)(0)
    path = next(own_cache.iterdir())
    whole = path.read_bytes()
    path.write_bytes(whole[:-5] if damage == "cut" else whole.replace(b"[", b"[1, ") if damage == "bit" else damage)
    searches.clear()
    assert torch.equal(gr.Renderer(recipe)(0), image)
    assert searches
    assert path.read_bytes() == whole


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert gr.Renderer(gr.FractalDB(classes=1, points=1000, seed=1))(0).shape == (1, 1, 362, 362)


def test_saving_leaves_no_temporary_file(own_cache, monkeypatch):
    disk_cache.save("kind", "key", [1, 2, 3])
    assert disk_cache.load("kind", "key") == [1, 2, 3]
    assert disk_cache.load("kind", "other") is None
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    disk_cache.save("kind", "second", [4])
    assert disk_cache.load("kind", "second") is None
    assert [path.name for path in own_cache.iterdir()] == ["kind-key.json"]
    assert stat.S_ISREG(next(own_cache.iterdir()).stat().st_mode)


@pytest.mark.parametrize("family", [gr.FractalDB, gr.OFDB])
def test_a_fill_rate_that_no_system_has_ends(own_cache, monkeypatch, family):
    monkeypatch.setattr(fractaldb, "SEARCH_LIMIT", 300)
    with pytest.raises(ValueError, match="fill_rate: 300 random systems in a row"):
        gr.Renderer(family(classes=1, fill_rate=0.37, seed=1))(0)
    assert not own_cache.exists()


@pytest.mark.parametrize("family", [gr.FractalDB, gr.OFDB])
def test_a_fill_rate_of_more_pixels_than_points_is_refused_at_once(own_cache, searches, family):
    """100,000 points cover at most 38.147 % of 512 x 512 pixels."""
    with pytest.raises(ValueError, match=r"^fill_rate must be at most 0\.3814 for a search, got 0\.3815: "):
        gr.Renderer(family(classes=1, fill_rate=0.3815, seed=1))(0)
    assert not searches


def test_the_shipped_search_is_what_the_search_finds(own_cache, searches, monkeypatch):
    """The presets of up to 21,000 need no search; its beginning, a stretch out of the middle and its end are searched
    here again.
    """
    for name in ("fractaldb-1k", "fractaldb-21k", "ofdb-1k", "ofdb-21k"):
        assert not gr.recipe(name).needs_search()
    assert gr.recipe("fractaldb-100k").needs_search()
    shipped = gr.FractalDB()._search(torch.device("cpu"))
    assert not searches
    assert len(shipped) == 21_000
    monkeypatch.setattr(fractaldb, "_preset_search", lambda key: [])
    next(own_cache.iterdir()).unlink()
    assert gr.FractalDB(classes=15)._search(torch.device("cpu"))[:15] == shipped[:15]
    monkeypatch.setattr(fractaldb, "_preset_search", lambda key: shipped[:700])
    next(own_cache.iterdir()).unlink()
    assert gr.FractalDB(classes=715)._search(torch.device("cpu"))[:715] == shipped[:715]
    monkeypatch.setattr(fractaldb, "_preset_search", lambda key: shipped[:20_990])
    next(own_cache.iterdir()).unlink()
    assert gr.FractalDB(classes=21_000)._search(torch.device("cpu"))[:21_000] == shipped


def test_a_file_under_another_name_is_not_that_one_s(own_cache):
    disk_cache.save("kind", "key", [1, 2, 3])
    whole = (own_cache / "kind-key.json").read_bytes()
    for name in ("kind-other.json", "kin-key.json"):
        (own_cache / name).write_bytes(whole)
    assert disk_cache.load("kind", "key") == [1, 2, 3]
    assert disk_cache.load("kind", "other") is None
    assert disk_cache.load("kin", "key") is None


def test_a_group_can_share_results(own_cache):
    """What is kept is as readable as whatever else the user makes."""
    disk_cache.save("kind", "key", [1])
    (own_cache / "by hand").touch()
    assert (own_cache / "kind-key.json").stat().st_mode == (own_cache / "by hand").stat().st_mode


def test_a_variable_of_our_own_names_the_folder(own_cache, tmp_path, monkeypatch):
    assert disk_cache.directory() == own_cache
    monkeypatch.setenv("GPURENDER_CACHE_DIR", str(tmp_path / "group"))
    assert disk_cache.directory() == tmp_path / "group"
    disk_cache.save("kind", "key", [1])
    assert (tmp_path / "group/kind-key.json").is_file()
    monkeypatch.setenv("GPURENDER_CACHE_DIR", "relative")
    assert disk_cache.directory() == own_cache


@pytest.mark.parametrize("root", ["", "relative/cache"])
def test_nobody_s_cache_is_nowhere(root, tmp_path, monkeypatch):
    """Without a home, and without an absolute XDG_CACHE_HOME, nothing is written anywhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", root)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it does for a user that has no home
    disk_cache.save("kind", "key", [1])
    assert disk_cache.load("kind", "key") is None
    assert list(tmp_path.iterdir()) == []
