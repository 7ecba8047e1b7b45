"""The calls our builder and backend make, on a TensorRT that records them.

The fake of each version (tests/data/fake_tensorrt.py) has the names of that version and no others. Nothing here shows
that an engine builds, runs or is fast: that takes a GPU.
"""

import ctypes
import dataclasses
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cyclegan_edge.backends import trt as backend
from cyclegan_edge.backends.cuda import Cuda
from cyclegan_edge.backends.trt import TrtBackend, load_tensorrt, tensorrt_version, this_device, why_missing
from cyclegan_edge.bundle import Artifact, Bundle, Device, Manifest, Source
from cyclegan_edge.errors import BundleError, ConfigError, EngineError, ExportError
from cyclegan_edge.export.to_tensorrt import EngineConfig, build_engine, explain, graph_precision_needed
from cyclegan_edge.files import sha256

DATA = Path(__file__).parent / "data"
FAKE = runpy.run_path(str(DATA / "fake_tensorrt.py"))
VERSIONS: list[str] = FAKE["VERSIONS"]
WEAK, STRONG = VERSIONS[:2], VERSIONS[2:4]  # 11 is always strong, and is not asked
SHAPES = FAKE["SHAPES"]
GRAPH = Path("generator.onnx")


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    path = tmp_path_factory.mktemp("cudart") / "libcudart.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", path, DATA / "fake_cudart.c"], check=True)
    return path


