"""The few CUDA calls that an engine needs, through ctypes on the system's own libcudart.

    cuda = load_cuda()
    with Stream(cuda) as stream, PinnedBuffer(cuda, 196608) as host, DeviceBuffer(cuda, 196608) as device:
        stream.copy_to_device(device, host, 196608)
        stream.synchronize()

libcudart is there wherever TensorRT is, a Jetson included. Only calls whose ABI is the same in CUDA 12 and 13 are used:
cudaGraphInstantiateWithFlags (cudaGraphInstantiate changed in 12) and cudaDeviceGetAttribute (the struct of
cudaGetDeviceProperties changes with each version; the name comes from the driver, libcuda).

Everything runs on the first visible device; CUDA_VISIBLE_DEVICES chooses another. Every return code is checked and
becomes an EngineError with CUDA's own words. What was allocated is freed once: by close(), or quietly when it is
collected.
"""

import ctypes
import functools
import importlib.util
import weakref
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from cyclegan_edge.errors import EngineError

_INSUFFICIENT_DRIVER = 35
_HINTS = {  # cudaError_t -> what to do about it
    2: "; close other programs on the GPU or use a smaller size",
    _INSUFFICIENT_DRIVER: "; install or update the NVIDIA driver",
    100: "; this machine shows no NVIDIA GPU",
}

_STREAM_NON_BLOCKING = 1  # does not wait for the default stream
_CAPTURE_THREAD_LOCAL = 1  # other threads may allocate while this one captures
_HOST_TO_DEVICE, _DEVICE_TO_HOST = 1, 2  # cudaMemcpyKind
_COMPUTE_CAPABILITY = (75, 76)  # cudaDevAttrComputeCapabilityMajor, -Minor
_FIRST_DEVICE = 0

_RUNTIME_CALLS: dict[str, tuple[Any, ...]] = {  # each returns a cudaError_t
    "cudaDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cudaFree": (c_void_p,),
    "cudaFreeHost": (c_void_p,),
    "cudaGetDeviceCount": (POINTER(c_int),),
    "cudaGetLastError": (),
    "cudaGraphDestroy": (c_void_p,),
    "cudaGraphExecDestroy": (c_void_p,),
    "cudaGraphInstantiateWithFlags": (POINTER(c_void_p), c_void_p, c_ulonglong),
    "cudaGraphLaunch": (c_void_p, c_void_p),
    "cudaHostAlloc": (POINTER(c_void_p), c_size_t, c_uint),
    "cudaMalloc": (POINTER(c_void_p), c_size_t),
    "cudaMemcpyAsync": (c_void_p, c_void_p, c_size_t, c_int, c_void_p),
    "cudaStreamBeginCapture": (c_void_p, c_int),
    "cudaStreamCreateWithFlags": (POINTER(c_void_p), c_uint),
    "cudaStreamDestroy": (c_void_p,),
    "cudaStreamEndCapture": (c_void_p, POINTER(c_void_p)),
    "cudaStreamSynchronize": (c_void_p,),
}
_DRIVER_CALLS: dict[str, tuple[Any, ...]] = {  # each returns a CUresult
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuInit": (c_uint,),
}

O = TypeVar("O", bound="_Owned")  # noqa: E741


