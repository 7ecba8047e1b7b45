"""Print, as JSON, what the TensorRT bindings on this path offer of the classes and enums below; needs no GPU.

Run by tests/test_tensorrt_contract.py in a process of its own for each version; tensorrt_api.json holds its answers.
"""

import json
import sys
from typing import Any

import tensorrt_bindings as trt  # type: ignore[import-not-found]  # on the path of this process only

CLASSES = (
    "Builder",
    "EngineInspector",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "IHostMemory",
    "ILayer",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IProfiler",
    "IProgressMonitor",
    "ITensor",
    "ITimingCache",
    "OnnxParser",
    "ParserError",
    "Runtime",
)
ENUMS = (
    "BuilderFlag",
    "DataType",
    "HardwareCompatibilityLevel",
    "ILogger.Severity",
    "LayerInformationFormat",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "ProfilingVerbosity",
    "TensorIOMode",
)


def members(kind: Any) -> dict[str, str]:
    """Name -> "method", "ro" or "rw"."""
    found = {}
    for name, member in vars(kind).items():
        if isinstance(member, property):
            found[name] = "rw" if member.fset else "ro"
        elif callable(member) and not name.startswith("_") and not isinstance(member, type):
            found[name] = "method"
    return found


def enum(name: str) -> Any:
    return trt.ILogger.Severity if name == "ILogger.Severity" else getattr(trt, name)


if __name__ == "__main__":
    facts = {
        "version": trt.__version__,
        "classes": {name: members(getattr(trt, name)) for name in CLASSES},
        "enums": {name: {key: int(value) for key, value in enum(name).__members__.items()} for name in ENUMS},
        "signatures": {
            f"{name}.{method}": member.__doc__ or ""
            for name in CLASSES
            for method, member in vars(getattr(trt, name)).items()
            if not isinstance(member, property) and (not method.startswith("_") or method == "__init__")
        },
    }
    json.dump(facts, sys.stdout)
