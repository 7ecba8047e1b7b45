"""A generator becomes one ONNX file that takes and gives pictures as they are.

    image       uint8 (N, H, W, 3) RGB      N, H, W dynamic, H and W multiples of 4
    translated  uint8 (N, H, W, 3) RGB      the same shape

Normalisation to -1..1, the layout, tanh back to 0..255 and rounding are nodes of the graph, so no caller can get them
wrong. TensorRT takes uint8 only into or out of a Cast, so those two touch nothing else. Opset 18 is what TensorRT 10.3
and all later parsers read.
"""

import logging
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from cyclegan_edge.bundle import Precision
from cyclegan_edge.errors import ExportError, first_line
from cyclegan_edge.export.precision import half_convolutions
from cyclegan_edge.export.verify import Run
from cyclegan_edge.files import atomic_file

OPSET = 18
_TRACED = (2, 64, 72)  # N, H, W while tracing: all different from 1 and from each other, so none becomes a constant


class PictureGenerator(nn.Module):
    """uint8 (N, H, W, 3) RGB in and out around a generator of (N, 3, H, W) in -1..1."""

    def __init__(self, generator: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.generator = generator
        self.dtype = dtype  # that the generator takes

    def forward(self, image: Tensor) -> Tensor:
        """The arithmetic of ToTensor and Normalize(0.5, 0.5), the generator, and the way back with rounding."""
        x = (image.float().permute(0, 3, 1, 2) / 255.0 - 0.5) / 0.5
        y: Tensor = self.generator(x.to(self.dtype)).float()
        return (y * 127.5 + 127.5).round().clamp(0.0, 255.0).permute(0, 2, 3, 1).to(torch.uint8)


def picture_generator(generator: nn.Module, precision: Precision) -> PictureGenerator:
    """The module whose graph `write_onnx` writes; the original generator is left as it is."""
    if precision != "fp32":
        dtype = torch.float16 if precision == "fp16" else torch.bfloat16
        return PictureGenerator(half_convolutions(generator, dtype), dtype).eval()
    return PictureGenerator(generator).eval()


def reference(generator: nn.Module) -> Run:
    """What every graph is compared with: the float32 generator in PyTorch, uint8 in and out."""
    module = picture_generator(generator, "fp32")

    def run(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        with torch.inference_mode():
            translated: npt.NDArray[np.uint8] = module(torch.from_numpy(images)).numpy()
        return translated

    return run


def write_onnx(generator: nn.Module, path: Path, *, precision: Precision = "fp32") -> None:
    """Trace `generator` and write `path` atomically. Raises ExportError when torch or ONNX refuses the graph."""
    module = picture_generator(generator, precision)
    example = torch.zeros(*_TRACED, 3, dtype=torch.uint8)
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
                input_names=["image"],
                output_names=["translated"],
                dynamic_shapes=({0: "batch", 1: "height", 2: "width"},),
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