class Cuda:
    """One loaded CUDA runtime. Safe to use from several threads, as CUDA itself is."""

    def __init__(self, runtime: str, driver: str = "libcuda.so.1") -> None:
        """Load the library `runtime`; `driver` is opened when first needed. Raises OSError when there is none."""
        library = ctypes.CDLL(runtime)
        self._calls = _prototyped(library, _RUNTIME_CALLS)
        self._error_string = library.cudaGetErrorString
        self._error_string.argtypes, self._error_string.restype = (c_int,), c_char_p
        self._driver = driver

    def attempt(self, name: str, *arguments: object) -> int:
        """Make one call and return its cudaError_t, for the few places where a failure is no error."""
        code = int(self._calls[name](*arguments))
        if code:
            self._calls["cudaGetLastError"]()  # else the next library that asks is blamed for it
        return code

    def call(self, name: str, *arguments: object) -> None:
        """Make one call; EngineError with CUDA's own words when it fails."""
        if code := self.attempt(name, *arguments):
            words = (self._error_string(code) or b"unknown error").decode(errors="replace")
            raise EngineError(f"CUDA's {name} failed: {words} (error {code}){_HINTS.get(code, '')}.")

    def device_count(self) -> int:
        """How many devices are visible."""
        count = c_int()
        self.call("cudaGetDeviceCount", ctypes.byref(count))
        return count.value

    def compute_capability(self, index: int = _FIRST_DEVICE) -> str:
        """Of a visible device: "8.7" is an Orin."""
        value = c_int()
        parts = []
        for attribute in _COMPUTE_CAPABILITY:
            self.call("cudaDeviceGetAttribute", ctypes.byref(value), attribute, index)
            parts.append(str(value.value))
        return ".".join(parts)

    def device_name(self, index: int = _FIRST_DEVICE) -> str:
        """Of a visible device, as the driver calls it: "Orin"."""
        try:
            calls = _prototyped(ctypes.CDLL(self._driver), _DRIVER_CALLS)
        except OSError as error:
            raise EngineError(f"The NVIDIA driver cannot be loaded ({error}); install it, then start again.") from error
        device, name = c_int(), ctypes.create_string_buffer(256)
        steps: tuple[tuple[str, tuple[object, ...]], ...] = (
            ("cuInit", (0,)),
            ("cuDeviceGet", (ctypes.byref(device), index)),
            ("cuDeviceGetName", (name, len(name), device)),
        )
        for function, arguments in steps:
            if code := calls[function](*arguments):
                raise EngineError(
                    f"The NVIDIA driver's {function} failed (error {code}); does `nvidia-smi` list a GPU?"
                )
        return name.value.decode(errors="replace")


@functools.cache
def load_cuda() -> Cuda:
    """The newest CUDA runtime here that the driver supports. Raises EngineError when there is none."""
    cuda = None
    for candidate in _candidates():
        try:
            cuda = Cuda(candidate)
        except (OSError, AttributeError):  # not there, or too old to have every call
            continue
        if cuda.attempt("cudaGetDeviceCount", ctypes.byref(c_int())) != _INSUFFICIENT_DRIVER:
            return cuda
    if cuda is not None:
        cuda.call("cudaGetDeviceCount", ctypes.byref(c_int()))  # raises, in CUDA's words
    raise EngineError(
        "There is no CUDA runtime here (libcudart.so.13 or libcudart.so.12); it comes with "
        "`pip install 'cyclegan-edge[tensorrt]'` or, on a Jetson, with JetPack (`sudo apt install nvidia-jetpack`)."
    )


class _Owned:
    """A handle that CUDA gave out and gets back once."""

    def __init__(self, cuda: Cuda, release: str, handle: int) -> None:
        self.handle = handle
        self._cuda = cuda
        self._release = release
        self._collected = weakref.finalize(self, cuda.attempt, release, handle)
        self._collected.atexit = False  # the driver is going away by then, and takes everything with it

    def close(self) -> None:
        """Give it back; a second call does nothing."""
        if self._collected.detach():
            self._cuda.call(self._release, self.handle)

    def __enter__(self: O) -> O:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class DeviceBuffer(_Owned):
    """`nbytes` of GPU memory at the address `handle`."""

    def __init__(self, cuda: Cuda, nbytes: int) -> None:
        address = c_void_p()
        cuda.call("cudaMalloc", ctypes.byref(address), nbytes)
        super().__init__(cuda, "cudaFree", address.value or 0)


