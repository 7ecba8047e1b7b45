"""A generator becomes one ONNX file that takes and gives pictures as they are.

    image       uint8 (N, H, W, 3) RGB      N, H, W dynamic, H and W multiples of 4, or of what a U-Net needs
    translated  uint8 (N, H, W, 3) RGB      the same shape

Normalisation to -1..1, the layout, tanh back to 0..255 and rounding are nodes of the graph, so no caller can get them
wrong. TensorRT takes uint8 only into or out of a Cast, so those two touch nothing else. Opset 18 is what TensorRT 10.3
and all later parsers read.

For pipelines that bring or want something else there are other interfaces:

    bgr     image, translated   uint8 (N, H, W, 3) BGR                 as OpenCV has it
    float   input, output       float32 (N, 3, H, W) RGB in -1..1      the network alone
"""

import copy
import logging
import warnings
from itertools import pairwise
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from cyclegan_edge.contract import MULTIPLE, TENSORS, GraphPrecision, Interface
from cyclegan_edge.errors import ExportError, first_line
from cyclegan_edge.export.precision import half_convolutions
from cyclegan_edge.export.verify import Run
from cyclegan_edge.files import atomic_file
from cyclegan_edge.train.evaluate.picture_generator import PictureGenerator, translate_with

OPSET = 18


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
    generator = _without_dead_biases(generator)
    around = _MODULES[interface]
    if precision == "fp16":
        return around(half_convolutions(generator), torch.float16).eval()
    return around(generator).eval()


def reference(generator: nn.Module) -> Run:
    """What every graph is compared with: the float32 generator in PyTorch, uint8 in and out."""
    return translate_with(generator)


def write_onnx(
    generator: nn.Module,
    path: Path,
    *,
    precision: GraphPrecision = "fp32",
    multiple: int = MULTIPLE,
    interface: Interface = "rgb",
    fixed: tuple[int, int, int] | None = None,
) -> None:
    """Trace `generator` and write `path` atomically. Raises ExportError when torch or ONNX refuses the graph.

    multiple   px, what H and W are multiples of
    fixed      the only (N, H, W) of the graph, constants in it; None: any
    """
    module = picture_generator(generator, precision, interface)
    example, dynamic = _example(interface, multiple, fixed)
    entry, result = TENSORS[interface]
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
                dynamic_shapes=None if fixed else (dynamic,),
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


def _example(interface: Interface, multiple: int, fixed: tuple[int, int, int] | None) -> tuple[Tensor, dict[int, str]]:
    """What to trace with, and which of its dimensions are dynamic."""
    side = max(64 // multiple, 2) * multiple  # N, H, W differ from 1 and from each other, also where they are
    batch, height, width = fixed or (2, side, side + 2 * multiple)  # smallest, so none is a constant
    if interface == "float":
        return torch.zeros(batch, 3, height, width), {0: "batch", 2: "height", 3: "width"}
    image = torch.zeros(batch, height, width, 3, dtype=torch.uint8)
    return image, {0: "batch", 1: "height", 2: "width"}


def _without_dead_biases(generator: nn.Module) -> nn.Module:
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
