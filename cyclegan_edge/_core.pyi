"""The C++ extension. Wrong values raise ValueError, wrong types TypeError; use `cyclegan_edge.preprocess` instead."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

def available_isas() -> list[str]: ...
def default_isa() -> str: ...
def resize(
    image: NDArray[np.uint8],
    size: tuple[int, int],
    *,
    bgr: bool = False,
    out: object = None,
    threads: int = 1,
    isa: str = "auto",
) -> Any: ...
def resize_crop(
    image: NDArray[np.uint8],
    size: tuple[int, int],
    crop: tuple[int, int, int, int],
    flip: bool = False,
    *,
    bgr: bool = False,
    layout: str = "nchw",
    dtype: str = "float32",
    out: object = None,
    threads: int = 1,
    isa: str = "auto",
) -> Any: ...
def resize_crop_batch(
    images: Sequence[NDArray[np.uint8]],
    sizes: Sequence[tuple[int, int]],
    crops: Sequence[tuple[int, int, int, int]],
    flips: Sequence[bool],
    out: object = None,
    threads: int = 0,
    *,
    bgr: bool = False,
    layout: str = "nchw",
    dtype: str = "float32",
    isa: str = "auto",
) -> Any: ...
