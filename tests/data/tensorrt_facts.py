"""Print, as JSON, what the TensorRT of argv[1], a module, offers of the classes and enums below; needs no GPU.

Run by tests/test_tensorrt_contract.py in a process of its own for each version; tensorrt_api.json holds its answers.
"""

import importlib
import json
import sys
from typing import Any

trt: Any = importlib.import_module(sys.argv[1])

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
    "IRuntimeCache",
    "IRuntimeConfig",
    "ITensor",
    "ITimingCache",
    "OnnxParser",
    "ParserError",
    "Runtime",
)
ENUMS = (
    "BuilderFlag",
    "ComputeCapability",
    "CudaGraphStrategy",
    "DataType",
    "DynamicShapesKernelSpecializationStrategy",
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


def named(name: str) -> Any:
    """A class or enum; one without members where this version has none of that name."""
    return (
        trt.ILogger.Severity if name == "ILogger.Severity" else getattr(trt, name, type(name, (), {"__members__": {}}))
    )


if __name__ == "__main__":
    facts = {
        "version": trt.__version__,
        "classes": {name: members(named(name)) for name in CLASSES},
        "enums": {name: {key: int(value) for key, value in named(name).__members__.items()} for name in ENUMS},
        "signatures": {
            f"{name}.{method}": member.__doc__ or ""
            for name in CLASSES
            for method, member in vars(named(name)).items()
            if not isinstance(member, property) and (not method.startswith("_") or method == "__init__")
        },
    }
    json.dump(facts, sys.stdout)
