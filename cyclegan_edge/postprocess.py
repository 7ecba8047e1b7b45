"""Network output -> frame.

batch   (1, h, w, 3)  uint8 RGB
frame   (H, W, 3)     uint8 RGB, the size of the picture that went in
"""

import numpy as np
import numpy.typing as npt

from cyclegan_edge import preprocess


def crop_padding(batch: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """The frame without the rows and columns that `preprocess` added at the bottom and the right."""
    return np.ascontiguousarray(batch[0, :height, :width])


def resize_back(batch: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """The frame at its old size, bicubic; the network's own array when it has that size already."""
    frame = batch[0]
    return frame if frame.shape[:2] == (height, width) else preprocess.resize(frame, (height, width))
