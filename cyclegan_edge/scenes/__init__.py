"""Landscapes that exist in summer and in winter: a task to try everything with, without a picture of one's own.

    render(seed, season)      one picture
    Camera(land, size)        many pictures of one world: `frame(pan, season)` walks sideways, endlessly
    write_dataset(out)        trainA/ testA/ in summer, trainB/ testB/ in winter, truthB/ the winter of testA/

Summer and winter of a world have the same outlines, light and clouds; only colours differ, each by what it is the
colour of. So the translation can be learned from unpaired pictures, and, rare for this task, measured against a truth.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from cyclegan_edge.scenes.camera import Camera
from cyclegan_edge.scenes.dataset import write_dataset
from cyclegan_edge.scenes.landscape import Landscape, Season

__all__ = ["Camera", "Landscape", "Season", "render", "write_dataset"]


@lru_cache(maxsize=4)
def _camera(seed: int, size: tuple[int, int]) -> Camera:
    return Camera(Landscape.from_seed(seed), size)


def render(seed: int, season: Season, *, size: tuple[int, int] = (256, 256), pan: float = 0.0) -> npt.NDArray[np.uint8]:
    """World number `seed` in `season`: RGB, uint8 (height, width, 3). The same arguments give the same bytes.

    seed   any integer >= 0; every one is another world
    size   (height, width) in px, each 32..2048
    pan    how far the viewer has walked to the right, >= 0, in picture heights that the ground at the lower border
           moves; what is far away moves less. There is no end: the land goes on, at the same memory

    Raises DataError for a seed, season, size or pan outside these bounds.
    """
    return _camera(seed, (size[0], size[1])).frame(pan, season)
