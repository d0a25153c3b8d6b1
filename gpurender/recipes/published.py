"""Class parameters as authors publish them: folders of small CSV files, one per class."""

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from gpurender.recipes.ifs import MAX_PARAMETER
from gpurender.util import checks
from gpurender.util.atomic_files import TEMPORARY
from gpurender.util.texts import read_text

MOST_ROWS = 1024  # of a file
ROUNDING = 1e-5  # distance from 1 of the sum of published probabilities, which have few digits
MOST_OTHERS = 20_000  # files and folders visited; with more, / or a folder of images was given by mistake


def categories(folder: Any, read: Callable[[Path], Any]) -> tuple[Any, ...]:
    """Return the result of ``read`` for every CSV file in a folder and all its subfolders, ordered by file name.

    Hidden files and folders are left out, links are followed. FractalDB's 1,000 categories lie in csv0, csv1, ...,
    csv39: the order is that of the files' names, independent of their folders.

    Raises:
        TypeError: ``folder`` is not a path.
        ValueError: a folder or file cannot be read, is empty or malformed, or a file name occurs twice; the message
            gives the path.
    """
    files = _csv_files(checks.path("folder", folder))
    found = []
    for path in files:
        try:
            found.append(read(path))
        except ValueError as error:
            raise ValueError(f"{error}{_where_categories_are(files, path, read)}") from None
    return tuple(found)


def write(folder: Any, files: Iterable[tuple[str, str]]) -> None:
    """Write class files, pairs of a name and a text, into a new or empty folder.

    The files are written into a hidden folder beside it, which is then renamed: the folder has all files or none.

    Raises:
        TypeError: ``folder`` is not a path.
        ValueError: ``folder`` is not empty, because files that are there already would be read as classes, or cannot
            be written.
    """
    target = Path(os.path.realpath(checks.path("folder", folder)))
    shown = checks.shown_path(folder)
    temporary = target.parent / (TEMPORARY + os.urandom(8).hex())
    try:
        if target.exists() and any(os.scandir(target)):
            raise ValueError(f"folder {shown} must be new or empty, it holds {next(os.scandir(target)).name!r}")
        temporary.mkdir(parents=True)
        try:
            for name, text in files:
                (temporary / name).write_text(text, encoding="utf-8")
            os.replace(temporary, target)
        except BaseException:  # Ctrl-C as well
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    except OSError as error:
        raise ValueError(f"folder {shown} cannot be written: {error.strerror or error}") from None


def lines(path: Path) -> list[tuple[int, str]]:
    """Return the non-blank lines of a file with their line numbers, counted from 1.

    Raises:
        ValueError: the file cannot be read or is not UTF-8.
    """
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:  # ValueError: also a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{checks.shown_path(path)[1:-1]} cannot be read: {reason}") from None
    return [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def table(path: Path, columns: int, weights: int = 0) -> tuple[tuple[float, ...], ...]:
    """Return a table of comma-separated numbers; errors name the file and line.

    ``weights``: columns of the family's instance weights, whose files are easily given by mistake.
    """
    rows = []
    for place, line in lines(path):
        row = [number(cell) for cell in line.split(",")]
        if len(row) != columns or None in row:
            meant = weights and len(row) == weights and None not in row
            hint = f" ({weights} are instance weights: such a file is given as weights)" if meant else ""
            raise ValueError(
                f"{path}, line {place}: expected {columns} comma-separated numbers, got {line[:60]!r}{hint}"
            )
        rows.append(row)
    return checks.table(os.fspath(path), rows, (columns,), MOST_ROWS, -MAX_PARAMETER, MAX_PARAMETER)


def system(path: Path, parameters: int) -> tuple[tuple[float, ...], ...]:
    """Return the maps of a category's file: ``parameters`` numbers and a probability per line."""
    rows = table(path, parameters + 1, weights=parameters)
    total = sum(row[-1] for row in rows)
    if abs(total - 1.0) > ROUNDING:
        raise ValueError(
            f"{path}: the probabilities (column {parameters + 1}) must sum to 1, got {total:g}; is the file cut off?"
        )
    return rows


def weights_argument(value: Any, named: Iterable[str], columns: int) -> Any:
    """Return the weights that a ``from_csv`` was given: the table of a file, or the value itself if it is no path."""
    if isinstance(value, os.PathLike) or (isinstance(value, str) and value not in named):
        if not isinstance(os.fspath(value), str):
            raise TypeError(f"weights must be a table, a name or the path of a file, got {checks.shown(value)}")
        return table(Path(value), columns)
    return value


def number(cell: str) -> float | None:
    """Return the number in a cell, as C and NumPy write numbers, or ``None``.

    Python would also read 1_000 and the digits of other alphabets.
    """
    try:
        return float(cell) if cell.isascii() and "_" not in cell else None
    except ValueError:
        return None


def _csv_files(folder: Path) -> list[Path]:
    found, folders, others = [], [folder], 0
    seen: set[tuple[int, int]] = set()  # a link may form a cycle
    while folders:
        here = folders.pop()
        if others + len(seen) > MOST_OTHERS:
            raise ValueError(
                f"folder {checks.shown_path(folder)} must hold category files (*.csv) and little else, found more than "
                f"{MOST_OTHERS} other files and folders; give the folder of the category files itself"
            )
        try:
            status = os.stat(here)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            inside = sorted(os.scandir(here), key=lambda entry: entry.name, reverse=True)
        except (OSError, ValueError) as error:  # ValueError: a null character
            reason = getattr(error, "strerror", None) or error
            raise ValueError(f"folder {checks.shown_path(here)} cannot be read: {reason}") from None
        for entry in inside:
            if entry.name.startswith("."):  # hidden files that some systems put next to every file
                continue
            if entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path)):
                folders.append(here / entry.name)
            elif entry.name.lower().endswith(".csv"):
                found.append(here / entry.name)
            else:
                others += 1
    if not found:
        raise ValueError(
            f"folder {checks.shown_path(folder)} must hold category files (*.csv), itself or in folders below it; "
            f"found none (folders looked at: {len(seen)}, files of other kinds: {others})"
        )
    return _by_name(found)


def _by_name(files: list[Path]) -> list[Path]:
    named: dict[str, Path] = {}
    for path in files:
        if path.name in named:
            raise ValueError(
                f"{named[path.name]} and {path} are category files of the same name; classes are numbered by file "
                "name, so each name may be there once"
            )
        named[path.name] = path
    return [named[name] for name in sorted(named)]


def _where_categories_are(files: list[Path], wrong: Path, read: Callable[[Path], Any]) -> str:
    """Return the end of an error about a file whose folder holds no category: where the categories are."""

    def good(path: Path) -> bool:
        try:
            read(path)
        except ValueError:
            return False
        return True

    if any(good(path) for path in files if path.parent == wrong.parent):
        return ""
    firsts = {path.parent: path for path in reversed(files)}
    folders = sorted(parent for parent, path in firsts.items() if parent != wrong.parent and good(path))
    if not folders:
        return ""
    common = Path(os.path.commonpath(folders))
    if common in wrong.parents:
        more = len(folders) - 1
        return f"; categories are in {folders[0]}" + (f" and {more} other folders" if more else "")
    return f"; categories are in {common}: give that folder"
