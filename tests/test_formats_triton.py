"""A model repository for Triton: what is written, what is kept, and that Triton's format is met field by field."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

from cyclegan_edge.bundle import MANIFEST, Artifact, Device, read_bundle, write_manifest
from cyclegan_edge.cli import app
from cyclegan_edge.errors import BundleError, ExportError
from cyclegan_edge.export.formats.triton import CONFIG, TritonModel, add_triton
from cyclegan_edge.files import sha256

ORIN = Device(gpu="Orin", compute_capability="8.7", tensorrt="10.3.0.30", platform="Linux-aarch64")
TENSOR = {"name": str, "data_type": "DataType", "dims": [int]}
FIELDS: dict[
    str, Any
] = {  # the part of message ModelConfig (model_config.proto of triton-inference-server/common) used
    "name": str,
    "platform": str,
    "max_batch_size": int,
    "input": [TENSOR],
    "output": [TENSOR],
    "dynamic_batching": {"preferred_batch_size": [int], "max_queue_delay_microseconds": int},
    "instance_group": [{"count": int, "kind": "Kind"}],
    "version_policy": {"latest": {"num_versions": int}},
    "parameters": [{"key": str, "value": {"string_value": str}}],
}
ENUMS = {"DataType": {"TYPE_UINT8"}, "Kind": {"KIND_AUTO", "KIND_GPU", "KIND_CPU"}}


def parse(text: str) -> dict[str, Any]:
    """Protobuf's text format, strictly: known fields only, of the right type, and no scalar twice."""
    without_comments = re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
    tokens = iter(re.findall(r'"[^"\\\n]*"|[A-Za-z_]\w*|-?\d+|[{}\[\]:,]|\S', without_comments))
    return message(tokens, FIELDS, end=None)


