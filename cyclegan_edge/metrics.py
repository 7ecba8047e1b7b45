"""How alike two pictures are. Both are uint8 (H, W, 3) RGB of the same shape; raises ImageError when they are not.

psnr    10 log10(255^2 / mean squared error) over all values, in dB; equal pictures score MAX_PSNR
ssim    mean structural similarity, -1..1, 1 for equal pictures (Wang, Bovik, Sheikh, Simoncelli 2004, "Image quality
        assessment", eq. 13): Gaussian window of 11x11 with sigma 1.5, K1 = 0.01, K2 = 0.03, population covariances,
        only whole windows, the three channels averaged. Both sides must have at least 11 px.
"""

import math

import cv2
import numpy as np
import numpy.typing as npt

from cyclegan_edge.errors import ImageError
from cyclegan_edge.images import check_rgb

MAX_PSNR = 100.0  # dB, finite so that it can be averaged and stored as JSON

_WINDOW, _SIGMA = 11, 1.5  # px
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB."""
    _check_pair(a, b)
    error = float(np.mean(np.square(a.astype(np.int32) - b), dtype=np.float64))
    return MAX_PSNR if error == 0 else min(MAX_PSNR, 10 * math.log10(255**2 / error))


def ssim(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
    """Mean structural similarity."""
    _check_pair(a, b)
    if min(a.shape[:2]) < _WINDOW:
        raise ImageError(f"The pictures have {a.shape[1]}x{a.shape[0]} px, SSIM needs at least {_WINDOW}x{_WINDOW}.")
    x, y = a.astype(np.float64), b.astype(np.float64)  # (H, W, 3), filtered channel by channel
    mean_x, mean_y = _local_mean(x), _local_mean(y)
    variance_x = _local_mean(x * x) - mean_x**2
    variance_y = _local_mean(y * y) - mean_y**2
    covariance = _local_mean(x * y) - mean_x * mean_y
    likeness = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    return float(np.mean(likeness / ((mean_x**2 + mean_y**2 + _C1) * (variance_x + variance_y + _C2))))


def _local_mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Gaussian mean around each pixel that has a whole window: (H, W, 3) -> (H - 10, W - 10, 3)."""
    edge = _WINDOW // 2
    return np.asarray(cv2.GaussianBlur(values, (_WINDOW, _WINDOW), _SIGMA)[edge:-edge, edge:-edge], np.float64)


def _check_pair(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> None:
    check_rgb(a, "The first picture")
    check_rgb(b, "The second picture")
    if a.shape != b.shape:
        raise ImageError(f"The pictures have shapes {a.shape} and {b.shape}, expected the same; resize one of them.")
