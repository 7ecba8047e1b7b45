"""Every TensorRT name that we use exists in each version we support; with NVIDIA's bindings there, in the real ones.

TensorRT needs a GPU and gigabytes of libraries. Its Python bindings do not: over empty libraries they import and hold
the real classes, enums and signatures. `make bindings` puts those of every version, a megabyte each, where this looks.
"""

import ast
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from cyclegan_edge.backends.tensorrt import api
from cyclegan_edge.backends.tensorrt.library import COMPUTE_CAPABILITIES

DATA = Path(__file__).parent / "data"
API = json.loads((DATA / "tensorrt_api.json").read_text(encoding="utf-8"))
VERSIONS: list[str] = API["versions"]  # six of TensorRT, one of TensorRT for RTX
RTX = VERSIONS[-1]
BINDINGS = Path(__file__).parent.parent / "build" / "bindings"
SOURCES = [path for path in Path(api.__file__).parent.glob("*.py") if path.name != "api.py"]

GONE_IN = {"BuilderFlag.FP16": ("11.0.0.114", "11.4.0.106", RTX)}  # guarded by the version: test_tensorrt_flow.py
ONLY_IN_RTX = {  # guarded by the edition: test_tensorrt_run.py
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability",
    "ICudaEngine.create_runtime_config",
}
ONLY_OF_RTX = {
    "ComputeCapability",
    "CudaGraphStrategy",
    "DynamicShapesKernelSpecializationStrategy",
    "IRuntimeCache",
    "IRuntimeConfig",
}


def kind(part: str, name: str, version: str) -> str | None:
    """What `name` ("Class.member") is in `version`, or None."""
    owner, _, member = name.rpartition(".")
    values = API[part].get(owner, {}).get(member, "-").split()
    value = values[0] if len(values) == 1 else values[VERSIONS.index(version)]
    return None if value == "-" else str(value)


def protocols() -> dict[str, type]:
    """The classes and enums of api.py by TensorRT's names; the module itself is not one of them."""
    found = {name: it for name, it in vars(api).items() if getattr(it, "_is_protocol", False) and it is not Protocol}
    return {name: it for name, it in found.items() if name != "TensorRT"}


def methods() -> dict[str, int]:
    """ "Builder.create_network" -> the number of arguments that we pass."""
    return {
        f"{owner}.{name}": len(inspect.signature(member).parameters) - 1
        for owner, protocol in protocols().items()
        for name, member in vars(protocol).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }


def attributes() -> set[str]:
    """ "ITensor.dtype", "BuilderFlag.TF32", ..."""
    return {f"{owner}.{name}" for owner, it in protocols().items() for name in inspect.get_annotations(it)}


def syntax() -> Iterator[ast.AST]:
    for source in SOURCES:
        yield from ast.walk(ast.parse(source.read_text(encoding="utf-8")))


def test_mypy_sees_every_use_of_tensorrt() -> None:
    """Whatever is called `trt` has the type TensorRT, from which all other types follow."""
    parameters = [node for node in syntax() if isinstance(node, ast.arg) and node.arg == "trt"]

    assert len(parameters) > 5
    assert {ast.unparse(node.annotation) for node in parameters if node.annotation} == {"TensorRT"}


def test_no_name_is_declared_that_is_not_used() -> None:
    used = {node.attr for node in syntax() if isinstance(node, ast.Attribute)} | {*COMPUTE_CAPABILITIES.values()}

    assert len(methods()) + len(attributes()) > 50
    assert {name.rpartition(".")[2] for name in (*methods(), *attributes())} <= used


