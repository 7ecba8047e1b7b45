"""ONNX: one file that takes and gives pictures as they are.

    image       uint8 (N, H, W, 3) RGB      N, H, W dynamic, H and W multiples of 4, or of what a U-Net needs
    translated  uint8 (N, H, W, 3) RGB      the same shape

Normalisation to -1..1, the layout, tanh back to 0..255 and rounding are nodes of the graph, so no caller can get them
wrong. TensorRT takes uint8 only into or out of a Cast, so those two touch nothing else. Opset 18 is what TensorRT 10.3
and all later parsers read.

For pipelines that bring or want something else there are other interfaces:

    bgr     image, translated   uint8 (N, H, W, 3) BGR                 as OpenCV has it
    float   input, output       float32 (N, 3, H, W) RGB in -1..1      the network alone

Half precision is for the convolutions. InstanceNorm divides by a deviation that it sums over the whole picture; in
float16 that sum overflows or loses its digits (black or NaN pictures). So each norm gets float32 through an explicit
cast, which is also how a strongly typed TensorRT network is told what to compute in which precision.
"""

import copy
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from cyclegan_edge.bounds import Pair, pairs_of
from cyclegan_edge.bundle import Artifact, Bundle
from cyclegan_edge.contract import MIN_SIDE, MULTIPLE, TENSORS, GraphPrecision, Interface
from cyclegan_edge.errors import ConfigError, ExportError, first_line
from cyclegan_edge.export.config import ExportConfig
from cyclegan_edge.export.formats import Target
from cyclegan_edge.files import atomic_file, sha256
from cyclegan_edge.geometry import MAX_PIXELS
from cyclegan_edge.preprocess import resize
from cyclegan_edge.train.evaluate.picture_generator import PictureGenerator, translate_with

OPSET = 18
GENERATOR = "generator."  # of the name of each of its weights in a graph, before that of the state dict


@dataclass(frozen=True, slots=True)
class Graph:
    """Which of the graphs of a generator."""

    precision: GraphPrecision
    interface: Interface = "rgb"
    fixed: tuple[int, int, int] | None = None  # the only (N, H, W) it takes, constants in it; None: any

    @property
    def file(self) -> str:
        """Its name in a bundle."""
        interface = "" if self.interface == "rgb" else f"-{self.interface}"
        return f"generator-{self.precision}{interface}{f'-{self.fixed[2]}x{self.fixed[1]}' if self.fixed else ''}.onnx"


def wanted_graphs(config: ExportConfig) -> list[Graph]:
    """What `config` asks for: those that our own engines run, then each interface in each of its precisions."""
    graphs = [Graph(precision) for precision in config.precisions]
    for precision in config.precisions:
        graphs += [Graph(precision, "bgr")] if config.bgr else []
        graphs += [Graph(precision, "float")] if config.float_io else []
        graphs += [Graph(precision, fixed=(1, *config.fixed))] if config.fixed else []
    return graphs


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


def graph_target(generator: nn.Module, graph: Graph, pairs: Sequence[Pair]) -> Target:
    """The ONNX file of `graph`. One of a constant size is compared on the pictures of `pairs` in that size."""

    def make(bundle: Bundle, folder: Path) -> Artifact:
        write_onnx(generator, folder / graph.file, graph, multiple=bundle.manifest.multiple)
        return Artifact(
            file=graph.file,
            format="onnx",
            precision=graph.precision,
            sha256=sha256(folder / graph.file),
            interface=graph.interface,
            fixed=graph.fixed,
        )

    if graph.fixed:
        pairs = pairs_of(translate_with(generator), [resize(picture, graph.fixed[1:]) for picture, _ in pairs])
    return Target(file=graph.file, precision=graph.precision, make=make, pairs=pairs, required=graph == Graph("fp32"))


class BgrGenerator(PictureGenerator):
    """uint8 (N, H, W, 3) BGR in and out; the channels are swapped behind the cast, as engines want it."""

    def translated(self, x: Tensor) -> Tensor:
        """float32 (N, 3, H, W) BGR in -1..1 -> the same, translated."""
        order = torch.tensor([2, 1, 0])
        return super().translated(x.index_select(1, order)).index_select(1, order)  # one Gather each


class FloatGenerator(PictureGenerator):
    """float32 (N, 3, H, W) RGB in -1..1 in and out, whatever the generator computes in."""

    def forward(self, x: Tensor) -> Tensor:
        """The generator, and nothing of what is done to pictures."""
        return self.translated(x)


