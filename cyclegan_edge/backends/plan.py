"""TensorRT and its plans: whether it is here, what a plan is bound to, and opening one.

Shared by the backend (trt.py) and the builder (cyclegan_edge.export). TensorRT is imported when first asked for, ships
no types (hence `Any`), and is addressed only by names found in 10.3 to 11.4.
"""

import importlib
import platform
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cyclegan_edge.backends.cuda import Cuda, load_cuda
from cyclegan_edge.bundle import Artifact, Bundle, Device
from cyclegan_edge.contract import Precision
from cyclegan_edge.errors import BundleError, EngineError

INPUT, OUTPUT = "image", "translated"  # uint8 (N, H, W, 3) both
OLDEST = (10, 3)  # JetPack 6.1; 8.x lacks the progress monitor
CHANNELS = 3
_JETSON = Path("/etc/nv_tegra_release")  # there on every JetPack

Shape = tuple[int, int, int]  # N, H, W


@dataclass(frozen=True, slots=True)
class Plan:
    """An opened engine; it outlives every `Slot` of it."""

    engine: Any
    told: "Told"
    here: Device
    smallest: Shape
    best: Shape
    largest: Shape
    cuda: Cuda
    kept: tuple[Any, ...]  # logger and runtime, which must outlive the engine


def open_plan(bundle: Bundle, precision: Precision) -> Plan:
    """Open the engine of `precision`. A plan is a program: what it was built for and its hash are checked before.

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
    logger, told = listen(trt)
    runtime = made(trt.Runtime, logger, told)
    engine = runtime.deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise EngineError(f"TensorRT {here.tensorrt} refuses {path} ({told.reason()}); rebuild it with `{rebuild}`.")
    check_interface(trt, engine, str(path))
    smallest, best, largest = (shape_of(dims) for dims in engine.get_tensor_profile_shape(INPUT, 0))
    return Plan(engine, told, here, smallest, best, largest, load_cuda(), (logger, runtime))


def why_foreign(artifact: Artifact, here: Device) -> str | None:
    """Why the engine `artifact` must not be opened on `here`, a sentence without its end; None where it may be."""
    if artifact.device == here:
        return None
    return f"{artifact.file} was built for {_described(artifact.device)}, but this is {_described(here)}"


@dataclass(frozen=True, slots=True)
class Told:
    """What TensorRT said through its logger, newest last; written from any of its threads."""

    errors: deque[str] = field(default_factory=lambda: deque(maxlen=20))
    warnings: deque[str] = field(default_factory=lambda: deque(maxlen=20))

    def reason(self) -> str:
        """The errors since the last call in TensorRT's own words: the first, and the last when that is another one."""
        told = list(self.errors)
        self.errors.clear()
        return "; ".join(dict.fromkeys((told[0], told[-1]))) if told else "TensorRT gave no reason"


def listen(trt: Any) -> tuple[Any, Told]:
    """A logger for TensorRT that prints nothing, and what it collects. It must outlive whatever it is given to."""
    told = Told()
    errors = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR)

    class Listener(trt.ILogger):  # type: ignore[misc]  # TensorRT ships no types
        def log(self, severity: Any, msg: str) -> None:
            line = " ".join(msg.split())[:300]
            if severity in errors:
                told.errors.append(line)
            elif severity == trt.ILogger.Severity.WARNING:
                told.warnings.append(line)

    return Listener(), told


def made(factory: Any, logger: Any, told: Told) -> Any:
    """A Builder or Runtime. Raises EngineError when TensorRT makes none, which the bindings report as TypeError."""
    try:
        return factory(logger)
    except TypeError as error:
        raise EngineError(f"TensorRT does not start here ({told.reason()}); does it fit the CUDA driver?") from error


def load_tensorrt() -> Any:
    """The module `tensorrt`. Raises EngineError with what to install when it is missing, broken or older than 10.3."""
    trt = _imported()
    if isinstance(trt, ImportError):
        raise EngineError(why_missing()) from trt
    if release(trt.__version__) < OLDEST:
        raise EngineError(
            f"TensorRT {trt.__version__} is too old, expected {OLDEST[0]}.{OLDEST[1]} or newer; "
            f"use JetPack 6.1 or newer, elsewhere `pip install --upgrade 'cyclegan-edge[tensorrt]'`."
        )
    return trt


def tensorrt_version() -> str | None:
    """The version of the TensorRT that this Python imports, however old; None when it imports none."""
    trt = _imported()
    return None if isinstance(trt, ImportError) else str(trt.__version__)


def why_missing() -> str:
    """Where `tensorrt_version` is None: one sentence that says what to install."""
    error = _imported()
    if isinstance(error, ImportError) and not isinstance(error, ModuleNotFoundError):
        return f"TensorRT is installed but does not load ({error}); install it again with its libraries."
    if on_jetson():
        return (
            "TensorRT is not visible to this Python; on a Jetson it belongs to JetPack, so `sudo apt install "
            "nvidia-jetpack` and make the environment with `python3 -m venv --system-site-packages`."
        )
    return "TensorRT is not installed; `pip install 'cyclegan-edge[tensorrt]'` on a machine with an NVIDIA GPU."


def on_jetson() -> bool:
    """Whether this machine runs JetPack, which brings its own TensorRT."""
    return _JETSON.exists()


def release(version: str) -> tuple[int, int]:
    """The first two parts of a version, which decide how to build: "10.13.3.9" -> (10, 13)."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def this_device() -> Device:
    """What an engine is bound to. Raises EngineError without TensorRT, a CUDA runtime or a GPU."""
    trt, cuda = load_tensorrt(), load_cuda()
    return Device(
        gpu=cuda.device_name(),
        compute_capability=cuda.compute_capability(),
        tensorrt=str(trt.__version__),
        platform=f"{platform.system()}-{platform.machine()}",
    )


def rebuild_command(folder: Path) -> str:
    """The command that builds the engine of the bundle `folder`."""
    return f"cyclegan-edge export {folder} --fp16"


def check_interface(trt: Any, engine: Any, where: str) -> None:
    """Raise EngineError unless `engine` takes and gives what this package's graphs do."""
    modes = {INPUT: trt.TensorIOMode.INPUT, OUTPUT: trt.TensorIOMode.OUTPUT}
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    right = sorted(names) == sorted(modes) and all(
        engine.get_tensor_mode(name) == modes[name]
        and engine.get_tensor_dtype(name) == trt.DataType.UINT8
        and len(engine.get_tensor_shape(name)) == 4
        for name in names
    )
    if not right:
        raise EngineError(
            f"{where} has the tensors {names}, expected uint8 {INPUT!r} in and {OUTPUT!r} out; export the model again."
        )


def _imported() -> Any:
    try:
        return importlib.import_module("tensorrt")
    except ImportError as error:
        return error


def _described(device: Device | None) -> str:
    if device is None:
        return "an unknown machine"
    return f"{device.gpu} ({device.compute_capability}), TensorRT {device.tensorrt}, {device.platform}"


def shape_of(dims: Any) -> Shape:
    """(N, H, W, 3) as a tuple or as TensorRT's Dims -> (N, H, W)."""
    batch, height, width, _ = dims
    return int(batch), int(height), int(width)
