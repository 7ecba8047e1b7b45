"""Network output -> frame.

batch   (1, h, w, 3)  uint8 RGB
frame   (H, W, 3)     uint8, the size of the picture that went in; RGB, or BGR with bgr=True
"""

import cv2
import numpy as np

from cyclegan_edge.contract import Batch, Picture
from cyclegan_edge.preprocess import resize


def crop_padding(batch: Batch, height: int, width: int, *, bgr: bool = False) -> Picture:
    """The frame without the rows and columns that `Translator.prepare` added at the bottom and the right."""
    frame = batch[0, :height, :width]
    return _exchanged(frame) if bgr else np.ascontiguousarray(frame)


def resize_back(batch: Batch, height: int, width: int, *, bgr: bool = False) -> Picture:
    """The frame at its old size, bicubic; the network's own array when it has that size already."""
    frame: Picture = batch[0]
    if frame.shape[:2] != (height, width):
        return resize(frame, (height, width), bgr=bgr)
    return _exchanged(frame) if bgr else frame


def _exchanged(frame: Picture) -> Picture:
    """A copy with red and blue exchanged."""
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), np.uint8)
