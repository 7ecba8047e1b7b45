"""The quality of a checkpoint or a bundle, stored with everything that decided the figures.

Both see the same uint8 pictures and give uint8 pictures, so what an export loses is the difference of their figures.
Needs torch for a checkpoint, and for FID and KID, only.
"""

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cyclegan_edge.backends.base import EngineName
from cyclegan_edge.bundle import MANIFEST
from cyclegan_edge.contract import Direction, Precision, Translate
from cyclegan_edge.errors import ConfigError, SinkError
from cyclegan_edge.files import atomic_file, sha256
from cyclegan_edge.train.evaluate.quality import PictureSets, Quality, Report, quality_of, reference_of
from cyclegan_edge.translator import Translator

if TYPE_CHECKING:
    import torch

    from cyclegan_edge.train.evaluate.features import FeatureNetwork

SCHEMA = 1  # of the stored evaluation; raised when a field changes its meaning or goes away
RESIZE = "Pillow 12's antialiased bicubic, both sides to the size"


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """What was judged."""

    kind: Literal["checkpoint", "bundle"]
    path: str
    sha256: str  # of the checkpoint, or of the bundle's manifest, which holds the hashes of its files
    step: int | None  # optimiser steps taken; None where the checkpoint does not say
    direction: Direction
    engine: str  # "torch 2.14.1", "onnxruntime 1.32.0 fp32"
    device: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """An opened model: the functions of uint8 (N, H, W, 3) pictures that `quality_of` takes, and what they are."""

    there: Translate
    back: Translate | None  # the other direction
    size: int  # px, of its training crops
    model: Model
    back_model: Model | None = None  # when it is not in the same file
    passed_over: tuple[str, ...] = ()  # why engine="auto" took no faster engine, a sentence each


@dataclass(frozen=True, kw_only=True, slots=True)
class Folder:
    """A folder of pictures and how many of it were used."""

    path: str
    pictures: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """What FID and KID were worked out with."""

    library: str  # "torch-fidelity 0.4.0"
    network: str
    sha256: str  # of the network's file
    dimension: int
    takes: str  # "uint8 0..255" or "float32 0..1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """What else decided the figures: two evaluations compare when theirs are equal."""

    translated: Folder
    real: Folder | None  # for FID and KID
    truth: Folder | None  # for PSNR and SSIM
    size: int  # px, of every picture compared
    resize: str
    features: Features | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The figures of one model, and how they came about."""

    schema: int = SCHEMA
    date: str  # UTC, ISO 8601
    model: Model
    back: Model | None  # the bundle of the other direction
    quality: Quality
    left_out: tuple[str, ...]  # why a figure is missing, a sentence each
    protocol: Protocol
    versions: dict[str, str]


def open_checkpoint(path: Path, *, direction: Direction, device: "torch.device") -> Candidate:
    """Both generators of a checkpoint, on `device`. Raises CheckpointError."""
    import torch

    from cyclegan_edge.train.checkpoint import load_generator
    from cyclegan_edge.train.evaluate.picture_generator import translate_with

    config, there, step = load_generator(path, direction)
    _, back, _ = load_generator(path, _opposite(direction))
    model = Model(
        kind="checkpoint",
        path=str(path),
        sha256=sha256(path),
        step=step,
        direction=direction,
        engine=f"torch {torch.__version__}",
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
    )
    return Candidate(translate_with(there.to(device)), translate_with(back.to(device)), config.size, model)


def open_bundle(
    folder: Path,
    *,
    back: Path | None = None,
    engine: EngineName = "auto",
    precision: Precision | None = None,
) -> Candidate:
    """An exported model, and with `back` that of the other direction for the cycle.

    Raises BundleError, EngineError, and ConfigError when `back` is of the same direction.
    """
    translator, model = _open(folder, engine, precision)
    if back is None:
        return Candidate(translator.run, None, translator.size, model, passed_over=translator.passed_over)
    translator_back, model_back = _open(back, engine, precision)
    if model_back.direction == model.direction:
        raise ConfigError(
            f"{folder} and {back} both have the direction {model.direction}, expected one to undo the other; export "
            f"with --direction {_opposite(model.direction)} and name that."
        )
    return Candidate(
        translator.run, translator_back.run, translator.size, model, model_back, passed_over=translator.passed_over
    )


def evaluate(
    candidate: Candidate,
    sets: PictureSets,
    *,
    features: "FeatureNetwork | None",
    without_features: str = "No feature network was given.",
    report: Report = lambda done, total: None,
) -> Evaluation:
    """Every figure that can be had, and why the others cannot; `without_features` says why there is no network.

    Raises ImageError, EngineError, FeatureError, and DataError when there are too few pictures for FID and KID.
    """
    left_out = []
    if not sets.targets:
        left_out.append(f"FID and KID are left out: there are no real pictures to compare with in {sets.target}.")
        features = None
    elif features is None:
        left_out.append(f"FID and KID are left out: {without_features}")
    if candidate.back is None:
        left_out.append("The cycle is left out: a bundle holds one direction; name that of the other with --back.")
    if not sets.truths:
        left_out.append(f"PSNR and SSIM are left out: there is no {sets.truth} with the true translations.")
    quality, protocol = _judge(candidate, sets, features, report)
    return Evaluation(
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        model=candidate.model,
        back=candidate.back_model,
        quality=quality,
        left_out=tuple(left_out),
        protocol=protocol,
        versions={name: version(name) for name in ("cyclegan-edge", "numpy")},
    )


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Write `path` as JSON, whole or not at all. Raises SinkError."""
    try:
        with atomic_file(path) as partial:
            text = json.dumps(asdict(evaluation), indent=2, allow_nan=False)
            partial.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise SinkError(f"{path} cannot be written ({error.strerror}); check the folder and the free space.") from error


def _judge(
    candidate: Candidate, sets: PictureSets, features: "FeatureNetwork | None", report: Report
) -> tuple[Quality, Protocol]:
    translated, real = len(sets.sources), len(sets.targets)
    reference, used, before = None, None, 0
    if features is not None:
        from cyclegan_edge.train.evaluate.features import library

        before = real
        reference = reference_of(features, sets, report=lambda done, _: report(done, before + translated))
        used = Features(
            library=library(),
            network=features.name,
            sha256=features.sha256,
            dimension=features.dimension,
            takes=features.takes,
        )
    quality = quality_of(
        candidate.there,
        candidate.back,
        sets,
        reference=reference,
        report=lambda done, _: report(before + done, before + translated),
    )
    protocol = Protocol(
        translated=Folder(path=str(sets.source), pictures=translated),
        real=Folder(path=str(sets.target), pictures=real) if features else None,
        truth=Folder(path=str(sets.truth), pictures=translated) if sets.truths else None,
        size=sets.size,
        resize=RESIZE,
        features=used,
    )
    return quality, protocol


def _open(folder: Path, engine: EngineName, precision: Precision | None) -> tuple[Translator, Model]:
    translator = Translator.load(folder, engine=engine, precision=precision, fit="stretch")
    assert translator.bundle is not None  # it was loaded from one
    manifest = translator.bundle.manifest
    model = Model(
        kind="bundle",
        path=str(folder),
        sha256=sha256(folder / MANIFEST),
        step=manifest.source.step,
        direction=manifest.direction,
        engine=translator.name,
        device=translator.device,
    )
    return translator, model


def _opposite(direction: Direction) -> Direction:
    return "ba" if direction == "ab" else "ab"
