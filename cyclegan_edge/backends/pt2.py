"""AOTInductor: the generator as native code, compiled by torch on this machine; on CUDA in a CUDA graph.

The one file of the runtime that imports torch, and only once such a file is to be run.

A .pt2 is a program, and torch executes what is in it. So it is opened only when this user compiled it on this machine:
`export` notes the hash of what it compiled in the user's cache, where no bundle can write, and the processor and the
torch it was compiled for must be those here. One that was copied here is refused; it is quickly compiled again.
"""

import contextlib
import logging
import platform
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cyclegan_edge.bundle import Artifact, Bundle, CompiledFor, Precision
from cyclegan_edge.errors import BundleError, EngineError, first_line
from cyclegan_edge.files import user_cache
from cyclegan_edge.geometry import check_batch

MAX_SIDE = 4096  # px, a multiple of every manifest's: beyond it a square float32 layer no longer fits 32-bit indices

_REBUILD = "compile it here with `cyclegan-edge export RUN --pt2`"


class Pt2Backend:
    """Runs the native code of a bundle; see `Backend` for shapes and dtypes. Calls from several threads take turns."""

    def __init__(self, bundle: Bundle, *, precision: Precision = "fp32", threads: int | None = None) -> None:
        """Open the code of `precision`; `threads` of the CPU (default: as torch is set) are then those of all of torch.

        Raises BundleError when the bundle has no such code or it is damaged, EngineError when it was compiled
        elsewhere or torch is missing or refuses it.
        """
        artifact = bundle.artifact("pt2", precision)
        if artifact is None or artifact.compiled_for is None:
            raise BundleError(f"{bundle.folder} holds no {precision} code for torch; {_REBUILD}.")
        here = this_machine(artifact.compiled_for.device)
        if artifact.compiled_for != here:
            raise EngineError(
                f"{artifact.file} was compiled for {_described(artifact.compiled_for)}, but this is "
                f"{_described(here)}; {_REBUILD}."
            )
        path = bundle.path(artifact)
        if not _note(artifact.sha256).is_file():
            raise EngineError(
                f"{path} is a program that was not compiled by you on this machine, so it is not run; {_REBUILD}."
            )
        import torch

        self._torch = torch
        self._multiple = bundle.manifest.multiple
        self._cuda = here.device == "cuda"
        options = {"run_single_threaded": True} if self._cuda else {}  # its locks would break the capture of a graph
        try:
            with quiet():
                self._model: Any = torch._inductor.aoti_load_package(str(path), **options)
        except Exception as error:  # torch raises many kinds
            raise EngineError(f"torch {here.torch} refuses {path} ({first_line(error)}); {_REBUILD}.") from error
        if threads and not self._cuda:
            torch.set_num_threads(threads)
        self.name = f"pt2 torch {here.torch} {precision}"
        self.device = here.processor if self._cuda else f"CPU, {torch.get_num_threads()} threads"
        self._lock = threading.Lock()
        self._graph: Any = None  # of CUDA, for pictures of the shape of `_image`
        self._image: Any = None
        self._translated: Any = None

    def run(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """uint8 (N, H, W, 3) RGB -> the same shape, translated one after the other."""
        check_batch(images, self._multiple, most=MAX_SIDE)
        translated = np.empty_like(images)
        run = self._on_cuda if self._cuda else self._on_cpu
        with self._lock, self._torch.inference_mode():
            for number in range(len(images)):
                try:
                    translated[number] = run(self._torch.from_numpy(images[number : number + 1].copy()))[0]
                except RuntimeError as error:
                    raise EngineError(
                        f"torch could not translate a batch of shape {images.shape} ({first_line(error)})."
                    ) from error
        return translated

    def _on_cpu(self, image: Any) -> Any:
        return self._model(image).numpy()

    def _on_cuda(self, image: Any) -> Any:
        if self._image is None or self._image.shape != image.shape:
            self._capture(image)
        self._image.copy_(image)
        self._graph.replay()
        return self._translated.cpu().numpy()

    def _capture(self, image: Any) -> None:
        torch = self._torch
        self._graph = self._image = self._translated = None  # frees what the former shape needed
        still = image.cuda()
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # the first runs load kernels, which a capture must not contain
            for _ in range(2):
                self._model(still)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            translated = self._model(still)
        self._graph, self._image, self._translated = graph, still, translated


def this_machine(device: Literal["cpu", "cuda"]) -> CompiledFor:
    """What code compiled here for `device` is bound to. Raises EngineError without torch or that device."""
    try:
        import torch
    except ModuleNotFoundError as error:
        raise EngineError("The engine pt2 needs torch, which is not installed; `pip install torch`.") from error
    if device == "cpu":
        processor = f"{_cpu_name()}, {torch.backends.cpu.get_cpu_capability()}"
    elif torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        processor = f"{torch.cuda.get_device_name()}, compute capability {major}.{minor}"
    else:
        raise EngineError(f"torch {torch.__version__} finds no CUDA device here, for which this was compiled.")
    return CompiledFor(
        device=device,
        processor=processor,
        torch=str(torch.__version__),
        platform=f"{platform.system()}-{platform.machine()}",
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep torch from warning of a CUDA compiler without a CUDA device, which it does when it opens or compiles."""
    log = logging.getLogger("torch.utils.cpp_extension")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def trust(artifact: Artifact) -> None:
    """Note that this user has just compiled `artifact` here. Raises EngineError when the note cannot be written."""
    note = _note(artifact.sha256)
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.touch()
    except OSError as error:
        raise EngineError(
            f"{note.parent} cannot be written ({error.strerror}), where it is noted what was compiled here; set "
            f"XDG_CACHE_HOME to a folder of yours."
        ) from error


def _note(digest: str) -> Path:
    return user_cache("compiled-here") / digest


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "CPU part")))
    return next(named, platform.processor() or platform.machine())


def _described(machine: CompiledFor) -> str:
    return f"{machine.processor}, torch {machine.torch}, {machine.platform}"
