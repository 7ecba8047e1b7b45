"""A graph of any interface, run on uint8 RGB pictures like all others, to be compared with them.

Needs no torch.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from cyclegan_edge.bundle import Artifact
from cyclegan_edge.contract import Interface, to_levels, to_signal
from cyclegan_edge.errors import ExportError, first_line
from cyclegan_edge.export.verify import Run


def is_special(artifact: Artifact) -> bool:
    """Whether it is a graph that no engine of this package runs: of another interface or of one size."""
    return artifact.format == "onnx" and (artifact.interface != "rgb" or artifact.fixed is not None)


def as_rgb(path: Path, *, interface: Interface = "rgb") -> Run:
    """The graph `path` as a function of uint8 (N, H, W, 3) RGB pictures.

    Raises ExportError when ONNX Runtime refuses the graph.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
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
                given = np.ascontiguousarray(to_signal(images.astype(np.float32)).transpose(0, 3, 1, 2))
        (made,) = session.run(None, {entry: given})
        match interface:
            case "rgb":
                return np.asarray(made, np.uint8)
            case "bgr":
                return np.ascontiguousarray(made[..., ::-1])
            case "float":
                return np.ascontiguousarray(to_levels(made).transpose(0, 2, 3, 1).astype(np.uint8))

    return run
