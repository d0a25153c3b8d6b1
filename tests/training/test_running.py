"""What is around a training: its folder, the journal's life, and that it says where it goes on."""

import logging
from types import SimpleNamespace

import pytest

from gpurender.training import running

pytest.importorskip("timm", reason="needs timm, of the extra 'train'")


def test_a_folder_is_made_or_refused(tmp_path, monkeypatch):
    checked = []
    monkeypatch.setattr(running, "check_writable", checked.append)
    new = tmp_path / "a" / "b"
    for _ in range(2):
        assert running.folder_of(str(new)) == new
        assert new.is_dir()
    assert checked == [new / "checkpoint.safetensors"] * 2
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"^output must be a folder, and '.*file' cannot be made: File exists$"):
        running.folder_of(tmp_path / "file")
    with pytest.raises(TypeError, match=r"^output must be a path, got 3$"):
        running.folder_of(3)


@pytest.mark.parametrize(("resumed", "main", "said"), [(True, True, True), (True, False, False), (False, True, False)])
@pytest.mark.parametrize("fails", [False, True])
def test_a_training_goes_on_says_so_and_closes_its_journal(tmp_path, monkeypatch, caplog, resumed, main, said, fails):
    done = []

    class Journal:
        def __init__(self, *given):
            done.append(given)

        def close(self):
            done.append("closed")

    def run(journal, *every):
        done.append((type(journal), *every))
        if fails:
            raise KeyError

    monkeypatch.setattr(running, "Journal", Journal)
    training = SimpleNamespace(
        resume=lambda: resumed, accelerator=SimpleNamespace(is_main_process=main), settings=SimpleNamespace(steps=9),
        step=4, folder=tmp_path, run=run,
    )  # fmt: skip
    with caplog.at_level(logging.WARNING, "gpurender"):
        if fails:
            with pytest.raises(KeyError):
                running.go(training, 2, 3, True)
        else:
            running.go(training, 2, 3, True)
    assert done == [(tmp_path, 4, 9, main, True), (Journal, 2, 3), "closed"]
    assert [record.getMessage() for record in caplog.records] == [f"{tmp_path}: 4 steps of 9 done"] * said
