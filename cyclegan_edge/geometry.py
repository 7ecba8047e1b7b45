"""At which height and width a picture is translated. Both are multiples of what the model's manifest says: 4 for a
ResNet, which halves twice, 256 for a U-Net that halves eight times. `check_batch` is how every engine refuses others.

aspect    the short side becomes `size`, the shape is kept       what the model saw in training; the default
stretch   both sides become `size`                               the cheapest, and constant for any camera
native    the picture's own size, mirrored at the bottom and     the sharpest and slowest
          the right to a multiple and cropped again
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cyclegan_edge.contract import MIN_SIDE, MULTIPLE, Size
from cyclegan_edge.errors import ConfigError, EngineError, ImageError

Fit = Literal["aspect", "stretch", "native"]

MAX_PIXELS = 1 << 24  # 4096x4096, where one 64-channel float32 layer alone takes 4 GiB


def check_fit(fit: Fit, size: int, multiple: int = MULTIPLE) -> None:
    """Raise ConfigError for an unknown fit, or a size that the generator cannot halve as often as it does."""
    if fit not in ("aspect", "stretch", "native"):
        raise ConfigError(f"fit is {fit!r}, expected 'aspect', 'stretch' or 'native'.")
    least = max(MIN_SIDE, multiple)
    if size < least or size % multiple:
        raise ConfigError(
            f"size is {size}, but the generator halves its input several times, so size must be a multiple of "
            f"{multiple} and at least {least}; try {max(least, _nearest_multiple(size, multiple))}."
        )


def fitted_shape(height: int, width: int, *, fit: Fit, size: int, multiple: int = MULTIPLE) -> Size:
    """Height and width of the batch for a picture of `height` x `width` px. Raises ImageError for an enormous batch."""
    match fit:
        case "aspect":
            scale = size / min(height, width)
            shape = _nearest_multiple(height * scale, multiple), _nearest_multiple(width * scale, multiple)
        case "stretch":
            shape = size, size
        case "native":
            shape = _next_multiple(height, multiple), _next_multiple(width, multiple)
    if shape[0] * shape[1] > MAX_PIXELS:
        remedy = "choose the fit 'aspect'" if fit == "native" else "choose a smaller size or the fit 'stretch'"
        raise ImageError(
            f"The picture of {width}x{height} px would be translated at {shape[1]}x{shape[0]} px with the fit {fit!r}, "
            f"more than {MAX_PIXELS / 1e6:.1f} megapixels; {remedy}."
        )
    return shape


def check_batch(images: npt.NDArray[Any], multiple: int = MULTIPLE, *, most: int | None = None) -> None:
    """Raise EngineError unless `images` is uint8 (N, H, W, 3) with at least one picture and sides that fit.

    An engine would give a picture of another size, or write beyond one, as none of them looks itself.

    multiple   px, the manifest's; most   px, the longest side the engine takes
    """
    least = max(MIN_SIDE, multiple)
    fits = images.dtype == np.uint8 and images.ndim == 4 and images.shape[0] > 0 and images.shape[3] == 3
    if not fits or any(not least <= side <= (most or side) or side % multiple for side in images.shape[1:3]):
        raise EngineError(
            f"images is {images.dtype} {images.shape}, expected uint8 (N, H, W, 3) with H and W multiples of "
            f"{multiple} from {least}{f' to {most}' if most else ''}; `Translator` fits pictures of any size."
        )


def _nearest_multiple(length: float, multiple: int) -> int:
    return round(length / multiple) * multiple


def _next_multiple(length: int, multiple: int) -> int:
    return max(MIN_SIDE, -(-length // multiple) * multiple)
