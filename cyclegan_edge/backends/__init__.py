"""Engines that run an exported generator, behind one protocol.

`open_backend` opens exactly the engine it is asked for, or refuses. Asked for "auto", it takes the fastest that runs
here, and says in a sentence each what it passed over and why.
"""

from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from cyclegan_edge.bundle import Bundle, Format
from cyclegan_edge.contract import Precision
from cyclegan_edge.errors import ConfigError, EngineError

EngineName = Literal["auto", "tensorrt", "onnx-tensorrt", "onnx-cuda", "ncnn", "openvino", "onnxruntime"]

_GPU_BUILD = "pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'"
INSTALL: dict[EngineName, str] = {  # engine: the command that adds it; TensorRT's depends on the machine
    "onnx-tensorrt": _GPU_BUILD,
    "onnx-cuda": _GPU_BUILD,
    "ncnn": "pip install 'cyclegan-edge[ncnn]'",
    "openvino": "pip install 'cyclegan-edge[openvino]'",
    "onnxruntime": "pip install onnxruntime",
}
_MODULES: dict[EngineName, str] = {"onnx-tensorrt": "onnxruntime", "onnx-cuda": "onnxruntime"}
_FORMATS: dict[EngineName, Format] = {"tensorrt": "tensorrt", "ncnn": "ncnn"}  # the others read onnx

_GPU: tuple[Precision, ...] = ("fp16", "fp32")
_CPU: tuple[Precision, ...] = ("fp32", "fp16")

# Engine and precisions, the preferred first. CPUs at float32, 256 px, Zen 4, two threads: ncnn 293 ms, OpenVINO 486,
# ONNX Runtime 520; bfloat16 is never chosen unasked. onnx-tensorrt is not here: it would build an engine, for minutes,
# at every new size of picture.
_FASTEST_FIRST: tuple[tuple[EngineName, tuple[Precision, ...]], ...] = (
    ("tensorrt", _GPU),
    ("onnx-cuda", _GPU),
    ("ncnn", _CPU),
    ("openvino", (*_CPU, "bf16")),
    ("onnxruntime", _CPU),
)
ENGINES = tuple(dict.fromkeys(engine for engine, _ in _FASTEST_FIRST))


class Backend(Protocol):
    """One loaded generator.

    `run` takes and gives uint8 (N, H, W, 3) RGB arrays of the same shape; H and W are multiples of the manifest's.
    It raises EngineError for a shape that the engine was not built for.
    """

    name: str  # "onnxruntime 1.32.0 fp32"
    device: str  # where it runs: "CPU, 2 threads", "NVIDIA Orin"

    def run(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]: ...


@runtime_checkable
class Pipelined(Backend, Protocol):
    """A backend that is quicker with several batches on their way than with one after the other."""

    def run_many(self, batches: Iterable[npt.NDArray[np.uint8]]) -> Iterator[npt.NDArray[np.uint8]]: ...


def run_many(backend: Backend, batches: Iterable[npt.NDArray[np.uint8]]) -> Iterator[npt.NDArray[np.uint8]]:
    """What `backend.run` gives for each of `batches`, in order, several of them at once where the backend can do that.

    It may read a few batches ahead. An error of a batch comes after the results of those before it.
    """
    return backend.run_many(batches) if isinstance(backend, Pipelined) else map(backend.run, batches)


class Opened(NamedTuple):
    """What `open_backend` opened, and why it is nothing faster."""

    backend: Backend
    passed_over: tuple[str, ...]  # a sentence per engine that "auto" did not take


