"""backends/onnxruntime.py on the providers for GPUs, which a build for CPUs does not have."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from torch import nn

from cyclegan_edge import backends
from cyclegan_edge.backends import onnxruntime as onnxruntime_backend
from cyclegan_edge.backends import open_backend
from cyclegan_edge.backends.base import EngineName
from cyclegan_edge.backends.onnxruntime import open_session, run_session
from cyclegan_edge.bundle import read_bundle
from cyclegan_edge.contract import IMAGE, TRANSLATED, GraphPrecision, Precision
from cyclegan_edge.errors import EngineError
from cyclegan_edge.export.formats.onnx import Graph, write_onnx

GPU_ENGINES: dict[EngineName, str] = {"onnx-cuda": "CUDA", "onnx-tensorrt": "Tensorrt"}  # and their providers
CUDA_OPTIONS = {  # that the parser of onnxruntime-gpu 1.31.1 took
    "arena_extend_strategy", "cudnn_conv_algo_search", "cudnn_conv_use_max_workspace", "do_copy_in_default_stream",
    "enable_cuda_graph", "fuse_conv_bias", "gpu_mem_limit", "prefer_nhwc", "use_ep_level_unified_stream", "use_tf32",
}  # fmt: skip
TENSORRT_OPTIONS = {
    "trt_builder_optimization_level", "trt_cuda_graph_enable", "trt_engine_cache_enable", "trt_engine_cache_path",
    "trt_fp16_enable", "trt_layer_norm_fp32_fallback", "trt_max_workspace_size", "trt_timing_cache_enable",
}  # fmt: skip


class FakeRuntime:
    """onnxruntime's build for GPUs, on a machine where the providers `starts` do start; the rest is the real one's."""

    __version__ = "1.32.0"
    __file__ = "/nowhere/onnxruntime/__init__.py"

    def __init__(self, starts: list[str]) -> None:
        self.says = ""  # instead of opening a session
        self.starts = [f"{name}ExecutionProvider" for name in (*starts, "CPU")]
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.fallback = True

    def __getattr__(self, name: str) -> Any:
        return getattr(onnxruntime, name)

    def get_available_providers(self) -> list[str]:
        return [f"{name}ExecutionProvider" for name in ("Tensorrt", "CUDA", "CPU")]

    def set_default_logger_severity(self, severity: int) -> None:
        assert severity == 4, "or it prints"

    def preload_dlls(self) -> None:
        print("Failed to load libcudnn.so.9")  # noqa: T201  # as the real one does

    def InferenceSession(  # noqa: N802
        self, path: str, options: object, *, providers: list[Any], enable_fallback: int
    ) -> SimpleNamespace:
        self.asked, self.fallback = providers, bool(enable_fallback)
        if self.says:
            raise RuntimeError(self.says)
        return SimpleNamespace(
            get_providers=lambda: self.starts,
            disable_fallback=lambda: None,
            run=lambda names, feeds: [255 - feeds["image"]],
        )


@pytest.fixture
def gpu_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., FakeRuntime]:
    """Make ONNX Runtime the build for GPUs on a machine where the given providers start."""

    def install(*starts: str) -> FakeRuntime:
        fake = FakeRuntime(list(starts))
        monkeypatch.setattr(onnxruntime_backend, "onnxruntime", fake)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        return fake

    return install


@pytest.mark.parametrize(("engine", "provider"), GPU_ENGINES.items())
def test_a_gpu_provider_that_starts_is_used_without_a_way_back(
    engine: EngineName, provider: str, tiny_bundle: Path, gpu_build: Callable[..., FakeRuntime]
) -> None:
    fake = gpu_build(provider)

    backend, _ = open_backend(read_bundle(tiny_bundle), engine=engine)

    assert (backend.name, backend.device) == (f"{engine} 1.32.0 fp16", {"Tensorrt": "TensorRT"}.get(provider, provider))
    assert fake.asked[0][0] == f"{provider}ExecutionProvider"
    assert not fake.fallback
    assert backend.run(np.zeros((1, 8, 8, 3), np.uint8)).min() == 255


@pytest.mark.parametrize(("engine", "title"), [("onnx-cuda", "CUDA"), ("onnx-tensorrt", "TensorRT")])
def test_a_gpu_provider_that_gives_way_to_the_cpu_is_refused(
    engine: EngineName,
    title: str,
    tiny_bundle: Path,
    gpu_build: Callable[..., FakeRuntime],
    capsys: pytest.CaptureFixture[str],
) -> None:
    gpu_build()

    with pytest.raises(EngineError, match=rf"ONNX Runtime 1\.32\.0 started CPU instead of {title}; make the driver"):
        open_backend(read_bundle(tiny_bundle), engine=engine)

    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("precision", "options"), [("fp32", {"use_tf32": "0"}), ("fp16", {})])
def test_float32_on_cuda_keeps_its_mantissa_and_half_its_tensor_cores(
    precision: Precision, options: dict[str, str], tiny_bundle: Path, gpu_build: Callable[..., FakeRuntime]
) -> None:
    fake = gpu_build("CUDA")

    open_backend(read_bundle(tiny_bundle), engine="onnx-cuda", precision=precision)

    assert fake.asked[0] == ("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC", **options})


@pytest.mark.parametrize(("provider", "known"), [("cuda", CUDA_OPTIONS), ("tensorrt", TENSORRT_OPTIONS)])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_every_option_is_one_that_the_provider_knows(
    provider: str, known: set[str], precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build for GPUs refuses a session for one that it does not know; a build for CPUs has nothing to ask."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    options = onnxruntime_backend._provider_options(provider, precision)

    assert options
    assert options.keys() <= known


REFUSALS = {  # what onnxruntime-gpu 1.31.1 says, and what of it we say
    "a driver that is too old": (
        "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:154 std::conditional_t<THRW, void, onnxruntime::"
        "common::Status> onnxruntime::CudaCall(ERRTYPE, const char*, int) [with ERRTYPE = cudaError; bool THRW = true] "
        "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:146 std::conditional_t<THRW, void, onnxruntime::"
        "common::Status> onnxruntime::CudaCall(ERRTYPE, const char*, int) [with ERRTYPE = cudaError; bool THRW = true] "
        "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; GPU=-1 ; hostname=vm ; "
        "file=/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_execution_provider.cc ; line=355\n\n",
        "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version",
    ),
    "TensorRT that is not there": (
        "/onnxruntime_src/onnxruntime/python/onnxruntime_pybind_state.cc:729 void onnxruntime::python::"
        "RegisterTensorRTPluginsAsCustomOps(PySessionOptions&, const onnxruntime::ProviderOptions&) Please install "
        "TensorRT libraries as mentioned in the GPU requirements page\n",
        "Please install TensorRT libraries as mentioned in the GPU requirements page",
    ),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_a_provider_says_is_told_without_its_source_and_our_host(
    refusal: str, tiny_bundle: Path, gpu_build: Callable[..., FakeRuntime]
) -> None:
    fake = gpu_build("CUDA")
    fake.says, words = REFUSALS[refusal]

    with pytest.raises(EngineError) as raised:
        open_backend(read_bundle(tiny_bundle), engine="onnx-cuda")

    graph = tiny_bundle / "generator-fp16.onnx"
    assert str(raised.value) == (
        f"ONNX Runtime 1.32.0 refuses {graph} on CUDA ({words}); make the driver, CUDA and cuDNN fit it, or choose the "
        "engine onnxruntime."
    )


def test_a_provider_s_library_that_does_not_load_is_named_by_the_loader(
    tiny_bundle: Path, tmp_path: Path, gpu_build: Callable[..., FakeRuntime], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "onnxruntime" / "capi" / "libonnxruntime_providers_cuda.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"no library")
    fake = gpu_build()
    monkeypatch.setattr(fake, "__file__", str(tmp_path / "onnxruntime" / "__init__.py"))

    with pytest.raises(EngineError, match=r"started CPU instead of CUDA \(.*providers_cuda\.so: .*\); make the driver"):
        open_backend(read_bundle(tiny_bundle), engine="onnx-cuda")


@pytest.mark.parametrize(("precision", "fp16"), [("fp16", "1"), ("fp32", "0")])
def test_the_tensorrt_provider_keeps_its_engines_in_the_user_s_cache(
    precision: Precision, fp16: str, tiny_bundle: Path, tmp_path: Path, gpu_build: Callable[..., FakeRuntime]
) -> None:
    fake = gpu_build("Tensorrt")

    open_backend(read_bundle(tiny_bundle), engine="onnx-tensorrt", precision=precision)

    options = fake.asked[0][1]
    assert options["trt_fp16_enable"] == fp16
    assert options["trt_engine_cache_path"] == str(tmp_path / "cache" / "cyclegan-edge" / "onnxruntime-tensorrt")
    assert Path(options["trt_engine_cache_path"]).is_dir()


def test_auto_takes_cuda_that_starts_and_passes_over_cuda_that_does_not(
    tiny_bundle: Path, gpu_build: Callable[..., FakeRuntime], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "_has_nvidia", lambda: True)
    gpu_build("CUDA")
    taken, _ = open_backend(read_bundle(tiny_bundle))
    gpu_build()
    instead, reasons = open_backend(read_bundle(tiny_bundle))

    assert taken.name == "onnx-cuda 1.32.0 fp16"
    assert not instead.name.startswith("onnx-")
    assert any("onnx-cuda was passed over: ONNX Runtime 1.32.0 started CPU instead of CUDA" in it for it in reasons)


def test_onnxruntime_is_the_cpu_even_where_cuda_would_start(
    tiny_bundle: Path, gpu_build: Callable[..., FakeRuntime]
) -> None:
    fake = gpu_build()

    backend, _ = open_backend(read_bundle(tiny_bundle), engine="onnxruntime", threads=3)

    assert (backend.name, backend.device) == ("onnxruntime 1.32.0 fp32", "CPU, 3 threads")
    assert fake.asked == [("CPUExecutionProvider", {})]


def test_a_build_without_the_provider_is_refused_with_the_command_that_adds_it(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])

    with pytest.raises(EngineError, match=r"is not built for TensorRT; `pip uninstall -y onnxruntime && pip install"):
        open_backend(read_bundle(tiny_bundle), engine="onnx-tensorrt")


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "levels"), [("fp32", 1), ("fp16", 4)])
def test_on_a_gpu_cuda_gives_the_pictures_of_the_cpu(
    precision: GraphPrecision, levels: int, generator: nn.Module, tmp_path: Path, rng: np.random.Generator
) -> None:
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("needs onnxruntime-gpu")
    graph, pictures = tmp_path / "generator.onnx", rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    write_onnx(generator, graph, Graph(precision))

    found, expected = (
        run_session(open_session(graph, it, precision=precision), TRANSLATED, {IMAGE: pictures})
        for it in ("cuda", "cpu")
    )

    assert np.abs(found.astype(int) - expected).max() <= levels
