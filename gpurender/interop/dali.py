"""NVIDIA DALI, both ways: a recipe as the source of a pipeline, and a loader behind the interface of DALI's iterators.

:class:`Source` gives a DALI pipeline canvases, as a reader and its decoder would::

    from gpurender.interop import dali

    source = dali.Source("onepfrac-1k", batch_size=256, device="cuda", shuffle=True)

    @pipeline_def(batch_size=256, num_threads=2, device_id=0)
    def pipeline():
        canvases, labels = fn.external_source(**source.keywords)
        return fn.random_resized_crop(canvases, size=224), labels

:class:`Iterator` is for a training loop that was written for ``DALIClassificationIterator``; DALI need not be there::

    train = dali.Iterator(gr.DataLoader("onepfrac-1k", batch_size=256, augment=gr.augment.Crop()), auto_reset=True)
    for data in train:
        images, labels = data[0]["data"], data[0]["label"].squeeze(-1).long()

The source needs the extra ``dali-cuda12`` or ``dali-cuda13``. Read and run against DALI 2.4, on a CPU; what is said of
GPUs follows its source and documentation and has not been measured on one.
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
from gpurender.recipes.base import Recipe
from gpurender.recipes.base import recipe as as_recipe
from gpurender.runtime import devices
from gpurender.runtime.image_formats import ImageFormat
from gpurender.util import checks

__all__ = ["Iterator", "Source"]

log = logging.getLogger("gpurender")

PREFETCH_QUEUE_DEPTH = 2  # of a DALI pipeline, unless it says otherwise


# ------------------------------------------------------------------------------------------------- into a DALI pipeline


class Source:
    """The canvases of a recipe and their labels, batch by batch, for ``fn.external_source``.

    It is a function of the epoch and the number of the batch, which DALI tells it (``batch_info=True``), so it has no
    place of its own that could run ahead with DALI's prefetching. At the end of an epoch it raises ``StopIteration``,
    and goes on with the next one after the pipeline's or the iterator's ``reset()``. Order, ranks and ragged tails are
    those of :class:`gpurender.DataLoader`.

    **What comes.** Canvases, uint8 ``[B, S, S, C]`` with C = 1 (grey) or 3, the bytes of :class:`gpurender.Renderer`;
    and labels, int64 ``[B, 1]`` (two columns where the loader's targets have two). On a CPU these are NumPy arrays, and
    ``parallel=True`` may be added to the keywords.

    **Resuming.** DALI's checkpoints (``enable_checkpointing=True``) hold all that is needed. A state of
    :meth:`state_dict` is independent of DALI, fits a :class:`gpurender.DataLoader` as well, and may be loaded with
    another number of ranks or another batch size; use one or the other.

    **On a GPU** (not measured on one) the canvases are not copied. DALI does not wait for the stream that such a
    buffer is written on, so a batch is complete when it is handed over: it was drawn while the one before was trained
    on, and the host waits for what is missing. It is kept until DALI has no more use for it.

    Args:
        recipe: a recipe, a preset's name or the path of a recipe's JSON file.
        batch_size: of the pipeline.
        device: where to draw, also the pipeline's: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` …
        shuffle, seed, fresh, drop_last, rank, world_size: as for :class:`gpurender.DataLoader`.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
        ImportError: DALI is not installed.
    """

    def __init__(
        self,
        recipe: Recipe | str | os.PathLike[str],
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
        self._state = self._loader.state_dict()  # where BatchInfo(iteration=0, epoch_idx=0) is
        self._pass: Any = None  # of the loader, under way
        self._next: tuple[int, int] | None = None  # epoch and position of its next batch
        self._stream: Any = None  # on a GPU
        self._kept: deque[tuple[torch.Tensor, torch.Tensor]] = deque(maxlen=PREFETCH_QUEUE_DEPTH + 2)
        self._process = os.getpid()

    def __len__(self) -> int:
        """Batches of a whole epoch, equal on all ranks."""
        return len(self._loader)

    @property
    def batch_size(self) -> int:
        """Samples of a batch on each rank."""
        return self._batch_size

    @property
    def epoch(self) -> int:
        """The epoch that the pipeline begins with: 0, or that of the state that was loaded."""
        return self._first()[0]

    @property
    def keywords(self) -> dict[str, Any]:
        """What to call ``fn.external_source`` with, to be read where a pipeline is defined.

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
            "dtype": [types.UINT8, types.INT64],
            "ndim": [3, 1],
            "device": "cpu",
        }
        if devices.on_gpu(self._device):
            if pipeline.device_id != self._device.index:
                raise ValueError(
                    f"device must be that of the pipeline, which has device_id={pipeline.device_id}, "
                    f"the source draws on {self._device}"
                )
            self._keep_for(pipeline)
            keywords |= {"device": "gpu", "no_copy": True}
        return keywords

    def __call__(self, info: Any) -> tuple[Any, Any]:
        """The batch that DALI asks for with a ``BatchInfo``: canvases uint8 ``[B, S, S, C]``, labels int64 ``[B, 1]``.

        Raises:
            StopIteration: the epoch has no such batch.
        """
        if not hasattr(info, "epoch_idx"):
            raise TypeError(
                f"info must be DALI's BatchInfo, got {checks.shown(info)}; call fn.external_source(**source.keywords), "
                "or with batch_info=True"
            )
        if os.getpid() != self._process:
            torch.set_num_threads(1)  # a forked worker has none of OpenMP's threads and would wait for them
            self._process = os.getpid()
        epoch, position = self._first()
        if info.epoch_idx > 0:
            epoch, position = epoch + info.epoch_idx, 0
        position += info.iteration * self._step()
        if position >= len(self._recipe):
            raise StopIteration
        if (epoch, position) != self._next:  # the first, one after a reset or a checkpoint, or another worker's turn
            self._loader.load_state_dict({**self._state, "epoch": epoch, "position": position})
            self._pass = iter(self._loader)
        batch = self._batch_on_gpu() if devices.on_gpu(self._device) else self._batch_on_cpu()
        self._next = (epoch, position + self._step())
        return batch

    def state_dict(self, epoch: int, batches: int) -> dict[str, int | str]:
        """The place behind a batch that the training loop has taken: a state of :class:`gpurender.DataLoader`.

        DALI asks for batches before they are taken, so only the loop knows how many were.

        Args:
            epoch: the loop is in; the first is ``self.epoch``.
            batches: taken in this epoch since it began or, in the first one, since the source was made.

        Raises:
            TypeError, ValueError: there is no such batch.
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
        """Begin at a place, with the batch that would have come.

        Raises:
            TypeError, ValueError: this is not a state of the same recipe, seed, shuffle and fresh.
            RuntimeError: a pipeline draws from this source already; it cannot go back, a new source can.
        """
        if self._pass is not None:
            raise RuntimeError("a state must be loaded before a pipeline has asked for batches; make a new source")
        self._loader.load_state_dict(state_dict)
        self._state = self._loader.state_dict()

    def _first(self) -> tuple[int, int]:
        """Epoch and position of the first batch: of what was loaded, unless nothing is left of that epoch."""
        epoch, position = int(self._state["epoch"]), int(self._state["position"])
        if self._loader.drop_last and position > 0 and len(self._recipe) - position < self._step():
            return epoch + 1, 0
        return epoch, position

    def _step(self) -> int:
        """Samples that all ranks together take at a time."""
        return self.batch_size * (self._world or ranks.current()).world_size

    def _batch_on_cpu(self) -> tuple[Any, Any]:
        """Arrays of NumPy: with a tensor of torch DALI looks for a CUDA driver, also if it is on the CPU."""
        canvases, labels = next(self._pass)
        return canvases.numpy(), _columns(labels).numpy()

    def _batch_on_gpu(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Tensors, complete and kept.

        They are asked for on a stream on which nothing else runs, and the host waits for that one: waiting for the
        stream of the training loop would mean waiting for the step that was enqueued last.
        """
        if self._stream is None:
            self._stream = torch.cuda.Stream(self._device)
        with torch.cuda.stream(self._stream):
            canvases, labels = next(self._pass)
        self._stream.synchronize()
        self._kept.append((canvases, _columns(labels)))
        return self._kept[-1]

    def _keep_for(self, pipeline: Any) -> None:
        """Keep batches for as many further ones as DALI documents for ``no_copy``, and one more."""
        cpu, gpu = pipeline.cpu_queue_size, pipeline.gpu_queue_size
        depth = cpu if cpu == gpu else cpu * gpu
        self._kept = deque(self._kept, max(depth + 2, self._kept.maxlen or 0))

    def __getstate__(self) -> dict[str, Any]:
        """A copy, as in DALI's worker processes, makes its own stream and starts its own pass."""
        return self.__dict__ | {"_pass": None, "_next": None, "_stream": None, "_kept": deque(maxlen=self._kept.maxlen)}


