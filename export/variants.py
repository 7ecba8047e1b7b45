"""The graphs of an export: those that our own engines run, and those for pipelines that bring something else than RGB.

    generator-fp32.onnx           uint8 RGB; -fp16 with convolutions in half precision
    generator-fp32-bgr.onnx       uint8 BGR
    generator-fp32-float.onnx     float32 (N, 3, H, W) RGB in -1..1
    generator-fp32-448x256.onnx   uint8 RGB of one constant size, one picture at a time

Each is proven like the others, by ONNX Runtime on the CPU (`cyclegan_edge.export.interfaces`).
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from cyclegan_edge.backends.onnxruntime import OnnxRuntimeBackend
from cyclegan_edge.bundle import Artifact, Bundle
from cyclegan_edge.contract import MIN_SIDE, GraphPrecision, Interface
from cyclegan_edge.errors import ConfigError
from cyclegan_edge.export.config import ExportConfig
from cyclegan_edge.export.interfaces import as_rgb, is_special
from cyclegan_edge.export.proof import proven
from cyclegan_edge.export.to_onnx import reference, write_onnx
from cyclegan_edge.export.verify import Judge, Pair, Run, pairs_of, refuse
from cyclegan_edge.files import sha256
from cyclegan_edge.geometry import MAX_PIXELS
from cyclegan_edge.preprocess import resize


class Variant(NamedTuple):
    """One graph to write."""

    precision: GraphPrecision
    interface: Interface = "rgb"
    fixed: tuple[int, int, int] | None = None  # N, H, W

    @property
    def file(self) -> str:
        """Its name in a bundle."""
        interface = "" if self.interface == "rgb" else f"-{self.interface}"
        return f"generator-{self.precision}{interface}{f'-{self.fixed[2]}x{self.fixed[1]}' if self.fixed else ''}.onnx"


def asked_for(config: ExportConfig) -> list[Variant]:
    """What `config` wants beside the float32 and float16 graphs: each interface in each of its precisions."""
    precisions: list[GraphPrecision] = ["fp32"]
    precisions += ["fp16"] if config.fp16 else []
    variants: list[Variant] = []
    for precision in precisions:
        variants += [Variant(precision, "bgr")] if config.bgr else []
        variants += [Variant(precision, "float")] if config.float_io else []
        variants += [Variant(precision, fixed=(1, *config.fixed))] if config.fixed else []
    return variants


def check_fixed(fixed: tuple[int, int] | None, multiple: int) -> None:
    """Raise ConfigError for a constant (height, width) that the generator cannot take."""
    if fixed is None:
        return
    least = max(MIN_SIDE, multiple)
    near = [max(least, round(side / multiple) * multiple) for side in fixed]
    if list(fixed) != near:
        raise ConfigError(
            f"fixed is {fixed[1]}x{fixed[0]}, but the generator halves its input several times, so both sides must be "
            f"multiples of {multiple} and at least {least}; try {near[1]}x{near[0]}."
        )
    if fixed[0] * fixed[1] > MAX_PIXELS:
        raise ConfigError(
            f"fixed is {fixed[1]}x{fixed[0]}, more than {MAX_PIXELS / 1e6:.1f} megapixels; choose a smaller size."
        )


def with_variants(
    bundle: Bundle, generator: nn.Module, config: ExportConfig, pairs: Sequence[Pair], judge: Judge = refuse
) -> Bundle:
    """The bundle with every graph that `config` asks for beside the usual ones, each once it gives PyTorch's pictures.

    `judge` hears what came of each; one that failed is not kept.
    """
    for variant in asked_for(config):
        bundle = with_variant(bundle, generator, variant, pairs, judge)
    return bundle


def with_variant(
    bundle: Bundle, generator: nn.Module, variant: Variant, pairs: Sequence[Pair], judge: Judge = refuse
) -> Bundle:
    """The bundle with the graph of `variant`, once that is proven on `pairs`, resized where it takes one size only."""
    if variant.fixed:
        pairs = pairs_of(reference(generator), [resize(picture, variant.fixed[1:]) for picture, _ in pairs])

    def make(stage: Bundle) -> tuple[Artifact, Run]:
        path = stage.folder / variant.file
        write_onnx(
            generator,
            path,
            precision=variant.precision,
            multiple=bundle.manifest.multiple,
            interface=variant.interface,
            fixed=variant.fixed,
        )
        artifact = Artifact(
            file=path.name,
            format="onnx",
            precision=variant.precision,
            sha256=sha256(path),
            interface=variant.interface,
            fixed=variant.fixed,
        )
        if is_special(artifact):
            return artifact, as_rgb(path, interface=variant.interface)
        return artifact, OnnxRuntimeBackend(
            stage.with_artifact(artifact), precision=variant.precision
        ).run  # as a device would

    return proven(bundle, variant.file, make, pairs, judge)
