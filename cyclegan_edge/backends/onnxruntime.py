"""ONNX Runtime: the CPU on any machine, and CUDA or TensorRT where its build for GPUs is installed.

Left to itself, ONNX Runtime goes on with the CPU when a GPU does not start. Here that is an error.
docs/log.md says which of the CUDA provider's options were decided how.
"""

import contextlib
import ctypes
import io
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt
import onnxruntime

from cyclegan_edge.backends.base import INSTALL, as_batch
from cyclegan_edge.backends.onnx_graph import check_graph
from cyclegan_edge.bundle import Bundle
from cyclegan_edge.contract import IMAGE, TRANSLATED, Batch, Precision
from cyclegan_edge.errors import BundleError, EngineError, first_line
from cyclegan_edge.files import user_cache
from cyclegan_edge.geometry import check_batch
from cyclegan_edge.memory import available_memory


class _Provider(NamedTuple):
    """An execution provider in the words of ONNX Runtime, and in ours."""

    name: str
    title: str
    helpers: tuple[str, ...] = ()  # run the nodes that it cannot


_PROVIDERS = {
    "cpu": _Provider("CPUExecutionProvider", "CPU"),
    "cuda": _Provider("CUDAExecutionProvider", "CUDA", ("CPUExecutionProvider",)),
    "tensorrt": _Provider("TensorrtExecutionProvider", "TensorRT", ("CUDAExecutionProvider", "CPUExecutionProvider")),
}


_opening = threading.Lock()


class OnnxRuntimeBackend:
    """Runs the ONNX graph of a bundle; see `Backend` for shapes and dtypes."""

    def __init__(
        self, bundle: Bundle, *, precision: Precision = "fp32", threads: int | None = None, provider: str = "cpu"
    ) -> None:
        """Open the graph of `precision` with `provider` (cpu, cuda, tensorrt), on `threads` CPU threads (default: every
        core this process may use). "tensorrt" builds an engine at the first picture of every size, for minutes, and
        keeps it in the user's cache.

        Raises BundleError when the bundle has no such graph or it is damaged, EngineError when the runtime refuses it
        or the provider does not start.
        """
        artifact = bundle.artifact("onnx", precision)
        if artifact is None:
            raise BundleError(f"{bundle.folder} holds no {precision} ONNX graph; export the model again.")
        threads = threads or len(os.sched_getaffinity(0))
        self._session = open_session(bundle.path(artifact), provider, precision=precision, threads=threads)
        self._multiple = bundle.manifest.multiple
        engine = "onnxruntime" if provider == "cpu" else f"onnx-{provider}"
        self.name = f"{engine} {onnxruntime.__version__} {precision}"
        self.device = f"CPU, {threads} threads" if provider == "cpu" else _PROVIDERS[provider].title

    def run(self, images: Batch) -> Batch:
        """uint8 (N, H, W, 3) RGB -> the same shape, translated."""
        check_batch(images, self._multiple)
        return as_batch(run_session(self._session, TRANSLATED, {IMAGE: images}), images, self.name)


def run_session(session: onnxruntime.InferenceSession, wanted: str, given: dict[str, npt.NDArray[Any]]) -> Any:
    """What the tensor `wanted` becomes of those that are `given`. Raises EngineError."""
    try:
        return session.run([wanted], given)[0]
    except Exception as error:
        shapes = ", ".join(str(array.shape) for array in given.values())
        if "Available memory of" in str(error):
            raise EngineError(
                f"ONNX Runtime needs more memory for a batch of shape {shapes} than was free when it was opened; "
                f"choose a smaller size, or end other programs."
            ) from error
        raise EngineError(f"ONNX Runtime could not translate a batch of shape {shapes} ({_reason(error)}).") from error


