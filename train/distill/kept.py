"""Pictures that are made once, and kept in a run from then on.

    FOLDER/256.pixels    uint8 (N, K, 256, 256, 3): K pictures of each source, 256 px square
    FOLDER/288.pixels    the same at another size
    FOLDER/made.json     what they were made of, and how many are

What was stopped while they were made goes on with the next one.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cyclegan_edge.contract import Picture
from cyclegan_edge.errors import DataError, ImageError, SinkError
from cyclegan_edge.files import write_file
from cyclegan_edge.images import read_image
from cyclegan_edge.preprocess import resize
from cyclegan_edge.train.data.pairs import ProgressCallback

_SAVE_EVERY = 25  # pictures
_ROOM = 1 << 28  # bytes that are to stay free on the disk

Pixels = npt.NDArray[np.uint8]
Make = Callable[[Picture], Pixels]  # a source, resized to the square -> (K, S, S, 3)


class KeptPictures:
    """Those of one folder: of `paths`, at `sizes`, `depth` pictures of each."""

    def __init__(self, folder: Path, identity: str, paths: Sequence[Path], sizes: Sequence[int], depth: int) -> None:
        """`identity` names what makes them, such as the hash of a teacher's file."""
        self._folder, self._paths, self._sizes, self._depth = folder, paths, tuple(sizes), depth
        self._key = _key(identity, paths, sizes)

    def open(self) -> tuple[Pixels, ...] | None:
        """(N, K, S, S, 3) for each size, mapped from the disk; None unless all are there."""
        return None if self._made() < len(self._paths) else tuple(self._map(size, "r") for size in self._sizes)

    def make(self, make: Make, on_progress: ProgressCallback) -> tuple[Pixels, ...]:
        """Make what is missing. Raises DataError for a source that cannot be read, SinkError when the disk is full."""
        made, count = self._made(), len(self._paths)
        if not made and self._folder.exists():
            shutil.rmtree(self._folder)  # made by something else, or of other pictures
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            needed = sum(map(self._nbytes, self._sizes))
            if not made and shutil.disk_usage(self._folder).free < needed + _ROOM:
                raise SinkError(
                    f"{self._folder} is to take {needed >> 20} MiB of pictures, more than is free there; free some "
                    f"space."
                )
            arrays = [self._map(size, "r+" if made else "w+") for size in self._sizes]
            for index in range(made, count):
                picture = _read(self._paths[index])
                for size, pixels in zip(self._sizes, arrays, strict=True):
                    pixels[index] = make(resize(picture, (size, size)))
                if (index + 1) % _SAVE_EVERY == 0 or index + 1 == count:
                    for pixels in arrays:
                        pixels.flush()
                    write_file(self._folder / "made.json", json.dumps({"key": self._key, "made": index + 1}))
                on_progress(index + 1, count)
        except OSError as error:
            raise SinkError(f"{self._folder} cannot be written ({error.strerror}); free some space.") from error
        kept = self.open()
        assert kept is not None  # the last one was just written
        return kept

    def _made(self) -> int:
        """How many sources are done; 0 when it was of something else."""
        try:
            found = json.loads((self._folder / "made.json").read_text(encoding="utf-8"))
            whole = all(self._file(size).stat().st_size == self._nbytes(size) for size in self._sizes)
            return min(len(self._paths), max(0, int(found["made"]))) if whole and found["key"] == self._key else 0
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return 0

    def _file(self, size: int) -> Path:
        return self._folder / f"{size}.pixels"

    def _nbytes(self, size: int) -> int:
        return len(self._paths) * self._depth * size * size * 3

    def _map(self, size: int, mode: Literal["r", "r+", "w+"]) -> "np.memmap[Any, np.dtype[np.uint8]]":
        return np.memmap(self._file(size), np.uint8, mode, shape=(len(self._paths), self._depth, size, size, 3))


def _read(path: Path) -> Picture:
    try:
        return read_image(path)
    except ImageError as error:
        raise DataError(f"{error} Or move it aside: `cyclegan-edge data fix` does.") from error


def _key(identity: str, paths: Sequence[Path], sizes: Sequence[int]) -> str:
    """Of what makes them, the sizes, and each file's name, length and time."""
    digest = hashlib.sha256(repr((identity, tuple(sizes))).encode())
    for path in paths:
        stat = path.stat()
        digest.update(repr((path.name, stat.st_size, stat.st_mtime_ns)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
