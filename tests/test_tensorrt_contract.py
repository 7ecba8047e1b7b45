"""Every TensorRT name in our code exists in each version we support; with NVIDIA's bindings at hand, in the real ones.

TensorRT needs a GPU and gigabytes of libraries. Its Python bindings do not: over empty libraries they import and hold
the real classes, enums and signatures. `make bindings` puts those of every version, a megabyte each, where this looks.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import cyclegan_edge.backends.plan
import cyclegan_edge.backends.trt
import cyclegan_edge.export.explain
import cyclegan_edge.export.to_tensorrt

DATA = Path(__file__).parent / "data"
API = json.loads((DATA / "tensorrt_api.json").read_text(encoding="utf-8"))
VERSIONS: list[str] = API["versions"]
SOURCES = [
    Path(module.__file__ or "")
    for module in (
        cyclegan_edge.backends.plan,
        cyclegan_edge.backends.trt,
        cyclegan_edge.export.explain,
        cyclegan_edge.export.to_tensorrt,
    )
]
BINDINGS = Path(__file__).parent.parent / "build" / "bindings"

VARIABLES = {  # what our names stand for, `self._` included
    "builder": "Builder",
    "builder_config": "IBuilderConfig",
    "context": "IExecutionContext",
    "engine": "ICudaEngine",
    "inspector": "EngineInspector",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
    "refusal": "ParserError",
    "result": "ITensor",
    "runtime": "Runtime",
    "trt": "trt",
}
RETURNS = {
    "IBuilderConfig.get_timing_cache": "ITimingCache",
    "INetworkDefinition.get_input": "ITensor",
    "INetworkDefinition.get_layer": "ILayer",
}
ASKED_FOR_WHERE_PRESENT = {  # guarded by the version, as the fake of each version proves in test_tensorrt_flow.py
    "BuilderFlag.BF16": ("11.0.0.114", "11.4.0.106"),
    "BuilderFlag.FP16": ("11.0.0.114", "11.4.0.106"),
    "HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY": ("10.3.0", "10.7.0"),
}


@dataclass(frozen=True)
class Use:
    name: str  # "IBuilderConfig.set_flag"
    arguments: int | None = None  # of a call
    written: bool = False


def kind(part: str, name: str, version: str) -> str | None:
    """What `name` ("Class.member") is in `version`, or None."""
    owner, _, member = name.rpartition(".")
    values = API[part].get(owner, {}).get(member, "-").split()
    value = values[0] if len(values) == 1 else values[VERSIONS.index(version)]
    return None if value == "-" else str(value)


def uses() -> set[Use]:
    found: set[Use] = set()
    for source in SOURCES:
        tree = ast.parse(source.read_text(encoding="utf-8"))
        calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and (owner := stands_for(node.value)):
                call = calls.get(id(node))
                starred = call is not None and any(isinstance(item, ast.Starred) for item in call.args)
                arguments = len(call.args) + len(call.keywords) if call and not starred else None
                name = node.attr if owner == "trt" else f"{owner}.{node.attr}"
                found.add(Use(name, arguments, isinstance(node.ctx, ast.Store)))
    return found


def stands_for(node: ast.expr) -> str | None:
    match node:
        case ast.Name(id=name):
            return VARIABLES.get(name)
        case ast.Attribute(value=ast.Name(id="self"), attr=name):
            return VARIABLES.get(name.removeprefix("_"))
        case ast.Attribute(value=owner, attr=name):
            above = stands_for(owner)
            return name if above == "trt" else f"{above}.{name}" if f"{above}.{name}" in API["enums"] else None
        case ast.Call(func=ast.Attribute(value=owner, attr=name)):
            return RETURNS.get(f"{stands_for(owner)}.{name}")
    return None


def test_the_scan_sees_what_we_call() -> None:
    names = {use.name for use in uses()}

    assert len(names) > 55
    assert names >= {
        "BuilderFlag.FP16",
        "Builder.build_serialized_network",
        "IExecutionContext.execute_async_v3",
        "ILogger.Severity.ERROR",
        "ITensor.dtype",
        "ITimingCache.serialize",
        "ParserError.desc",
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_exists_in(version: str) -> None:
    known = {*API["classes"], *API["enums"], "ILogger.Severity", "__version__"}
    for use in uses():
        if use.name in known or version in ASKED_FOR_WHERE_PRESENT.get(use.name, ()):
            continue
        part = "enums" if use.name.rpartition(".")[0] in API["enums"] else "classes"
        found = kind(part, use.name, version)
        assert found is not None, f"TensorRT {version} has no {use.name}"
        if part == "classes":
            assert (found == "method") == (use.arguments is not None) or found == "method", use
            assert found == "rw" or not use.written, f"TensorRT {version}: {use.name} cannot be set"


def test_no_flag_is_a_number() -> None:
    """`1 << int(trt.X.Y)` is the only shift by a flag, and set_flag gets a name."""
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr in {"set_flag", "clear_flag", "set_memory_pool_limit"}:
                    assert ast.unparse(node.args[0]).startswith("trt."), ast.unparse(node)
                assert node.func.attr != "create_network" or ast.unparse(node.args[0]) == "_network_flags(trt)"


@pytest.fixture(scope="session")
def empty_libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """libnvinfer and its two companions, holding just what the bindings look for, and a CUDA of host memory."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("libraries")
    source = DATA / "empty_nvinfer.c"
    for library in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
        for major in (10, 11):
            name = f"lib{library}.so.{major}"
            subprocess.run(
                [compiler, "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", folder / name, source], check=True
            )
    for name in ("libcudart.so.13", "libcuda.so.1"):
        subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / name, DATA / "fake_cudart.c"], check=True)
    return folder


