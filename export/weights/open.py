"""Any CycleGAN generator becomes one value that can be exported or evaluated: our own runs, other people's files.

    open_generator(path) -> Trained     a checkpoint of ours, weights of a known architecture, or an imported file
    write_imported(trained, path)       one .safetensors file: float32 weights, and what is known about them

Weights do not tell the size and the domains they were trained on, so the user does, or the size is a default.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from cyclegan_edge.bundle import Source
from cyclegan_edge.contract import Direction
from cyclegan_edge.errors import CheckpointError, ConfigError, first_line
from cyclegan_edge.export.weights.generators import ResnetArchitecture, UnetArchitecture
from cyclegan_edge.export.weights.read import read_file, tensors_of
from cyclegan_edge.export.weights.recognise import NormChoice, PaddingChoice, choose_generator, recognise
from cyclegan_edge.files import atomic_file, sha256
from cyclegan_edge.schema import from_mapping, to_mapping
from cyclegan_edge.train.checkpoint import load_generator
from cyclegan_edge.train.checkpoint_format import is_checkpoint
from cyclegan_edge.train.config import MAX_SIZE
from cyclegan_edge.train.data.layout import split_domains
from cyclegan_edge.train.distill.state import is_distillation
from cyclegan_edge.train.torch_file import check_finite

FORMAT = 1  # of an imported file; raised when an entry changes its meaning or goes away
DEFAULT_SIZE = 256  # px, of a generator whose file does not say, but a U-Net

_ENTRY = "cyclegan_edge"  # in the metadata of an imported file
_PADDING_ASSUMED = (
    "Its weights do not say how it pads; reflection is assumed. If the borders of pictures look wrong, type "
    "`cyclegan-edge import {path} --padding replicate`."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """A generator, and what its bundle says about it."""

    generator: nn.Module  # (N, 1 or 3, H, W) -> the same or the other, -1..1, float32, on the CPU, in eval mode
    architecture: Mapping[str, Any]  # plain values
    multiple: int  # px: H and W are multiples of this
    size: int  # px, side of the square crops it was trained on
    direction: Direction
    domains: tuple[str, str] | None  # what A and B are, where anyone said so
    data: Path | None  # of our own runs: the folder it was trained on
    source: Source
    description: str  # "ResNet, 9 blocks, ...", as recognised from names and shapes; empty for our own runs
    note: str = ""  # what was assumed of it, a sentence; empty for nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class _Metadata:
    """What an imported file says beside its weights."""

    format: int
    norm: Literal["instance", "none"]
    padding: PaddingChoice | None = None
    direction: Direction
    size: int
    domain_a: str | None
    domain_b: str | None
    file: str  # the one it was imported from
    sha256: str
    step: int | None

    def __post_init__(self) -> None:
        if not 0 < self.size <= MAX_SIZE:
            raise ConfigError(f"size is {self.size}, expected 1 to {MAX_SIZE} px")


def open_generator(
    path: Path,
    direction: Direction = "ab",
    *,
    size: int | None = None,
    domains: tuple[str, str] | None = None,
    norm: NormChoice | None = None,
    padding: PaddingChoice | None = None,
) -> Trained:
    """Open the generator of `direction` in `path`; of a file with one generator, that one.

    size, domains   what it was trained on, where the file does not say
    norm, padding   how it normalises and pads, where the weights leave that open; see `recognise`

    Raises CheckpointError when there is no generator of a known architecture, ConfigError for a size it cannot take.
    """
    content, entries = read_file(path)
    ours = is_checkpoint(content) or is_distillation(content)
    metadata = _read_metadata(entries, path)
    if (norm or padding) and (ours or metadata):
        name, value = ("norm", norm) if norm else ("padding", padding)
        raise ConfigError(f"{name} is {value!r}, but {path} was written by this package and holds it; leave it out.")
    if ours:
        return _open_checkpoint(content, path, direction, size, domains)
    if metadata:
        direction, norm, padding = metadata.direction, metadata.norm, metadata.padding
        size = size or metadata.size
        if metadata.domain_a is not None and metadata.domain_b is not None:
            domains = domains or (metadata.domain_a, metadata.domain_b)
    weights, entry = choose_generator(tensors_of(content, path), direction, path)
    recognised = recognise(weights, path, norm=norm, padding=padding)
    architecture = recognised.architecture
    size = size or (architecture.multiple if isinstance(architecture, UnetArchitecture) else DEFAULT_SIZE)
    if size < architecture.multiple or size % architecture.multiple:
        raise ConfigError(
            f"size is {size}, but {path} takes pictures whose sides are multiples of {architecture.multiple}; "
            f"try {max(1, size // architecture.multiple) * architecture.multiple}."
        )
    reflects = isinstance(architecture, ResnetArchitecture) and architecture.padding == "reflect"
    assumed = reflects and padding is None and metadata is None
    source = Source(file=path.name, sha256=sha256(path), step=None)
    if metadata:
        source = Source(file=metadata.file, sha256=metadata.sha256, step=metadata.step)
    return Trained(
        generator=recognised.generator,
        architecture=to_mapping(architecture),
        multiple=architecture.multiple,
        size=size,
        direction=direction,
        domains=domains,
        data=None,
        source=source,
        description=recognised.description + (f", from the entry {entry!r}" if entry else ""),
        note=_PADDING_ASSUMED.format(path=path) if assumed else "",
    )


def write_imported(trained: Trained, path: Path) -> None:
    """Write `path` atomically; `open_generator` reads it back.

    Raises CheckpointError on a full disk, and for a run of ours whose architecture an imported file cannot hold.
    """
    weights = trained.generator.state_dict()
    norm: Literal["instance", "none"] = "none" if trained.architecture.get("norm") == "none" else "instance"
    padding: PaddingChoice | None = "replicate" if trained.architecture.get("padding") == "replicate" else None
    recognise(weights, path, norm=norm, padding=padding)
    domain_a, domain_b = trained.domains or (None, None)
    metadata = _Metadata(
        format=FORMAT,
        norm=norm,
        padding=padding,
        direction=trained.direction,
        size=trained.size,
        domain_a=domain_a,
        domain_b=domain_b,
        file=trained.source.file,
        sha256=trained.source.sha256,
        step=trained.source.step,
    )
    entries = {_ENTRY: json.dumps(to_mapping(metadata)), "architecture": json.dumps(trained.architecture)}
    try:
        with atomic_file(path) as partial:
            save_file({name: tensor.contiguous() for name, tensor in weights.items()}, partial, entries)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} could not be written ({first_line(error)}); free some space.") from error


def _open_checkpoint(
    content: object, path: Path, direction: Direction, size: int | None, domains: tuple[str, str] | None
) -> Trained:
    config, generator, step = load_generator(path, direction, content)
    check_finite(generator.state_dict(), path)
    if size not in (None, config.size):
        raise ConfigError(f"size is {size}, but {path} was trained at {config.size} px; leave it out.")
    if config.domains and domains is None:
        domains = split_domains(config.domains)
    return Trained(
        generator=generator,
        architecture=to_mapping(config.generator),
        multiple=config.generator.multiple,
        size=config.size,
        direction=direction,
        domains=domains,
        data=Path(config.data),
        source=Source(file=path.name, sha256=sha256(path), step=step),
        description="",
    )


def _read_metadata(entries: Mapping[str, str], path: Path) -> _Metadata | None:
    """What an imported file says beside its weights; None for any other file."""
    if _ENTRY not in entries:
        return None
    try:
        metadata = from_mapping(_Metadata, json.loads(entries[_ENTRY]))
    except (AttributeError, ConfigError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} has metadata that this version cannot read ({first_line(error)}); import the original file again."
        ) from error
    if metadata.format != FORMAT:
        raise CheckpointError(
            f"{path} has format {metadata.format}, this version reads {FORMAT}; import the original file again."
        )
    return metadata
