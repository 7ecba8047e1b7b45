"""A generator becomes one ONNX file that takes and gives pictures as they are.

    image       uint8 (N, H, W, 3) RGB      N, H, W dynamic, H and W multiples of 4, or of what a U-Net needs
    translated  uint8 (N, H, W, 3) RGB      the same shape

Normalisation to -1..1, the layout, tanh back to 0..255 and rounding are nodes of the graph, so no caller can get them
wrong. TensorRT takes uint8 only into or out of a Cast, so those two touch nothing else. Opset 18 is what TensorRT 10.3
and all later parsers read.
"""

import logging
import warnings
from pathlib import Path

import onnx
import torch
from torch import nn

from cyclegan_edge.bundle import MULTIPLE, Precision
from cyclegan_edge.errors import ExportError, first_line
from cyclegan_edge.export.precision import half_convolutions
from cyclegan_edge.export.verify import Run
from cyclegan_edge.files import atomic_file
from cyclegan_edge.train.pictures import PictureGenerator, translate_with

OPSET = 18


def picture_generator(generator: nn.Module, precision: Precision) -> PictureGenerator:
    """The module whose graph `write_onnx` writes; the original generator is left as it is."""
    if precision != "fp32":
        dtype = torch.float16 if precision == "fp16" else torch.bfloat16
        return PictureGenerator(half_convolutions(generator, dtype), dtype).eval()
    return PictureGenerator(generator).eval()


def reference(generator: nn.Module) -> Run:
    """What every graph is compared with: the float32 generator in PyTorch, uint8 in and out."""
    return translate_with(generator)


def write_onnx(generator: nn.Module, path: Path, *, precision: Precision = "fp32", multiple: int = MULTIPLE) -> None:
    """Trace `generator` and write `path` atomically. Raises ExportError when torch or ONNX refuses the graph.

    multiple   px, what H and W are multiples of
    """
    module = picture_generator(generator, precision)
    traced = max(64 // multiple, 2) * multiple  # N, H, W differ from 1 and from each other, also where they are
    example = torch.zeros(2, traced, traced + 2 * multiple, 3, dtype=torch.uint8)  # smallest, so none is a constant
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