def message(tokens: Iterator[str], fields: dict[str, Any], end: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    while (name := next(tokens, None)) != end:
        assert name is not None
        kind = fields[name]
        repeated = isinstance(kind, list)
        inner = kind[0] if repeated else kind
        token = next(tokens)
        assert token == ":" or isinstance(inner, dict), f"{name} is a scalar and needs a colon"
        token = next(tokens) if token == ":" else token
        if repeated and token == "[":
            values = []
            while (token := next(tokens)) != "]":
                values.append(value(tokens, token, inner))
                token = next(tokens)
                if token == "]":
                    break
                assert token == ","
        else:
            values = [value(tokens, token, inner)]
        assert repeated or name not in found, f"{name} is there twice"
        found[name] = [*found.get(name, []), *values] if repeated else values[0]
    return found


def value(tokens: Iterator[str], token: str, kind: Any) -> Any:
    if isinstance(kind, dict):
        assert token == "{"
        return message(tokens, kind, end="}")
    if kind is str:
        assert re.fullmatch(r'"[^"\\\n]*"', token)
        return token[1:-1]
    if kind is int:
        return int(token)
    assert token in ENUMS[kind]
    return token


@pytest.fixture
def bundle_with_engine(tiny_bundle: Path) -> Path:
    return with_engine(tiny_bundle, ((1, 16, 16), (4, 32, 56), (8, 64, 112)))


def with_engine(folder: Path, shapes: tuple[tuple[int, int, int], ...], device: Device = ORIN) -> Path:
    path = folder / "generator-fp16.engine"
    path.write_bytes(b"a plan")
    engine = Artifact(
        file=path.name, format="tensorrt", precision="fp16", sha256=sha256(path), device=device, shapes=shapes
    )
    write_manifest(folder, read_bundle(folder).with_artifact(engine).manifest)
    return folder


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def change_graph(folder: Path) -> None:
    """Another float32 graph of the same interface."""
    model = onnx.load(folder / "generator-fp32.onnx")
    model.doc_string = "another"
    onnx.save(model, folder / "generator-fp32.onnx")
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["artifacts"][0]["sha256"] = sha256(folder / "generator-fp32.onnx")
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_every_graph_and_engine_becomes_a_model(bundle_with_engine: Path, tmp_path: Path) -> None:
    add_triton(bundle_with_engine, tmp_path / "triton")

    assert tree(tmp_path / "triton") == [
        "negative-fp16-tensorrt/1/model.plan",
        "negative-fp16-tensorrt/config.pbtxt",
        "negative-fp16/1/model.onnx",
        "negative-fp16/config.pbtxt",
        "negative-fp32/1/model.onnx",
        "negative-fp32/config.pbtxt",
    ]
    served = tmp_path / "triton" / "negative-fp32" / "1" / "model.onnx"
    assert sha256(served) == sha256(bundle_with_engine / "generator-fp32.onnx")


def test_a_graph_is_served_on_any_processor_in_batches(tiny_bundle: Path, tmp_path: Path) -> None:
    add_triton(tiny_bundle, tmp_path)

    tensor = {"data_type": "TYPE_UINT8", "dims": [-1, -1, 3]}
    assert parse((tmp_path / "negative-fp32" / CONFIG).read_text()) == {
        "name": "negative-fp32",
        "platform": "onnxruntime_onnx",
        "max_batch_size": 8,
        "input": [{"name": "image", **tensor}],
        "output": [{"name": "translated", **tensor}],
        "dynamic_batching": {"max_queue_delay_microseconds": 1000},
        "instance_group": [{"count": 1, "kind": "KIND_AUTO"}],
        "version_policy": {"latest": {"num_versions": 1}},
        "parameters": [
            {"key": "multiple", "value": {"string_value": "4"}},
            {"key": "size", "value": {"string_value": "32"}},
        ],
    }


def test_an_engine_is_served_on_its_gpu_in_the_batches_it_was_built_for(
    bundle_with_engine: Path, tmp_path: Path
) -> None:
    add_triton(bundle_with_engine, tmp_path)

    text = (tmp_path / "negative-fp16-tensorrt" / CONFIG).read_text()
    config = parse(text)
    assert config["platform"] == "tensorrt_plan"
    assert config["max_batch_size"] == 8
    assert config["dynamic_batching"] == {"preferred_batch_size": [4], "max_queue_delay_microseconds": 1000}
    assert config["instance_group"] == [{"count": 1, "kind": "KIND_GPU"}]
    assert "# Of 16x16 to 64x112 (HxW), on Orin with TensorRT 10.3.0.30 and no other." in text


def test_an_engine_for_one_picture_is_not_asked_for_batches(tiny_bundle: Path, tmp_path: Path) -> None:
    said: list[str] = []
    add_triton(with_engine(tiny_bundle, ((1, 16, 16), (1, 32, 56), (1, 64, 112))), tmp_path, say=said.append)

    config = parse((tmp_path / "negative-fp16-tensorrt" / CONFIG).read_text())
    assert config["max_batch_size"] == 1
    assert "dynamic_batching" not in config
    assert said[-1].endswith("one picture at a time.")


def test_a_graph_of_fixed_size_says_its_size_and_takes_no_batches() -> None:
    model = TritonModel(
        name="fixed",
        platform="onnxruntime_onnx",
        shape=(1, 256, 256, 3),
        max_batch=8,
        best_batch=None,
        parameters={},
        note=(),
    )

    config = parse(model.pbtxt())

    assert (config["max_batch_size"], config["input"][0]["dims"]) == (0, [1, 256, 256, 3])
    assert "dynamic_batching" not in config


def test_the_same_file_again_makes_no_new_version_and_another_does(tiny_bundle: Path, tmp_path: Path) -> None:
    said: list[str] = []
    add_triton(tiny_bundle, tmp_path)
    add_triton(tiny_bundle, tmp_path, say=said.append)
    change_graph(tiny_bundle)

    served = add_triton(tiny_bundle, tmp_path)

    assert "negative-fp32/1: was there already" in said[0]
    assert [str(path.relative_to(tmp_path)) for path in served] == ["negative-fp32/2", "negative-fp16/1"]
    assert sorted(path.name for path in (tmp_path / "negative-fp32").iterdir()) == ["1", "2", CONFIG]


def test_a_tuned_config_and_other_models_are_left_alone_and_that_is_said(tiny_bundle: Path, tmp_path: Path) -> None:
    said: list[str] = []
    other = tmp_path / "other" / "1" / "model.onnx"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"other")
    add_triton(tiny_bundle, tmp_path)
    tuned = tmp_path / "negative-fp32" / CONFIG
    tuned.write_text('name: "negative-fp32" # mine')
    change_graph(tiny_bundle)

    add_triton(tiny_bundle, tmp_path, say=said.append)

    assert tuned.read_text() == 'name: "negative-fp32" # mine'
    assert f"{tuned} was kept, though a new one would differ; delete it and type this again to have that." in said
    assert other.read_bytes() == b"other"


