"""A frame, and what gives frames: the terms that sources, sinks and the loop share.

Pictures are BGR from the camera to the screen; the resize kernels exchange the channels on the way into the model and
on the way out of it, which costs nothing, where a conversion of every frame took half a millisecond at 1080p.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cyclegan_edge.contract import Size

BgrPicture = npt.NDArray[np.uint8]  # (H, W, 3) blue, green, red: as OpenCV captures, shows and encodes it
Clock = Callable[[], float]  # seconds, monotonic


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture and when it was taken."""

    image: BgrPicture
    captured: float  # s, on the clock of the loop (time.monotonic)
    index: int  # 0, 1, 2, ... as the source counts; a gap is a dropped frame


class Source(Protocol):
    """Something that gives frames until it ends.

    `read` blocks until there is a frame and returns None at the end; it raises SourceError when the source breaks.
    `close` is called once, by the thread that reads.
    """

    name: str  # as a person reads it, without passwords
    size: Size
    fps: float  # as the source states it
    live: bool  # frames arrive whether or not anyone reads them
    length: int | None  # frames until the end, where known
    stamp: str  # when a frame counts as captured: "it was read"

    def read(self) -> Frame | None: ...

    def close(self) -> None: ...
