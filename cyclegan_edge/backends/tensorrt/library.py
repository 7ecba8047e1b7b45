"""Which TensorRT this Python has, and what it says. It is imported when first asked for.

There are two editions. TensorRT itself builds on the GPU that will run the engine, for minutes. TensorRT for RTX builds
anywhere, in a second, and finishes the kernels on the GPU that runs them; it knows desktop GPUs only. What differs is
in the table `EDITIONS` and in rtx.py; everything else of this room serves both.
"""

import importlib
import platform
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from cyclegan_edge.backends.cuda import load_cuda
from cyclegan_edge.backends.tensorrt.api import Runtime, TensorRT
from cyclegan_edge.bundle import Device
from cyclegan_edge.contract import TENSORS, Interface
from cyclegan_edge.errors import EngineError

CHANNELS = 3
Shape = tuple[int, int, int]  # N, H, W
EditionName = Literal["tensorrt", "tensorrt-rtx"]

_JETSON = Path("/etc/nv_tegra_release")  # there on every JetPack
_LONGEST = 300  # characters of one message; TensorRT's run to pages

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Edition:
    """What differs between TensorRT and TensorRT for RTX."""

    name: EditionName  # of the engine, of its format in a bundle, and of the extra that installs it
    module: str
    title: str
    oldest: tuple[int, int]  # the first version that has what is used here
    portable: bool  # built without a GPU, for GPUs of several kinds


TENSORRT = Edition(name="tensorrt", module="tensorrt", title="TensorRT", oldest=(10, 3), portable=False)  # JetPack 6.1
RTX = Edition(name="tensorrt-rtx", module="tensorrt_rtx", title="TensorRT for RTX", oldest=(1, 6), portable=True)
EDITIONS: dict[EditionName, Edition] = {edition.name: edition for edition in (TENSORRT, RTX)}

COMPUTE_CAPABILITIES = {  # that TensorRT for RTX builds for, and its names for them
    "7.5": "SM75",  # Turing, only where it is named
    "8.0": "SM80",
    "8.6": "SM86",
    "8.9": "SM89",
    "12.0": "SM120",
    "12.1": "SM121",
}
AMPERE_AND_NEWER = ("8.0", "8.6", "8.9", "12.0+")  # where none is named; neither Hopper nor a Jetson is among them


@dataclass(frozen=True, slots=True)
class TrtLog:
    """The errors that TensorRT reported, newest last; written from any of its threads, never printed."""

    logger: Any  # the ILogger to pass to TensorRT; must outlive whatever it is given to
    errors: deque[str]

    def reason(self) -> str:
        """The errors since the last call in TensorRT's own words: the first, and the last when that is another one."""
        errors = list(self.errors)
        self.errors.clear()
        return "; ".join(dict.fromkeys((errors[0], errors[-1]))) if errors else "TensorRT gave no reason"


@dataclass(slots=True)
class _Process:
    """What a process has one of for each edition: TensorRT keeps the first logger that it is given."""

    trt: TensorRT
    log: TrtLog
    runtime: Runtime | None = None


_processes: dict[int, _Process] = {}  # by the module's identity, which holding it keeps unique


def trt_log(trt: TensorRT) -> TrtLog:
    """The process's one logger for this edition, and what it has collected."""
    return _of_this_process(trt).log


def trt_runtime(trt: TensorRT) -> Runtime:
    """The process's one runtime. Raises EngineError when TensorRT makes none."""
    process = _of_this_process(trt)
    process.runtime = process.runtime or create(trt.Runtime, process.log)
    return process.runtime


def create(factory: Callable[[Any], T], log: TrtLog) -> T:
    """A Builder or Runtime. Raises EngineError when TensorRT makes none, which its bindings report as a TypeError."""
    try:
        return factory(log.logger)
    except TypeError as error:
        raise EngineError(f"TensorRT does not start here ({log.reason()}); does it fit the CUDA driver?") from error


