"""How far from float32 PyTorch a translation may be, by precision, and how far it is. Needs no torch: pictures and
PyTorch's translations of them travel in every bundle.
"""

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from cyclegan_edge.bundle import Bound, Bundle, Parity
from cyclegan_edge.contract import Picture, Precision, Translate
from cyclegan_edge.errors import BundleError, ExportError
from cyclegan_edge.images import read_image
from cyclegan_edge.metrics import MAX_PSNR, ssim

BOUNDS: dict[Precision, Bound] = {  # trained weights measured, of any engine (docs/log.md), and what is to be caught
    "fp32": Bound(  # 1 level, 88 dB, 1.0000: only rounding at .5 can differ
        max_levels=1, least_psnr_db=60.0, least_ssim=0.999
    ),
    "fp16": Bound(  # 1 level, 65 dB, 0.9999; norms in half precision give 10 dB or NaN
        max_levels=4, least_psnr_db=50.0, least_ssim=0.995
    ),
    "bf16": Bound(  # 4 levels, 56 dB, 0.9996; random weights up to 116 levels, of which the PSNR says more, 34 dB
        max_levels=64, least_psnr_db=40.0, least_ssim=0.97
    ),
    "int8": Bound(  # 55 levels, 41 dB, 0.992; every layer of a trained 64x9 in 8 bits, its outliers too: 32 dB, 0.94
        max_levels=128, least_psnr_db=35.0, least_ssim=0.95
    ),
}

Pair = tuple[Picture, Picture]  # a picture, and what float32 PyTorch makes of it


def pairs_of(expected: Translate, pictures: Iterable[Picture]) -> list[Pair]:
    """Each picture with what `expected` makes of it."""
    return [(picture, expected(np.ascontiguousarray(picture[None]))[0]) for picture in pictures]


def reference_pairs(bundle: Bundle, *, without: Collection[str] = ()) -> list[Pair]:
    """The pictures that travel with the bundle and PyTorch's translations, but for those in files of `without`.

    Raises BundleError when a file is not the one that was exported or has another size.
    """
    size, pairs = bundle.manifest.size, []
    for reference in bundle.manifest.references:
        parts = reference.picture, reference.translated
        if any(part.file in without for part in parts):
            continue
        picture, translated = (read_image(bundle.checked(part)) for part in parts)
        if picture.shape != (size, size, 3) or translated.shape != picture.shape:
            raise BundleError(
                f"{bundle.folder / reference.picture.file} and its translation have shapes {picture.shape} and "
                f"{translated.shape}, expected {(size, size, 3)}; export the model again."
            )
        pairs.append((picture, translated))
    return pairs


def measure(found: Translate, pairs: Sequence[Pair], *, bound: Bound) -> Parity:
    """Translate the first of each pair with `found` and compare with the second; all are of one size, from 11 px on.

    Raises ExportError when `found` changes the size.
    """
    largest, total, squares, above, values, likeness = 0, 0.0, 0.0, 0, 0, 0.0
    for picture, wanted in pairs:
        made = found(np.ascontiguousarray(picture[None]))[0]
        if made.shape != wanted.shape:
            raise ExportError(
                f"A picture of shape {picture.shape} became one of {made.shape}, expected {wanted.shape}."
            )
        difference = np.abs(wanted.astype(np.int16) - made.astype(np.int16))
        largest = max(largest, int(difference.max()))
        total += float(difference.sum())
        squares += float(np.square(difference, dtype=np.int64).sum())
        above += int((difference > 1).sum())
        values += difference.size
        likeness += ssim(wanted, made)
    height, width = pairs[0][0].shape[:2]
    return Parity(
        images=len(pairs),
        height=height,
        width=width,
        max_levels=largest,
        mean_levels=total / values,
        psnr_db=float(10 * np.log10(255**2 * values / squares)) if squares else MAX_PSNR,
        ssim=likeness / len(pairs),
        share_above_1=above / values,
        bound=bound,
    )


def out_of_bounds(parity: Parity) -> list[str]:
    """What of `parity` is beyond its bound, as the ends of a sentence; nothing when it is good."""
    bound, wrong = parity.bound, []
    if parity.max_levels > bound.max_levels:
        wrong.append(
            f"differs from PyTorch by up to {parity.max_levels} levels of 255, expected at most {bound.max_levels}"
        )
    if parity.psnr_db < bound.least_psnr_db:
        wrong.append(f"is {parity.psnr_db:.1f} dB from PyTorch, expected at least {bound.least_psnr_db:.0f}")
    if parity.ssim < bound.least_ssim:
        wrong.append(f"has an SSIM of {parity.ssim:.5f}, expected at least {bound.least_ssim}")
    return wrong
