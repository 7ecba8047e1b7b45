"""Engines that run an exported generator, behind one protocol.

`open_backend` opens exactly the engine it is asked for, or refuses. Asked for "auto", it takes TensorRT when the bundle
holds a plan that this device runs, else ONNX Runtime, and says in a sentence each what it passed over and why.
"""

from importlib import import_module
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from cyclegan_edge.bundle import Bundle, Precision
from cyclegan_edge.errors import ConfigError, EngineError

EngineName = Literal["auto", "tensorrt", "onnxruntime", "openvino"]

INSTALL = {  # engine, which is also the name of its module: the command that adds it; TensorRT's depends on the machine
    "onnxruntime": "pip install onnxruntime",
    "openvino": "pip install 'cyclegan-edge[openvino]'",
}


class Backend(Protocol):
    """One loaded generator.

    `run` takes and gives uint8 (N, H, W, 3) RGB arrays of the same shape; H and W are multiples of the manifest's.
    It raises EngineError for a shape that the engine was not built for.
    """

    name: str  # "onnxruntime 1.32.0 fp32"
    device: str  # where it runs: "CPU, 2 threads", "NVIDIA Orin"

    def run(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]: ...


class Opened(NamedTuple):
    """What `open_backend` opened, and why it is nothing faster."""

    backend: Backend
    passed_over: tuple[str, ...]  # a sentence per engine that "auto" did not take


def open_backend(
    bundle: Bundle, *, engine: EngineName = "auto", precision: Precision | None = None, threads: int | None = None
) -> Opened:
    """Open `bundle` with `engine`.

    precision   None: fp16 for TensorRT where the bundle has it, fp32 for the CPU engines
    threads     of a CPU engine; None: every core this process may use

    Raises EngineError when the engine is missing or refuses the model, BundleError when the bundle lacks what it needs.
    """
    match engine:
        case "auto":
            return _open_fastest(bundle, precision, threads)
        case "tensorrt":
            from cyclegan_edge.backends.trt import TrtBackend

            best: Precision = "fp16" if bundle.artifact("tensorrt", "fp16") else "fp32"
            return Opened(TrtBackend(bundle, precision=precision or best), ())
        case "onnxruntime":
            _require("onnxruntime")
            from cyclegan_edge.backends.ort import OrtBackend

            return Opened(OrtBackend(bundle, precision=precision or "fp32", threads=threads), ())
        case "openvino":
            _require("openvino")
            from cyclegan_edge.backends.vino import VinoBackend

            return Opened(VinoBackend(bundle, precision=precision or "fp32", threads=threads), ())
    raise ConfigError(f"engine is {engine!r}, expected 'auto', 'tensorrt', 'onnxruntime' or 'openvino'.")


def _open_fastest(bundle: Bundle, precision: Precision | None, threads: int | None) -> Opened:
    plans = (artifact for artifact in bundle.manifest.artifacts if artifact.format == "tensorrt")
    if not any(precision in {None, plan.precision} for plan in plans):
        reason = f"{bundle.folder} holds no engine for it; `cyclegan-edge export --fp16` on this device builds one."
    else:
        try:
            return open_backend(bundle, engine="tensorrt", precision=precision)
        except EngineError as error:  # not installed, or built for another device; a damaged bundle is an error
            reason = str(error)
    backend, _ = open_backend(bundle, engine="onnxruntime", precision=precision, threads=threads)
    return Opened(backend, (f"TensorRT was passed over: {reason}",))


def _require(engine: Literal["onnxruntime", "openvino"]) -> None:
    try:
        import_module(engine)
    except ModuleNotFoundError as error:
        raise EngineError(f"The engine {engine} is not installed; add it with `{INSTALL[engine]}`.") from error
    except ImportError as error:
        raise EngineError(
            f"The engine {engine} does not load ({error}); repair it with `{INSTALL[engine]}`."
        ) from error
