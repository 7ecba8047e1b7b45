"""The calls our builder and backend make, on a TensorRT that records them.

The fake of each version (tests/data/fake_tensorrt.py) has the names of that version and no others. What building really
does is in test_tensorrt_rtx.py, by NVIDIA's own builder. Nothing here shows that an engine runs: that takes a GPU.
"""

import dataclasses
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cyclegan_edge.backends.tensorrt import library
from cyclegan_edge.backends.tensorrt.build import EngineConfig, build_engine, graph_precision_needed
from cyclegan_edge.backends.tensorrt.library import TENSORRT, load, this_device, version_of, why_missing
from cyclegan_edge.backends.tensorrt.plan import open_plan
from cyclegan_edge.bundle import Bundle, Device
from cyclegan_edge.errors import BundleError, ConfigError, EngineError, ExportError

DATA = Path(__file__).parent / "data"
FAKE = runpy.run_path(str(DATA / "fake_tensorrt.py"))
VERSIONS: list[str] = FAKE["VERSIONS"]
WEAK, STRONG = VERSIONS[:2], VERSIONS[2:4]  # 11 is always strong, and is not asked
SHAPES = FAKE["SHAPES"]
GRAPH = Path("generator.onnx")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_half_engine_is_built_as_its_version_wants(install: Callable[[str], Any], version: str) -> None:
    fake = install(version)

    built = build_engine(GRAPH, EngineConfig(shapes=SHAPES))

    assert (built.plan, built.shapes, built.precision) == (b"plan", SHAPES, "fp16")
    assert built.device == this_device()
    assert built.device.tensorrt == version
    assert fake.called("Builder.create_network") == [(2,) if version in STRONG else (0,)]
    flags = [flag.name for (flag,) in fake.called("IBuilderConfig.set_flag")]
    assert flags == (["FP16"] if version in WEAK else [])
    assert fake.called("IOptimizationProfile.set_shape") == [("image", *((*shape, 3) for shape in SHAPES))]
    assert fake.called("IBuilderConfig.set_memory_pool_limit") == [(fake.module.MemoryPoolType.WORKSPACE, 1 << 30)]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_single_precision_engine_keeps_its_mantissa(install: Callable[[str], Any], version: str) -> None:
    fake = install(version)
    fake.precision = "FLOAT"

    build_engine(GRAPH, EngineConfig(shapes=SHAPES, precision="fp32"))

    assert [flag.name for (flag,) in fake.called("IBuilderConfig.clear_flag")] == ["TF32"]
    assert fake.called("IBuilderConfig.set_flag") == []


@pytest.mark.parametrize("version", VERSIONS)
def test_the_graph_of_the_wrong_precision_is_refused(install: Callable[[str], Any], version: str) -> None:
    fake = install(version)
    fake.precision = "FLOAT" if fake.precision == "HALF" else "HALF"

    with pytest.raises(ExportError, match=rf"TensorRT {version} builds an fp16 engine from the fp(16|32) graph"):
        build_engine(GRAPH, EngineConfig(shapes=SHAPES))


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

    assert built.plan == b"plan"


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


def test_a_plan_of_another_machine_is_never_opened(
    fake: Any, tmp_path: Path, engine_bundle: Callable[..., Bundle]
) -> None:
    other = Device(gpu="Orin", compute_capability="8.7", tensorrt="10.13.3.9", platform="Linux-aarch64")
    bundle = engine_bundle(device=other)

    with pytest.raises(
        EngineError,
        match=r"plan was built for Orin \(8.7\), TensorRT 10.13.3.9, Linux-aarch64, but this is Fake Orin \(8.7\), "
        r"TensorRT 10.3.0, .*; rebuild it here with `cyclegan-edge export .* --fp16`",
    ):
        open_plan(bundle, "fp16")

    assert fake.called("Runtime.deserialize_cuda_engine") == []


def device(**changed: str) -> Device:
    """What the fake TensorRT 10.3.0 runs on, changed as told."""
    return dataclasses.replace(this_device(), **changed)


def test_a_plan_that_was_tampered_with_is_never_opened(
    fake: Any, tmp_path: Path, engine_bundle: Callable[..., Bundle]
) -> None:
    bundle = engine_bundle()
    (tmp_path / "plan").write_bytes(b"evil")

    with pytest.raises(BundleError, match="SHA-256"):
        open_plan(bundle, "fp16")

    assert fake.called("Runtime.deserialize_cuda_engine") == []


def test_a_plan_that_tensorrt_refuses_is_told_in_its_words(
    fake: Any, tmp_path: Path, engine_bundle: Callable[..., Bundle]
) -> None:
    fake.opens = False

    with pytest.raises(EngineError, match=r"refuses .*plan \(not compatible with this version of TensorRT\)"):
        open_plan(engine_bundle(), "fp16")


def test_a_bundle_without_an_engine_says_how_to_build_one(
    fake: Any, tmp_path: Path, engine_bundle: Callable[..., Bundle]
) -> None:
    with pytest.raises(
        BundleError, match=r"holds no fp32 engine; `cyclegan-edge export .* --fp16` builds one in half precision"
    ):
        open_plan(engine_bundle(), "fp32")


@pytest.mark.parametrize(
    ("marker", "remedy"), [("none", "pip install 'cyclegan-edge[tensorrt]'"), (".", "venv --system-site-packages")]
)
def test_without_tensorrt_the_command_that_brings_it_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, marker: str, remedy: str
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(library, "_JETSON", tmp_path / marker)

    assert version_of(TENSORRT) is None
    assert remedy in why_missing(TENSORRT)
    with pytest.raises(EngineError, match=re.escape(remedy)):
        load(TENSORRT)


def test_a_tensorrt_without_its_libraries_is_not_called_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.10: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)

    assert version_of(TENSORRT) is None
    assert "is installed but does not load (libnvinfer.so.10" in why_missing(TENSORRT)


def test_a_tensorrt_that_is_too_old_is_refused(fake: Any) -> None:
    fake.module.__version__ = "8.5.2.2"

    assert version_of(TENSORRT) == "8.5.2.2"
    with pytest.raises(EngineError, match=r"TensorRT 8.5.2.2 is too old, expected 10.3 or newer; use JetPack 6.1"):
        load(TENSORRT)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_exporter_learns_which_graph_to_pass(version: str) -> None:
    assert graph_precision_needed(TENSORRT, version) == ("fp32" if version in WEAK else "fp16")
    assert graph_precision_needed(TENSORRT, version, "fp32") == "fp32"
