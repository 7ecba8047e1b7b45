"""Decoded pictures, kept in memory between epochs, so that only the first look at a file decodes it."""

import threading
from pathlib import Path

from cyclegan_edge.contract import Picture
from cyclegan_edge.images import read_image
from cyclegan_edge.memory import available_memory


class PictureCache:
    """Reads pictures as `read_image` does and keeps them, up to `limit_mib` and to half of the memory that was there;
    what does not fit is decoded every time.

    Safe to use from several threads.
    """

    def __init__(self, limit_mib: int) -> None:
        self._room = min(limit_mib << 20, available_memory() // 2)  # bytes left
        self._kept: dict[Path, Picture] = {}
        self._lock = threading.Lock()

    def read(self, path: Path) -> Picture:
        """uint8 (H, W, 3) RGB. Raises ImageError as `read_image`."""
        if (kept := self._kept.get(path)) is not None:
            return kept
        picture = read_image(path)
        with self._lock:
            if path not in self._kept and picture.nbytes <= self._room:
                self._room -= picture.nbytes
                self._kept[path] = picture
        return picture
