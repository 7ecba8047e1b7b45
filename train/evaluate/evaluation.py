"""The evaluation of a model: its figures, stored with everything that decided them.

Needs torch for a checkpoint, and for FID and KID, only.
"""

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from cyclegan_edge.errors import FeatureError
from cyclegan_edge.files import write_file
from cyclegan_edge.train.data.pairs import ProgressCallback, ignore_progress
from cyclegan_edge.train.evaluate.candidates import Candidate, Model, default_device
from cyclegan_edge.train.evaluate.quality import PictureSets, Quality, quality_of, reference_of

if TYPE_CHECKING:
    from cyclegan_edge.train.evaluate.features import FeatureNetwork

SCHEMA = 2  # of the stored evaluation; raised when a field changes its meaning or goes away
RESIZE = "Pillow 12's antialiased bicubic, both sides to the size"


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderUsed:
    """A folder of pictures and how many of it were used."""

    path: str
    pictures: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """What else decided the figures: two evaluations compare when theirs are equal."""

    translated: FolderUsed
    real: FolderUsed | None  # for FID and KID
    truth: FolderUsed | None  # for PSNR and SSIM
    size: int  # px, of every picture compared
    resize: str
    features: dict[str, str | int] | None  # the library and the network of FID and KID; see `FeatureNetwork`


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The figures of one model, and how they came about."""

    schema: int = SCHEMA
    date: str  # UTC, ISO 8601
    model: Model
    quality: Quality
    left_out: tuple[str, ...]  # why a figure is missing, a sentence each
    protocol: Protocol
    versions: dict[str, str]


def evaluate(
    candidate: Candidate,
    sets: PictureSets,
    *,
    features: "FeatureNetwork | str",
    on_progress: ProgressCallback = ignore_progress,
) -> Evaluation:
    """Every figure that can be had, and why the others cannot.

    features   the network for FID and KID, or a sentence that says why there is none; see `feature_network`

    Raises ImageError, EngineError, FeatureError, and DataError when there are too few pictures for FID and KID.
    """
    left_out = []
    if not sets.targets:
        features = f"there are no real pictures to compare with in {sets.target}."
    if isinstance(features, str):
        left_out.append(f"FID and KID are left out: {features}")
    if candidate.inverse is None:
        left_out.append("The cycle is left out: a bundle holds one direction; evaluate its run.")
    if not sets.truths:
        left_out.append(f"PSNR and SSIM are left out: there is no {sets.truth} with the true translations.")
    network = None if isinstance(features, str) else features
    return Evaluation(
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        model=candidate.model,
        quality=_quality(candidate, sets, network, on_progress),
        left_out=tuple(left_out),
        protocol=_protocol(sets, network),
        versions={name: version(name) for name in ("cyclegan-edge", "numpy")},
    )


def feature_network(path: Path | None, *, size: int) -> "FeatureNetwork | str":
    """The TorchScript network at `path`, or with None Inception, or why Inception is not there.

    Raises FeatureError and ModuleNotFoundError for a network that was asked for.
    """
    try:
        from cyclegan_edge.train.evaluate.features import open_network  # torch, torch-fidelity

        return open_network(path, size=size, device=default_device())
    except ModuleNotFoundError as error:
        if path is not None:
            raise
        return f"{error.name} is not installed; add it with `pip install 'cyclegan-edge[evaluate]'`."
    except FeatureError as error:
        if path is not None:
            raise
        return str(error)


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Write `path` as JSON, whole or not at all. Raises SinkError."""
    write_file(path, json.dumps(asdict(evaluation), indent=2, allow_nan=False) + "\n")


def _quality(
    candidate: Candidate, sets: PictureSets, network: "FeatureNetwork | None", on_progress: ProgressCallback
) -> Quality:
    """Progress counts the real pictures, when there is a network for them, and the translated ones."""
    real = len(sets.targets) if network else 0
    total = real + len(sets.sources)
    return quality_of(
        candidate.forward,
        candidate.inverse,
        sets,
        reference=reference_of(network, sets, on_progress=lambda done, _: on_progress(done, total))
        if network
        else None,
        on_progress=lambda done, _: on_progress(real + done, total),
    )


def _protocol(sets: PictureSets, network: "FeatureNetwork | None") -> Protocol:
    pictures = len(sets.sources)
    return Protocol(
        translated=FolderUsed(path=str(sets.source), pictures=pictures),
        real=FolderUsed(path=str(sets.target), pictures=len(sets.targets)) if network else None,
        truth=FolderUsed(path=str(sets.truth), pictures=pictures) if sets.truths else None,
        size=sets.size,
        resize=RESIZE,
        features=_about(network) if network else None,
    )


def _about(network: "FeatureNetwork") -> dict[str, str | int]:
    return {
        "library": f"torch-fidelity {version('torch-fidelity')}",
        "network": network.name,
        "sha256": network.sha256,
        "dimension": network.dimension,
        "takes": network.takes,
    }
