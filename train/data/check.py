"""What is in a folder of training pictures: counts, sizes, and what should be fixed before hours go into it.

    problem   a file that cannot be read, a picture on both sides of a split, fewer than two readable to train on
    warning   duplicates within a folder, greyscale, transparent or small pictures, damage that a decoder passes over,
              files that are never read

Two pictures are the same when their decoded pixels are, whatever their names and formats; one saved again by a lossy
codec is another picture. Every file is decoded once, and only its measures are kept. Needs no torch.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from cyclegan_edge.errors import ImageError
from cyclegan_edge.files import write_file
from cyclegan_edge.images import inspect_image, list_images, name_kinds, read_encoded
from cyclegan_edge.train.data.layout import find_folder, require_folder
from cyclegan_edge.train.data.pairs import DOMAINS, MIN_PICTURES, ProgressCallback, ignore_progress

FOLDERS = (*DOMAINS, "testA", "testB")
SCHEMA = 1  # of `as_json`


@dataclass(frozen=True, slots=True)
class Measured:
    """One readable picture."""

    path: Path
    width: int
    height: int
    grey: bool  # three equal channels, however they are stored
    transparent: bool  # white shows through somewhere
    damage: str  # what its decoder says is wrong with it; empty for a whole file
    content: bytes  # digest of the shape and the pixels


@dataclass(frozen=True, slots=True)
class Corrupt:
    """One file that cannot be read."""

    path: Path
    reason: str  # one sentence


@dataclass(frozen=True, slots=True)
class FolderCheck:
    """What is in one of `FOLDERS`."""

    name: str
    pictures: tuple[Measured, ...]  # the readable ones, by name
    corrupt: tuple[Corrupt, ...]
    ignored: tuple[Path, ...]  # files of other kinds and subfolders, which nothing reads
    small: int  # pictures with a side below `size`

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(width, height) of the smallest, median and largest picture by area; empty without pictures."""
        sizes = sorted(((p.width, p.height) for p in self.pictures), key=lambda size: (size[0] * size[1], size))
        return (sizes[0], sizes[(len(sizes) - 1) // 2], sizes[-1]) if sizes else ()

    @property
    def grey(self) -> list[Path]:
        """The pictures without colour."""
        return [picture.path for picture in self.pictures if picture.grey]

    @property
    def transparent(self) -> list[Path]:
        """The pictures that are composited over white."""
        return [picture.path for picture in self.pictures if picture.transparent]


@dataclass(frozen=True, slots=True)
class DataCheck:
    """What `check` found."""

    data: Path
    size: int  # px, the crop that pictures were measured against
    folders: tuple[FolderCheck, ...]
    duplicates: tuple[tuple[Path, ...], ...]  # the same picture more than once in one folder
    leaks: tuple[tuple[Path, ...], ...]  # the same picture in several folders

    @property
    def problems(self) -> tuple[str, ...]:
        """What should be fixed, a sentence each; none when there is nothing."""
        readable = dict.fromkeys(DOMAINS, 0) | {folder.name: len(folder.pictures) for folder in self.folders}
        few = [
            f"{name} holds {readable[name]} readable pictures, expected at least {MIN_PICTURES}; add JPEG or PNG files."
            for name in DOMAINS
            if readable[name] < MIN_PICTURES
        ]
        corrupt = [broken.reason for folder in self.folders for broken in folder.corrupt]
        leaks = [
            f"{self._names(group)} are the same picture in different folders; keep one of them." for group in self.leaks
        ]
        return (*few, *corrupt, *leaks)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What may be intended, a sentence each."""
        counted = [
            (count, f"{folder.name} holds {sentence}")
            for folder in self.folders
            for count, sentence in (
                (not folder.pictures, "no readable picture."),
                (folder.small, f"{folder.small} smaller than {self.size} px; they are enlarged."),
                (len(folder.grey), f"{len(folder.grey)} greyscale; a model learns to drop colours from them."),
                (len(folder.transparent), f"{len(folder.transparent)} transparent; white shows through."),
                (
                    len(folder.ignored),
                    f"{len(folder.ignored)} files or folders that nothing reads "
                    f"({name_kinds(path.name for path in folder.ignored)}).",
                ),
            )
        ]
        damaged = [
            f"{self._name(picture.path)} is damaged, though it can be read ({picture.damage}); look at it."
            for folder in self.folders
            for picture in folder.pictures
            if picture.damage
        ]
        twice = [f"{self._names(group)} are the same picture; it is learned more often." for group in self.duplicates]
        return (*(sentence for count, sentence in counted if count), *damaged, *twice)

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
                        {"file": self._name(broken.path), "reason": broken.reason} for broken in folder.corrupt
                    ],
                    "sizes": dict(zip(("smallest", "median", "largest"), map(list, folder.sizes), strict=False)),
                    "smaller_than_size": folder.small,
                    "greyscale": list(map(self._name, folder.grey)),
                    "transparent": list(map(self._name, folder.transparent)),
                    "ignored": list(map(self._name, folder.ignored)),
                }
                for folder in self.folders
            },
            "duplicates": [list(map(self._name, group)) for group in self.duplicates],
            "leaks": [list(map(self._name, group)) for group in self.leaks],
            "problems": list(self.problems),
            "warnings": list(self.warnings),
        }

    def _name(self, path: Path) -> str:
        return path.relative_to(self.data).as_posix()

    def _names(self, group: Iterable[Path]) -> str:
        return ", ".join(map(self._name, group))


def check(
    data: Path,
    *,
    domains: str = "",
    size: int = 256,
    workers: int = 2,
    on_progress: ProgressCallback = ignore_progress,
) -> DataCheck:
    """Decode every picture of the folders of `data` that are there, in `workers` threads.

    `domains` as in `layout`; `size` is the side of the training crop in px. Raises DataError when none of the folders
    is there.
    """
    places = {name: place for name in FOLDERS if (place := find_folder(data, name, domains))}
    if not places:
        require_folder(data, FOLDERS[0], domains)
    listed = {name: list_images(place) for name, place in places.items()}
    files = [path for paths in listed.values() for path in paths]
    measures: list[Measured | Corrupt] = []
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for measured in pool.map(_measure, files):
            measures.append(measured)
            on_progress(len(measures), len(files))
    folders = tuple(_check_folder(name, place, measures, size) for name, place in places.items())
    return DataCheck(data, size, folders, *_find_same(folders))


def write_json(found: DataCheck, path: Path) -> None:
    """Everything that was found, as JSON, whole or not at all. Raises SinkError when the disk refuses."""
    write_file(path, json.dumps(found.as_json(), indent=2) + "\n")


def _measure(path: Path) -> Measured | Corrupt:
    try:
        rgb, transparent, damage = inspect_image(read_encoded(path), str(path))
    except ImageError as error:
        return Corrupt(path, str(error))
    height, width, _ = rgb.shape
    grey = np.array_equal(rgb[:, :, 0], rgb[:, :, 1]) and np.array_equal(rgb[:, :, 1], rgb[:, :, 2])
    digest = hashlib.blake2b(f"{width}x{height} ".encode(), digest_size=20)
    digest.update(rgb.data)
    return Measured(path, width, height, grey, transparent, damage, digest.digest())


def _check_folder(name: str, folder: Path, measures: Sequence[Measured | Corrupt], size: int) -> FolderCheck:
    here = {measured.path: measured for measured in measures if measured.path.parent == folder}
    pictures = tuple(measured for measured in here.values() if isinstance(measured, Measured))
    return FolderCheck(
        name,
        pictures,
        corrupt=tuple(measured for measured in here.values() if isinstance(measured, Corrupt)),
        ignored=tuple(sorted(p for p in folder.iterdir() if p not in here and not p.name.startswith("."))),
        small=sum(min(picture.width, picture.height) < size for picture in pictures),
    )


def _find_same(folders: Sequence[FolderCheck]) -> tuple[tuple[tuple[Path, ...], ...], tuple[tuple[Path, ...], ...]]:
    """Groups of equal pictures: those within one folder, and those that cross folders."""
    by_content: dict[bytes, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for folder in folders:
        for picture in folder.pictures:
            by_content[picture.content][folder.name].append(picture.path)
    within = [tuple(paths) for places in by_content.values() for paths in places.values() if len(paths) > 1]
    across = [tuple(chain(*places.values())) for places in by_content.values() if len(places) > 1]
    return tuple(within), tuple(across)