def load(edition: Edition) -> TensorRT:
    """The edition's module. Raises EngineError with what to install when it is missing, broken or too old."""
    trt = _imported(edition)
    if isinstance(trt, ImportError):
        raise EngineError(why_missing(edition)) from trt
    if release(trt.__version__) < edition.oldest:
        jetson = "use JetPack 6.1 or newer, elsewhere " if edition is TENSORRT else ""
        raise EngineError(
            f"{edition.title} {trt.__version__} is too old, expected {edition.oldest[0]}.{edition.oldest[1]} or newer; "
            f"{jetson}`pip install --upgrade 'cyclegan-edge[{edition.name}]'`."
        )
    return cast("TensorRT", trt)


def version_of(edition: Edition) -> str | None:
    """The version that this Python imports, however old; None when it imports none."""
    trt = _imported(edition)
    return None if isinstance(trt, ImportError) else str(trt.__version__)


def why_missing(edition: Edition) -> str:
    """Where `version_of` is None: one sentence that says what to install."""
    error = _imported(edition)
    if isinstance(error, ImportError) and not isinstance(error, ModuleNotFoundError):
        return f"{edition.title} is installed but does not load ({error}); install it again with its libraries."
    if edition is TENSORRT and _JETSON.exists():
        return (
            "TensorRT is not visible to this Python; on a Jetson it belongs to JetPack, so `sudo apt install "
            "nvidia-jetpack` and make the environment with `python3 -m venv --system-site-packages`."
        )
    where = "" if edition.portable else " on a machine with an NVIDIA GPU"
    return f"{edition.title} is not installed; `pip install 'cyclegan-edge[{edition.name}]'`{where}."


def release(version: str) -> tuple[int, int]:
    """The first two parts of a version, which decide how to build: "10.13.3.9" -> (10, 13)."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def this_device(edition: Edition = TENSORRT) -> Device:
    """What an engine runs on here. Raises EngineError without the edition, a CUDA runtime or a GPU."""
    trt, cuda = load(edition), load_cuda()
    return Device(
        gpu=cuda.device_name(),
        compute_capability=cuda.compute_capability(),
        tensorrt=str(trt.__version__),
        platform=this_platform(),
    )


def covers(capability: str, found: str) -> bool:
    """Whether a plan built for `capability`, "8.6" or "12.0+", runs on a GPU of the capability `found`."""
    least, has = (tuple(map(int, re.findall(r"\d{1,6}", it))) for it in (capability, found))
    return has >= least if capability.endswith("+") else has == least


def supports(edition: Edition, compute_capability: str) -> bool:
    """Whether the edition runs on GPUs of this compute capability; TensorRT is asked about none."""
    known = (*COMPUTE_CAPABILITIES, AMPERE_AND_NEWER[-1])
    return not edition.portable or any(covers(it, compute_capability) for it in known)


def why_unsupported(edition: Edition, here: Device) -> str | None:
    """Why the edition runs nothing on this GPU, a sentence without its end; None where it does."""
    if supports(edition, here.compute_capability):
        return None
    return f"{edition.title} does not support compute capability {here.compute_capability} ({here.gpu}), TensorRT does"


def this_platform() -> str:
    """ "Linux-aarch64"."""
    return f"{platform.system()}-{platform.machine()}"


def expected_tensors(interface: Interface = "rgb") -> str:
    """What a graph or engine of this interface has, as words for an error."""
    entry, result = TENSORS[interface]
    return f"{'float32' if interface == 'float' else 'uint8'} {entry!r} in and {result!r} out"


def _of_this_process(trt: TensorRT) -> _Process:
    if id(trt) not in _processes:
        _processes[id(trt)] = _Process(trt, _new_log(trt))
    return _processes[id(trt)]


def _new_log(trt: TensorRT) -> TrtLog:
    errors: deque[str] = deque(maxlen=20)
    severities = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR)

    class Collector(trt.ILogger):  # type: ignore[misc, name-defined]  # a class of TensorRT's
        def __init__(self) -> None:
            super().__init__()

        def log(self, severity: Any, msg: str) -> None:
            if severity in severities:
                errors.append(_shortened(" ".join(msg.split())))

    return TrtLog(Collector(), errors)


def _shortened(line: str) -> str:
    """At most `_LONGEST` characters, cut between words."""
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST].rsplit(' ', 1)[0]} …"


def _imported(edition: Edition) -> Any:
    try:
        return importlib.import_module(edition.module)
    except ImportError as error:
        return error
