"""Opening a plan: what it was built for, and whether that is this machine."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclegan_edge.backends.cuda import Cuda, load_cuda
from cyclegan_edge.backends.tensorrt.api import ICudaEngine, TensorRT
from cyclegan_edge.backends.tensorrt.library import (
    Shape,
    TrtLog,
    create,
    expected_tensors,
    load_tensorrt,
    this_device,
    trt_log,
)
from cyclegan_edge.bundle import Artifact, Bundle, Device
from cyclegan_edge.contract import IMAGE, TRANSLATED, Precision
from cyclegan_edge.errors import BundleError, EngineError


@dataclass(frozen=True, slots=True)
class Plan:
    """An opened engine; it outlives every `Slot` of it."""

    trt: TensorRT
    engine: ICudaEngine
    log: TrtLog
    here: Device
    smallest: Shape
    best: Shape
    largest: Shape
    cuda: Cuda
    runtime: Any  # must outlive the engine


def open_plan(bundle: Bundle, precision: Precision) -> Plan:
    """Open the engine of `precision`. A plan is a program: what it was built for and its hash are checked first.

    Raises BundleError when the bundle has no such engine or it is damaged, EngineError when it is not for this machine
    or is refused by TensorRT.
    """
    artifact = bundle.artifact("tensorrt", precision)
    rebuild = rebuild_command(bundle.folder)
    if artifact is None:
        half = " in half precision" if precision == "fp32" else ""
        raise BundleError(f"{bundle.folder} holds no {precision} engine; `{rebuild}` builds one{half}.")
    trt, here = load_tensorrt(), this_device()
    if reason := why_foreign(artifact, here):
        raise EngineError(f"{reason}; rebuild it here with `{rebuild}`.")
    path = bundle.path(artifact)
    log = trt_log(trt)
    runtime = create(trt.Runtime, log)
    engine = runtime.deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise EngineError(f"TensorRT {here.tensorrt} refuses {path} ({log.reason()}); rebuild it with `{rebuild}`.")
    check_tensors(trt, engine, str(path))
    smallest, best, largest = (shape_of(dims) for dims in engine.get_tensor_profile_shape(IMAGE, 0))
    return Plan(trt, engine, log, here, smallest, best, largest, load_cuda(), runtime)


def why_foreign(artifact: Artifact, here: Device) -> str | None:
    """Why the engine `artifact` must not be opened on `here`, a sentence without its end; None where it may be."""
    if artifact.device == here:
        return None
    return f"{artifact.file} was built for {_described(artifact.device)}, but this is {_described(here)}"


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


def _described(device: Device | None) -> str:
    if device is None:
        return "an unknown machine"
    return f"{device.gpu} ({device.compute_capability}), TensorRT {device.tensorrt}, {device.platform}"
