"""Graphs beside the two that our own engines run: in bfloat16, and for pipelines that bring something else than RGB.

    generator-bf16.onnx           uint8 RGB, convolutions in bfloat16
    generator-fp32-bgr.onnx       uint8 BGR
    generator-fp32-float.onnx     float32 (N, 3, H, W) RGB in -1..1
    generator-fp32-448x256.onnx   uint8 RGB of one constant size, one picture at a time

Each is proven like the others, by ONNX Runtime on the CPU. That has no bfloat16 convolutions, so of a bfloat16 graph
it runs the float32 operations that round the same way (`cyclegan_edge.export.bfloat16`); a GPU was not asked.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from torch import nn

from cyclegan_edge.bundle import Artifact, Bundle, Interface, Precision
from cyclegan_edge.errors import ConfigError, ExportError, first_line
from cyclegan_edge.export.bfloat16 import widened
from cyclegan_edge.export.config import ExportConfig
from cyclegan_edge.export.proof import Say, kept, staged
from cyclegan_edge.export.to_onnx import reference, write_onnx
from cyclegan_edge.export.verify import Run
from cyclegan_edge.files import sha256
from cyclegan_edge.geometry import MAX_PIXELS, MIN_SIDE
from cyclegan_edge.preprocess import resize


class Variant(NamedTuple):
    """One graph to write."""

    precision: Precision
    interface: Interface = "rgb"
    fixed: tuple[int, int, int] | None = None  # N, H, W

    @property
    def file(self) -> str:
        """Its name in a bundle."""
        interface = "" if self.interface == "rgb" else f"-{self.interface}"
        return f"generator-{self.precision}{interface}{f'-{self.fixed[2]}x{self.fixed[1]}' if self.fixed else ''}.onnx"


def asked_for(config: ExportConfig) -> list[Variant]:
    """What `config` wants beside the float32 and float16 graphs: each interface in each of its precisions."""
    precisions: list[Precision] = ["fp32"]
    precisions += ["fp16"] if config.fp16 else []
    precisions += ["bf16"] if config.bf16 else []
    variants = [Variant("bf16")] if config.bf16 else []
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
    bundle: Bundle, generator: nn.Module, config: ExportConfig, pictures: Sequence[npt.NDArray[np.uint8]], say: Say
) -> Bundle:
    """The bundle with every graph that `config` asks for beside the usual ones, each once it gives PyTorch's pictures.

    Raises ExportError when a graph cannot be made or differs by more than its bound.
    """
    for variant in asked_for(config):
        bundle = with_variant(bundle, generator, variant, pictures, say)
    return bundle


def with_variant(
    bundle: Bundle, generator: nn.Module, variant: Variant, pictures: Sequence[npt.NDArray[np.uint8]], say: Say
) -> Bundle:
    """The bundle with the graph of `variant`. Raises ExportError; nothing is left then."""
    if variant.fixed:
        pictures = [resize(picture, variant.fixed[1:]) for picture in pictures]
    with staged(bundle) as stage:
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
        found = runner(path, interface=variant.interface)
        proven = kept(stage, artifact, found, reference(generator), pictures, say)
    return Bundle(bundle.folder, proven.manifest)


def runner(path: Path, *, interface: Interface = "rgb") -> Run:
    """The graph `path` of any interface and precision as a function of uint8 (N, H, W, 3) RGB pictures.

    Raises ExportError when ONNX Runtime refuses the graph.
    """
    model = onnx.load(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    if any(tensor.data_type == onnx.TensorProto.BFLOAT16 for tensor in model.graph.initializer):
        model = widened(model)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # keep every rounding
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise ExportError(f"ONNX Runtime {onnxruntime.__version__} refuses {path} ({first_line(error)}).") from error
    entry = session.get_inputs()[0].name

    def run(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        match interface:
            case "rgb":
                given: npt.NDArray[np.generic] = images
            case "bgr":
                given = np.ascontiguousarray(images[..., ::-1])
            case "float":
                signal = (images.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
                given = np.ascontiguousarray(signal.transpose(0, 3, 1, 2))
        (made,) = session.run(None, {entry: given})
        match interface:
            case "rgb":
                return np.asarray(made, np.uint8)
            case "bgr":
                return np.ascontiguousarray(made[..., ::-1])
            case "float":
                levels = np.rint(made * np.float32(127.5) + np.float32(127.5)).clip(0, 255)
                return np.ascontiguousarray(levels.transpose(0, 2, 3, 1).astype(np.uint8))

    return run
