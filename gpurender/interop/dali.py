"""NVIDIA DALI in both directions: a recipe as the source of a pipeline, and a loader with DALI's iterator interface.

:class:`Source` feeds canvases into a DALI pipeline, instead of a reader and its decoder::

    from gpurender.interop import dali

    source = dali.Source("onepfrac-1k", batch_size=256, device="cuda", shuffle=True)

    @pipeline_def(batch_size=256, num_threads=2, device_id=0)
    def pipeline():
        canvases, labels = fn.external_source(**source.keywords)
        return fn.random_resized_crop(canvases, size=224), labels

:class:`Iterator` is for a training loop written for ``DALIClassificationIterator``; DALI need not be installed::

    train = dali.Iterator(gr.DataLoader("onepfrac-1k", batch_size=256, augment=gr.augment.Crop()), auto_reset=True)
    for data in train:
        images, labels = data[0]["data"], data[0]["label"].squeeze(-1).long()

The source needs the extra ``dali-cuda12`` or ``dali-cuda13``. Written from the source of DALI 2.4 and run with it on a
CPU; statements about GPUs follow DALI's source and documentation and have not been measured on a GPU.
"""

import importlib
import json
import logging
import os
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from gpurender.augment.parameters import Parameters
from gpurender.augment.policy import Policy
from gpurender.kernels.shuffle import last_epoch
from gpurender.loading import ranks
from gpurender.loading.arguments import default_collate
from gpurender.loading.data_loader import MAX_BATCH_SIZE, DataLoader
from gpurender.loading.ranks import steps
from gpurender.recipes.base import RecipeLike
from gpurender.recipes.base import recipe as as_recipe
from gpurender.runtime import devices
from gpurender.runtime.image_formats import ImageFormat
from gpurender.util import checks, keywords

__all__ = ["Iterator", "Source"]

log = logging.getLogger("gpurender")

PREFETCH_QUEUE_DEPTH = 2  # batches: the default of a DALI pipeline


# ------------------------------------------------------------------------------------------------- into a DALI pipeline


