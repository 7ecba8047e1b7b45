"""Graphs that would not end, or that bring code of their own, are a sentence before an engine sees them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cyclegan_edge.backends import open_backend
from cyclegan_edge.backends.base import EngineName
from cyclegan_edge.backends.onnx_graph import check_graph
from cyclegan_edge.bundle import read_bundle
from cyclegan_edge.errors import EngineError
from cyclegan_edge.files import sha256

Nodes = list[onnx.NodeProto]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a graph of these nodes from `image` to `translated`."""

    def written(nodes: Nodes, **model: object) -> Path:
        shape: list[str | int | None] = ["batch", "height", "width", 3]
        ends = [helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name in ("image", "translated")]
        yes, forever = np.array(True), np.array(2**62)
        numbers = [numpy_helper.from_array(yes, "yes"), numpy_helper.from_array(forever, "forever")]
        graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], numbers)
        path = tmp_path / "graph.onnx"
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10, **model), path)
        return path

    return written


def endless() -> onnx.NodeProto:
    values = {
        name: helper.make_tensor_value_info(name, kind, [] if name != "kept" else None)
        for name, kind in (("i", TensorProto.INT64), ("go", TensorProto.BOOL), ("still", TensorProto.BOOL))
    }
    kept = [helper.make_tensor_value_info(name, TensorProto.UINT8, None) for name in ("a", "b")]
    nodes = [helper.make_node("Identity", ["go"], ["still"]), helper.make_node("Identity", ["a"], ["b"])]
    body = helper.make_graph(nodes, "body", [values["i"], values["go"], kept[0]], [values["still"], kept[1]])
    return helper.make_node("Loop", ["forever", "yes", "image"], ["translated"], body=body)


def test_a_graph_of_plain_operators_passes(write: Callable[..., Path], exported: Path) -> None:
    check_graph(write([helper.make_node("Identity", ["image"], ["translated"])]))
    check_graph(exported / "generator-fp32.onnx")


def test_a_loop_an_operator_of_others_and_a_function_are_named(write: Callable[..., Path]) -> None:
    own = helper.make_node("Identity", ["image"], ["translated"], domain="own")
    function = helper.make_function(
        "own", "F", ["x"], ["y"], [helper.make_node("Identity", ["x"], ["y"])], [helper.make_opsetid("", 18)]
    )

    with pytest.raises(EngineError, match=r"graph\.onnx holds Loop, which no exported graph does"):
        check_graph(write([endless()]))
    with pytest.raises(EngineError, match="holds own Identity"):
        check_graph(write([own]))
    with pytest.raises(EngineError, match="holds functions of its own"):
        check_graph(write([helper.make_node("Identity", ["image"], ["translated"])], functions=[function]))


@pytest.mark.parametrize("operator", ["ConstantOfShape", "Tile", "Range"])
def test_an_operator_that_makes_any_size_is_named(operator: str, write: Callable[..., Path]) -> None:
    with pytest.raises(EngineError, match=rf"graph\.onnx holds {operator}, which no exported graph does"):
        check_graph(write([helper.make_node(operator, ["image", "forever"], ["translated"])]))


def test_what_is_computed_before_there_is_a_picture_keeps_its_size(write: Callable[..., Path]) -> None:
    turned = helper.make_node("Reshape", ["forever", "yes"], ["column"])
    wide = helper.make_node("Add", ["column", "forever"], ["wide"])
    end = helper.make_node("Add", ["image", "wide"], ["translated"])

    check_graph(write([turned, helper.make_node("Add", ["image", "column"], ["translated"])]))
    with pytest.raises(EngineError, match="holds Add of constants alone"):
        check_graph(write([turned, wide, end]))


def test_a_graph_that_takes_more_memory_than_there_is_is_a_sentence(
    tiny_bundle: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row with every row: (N, H, W, 3) becomes (H, H, W, 3)."""
    nodes = [
        helper.make_node("Transpose", ["image"], ["turned"], perm=[1, 0, 2, 3]),
        helper.make_node("Max", ["image", "turned"], ["all"]),
        helper.make_node("ReduceMax", ["all"], ["most"], keepdims=0),
        helper.make_node("Max", ["image", "most"], ["translated"]),
    ]
    graph = write(nodes)
    graph.replace(tiny_bundle / "generator-fp32.onnx")
    bundle = read_bundle(tiny_bundle)
    artifact = replace(bundle.manifest.artifacts[0], sha256=sha256(tiny_bundle / "generator-fp32.onnx"))
    monkeypatch.setattr("cyclegan_edge.backends.onnxruntime.available_memory", lambda **_: 32 << 20)
    backend, _ = open_backend(bundle.with_artifact(artifact), engine="onnxruntime")

    assert backend.run(np.ones((1, 32, 32, 3), np.uint8)).max() == 1
    with pytest.raises(EngineError, match=r"needs more memory for a batch of shape \(1, 512, 512, 3\) than was free"):
        backend.run(np.zeros((1, 512, 512, 3), np.uint8))


@pytest.mark.parametrize("content", [b"\x08", b"\xff" * 20, b"\x3a\x7f", b"\x0f", b"no graph at all"])
def test_what_is_no_protobuf_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "graph.onnx").write_bytes(content)

    with pytest.raises(EngineError, match="is not an ONNX file"):
        check_graph(tmp_path / "graph.onnx")


def test_any_bytes_are_a_verdict(exported: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    content = (exported / "generator-fp32.onnx").read_bytes()[:5000]
    path = tmp_path / "graph.onnx"
    refused = 0

    for _ in range(300):
        changed = bytearray(content)
        for place in rng.integers(0, len(changed), 3):
            changed[place] = rng.integers(256)
        path.write_bytes(changed[: rng.integers(1, len(changed))])
        try:
            check_graph(path)
        except EngineError:
            refused += 1

    assert refused > 200


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_graph_that_makes_a_scalar_is_a_sentence_when_it_runs(
    engine: EngineName, tiny_bundle: Path, write: Callable[..., Path]
) -> None:
    pytest.importorskip(engine)
    nodes = [
        helper.make_node("ReduceMax", ["image"], ["scalar"], keepdims=0),
        helper.make_node("Identity", ["scalar"], ["translated"]),
    ]
    model = onnx.load(write(nodes))
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    onnx.save(model, tiny_bundle / "generator-fp32.onnx")
    bundle = read_bundle(tiny_bundle)
    artifact = replace(bundle.manifest.artifacts[0], sha256=sha256(tiny_bundle / "generator-fp32.onnx"))
    backend, _ = open_backend(bundle.with_artifact(artifact), engine=engine)

    with pytest.raises(EngineError, match=r"made uint8 \(\) of uint8 \(1, 32, 32, 3\), expected the same shape"):
        backend.run(np.zeros((1, 32, 32, 3), np.uint8))