def open_backend(
    bundle: Bundle,
    *,
    engine: EngineName = "auto",
    precision: Precision | None = None,
    threads: int | None = None,
) -> Opened:
    """Open `bundle` with `engine`.

    precision   None: fp16 on a GPU where the bundle has it, fp32 on the CPU
    threads     of a CPU engine; None: every core this process may use

    Raises EngineError when the engine is missing or refuses the model, BundleError when the bundle lacks what it needs.
    """
    if engine in INSTALL:
        _require(engine)
    match engine:
        case "auto":
            return _open_fastest(bundle, precision, threads)
        case "tensorrt":
            from cyclegan_edge.backends.trt import TrtBackend

            best = precision or _on_gpu(bundle, engine)
            return Opened(TrtBackend(bundle, precision=best), ())
        case "onnx-tensorrt" | "onnx-cuda":
            from cyclegan_edge.backends.ort import OrtBackend

            on: Literal["tensorrt", "cuda"] = "cuda" if engine == "onnx-cuda" else "tensorrt"
            best = precision or _on_gpu(bundle, engine)
            return Opened(OrtBackend(bundle, precision=best, threads=threads, provider=on), ())
        case "ncnn":
            from cyclegan_edge.backends.nc import NcnnBackend

            return Opened(NcnnBackend(bundle, precision=precision or "fp32", threads=threads), ())
        case "openvino":
            from cyclegan_edge.backends.vino import VinoBackend

            return Opened(VinoBackend(bundle, precision=precision or "fp32", threads=threads), ())
        case "onnxruntime":
            from cyclegan_edge.backends.ort import OrtBackend

            return Opened(OrtBackend(bundle, precision=precision or "fp32", threads=threads), ())
    names = ", ".join(repr(name) for name in ("auto", "tensorrt", *INSTALL))
    raise ConfigError(f"engine is {engine!r}, expected one of {names}.")


def format_of(engine: EngineName) -> Format:
    """What `engine` reads."""
    return _FORMATS.get(engine, "onnx")


def _open_fastest(bundle: Bundle, precision: Precision | None, threads: int | None) -> Opened:
    """Try one after the other. What is not there or not for this machine is passed over; a damaged file is an error."""
    passed_over: dict[EngineName, str] = {}
    for engine, precisions in _FASTEST_FIRST:
        able = [it for it in precisions if it == precision or (precision is None and it != "bf16")]
        held = _held(bundle, engine, able)
        if held is None:
            if able:
                where = " on a GPU" if precisions[0] == "fp16" else ""
                nothing = f"{bundle.folder} holds nothing for it in {' or '.join(able)}"
                passed_over.setdefault(engine, f"{nothing}; `{_maker(bundle, engine)}`{where} adds it.")
            continue
        try:
            backend, _ = open_backend(bundle, engine=engine, precision=held, threads=threads)
        except EngineError as error:
            passed_over[engine] = str(error)
        else:
            return Opened(backend, tuple(f"{name} was passed over: {reason}" for name, reason in passed_over.items()))
    wanted = f" at {precision}" if precision else ""
    *_, (last, reason) = passed_over.items()
    raise EngineError(f"No engine runs {bundle.folder} here{wanted}; the last, {last}, was passed over: {reason}")


def _on_gpu(bundle: Bundle, engine: EngineName) -> Precision:
    return _held(bundle, engine, _GPU) or ("fp16" if engine == "tensorrt" else "fp32")


def _held(bundle: Bundle, engine: EngineName, precisions: Sequence[Precision]) -> Precision | None:
    """The first of `precisions` at which `engine` finds something of its own in the bundle."""
    stored: dict[Precision, Precision] = {"bf16": "fp32"} if engine == "openvino" else {}  # it converts by itself
    return next((it for it in precisions if bundle.artifact(format_of(engine), stored.get(it, it))), None)


def _maker(bundle: Bundle, engine: EngineName) -> str:
    match engine:
        case "tensorrt" | "ncnn":
            return f"cyclegan-edge export {bundle.folder} {'--ncnn' if engine == 'ncnn' else '--fp16'}"
    return "cyclegan-edge export RUN"


def _require(engine: EngineName) -> None:
    module = _MODULES.get(engine, engine)
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        raise EngineError(f"The engine {engine} is not installed; add it with `{INSTALL[engine]}`.") from error
    except ImportError as error:
        raise EngineError(
            f"The engine {engine} does not load ({error}); repair it with `{INSTALL[engine]}`."
        ) from error