def test_versions_that_triton_ignores_are_not_counted(tiny_bundle: Path, tmp_path: Path) -> None:
    for name in ["7", "010", "notes"]:
        (tmp_path / "negative-fp32" / name).mkdir(parents=True)

    add_triton(tiny_bundle, tmp_path)

    assert (tmp_path / "negative-fp32" / "8" / "model.onnx").is_file()


def test_a_changed_file_is_not_served(bundle_with_engine: Path, tmp_path: Path) -> None:
    (bundle_with_engine / "generator-fp16.engine").write_bytes(b"another plan")

    with pytest.raises(BundleError, match=r"generator-fp16\.engine is not the file that was exported"):
        add_triton(bundle_with_engine, tmp_path / "triton")


def test_a_full_disk_leaves_no_half_of_a_model(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)

    with pytest.raises(ExportError, match=r"cannot be written \(No space left on device\); check its rights"):
        add_triton(tiny_bundle, tmp_path / "triton")
    assert list((tmp_path / "triton").iterdir()) == []

    mine = tmp_path / "triton" / "negative-fp32" / CONFIG
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(ExportError, match="No space left on device"):
        add_triton(tiny_bundle, tmp_path / "triton")
    assert tree(tmp_path / "triton") == ["negative-fp32/config.pbtxt"]


def test_a_graph_that_takes_something_else_is_left_out_aloud(tiny_bundle: Path, tmp_path: Path) -> None:
    said: list[str] = []
    shape: list[str | int | None] = ["n", 3, "h", "w"]
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("image", "translated")]
    graph = helper.make_graph([helper.make_node("Neg", ["image"], ["translated"])], "float", tensors[:1], tensors[1:])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10),
        tiny_bundle / "generator-fp32.onnx",
    )
    manifest = json.loads((tiny_bundle / MANIFEST).read_text())
    manifest["artifacts"][0]["sha256"] = sha256(tiny_bundle / "generator-fp32.onnx")
    manifest["artifacts"] = manifest["artifacts"][:1]
    (tiny_bundle / MANIFEST).write_text(json.dumps(manifest))

    with pytest.raises(ExportError, match="holds no graph and no engine that Triton can serve"):
        add_triton(tiny_bundle, tmp_path / "triton", say=said.append)
    assert said == ["generator-fp32.onnx was left out: it does not take uint8 (N, H, W, 3) pictures."]


def test_nothing_in_a_manifest_can_add_a_line_to_a_config(tiny_bundle: Path, tmp_path: Path) -> None:
    evil = Device(gpu='Orin\nplatform: "python"', compute_capability="8.7", tensorrt="10\nx: 1", platform="x")
    folder = with_engine(tiny_bundle, ((1, 16, 16), (1, 32, 56), (1, 64, 112)), evil)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["name"] = '../x"\nname: "y'
    (folder / MANIFEST).write_text(json.dumps(manifest))

    served = add_triton(folder, tmp_path / "triton")

    assert {path.parent.parent for path in served} == {tmp_path / "triton"}
    assert parse((served[-1].parent / CONFIG).read_text())["name"] == "..-x-name-y-fp16-tensorrt"


def test_neither_torch_nor_onnx_is_needed() -> None:
    program = "import sys; sys.modules.update(torch=None, onnx=None); import cyclegan_edge.export.formats.triton"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_command_says_what_it_wrote_and_how_to_serve_it(tiny_bundle: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["export", str(tiny_bundle), "--triton", str(tmp_path / "triton")], catch_exceptions=False
    )

    assert result.exit_code == 0
    assert "negative-fp32/1: 0.0 MB, up to 8 pictures of one size at a time." in result.output
    assert f"tritonserver --model-repository={tmp_path / 'triton'}" in result.output
