"""The teacher's translation of every training picture, at two sizes, made once and kept in the run.

    runs/<name>/teacher/256.pixels uint8 (N, 2, 256, 256, 3): each picture, and what the teacher makes of it
    runs/<name>/teacher/288.pixels the same at an eighth more, for random crops
    runs/<name>/teacher/made.json    what they were made of, and how many are

A run that was stopped while they were made goes on with the next one.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cyclegan_edge.contract import Translate
from cyclegan_edge.errors import DataError, ImageError, SinkError
from cyclegan_edge.files import write_file
from cyclegan_edge.images import read_image
from cyclegan_edge.preprocess import resize
from cyclegan_edge.train.data.folders import shuffled
from cyclegan_edge.train.data.pairs import ProgressCallback, ignore_progress

FOLDER = "teacher"
MIN_PICTURES = 2

_SAVE_EVERY = 25  # pictures
_ROOM = 1 << 28  # bytes that are to stay free on the disk

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class TaughtPictures:
    """Pictures and the teacher's translations of them."""

    sizes: tuple[Pixels, ...]  # (N, 2, S, S, 3) each, mapped from the disk

    def __len__(self) -> int:
        return len(self.sizes[0])

    def batch(self, seed: int, step: int, *, count: int, crop: int) -> tuple[Pixels, Pixels]:
        """The pictures of a step and the teacher's, (count, crop, crop, 3) each: a function of the seed and the step.

        Every picture comes once an epoch, at one of the sizes, cropped and flipped at random.
        """
        random = np.random.default_rng((seed, step))
        chosen = []
        for position in range(step * count, (step + 1) * count):
            epoch, place = divmod(position, len(self))
            index = shuffled(len(self), seed, epoch)[place]
            pixels = self.sizes[random.integers(len(self.sizes))]
            top, left = random.integers(pixels.shape[2] - crop + 1, size=2)
            pair = pixels[index, :, top : top + crop, left : left + crop]
            chosen.append(pair[:, :, ::-1] if random.integers(2) else pair)
        both = np.stack(chosen)
        return both[:, 0], both[:, 1]


def sizes_of(size: int, multiple: int) -> tuple[int, int]:
    """px: of the crop, and an eighth more, a multiple of what the teacher takes."""
    return size, (size * 9 // 8 + multiple - 1) // multiple * multiple


def kept_pictures(run: Path, identity: str, paths: Sequence[Path], sizes: Sequence[int]) -> TaughtPictures | None:
    """Those of `run`, where all are there already."""
    if _made(run, _key(identity, paths, sizes), sizes, len(paths)) < len(paths):
        return None
    return TaughtPictures(tuple(_open(run, size, len(paths), "r") for size in sizes))


def teach_pictures(
    run: Path,
    teacher: Translate,
    identity: str,
    paths: Sequence[Path],
    sizes: Sequence[int],
    *,
    on_progress: ProgressCallback = ignore_progress,
) -> TaughtPictures:
    """Translate what is missing; `identity` names the teacher, such as the hash of its file.

    Raises DataError for too few pictures or one that cannot be read, SinkError when the disk is full.
    """
    if len(paths) < MIN_PICTURES:
        raise DataError(f"There are {len(paths)} pictures to teach with, expected at least {MIN_PICTURES}; add more.")
    key = _key(identity, paths, sizes)
    made = _made(run, key, sizes, len(paths))
    folder = run / FOLDER
    if not made and folder.exists():
        shutil.rmtree(folder)  # of another teacher, or of other pictures
    try:
        folder.mkdir(parents=True, exist_ok=True)
        needed = sum(_nbytes(size, len(paths)) for size in sizes)
        if not made and shutil.disk_usage(folder).free < needed + _ROOM:
            raise SinkError(
                f"The teacher's pictures take {needed >> 20} MiB, more than is free where {run} is; free some space."
            )
        arrays = [_open(run, size, len(paths), "r+" if made else "w+") for size in sizes]
        for index in range(made, len(paths)):
            for size, pixels in zip(sizes, arrays, strict=True):
                pixels[index] = _taught(paths[index], size, teacher)
            if (index + 1) % _SAVE_EVERY == 0 or index + 1 == len(paths):
                for pixels in arrays:
                    pixels.flush()
                write_file(folder / "made.json", json.dumps({"key": key, "made": index + 1}))
            on_progress(index + 1, len(paths))
    except OSError as error:
        raise SinkError(f"{folder} cannot be written ({error.strerror}); free some space.") from error
    taught = kept_pictures(run, identity, paths, sizes)
    assert taught is not None  # the last one was just written
    return taught


def _taught(path: Path, size: int, teacher: Translate) -> Pixels:
    try:
        picture = resize(read_image(path), (size, size))
    except ImageError as error:
        raise DataError(f"{error} Or move it aside: `cyclegan-edge data fix` does.") from error
    return np.stack((picture, teacher(picture[np.newaxis])[0]))


def _key(identity: str, paths: Sequence[Path], sizes: Sequence[int]) -> str:
    """Of the teacher, the sizes, and each file's name, length and time."""
    digest = hashlib.sha256(repr((identity, tuple(sizes))).encode())
    for path in paths:
        stat = path.stat()
        digest.update(repr((path.name, stat.st_size, stat.st_mtime_ns)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _made(run: Path, key: str, sizes: Sequence[int], count: int) -> int:
    """How many pictures are there; 0 when they were made of something else."""
    folder = run / FOLDER
    try:
        found = json.loads((folder / "made.json").read_text(encoding="utf-8"))
        whole = all((folder / f"{size}.pixels").stat().st_size == _nbytes(size, count) for size in sizes)
        return min(count, max(0, int(found["made"]))) if whole and found["key"] == key else 0
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 0


def _nbytes(size: int, count: int) -> int:
    return count * 2 * size * size * 3


def _open(run: Path, size: int, count: int, mode: Literal["r", "r+", "w+"]) -> "np.memmap[Any, np.dtype[np.uint8]]":
    return np.memmap(run / FOLDER / f"{size}.pixels", np.uint8, mode, shape=(count, 2, size, size, 3))
