"""What a generator can be written as: one module per file format, each giving its files as `Target`s."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cyclegan_edge.bounds import Pair
from cyclegan_edge.bundle import Artifact, Bundle
from cyclegan_edge.contract import GraphPrecision
from cyclegan_edge.export.parity import LayerError

Make = Callable[[Bundle, Path], Artifact]  # from what the bundle holds, into this folder


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A file that a bundle is to get, before it is made; `cyclegan_edge.export.pipeline` makes and compares it."""

    file: str  # its name in the bundle
    precision: GraphPrecision  # that it is judged by
    make: Make  # raises EngineError or ExportError when it cannot; leaves length and parity of the artifact open
    pairs: Sequence[Pair] | None = None  # to compare it on; None: those of the export
    layers: Sequence[LayerError] = ()  # what `make` found to cost each layer, told when the file is refused
    required: bool = False  # without it there is no bundle
    why_not_here: Callable[[Artifact], str | None] = lambda artifact: None  # why it is kept without being compared
