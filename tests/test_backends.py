import json
import sys
from pathlib import Path

import numpy as np
import pytest

from cyclegan_edge.backends import EngineName, open_backend
from cyclegan_edge.bundle import MANIFEST, read_bundle
from cyclegan_edge.errors import BundleError, ConfigError, EngineError
from cyclegan_edge.files import sha256

CPU_ENGINES: list[EngineName] = ["onnxruntime", "openvino"]


def changed(folder: Path, **entries: object) -> Path:
    """Change entries of the first artifact in the manifest."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["artifacts"][0] |= entries
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize("engine", CPU_ENGINES)
@pytest.mark.parametrize("shape", [(1, 8, 8, 3), (3, 64, 32, 3)])
def test_cpu_engines_run_every_shape(
    engine: EngineName, shape: tuple[int, ...], tiny_bundle: Path, rng: np.random.Generator
) -> None:
    pytest.importorskip(engine)
    images = rng.integers(0, 256, shape, dtype=np.uint8)

    backend, passed_over = open_backend(read_bundle(tiny_bundle), engine=engine, threads=1)

    np.testing.assert_array_equal(backend.run(images), 255 - images)
    assert backend.name.startswith(f"{engine} ")
    assert backend.name.endswith(" fp32")
    assert passed_over == ()


@pytest.mark.parametrize("engine", CPU_ENGINES)
def test_a_result_survives_the_next_run(engine: EngineName, tiny_bundle: Path) -> None:
    pytest.importorskip(engine)
    backend, _ = open_backend(read_bundle(tiny_bundle), engine=engine)

    first = backend.run(np.zeros((1, 8, 8, 3), np.uint8))
    backend.run(np.full((1, 8, 8, 3), 255, np.uint8))

    assert first.min() == 255


@pytest.mark.parametrize("engine", CPU_ENGINES)
def test_precision_chooses_the_graph(engine: EngineName, tiny_bundle: Path) -> None:
    pytest.importorskip(engine)

    backend, _ = open_backend(read_bundle(tiny_bundle), engine=engine, precision="fp16")

    assert backend.name.endswith(" fp16")


@pytest.mark.parametrize("engine", CPU_ENGINES)
def test_a_missing_graph_is_refused(engine: EngineName, tiny_bundle: Path) -> None:
    pytest.importorskip(engine)
    bundle = read_bundle(changed(tiny_bundle, format="tensorrt"))

    with pytest.raises(BundleError, match="holds no fp32 ONNX graph"):
        open_backend(bundle, engine=engine)


@pytest.mark.parametrize("engine", CPU_ENGINES)
def test_a_graph_that_is_none_is_refused_in_one_line(engine: EngineName, tiny_bundle: Path) -> None:
    pytest.importorskip(engine)
    graph = tiny_bundle / "generator-fp32.onnx"
    graph.write_bytes(b"no graph")
    bundle = read_bundle(changed(tiny_bundle, sha256=sha256(graph)))

    with pytest.raises(EngineError, match=r"refuses .*generator-fp32\.onnx \(") as refusal:
        open_backend(bundle, engine=engine)

    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("engine", CPU_ENGINES)
def test_a_graph_that_was_changed_is_not_opened(engine: EngineName, tiny_bundle: Path) -> None:
    pytest.importorskip(engine)
    with (tiny_bundle / "generator-fp32.onnx").open("ab") as graph:
        graph.write(b"\0")

    with pytest.raises(BundleError, match="is not the file that was exported"):
        open_backend(read_bundle(tiny_bundle), engine=engine)


@pytest.mark.parametrize("engine", CPU_ENGINES)
def test_a_missing_engine_is_refused_with_the_command_that_adds_it(
    engine: EngineName, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, engine, None)  # what import finds when there is no such module

    with pytest.raises(EngineError, match=f"The engine {engine} is not installed; add it with `pip install"):
        open_backend(read_bundle(tiny_bundle), engine=engine)


def test_auto_says_why_it_is_not_tensorrt(tiny_bundle: Path) -> None:
    backend, (reason,) = open_backend(read_bundle(tiny_bundle))

    assert backend.name.startswith("onnxruntime ")
    assert reason.startswith(f"TensorRT was passed over: {tiny_bundle} holds no engine for it")


def test_auto_passes_over_an_engine_of_another_device(tiny_bundle: Path) -> None:
    manifest = json.loads((tiny_bundle / MANIFEST).read_text())
    elsewhere = {"gpu": "Orin", "compute_capability": "8.7", "tensorrt": "10.3.0.30", "platform": "Linux-aarch64"}
    manifest["artifacts"].append(manifest["artifacts"][1] | {"format": "tensorrt", "device": elsewhere})
    (tiny_bundle / MANIFEST).write_text(json.dumps(manifest))

    backend, (reason,) = open_backend(read_bundle(tiny_bundle))

    assert backend.name.startswith("onnxruntime ")
    assert reason.startswith("TensorRT was passed over: ")
    assert "holds no engine" not in reason


def test_tensorrt_asked_for_is_never_replaced(tiny_bundle: Path) -> None:
    with pytest.raises((BundleError, EngineError)):
        open_backend(read_bundle(tiny_bundle), engine="tensorrt")


def test_an_unknown_engine_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(ConfigError, match="engine is 'tflite', expected 'auto', 'tensorrt', 'onnxruntime'"):
        open_backend(read_bundle(tiny_bundle), engine="tflite")  # type: ignore[arg-type]
