"""The parity gate: a graph or engine is kept only when it gives the reference's picture on real pictures.

Needs no torch, so that an engine can be proven on the device that it was built on.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cyclegan_edge.bundle import Parity, Precision
from cyclegan_edge.errors import ExportError
from cyclegan_edge.images import list_images, read_image
from cyclegan_edge.preprocess import resize

BOUND_LEVELS: dict[Precision, int] = {  # largest difference of any value, of 255
    "fp32": 1,  # only rounding at .5 can differ
    "fp16": 4,  # 1 was measured on 120 photographs; norms in half precision, which this is to catch, give tens and NaN
    "bf16": 64,  # 4 was measured there; a few values say little, so `cyclegan_edge.export.proof` looks at the PSNR too
}

Run = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]


def load_pictures(folder: Path, *, size: int, most: int) -> list[npt.NDArray[np.uint8]]:
    """Up to `most` pictures of `folder`, spread over it by name, resized to (size, size, 3) uint8 RGB."""
    return [resize(read_image(path), (size, size)) for path in list_images(folder, most=most)]


def measure(expected: Run, found: Run, pictures: Sequence[npt.NDArray[np.uint8]], *, bound_levels: int) -> Parity:
    """Compare two ways of translating `pictures`, each (H, W, 3) uint8 of one size, picture by picture."""
    largest, total, squares, above, values = 0, 0.0, 0.0, 0, 0
    for picture in pictures:
        batch = np.ascontiguousarray(picture[None])
        difference = np.abs(expected(batch).astype(np.int16) - found(batch).astype(np.int16))
        largest = max(largest, int(difference.max()))
        total += float(difference.sum())
        squares += float(np.square(difference, dtype=np.int64).sum())
        above += int((difference > 1).sum())
        values += difference.size
    return Parity(
        images=len(pictures),
        height=pictures[0].shape[0],
        width=pictures[0].shape[1],
        max_levels=largest,
        mean_levels=total / values,
        psnr_db=float(10 * np.log10(255**2 * values / squares)) if squares else 100.0,
        share_above_1=above / values,
        bound_levels=bound_levels,
    )


def require(parity: Parity, name: str) -> None:
    """Raise ExportError when `parity` is outside its bound."""
    if parity.max_levels > parity.bound_levels:
        raise ExportError(
            f"{name} differs from PyTorch by up to {parity.max_levels} levels of 255 on {parity.images} pictures "
            f"({parity.psnr_db:.1f} dB), expected at most {parity.bound_levels}; it was not kept."
        )
