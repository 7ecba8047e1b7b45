"""TensorRT: a plan that was built on this device, run from a CUDA graph.

Images cross to the GPU and back as uint8 through page-locked memory. The first batch of a shape runs plainly, from the
second on one CUDA graph holds copy, network and copy; another shape starts over, because a graph is valid only as long
as its execution context keeps its shapes.

`load_tensorrt`, `this_device` and `listen` are shared with the builder (cyclegan_edge.export.to_tensorrt). TensorRT is
imported when first asked for, ships no types (hence `Any`), and is addressed only by names found in 10.3 to 11.4.
"""

import contextlib
import importlib
import platform
import threading
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cyclegan_edge.backends.cuda import DeviceBuffer, Graph, PinnedBuffer, Stream, load_cuda
from cyclegan_edge.bundle import Artifact, Bundle, Device, Precision
from cyclegan_edge.errors import BundleError, EngineError
from cyclegan_edge.geometry import check_batch

INPUT, OUTPUT = "image", "translated"  # uint8 (N, H, W, 3) both
OLDEST = (10, 3)  # JetPack 6.1; 8.x lacks the progress monitor
CHANNELS = 3
_JETSON = Path("/etc/nv_tegra_release")  # there on every JetPack

Shape = tuple[int, int, int]  # N, H, W


