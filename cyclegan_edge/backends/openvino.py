"""OpenVINO, the faster engine on most Intel CPUs."""

import os
import threading

import numpy as np
import openvino

from cyclegan_edge.backends.base import as_batch
from cyclegan_edge.backends.onnx_graph import check_graph
from cyclegan_edge.bundle import Bundle
from cyclegan_edge.contract import IMAGE, TRANSLATED, Batch, Precision
from cyclegan_edge.errors import BundleError, EngineError
from cyclegan_edge.geometry import check_batch


class OpenvinoBackend:
    """Runs the ONNX graph of a bundle on the CPU; see `Backend` for shapes and dtypes. Threads take turns."""

    def __init__(self, bundle: Bundle, *, precision: Precision = "fp32", threads: int | None = None) -> None:
        """Compile the graph of `precision` for `threads` CPU threads (default: every core this process may use).

        bf16 is the float32 graph computed in bfloat16, twice as fast on CPUs that have it and about 45 dB from float32.
        int8 leaves some layers in float, and those are bfloat16 on such a CPU: a quarter to a half faster, 0.1 dB less.
        fp16 is computed in float16 where the CPU does that itself, as newer ARMs do, and else in float32.

        Raises BundleError when the bundle has no such graph or it is damaged, EngineError when OpenVINO refuses it or
        this CPU has no bfloat16.
        """
        stored: Precision = "fp32" if precision == "bf16" else precision
        artifact = bundle.artifact("onnx", stored)
        if artifact is None:
            raise BundleError(f"{bundle.folder} holds no {stored} ONNX graph; export the model again.")
        path = bundle.path(artifact)
        core = openvino.Core()
        native = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and "BF16" not in native:
            raise EngineError("OpenVINO finds no bfloat16 in this CPU, where it would only be slower; use fp32.")
        threads = threads or len(os.sched_getaffinity(0))
        hint = "f32"  # its own choice is bfloat16 on newer CPUs, float16 on ARM: other pixels
        if precision in ("bf16", "int8") and "BF16" in native:
            hint = "bf16"
        elif precision == "fp16" and "FP16" in native:
            hint = "f16"
        config = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": hint,
            "PERFORMANCE_HINT": "LATENCY",
        }
        version = openvino.__version__.split("-")[0]
        check_graph(path)
        try:
            self._model = core.compile_model(path, "CPU", config)
        except Exception as error:  # openvino raises bare RuntimeErrors
            raise EngineError(f"OpenVINO {version} refuses {path} ({_last_line(error)}).") from error
        self._lock = threading.Lock()
        self._multiple = bundle.manifest.multiple
        self.name = f"openvino {version} {precision}"
        self.device = f"CPU, {threads} threads"

    def run(self, images: Batch) -> Batch:
        """uint8 (N, H, W, 3) RGB -> the same shape, translated."""
        check_batch(images, self._multiple)
        try:
            with self._lock:  # one request, whose buffers the next call writes over
                translated = np.array(self._model({IMAGE: images})[TRANSLATED])
        except Exception as error:
            raise EngineError(
                f"OpenVINO could not translate a batch of shape {images.shape} ({_last_line(error)})."
            ) from error
        return as_batch(translated, images, self.name)


def _last_line(error: Exception) -> str:  # above it stand source files of OpenVINO
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
