"""What a student learns from: the teacher's translation of every training picture, and real pictures of the domain.

runs/<name>/teacher/    each picture and what the teacher makes of it, at the crops' size and an eighth more
runs/<name>/real/       pictures of the domain that the teacher translates into, at an eighth more
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cyclegan_edge.contract import Picture, Translate
from cyclegan_edge.errors import DataError
from cyclegan_edge.train.data.folders import shuffled
from cyclegan_edge.train.data.pairs import MIN_PICTURES, ProgressCallback, ignore_progress
from cyclegan_edge.train.distill.kept import KeptPictures, Pixels

_REAL = 1  # of the random numbers that choose real pictures


@dataclass(frozen=True, slots=True)
class TaughtPictures:
    """Pictures and the teacher's translations of them; real pictures of the other domain where they are wanted."""

    sizes: tuple[Pixels, ...]  # (N, 2, S, S, 3) each, mapped from the disk
    real: Pixels | None = None  # (M, 1, S, S, 3), likewise

    def __len__(self) -> int:
        return len(self.sizes[0])

    def batch(self, seed: int, step: int, *, count: int, crop: int) -> tuple[Pixels, Pixels]:
        """The pictures of a step and the teacher's, (count, crop, crop, 3) each: a function of the seed and the step.

        Every picture comes once an epoch, at one of the sizes, cropped and flipped at random.
        """
        random = np.random.default_rng((seed, step))
        chosen = []
        for position in range(step * count, (step + 1) * count):
            epoch, place = divmod(position, len(self))
            index = shuffled(len(self), seed, epoch)[place]
            pixels = self.sizes[random.integers(len(self.sizes))]
            chosen.append(_cropped(pixels[index], crop, random))
        both = np.stack(chosen)
        return both[:, 0], both[:, 1]

    def real_batch(self, seed: int, step: int, *, count: int, crop: int, share: float) -> Pixels | None:
        """Real pictures for the heads in this step, (count, crop, crop, 3); None in 1 - `share` of the steps."""
        random = np.random.default_rng((seed, step, _REAL))
        if self.real is None or random.random() >= share:
            return None
        return np.stack([_cropped(self.real[random.integers(len(self.real))], crop, random)[0] for _ in range(count)])


def sizes_of(size: int, multiple: int) -> tuple[int, int]:
    """px: of the crop, and an eighth more, a multiple of what the teacher takes."""
    return size, (size * 9 // 8 + multiple - 1) // multiple * multiple


def teach_pictures(
    run: Path,
    teacher: Translate,
    identity: str,
    paths: Sequence[Path],
    sizes: Sequence[int],
    *,
    on_progress: ProgressCallback = ignore_progress,
) -> TaughtPictures:
    """Translate what is missing; `identity` names the teacher, such as the hash of its file.

    Raises DataError for too few pictures or one that cannot be read, SinkError when the disk is full.
    """
    _require(paths, "to teach with")

    def translated(picture: Picture) -> Pixels:
        return np.stack((picture, teacher(picture[np.newaxis])[0]))

    kept = KeptPictures(run / "teacher", identity, paths, sizes, depth=2)
    return TaughtPictures(kept.make(translated, on_progress))


def keep_real_pictures(
    run: Path, paths: Sequence[Path], size: int, *, on_progress: ProgressCallback = ignore_progress
) -> Pixels:
    """Real pictures of the domain that the teacher translates into, (M, 1, size, size, 3).

    Raises what `teach_pictures` does."""
    _require(paths, "of the other domain")
    kept = KeptPictures(run / "real", "", paths, [size], depth=1)
    return kept.make(lambda picture: picture[np.newaxis], on_progress)[0]


def _require(paths: Sequence[Path], what: str) -> None:
    if len(paths) < MIN_PICTURES:
        raise DataError(f"There are {len(paths)} pictures {what}, expected at least {MIN_PICTURES}; add more.")


def _cropped(pictures: Pixels, crop: int, random: np.random.Generator) -> Pixels:
    """The same random crop of (K, S, S, 3), flipped for every other."""
    top, left = random.integers(pictures.shape[1] - crop + 1, size=2)
    pictures = pictures[:, top : top + crop, left : left + crop]
    return pictures[:, :, ::-1] if random.integers(2) else pictures
