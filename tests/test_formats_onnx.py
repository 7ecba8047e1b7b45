"""What an exported graph holds, and what it does not: read node by node, as a strongly typed engine reads it."""

import copy
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from torch import nn

from cyclegan_edge.backends import open_backend
from cyclegan_edge.backends.base import EngineName
from cyclegan_edge.bounds import BOUNDS, pairs_of
from cyclegan_edge.bundle import MANIFEST, Bundle, read_bundle
from cyclegan_edge.contract import TENSORS, GraphPrecision
from cyclegan_edge.errors import BundleError, ConfigError, ExportError
from cyclegan_edge.export.config import ExportConfig
from cyclegan_edge.export.formats import onnx as to_onnx
from cyclegan_edge.export.formats.onnx import (
    Graph,
    check_fixed,
    graph_target,
    half_convolutions,
    picture_generator,
    write_onnx,
)
from cyclegan_edge.export.parity import ort_runner, render_pictures
from cyclegan_edge.export.pipeline import add_to_bundle, export_checkpoint
from cyclegan_edge.export.verify_bundle import verify_bundle
from cyclegan_edge.export.weights.generators import (
    ResnetArchitecture,
    UnetArchitecture,
    empty_generator,
    fold_batch_norms,
)
from cyclegan_edge.metrics import psnr
from cyclegan_edge.scenes import render
from cyclegan_edge.train.evaluate.picture_generator import translate_with
from cyclegan_edge.train.networks import GeneratorConfig, ResnetGenerator, new_generator

FLOATS: dict[GraphPrecision, int] = {  # what convolutions take
    "fp32": TensorProto.FLOAT,
    "fp16": TensorProto.FLOAT16,
}
GRAPHS = [Graph("fp32"), Graph("fp16"), Graph("fp16", "bgr")]
RESNET = ResnetArchitecture(down=(4, 6, 8), blocks=(8,), up=(6, 4))
UNET = UnetArchitecture(channels=(4, 8, 8))


def foreign(architecture: ResnetArchitecture | UnetArchitecture, **changes: Any) -> nn.Module:
    return empty_generator(replace(architecture, **changes)).to_empty(device="cpu")


GENERATORS: dict[str, tuple[nn.Module, int, int]] = {  # its InstanceNorms, and the convolutions that none follows
    "ours": (ResnetGenerator(GeneratorConfig(width=4, blocks=1)), 7, 1),
    "ours, resized": (ResnetGenerator(GeneratorConfig(width=4, blocks=1, upsampling="resize", dropout=True)), 7, 1),
    "ours, compact": (
        new_generator(GeneratorConfig(kind="compact", width=8, blocks=1)),
        4,
        3,
    ),  # 3: the detail, the head, and that
    # before the shuffle of pixels, whose four biases a norm of all four leaves apart
    "affine": (foreign(RESNET, upsampling="resized", norm="affine"), 7, 1),
    "cut": (foreign(RESNET, blurred_down=True, upsampling="blurred"), 7, 1),
    "separable": (foreign(RESNET, separable=True), 9, 1),
    "separable, batch norm": (foreign(RESNET, separable=True, norm="batch"), 2, 8),
    "no norm": (foreign(RESNET, norm="none"), 0, 8),
    "unet": (foreign(UNET), 3, 3),  # 3: the first, the innermost going down, the last
    "unet, affine": (foreign(UNET, norm="affine"), 3, 3),
}


def with_biases(generator: nn.Module) -> nn.Module:
    """Random weights and large biases: those that are zero would be left out by torch."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in generator.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2.0, generator=random)
            elif value.is_floating_point():
                value.normal_(0.0, 0.2, generator=random)
    fold_batch_norms(generator.eval())
    return generator


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[Graph, Path]:
    folder = tmp_path_factory.mktemp("graphs")
    generator = with_biases(copy.deepcopy(GENERATORS["ours"][0]))
    paths = {graph: folder / graph.file for graph in GRAPHS}
    for graph, path in paths.items():
        write_onnx(generator, path, graph)
    return paths


def types_in(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of every tensor, inferred anew and strictly."""
    bare = copy.deepcopy(model)
    del bare.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(bare, strict_mode=True, data_prop=True).graph
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    kinds = {value.name: value.type.tensor_type.elem_type for value in values}
    return kinds | {tensor.name: tensor.data_type for tensor in inferred.initializer}