class PinnedBuffer(_Owned):
    """`nbytes` of page-locked host memory, which the GPU copies from without the CPU; `array` is gone after close()."""

    def __init__(self, cuda: Cuda, nbytes: int) -> None:
        address = c_void_p()
        cuda.call("cudaHostAlloc", ctypes.byref(address), nbytes, 0)
        super().__init__(cuda, "cudaFreeHost", address.value or 0)
        memory = memoryview((ctypes.c_uint8 * nbytes).from_address(self.handle))
        self.array: npt.NDArray[np.uint8] = np.frombuffer(memory, np.uint8)  # as_array's dtype is not numpy's own


class Graph(_Owned):
    """Captured work that is launched as one."""

    def launch(self, stream: "Stream") -> None:
        """Enqueue it on `stream`."""
        self._cuda.call("cudaGraphLaunch", self.handle, stream.handle)


class Stream(_Owned):
    """A queue of GPU work beside the default one."""

    def __init__(self, cuda: Cuda) -> None:
        handle = c_void_p()
        cuda.call("cudaStreamCreateWithFlags", ctypes.byref(handle), _STREAM_NON_BLOCKING)
        super().__init__(cuda, "cudaStreamDestroy", handle.value or 0)

    def copy_to_device(self, target: DeviceBuffer, source: PinnedBuffer, nbytes: int) -> None:
        """Enqueue a copy of the first `nbytes`."""
        self._cuda.call("cudaMemcpyAsync", target.handle, source.handle, nbytes, _HOST_TO_DEVICE, self.handle)

    def copy_to_host(self, target: PinnedBuffer, source: DeviceBuffer, nbytes: int) -> None:
        """Enqueue a copy of the first `nbytes`."""
        self._cuda.call("cudaMemcpyAsync", target.handle, source.handle, nbytes, _DEVICE_TO_HOST, self.handle)

    def synchronize(self) -> None:
        """Wait until everything enqueued is done; an error of that work surfaces here."""
        self._cuda.call("cudaStreamSynchronize", self.handle)

    def capture(self, enqueue: Callable[[], None]) -> Graph:
        """Record what `enqueue` puts on this stream, without running it."""
        self._cuda.call("cudaStreamBeginCapture", self.handle, _CAPTURE_THREAD_LOCAL)
        recorded, executable = c_void_p(), c_void_p()
        try:
            enqueue()
        except BaseException:  # the stream must leave capture mode whatever happened
            self._cuda.attempt("cudaStreamEndCapture", self.handle, ctypes.byref(recorded))
            if recorded.value:
                self._cuda.attempt("cudaGraphDestroy", recorded)
            raise
        self._cuda.call("cudaStreamEndCapture", self.handle, ctypes.byref(recorded))
        with _Owned(self._cuda, "cudaGraphDestroy", recorded.value or 0):
            self._cuda.call("cudaGraphInstantiateWithFlags", ctypes.byref(executable), recorded, 0)
            return Graph(self._cuda, "cudaGraphExecDestroy", executable.value or 0)


def _candidates() -> list[str]:
    """Where libcudart may lie, newest first within each place: the loader's own search, pip's packages, the toolkit."""
    names = ("libcudart.so.13", "libcudart.so.12")
    package = importlib.util.find_spec("nvidia")
    folders = [Path(folder) for folder in (package.submodule_search_locations or ())] if package else []
    pip = [
        str(folder / part / "lib" / name)
        for folder in folders
        for part, name in zip(("cu13", "cuda_runtime"), names, strict=True)
    ]
    return [*names, *pip, *(f"/usr/local/cuda/lib64/{name}" for name in names)]


def _prototyped(library: ctypes.CDLL, prototypes: dict[str, tuple[Any, ...]]) -> dict[str, Callable[..., int]]:
    """The library's functions with their argument types, so that a 64-bit handle is never cut to an int."""
    functions: dict[str, Callable[..., int]] = {}
    for name, arguments in prototypes.items():
        function = library[name]
        function.argtypes, function.restype = arguments, c_int
        functions[name] = function
    return functions