@keywords.checked
class Source:
    """The canvases of a recipe and their labels, batch by batch, for ``fn.external_source``.

    A batch is a function of its epoch and number, which DALI passes (``batch_info=True``), so the source has no cursor
    that DALI's prefetching could advance too far. At the end of an epoch the source raises ``StopIteration``; after the
    pipeline's or the iterator's ``reset()`` it continues with the next epoch. Order, ranks and ragged tails are those
    of :class:`gpurender.DataLoader`.

    **Outputs.** Canvases, uint8 ``[B, S, S, C]`` with C = 1 (grey) or 3, the bytes of :class:`gpurender.Renderer`; and
    labels, int64 ``[B, 1]`` (two columns where the loader's targets have two), or float32 ``[B, classes]`` if labels
    are multi-hot. On a CPU both are NumPy arrays, and ``parallel=True`` may be added to the keywords.

    **Resuming.** DALI's checkpoints (``enable_checkpointing=True``) hold everything needed. A state of
    :meth:`state_dict` is independent of DALI, fits a :class:`gpurender.DataLoader` as well, and may be loaded with
    another number of ranks or another batch size. Use one of the two, not both.

    **On a GPU** (not measured on one) the canvases are not copied. DALI does not wait for the CUDA stream that writes
    such a buffer, so a batch is complete when it is handed over: it is rendered during the training step on the batch
    before, and the host waits for the rest. The source keeps each batch until DALI has no more use for it.

    Args:
        recipe: any argument of ``gr.recipe``: a recipe, a preset's name, JSON, the path of a JSON file.
        batch_size: the pipeline's batch size.
        device: where to render; a GPU must be the pipeline's: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` …
        shuffle, seed, fresh, drop_last, rank, world_size: as for :class:`gpurender.DataLoader`.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
        ImportError: DALI is not installed.
    """

    def __init__(
        self,
        recipe: RecipeLike,
        batch_size: int,
        *,
        device: str | torch.device = "cpu",
        shuffle: bool = False,
        seed: int = 0,
        fresh: bool = False,
        drop_last: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        _dali("types")
        self._recipe = as_recipe(recipe)
        self._device = devices.resolve(device)
        self._world = ranks.checked(rank, world_size)
        self._batch_size = checks.integer("batch_size", batch_size, 1, MAX_BATCH_SIZE)
        self._loader = DataLoader(
            self._recipe, batch_size, augment=_Canvases(), device=self._device, shuffle=shuffle, seed=seed, fresh=fresh,
            drop_last=drop_last, rank=rank, world_size=world_size,
        )  # fmt: skip
        self._state = self._loader.state_dict()  # the place of BatchInfo(iteration=0, epoch_idx=0)
        self._pass: Any = None  # the loader's pass in progress
        self._next: tuple[int, int] | None = None  # epoch and position of the next batch of that pass
        self._stream: Any = None  # a CUDA stream, on a GPU
        self._kept: deque[tuple[torch.Tensor, torch.Tensor]] = deque(maxlen=PREFETCH_QUEUE_DEPTH + 2)
        self._process = os.getpid()

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch, equal on all ranks."""
        return len(self._loader)

    @property
    def batch_size(self) -> int:
        """Samples per batch on each rank."""
        return self._batch_size

    @property
    def epoch(self) -> int:
        """The epoch in which the pipeline begins: 0, or the epoch in which the loaded state continues."""
        return self._first()[0]

    @property
    def keywords(self) -> dict[str, Any]:
        """Keyword arguments for ``fn.external_source``, to be read where a pipeline is defined.

        Raises:
            RuntimeError: no pipeline is being defined.
            ValueError: the pipeline has another batch size or device than this source.
        """
        types, pipeline = _dali("types"), _dali("pipeline").Pipeline.current()
        if pipeline is None:
            raise RuntimeError("Source.keywords is to be read where a pipeline is defined, as under @pipeline_def")
        if pipeline.max_batch_size != self.batch_size:
            raise ValueError(
                f"batch_size must be that of the pipeline, {pipeline.max_batch_size}, the source's is {self.batch_size}"
            )
        keywords: dict[str, Any] = {
            "source": self,
            "num_outputs": 2,
            "batch": True,
            "batch_info": True,
            "layout": ["HWC", ""],
            "dtype": [types.UINT8, types.FLOAT if self._recipe.multi_hot else types.INT64],
            "ndim": [3, 1],
            "device": "cpu",
        }
        if devices.on_gpu(self._device):
            if pipeline.device_id != self._device.index:
                raise ValueError(
                    f"device must be that of the pipeline, which has device_id={pipeline.device_id}, "
                    f"the source renders on {self._device}"
                )
            self._keep_for(pipeline)
            keywords |= {"device": "gpu", "no_copy": True}
        return keywords

    def __call__(self, info: Any) -> tuple[Any, Any]:
        """Return the batch of DALI's ``BatchInfo``: canvases uint8 ``[B, S, S, C]``, labels int64 ``[B, 1]``.

        Raises:
            StopIteration: the epoch has no such batch.
        """
        if not hasattr(info, "epoch_idx"):
            raise TypeError(
                f"info must be DALI's BatchInfo, got {checks.shown(info)}; call fn.external_source(**source.keywords), "
                "or with batch_info=True"
            )
        if os.getpid() != self._process:
            torch.set_num_threads(1)  # a forked worker lacks OpenMP's threads and would wait for them
            self._process = os.getpid()
        epoch, position = self._first()
        if info.epoch_idx > 0:
            epoch, position = epoch + info.epoch_idx, 0
        position += info.iteration * self._step()
        if position >= len(self._recipe):
            raise StopIteration
        if (epoch, position) != self._next:  # first batch, after a reset or checkpoint, or another worker's turn
            self._loader.load_state_dict({**self._state, "epoch": epoch, "position": position})
            self._pass = iter(self._loader)
        batch = self._batch_on_gpu() if devices.on_gpu(self._device) else self._batch_on_cpu()
        self._next = (epoch, position + self._step())
        return batch

    def state_dict(self, epoch: int, batches: int) -> dict[str, int | str]:
        """Return the place after a batch that the training loop has taken: a state of :class:`gpurender.DataLoader`.

        DALI requests batches before the loop takes them, so only the loop knows how many it has taken.

        Args:
            epoch: the epoch that the loop is in; the first one is ``self.epoch``.
            batches: number of batches taken since this epoch began or, in the first epoch, since the source was made.

        Raises:
            TypeError, ValueError: there is no such epoch or batch.
        """
        first, position = self._first()
        length, step = len(self._recipe), self._step()
        epoch = checks.integer("epoch", epoch, first, last_epoch(length) - 1)
        start = position if epoch == first else 0
        count = steps(length - start, self.batch_size, step // self.batch_size, self._loader.drop_last)
        batches = checks.integer("batches", batches, 0, count)
        place = (epoch + 1, 0) if batches == count else (epoch, start + batches * step)
        return {**self._state, "epoch": place[0], "position": place[1]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue at a saved place, with the batch that would have followed.

        Raises:
            TypeError, ValueError: this is not a state of the same recipe, seed, shuffle and fresh.
            RuntimeError: a pipeline has taken batches from this source, which cannot go back; make a new source.
        """
        if self._pass is not None:
            raise RuntimeError("a state must be loaded before a pipeline has asked for batches; make a new source")
        self._loader.load_state_dict(state_dict)
        self._state = self._loader.state_dict()

    def _first(self) -> tuple[int, int]:
        """Return epoch and position of the first batch: the loaded ones, or the next epoch if no batch is left."""
        epoch, position = int(self._state["epoch"]), int(self._state["position"])
        if self._loader.drop_last and position > 0 and len(self._recipe) - position < self._step():
            return epoch + 1, 0
        return epoch, position

    def _step(self) -> int:
        """Return the number of samples per step of all ranks together."""
        return self.batch_size * (self._world or ranks.current()).world_size

    def _batch_on_cpu(self) -> tuple[Any, Any]:
        """Return NumPy arrays: for a torch tensor, DALI looks for a CUDA driver even if the tensor is on the CPU."""
        canvases, labels = next(self._pass)
        return canvases.numpy(), _columns(labels).numpy()

    def _batch_on_gpu(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return complete tensors, and keep them.

        They are requested on a CUDA stream on which nothing else runs, and the host waits for that stream: waiting for
        the training loop's stream would mean waiting for the step that was enqueued last.
        """
        if self._stream is None:
            self._stream = torch.cuda.Stream(self._device)
        with torch.cuda.stream(self._stream):
            canvases, labels = next(self._pass)
        self._stream.synchronize()
        self._kept.append((canvases, _columns(labels)))
        return self._kept[-1]

    def _keep_for(self, pipeline: Any) -> None:
        """Keep each batch for as many further batches as DALI documents for ``no_copy``, and one more."""
        cpu, gpu = pipeline.cpu_queue_size, pipeline.gpu_queue_size
        depth = cpu if cpu == gpu else cpu * gpu
        self._kept = deque(self._kept, max(depth + 2, self._kept.maxlen or 0))

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy, as in DALI's worker processes, which makes its own stream and its own pass."""
        return self.__dict__ | {"_pass": None, "_next": None, "_stream": None, "_kept": deque(maxlen=self._kept.maxlen)}


class _Canvases(Policy):
    """The policy that leaves the pixels of the canvases unchanged."""

    capturable = True

    def draw(self, numbers: Any, *, seed: int = 0, canvas_size: int = 512, image_size: int = 224) -> Parameters:
        return {}

    def _apply(self, canvases: torch.Tensor, parameters: Parameters, image: ImageFormat) -> torch.Tensor:
        """Return canvases uint8 ``[N, C, S, S]`` as ``[N, S, S, C]``."""
        return canvases.permute(0, 2, 3, 1).contiguous()


def _columns(labels: torch.Tensor) -> torch.Tensor:
    """Return labels ``[B]`` as ``[B, 1]``, as DALI has them; labels that have columns stay unchanged."""
    return labels[:, None] if labels.dim() == 1 else labels


def _dali(module: str) -> Any:
    try:
        return importlib.import_module(f"nvidia.dali.{module}")
    except ImportError as error:
        raise ImportError(
            "gpurender.interop.dali.Source needs NVIDIA DALI: pip install 'gpurender[dali-cuda13]', "
            f"or 'gpurender[dali-cuda12]' for CUDA 12 ({error})"
        ) from error


# --------------------------------------------------------------------------------------- with DALI's iterator interface


class Iterator:
    """A loader with the interface of DALI's ``DALIClassificationIterator``: its names, resets and shapes.

    - A batch is ``[{"data": images, "label": targets}]``. Labels are int64 ``[B, 1]``, as from DALI's readers, so that
      ``.squeeze(-1).long()`` makes them ``[B]``. Soft targets, from a policy that mixes or smooths, stay float32
      ``[B, classes]``; after ``.squeeze(-1)`` torch's ``cross_entropy`` accepts them, but a script must not round them
      with ``.long()``.
    - ``iter(iterator)`` is the iterator itself. At the end of an epoch every request raises ``StopIteration`` until
      ``reset()`` or ``iter()``; with ``auto_reset`` only one does. In mid-epoch both calls change nothing and log that.
    - An incomplete last batch is smaller, as with DALI's ``LastBatchPolicy.PARTIAL``, or left out if the loader has
      ``drop_last``.

    Args:
        loader: a :class:`gpurender.DataLoader`; its epochs, ranks and state are the iterator's.
        output_map: the names of images and targets in a batch.
        auto_reset: ``True`` or ``"yes"``: the end of an epoch begins the next one; ``False``, ``None`` or ``"no"``:
            ``reset()`` or ``iter()`` begins it.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """

    def __init__(
        self,
        loader: DataLoader,
        output_map: Sequence[str] = ("data", "label"),
        *,
        auto_reset: bool | str | None = False,
    ) -> None:
        if not isinstance(loader, DataLoader):
            raise TypeError(f"loader must be a gpurender.DataLoader, got {type(loader).__name__}")
        for name, there in (
            ("batch_sampler", loader.batch_size is None),
            ("collate_fn", loader.collate_fn is not default_collate),
        ):
            if there:
                raise ValueError(f"loader must have no {name}: DALI's batches are of one size, images and labels")
        names = [output_map] if isinstance(output_map, str) else list(output_map)
        if len(names) != 2 or len(set(names)) != 2 or not all(isinstance(name, str) for name in names):
            raise ValueError(f"output_map must be two different names, got {checks.shown(output_map)}")
        if not (auto_reset is None or isinstance(auto_reset, bool) or auto_reset in ("yes", "no")):
            raise ValueError(f"auto_reset must be True, 'yes', False, 'no' or None, got {checks.shown(auto_reset)}")
        self.output_map = names
        self._loader = loader
        self._auto_reset = auto_reset is True or auto_reset == "yes"
        self._begin()

    @property
    def batch_size(self) -> int:
        """Samples per batch on each rank."""
        return self._loader.batch_size or 1

    @property
    def size(self) -> int:
        """Samples of a whole pass (an epoch, or ``steps_per_epoch`` batches) on this rank."""
        return len(self._loader.sampler)

    @property
    def _size(self) -> int:
        """``size``, under the name that the scripts of DALI's examples use."""
        return self.size

    def __len__(self) -> int:
        """Return the number of batches of a whole pass, equal on all ranks."""
        return len(self._loader)

    def __iter__(self) -> "Iterator":
        if self._taken or self._stopped:
            self.reset()
        return self

    def __next__(self) -> list[dict[str, Any]]:
        """Return one batch: a list of one dictionary, as from one pipeline."""
        try:
            images, targets = next(self._pass)
        except StopIteration:
            self._stopped = True
            if self._auto_reset:
                self.reset()
            raise
        self._taken += 1
        return [dict(zip(self.output_map, (images, _columns(targets)), strict=True))]

    def next(self) -> list[dict[str, Any]]:
        """Return ``next(iterator)``."""
        return self.__next__()

    def reset(self) -> None:
        """Begin the next epoch. Before the end of the current one a call is ignored with a warning, as in DALI."""
        if not self._at_end():
            log.warning("the iterator is not reset: its epoch is not over")
            return
        self._begin()

    def checkpoints(self) -> list[bytes]:
        """Return the place after the last batch taken, as JSON, in a list as from one pipeline.

        >>> loader.load_state_dict(json.loads(checkpoint))  # before the first batch of an Iterator(loader)
        """
        return [json.dumps(self._loader.state_dict()).encode()]

    def _begin(self) -> None:
        self._pass: Any = iter(self._loader)
        self._taken = 0  # batches of this pass
        self._stopped = False  # whether the pass has raised StopIteration

    def _at_end(self) -> bool:
        """Return whether the pass is over, which is known with its last batch, not only at the request after it."""
        return self._stopped or self._pass.ended
