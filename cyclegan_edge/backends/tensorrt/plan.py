"""Opening a plan: what it was built for, and whether that is this machine."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclegan_edge.backends.cuda import Cuda, load_cuda
from cyclegan_edge.backends.tensorrt.api import ICudaEngine, TensorRT
from cyclegan_edge.backends.tensorrt.build import EngineConfig, build_engine
from cyclegan_edge.backends.tensorrt.library import (
    TENSORRT,
    Edition,
    Shape,
    TrtLog,
    covers,
    expected_tensors,
    load,
    this_device,
    trt_log,
    trt_runtime,
    why_unsupported,
)
from cyclegan_edge.backends.tensorrt.rtx import KernelCache
from cyclegan_edge.bundle import Artifact, Bundle, Device, Targets
from cyclegan_edge.contract import IMAGE, TRANSLATED, Precision
from cyclegan_edge.errors import BundleError, EngineError, ExportError


@dataclass(frozen=True, slots=True)
class Plan:
    """An opened engine; it outlives every `Slot` of it."""

    edition: Edition
    trt: TensorRT
    engine: ICudaEngine
    log: TrtLog
    here: Device
    smallest: Shape
    best: Shape
    largest: Shape
    cuda: Cuda
    kernels: KernelCache | None  # of TensorRT for RTX
    note: str  # what was done to open it, a sentence, or nothing


def open_plan(bundle: Bundle, precision: Precision, edition: Edition = TENSORRT) -> Plan:
    """Open the engine of `precision`. A plan is a program: what it was built for and its hash are checked first.

    One of TensorRT for RTX that another version built is built again, in memory, from the bundle's graph.

    Raises BundleError when the bundle has no such engine or it is damaged, EngineError when it is not for this machine
    or is refused by TensorRT.
    """
    artifact = bundle.artifact(edition.name, precision)
    rebuild = rebuild_command(bundle.folder)
    if artifact is None:
        half = " in half precision" if precision == "fp32" else ""
        raise BundleError(f"{bundle.folder} holds no {precision} engine; `{rebuild}` builds one{half}.")
    trt, here = load(edition), this_device(edition)
    if reason := why_unsupported(edition, here):
        raise EngineError(f"{reason}.")
    if reason := why_foreign(artifact, here):
        remedy = "build one for it with" if edition.portable else "rebuild it here with"
        raise EngineError(f"{reason}; {remedy} `{rebuild}`.")
    path, log, note = bundle.path(artifact), trt_log(trt), ""
    plan = path.read_bytes()
    if artifact.targets is not None and artifact.targets.tensorrt != here.tensorrt:
        plan, note = _built_again(bundle, artifact, artifact.targets, edition)
    log.errors.clear()
    engine = trt_runtime(trt).deserialize_cuda_engine(plan)
    if engine is None:
        raise EngineError(
            f"{edition.title} {here.tensorrt} refuses {path} ({log.reason()}); rebuild it with `{rebuild}`."
        )
    check_tensors(trt, engine, str(path))
    smallest, best, largest = (shape_of(dims) for dims in engine.get_tensor_profile_shape(IMAGE, 0))
    kernels = KernelCache(trt, engine, here) if edition.portable else None
    return Plan(edition, trt, engine, log, here, smallest, best, largest, load_cuda(), kernels, note)


def why_foreign(artifact: Artifact, here: Device) -> str | None:
    """Why the engine `artifact` must not be opened on `here`, a sentence without its end; None where it may be.

    One of TensorRT for RTX is for all GPUs of its compute capabilities, and its version does not count: `open_plan`
    builds it again.
    """
    if artifact.targets is None:
        if artifact.device == here:
            return None
        return f"{artifact.file} was built for {_described(artifact.device)}, but this is {_described(here)}"
    built, capabilities = artifact.targets, artifact.targets.compute_capabilities
    if built.platform == here.platform and any(covers(it, here.compute_capability) for it in capabilities):
        return None
    return (
        f"{artifact.file} was built for compute capability {', '.join(capabilities)} on {built.platform}, but this is "
        f"{here.gpu} ({here.compute_capability}) on {here.platform}"
    )


def rebuild_command(folder: Path) -> str:
    """The command that builds the engine of the bundle `folder`."""
    return f"cyclegan-edge export {folder} --fp16"


def check_tensors(trt: TensorRT, engine: ICudaEngine, where: str) -> None:
    """Raise EngineError unless `engine` takes and gives what this package's graphs do."""
    modes = {IMAGE: trt.TensorIOMode.INPUT, TRANSLATED: trt.TensorIOMode.OUTPUT}
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    right = sorted(names) == sorted(modes) and all(
        engine.get_tensor_mode(name) == modes[name]
        and engine.get_tensor_dtype(name) == trt.DataType.UINT8
        and len(engine.get_tensor_shape(name)) == 4
        for name in names
    )
    if not right:
        raise EngineError(f"{where} has the tensors {names}, expected {expected_tensors()}; export the model again.")


def shape_of(dims: Any) -> Shape:
    """(N, H, W, 3) as a tuple or as TensorRT's Dims -> (N, H, W)."""
    batch, height, width, _ = dims
    return int(batch), int(height), int(width)


def _built_again(bundle: Bundle, artifact: Artifact, built: Targets, edition: Edition) -> tuple[bytes, str]:
    """The plan that this version builds from the bundle's graph, and a sentence about it."""
    graph = bundle.artifact("onnx", artifact.precision)
    if graph is None or len(artifact.shapes) != 3:
        raise EngineError(
            f"{artifact.file} was built by {edition.title} {built.tensorrt}, which is not installed, and the bundle "
            f"lacks the {artifact.precision} graph to build it again; export the model again."
        )
    named = tuple(it for it in built.compute_capabilities if not it.endswith("+"))
    smallest, best, largest = artifact.shapes
    config = EngineConfig(
        shapes=(smallest, best, largest),
        precision=artifact.precision,
        gpus=named if len(named) == len(built.compute_capabilities) else (),
    )
    began = time.monotonic()
    try:
        again = build_engine(bundle.path(graph), config, edition=edition)
    except ExportError as error:
        raise EngineError(str(error)) from error
    took = time.monotonic() - began
    assert again.targets is not None  # this edition's engines have them
    return again.plan, (
        f"{artifact.file} was built by {edition.title} {built.tensorrt}, so it was built again by "
        f"{again.targets.tensorrt} in {took:.1f} s; `{rebuild_command(bundle.folder)}` does that once for all."
    )


def _described(device: Device | None) -> str:
    if device is None:
        return "an unknown machine"
    return f"{device.gpu} ({device.compute_capability}), TensorRT {device.tensorrt}, {device.platform}"
