"""What every converted file goes through before a bundle names it."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cyclegan_edge.bundle import Artifact, Bundle, Precision
from cyclegan_edge.errors import ExportError
from cyclegan_edge.export.verify import BOUND_LEVELS, Run, measure, require
from cyclegan_edge.scenes import render

Say = Callable[[str], None]  # hears one line about each thing that was done

LEAST_DB: dict[Precision, float] = {  # against float32 PyTorch
    "bf16": 40.0,  # 58 was measured on 120 photographs with weights of a short training, 34 with random ones
}

_COMPARED = 8  # rendered landscapes, where no pictures of the run are at hand


def landscapes(bundle: Bundle) -> list[npt.NDArray[np.uint8]]:
    """Pictures to compare on when there is only the bundle: (S, S, 3) uint8 each, S the size it was trained at."""
    size = bundle.manifest.size
    return [render(seed, "summer", size=(size, size)) for seed in range(_COMPARED)]


@contextlib.contextmanager
def staged(bundle: Bundle) -> Iterator[Bundle]:
    """The bundle in an empty folder within its own; when the block ends well, what was written there moves up.

    Until then, and when the block raises, older files of the same name stay as they are.
    """
    with tempfile.TemporaryDirectory(prefix=".", suffix=".partial", dir=bundle.folder) as folder:
        yield Bundle(Path(folder), bundle.manifest)
        for path in Path(folder).iterdir():
            path.replace(bundle.folder / path.name)


def kept(
    bundle: Bundle,
    artifact: Artifact,
    found: Run,
    expected: Run,
    pictures: Sequence[npt.NDArray[np.uint8]],
    say: Say,
) -> Bundle:
    """The bundle with `artifact`, once `found`, which runs it, gives what `expected` gives. Raises ExportError."""
    parity = measure(expected, found, pictures, bound_levels=BOUND_LEVELS[artifact.precision])
    require(parity, artifact.file)
    least = LEAST_DB.get(artifact.precision, 0.0)
    if parity.psnr_db < least:
        raise ExportError(
            f"{artifact.file} is {parity.psnr_db:.1f} dB from PyTorch on {parity.images} pictures, expected at least "
            f"{least:.0f} for {artifact.precision}; it was not kept."
        )
    size = sum((bundle.folder / part.file).stat().st_size for part in artifact.files())
    say(
        f"{artifact.file}: {size / 1e6:.1f} MB, at most {parity.max_levels} of 255 levels from PyTorch "
        f"({parity.psnr_db:.1f} dB, mean {parity.mean_levels:.4f})."
    )
    return bundle.with_artifact(replace(artifact, parity=parity))
