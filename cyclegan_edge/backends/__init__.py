"""Engines that run an exported generator, behind one protocol.

`open_backend` opens exactly the engine it is asked for, or refuses. Asked for "auto", it takes the fastest that runs
here, and says in a sentence each what it passed over and why; not of engines for hardware that is not there.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, get_args

from cyclegan_edge.backends.base import INSTALL, Backend, EngineName, format_of
from cyclegan_edge.bundle import Bundle
from cyclegan_edge.contract import Precision
from cyclegan_edge.errors import BundleError, ConfigError, EngineError

_MODULES: dict[EngineName, str] = {"onnx-tensorrt": "onnxruntime", "onnx-cuda": "onnxruntime"}

_GPU: tuple[Precision, ...] = ("fp16", "fp32")
_CPU: tuple[Precision, ...] = ("fp32", "fp16")

# Engine and precisions, the preferred first. CPUs at float32, 256 px, Zen 4, two threads: ncnn 293 ms, OpenVINO 486,
# ONNX Runtime 520; bfloat16 is never chosen unasked. onnx-tensorrt is not here: it would build an engine, for minutes,
# at every new size of picture.
_FASTEST_FIRST: dict[EngineName, tuple[Precision, ...]] = {
    "tensorrt": _GPU,
    "tensorrt-rtx": _GPU,
    "onnx-cuda": _GPU,
    "ncnn": _CPU,
    "openvino": (*_CPU, "bf16"),
    "onnxruntime": _CPU,
}
ENGINES = tuple(_FASTEST_FIRST)
MAX_THREADS = 1024

_NVIDIA: frozenset[EngineName] = frozenset({"tensorrt", "tensorrt-rtx", "onnx-cuda"})
_NVIDIA_DEVICES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/nvgpu", "/dev/nvhost-gpu", "/dev/dxg")  # PC, Jetson, WSL


class Opened(NamedTuple):
    """What `open_backend` opened, and what there is to say of it."""

    backend: Backend
    remarks: tuple[str, ...]  # a sentence each: what "auto" did not take and why, what had to be built to open it


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

    Raises ConfigError for other values, EngineError when the engine is missing or refuses the model, BundleError when
    the bundle lacks what it needs.
    """
    if precision is not None and precision not in get_args(Precision):
        raise ConfigError(f"precision is {precision!r}, expected one of {', '.join(map(repr, get_args(Precision)))}.")
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise ConfigError(f"threads is {threads}, expected 1 to {MAX_THREADS}.")
    if engine == "auto":
        return _open_fastest(bundle, precision, threads)
    if engine in INSTALL:
        _require(engine)
    return _open(bundle, engine, precision, threads)


def _open(bundle: Bundle, engine: EngineName, precision: Precision | None, threads: int | None) -> Opened:
    match engine:
        case "tensorrt" | "tensorrt-rtx":
            from cyclegan_edge.backends.tensorrt.library import EDITIONS
            from cyclegan_edge.backends.tensorrt.run import TensorrtBackend

            best = precision or _held(bundle, engine, _GPU) or "fp16"
            tensorrt = TensorrtBackend(bundle, precision=best, edition=EDITIONS[engine])
            return Opened(tensorrt, (tensorrt.note,) if tensorrt.note else ())
        case "onnx-tensorrt" | "onnx-cuda":
            from cyclegan_edge.backends.onnxruntime import OnnxRuntimeBackend

            best = precision or _held(bundle, engine, _GPU) or "fp32"
            provider = engine.removeprefix("onnx-")
            return Opened(OnnxRuntimeBackend(bundle, precision=best, threads=threads, provider=provider), ())
        case "ncnn":
            from cyclegan_edge.backends.ncnn import NcnnBackend

            return Opened(NcnnBackend(bundle, precision=precision or "fp32", threads=threads), ())
        case "openvino":
            from cyclegan_edge.backends.openvino import OpenvinoBackend

            return Opened(OpenvinoBackend(bundle, precision=precision or "fp32", threads=threads), ())
        case "onnxruntime":
            from cyclegan_edge.backends.onnxruntime import OnnxRuntimeBackend

            return Opened(OnnxRuntimeBackend(bundle, precision=precision or "fp32", threads=threads), ())
    names = ", ".join(map(repr, ("auto", *ENGINES, "onnx-tensorrt")))
    raise ConfigError(f"engine is {engine!r}, expected one of {names}.")


def _open_fastest(bundle: Bundle, precision: Precision | None, threads: int | None) -> Opened:
    """Try one after the other, passing over what is missing, damaged, or not for this machine."""
    passed_over: dict[EngineName, str] = {}
    without = frozenset() if _has_nvidia() else _NVIDIA  # nobody misses these, unless the bundle holds an engine
    for engine, precisions in _FASTEST_FIRST.items():
        suitable = [it for it in precisions if it == precision or (precision is None and it != "bf16")]
        held = _held(bundle, engine, suitable)
        if held is None:
            if suitable and engine not in without:
                nothing = f"{bundle.folder} holds nothing for it in {' or '.join(suitable)}"
                passed_over[engine] = f"{nothing}; `{_command_for(bundle, engine)}` adds it."
            continue
        try:
            backend, remarks = open_backend(bundle, engine=engine, precision=held, threads=threads)
        except (BundleError, EngineError) as error:
            if engine not in without or format_of(engine) != "onnx":
                passed_over[engine] = str(error)
        else:
            skipped = [f"{name} was passed over: {reason}" for name, reason in passed_over.items()]
            return Opened(backend, (*skipped, *remarks))
    wanted = f" at {precision}" if precision else ""
    *_, (last, reason) = passed_over.items()
    raise EngineError(f"No engine runs {bundle.folder} here{wanted}; the last, {last}, was passed over: {reason}")


def _has_nvidia() -> bool:
    """Whether a GPU of NVIDIA can be in this machine."""
    return sys.platform != "linux" or any(Path(device).exists() for device in _NVIDIA_DEVICES)


def _held(bundle: Bundle, engine: EngineName, precisions: Sequence[Precision]) -> Precision | None:
    """The first of `precisions` at which `engine` finds something of its own in the bundle."""
    stored: dict[Precision, Precision] = {"bf16": "fp32"} if engine == "openvino" else {}  # it converts by itself
    return next((it for it in precisions if bundle.artifact(format_of(engine), stored.get(it, it))), None)


def _command_for(bundle: Bundle, engine: EngineName) -> str:
    match engine:
        case "tensorrt" | "tensorrt-rtx":
            return f"cyclegan-edge export {bundle.folder} --fp16"
        case "ncnn":
            return f"cyclegan-edge export {bundle.folder} --ncnn"
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
