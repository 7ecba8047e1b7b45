"""What keeps a live picture quiet, all of it at the size that the network works at, where a pass costs a millisecond.

Instance normalisation stretches whatever contrast a picture has to the same range, so of a covered lens or a bare wall
only the noise is left, stretched to full strength: a strobe. And a network that sees one frame at a time flickers where
nothing moves, because its answer to noise is not the same twice.

    fade      towards the input where the picture has no contrast
    smooth    towards the output before where the input did not move
    skip      the output before, without running the engine, while the input stays the same
"""

import cv2
import numpy as np

from cyclegan_edge.contract import Batch
from cyclegan_edge.video.frames import BgrPicture, FrameTranslator

PLAIN, CLEAR = (
    3.0,
    8.0,
)  # levels of contrast: at most PLAIN shows the input, from CLEAR on the translation, mixed between
STILL, MOVED = 4.0, 8.0  # levels a pixel changed by: up to STILL smoothed in full, from MOVED on not at all
KEPT = 0.8  # of the output before, where nothing moves
SAME = 2  # levels that no cell of an unchanged picture differs by

_CELL = 8  # px: noise of a few levels is gone from the mean of so large a square
_NEAR = 3  # px: beside what moved nothing is smoothed either, or edges would trail


class Stabilizer:
    """Fades and smooths a translation; keeps the picture before."""

    def __init__(self) -> None:
        self.fade, self.smooth = True, False
        self._input: BgrPicture | None = None
        self._output: BgrPicture | None = None

    def __call__(self, images: Batch, translated: Batch) -> Batch:
        """uint8 (1, h, w, 3), both: what the network was given and gave -> the same shape, to be shown."""
        image, output = images[0], translated[0]
        if self.fade and (share := clearness(image)) < 1:
            output = np.asarray(cv2.addWeighted(output, share, image, 1 - share, 0), np.uint8)
        if self.smooth and self._input is not None and self._output is not None and self._input.shape == image.shape:
            output = _blend(output, self._output, _still(image, self._input))
        self._input, self._output = image, output
        shown: Batch = output[np.newaxis]
        return shown


class FrameSkipper:
    """Runs the engine, or not where that can be seen to change nothing."""

    def __init__(self) -> None:
        self.enabled, self.skipped = False, 0
        self._translator: FrameTranslator | None = None
        self._cells: BgrPicture | None = None
        self._output: Batch | None = None

    def __call__(self, batch: Batch, translator: FrameTranslator) -> Batch:
        """What `translator` makes of `batch`; compared is the batch that it ran on last, so nothing creeps past."""
        if not self.enabled:
            self._output = None
            return translator.run(batch)
        cells = _cell_means(batch[0])
        if (
            self._output is not None
            and self._cells is not None
            and translator is self._translator
            and self._output.shape == batch.shape
            and cv2.norm(cells, self._cells, cv2.NORM_INF) <= SAME
        ):
            self.skipped += 1
            return self._output
        output: Batch = translator.run(batch)
        self._translator, self._cells, self._output = translator, cells, output
        return output


def clearness(image: BgrPicture) -> float:
    """0 for a picture whose only contrast is noise, 1 for any other; uint8 (h, w, 3)."""
    _, spread = cv2.meanStdDev(cv2.cvtColor(_cell_means(image), cv2.COLOR_RGB2GRAY))
    return float(np.clip((spread[0, 0] - PLAIN) / (CLEAR - PLAIN), 0, 1))


def _cell_means(image: BgrPicture) -> BgrPicture:
    height, width = image.shape[:2]
    size = max(1, width // _CELL), max(1, height // _CELL)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _still(image: BgrPicture, before: BgrPicture) -> "np.typing.NDArray[np.float32]":
    """How much of the output before is kept at each pixel, 0..KEPT: float32 (h, w)."""
    blue, green, red = cv2.split(cv2.absdiff(image, before))
    moved = cv2.dilate(cv2.max(cv2.max(blue, green), red), np.ones((_NEAR, _NEAR), np.uint8))
    kept = np.interp(np.arange(256), (STILL, MOVED), (KEPT, 0)).astype(np.float32)
    return np.asarray(cv2.LUT(moved, kept), np.float32)


def _blend(output: BgrPicture, before: BgrPicture, kept: "np.typing.NDArray[np.float32]") -> BgrPicture:
    return np.asarray(cv2.blendLinear(output, before, 1 - kept, kept), np.uint8)
