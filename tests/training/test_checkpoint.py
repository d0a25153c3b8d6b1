"""Checkpoints as files: what is written, and what is refused when one is read."""

import contextlib
import json

import pytest
import torch

import gpurender as gr
from gpurender.training import checkpoint, models
from tests.support.checkpoints import untrained

timm = pytest.importorskip("timm", reason="needs timm, of the extra 'train'")  # which brings safetensors
safetensors = pytest.importorskip("safetensors.torch", reason="needs safetensors, of the extra 'train'")
safe_open = pytest.importorskip("safetensors").safe_open
load_file, save_file = safetensors.load_file, safetensors.save_file


def rewritten(path, change, about=None):
    """Write a checkpoint anew, with other tensors, or with another description."""
    with safe_open(path, "pt") as file:
        text = file.metadata()["gpurender"]
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"gpurender": text if about is None else json.dumps(about)})
    return path


def test_a_file_says_what_it_is_in_sorted_json_and_reaches_the_disk(tmp_path, monkeypatch):
    written = []

    @contextlib.contextmanager
    def replacing(path, **options):
        written.append(options)
        yield path

    monkeypatch.setattr(checkpoint, "replacing", replacing)
    weights = {"a": torch.arange(6.0).view(2, 3).T, "b": torch.zeros(2, requires_grad=True)}
    checkpoint.save(tmp_path / "x.safetensors", weights, {"kind": "k", "aim": 1})
    assert written == [{"durable": True}]
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "gpurender": '{"aim": 1, "kind": "k", "version": 1}'}
        assert torch.equal(file.get_tensor("a"), weights["a"])
    assert gr.training.describe(tmp_path / "x.safetensors") == {"aim": 1, "kind": "k", "version": 1}
    assert checkpoint.versions() == {
        "gpurender": gr.__version__, "torch": torch.__version__, "timm": timm.__version__,
    }  # fmt: skip


@pytest.mark.parametrize("version", [0, 2, None])
def test_another_version_is_refused(tmp_path, version):
    path = rewritten(untrained(tmp_path), lambda tensors: None, {"version": version})
    with pytest.raises(ValueError, match=rf"^checkpoint .* has version {version}; this gpurender reads 1$"):
        gr.training.describe(path)


def test_a_model_is_loaded_to_be_asked_with_its_own_head_or_a_new_one(tmp_path, monkeypatch):
    path, asked, create = untrained(tmp_path), [], models.create
    with monkeypatch.context() as patch:
        patch.setattr(models, "create", lambda *given: asked.append(given) or create(*given))
        gr.training.load(path)
        gr.training.load(path, classes=5, image_size=64)
    assert asked == [("test_vit", 4, 32, 0.0, 0), ("test_vit", 5, 64, 0.0, 0)]
    weights = load_file(path)
    own = gr.training.load(path)
    assert not own.training
    assert {name: value.tolist() for name, value in own.state_dict().items()} == {
        name: value.tolist() for name, value in weights.items()
    }
    new = gr.training.load(path, classes=5)
    assert not new.training
    begun = models.create("test_vit", 5, 32, seed=0).state_dict()
    for name, value in new.state_dict().items():
        assert torch.equal(value, begun[name] if name.startswith("head.") else weights[name])
    deep = checkpoint.restored(path, gr.training.describe(path), 5, None, 0.5, 1)
    assert torch.equal(deep.head.weight, models.create("test_vit", 5, 32, seed=1).head.weight)
    drops = [[m.drop_prob for m in model.modules() if type(m).__name__ == "DropPath"] for model in (new, deep)]
    assert not drops[0]
    assert max(drops[1]) == 0.5


def test_position_embeddings_are_resampled_for_another_size(tmp_path):
    path = untrained(tmp_path)
    weights, larger = load_file(path), gr.training.load(path, image_size=64)
    wanted = timm.layers.resample_abs_pos_embed(weights["pos_embed"], [4, 4], num_prefix_tokens=1)
    assert weights["pos_embed"].shape == (1, 1 + 2 * 2, 64)
    assert torch.equal(larger.pos_embed, wanted)
    assert torch.equal(larger.head.weight, weights["head.weight"])
    convolutions = untrained(tmp_path, "test_resnet")  # timm has nothing to convert
    assert torch.equal(
        gr.training.load(convolutions, image_size=64).conv1[0].weight, load_file(convolutions)["conv1.0.weight"]
    )


@pytest.mark.parametrize("classes", [None, 3])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.update(other=torch.zeros(1)), "other differs"),
        (lambda tensors: tensors.pop("norm.weight"), "norm.weight differs"),
        (lambda tensors: tensors.update({"norm.weight": torch.zeros(3)}), ".* size mismatch for norm.weight"),
    ],
)
def test_weights_that_do_not_fit_their_model_are_refused(tmp_path, classes, change, said):
    path = rewritten(untrained(tmp_path), change)
    with pytest.raises(ValueError, match=rf"^checkpoint '.*' does not fit the model test_vit: {said}") as refused:
        gr.training.load(path, classes=classes)
    assert "\n" not in str(refused.value)


def test_a_head_may_be_missing_where_it_is_replaced(tmp_path):
    path = rewritten(untrained(tmp_path), lambda tensors: tensors.pop("head.weight"))
    assert gr.training.load(path, classes=4).head.weight.shape[0] == 4
    with pytest.raises(ValueError, match=r"does not fit the model test_vit: head\.weight differs"):
        gr.training.load(path)


def test_files_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    (tmp_path / "text").write_text("weights")
    for path in (tmp_path / "none", tmp_path / "text"):
        with pytest.raises(ValueError, match=rf"^checkpoint '{path}' cannot be read: "):
            checkpoint.read_weights(path)
    with pytest.raises(ValueError, match=rf"^checkpoint must be a file, and there is none at '{tmp_path}'"):
        gr.training.describe(tmp_path)

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("safetensors.safe_open", refused)
    with pytest.raises(ValueError, match=r"^checkpoint .* cannot be read: .*Permission denied"):
        gr.training.describe(tmp_path / "text")
