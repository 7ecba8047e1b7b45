"""What is in a folder of training pictures: counts, sizes, and what should be fixed before hours go into it.

    problem   a file that cannot be read, a picture on both sides of a split, fewer than two readable to train on
    warning   duplicates within a folder, greyscale, transparent or small pictures, files that are never read

Two pictures are the same when their decoded pixels are, whatever their names and formats; one saved again by a lossy
codec is another picture. Every file is decoded once, and only its measures are kept. Needs no torch.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cyclegan_edge.errors import DataError, ImageError, TruncatedError
from cyclegan_edge.images import inspect_image, list_images, read_encoded
from cyclegan_edge.train.data.pairs import MIN_PICTURES

FOLDERS = ("trainA", "trainB", "testA", "testB")
SCHEMA = 1  # of `as_json`


@dataclass(frozen=True, slots=True)
class Measured:
    """One readable picture."""

    path: Path
    width: int
    height: int
    grey: bool  # three equal channels, however they are stored
    transparent: bool  # white shows through somewhere
    content: bytes  # digest of the shape and the pixels


@dataclass(frozen=True, slots=True)
class Corrupt:
    """One file that cannot be read."""

    path: Path
    reason: str  # one sentence
    truncated: bool  # it ends before it says it does; a cut TIFF or BMP only counts as corrupt


@dataclass(frozen=True, slots=True)
class FolderReport:
    """One of `FOLDERS`."""

    name: str
    pictures: tuple[Measured, ...]  # the readable ones, by name
    corrupt: tuple[Corrupt, ...]
    ignored: tuple[Path, ...]  # files of other kinds and subfolders, which nothing reads
    small: int  # pictures with a side below `size`
    sizes: tuple[tuple[int, int], ...] = field(init=False)  # width, height of the smallest, median, largest by area

    def __post_init__(self) -> None:
        by_area = sorted(((p.width, p.height) for p in self.pictures), key=lambda size: (size[0] * size[1], size))
        picked = (by_area[0], by_area[(len(by_area) - 1) // 2], by_area[-1]) if by_area else ()
        object.__setattr__(self, "sizes", picked)

    @property
    def grey(self) -> int:
        """How many pictures have no colour."""
        return sum(picture.grey for picture in self.pictures)

    @property
    def transparent(self) -> int:
        """How many pictures are composited over white."""
        return sum(picture.transparent for picture in self.pictures)


@dataclass(frozen=True, slots=True)
class Report:
    """What `check` found."""

    data: Path
    size: int  # px, the crop that pictures were measured against
    folders: tuple[FolderReport, ...]
    duplicates: tuple[tuple[Path, ...], ...]  # the same picture more than once in one folder
    leaks: tuple[tuple[Path, ...], ...]  # the same picture in several folders

    @property
    def problems(self) -> tuple[str, ...]:
        """What should be fixed, a sentence each; none when there is nothing."""
        found = {folder.name: folder for folder in self.folders}
        few = [
            f"{name} holds {len(found[name].pictures) if name in found else 0} readable pictures, "
            f"expected at least {MIN_PICTURES}; add JPEG or PNG files."
            for name in FOLDERS[:2]
            if name not in found or len(found[name].pictures) < MIN_PICTURES
        ]
        corrupt = [broken.reason for folder in self.folders for broken in folder.corrupt]
        leaks = [
            f"{self._names(group)} are the same picture in different folders; keep one of them." for group in self.leaks
        ]
        return (*few, *corrupt, *leaks)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What may be meant, a sentence each."""
        twice = [f"{self._names(group)} are the same picture; it is learned more often." for group in self.duplicates]
        return (*(sentence for folder in self.folders for sentence in self._oddities(folder)), *twice)

    def as_json(self) -> dict[str, object]:
        """Everything as plain values; file names are relative to the folder that was checked."""
        return {
            "schema": SCHEMA,
            "data": str(self.data),
            "size": self.size,
            "folders": {
                folder.name: {
                    "readable": len(folder.pictures),
                    "corrupt": [
                        {"file": self._name(broken.path), "reason": broken.reason, "truncated": broken.truncated}
                        for broken in folder.corrupt
                    ],
                    "sizes": dict(zip(("smallest", "median", "largest"), map(list, folder.sizes), strict=False)),
                    "smaller_than_size": folder.small,
                    "greyscale": [self._name(picture.path) for picture in folder.pictures if picture.grey],
                    "transparent": [self._name(picture.path) for picture in folder.pictures if picture.transparent],
                    "ignored": [self._name(path) for path in folder.ignored],
                }
                for folder in self.folders
            },
            "duplicates": [[self._name(path) for path in group] for group in self.duplicates],
            "leaks": [[self._name(path) for path in group] for group in self.leaks],
            "problems": list(self.problems),
            "warnings": list(self.warnings),
        }

    def _oddities(self, folder: FolderReport) -> list[str]:
        return [
            sentence
            for count, sentence in (
                (len(folder.pictures) == 0, f"{folder.name} holds no readable picture."),
                (folder.small, f"{folder.name} holds {folder.small} smaller than {self.size} px; they are enlarged."),
                (
                    folder.grey,
                    f"{folder.name} holds {folder.grey} greyscale; a model learns to drop colours from them.",
                ),
                (folder.transparent, f"{folder.name} holds {folder.transparent} transparent; white shows through."),
                (
                    len(folder.ignored),
                    f"{folder.name} holds {len(folder.ignored)} files or folders that nothing reads.",
                ),
            )
            if count
        ]

    def _name(self, path: Path) -> str:
        return path.relative_to(self.data).as_posix()

    def _names(self, group: Iterable[Path]) -> str:
        return ", ".join(map(self._name, group))


