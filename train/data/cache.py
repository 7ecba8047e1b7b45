"""Decoded pictures, kept so that only the first look at a file decodes it.

ram    in memory, up to a limit; what does not fit is decoded every time
disk   as .npy files in the user's cache folder, mapped into memory when read; one file per picture and version
none   decoded every time
"""

import hashlib
import threading
from pathlib import Path
from typing import Literal

import numpy as np

from cyclegan_edge.contract import Picture
from cyclegan_edge.errors import DataError
from cyclegan_edge.files import atomic_file, user_cache
from cyclegan_edge.images import read_image

CacheKind = Literal["ram", "disk", "none"]


class PictureCache:
    """Reads pictures as `read_image` does, remembering what it can. Safe to use from several threads."""

    def __init__(self, kind: CacheKind, *, limit_mib: int, folder: Path | None = None) -> None:
        """`limit_mib` bounds the memory of "ram"; `folder` is where "disk" writes, by default the user's cache."""
        self._kind = kind
        self._room = limit_mib << 20  # bytes left
        self._folder = folder or user_cache("pictures")
        self._kept: dict[Path, Picture] = {}
        self._lock = threading.Lock()

    def read(self, path: Path) -> Picture:
        """uint8 (H, W, 3) RGB. Raises ImageError as `read_image`, DataError when the disk cache cannot be written."""
        match self._kind:
            case "ram":
                return self._from_memory(path)
            case "disk":
                return self._from_disk(path)
            case "none":
                return read_image(path)

    def _from_memory(self, path: Path) -> Picture:
        if (kept := self._kept.get(path)) is not None:
            return kept
        picture = read_image(path)
        with self._lock:
            if path not in self._kept and picture.nbytes <= self._room:
                self._room -= picture.nbytes
                self._kept[path] = picture
        return picture

    def _from_disk(self, path: Path) -> Picture:
        kept = self._folder / f"{_identity(path)}.npy"
        try:
            if not kept.exists():
                with atomic_file(kept) as partial:
                    np.save(partial, read_image(path))
            mapped: Picture = np.load(kept, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(
                f"The picture cache {kept} cannot be used ({error}); "
                f"free some space, delete that file, or set cache=none."
            ) from error
        return mapped


def _identity(path: Path) -> str:
    """Another name, time or size is another picture; "sRGB" tells them from those kept without their profiles."""
    stat = path.stat()
    return hashlib.sha256(f"sRGB\0{path.resolve()}\0{stat.st_mtime_ns}\0{stat.st_size}".encode()).hexdigest()
