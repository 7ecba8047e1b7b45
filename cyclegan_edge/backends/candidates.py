"""Which engines in which precisions there are for a bundle, before any of them is opened."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import NamedTuple, get_args

from cyclegan_edge.backends.base import EngineName, format_of
from cyclegan_edge.bundle import Artifact, Bundle
from cyclegan_edge.contract import Precision
from cyclegan_edge.machine import cpu_flags, has_bfloat16, has_half

_COMPUTED_BY: dict[Precision, tuple[EngineName, ...]] = {  # where it is not every engine that reads the file
    "bf16": ("openvino",),  # of the float32 graph, by itself
    "int8": ("openvino", "onnxruntime"),
}
MODULES: dict[EngineName, str] = {  # where it is not that of the engine's name
    "onnx-tensorrt": "onnxruntime",
    "onnx-cuda": "onnxruntime",
    "tensorrt-rtx": "tensorrt_rtx",
}


class Candidate(NamedTuple):
    """An engine, and the precision that it computes in."""

    engine: EngineName
    precision: Precision

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}"


def artifact_of(bundle: Bundle, candidate: Candidate) -> Artifact | None:
    """What the candidate opens, or None when the bundle holds nothing for it."""
    engine, precision = candidate
    if not computes(engine, precision):
        return None
    return bundle.artifact(format_of(engine), "fp32" if precision == "bf16" else precision)


def computes(engine: EngineName, precision: Precision) -> bool:
    """Whether the engine can be asked for that precision at all."""
    return engine in _COMPUTED_BY.get(precision, (engine,))


def held(bundle: Bundle, engine: EngineName) -> list[Candidate]:
    """The engine in each precision that the bundle holds something for."""
    every = (Candidate(engine, precision) for precision in get_args(Precision))
    return [candidate for candidate in every if artifact_of(bundle, candidate)]


def is_exact(candidate: Candidate) -> bool:
    """Whether a CPU computes it in float32. Half precision is but a way to store weights, or OpenVINO's to compute."""
    match candidate:
        case (_, "fp32"):
            return True
        case ("openvino", "fp16"):
            return not has_half(cpu_flags())
        case (_, "fp16"):
            return True
    return False


def is_gain(candidate: Candidate) -> bool:
    """Whether this CPU may be faster with it than with float32."""
    match candidate.precision:
        case "bf16":
            return has_bfloat16(cpu_flags())
        case "fp16":
            return not is_exact(candidate)
    return candidate.precision == "int8"


def is_installed(engine: EngineName) -> bool:
    """Whether its module can be found; nothing is imported."""
    try:
        return find_spec(MODULES.get(engine, engine)) is not None
    except (ImportError, ValueError):  # None in sys.modules, a parent that does not load
        return False


def version_of(engine: EngineName) -> str:
    """The version of the installed package; empty where there is none by that name."""
    try:
        return version(MODULES.get(engine, engine).replace("_", "-"))
    except PackageNotFoundError:
        return ""
