"""The C++ extension. Wrong values raise ValueError, wrong types TypeError; use `cyclegan_edge.preprocess` instead."""

import numpy as np
from numpy.typing import NDArray

def available_isas() -> list[str]: ...
def default_isa() -> str: ...
def start_hearing() -> None: ...
def stop_hearing() -> str: ...
def resize(
    image: NDArray[np.uint8], size: tuple[int, int], *, bgr: bool = False, isa: str = "auto"
) -> NDArray[np.uint8]: ...
def resize_crop(
    image: NDArray[np.uint8],
    size: tuple[int, int],
    crop: tuple[int, int, int, int],
    flip: bool = False,
    *,
    out: NDArray[np.float32] | None = None,
    isa: str = "auto",
) -> NDArray[np.float32]: ...