@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_exists_in(version: str) -> None:
    written = {node.attr for node in syntax() if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    for name in (*methods(), *attributes()):
        owner, _, member = name.rpartition(".")
        owner = "ILogger.Severity" if owner == "Severity" else owner
        rtx_only = name in ONLY_IN_RTX or owner in ONLY_OF_RTX
        if version in GONE_IN.get(name, ()) or (rtx_only and version != RTX):
            continue
        part = "enums" if owner in API["enums"] else "classes"
        found = kind(part, f"{owner}.{member}", version)
        assert found is not None, f"TensorRT {version} has no {name}"
        if part == "classes":
            assert (found == "method") == (name in methods()), name
            assert found in ("method", "rw") or member not in written, f"TensorRT {version}: {name} cannot be set"


def test_no_flag_is_a_number() -> None:
    """Flags differ in value between 10 and 11: `1 << int(trt.X.Y)` is the only shift, and set_flag gets a name."""
    for node in syntax():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in {"set_flag", "clear_flag", "set_memory_pool_limit"}:
                assert ast.unparse(node.args[0]).startswith("trt."), ast.unparse(node)
            assert node.func.attr != "create_network" or ast.unparse(node.args[0]) == "_network_flags(edition, trt)"


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


def answer(program: str, bindings: Path, libraries: Path, *arguments: str) -> Any:
    """The JSON that a program of tests/data prints with those bindings."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries)}
    environment["PYTHONPATH"] = os.pathsep.join([str(bindings), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, DATA / program, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(params=VERSIONS[:-1])
def bindings(request: pytest.FixtureRequest) -> Path:
    """The folder of NVIDIA's bindings of a version."""
    found = sorted(BINDINGS.glob(f"*-{request.param}/tensorrt_bindings"))
    if not found:
        pytest.skip(f"needs TensorRT's bindings {request.param}: `make bindings`")
    return found[0].parent


def facts_agree(facts: Any, version: str) -> None:
    """What a module offers is what tensorrt_api.json says of that version, and it takes our numbers of arguments."""
    for part in ("classes", "enums"):
        for owner, members in API[part].items():
            recorded = {member: kind(part, f"{owner}.{member}", version) for member in members}
            expected = {member: str(value) for member, value in facts[part][owner].items()}
            assert {member: value for member, value in recorded.items() if value is not None} == expected, owner
    calls = {name: count for name, count in methods().items() if name in facts["signatures"]}
    assert len(calls) > 25
    for name, count in calls.items():
        lines = facts["signatures"][name].splitlines()
        accepted = [arity(line) for line in lines if re.match(r"(\d+\. )?\w+\(self", line)]
        assert any(low <= count <= high for low, high in accepted), (name, count, lines[:4])


def test_the_real_bindings_are_as_the_facts_say(bindings: Path, empty_libraries: Path) -> None:
    facts = answer("tensorrt_facts.py", bindings, empty_libraries, "tensorrt_bindings")

    facts_agree(facts, facts["version"])


def test_the_real_tensorrt_for_rtx_is_as_the_facts_say() -> None:
    pytest.importorskip("tensorrt_rtx")
    program = [sys.executable, str(DATA / "tensorrt_facts.py"), "tensorrt_rtx"]

    facts = json.loads(subprocess.run(program, capture_output=True, check=True).stdout)

    if f"rtx-{facts['version']}" != RTX:
        pytest.skip(f"tensorrt_api.json has the facts of {RTX}, this is {facts['version']}")
    facts_agree(facts, RTX)


def arity(signature: str) -> tuple[int, int]:
    """Fewest and most arguments after self of "name(self: A, b: B, c: C = <D: 0>) -> E"."""
    inside = signature[signature.index("(") + 1 : signature.rindex(") ->")]
    parameters = re.sub(r"[\[<(][^\[\]<>()]*[\])>]", "", inside).split(", ")[1:]
    return sum("=" not in parameter for parameter in parameters), len(parameters)


def test_our_code_reaches_the_real_factories_and_says_that_they_make_nothing(
    bindings: Path, empty_libraries: Path
) -> None:
    reached = answer("tensorrt_reach.py", bindings, empty_libraries)

    refusal = r"EngineError: TensorRT does not start here \(TensorRT gave no reason\); does it fit the CUDA driver\?"
    assert re.fullmatch(refusal, reached["build"])
    assert re.fullmatch(refusal, reached["explain"])
    assert re.fullmatch(refusal, reached["open"])
    assert reached["logged"] == "an error; it goes on"
    assert reached["steps"] == [["tactics", 0, 3], ["tactics", 1, 3], ["tactics", 2, 3]]
    assert reached["go_on"] == [True, False]
    assert reached["spent"] == {"stem": 0.75}
    assert reached["profiler_is_tensorrts"]
    assert reached["network_flags"] == (2 if reached["version"].startswith(("10.13", "10.16")) else 0)