def answer(program: str, bindings: Path, libraries: Path) -> Any:
    """The JSON that a program of tests/data prints with those bindings."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries)}
    environment["PYTHONPATH"] = os.pathsep.join([str(bindings), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, DATA / program], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(params=VERSIONS)
def bindings(request: pytest.FixtureRequest) -> Path:
    """The folder of NVIDIA's bindings of a version."""
    found = sorted(BINDINGS.glob(f"*-{request.param}/tensorrt_bindings"))
    if not found:
        pytest.skip(f"needs TensorRT's bindings {request.param}: `make bindings`")
    return found[0].parent


def test_the_real_bindings_are_as_the_facts_say(bindings: Path, empty_libraries: Path) -> None:
    facts = answer("tensorrt_facts.py", bindings, empty_libraries)

    version = facts["version"]
    for part in ("classes", "enums"):
        for owner, members in API[part].items():
            recorded = {member: kind(part, f"{owner}.{member}", version) for member in members}
            expected = {member: str(value) for member, value in facts[part][owner].items()}
            assert {member: value for member, value in recorded.items() if value is not None} == expected, owner


def test_the_real_signatures_take_our_arguments(bindings: Path, empty_libraries: Path) -> None:
    signatures = answer("tensorrt_facts.py", bindings, empty_libraries)["signatures"]

    calls = [use for use in uses() if use.arguments is not None and use.name in signatures]
    assert len(calls) > 30
    for use in calls:
        accepted = [arity(line) for line in signatures[use.name].splitlines() if re.match(r"(\d+\. )?\w+\(self", line)]
        assert any(low <= (use.arguments or 0) <= high for low, high in accepted), (use, signatures[use.name][:200])


def arity(signature: str) -> tuple[int, int]:
    """Fewest and most arguments after self of "name(self: A, b: B, c: C = <D: 0>) -> E"."""
    inside = signature[signature.index("(") + 1 : signature.rindex(") ->")]
    parameters = re.sub(r"[\[<(][^\[\]<>()]*[\])>]", "", inside).split(", ")[1:]
    return sum("=" not in parameter for parameter in parameters), len(parameters)


def test_our_code_reaches_the_real_factories_and_says_that_they_make_nothing(
    bindings: Path, empty_libraries: Path
) -> None:
    told = answer("tensorrt_reach.py", bindings, empty_libraries)

    refusal = r"EngineError: TensorRT does not start here \(TensorRT gave no reason\); does it fit the CUDA driver\?"
    assert re.fullmatch(refusal, told["build"])
    assert re.fullmatch(refusal, told["explain"])
    assert re.fullmatch(refusal, told["open"])
    assert told["heard"] == "an error; it goes on"
    assert told["steps"] == [["tactics", 0, 3], ["tactics", 1, 3], ["tactics", 2, 3]]
    assert told["go_on"] == [True, False]
    assert told["spent"] == {"stem": 0.75}
    assert told["heard_by_tensorrt"]
    assert told["network_flags"] == (2 if told["version"].startswith(("10.13", "10.16")) else 0)
