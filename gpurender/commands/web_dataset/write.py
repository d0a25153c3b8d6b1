"""Writing tar files: the same bytes each time, each file complete or absent."""

import io
import tarfile
from collections.abc import Callable, Iterator

from gpurender.commands.image_folder.claims import claimed
from gpurender.commands.image_folder.pictures import canvases, save_png
from gpurender.commands.image_folder.shards import Shard
from gpurender.commands.image_folder.tally import Tally, noting
from gpurender.commands.web_dataset.manifest import tars_manifest
from gpurender.commands.web_dataset.tars import Entry, Tars, is_whole
from gpurender.renderer import Renderer
from gpurender.runtime.threads import parallel_ranges
from gpurender.util.atomic_files import replacing
from gpurender.util.progress import progress


def export_tars(tars: Tars, shard: Shard) -> Tally:
    """Write the tar files of a shard that are not there yet; return the numbers of images."""
    first, end = shard.part(tars.count)
    tally = Tally(tars.images(first, end))
    with (
        claimed(tars.root, tars_manifest(tars), shard),
        noting(tally.note),
        progress(total=tally.total, desc=f"export to {tars.root}", unit="image") as bar,
    ):
        for number in range(first, end):
            images = tars.images(number, number + 1)
            if is_whole(tars.path(number)):
                tally.present += images
                bar.update(images)
            else:
                _write_counted(tars, number, tally, bar.update)
    return tally


def _write_counted(tars: Tars, number: int, tally: Tally, update: Callable[[int], object]) -> None:
    """Write a tar file and count its images, also where Ctrl-C comes between the two."""
    try:
        write_tar(tars, number, update)
    finally:
        if is_whole(tars.path(number)):
            tally.written += tars.images(number, number + 1)


def write_tar(tars: Tars, number: int, update: Callable[[int], object] = lambda _: None) -> None:
    """Render the images of a tar file and write it; ``update`` is called with numbers of rendered images."""
    with (
        replacing(tars.path(number), durable=True) as temporary,
        tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for entries in tars.batches(number):
            for name, data in members(entries, _pngs(tars.renderer, entries)):
                tar.addfile(_header(name, len(data)), io.BytesIO(data))
            update(len(entries))


def members(entries: list[Entry], pngs: list[bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of the members of entries: the picture, then the label."""
    for entry, png in zip(entries, pngs, strict=True):
        yield f"{entry.key}.png", png
        yield f"{entry.key}.{entry.ending}", entry.label


def _header(name: str, size: int) -> tarfile.TarInfo:
    """Return the header of a member, in which nothing tells the time or the user: time, user and group are 0."""
    header = tarfile.TarInfo(name)
    header.size = size
    return header


def _pngs(renderer: Renderer, entries: list[Entry]) -> list[bytes]:
    """Render the pictures of entries and return them as PNG files; threads compress in parallel."""
    pictures = canvases(renderer, [entry.sample for entry in entries])
    pngs = [b""] * len(pictures)

    def encode(start: int, stop: int) -> None:
        for i in range(start, stop):
            save_png(pictures[i], file := io.BytesIO())
            pngs[i] = file.getvalue()

    parallel_ranges(len(pictures), encode)
    return pngs
