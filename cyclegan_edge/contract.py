"""What every part of the project agrees on: pictures, sizes, directions, precisions, and the tensors of a graph.

Everything else imports these names from here; nothing here imports anything of the project.
"""

from collections.abc import Callable
from typing import Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]  # (H, W, 3) RGB, 0..255
Batch = npt.NDArray[np.uint8]  # (N, H, W, 3) RGB, 0..255
Size = tuple[int, int]  # (height, width), px
Translate = Callable[[Batch], Batch]  # a generator as a function of pictures; the shape stays the same

Direction = Literal["ab", "ba"]  # ab: domain A is translated into domain B
GraphPrecision = Literal["fp32", "fp16", "int8"]  # of the convolutions in a file; norms are float32 in every one
Precision = Literal["fp32", "fp16", "bf16", "int8"]  # that an engine computes in; bf16: OpenVINO, of the fp32 graph
WantedPrecision = Literal["any", "fp32", "fp16", "bf16", "int8"]  # any: the fastest within its bound, on a CPU
Interface = Literal["rgb", "bgr", "float"]  # uint8 (N, H, W, 3); uint8 (N, H, W, 3); float32 (N, 3, H, W) RGB, -1..1

IMAGE, TRANSLATED = "image", "translated"  # the tensors of a graph of pictures: what goes in and what comes out
TENSORS: dict[Interface, tuple[str, str]] = {
    "rgb": (IMAGE, TRANSLATED),
    "bgr": (IMAGE, TRANSLATED),
    "float": ("input", "output"),
}

MULTIPLE = 4  # px: a ResNet halves its input twice, so both sides of a batch are multiples of this
MIN_SIDE = 8  # px: the residual blocks mirror one pixel at a quarter of the size, so two must be there

Array = TypeVar("Array", bound="_Array")


def to_signal(levels: Array) -> Array:
    """float32 levels 0..255 -> -1..1, as torchvision's ToTensor and Normalize(0.5, 0.5) do; NumPy arrays or tensors."""
    return (levels / 255.0 - 0.5) / 0.5


def to_levels(signal: Array) -> Array:
    """float32 -1..1 -> whole levels 0..255, still float32, halves rounded to even; NumPy arrays or tensors."""
    return (signal * 127.5 + 127.5).round().clip(0.0, 255.0)


class _Array(Protocol):
    """What NumPy arrays and torch tensors have in common here."""

    def __truediv__(self: Array, other: float, /) -> Array: ...
    def __sub__(self: Array, other: float, /) -> Array: ...
    def __mul__(self: Array, other: float, /) -> Array: ...
    def __add__(self: Array, other: float, /) -> Array: ...
    def round(self: Array) -> Array: ...
    def clip(self: Array, low: float, high: float, /) -> Array: ...
