"""Engines that run an exported generator, behind one protocol.

`open_backend` opens exactly the engine it is asked for, or refuses. Asked for "auto", it takes the fastest that runs
here: a GPU before the CPU, and of those for the CPU the one that was measured as the fastest (`choice.py`). It says in
a sentence each what it took and passed over and why; not of engines for hardware that is not there.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, get_args

from cyclegan_edge.backends.base import INSTALL, Backend, EngineName, format_of
from cyclegan_edge.backends.candidates import MODULES, Candidate, artifact_of, computes, is_gain, is_installed
from cyclegan_edge.bundle import Bundle
from cyclegan_edge.contract import Precision, WantedPrecision
from cyclegan_edge.errors import BundleError, ConfigError, EngineError

# For engine="auto", the preferred first. onnx-tensorrt is not here: it would build an engine, for minutes, at every new
# size of picture.
_ON_GPUS: tuple[EngineName, ...] = ("tensorrt", "tensorrt-rtx", "onnx-cuda")
_ON_CPUS: tuple[EngineName, ...] = ("ncnn", "openvino", "onnxruntime")
_GPU: tuple[Precision, ...] = ("fp16", "fp32")
_CPU: tuple[Precision, ...] = ("fp32", "fp16")
_INEXACT: tuple[Precision, ...] = ("bf16", "fp16", "int8")  # on a CPU, where any precision will do

ENGINES = (*_ON_GPUS, *_ON_CPUS)
MAX_THREADS = 1024

_NVIDIA_DEVICES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/nvgpu", "/dev/nvhost-gpu", "/dev/dxg")  # PC, Jetson, WSL


class Opened(NamedTuple):
    """What `open_backend` opened, and what there is to say of it."""

    backend: Backend
    remarks: tuple[str, ...]  # a sentence each: what "auto" took and why, what it did not, what had to be built


def open_backend(
    bundle: Bundle,
    *,
    engine: EngineName = "auto",
    precision: WantedPrecision | None = None,
    threads: int | None = None,
    size: int | None = None,
) -> Opened:
    """Open `bundle` with `engine`.

    precision   None: fp16 on a GPU where the bundle has it, fp32 on the CPU; "any": for engine="auto" on the CPU, also
                what is less exact and faster, within the bound of its precision
    threads     of a CPU engine; None: every core this process may use
    size        px, of the pictures that engine="auto" is to be fast for; None: what the model was trained on

    Raises ConfigError for other values, EngineError when the engine is missing or refuses the model, BundleError when
    the bundle lacks what it needs.
    """
    if precision is not None and precision not in get_args(WantedPrecision):
        known = ", ".join(map(repr, get_args(WantedPrecision)))
        raise ConfigError(f"precision is {precision!r}, expected one of {known}.")
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise ConfigError(f"threads is {threads}, expected 1 to {MAX_THREADS}.")
    if engine == "auto":
        return _open_fastest(bundle, precision, threads, size or bundle.manifest.size)
    if engine in INSTALL:
        _require(engine)
    return _open(bundle, engine, None if precision == "any" else precision, threads)


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


def _open_fastest(bundle: Bundle, wanted: WantedPrecision | None, threads: int | None, size: int) -> Opened:
    """Try one after the other, passing over what is missing, damaged, or not for this machine."""
    passed_over: dict[EngineName, str] = {}
    opened = _open_on_gpu(bundle, wanted, threads, passed_over) or _open_on_cpu(
        bundle, wanted, threads, size, passed_over
    )
    if opened is None:
        at = f" at {wanted}" if wanted not in (None, "any") else ""
        *_, (last, reason) = passed_over.items()
        raise EngineError(f"No engine runs {bundle.folder} here{at}; the last, {last}, was passed over: {reason}")
    skipped = (f"{name} was passed over: {reason}" for name, reason in passed_over.items())
    return Opened(opened.backend, (*skipped, *opened.remarks))


def _open_on_gpu(
    bundle: Bundle, wanted: WantedPrecision | None, threads: int | None, passed_over: dict[EngineName, str]
) -> Opened | None:
    has_nvidia = _has_nvidia()
    for engine in _ON_GPUS:
        suitable = [it for it in _GPU if wanted in (None, "any", it)]
        candidate = _first_held(bundle, engine, suitable)
        if candidate is None:
            if suitable and has_nvidia:
                passed_over[engine] = _nothing_for(bundle, engine, suitable)
            continue
        try:
            return open_backend(bundle, engine=engine, precision=candidate.precision, threads=threads)
        except (BundleError, EngineError) as error:
            if has_nvidia or format_of(engine) != "onnx":  # nobody misses it, unless the bundle holds an engine
                passed_over[engine] = str(error)
    return None


def _open_on_cpu(
    bundle: Bundle, wanted: WantedPrecision | None, threads: int | None, size: int, passed_over: dict[EngineName, str]
) -> Opened | None:
    from cyclegan_edge.backends.choice import choose, expectations, usually  # OpenCV, which --help does without

    def open_(candidate: Candidate) -> Backend:
        return open_backend(bundle, engine=candidate.engine, precision=candidate.precision, threads=threads).backend

    candidates, missing = _for_cpus(bundle, wanted)
    threads = threads or len(os.sched_getaffinity(0))
    ranked = choose(bundle, candidates, threads=threads, size=size, bounded=wanted == "any", open_=open_)
    failed = {candidate.engine: reason for candidate, reason in ranked.failed.items()}
    for candidate in ranked.order:
        try:
            backend = ranked.opened.get(candidate) or open_(candidate)
        except (BundleError, EngineError) as error:
            failed[candidate.engine] = str(error)
        else:
            expected = expectations(bundle)
            place = usually(candidate, expected)
            faster = [it for it in missing if usually(Candidate(it, "fp32"), expected) < place]
            passed_over |= {it: missing[it] for it in faster} | failed
            return Opened(backend, tuple(ranked.why(candidate)))
    passed_over |= missing | failed
    return None


def _for_cpus(bundle: Bundle, wanted: WantedPrecision | None) -> tuple[list[Candidate], dict[EngineName, str]]:
    """What may be opened on a CPU, and why an engine is not among it."""
    candidates: list[Candidate] = []
    missing: dict[EngineName, str] = {}
    for engine in _ON_CPUS:
        inexact = [it for it in _INEXACT if computes(engine, it)]
        suitable = [it for it in _CPU if wanted in (None, "any", it)] or [it for it in inexact if it == wanted]
        first = _first_held(bundle, engine, suitable)
        others = [_first_held(bundle, engine, [it]) for it in inexact] if wanted == "any" else []
        gains = [it for it in others if it is not None and it != first and is_gain(it)]
        found = [first, *gains] if first else gains
        if found and is_installed(engine):
            candidates += found
        elif suitable:
            missing[engine] = _why_missing(engine) if found else _nothing_for(bundle, engine, suitable)
    return candidates, missing


def _has_nvidia() -> bool:
    """Whether a GPU of NVIDIA can be in this machine."""
    return sys.platform != "linux" or any(Path(device).exists() for device in _NVIDIA_DEVICES)


def _held(bundle: Bundle, engine: EngineName, precisions: Sequence[Precision]) -> Precision | None:
    """The first of `precisions` at which `engine` finds something of its own in the bundle."""
    return next((it for it in precisions if artifact_of(bundle, Candidate(engine, it))), None)


def _first_held(bundle: Bundle, engine: EngineName, precisions: Sequence[Precision]) -> Candidate | None:
    precision = _held(bundle, engine, precisions)
    return Candidate(engine, precision) if precision else None


def _nothing_for(bundle: Bundle, engine: EngineName, precisions: Sequence[Precision]) -> str:
    nothing = f"{bundle.folder} holds nothing for it in {' or '.join(precisions)}"
    return f"{nothing}; `{command_for(bundle, engine)}` adds it."


def command_for(bundle: Bundle, engine: EngineName) -> str:
    """What to type so that the bundle gets what `engine` opens."""
    match engine:
        case "tensorrt" | "tensorrt-rtx":
            return f"cyclegan-edge export {bundle.folder} --fp16"
        case "ncnn":
            return f"cyclegan-edge export {bundle.folder} --ncnn"
    return "cyclegan-edge export RUN"


def _why_missing(engine: EngineName) -> str:
    return f"The engine {engine} is not installed; add it with `{INSTALL[engine]}`."


def _require(engine: EngineName) -> None:
    module = MODULES.get(engine, engine)
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        raise EngineError(_why_missing(engine)) from error
    except ImportError as error:
        raise EngineError(
            f"The engine {engine} does not load ({error}); repair it with `{INSTALL[engine]}`."
        ) from error
