"""Which TensorRT this Python has, and what it says. It is imported when first asked for.

TensorRT keeps one logger per process, the first that it is given, so there is one here for each module.
"""

import importlib
import platform
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from cyclegan_edge.backends.cuda import load_cuda
from cyclegan_edge.backends.tensorrt.api import TensorRT
from cyclegan_edge.bundle import Device
from cyclegan_edge.contract import IMAGE, TRANSLATED
from cyclegan_edge.errors import EngineError

OLDEST = (10, 3)  # JetPack 6.1; 8.x lacks the progress monitor
CHANNELS = 3
Shape = tuple[int, int, int]  # N, H, W

_JETSON = Path("/etc/nv_tegra_release")  # there on every JetPack
_LONGEST = 300  # characters of one message; TensorRT's run to pages

T = TypeVar("T")


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


_logs: dict[int, tuple[TensorRT, TrtLog]] = {}  # by the module's identity, which holding it keeps unique


def trt_log(trt: TensorRT) -> TrtLog:
    """The process's one logger for this TensorRT, and what it has collected."""
    if id(trt) not in _logs:
        _logs[id(trt)] = (trt, _new_log(trt))
    return _logs[id(trt)][1]


def create(factory: Callable[[Any], T], log: TrtLog) -> T:
    """A Builder or Runtime. Raises EngineError when TensorRT makes none, which its bindings report as a TypeError."""
    try:
        return factory(log.logger)
    except TypeError as error:
        raise EngineError(f"TensorRT does not start here ({log.reason()}); does it fit the CUDA driver?") from error


def load_tensorrt() -> TensorRT:
    """The module `tensorrt`. Raises EngineError with what to install when it is missing, broken or older than 10.3."""
    trt = _imported()
    if isinstance(trt, ImportError):
        raise EngineError(why_missing()) from trt
    if release(trt.__version__) < OLDEST:
        raise EngineError(
            f"TensorRT {trt.__version__} is too old, expected {OLDEST[0]}.{OLDEST[1]} or newer; "
            f"use JetPack 6.1 or newer, elsewhere `pip install --upgrade 'cyclegan-edge[tensorrt]'`."
        )
    return cast("TensorRT", trt)


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


def expected_tensors() -> str:
    """What every graph and engine of pictures has, as words for an error."""
    return f"uint8 {IMAGE!r} in and {TRANSLATED!r} out"


def _new_log(trt: TensorRT) -> TrtLog:
    errors: deque[str] = deque(maxlen=20)
    severities = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR)

    class Collector(trt.ILogger):  # type: ignore[misc, name-defined]  # a class of TensorRT's
        def log(self, severity: Any, msg: str) -> None:
            if severity in severities:
                errors.append(_shortened(" ".join(msg.split())))

    return TrtLog(Collector(), errors)


def _shortened(line: str) -> str:
    """At most `_LONGEST` characters, cut between words."""
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST].rsplit(' ', 1)[0]} …"


def _imported() -> Any:
    try:
        return importlib.import_module("tensorrt")
    except ImportError as error:
        return error