_MODULES: dict[Interface, type[PictureGenerator]] = {
    "rgb": PictureGenerator,
    "bgr": BgrGenerator,
    "float": FloatGenerator,
}


def picture_generator(
    generator: nn.Module, precision: GraphPrecision, interface: Interface = "rgb"
) -> PictureGenerator:
    """The module whose graph `write_onnx` writes; the original generator is left as it is."""
    generator = without_dead_biases(generator)
    around = _MODULES[interface]
    if precision == "fp16":
        return around(half_convolutions(generator), torch.float16).eval()
    return around(generator).eval()


def write_onnx(generator: nn.Module, path: Path, graph: Graph = Graph("fp32"), *, multiple: int = MULTIPLE) -> None:
    """Trace `generator` and write `path` atomically. Raises ExportError when torch or ONNX refuses the graph.

    multiple   px, what H and W are multiples of
    """
    module = picture_generator(generator, graph.precision, graph.interface)
    example, dynamic = _example(graph, multiple)
    entry, result = TENSORS[graph.interface]
    onnxscript_log = logging.getLogger("onnxscript")
    level = onnxscript_log.level
    try:
        onnxscript_log.setLevel(logging.ERROR)  # it reports every constant it folds
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside the exporter, which its user cannot act on
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[entry],
                output_names=[result],
                dynamic_shapes=None if graph.fixed else (dynamic,),
                verbose=False,
            )
    except Exception as error:  # the exporter raises many kinds; each means the same here
        raise ExportError(f"torch {torch.__version__} could not export the generator ({first_line(error)}).") from error
    finally:
        onnxscript_log.setLevel(level)
    if program is None:
        raise ExportError(f"torch {torch.__version__} exported nothing; use torch 2.6 or later.")
    model = _without_traces(program.model_proto)
    onnx.checker.check_model(model, full_check=True)
    with atomic_file(path) as partial:
        onnx.save_model(model, partial)


def _example(graph: Graph, multiple: int) -> tuple[Tensor, dict[int, str]]:
    """What to trace with, and which of its dimensions are dynamic."""
    side = max(64 // multiple, 2) * multiple  # N, H, W differ from 1 and from each other, also where they are
    batch, height, width = graph.fixed or (2, side, side + 2 * multiple)  # smallest, so none is a constant
    if graph.interface == "float":
        return torch.zeros(batch, 3, height, width), {0: "batch", 2: "height", 3: "width"}
    image = torch.zeros(batch, height, width, 3, dtype=torch.uint8)
    return image, {0: "batch", 1: "height", 2: "width"}


class Float32InstanceNorm(nn.Module):
    """(N, C, h, w) float16 -> the same, with statistics and arithmetic in float32."""

    def __init__(self, norm: nn.InstanceNorm2d) -> None:
        super().__init__()
        self.norm = norm.float()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.float()).to(x.dtype)  # type: ignore[no-any-return]


class Float32Tanh(nn.Module):
    """(N, C, H, W) float16 -> float32: float16 has too few steps near 1, where white lies."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float().tanh()


def half_convolutions(generator: nn.Module) -> nn.Module:
    """A copy of `generator` that takes float16 and gives float32; the original is left as it is."""
    module = copy.deepcopy(generator).half()
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.InstanceNorm2d):
                setattr(parent, name, Float32InstanceNorm(child))
            elif isinstance(child, nn.Tanh):
                setattr(parent, name, Float32Tanh())
    return module


def without_dead_biases(generator: nn.Module) -> nn.Module:
    """A copy whose convolutions have no bias where an InstanceNorm follows, which subtracts it again.

    Layers follow each other as they were registered, which in every generator here is how they are called.
    """
    copied = copy.deepcopy(generator)
    layers = [layer for layer in copied.modules() if next(layer.children(), None) is None]
    for layer, following in pairwise(layers):
        normed = isinstance(following, nn.InstanceNorm2d) and not following.track_running_stats
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and normed:
            layer.bias = None
    return copied


def _without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop the stack traces and source paths that the exporter leaves on every node."""
    for item in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        if hasattr(item, "metadata_props"):
            del item.metadata_props[:]
        item.doc_string = ""
    for value in (*model.graph.input, *model.graph.output):
        del value.metadata_props[:]
        value.doc_string = ""
    for function in model.functions:
        del function.metadata_props[:]
    return model