@pytest.mark.parametrize("graph", GRAPHS, ids=str)
def test_a_graph_is_one_file_of_the_documented_opset(graphs: dict[Graph, Path], graph: Graph) -> None:
    model = onnx.load(graphs[graph], load_external_data=False)

    onnx.checker.check_model(model, full_check=True)
    assert [(it.domain, it.version) for it in model.opset_import] == [("", 18)]
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert len(list(graphs[graph].parent.iterdir())) == len(GRAPHS)
    assert (model.graph.input[0].name, model.graph.output[0].name) == TENSORS[graph.interface]


@pytest.mark.parametrize("graph", GRAPHS, ids=str)
def test_a_graph_names_no_file_and_no_line_of_code(graphs: dict[Graph, Path], graph: Graph) -> None:
    model = onnx.load(graphs[graph])
    for tensor in model.graph.initializer:
        tensor.raw_data = b""  # any bytes at all

    content = model.SerializeToString()

    assert not re.search(rb"\.py|site-packages|Traceback|[A-Z]:\\|/[\w.-]+/", content)
    assert not model.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


@pytest.mark.parametrize("case", GENERATORS)
def test_no_convolution_has_a_bias_that_a_norm_takes_away_again(case: str) -> None:
    made, norms, kept = GENERATORS[case]
    generator = with_biases(copy.deepcopy(made))
    before = copy.deepcopy(generator.state_dict())
    images = np.stack([render(seed, "summer", size=(64, 48)) for seed in range(2)])

    exported = picture_generator(generator, "fp32")

    convolutions = [layer for layer in exported.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    assert sum(isinstance(layer, nn.InstanceNorm2d) for layer in exported.modules()) == norms
    assert sum(layer.bias is not None for layer in convolutions) == kept
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())
    found = exported(torch.from_numpy(images)).detach().numpy().astype(int)
    assert np.abs(found - translate_with(generator)(images)).max() <= 1


def test_nor_has_any_in_the_graph(tmp_path: Path) -> None:
    made, norms, kept = GENERATORS["unet, affine"]

    write_onnx(with_biases(copy.deepcopy(made)), tmp_path / "graph.onnx", Graph("fp32"), multiple=8)

    nodes = onnx.load(tmp_path / "graph.onnx").graph.node
    makers = {name: node for node in nodes for name in node.output}
    normed = [makers[node.input[0]] for node in nodes if node.op_type == "InstanceNormalization"]
    assert [(node.op_type[:4], len(node.input)) for node in normed] == [("Conv", 2)] * norms
    assert sum(node.op_type[:4] == "Conv" and len(node.input) == 3 for node in nodes) == kept


@pytest.mark.parametrize("graph", GRAPHS, ids=str)
def test_nor_in_a_graph_of_any_precision(graphs: dict[Graph, Path], graph: Graph) -> None:
    nodes = onnx.load(graphs[graph]).graph.node

    assert [len(node.input) for node in nodes if node.op_type in ("Conv", "ConvTranspose")] == [2] * 7 + [3]


def test_a_norm_that_does_not_look_at_the_picture_keeps_the_bias() -> None:
    """In eval mode it subtracts the mean of its training."""
    tracking = nn.Sequential(nn.Conv2d(3, 3, 1), nn.InstanceNorm2d(3, track_running_stats=True)).eval()

    module = picture_generator(tracking, "fp32")

    assert module.get_parameter("generator.0.bias") is not None


@pytest.mark.parametrize("graph", GRAPHS, ids=str)
def test_a_graph_is_strongly_typed(graphs: dict[Graph, Path], graph: Graph) -> None:
    """What a network needs that computes in the types it was given, and in no others."""
    model = onnx.load(graphs[graph])
    kinds = types_in(model)
    floats = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}

    convolved = norms = 0
    for node in model.graph.node:
        given = [kinds[name] for name in node.input if name]
        made = [kinds[name] for name in node.output]
        if node.op_type == "Cast":
            continue
        assert TensorProto.UINT8 not in (*given, *made), node.name
        assert len(floats & {*given, *made}) == 1, node.name
        match node.op_type:
            case "InstanceNormalization":
                norms += 1
                assert given == [TensorProto.FLOAT] * 3
            case "Conv" | "ConvTranspose":
                convolved += 1
                assert set(given) == {FLOATS[graph.precision]}
            case "Tanh" | "Round" | "Clip" | "Div" | "Sub":
                assert given[0] == TensorProto.FLOAT
    assert (convolved, norms) == (8, 7)


