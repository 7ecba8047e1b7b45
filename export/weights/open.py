"""Any CycleGAN generator becomes one value that can be exported or evaluated: our own runs, other people's files.

    open_generator(path) -> Trained     a checkpoint of ours, weights of a known layout, or a file of write_imported
    write_imported(trained, path)       one .safetensors file: float32 weights, and what is known about them

A file says nothing about the size and the domains it was trained on, so its user does, or size is a default.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from cyclegan_edge.bundle import Source
from cyclegan_edge.contract import Direction
from cyclegan_edge.errors import CheckpointError, ConfigError, first_line
from cyclegan_edge.export.weights.generators import ResnetLayout, to_plain
from cyclegan_edge.export.weights.read import flatten, read_content, write_safetensors
from cyclegan_edge.export.weights.recognise import NormChoice, choose_generator, recognise
from cyclegan_edge.files import sha256
from cyclegan_edge.schema import from_mapping, to_mapping
from cyclegan_edge.train.checkpoint import load_generator

FORMAT = 1  # of an imported file; raised when an entry changes its meaning or goes away
DEFAULT_SIZE = 256  # px, of a ResNet whose file does not say

_CARD = "cyclegan_edge"  # the entry of a safetensors file's metadata that write_imported fills


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """A generator, and what its bundle says about it."""

    generator: nn.Module  # (N, 3, H, W) -> (N, 3, H, W), -1..1, float32, on the CPU, in eval mode
    architecture: Mapping[str, Any]  # plain values
    multiple: int  # px, what H and W are multiples of
    size: int  # px, side of the square crops it was trained on
    direction: Direction
    domains: tuple[str, str] | None  # what A and B are, where anyone said so
    data: Path | None  # of our own runs: the folder it was trained on
    source: Source
    found: tuple[str, ...]  # "ResNet", "9 blocks", ...: what was read from names and shapes; nothing for our own runs


@dataclass(frozen=True, kw_only=True, slots=True)
class _Card:
    """What an imported file says about itself; its weights say the rest."""

    format: int
    norm: Literal["instance", "none"]
    direction: Direction
    size: int
    domain_a: str | None
    domain_b: str | None
    file: str  # the one it was imported from
    sha256: str
    step: int | None


def open_generator(
    path: Path,
    direction: Direction = "ab",
    *,
    size: int | None = None,
    domains: tuple[str, str] | None = None,
    norm: NormChoice | None = None,
) -> Trained:
    """Open the generator of `direction` in `path`; of a file with one generator, that one.

    size, domains   what it was trained on, where the file does not say
    norm            how it normalises, where the weights leave that open; see `recognise`

    Raises CheckpointError for what is no generator of a known layout, ConfigError for a size it cannot take.
    """
    content, metadata = read_content(path)
    own = isinstance(content, dict) and {"config", "format", "networks"} <= content.keys()
    card = _card(metadata, path)
    if norm and (own or card):
        raise ConfigError(f"norm is {norm!r}, but {path} was written by this package and says it itself; leave it out.")
    if own:
        return _open_own(path, direction, size, domains)
    if card:
        direction, norm = card.direction, card.norm
        size = size or card.size
        if card.domain_a is not None and card.domain_b is not None:
            domains = domains or (card.domain_a, card.domain_b)
    weights, called = choose_generator(flatten(content, path), direction, path)
    recognised = recognise(weights, path, norm=norm)
    layout = recognised.layout
    size = size or (DEFAULT_SIZE if isinstance(layout, ResnetLayout) else layout.multiple)
    if size < layout.multiple or size % layout.multiple:
        raise ConfigError(
            f"size is {size}, but {path} takes pictures whose sides are multiples of {layout.multiple}; "
            f"try {max(1, round(size / layout.multiple)) * layout.multiple}."
        )
    source = Source(file=path.name, sha256=sha256(path), step=None)
    if card:
        source = Source(file=card.file, sha256=card.sha256, step=card.step)
    return Trained(
        generator=recognised.generator,
        architecture=to_plain(layout),
        multiple=layout.multiple,
        size=size,
        direction=direction,
        domains=domains,
        data=None,
        source=source,
        found=(recognised.name, *recognised.found, *([f"from the entry {called!r}"] if called else [])),
    )


def write_imported(trained: Trained, path: Path) -> None:
    """Write `path` atomically; `open_generator` reads it back.

    Raises CheckpointError on a full disk, and for a run of ours whose layout an imported file cannot hold.
    """
    weights = trained.generator.state_dict()
    norm: Literal["instance", "none"] = "none" if trained.architecture.get("norm") == "none" else "instance"
    recognise(weights, path, norm=norm)
    domain_a, domain_b = trained.domains or (None, None)
    card = _Card(
        format=FORMAT,
        norm=norm,
        direction=trained.direction,
        size=trained.size,
        domain_a=domain_a,
        domain_b=domain_b,
        file=trained.source.file,
        sha256=trained.source.sha256,
        step=trained.source.step,
    )
    metadata = {_CARD: json.dumps(to_mapping(card)), "architecture": json.dumps(trained.architecture)}
    write_safetensors(path, weights, metadata)


def _open_own(path: Path, direction: Direction, size: int | None, domains: tuple[str, str] | None) -> Trained:
    config, generator, step = load_generator(path, direction)
    if size not in (None, config.size):
        raise ConfigError(f"size is {size}, but {path} was trained at {config.size} px and says so; leave it out.")
    return Trained(
        generator=generator,
        architecture=to_mapping(config.generator),
        multiple=config.generator.multiple,
        size=config.size,
        direction=direction,
        domains=domains,
        data=Path(config.data),
        source=Source(file=path.name, sha256=sha256(path), step=step),
        found=(),
    )


def _card(metadata: Mapping[str, str], path: Path) -> _Card | None:
    """What an imported file says about itself; None for a file that is none."""
    if _CARD not in metadata:
        return None
    try:
        card = from_mapping(_Card, json.loads(metadata[_CARD]))
    except (AttributeError, ConfigError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} describes itself in a way that this version cannot read ({first_line(error)}); import it again."
        ) from error
    if card.format != FORMAT:
        raise CheckpointError(f"{path} has format {card.format}, this version reads {FORMAT}; import it again.")
    return card
