"""From a picture to what the network reads, with the pixels of Pillow 12.

    picture   (height, width, 3)  uint8, RGB, 0..255; rows may have any stride (a crop of a larger array)
    tensor    (3, height, width)  float32, RGB, -1..1; or (height, width, 3) uint8, RGB, for a graph that converts it

The filter is Pillow's antialiased BICUBIC (a = -0.5): horizontally, rounded to 8 bits, then vertically. The numbers are
those of torchvision's ToTensor and Normalize(0.5, 0.5). Training, evaluation and the live camera all come through here.

What every function takes:

    bgr       the picture is blue, green, red, as OpenCV reads it; the result is red, green, blue either way
    out       memory to write into instead of a new array, and what is returned then: a numpy array, a window of one, or
              a CPU tensor (pinned too) with DLPack; its rows are packed, planes and pictures may have any stride
    threads   1: the caller's only; 0: one for every core this process may use
    isa       the instruction set: "auto", or one of `available_isas()`. All of them give the same bits. "auto" is the
              fastest that this CPU has, unless the environment variable CYCLEGAN_EDGE_ISA names another

Functions hold no state, may run in several threads at once, and release the GIL. All raise ImageError.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cyclegan_edge import _core
from cyclegan_edge.errors import ImageError

__all__ = ["Placement", "available_isas", "default_isa", "place", "resize", "resize_crop", "resize_crop_batch"]

Layout = Literal["nchw", "nhwc"]  # "nchw" goes with "float32", "nhwc" with "uint8"
Dtype = Literal["float32", "uint8"]


@contextmanager
def _image_errors() -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError) as error:
        if "incompatible function arguments" in str(error):  # pybind's own words run over many lines
            raise ImageError(
                "An option has a wrong type, expected bool for flip and bgr, int for threads, str for isa, layout and "
                "dtype; correct the one that has another."
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
    image: NDArray[np.uint8],
    size: tuple[int, int],
    *,
    bgr: bool = False,
    out: Any = None,
    threads: int = 1,
    isa: str = "auto",
) -> NDArray[np.uint8]:
    """`image` at `size` (height, width), as uint8 (height, width, 3)."""
    with _image_errors():
        resized: NDArray[np.uint8] = _core.resize(image, size, bgr=bgr, out=out, threads=threads, isa=isa)
        return resized


def resize_crop(
    image: NDArray[np.uint8],
    size: tuple[int, int],
    crop: tuple[int, int, int, int],
    flip: bool = False,
    *,
    bgr: bool = False,
    layout: Layout = "nchw",
    dtype: Dtype = "float32",
    out: Any = None,
    threads: int = 1,
    isa: str = "auto",
) -> NDArray[Any]:
    """The part `crop` (top, left, height, width) of `image` at `size` (height, width), as float32 (3, height, width).

    `flip` mirrors the part left to right. Only the source pixels that the part needs are read. With layout="nhwc" and
    dtype="uint8" the result is (height, width, 3), 0..255.
    """
    with _image_errors():
        tensor: NDArray[Any] = _core.resize_crop(
            image, size, crop, flip, bgr=bgr, layout=layout, dtype=dtype, out=out, threads=threads, isa=isa
        )
        return tensor


def resize_crop_batch(
    images: Sequence[NDArray[np.uint8]],
    sizes: Sequence[tuple[int, int]],
    crops: Sequence[tuple[int, int, int, int]],
    flips: Sequence[bool],
    out: Any = None,
    threads: int = 0,
    *,
    bgr: bool = False,
    layout: Layout = "nchw",
    dtype: Dtype = "float32",
    isa: str = "auto",
) -> NDArray[Any]:
    """`resize_crop` of each image, as one array (N, 3, height, width).

    Images and sizes may all differ; the crops have one height and width. With layout="nhwc" and dtype="uint8" the
    result is (N, height, width, 3).
    """
    with _image_errors():
        batch: NDArray[Any] = _core.resize_crop_batch(
            images, sizes, crops, flips, out, threads, bgr=bgr, layout=layout, dtype=dtype, isa=isa
        )
        return batch


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """How a frame of any shape meets an input of a fixed shape; each rectangle is (top, left, height, width).

    There: `resize_crop(frame, size, crop, out=...)` into the `window` of the input. Back: the `window` of the
    translated picture at the height and width of `region` covers `region` in the frame (to the nearest pixel).
    """

    size: tuple[int, int]  # height and width the whole frame is resized to
    crop: tuple[int, int, int, int]  # the part of that which the input shows
    window: tuple[int, int, int, int]  # where in the input it lies; the rest is padding
    region: tuple[int, int, int, int]  # the part of the frame that the input shows


def place(frame: tuple[int, int], target: tuple[int, int], mode: Literal["stretch", "crop", "letterbox"]) -> Placement:
    """Where a frame of (height, width) goes in an input of (height, width).

    stretch     all of the frame on all of the input; its shape is not kept
    crop        the middle of the frame on all of the input
    letterbox   all of the frame on the middle of the input, padding around it
    """
    height, width = frame
    rows, columns = target
    if min(height, width, rows, columns) < 1:
        raise ImageError(f"frame is {frame} and target is {target}, expected (height, width) with no empty side.")
    whole = (0, 0, height, width)
    match mode:
        case "stretch":
            return Placement(size=target, crop=(0, 0, *target), window=(0, 0, *target), region=whole)
        case "crop":
            scale = max(rows / height, columns / width)
            size = max(rows, round(height * scale)), max(columns, round(width * scale))
            top, left = (size[0] - rows) // 2, (size[1] - columns) // 2
            seen = max(1, min(height, round(rows / scale))), max(1, min(width, round(columns / scale)))
            region = ((height - seen[0]) // 2, (width - seen[1]) // 2, *seen)
            return Placement(size=size, crop=(top, left, rows, columns), window=(0, 0, *target), region=region)
        case "letterbox":
            scale = min(rows / height, columns / width)
            size = max(1, min(rows, round(height * scale))), max(1, min(columns, round(width * scale)))
            window = ((rows - size[0]) // 2, (columns - size[1]) // 2, *size)
            return Placement(size=size, crop=(0, 0, *size), window=window, region=whole)
        case _:
            raise ImageError(f'mode is {mode!r}, expected "stretch", "crop" or "letterbox".')
