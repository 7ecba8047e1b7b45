"""Models to evaluate: a checkpoint or a bundle as functions of uint8 pictures, and what they are.

Both see the same uint8 pictures and give uint8 pictures, so what an export loses is the difference of their figures.
Needs torch for a checkpoint only.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cyclegan_edge.backends.base import EngineName
from cyclegan_edge.bundle import MANIFEST
from cyclegan_edge.contract import Direction, Translate, WantedPrecision
from cyclegan_edge.errors import ConfigError
from cyclegan_edge.files import sha256
from cyclegan_edge.translator import Translator

if TYPE_CHECKING:
    import torch

EVALUATION = "evaluation.json"  # in a bundle


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """What was evaluated."""

    kind: Literal["checkpoint", "bundle"]
    path: str
    sha256: str  # of the checkpoint, or of the bundle's manifest, which holds the hashes of its files
    step: int | None  # optimiser steps taken; None where the checkpoint does not say
    direction: Direction
    engine: str  # "torch 2.14.1", "onnxruntime 1.32.0 fp32"
    device: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """An opened model."""

    forward: Translate  # the direction that is evaluated
    inverse: Translate | None = None  # the other direction; a bundle has none
    size: int  # px, of its training crops
    model: Model
    data: Path | None = None  # what it was trained on, where it says so
    domains: str = ""  # folders of A and B there, as in the settings of training
    run: Path | None = None  # that a checkpoint belongs to
    stored_at: Path  # where its evaluation belongs
    remarks: tuple[str, ...] = ()  # of the translator, a sentence each


def open_candidate(
    source: Path | None,
    *,
    direction: Direction | None = None,
    engine: EngineName = "auto",
    precision: WantedPrecision | None = None,
) -> Candidate:
    """A bundle, a run, a checkpoint, or with None the newest run; the last three on CUDA where there is one.

    Raises ConfigError for options that `source` does not have, and what `open_bundle` and `open_checkpoint` raise.
    """
    if source is not None and (source / MANIFEST).is_file():
        candidate = open_bundle(source, engine=engine, precision=precision)
        if direction not in (None, candidate.model.direction):
            raise ConfigError(
                f"{source} has the direction {candidate.model.direction}, not {direction}; leave --direction out."
            )
        return candidate
    if precision or engine != "auto":
        raise ConfigError("--engine and --precision are for bundles; leave them out for a checkpoint.")
    from cyclegan_edge.train.runs import resolve_checkpoint

    _, checkpoint = resolve_checkpoint(source)
    return open_checkpoint(checkpoint, direction=direction or "ab", device=default_device())


def open_checkpoint(path: Path, *, direction: Direction, device: "torch.device") -> Candidate:
    """Both generators of a checkpoint, or the one of a distillation, on `device`. Raises CheckpointError."""
    import torch

    from cyclegan_edge.train.checkpoint import load_generator
    from cyclegan_edge.train.distill.state import is_distillation
    from cyclegan_edge.train.evaluate.picture_generator import translate_with
    from cyclegan_edge.train.runs import evaluation_path, run_of
    from cyclegan_edge.train.torch_file import read_torch_file

    content = read_torch_file(path)
    config, forward, step = load_generator(path, direction, content)
    inverse = None
    if not is_distillation(content):
        _, other, _ = load_generator(path, "ba" if direction == "ab" else "ab", content)
        inverse = translate_with(other.to(device))
    model = Model(
        kind="checkpoint",
        path=str(path),
        sha256=sha256(path),
        step=step,
        direction=direction,
        engine=f"torch {torch.__version__}",
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
    )
    return Candidate(
        forward=translate_with(forward.to(device)),
        inverse=inverse,
        size=config.size,
        model=model,
        data=Path(config.data),
        domains=config.domains,
        run=run_of(path),
        stored_at=evaluation_path(path, direction),
    )


def open_bundle(folder: Path, *, engine: EngineName = "auto", precision: WantedPrecision | None = None) -> Candidate:
    """An exported model. Raises BundleError and EngineError."""
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
    return Candidate(
        forward=translator.run,
        size=translator.size,
        model=model,
        stored_at=folder / EVALUATION,
        remarks=translator.remarks,
    )


def default_device() -> "torch.device":
    """CUDA where there is one."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
