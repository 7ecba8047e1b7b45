"""Pictures beside each other, and numbers on a picture."""

from collections.abc import Callable, Sequence
from typing import Literal

import cv2
import numpy as np

from cyclegan_edge.video.frames import BgrPicture
from cyclegan_edge.video.timings import Recent

Layout = Literal["translated", "side-by-side", "split"]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_WHITE = (255, 255, 255)
_SHADE = 0.45  # brightness left behind the text


class LiveView:
    """What is shown of a frame and its translation; `layout` may change while it runs."""

    def __init__(self, layout: Layout = "translated", *, numbers: Callable[[], Recent] | None = None) -> None:
        self.layout: Layout = layout
        self._numbers = numbers  # None: none on the picture

    def __call__(self, image: BgrPicture, translated: BgrPicture) -> BgrPicture:
        match self.layout:
            case "translated":
                picture = translated
            case "side-by-side":
                picture = side_by_side(image, translated)
            case "split":
                picture = split(image, translated)
        return draw(picture, lines_of(self._numbers())) if self._numbers else picture


def side_by_side(image: BgrPicture, translated: BgrPicture) -> BgrPicture:
    """Input left, output right; both (H, W, 3), so the result is (H, 2 W, 3)."""
    return np.hstack((image, translated))


def split(image: BgrPicture, translated: BgrPicture) -> BgrPicture:
    """The left half of the input and the right half of the output, with a line between them."""
    middle = image.shape[1] // 2
    picture = translated.copy()
    picture[:, :middle] = image[:, :middle]
    picture[:, middle : middle + 2] = 255
    return picture


def lines_of(recent: Recent) -> list[str]:
    """The numbers a person wants to see, as short lines of ASCII (the only letters of OpenCV's font)."""
    if recent.fps is None:
        return ["measuring ..."]
    stages = recent.median
    return [
        f"{recent.fps:.1f} fps   latency {stages.age:.0f} ms   dropped {recent.dropped}",
        f"prepare {stages.prepare:.1f}  run {stages.run:.1f}  restore {stages.restore:.1f}  show {stages.show:.1f} ms",
    ]


def draw(picture: BgrPicture, lines: Sequence[str]) -> BgrPicture:
    """A copy of `picture` with the lines on a darker strip at its lower left, sized to the picture's height."""
    scale = max(0.45, picture.shape[0] / 800)
    step = round(30 * scale)  # px from line to line
    width = max(cv2.getTextSize(line, _FONT, scale, 1)[0][0] for line in lines) + step
    top = max(0, picture.shape[0] - step * len(lines) - step // 2)
    drawn = picture.copy()
    strip = drawn[top:, :width]
    strip[:] = (strip * _SHADE).astype(np.uint8)
    for row, line in enumerate(lines):
        cv2.putText(drawn, line, (step // 2, top + step * (row + 1) - step // 8), _FONT, scale, _WHITE, 1, cv2.LINE_AA)
    return drawn
