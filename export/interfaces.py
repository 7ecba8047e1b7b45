"""A graph of any interface, run on uint8 RGB pictures like all others, to be compared with them.

ONNX Runtime on the CPU has no bfloat16 convolutions, so of a bfloat16 graph it runs the float32 operations that round
the same way (`cyclegan_edge.export.bfloat16`); a GPU was not asked. Needs no torch, and onnx for bfloat16 only.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from cyclegan_edge.bundle import Artifact, Interface, Precision
from cyclegan_edge.errors import EngineError, ExportError, first_line
from cyclegan_edge.export.verify import Run


def is_special(artifact: Artifact) -> bool:
    """Whether it is a graph that no engine of this package runs: of another interface, of one size, in bfloat16."""
    graph = artifact.format == "onnx"
    return graph and (artifact.interface != "rgb" or artifact.fixed is not None or artifact.precision == "bf16")


def as_rgb(path: Path, *, precision: Precision = "fp32", interface: Interface = "rgb") -> Run:
    """The graph `path` as a function of uint8 (N, H, W, 3) RGB pictures.

    Raises ExportError when ONNX Runtime refuses the graph, EngineError when a bfloat16 one needs the package onnx.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    graph: str | bytes = str(path)
    if precision == "bf16":
        graph = _stand_in(path)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # keep every rounding
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
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


def _stand_in(path: Path) -> bytes:
    try:
        import onnx

        from cyclegan_edge.export.bfloat16 import widened
    except ModuleNotFoundError as error:
        raise EngineError(
            "To compare a bfloat16 graph without a GPU that computes it, `pip install 'cyclegan-edge[export]'`."
        ) from error
    return bytes(widened(onnx.load(path)).SerializeToString())