@pytest.fixture
def install(compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Make `import tensorrt` give the fake of a version."""

    def installed(version: str) -> Any:
        library = str(shutil.copy(compiled, tmp_path / "libcudart.so"))
        fake = FAKE["Fake"](version, ctypes.CDLL(library))
        monkeypatch.setitem(sys.modules, "tensorrt", fake.module)
        cuda = Cuda(library, driver=library)
        monkeypatch.setattr(backend, "load_cuda", lambda: cuda)
        return fake

    return installed


@pytest.fixture
def fake(install: Callable[[str], Any]) -> Any:
    return install(VERSIONS[0])


def bundle_with(folder: Path, **changed: Any) -> Bundle:
    (folder / "plan").write_bytes(b"plan")
    artifact = Artifact(
        file="plan", format="tensorrt", precision="fp16", sha256=sha256(folder / "plan"), device=this_device()
    )
    manifest = Manifest(
        name="x",
        direction="ab",
        size=256,
        architecture={},
        source=Source(file="checkpoint.pt", sha256="0", step=1),
        artifacts=(dataclasses.replace(artifact, **changed),),
    )
    return Bundle(folder, manifest)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_half_engine_is_built_as_its_version_wants(install: Callable[[str], Any], version: str) -> None:
    fake = install(version)

    built = build_engine(GRAPH, EngineConfig(shapes=SHAPES))

    assert (built.plan, built.shapes, built.precision) == (b"plan", SHAPES, "fp16")
    assert built.device.tensorrt == version
    assert fake.called("Builder.create_network") == [(2,) if version in STRONG else (0,)]
    flags = [flag.name for (flag,) in fake.called("IBuilderConfig.set_flag")]
    assert flags == (["FP16"] if version in WEAK else [])
    assert fake.called("IOptimizationProfile.set_shape") == [("image", *((*shape, 3) for shape in SHAPES))]
    assert fake.called("IBuilderConfig.set_memory_pool_limit") == [(fake.module.MemoryPoolType.WORKSPACE, 1 << 30)]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_single_precision_engine_keeps_its_mantissa(install: Callable[[str], Any], version: str) -> None:
    fake = install(version)
    fake.halves = False

    build_engine(GRAPH, EngineConfig(shapes=SHAPES, precision="fp32"))

    assert [flag.name for (flag,) in fake.called("IBuilderConfig.clear_flag")] == ["TF32"]
    assert fake.called("IBuilderConfig.set_flag") == []


@pytest.mark.parametrize("version", VERSIONS)
def test_the_graph_of_the_wrong_precision_is_refused(install: Callable[[str], Any], version: str) -> None:
    fake = install(version)
    fake.halves = not fake.halves

    with pytest.raises(ExportError, match=rf"TensorRT {version} builds an fp16 engine from the fp(16|32) graph; pass"):
        build_engine(GRAPH, EngineConfig(shapes=SHAPES))


@pytest.mark.parametrize("version", VERSIONS)
def test_wider_plans_are_asked_for_by_name(install: Callable[[str], Any], version: str) -> None:
    fake = install(version)
    config = EngineConfig(shapes=SHAPES, version_compatible=True, hardware_compatible="ampere_plus")
    same = EngineConfig(shapes=SHAPES, hardware_compatible="same_compute_capability")

    build_engine(GRAPH, config)

    assert fake.called("IBuilderConfig.set_flag")[-1] == (fake.module.BuilderFlag.VERSION_COMPATIBLE,)
    assert fake.config.hardware_compatibility_level == fake.module.HardwareCompatibilityLevel.AMPERE_PLUS
    if version in WEAK:
        with pytest.raises(ExportError, match=f"which TensorRT {version} lacks; try 'ampere_plus'"):
            build_engine(GRAPH, same)
    else:
        build_engine(GRAPH, same)


def test_what_the_parser_refuses_is_told_in_its_words(fake: Any) -> None:
    fake.parses = False

    with pytest.raises(ExportError, match=r"cannot read generator.onnx \(Pad pad_3: no reflection\)"):
        build_engine(GRAPH, EngineConfig(shapes=SHAPES))


def test_why_a_build_failed_is_told_in_its_words(fake: Any) -> None:
    fake.builds = False

    with pytest.raises(ExportError, match=r"could not build .* \(Error Code 2: out of device memory\)"):
        build_engine(GRAPH, EngineConfig(shapes=SHAPES))


def test_a_graph_of_fixed_size_needs_no_profile_and_takes_no_other_size(fake: Any) -> None:
    fake.input_shape = (1, 256, 256, 3)

    build_engine(GRAPH, EngineConfig(shapes=((1, 256, 256),) * 3))
    with pytest.raises(ExportError, match=r"takes only batches of \(1, 256, 256\), but shapes is"):
        build_engine(GRAPH, EngineConfig(shapes=SHAPES))

    assert fake.called("IBuilderConfig.add_optimization_profile") == []


def test_progress_is_reported_and_can_stop_the_build(fake: Any) -> None:
    steps: list[tuple[str, int, int]] = []

    def report(*step: Any) -> bool:
        steps.append(step)
        return len(steps) < 2

    with pytest.raises(ExportError, match="was not built: it was stopped"):
        build_engine(GRAPH, EngineConfig(shapes=SHAPES), report=report)

    assert steps == [("Building", 0, 2), ("Building", 1, 2)]


def test_ctrl_c_stops_the_build(fake: Any) -> None:
    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(0.5)  # TensorRT is busy until its next step

    fake.during_build = interrupt

    with pytest.raises(KeyboardInterrupt):
        build_engine(GRAPH, EngineConfig(shapes=SHAPES))

    assert fake.steps == [False, False]


def test_timings_are_kept_per_device_and_used_again(fake: Any, tmp_path: Path) -> None:
    config = EngineConfig(shapes=SHAPES, timing_caches=tmp_path / "caches")

    build_engine(GRAPH, config)
    build_engine(GRAPH, config)
    fake.cache_fits = False
    build_engine(GRAPH, config)

    (file,) = (tmp_path / "caches").iterdir()
    assert file.name.startswith("Fake-Orin-8.7-tensorrt-10.3.0-Linux-")
    used = [cache for cache, _ in fake.called("IBuilderConfig.set_timing_cache")]
    assert used == ["empty", b"timings", b"timings", "empty"]


def test_an_unwritable_timing_cache_does_not_cost_the_engine(fake: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    built = build_engine(GRAPH, EngineConfig(shapes=SHAPES, timing_caches=tmp_path / "file"))

    assert "was not written" in built.warnings[-1]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"shapes": ((1, 250, 256),) * 3}, "multiples of 4"),
        ({"shapes": (SHAPES[2], SHAPES[1], SHAPES[0])}, "to shrink from one to the next"),
        ({"workspace_mib": 0}, "try 1024"),
        ({"optimization_level": 6}, "expected 0 to 5"),
    ],
)
def test_a_wrong_setting_is_a_sentence(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        EngineConfig(**{"shapes": SHAPES, **wrong})


def test_the_layer_table_is_in_tensorrts_words(fake: Any) -> None:
    stem, other = explain(b"plan", (1, 256, 256))

    assert (stem.name, stem.kind, stem.inputs, stem.outputs) == ("stem", "CaskConvolution", ("Half",), ("Half",))
    assert (other.name, other.kind) == ("a layer of which only the name is known", "")
    assert fake.called("EngineInspector.execution_context =") == [(fake.context,)]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_picture_goes_through_and_the_graph_takes_over(
    install: Callable[[str], Any], version: str, tmp_path: Path
) -> None:
    fake = install(version)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (1, 256, 256, 3), dtype=np.uint8) for _ in range(4)]

    engine = TrtBackend(bundle_with(tmp_path))
    results = [engine.run(picture) for picture in pictures]

    for picture, result in zip(pictures, results, strict=True):
        np.testing.assert_array_equal(result, 255 - picture)
    assert (engine.name, engine.device) == (f"tensorrt {version} fp16", "Fake Orin")
    assert len(fake.called("IExecutionContext.execute_async_v3")) == 2, "once plainly, once into the graph"
    assert fake.cudart.fake_calls(b"cudaGraphLaunch") == 3
    order = [name for name, _ in fake.calls if name.startswith("IExecutionContext.set_input") or "infer" in name]
    assert order == ["IExecutionContext.set_input_shape", "IExecutionContext.infer_shapes"]
    engine.close()
    assert fake.cudart.fake_live() == 0


def test_another_shape_starts_over(fake: Any, tmp_path: Path) -> None:
    engine = TrtBackend(bundle_with(tmp_path))
    small, large = np.full((1, 256, 256, 3), 7, np.uint8), np.full((2, 512, 512, 3), 9, np.uint8)

    for picture in (small, small, large, small, small):
        np.testing.assert_array_equal(engine.run(picture), 255 - picture)

    assert fake.called("IExecutionContext.set_input_shape") == [
        ("image", picture.shape) for picture in (small, large, small)
    ]
    assert fake.cudart.fake_calls(b"cudaGraphExecDestroy") == 1
    engine.close()
    assert fake.cudart.fake_live() == 0


def test_without_the_graph_every_batch_runs_plainly(fake: Any, tmp_path: Path) -> None:
    engine = TrtBackend(bundle_with(tmp_path), cuda_graph=False)

    for _ in range(3):
        engine.run(np.zeros((1, 256, 256, 3), np.uint8))

    assert len(fake.called("IExecutionContext.execute_async_v3")) == 3
    assert fake.cudart.fake_calls(b"cudaStreamBeginCapture") == 0


def test_threads_take_turns(fake: Any, tmp_path: Path) -> None:
    engine = TrtBackend(bundle_with(tmp_path), cuda_graph=False)
    fake.during_run = lambda: time.sleep(0.002)  # long enough for another thread to come in
    wrong: list[int] = []

    def work(value: int) -> None:
        picture = np.full((1, 256, 256, 3), value, np.uint8)
        wrong.extend(value for _ in range(5) if (engine.run(picture) != 255 - value).any())

    threads = [threading.Thread(target=work, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


@pytest.mark.parametrize(
    ("picture", "sentence"),
    [
        (
            np.zeros((1, 720, 1280, 3), np.uint8),
            r"from \(1, 256, 256\) to \(2, 512, 512\), got \(1, 720, 1280\); rebuild",
        ),
        (np.zeros((1, 256, 256, 3), np.float32), r"images is float32 \(1, 256, 256, 3\), expected uint8"),
        (np.zeros((256, 256, 3), np.uint8), r"expected uint8 \(N, H, W, 3\)"),
        (np.zeros((1, 258, 256, 3), np.uint8), r"expected uint8 \(N, H, W, 3\) with H and W multiples of 4 from 8"),
    ],
)
def test_a_picture_the_engine_was_not_built_for_is_a_sentence(
    fake: Any, tmp_path: Path, picture: np.ndarray, sentence: str
) -> None:
    with pytest.raises(EngineError, match=sentence):
        TrtBackend(bundle_with(tmp_path)).run(picture)


@pytest.mark.parametrize("batches", [1, 2], ids=["plainly", "while capturing"])
def test_a_failing_network_is_told_in_its_words_and_leaks_nothing(fake: Any, tmp_path: Path, batches: int) -> None:
    engine = TrtBackend(bundle_with(tmp_path))
    picture = np.zeros((1, 256, 256, 3), np.uint8)
    for _ in range(batches - 1):
        engine.run(picture)
    fake.runs = False

    with pytest.raises(EngineError, match=r"could not translate the batch \(illegal memory access\)"):
        engine.run(picture)

    fake.runs = True
    np.testing.assert_array_equal(engine.run(picture), 255 - picture)
    engine.close()
    assert fake.cudart.fake_live() == 0


@pytest.mark.parametrize("call", ["cudaStreamCreateWithFlags", "cudaHostAlloc", "cudaMalloc"])
def test_memory_that_runs_out_while_opening_leaks_nothing(fake: Any, tmp_path: Path, call: str) -> None:
    bundle = bundle_with(tmp_path)
    fake.cudart.fake_fail(call.encode(), 2)

    with pytest.raises(EngineError, match=f"{call} failed: out of memory"):
        TrtBackend(bundle)

    assert fake.cudart.fake_live() == 0


def test_a_plan_of_another_machine_is_never_opened(fake: Any, tmp_path: Path) -> None:
    other = Device(gpu="Orin", compute_capability="8.7", tensorrt="10.13.3.9", platform="Linux-aarch64")
    bundle = bundle_with(tmp_path, device=other)

    with pytest.raises(
        EngineError,
        match=r"plan was built for Orin \(8.7\), TensorRT 10.13.3.9, Linux-aarch64, but this is Fake Orin \(8.7\), "
        r"TensorRT 10.3.0, .*; rebuild it here with `cyclegan-edge export --fp16`",
    ):
        TrtBackend(bundle)

    assert fake.called("Runtime.deserialize_cuda_engine") == []


def test_a_plan_that_was_tampered_with_is_never_opened(fake: Any, tmp_path: Path) -> None:
    bundle = bundle_with(tmp_path)
    (tmp_path / "plan").write_bytes(b"evil")

    with pytest.raises(BundleError, match="SHA-256"):
        TrtBackend(bundle)

    assert fake.called("Runtime.deserialize_cuda_engine") == []


def test_a_plan_that_tensorrt_refuses_is_told_in_its_words(fake: Any, tmp_path: Path) -> None:
    fake.opens = False

    with pytest.raises(EngineError, match=r"refuses .*plan \(not compatible with this version of TensorRT\)"):
        TrtBackend(bundle_with(tmp_path))


def test_a_bundle_without_an_engine_says_how_to_build_one(fake: Any, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="holds no fp32 engine; build one with `cyclegan-edge export`"):
        TrtBackend(bundle_with(tmp_path), precision="fp32")


@pytest.mark.parametrize(
    ("marker", "remedy"), [("none", "pip install 'cyclegan-edge[tensorrt]'"), (".", "venv --system-site-packages")]
)
def test_without_tensorrt_the_command_that_brings_it_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, marker: str, remedy: str
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(backend, "_JETSON", tmp_path / marker)

    assert tensorrt_version() is None
    assert remedy in why_missing()
    with pytest.raises(EngineError, match=re.escape(remedy)):
        load_tensorrt()


def test_a_tensorrt_without_its_libraries_is_not_called_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.10: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)

    assert tensorrt_version() is None
    assert "is installed but does not load (libnvinfer.so.10" in why_missing()


def test_a_tensorrt_that_is_too_old_is_refused(fake: Any) -> None:
    fake.module.__version__ = "8.5.2.2"

    assert tensorrt_version() == "8.5.2.2"
    with pytest.raises(EngineError, match=r"TensorRT 8.5.2.2 is too old, expected 10.3 or newer; use JetPack 6.1"):
        load_tensorrt()


@pytest.mark.parametrize("version", VERSIONS)
def test_the_exporter_learns_which_graph_to_pass(version: str) -> None:
    assert graph_precision_needed(version) == ("fp32" if version in WEAK else "fp16")
    assert graph_precision_needed(version, "fp32") == "fp32"