class _Canvases(Policy):
    """The policy that leaves the canvases as they are."""

    capturable = True

    def draw(self, numbers: Any, *, seed: int = 0, canvas_size: int = 512, image_size: int = 224) -> Parameters:
        return {}

    def _apply(self, canvases: torch.Tensor, parameters: Parameters, image: ImageFormat) -> torch.Tensor:
        """Return canvases uint8 ``[N, C, S, S]`` as ``[N, S, S, C]``."""
        return canvases.permute(0, 2, 3, 1).contiguous()


def _columns(labels: torch.Tensor) -> torch.Tensor:
    """Labels ``[B]`` as ``[B, 1]``, as DALI has them; what has columns already stays."""
    return labels[:, None] if labels.dim() == 1 else labels


def _dali(module: str) -> Any:
    try:
        return importlib.import_module(f"nvidia.dali.{module}")
    except ImportError as error:
        raise ImportError(
            "gpurender.interop.dali.Source needs NVIDIA DALI: pip install 'gpurender[dali-cuda13]', "
            f"or 'gpurender[dali-cuda12]' for CUDA 12 ({error})"
        ) from error


# ------------------------------------------------------------------------------------- behind DALI's iterator interface


class Iterator:
    """A loader with the interface of DALI's ``DALIClassificationIterator``: its names, resets and shapes.

    - A batch is ``[{"data": images, "label": targets}]``. Labels are int64 ``[B, 1]``, as of DALI's readers, so that
      ``.squeeze(-1).long()`` makes them ``[B]``. Soft targets, of a policy that mixes or smooths, stay float32
      ``[B, classes]``; after ``.squeeze(-1)`` they are what torch's ``cross_entropy`` takes, but a script must not
      round them with ``.long()``.
    - ``iter(iterator)`` is the iterator itself. At an epoch's end ``StopIteration`` is raised, again and again, until
      ``reset()`` or ``iter()``; with ``auto_reset`` it is raised once. Mid-epoch both go on where they are, and say so.
    - An epoch's last batch is smaller, DALI's ``LastBatchPolicy.PARTIAL``, or dropped, by the loader's ``drop_last``.

    Args:
        loader: a :class:`gpurender.DataLoader`; its epochs, ranks and state are the iterator's.
        output_map: the two names in a batch.
        auto_reset: ``True`` or ``"yes"``: an epoch's end begins the next one; ``False``, ``None`` or ``"no"``.

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
        """Samples of a batch on each rank."""
        return self._loader.batch_size or 1

    @property
    def size(self) -> int:
        """Samples of a whole epoch on this rank."""
        return len(self._loader.sampler)

    @property
    def _size(self) -> int:
        """``size``, by the name under which the scripts of DALI's examples ask for it."""
        return self.size

    def __len__(self) -> int:
        """Batches of a whole epoch, equal on all ranks."""
        return len(self._loader)

    def __iter__(self) -> "Iterator":
        if self._taken or self._stopped:
            self.reset()
        return self

    def __next__(self) -> list[dict[str, Any]]:
        """One batch: a list of one dictionary, as of one pipeline."""
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
        """``next(iterator)``."""
        return self.__next__()

    def reset(self) -> None:
        """Begin the next epoch. Before the end of one this is ignored, with a warning, as by DALI."""
        if not self._at_end():
            log.warning("the iterator is not reset: its epoch is not over")
            return
        self._begin()

    def checkpoints(self) -> list[bytes]:
        """The place after the last batch taken, as JSON, in a list as of one pipeline.

        >>> loader.load_state_dict(json.loads(checkpoint))  # before the first batch of an Iterator(loader)
        """
        return [json.dumps(self._loader.state_dict()).encode()]

    def _begin(self) -> None:
        self._pass = iter(self._loader)
        self._taken = 0  # batches of this pass
        self._stopped = False  # it has raised StopIteration

    def _at_end(self) -> bool:
        """The loader moves on to the next epoch when the last batch is taken, not when one more is asked for."""
        return self._stopped or (self._taken > 0 and self._loader.state_dict()["position"] == 0)
