"""ONNX Runtime, the default on any machine: CPU here, CUDA where the installed build has it."""

import os

import numpy as np
import numpy.typing as npt
import onnxruntime

from cyclegan_edge.bundle import Bundle, Precision
from cyclegan_edge.errors import BundleError, EngineError, first_line

_PREFERRED = ("CUDAExecutionProvider", "CPUExecutionProvider")  # the TensorRT provider would build an engine unasked


class OrtBackend:
    """Runs the ONNX graph of a bundle; see `Backend` for shapes and dtypes."""

    def __init__(self, bundle: Bundle, *, precision: Precision = "fp32", threads: int | None = None) -> None:
        """Open the graph of `precision` on `threads` CPU threads (default: every core this process may use).

        Raises BundleError when the bundle has no such graph or it is damaged, EngineError when the runtime refuses it.
        """
        artifact = bundle.artifact("onnx", precision)
        if artifact is None:
            raise BundleError(f"{bundle.folder} holds no {precision} ONNX graph; export the model again.")
        path = bundle.path(artifact)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only: warnings about the graph are not the user's
        options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
        providers = [name for name in _PREFERRED if name in onnxruntime.get_available_providers()]
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise EngineError(
                f"ONNX Runtime {onnxruntime.__version__} refuses {path} ({first_line(error)})."
            ) from error
        chosen = self._session.get_providers()[0]
        self.name = f"onnxruntime {onnxruntime.__version__} {precision}"
        self.device = "CUDA" if chosen.startswith("CUDA") else f"CPU, {options.intra_op_num_threads} threads"

    def run(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """uint8 (N, H, W, 3) RGB -> the same shape, translated."""
        try:
            (translated,) = self._session.run(["translated"], {"image": images})
        except Exception as error:
            raise EngineError(
                f"ONNX Runtime could not translate a batch of shape {images.shape} ({first_line(error)})."
            ) from error
        return np.asarray(translated, dtype=np.uint8)
