import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from cyclegan_edge import backends
from cyclegan_edge.backends import open_backend
from cyclegan_edge.backends.base import EngineName
from cyclegan_edge.backends.tensorrt.library import this_device
from cyclegan_edge.bounds import BOUNDS, measure, pairs_of
from cyclegan_edge.bundle import MANIFEST, Artifact, read_bundle
from cyclegan_edge.contract import Precision, Translate
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
    engine: EngineName,
    shape: tuple[int, ...],
    tiny_bundle: Path,
    tiny_translated: Translate,
    rng: np.random.Generator,
) -> None:
    pytest.importorskip(engine)
    images = rng.integers(0, 256, shape, dtype=np.uint8)

    backend, remarks = open_backend(read_bundle(tiny_bundle), engine=engine, threads=1)

    np.testing.assert_array_equal(backend.run(images), tiny_translated(images))
    assert backend.name.startswith(f"{engine} ")
    assert backend.name.endswith(" fp32")
    assert remarks == ()


@pytest.mark.parametrize("engine", CPU_ENGINES)
@pytest.mark.parametrize(
    ("shape", "multiple"),
    [((1, 10, 8, 3), 4), ((1, 8, 4, 3), 4), ((0, 8, 8, 3), 4), ((8, 8, 3), 4), ((1, 8, 8, 4), 4), ((1, 32, 48, 3), 32)],
)
def test_a_batch_that_does_not_fit_the_model_is_refused_in_a_sentence(
    engine: EngineName, shape: tuple[int, ...], multiple: int, tiny_bundle: Path
) -> None:
    pytest.importorskip(engine)
    manifest = json.loads((tiny_bundle / MANIFEST).read_text())
    (tiny_bundle / MANIFEST).write_text(json.dumps({**manifest, "multiple": multiple}))
    backend, _ = open_backend(read_bundle(tiny_bundle), engine=engine)

    with pytest.raises(EngineError, match=rf"expected uint8 \(N, H, W, 3\) with H and W multiples of {multiple} from"):
        backend.run(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("engine", CPU_ENGINES)
def test_a_batch_of_floats_is_refused(engine: EngineName, tiny_bundle: Path) -> None:
    pytest.importorskip(engine)
    backend, _ = open_backend(read_bundle(tiny_bundle), engine=engine)

    with pytest.raises(EngineError, match=r"images is float32 \(1, 8, 8, 3\), expected uint8"):
        backend.run(np.zeros((1, 8, 8, 3), np.float32))


@pytest.mark.parametrize("engine", CPU_ENGINES)
def test_a_result_survives_the_next_run(engine: EngineName, tiny_bundle: Path) -> None:
    pytest.importorskip(engine)
    backend, _ = open_backend(read_bundle(tiny_bundle), engine=engine)

    first = backend.run(np.zeros((1, 8, 8, 3), np.uint8))
    kept = first.copy()
    second = backend.run(np.full((1, 8, 8, 3), 255, np.uint8))

    np.testing.assert_array_equal(first, kept)
    assert (first != second).any()


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
    graph.write_bytes(b"\x08\x0a")  # a version and no graph
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


@pytest.mark.parametrize(
    ("engine", "module"),
    [
        ("onnxruntime", "onnxruntime"),
        ("openvino", "openvino"),
        ("ncnn", "ncnn"),
        ("onnx-cuda", "onnxruntime"),
        ("onnx-tensorrt", "onnxruntime"),
    ],
)
def test_a_missing_engine_is_refused_with_the_command_that_adds_it(
    engine: EngineName, module: str, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # what import finds when there is no such module

    with pytest.raises(EngineError, match=f"The engine {engine} is not installed; add it with `pip "):
        open_backend(read_bundle(tiny_bundle), engine=engine)


def test_auto_says_why_each_faster_engine_was_passed_over(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(backends, "_has_nvidia", lambda: True)

    backend, reasons = open_backend(read_bundle(tiny_bundle))

    assert backend.name.startswith("onnxruntime ")
    assert [reason.split(" was passed over: ")[0] for reason in reasons] == [
        "tensorrt", "tensorrt-rtx", "onnx-cuda", "ncnn", "openvino",
    ]  # fmt: skip
    assert f"{tiny_bundle} holds nothing for it in fp16 or fp32; `cyclegan-edge export {tiny_bundle}" in reasons[0]
    assert "is not built for CUDA; `pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu" in reasons[2]
    assert f"`cyclegan-edge export {tiny_bundle} --ncnn` adds it." in reasons[3]
    assert "is not installed; add it with `pip install 'cyclegan-edge[openvino]'`." in reasons[4]


def test_engines_for_hardware_that_is_not_there_are_not_mentioned(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(backends, "_has_nvidia", lambda: False)

    reasons = open_backend(read_bundle(tiny_bundle)).remarks

    assert {reason.partition(" ")[0] for reason in reasons} <= {"ncnn", "openvino"}


def test_auto_takes_openvino_before_onnxruntime(tiny_bundle: Path) -> None:
    pytest.importorskip("openvino")

    assert open_backend(read_bundle(tiny_bundle)).backend.name.startswith("openvino ")


def test_auto_names_the_last_reason_when_nothing_runs(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)

    with pytest.raises(EngineError, match=r"No engine runs .* here at bf16; the last, openvino, was passed over"):
        open_backend(read_bundle(tiny_bundle), precision="bf16")


@pytest.mark.parametrize("damage", ["foreign", "damaged", "gone"])
def test_auto_passes_over_an_engine_that_cannot_be_opened_and_takes_the_next(
    fake: Any, tiny_bundle: Path, damage: str
) -> None:
    engine = tiny_bundle / "generator-fp16.engine"
    engine.write_bytes(b"plan")
    here = this_device()
    artifact = Artifact(
        file=engine.name,
        format="tensorrt",
        precision="fp16",
        sha256=sha256(engine),
        device=replace(here, gpu="Other") if damage == "foreign" else here,
        shapes=((1, 8, 8), (1, 32, 32), (1, 64, 64)),
    )
    bundle = read_bundle(tiny_bundle).with_artifact(artifact)
    if damage == "damaged":
        engine.write_bytes(b"evil")
    if damage == "gone":
        engine.unlink()

    backend, (reason, *_) = open_backend(bundle)

    assert not backend.name.startswith("tensorrt ")
    assert reason.startswith("tensorrt was passed over: ")
    told = {"foreign": "was built for Other", "damaged": "SHA-256", "gone": "is not there"}
    assert told[damage] in reason
    assert fake.called("Runtime.deserialize_cuda_engine") == []


def test_auto_names_what_is_damaged_where_nothing_else_runs(tiny_bundle: Path) -> None:
    for precision in ("fp32", "fp16"):
        (tiny_bundle / f"generator-{precision}.onnx").write_bytes(b"evil")

    with pytest.raises(EngineError, match=r"No engine runs .* is not the file that was exported"):
        open_backend(read_bundle(tiny_bundle))


def test_tensorrt_asked_for_is_never_replaced(tiny_bundle: Path) -> None:
    with pytest.raises((BundleError, EngineError)):
        open_backend(read_bundle(tiny_bundle), engine="tensorrt")


def test_an_unknown_engine_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(ConfigError, match="engine is 'tflite', expected one of 'auto', 'tensorrt', "):
        open_backend(read_bundle(tiny_bundle), engine="tflite")  # type: ignore[arg-type]


def test_openvino_computes_in_bfloat16_when_asked_to(exported: Path, rng: np.random.Generator) -> None:
    openvino = pytest.importorskip("openvino")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has no bfloat16")
    pictures = list(rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8))
    full, brief = (
        open_backend(read_bundle(exported), engine="openvino", precision=it).backend for it in ("fp32", "bf16")
    )

    parity = measure(brief.run, pairs_of(full.run, pictures), bound=BOUNDS["bf16"])

    assert brief.name.endswith(" bf16")
    assert 40 < parity.psnr_db < 60


def test_bfloat16_is_refused_on_a_cpu_without_it(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vino = pytest.importorskip("cyclegan_edge.backends.openvino")
    old = SimpleNamespace(get_property=lambda device, name: ["FP32", "INT8"])
    monkeypatch.setattr(vino.openvino, "Core", lambda: old)

    with pytest.raises(EngineError, match="OpenVINO finds no bfloat16 in this CPU"):
        open_backend(read_bundle(tiny_bundle), engine="openvino", precision="bf16")


@pytest.mark.parametrize(
    ("precision", "native", "hint"),
    [
        ("fp32", ["FP32", "FP16", "BF16"], "f32"),
        ("fp16", ["FP32", "BF16"], "f32"),
        ("fp16", ["FP32", "FP16"], "f16"),
        ("bf16", ["FP32", "BF16"], "bf16"),
        ("int8", ["FP32", "INT8"], "f32"),
        ("int8", ["FP32", "INT8", "BF16"], "bf16"),
    ],
)
def test_openvino_computes_in_what_is_asked_where_the_cpu_does(
    precision: Precision, native: list[str], hint: str, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino_backend = pytest.importorskip("cyclegan_edge.backends.openvino")
    asked: list[dict[str, object]] = []
    core = SimpleNamespace(
        get_property=lambda device, name: native,
        compile_model=lambda path, device, config: asked.append(config),
    )
    monkeypatch.setattr(openvino_backend.openvino, "Core", lambda: core)

    bundle = read_bundle(tiny_bundle)
    if precision == "int8":
        bundle = read_bundle(changed(tiny_bundle, precision="int8"))

    open_backend(bundle, engine="openvino", precision=precision)

    assert asked[0]["INFERENCE_PRECISION_HINT"] == hint


@pytest.mark.parametrize("threads", [0, -1, 99_999_999_999])
def test_threads_that_no_machine_has_are_refused(threads: int, tiny_bundle: Path) -> None:
    with pytest.raises(ConfigError, match=rf"threads is {threads}, expected 1 to 1024"):
        open_backend(read_bundle(tiny_bundle), threads=threads)
