"""DataServer: a server as its clients see it: a folder, or an address that ``gpurender serve`` answers.

Private images stay where they are: the experts come to the client, and what goes back are K numbers, if anything; with
a folder, or with :meth:`DataServer.recommend`, nothing does.
"""

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gpurender.runtime import devices
from gpurender.server import catalogue as catalogues
from gpurender.server import remote
from gpurender.server.catalogue import CATALOGUE, Entry, Expert
from gpurender.server.experts import Shown, score
from gpurender.server.files import FileList, checked, read_files
from gpurender.server.recommend import Recommendation, recommendation
from gpurender.server.sources import SHOWN, few, image_names, samples_of
from gpurender.tasks import Samples, Task
from gpurender.util import checks, keywords
from gpurender.util.progress import progress

__all__ = ["DataServer"]

READING = threading.Lock()


@keywords.checked
class DataServer:
    """A data server.

    >>> server = gr.DataServer("server")
    >>> found = server.recommend(server.adapt("flowers"), budget=10_000_000)
    >>> found.recipe, found.expert, found.expected_gain

    Args:
        place: the folder of :func:`gpurender.server.build`, or an address, ``http://`` or ``https://``. Of an address,
            the experts are kept in the user's cache folder; a transfer that was cut off goes on where it was.

    Attributes:
        catalogue: what the server has (:class:`gpurender.server.catalogue.Catalogue`).

    Raises:
        ValueError: there is no server, or its catalogue is damaged.
        OSError: the address does not answer.
    """

    def __init__(self, place: str | os.PathLike[str]) -> None:
        self.address = place.rstrip("/") if isinstance(place, str) and "://" in place else None
        if self.address is not None:
            self.folder = remote.cache_folder(self.address)
            self.catalogue = catalogues.from_json(remote.catalogue(self.address), self.address)
        else:
            self.folder = checks.path("server", place)
            if not self.folder.is_dir():
                raise ValueError(f"server must be a folder or an http address, got {checks.shown_path(self.folder)}")
            self.catalogue = catalogues.load(self.folder / CATALOGUE)
        self._lists: dict[str, FileList] = {}

    def __repr__(self) -> str:
        return f"DataServer({self.address or str(self.folder)!r}: {len(self.catalogue.experts)} experts)"

    def expert(self, name: str) -> Path:
        """Return the path of an expert's checkpoint, for :func:`gpurender.training.load`; its digest is checked.

        Raises:
            ValueError: there is no such expert, or its file is not the one of the catalogue.
            OSError: it cannot be fetched.
        """
        by_name = {expert.name: expert for expert in self.catalogue.experts}
        return self._fetched(by_name[checks.choice("expert", name, tuple(by_name))])

    def _fetched(self, expert: Expert) -> Path:
        path = self.folder / expert.path
        if self.address is not None:
            return remote.fetched(f"{self.address}/{expert.path}", path, expert.sha256, expert.bytes)
        return checked(path, expert.sha256, expert.bytes)

    def adapt(
        self, data: str | os.PathLike[str] | Task, *, device: str | torch.device | None = None
    ) -> dict[str, float]:
        """Return what each expert makes of the images of a task: a number from 0 to 1 by name, and nothing else.

        At most 2,048 training images are used, always the same ones. Experts on rotations need no labels; for experts
        on classes it is the accuracy of linear heads on their features, by five-fold cross-validation.

        Args:
            data: a task, or what :class:`gpurender.tasks.Task` takes; for experts on rotations also a folder of images
                without classes.
            device: that computes; ``None``: the GPU if there is one.

        Raises:
            TypeError, ValueError: naming the argument, its value and what is allowed, or the image that cannot be read.
        """
        target = devices.resolve(device)
        return self.scores(few(self._images(data), SHOWN), target)

    def scores(self, samples: Samples, device: torch.device) -> dict[str, float]:
        """Return what each expert makes of images, by name."""
        found, shown = {}, Shown(samples)
        with progress(total=len(self.catalogue.experts), desc="adapt", unit="expert") as bar:
            for expert in self.catalogue.experts:
                found[expert.name] = score(self._fetched(expert), self.catalogue.task, shown, device)
                bar.update()
        return found

    def _images(self, data: Any) -> Samples:
        if isinstance(data, Task):
            return data.samples("train")
        folder = checks.path("data", data)
        task = Task(data)
        if self.catalogue.task == "rotation" and task.kind == "folder" and not (folder / "train").is_dir():
            return samples_of(folder, image_names(folder))
        return task.samples("train")

    def recommend(
        self, scores: Mapping[str, float], *, budget: Any, max_share: float = 1.0, seed: int = 0
    ) -> Recommendation:
        """Return what a client with these scores should train on; it is computed here, and nothing is sent.

        Args:
            scores: of :meth:`adapt`.
            budget: images, such as 10_000_000 or ``"10M"``; of a server of files also bytes, such as ``"2GB"``.
            max_share: greatest weight of a source, at least 1 / (number of sources).
            seed: of the draw of files.

        Raises:
            TypeError, ValueError: naming the argument, its value and what is allowed.
        """
        files = None
        if self.catalogue.kind == "files":
            files = {entry.name: self.files(entry.name) for entry in self.catalogue.sources}
        return recommendation(self.catalogue, scores, budget, max_share, files, seed)

    def files(self, name: str) -> FileList:
        """Return the files of a source of a server of files; they are read once.

        Raises:
            ValueError: there is no such source, or its list is damaged.
            OSError: it cannot be fetched.
        """
        if self.catalogue.kind != "files":
            raise ValueError("files are listed by a server of an image folder, and this one has recipes")
        by_name = {entry.name: entry for entry in self.catalogue.sources}
        entry = by_name[checks.choice("source", name, tuple(by_name))]
        with READING:  # one thread reads a long list, and the others wait for it
            if name not in self._lists:
                self._lists[name] = self._read(entry)
        return self._lists[name]

    def _read(self, entry: Entry) -> FileList:
        if self.address is not None:
            return read_files(remote.text(f"{self.address}/{entry.path}"), entry.path)
        try:
            data = (self.folder / entry.path).read_bytes()
        except OSError as error:
            raise ValueError(f"server: {entry.path!r} cannot be read: {error.strerror}") from None
        return read_files(data, entry.path)
