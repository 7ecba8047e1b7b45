"""A source for machines without a camera: a camera that turns left and right over a rendered summer landscape."""

import math

import numpy as np

from cyclegan_edge.contract import Size
from cyclegan_edge.scenes import render
from cyclegan_edge.video.frames import Clock, Frame

SIZE: Size = (360, 640)
FPS = 30.0

_SEED = 1
_WIDEST = 2048  # px, of what the renderer draws
_VIEWS = 3  # how many pictures wide the landscape is
_PERIOD = 24.0  # s from left to right and back


class SyntheticSource:
    """An endless pan. One wide view is rendered at the start and every frame is a part of it.

    Rendering each frame would walk through the landscape, but take several times as long as a small generator does,
    on the same cores: what is measured would be the renderer.
    """

    live = False
    length: int | None = None
    stamp = "it was cut out"

    def __init__(self, *, size: Size = SIZE, fps: float = FPS, clock: Clock) -> None:
        """Raises DataError for a size that the renderer refuses."""
        self.name, self.size, self.fps = "synthetic", size, fps
        self._clock, self._index = clock, -1
        landscape = render(_SEED, "summer", size=(size[0], max(size[1], min(_WIDEST, _VIEWS * size[1]))))
        self._view = np.ascontiguousarray(landscape[..., ::-1])  # BGR

    def read(self) -> Frame:
        self._index += 1
        turn = (1 - math.cos(2 * math.pi * self._index / self.fps / _PERIOD)) / 2  # 0 is left, 1 is right
        left = round(turn * (self._view.shape[1] - self.size[1]))
        return Frame(np.ascontiguousarray(self._view[:, left : left + self.size[1]]), self._clock(), self._index)

    def close(self) -> None:
        pass