def check(
    data: Path,
    *,
    size: int = 256,
    workers: int = 2,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Decode every picture of the folders of `data` that are there, in `workers` threads.

    `size` is the side of the training crop in px; `report` hears of the count done and in all.

    Raises DataError when none of the folders is there.
    """
    listed = {name: list_images(data / name) for name in FOLDERS if (data / name).is_dir()}
    if not listed:
        raise DataError(f"{data} has none of {', '.join(FOLDERS)}; name the folder that holds trainA and trainB.")
    files = [path for paths in listed.values() for path in paths]
    looks: list[Measured | Corrupt] = []
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for look in pool.map(_look, files):
            looks.append(look)
            report(len(looks), len(files))
    folders = tuple(_folder(data / name, paths, looks, size) for name, paths in listed.items())
    duplicates, leaks = _same(folders)
    return Report(data, size, folders, duplicates, leaks)


def _look(path: Path) -> Measured | Corrupt:
    try:
        rgb, transparent = inspect_image(read_encoded(path), str(path))
    except ImageError as error:
        return Corrupt(path, str(error), isinstance(error, TruncatedError))
    height, width, _ = rgb.shape
    grey = np.array_equal(rgb[:, :, 0], rgb[:, :, 1]) and np.array_equal(rgb[:, :, 1], rgb[:, :, 2])
    digest = hashlib.blake2b(f"{width}x{height} ".encode(), digest_size=20)
    digest.update(rgb.data)
    return Measured(path, width, height, grey, transparent, digest.digest())


def _folder(folder: Path, listed: Sequence[Path], looks: Sequence[Measured | Corrupt], size: int) -> FolderReport:
    here = [look for look in looks if look.path.parent == folder]
    pictures = tuple(look for look in here if isinstance(look, Measured))
    known = set(listed)
    others = sorted(path for path in folder.iterdir() if path not in known and not path.name.startswith("."))
    return FolderReport(
        folder.name,
        pictures,
        corrupt=tuple(look for look in here if isinstance(look, Corrupt)),
        ignored=tuple(others),
        small=sum(min(picture.width, picture.height) < size for picture in pictures),
    )


def _same(folders: Sequence[FolderReport]) -> tuple[tuple[tuple[Path, ...], ...], tuple[tuple[Path, ...], ...]]:
    """Groups of equal pictures: those within one folder, and those that cross folders."""
    by_content: dict[bytes, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for folder in folders:
        for picture in folder.pictures:
            by_content[picture.content][folder.name].append(picture.path)
    within = [tuple(paths) for places in by_content.values() for paths in places.values() if len(paths) > 1]
    across = [
        tuple(path for paths in places.values() for path in paths) for places in by_content.values() if len(places) > 1
    ]
    return tuple(within), tuple(across)