@pytest.mark.parametrize("graph", GRAPHS, ids=str)
def test_uint8_touches_two_casts_and_is_rounded_and_clipped_before_the_last(
    graphs: dict[Graph, Path], graph: Graph
) -> None:
    """TensorRT takes it nowhere else, cuts off what is behind the point, and leaves 256 undefined."""
    nodes = onnx.load(graphs[graph]).graph.node
    readers = [node.op_type for node in nodes if "image" in node.input]
    makers = {name: node for node in nodes for name in node.output}

    way: list[str] = []
    name = "translated"
    while way[-3:] != ["Clip", "Round", "Add"]:
        way.append(makers[name].op_type)
        name = makers[name].input[0]

    assert readers == ["Cast"]
    assert way == ["Cast", "Transpose", "Clip", "Round", "Add"]


class Scenes(CalibrationDataReader):  # type: ignore[misc]
    """Rendered landscapes, one batch each."""

    def __init__(self, entry: str) -> None:
        self.batches = iter([{entry: render(seed, "summer", size=(64, 64))[np.newaxis]} for seed in range(4)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def test_the_float32_graph_is_ready_for_integer_quantisation(exported: Path, tmp_path: Path) -> None:
    """Nothing in it stops ONNX Runtime's own tool, and what that makes still takes and gives pictures of any size."""
    graph = exported / "generator-fp32.onnx"
    images = render(9, "summer", size=(64, 96))[np.newaxis]

    quantize_static(graph, tmp_path / "int8.onnx", Scenes("image"), quant_format=QuantFormat.QDQ)

    session = onnxruntime.InferenceSession(tmp_path / "int8.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(["translated"], {"image": images})
    assert (found.dtype, found.shape) == (np.uint8, images.shape)
    assert {node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node} >= {"QuantizeLinear", "Conv"}
    assert psnr(found[0], ort_runner(graph)(images)[0]) > 20  # dB; 24.5 was measured, with random weights


@pytest.fixture(scope="module")
def both(
    generator: ResnetGenerator, exported: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[GraphPrecision, Path]:
    """The graphs of a generator whose pictures use most of the range."""
    half = tmp_path_factory.mktemp("graphs") / "fp16.onnx"
    write_onnx(generator, half, Graph("fp16"))
    return {"fp32": exported / "generator-fp32.onnx", "fp16": half}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 64, 40), (1, 100, 36)])
def test_the_graph_gives_pytorch_s_picture_within_its_bound_at_any_size(
    generator: ResnetGenerator,
    both: dict[GraphPrecision, Path],
    precision: GraphPrecision,
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> None:
    images = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)

    expected = translate_with(generator)(images)
    found = ort_runner(both[precision])(images)

    assert found.shape == images.shape
    assert found.dtype == np.uint8
    assert int(expected.max()) - int(expected.min()) > 150
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= BOUNDS[precision].max_levels


def test_a_picture_generator_is_totensor_normalize_generator_and_the_way_back(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (1, 16, 20, 3), dtype=np.uint8)

    kept = picture_generator(nn.Identity(), "fp32")(torch.from_numpy(image))

    np.testing.assert_array_equal(kept.numpy(), image)


def test_half_convolutions_leaves_the_original_as_it_is(generator: ResnetGenerator) -> None:
    half_convolutions(generator)

    assert all(parameter.dtype is torch.float32 for parameter in generator.parameters())
    assert sum(isinstance(module, nn.InstanceNorm2d) for module in generator.modules()) == 9


@pytest.fixture(scope="module")
def bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """With a graph of every interface."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    config = ExportConfig(bgr=True, float_io=True, fixed=(32, 48), compare=2)
    return export_checkpoint(tiny_checkpoint, folder, config)


def test_every_interface_is_an_artifact_with_its_hash_and_its_proof(bundle: Bundle) -> None:
    artifacts = {artifact.file: artifact for artifact in read_bundle(bundle.folder).manifest.artifacts}

    assert [(it.file, it.interface, it.fixed) for it in artifacts.values()] == [
        ("generator-fp32.onnx", "rgb", None),
        ("generator-fp32-bgr.onnx", "bgr", None),
        ("generator-fp32-float.onnx", "float", None),
        ("generator-fp32-48x32.onnx", "rgb", (1, 32, 48)),
    ]
    for artifact in artifacts.values():
        assert bundle.path(artifact).is_file()
        assert artifact.parity is not None
        assert artifact.parity.max_levels <= 1
        assert artifact.parity.images == 2
    constant = artifacts["generator-fp32-48x32.onnx"].parity
    assert constant is not None
    assert (constant.height, constant.width) == (32, 48)


def test_each_takes_and_gives_what_its_name_says(bundle: Bundle, rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (1, 32, 48, 3), dtype=np.uint8)
    expected = ort_runner(bundle.folder / "generator-fp32.onnx")(image).astype(int)

    def run(file: str, given: np.ndarray) -> np.ndarray:
        session = onnxruntime.InferenceSession(bundle.folder / file, providers=["CPUExecutionProvider"])
        entry, result = session.get_inputs()[0].name, session.get_outputs()[0].name
        assert (entry, result) == (("input", "output") if "float" in file else ("image", "translated"))
        return np.asarray(session.run([result], {entry: given})[0])

    blue_first = run("generator-fp32-bgr.onnx", image[..., ::-1].copy())
    constant = run("generator-fp32-48x32.onnx", image)
    signal = run("generator-fp32-float.onnx", (image.transpose(0, 3, 1, 2) / np.float32(127.5) - 1).astype(np.float32))

    assert blue_first.dtype == constant.dtype == np.uint8
    assert signal.dtype == np.float32
    assert np.abs(blue_first[..., ::-1] - expected).max() <= 1
    assert np.abs(constant - expected).max() <= 1
    assert np.abs((signal.transpose(0, 2, 3, 1) + 1) * 127.5 - expected).max() <= 1.5


def test_a_constant_graph_holds_no_other_shape(bundle: Bundle) -> None:
    graph = onnx.load(bundle.folder / "generator-fp32-48x32.onnx").graph

    for value in (*graph.input, *graph.value_info, *graph.output):
        assert all(dimension.HasField("dim_value") for dimension in value.type.tensor_type.shape.dim)


def test_no_engine_of_ours_takes_one_of_them(bundle: Bundle, tmp_path: Path) -> None:
    folder = shutil.copytree(bundle.folder, tmp_path / "tiny")
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["artifacts"] = manifest["artifacts"][1:]
    (folder / MANIFEST).write_text(json.dumps(manifest))

    with pytest.raises(BundleError, match="holds no fp32 ONNX graph"):
        open_backend(read_bundle(folder), engine="onnxruntime")


@pytest.mark.parametrize("engine", [None, "onnxruntime"])
def test_verify_compares_each_interface_and_skips_a_size_that_no_picture_has(
    bundle: Bundle, engine: EngineName | None
) -> None:
    verdicts = [it for it in verify_bundle(bundle, engine=engine) if it.engine.startswith("onnxruntime")]

    assert [(it.file, it.outcome) for it in verdicts] == [
        ("generator-fp32.onnx", "good"),
        ("generator-fp32-bgr.onnx", "good"),
        ("generator-fp32-float.onnx", "good"),
        ("generator-fp32-48x32.onnx", "skipped"),
    ]
    assert verdicts[-1].reason.endswith("takes (32, 48) px only, and the pictures in the bundle have (32, 32).")


def test_a_graph_that_takes_other_colours_than_it_says_is_not_kept(
    exported: Path, generator: ResnetGenerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = read_bundle(shutil.copytree(exported, tmp_path / "small"))
    rgb = copied.folder / "generator-fp32.onnx"
    monkeypatch.setattr(to_onnx, "write_onnx", lambda generator, path, graph, **options: shutil.copy(rgb, path))
    pairs = pairs_of(translate_with(generator), render_pictures(32))

    with pytest.raises(ExportError, match=r"generator-fp32-bgr\.onnx differs from PyTorch"):
        add_to_bundle(copied, [graph_target(generator, Graph("fp32", "bgr"), pairs)])

    assert sorted(path.name for path in copied.folder.iterdir()) == ["generator-fp32.onnx", MANIFEST]


@pytest.mark.parametrize(
    ("fixed", "multiple", "sentence"),
    [
        ((256, 450), 4, r"fixed is 450x256, .* multiples of 4 and at least 8; try 448x256\."),
        ((4, 64), 4, r"fixed is 64x4, .*; try 64x8\."),
        ((256, 448), 256, r"fixed is 448x256, .* multiples of 256 and at least 256; try 512x256\."),
        ((4096, 8192), 4, r"fixed is 8192x4096, more than 16\.8 megapixels; choose a smaller size\."),
    ],
)
def test_a_constant_size_that_the_generator_cannot_take_is_refused(
    fixed: tuple[int, int], multiple: int, sentence: str
) -> None:
    check_fixed((256, 512), multiple)

    with pytest.raises(ConfigError, match=sentence):
        check_fixed(fixed, multiple)