def open_session(
    path: Path, provider: str = "cpu", *, precision: Precision = "fp32", threads: int | None = None
) -> onnxruntime.InferenceSession:
    """The graph in the file `path`, run by `provider` or not at all. Raises EngineError."""
    version, wanted = onnxruntime.__version__, _PROVIDERS[provider]
    if wanted.name not in onnxruntime.get_available_providers():
        raise EngineError(f"This ONNX Runtime {version} is not built for {wanted.title}; `{INSTALL['onnx-cuda']}`.")
    check_graph(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is an error is raised too
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    remedy = "export the model again"
    if provider != "cpu":
        remedy = "make the driver, CUDA and cuDNN fit it, or choose the engine onnxruntime"
        onnxruntime.set_default_logger_severity(4)  # or it prints what is said below
        _load_cuda_libraries()
    try:
        with _bounded(options) if provider == "cpu" else contextlib.nullcontext():
            session = onnxruntime.InferenceSession(
                str(path),
                options,
                providers=[(wanted.name, _provider_options(provider, precision)), *wanted.helpers],
                enable_fallback=0,  # or it prints and takes the CPU
            )
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        where = "" if provider == "cpu" else f" on {wanted.title}"
        raise EngineError(f"ONNX Runtime {version} refuses {path}{where} ({_reason(error)}); {remedy}.") from error
    chosen = session.get_providers()[0].removesuffix("ExecutionProvider")
    if chosen != wanted.name.removesuffix("ExecutionProvider"):
        missing = _missing_library(provider)
        raise EngineError(f"ONNX Runtime {version} started {chosen} instead of {wanted.title}{missing}; {remedy}.")
    session.disable_fallback()
    return session


@contextlib.contextmanager
def _bounded(options: onnxruntime.SessionOptions) -> Iterator[None]:
    """Give the session that is opened inside memory of its own, no more than there is now: a graph may ask for any.

    A session keeps the allocator that is registered when it is opened; registering the next one lets go of the last.
    """
    place = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    options.add_session_config_entry("session.use_env_allocators", "1")
    with _opening:
        try:
            most = onnxruntime.OrtArenaCfg({"max_mem": available_memory(swap=True)})
            onnxruntime.create_and_register_allocator(place, most)
            yield
        finally:
            onnxruntime.create_and_register_allocator(place, onnxruntime.OrtArenaCfg({"max_mem": 0}))


def _provider_options(provider: str, precision: Precision) -> dict[str, Any]:
    if provider == "cpu":
        return {}
    if provider == "cuda":
        options = {"cudnn_conv_algo_search": "HEURISTIC"}  # by default every new size of picture takes a second or more
        if precision == "fp32":
            options["use_tf32"] = "0"  # on by default, and no more precise than half; off, it bars half's tensor cores
        return options
    cache = user_cache("onnxruntime-tensorrt")
    cache.mkdir(parents=True, exist_ok=True)
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(cache),
        "trt_fp16_enable": "1" if precision == "fp16" else "0",
    }


def _load_cuda_libraries() -> None:
    """Those of NVIDIA's packages for Python, which the system's loader does not find."""
    preload = getattr(onnxruntime, "preload_dlls", None)  # from 1.21
    if preload is not None:
        with contextlib.redirect_stdout(io.StringIO()):  # what is missing is said when the provider does not start
            preload()


def _reason(error: BaseException) -> str:
    """What ONNX Runtime says without the place in its source, the C++ signatures and the name of the host."""
    line = first_line(error)
    failure = re.search(r"\bCU[A-Z]+ failure \d{1,6}: [^;]{1,300}", line)
    return failure.group().strip() if failure else re.sub(r"^/\S+:\d+ [^)]*\) ", "", line)


def _missing_library(provider: str) -> str:
    """The loader's words, in brackets, for a provider whose library does not load; nothing when it does."""
    library = Path(onnxruntime.__file__).parent / "capi" / f"libonnxruntime_providers_{provider}.so"
    if not library.is_file():
        return ""
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        return f" ({first_line(error)})"
    return ""
