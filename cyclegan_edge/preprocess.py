"""From a picture to what the network reads, with the pixels of Pillow 12.

    picture   (height, width, 3)  uint8, RGB, 0..255; rows may have any stride (a crop of a larger array)
    tensor    (3, height, width)  float32, RGB, -1..1

The filter is Pillow's antialiased BICUBIC (a = -0.5): horizontally, rounded to 8 bits, then vertically. The numbers are
those of torchvision's ToTensor and Normalize(0.5, 0.5). Training, evaluation and the live camera all come through here.

`isa` is the instruction set: "auto", or one of `available_isas()`; all give the same bits. "auto" is the fastest
that this CPU has, unless the environment variable CYCLEGAN_EDGE_ISA names another.

Functions hold no state, may run in several threads at once, and release the GIL. All raise ImageError.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from cyclegan_edge import _core
from cyclegan_edge.errors import ImageError

__all__ = ["available_isas", "default_isa", "resize", "resize_crop"]


@contextmanager
def _image_errors() -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError) as error:
        if "incompatible function arguments" in str(error):  # pybind's own words run over many lines
            raise ImageError(
                "An option has a wrong type, expected bool for flip and bgr, str for isa; correct the one that has "
                "another."
            ) from None
        raise ImageError(str(error)) from None


def available_isas() -> list[str]:
    """The instruction sets of this build that this CPU has, slowest first."""
    return _core.available_isas()


def default_isa() -> str:
    """What isa="auto" means in this process."""
    with _image_errors():
        return _core.default_isa()


def resize(
    image: NDArray[np.uint8], size: tuple[int, int], *, bgr: bool = False, isa: str = "auto"
) -> NDArray[np.uint8]:
    """`image` at `size` (height, width), as uint8 (height, width, 3).

    With `bgr` the result has red and blue exchanged: RGB from a camera's frame as OpenCV reads it, and the way back.
    """
    with _image_errors():
        return _core.resize(image, size, bgr=bgr, isa=isa)


def resize_crop(
    image: NDArray[np.uint8],
    size: tuple[int, int],
    crop: tuple[int, int, int, int],
    flip: bool = False,
    *,
    out: NDArray[np.float32] | None = None,
    isa: str = "auto",
) -> NDArray[np.float32]:
    """The part `crop` (top, left, height, width) of `image` at `size` (height, width), as float32 (3, height, width).

    `flip` mirrors the part left to right. Only the source pixels that the part needs are read. `out` is memory to write
    into instead of a new array, and what is returned then; its rows are packed, its planes may have any stride.
    """
    with _image_errors():
        return _core.resize_crop(image, size, crop, flip, out=out, isa=isa)