class TrtBackend:
    """Runs the engine of a bundle on the first visible GPU; see `Backend` for shapes and dtypes.

    One context, one stream, one batch at a time: calls from several threads take turns.
    """

    def __init__(self, bundle: Bundle, *, precision: Precision = "fp16", cuda_graph: bool = True) -> None:
        """Open the engine of `precision`; `cuda_graph=False` launches every layer by itself, as a profiler wants it.

        Raises BundleError when the bundle has no such engine or it is damaged, EngineError when it is not for this
        machine or TensorRT refuses it. A plan is a program: its hash and its device are checked before it is opened,
        and TensorRT is never told to run host code from it.
        """
        artifact = bundle.artifact("tensorrt", precision)
        if artifact is None:
            raise BundleError(f"{bundle.folder} holds no {precision} engine; build one with `{_rebuild(precision)}`.")
        trt, here = load_tensorrt(), this_device()
        _refuse_foreign(artifact, here)
        path = bundle.path(artifact)
        logger, told = listen(trt)
        runtime = made(trt.Runtime, logger, told)
        engine = runtime.deserialize_cuda_engine(path.read_bytes())
        context = None if engine is None else engine.create_execution_context()
        if context is None:
            raise EngineError(f"TensorRT {here.tensorrt} refuses {path} ({told.reason()}); `{_rebuild(precision)}`.")
        check_interface(trt, engine, str(path))

        self._multiple = bundle.manifest.multiple
        self.name = f"tensorrt {here.tensorrt} {precision}"
        self.device = here.gpu
        self._rebuild = _rebuild(precision)
        self._kept = (logger, runtime, engine)  # each must outlive what came from it
        self._told = told
        self._context = context
        self._cuda_graph = cuda_graph
        self._lock = threading.Lock()
        smallest, _, largest = engine.get_tensor_profile_shape(INPUT, 0)
        self._smallest, self._largest = _shape(smallest), _shape(largest)
        self._ran: Shape | None = None  # what the context is set to, once it has run so
        self._graph: Graph | None = None
        self._open_buffers(int(np.prod(self._largest)) * CHANNELS)

    def run(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """uint8 (N, H, W, 3) RGB -> the same shape, translated."""
        shape = self._accepted(images)
        with self._lock:
            self._host_in.array[: images.size].reshape(images.shape)[:] = images
            if shape != self._ran:
                self._start(shape)
            elif self._cuda_graph:
                self._graph = self._graph or self._stream.capture(lambda: self._enqueue(images.size))
                self._graph.launch(self._stream)
            else:
                self._enqueue(images.size)
            self._stream.synchronize()
            self._ran = shape
            return self._host_out.array[: images.size].reshape(images.shape).copy()

    def close(self) -> None:
        """Free the GPU's memory now rather than when the backend is collected; `run` must not be called again."""
        with self._lock:
            self._drop_graph()
            self._resources.close()
            del self._context, self._kept

    def _open_buffers(self, nbytes: int) -> None:
        cuda = load_cuda()
        with contextlib.ExitStack() as stack:  # the third allocation fails: the first two are freed
            self._stream = stack.enter_context(Stream(cuda))
            self._host_in = stack.enter_context(PinnedBuffer(cuda, nbytes))
            self._host_out = stack.enter_context(PinnedBuffer(cuda, nbytes))
            self._device_in = stack.enter_context(DeviceBuffer(cuda, nbytes))
            self._device_out = stack.enter_context(DeviceBuffer(cuda, nbytes))
            for tensor, buffer in ((INPUT, self._device_in), (OUTPUT, self._device_out)):
                if not self._context.set_tensor_address(tensor, buffer.handle):
                    raise EngineError(f"TensorRT refuses the memory for {tensor!r} ({self._told.reason()}).")
            self._resources = stack.pop_all()

    def _accepted(self, images: npt.NDArray[np.uint8]) -> Shape:
        check_batch(images, self._multiple)
        shape = _shape(images.shape)
        if not all(low <= side <= high for low, side, high in zip(self._smallest, shape, self._largest, strict=True)):
            raise EngineError(
                f"The engine was built for batches of (N, H, W) from {self._smallest} to {self._largest}, got {shape}; "
                f"rebuild it for that size with `{self._rebuild}`."
            )
        return shape

    def _start(self, shape: Shape) -> None:
        """Set the context to `shape` and run it once, which settles what a capture must not contain."""
        self._drop_graph()
        self._ran = None
        if not self._context.set_input_shape(INPUT, (*shape, CHANNELS)) or self._context.infer_shapes():
            raise EngineError(f"TensorRT refuses a batch of (N, H, W) {shape} ({self._told.reason()}).")
        self._enqueue(int(np.prod(shape)) * CHANNELS)

    def _enqueue(self, nbytes: int) -> None:
        self._stream.copy_to_device(self._device_in, self._host_in, nbytes)
        if not self._context.execute_async_v3(self._stream.handle):
            raise EngineError(f"TensorRT could not translate the batch ({self._told.reason()}).")
        self._stream.copy_to_host(self._host_out, self._device_out, nbytes)

    def _drop_graph(self) -> None:
        if self._graph:
            self._graph.close()
        self._graph = None


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
    if _JETSON.exists():
        return (
            "TensorRT is not visible to this Python; on a Jetson it belongs to JetPack, so `sudo apt install "
            "nvidia-jetpack` and make the environment with `python3 -m venv --system-site-packages`."
        )
    return "TensorRT is not installed; `pip install 'cyclegan-edge[tensorrt]'` on a machine with an NVIDIA GPU."


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


def _refuse_foreign(artifact: Artifact, here: Device) -> None:
    if artifact.device != here:
        raise EngineError(
            f"{artifact.file} was built for {_described(artifact.device)}, but this is {_described(here)}; "
            f"rebuild it here with `{_rebuild(artifact.precision)}`."
        )


def _described(device: Device | None) -> str:
    if device is None:
        return "an unknown machine"
    return f"{device.gpu} ({device.compute_capability}), TensorRT {device.tensorrt}, {device.platform}"


def _rebuild(precision: Precision) -> str:
    return "cyclegan-edge export --fp16" if precision == "fp16" else "cyclegan-edge export"


def _shape(dims: Any) -> Shape:
    """(N, H, W, 3) as a tuple or as TensorRT's Dims -> (N, H, W)."""
    batch, height, width, _ = dims
    return int(batch), int(height), int(width)
