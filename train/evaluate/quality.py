"""How good translated pictures are, in figures.

FID, KID        against all real pictures of the other domain (features.py)
cycle           a picture against its translation and back
PSNR, SSIM      against the true translation, where there is one; and of the picture as it was

    DATA/testA   to translate      DATA/testB   the real ones      DATA/truthB   the truth, by the same file names

The first two may be arranged otherwise, see `layout`.

All pictures are uint8 RGB, resized by training's filter. Needs torch for FID and KID only.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from cyclegan_edge.contract import Direction, Picture, Translate
from cyclegan_edge.errors import ConfigError, DataError
from cyclegan_edge.images import list_images, read_image
from cyclegan_edge.metrics import psnr, ssim
from cyclegan_edge.preprocess import resize
from cyclegan_edge.train.data.layout import find_folder
from cyclegan_edge.train.data.pairs import ProgressCallback, ignore_progress

if TYPE_CHECKING:
    from cyclegan_edge.train.evaluate.features import Distance, FeatureNetwork, ReferenceFeatures

Metric = Literal["fid", "kid", "cycle", "psnr", "ssim"]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureSets:
    """What a model is evaluated on: files, read and resized when they are needed."""

    source: Path  # folder of the pictures to translate
    sources: tuple[Path, ...]
    target: Path  # folder of the real pictures of the other domain
    targets: tuple[Path, ...]  # empty: there are none
    truth: Path  # folder of the true translations
    truths: tuple[Path, ...]  # one of each of `sources`, or empty: there are none
    size: int  # px, both sides

    def load(self, path: Path) -> Picture:
        """One of the pictures, uint8 (size, size, 3). Raises ImageError."""
        return resize(read_image(path), (self.size, self.size))


def find_sets(
    data: Path, *, size: int, direction: Direction = "ab", most: int | None = None, domains: str = ""
) -> PictureSets:
    """The test pictures of `data`, at most `most` of each kind, spread over their folder by name.

    Raises DataError when there is nothing to translate, or when some pictures have a truth and others lack it.
    """
    a, b = ("A", "B") if direction == "ab" else ("B", "A")
    source = find_folder(data, f"test{a}", domains) or data / f"test{a}"
    target = find_folder(data, f"test{b}", domains) or data / f"test{b}"
    truth = source.parent / f"truth{b}"
    sources = list_images(source, most=most) if source.is_dir() else []
    if not sources:
        raise DataError(
            f"{data} has no pictures in {source.name}, expected {source.name} and {target.name} with pictures that "
            f"training did not see; name the folder that holds them."
        )
    truths = [truth / path.name for path in sources] if truth.is_dir() else []
    if missing := [path for path in truths if not path.is_file()]:
        raise DataError(
            f"{missing[0]} is not there, expected the truth of each picture in {source}; add it or remove {truth}."
        )
    return PictureSets(
        source=source,
        sources=tuple(sources),
        target=target,
        targets=tuple(list_images(target, most=most) if target.is_dir() else []),
        truth=truth,
        truths=tuple(truths),
        size=size,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Cycle:
    """A picture against its translation to the other domain and back, both uint8."""

    l1_levels: float  # mean absolute difference, 0..255; smaller is better
    psnr_db: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """Against the true translation. `untranslated` is what leaving the picture as it is would score."""

    psnr_untranslated_db: float
    psnr_translated_db: float
    ssim_untranslated: float
    ssim_translated: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """Means over the pictures; None for what could not be measured."""

    distance: "Distance | None" = None
    cycle: Cycle | None = None
    truth: Truth | None = None


def quality_of(
    forward: Translate,
    inverse: Translate | None,
    sets: PictureSets,
    *,
    reference: "ReferenceFeatures | None" = None,
    on_progress: ProgressCallback = ignore_progress,
) -> Quality:
    """Translate every picture of `sets` and say how good that is.

    forward     the direction that is measured; `picture_generator.translate_with(generator)` makes one of a live
                network, whose mode and random state stay what they were
    inverse     the other direction; None leaves the cycle out
    reference   from `reference_of`; None leaves FID and KID out

    Raises ImageError for a picture that cannot be read, FeatureError for features that are not finite.
    """
    cycles: list[Cycle] = []
    truths: list[Truth] = []

    def translations() -> Iterator[Picture]:
        for index, path in enumerate(sets.sources):
            picture = sets.load(path)
            translated = forward(picture[np.newaxis])
            if inverse is not None:
                cycled = inverse(translated)[0]
                l1 = float(np.abs(picture.astype(np.int16) - cycled).mean())
                cycles.append(Cycle(l1_levels=l1, psnr_db=psnr(picture, cycled)))
            if sets.truths:
                truth = sets.load(sets.truths[index])
                truths.append(
                    Truth(
                        psnr_untranslated_db=psnr(picture, truth),
                        psnr_translated_db=psnr(translated[0], truth),
                        ssim_untranslated=ssim(picture, truth),
                        ssim_translated=ssim(translated[0], truth),
                    )
                )
            on_progress(index + 1, len(sets.sources))
            yield translated[0]

    distance = None
    if reference is not None:
        distance = reference.distance_to(translations())
    else:
        for _ in translations():
            pass
    return Quality(distance=distance, cycle=_mean_of(cycles), truth=_mean_of(truths))


def reference_of(
    network: "FeatureNetwork", sets: PictureSets, *, on_progress: ProgressCallback = ignore_progress
) -> "ReferenceFeatures":
    """What FID and KID of `sets` are measured against. Raises DataError when there are fewer than two real pictures."""
    from cyclegan_edge.train.evaluate.features import ReferenceFeatures, features_of

    for paths, folder in ((sets.targets, sets.target), (sets.sources, sets.source)):
        if len(paths) < 2:
            raise DataError(f"FID and KID need at least 2 pictures in {folder}, but it holds {len(paths)}; add more.")

    def real() -> Iterator[Picture]:
        for done, path in enumerate(sets.targets, start=1):
            yield sets.load(path)
            on_progress(done, len(sets.targets))

    return ReferenceFeatures(network, features_of(network, real()))


def _mean_of(rows: Sequence[T]) -> T | None:
    """The mean of each field of equal dataclasses of floats; None of none."""
    if not rows:
        return None
    kind: Any = type(rows[0])
    mean: T = kind(**{field.name: float(np.mean([getattr(row, field.name) for row in rows])) for field in fields(kind)})
    return mean


def check_metric(metric: Metric, sets: PictureSets) -> None:
    """Raise ConfigError when `sets` cannot give `metric`: before a run, not after."""
    if metric in ("psnr", "ssim") and not sets.truths:
        raise ConfigError(f"{metric} cannot be measured; it needs the truth of each test picture, as in truthB/.")


def figure(metric: Metric, quality: Quality) -> float:
    """The figure that `metric` stands for, where `quality` was measured with all that it needs."""
    match metric:
        case "fid" if quality.distance:
            return quality.distance.fid
        case "kid" if quality.distance:
            return quality.distance.kid
        case "cycle" if quality.cycle:
            return quality.cycle.l1_levels
        case "psnr" if quality.truth:
            return quality.truth.psnr_translated_db
        case "ssim" if quality.truth:
            return quality.truth.ssim_translated
    raise ConfigError(f"{metric} was not measured; choose another metric.")


def better(metric: Metric, new: float, old: float | None) -> bool:
    """Whether the figure `new` beats `old` by `metric`; anything beats None."""
    if old is None:
        return True
    return new > old if metric in ("psnr", "ssim") else new < old
