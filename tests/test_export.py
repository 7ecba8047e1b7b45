"""Export: graphs give PyTorch's picture at any size, half precision keeps its statistics, what differs is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from cyclegan_edge.backends.onnxruntime import OnnxRuntimeBackend
from cyclegan_edge.bundle import read_bundle
from cyclegan_edge.cli import app
from cyclegan_edge.contract import GraphPrecision
from cyclegan_edge.errors import BundleError, DataError, ExportError
from cyclegan_edge.export.config import ExportConfig
from cyclegan_edge.export.formats import onnx as to_onnx
from cyclegan_edge.export.formats.onnx import OPSET, Graph, half_convolutions, picture_generator, write_onnx
from cyclegan_edge.export.formats.tensorrt import default_shapes
from cyclegan_edge.export.parity import BOUNDS, Verdict
from cyclegan_edge.export.pipeline import export_checkpoint
from cyclegan_edge.export.weights.open import open_generator
from cyclegan_edge.images import read_image, write_image
from cyclegan_edge.preprocess import resize
from cyclegan_edge.settings import load_settings
from cyclegan_edge.train.checkpoint import save_checkpoint
from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.evaluate.picture_generator import translate_with
from cyclegan_edge.train.networks import GeneratorConfig, ResnetGenerator, init_weights
from cyclegan_edge.train.state import new_state

Picture = npt.NDArray[np.uint8]
SMALL = GeneratorConfig(width=8, blocks=2)


def small_generator(config: GeneratorConfig = SMALL) -> ResnetGenerator:
    generator = ResnetGenerator(config).eval()
    init_weights(generator, torch.Generator().manual_seed(0))
    with torch.no_grad():
        last = generator.model[-2]
        assert isinstance(last, nn.Conv2d)
        last.weight *= 8  # so that the pictures use most of the range
    return generator


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[GraphPrecision, Path]:
    folder = tmp_path_factory.mktemp("graphs")
    paths: dict[GraphPrecision, Path] = {"fp32": folder / "fp32.onnx", "fp16": folder / "fp16.onnx"}
    for precision, path in paths.items():
        write_onnx(small_generator(), path, Graph(precision))
    return paths


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    data = folder / "data"
    (data / "testA").mkdir(parents=True)
    rng = np.random.default_rng(1)
    for number in range(5):
        write_image(data / "testA" / f"{number}.png", rng.integers(0, 256, (50, 60, 3), dtype=np.uint8))
    overrides = ["size=32", "generator.width=4", "generator.blocks=1", "discriminator.width=4"]
    config = load_settings(TrainConfig, None, overrides, overrides={"data": str(data)})
    return save_checkpoint(folder, config, new_state(config, torch.device("cpu")))


def translate(path: Path, images: Picture) -> Picture:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (translated,) = session.run(["translated"], {"image": images})
    return np.asarray(translated)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 64, 40), (1, 100, 36)])
def test_the_graph_gives_pytorch_s_picture_within_its_bound_at_any_size(
    graphs: dict[GraphPrecision, Path], precision: GraphPrecision, shape: tuple[int, int, int], rng: np.random.Generator
) -> None:
    images = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)

    expected = translate_with(small_generator())(images)
    found = translate(graphs[precision], images)

    assert found.shape == images.shape
    assert found.dtype == np.uint8
    assert int(expected.max()) - int(expected.min()) > 150
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= BOUNDS[precision].max_levels


def test_a_picture_generator_is_totensor_normalize_generator_and_the_way_back(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (1, 16, 20, 3), dtype=np.uint8)

    kept = picture_generator(nn.Identity(), "fp32")(torch.from_numpy(image))

    np.testing.assert_array_equal(kept.numpy(), image)


def test_the_graph_s_interface_is_the_documented_one(graphs: dict[GraphPrecision, Path]) -> None:
    model = onnx.load(graphs["fp32"])

    (image,), (translated,) = model.graph.input, model.graph.output
    shape = [dimension.dim_param or dimension.dim_value for dimension in image.type.tensor_type.shape.dim]
    assert (image.name, translated.name) == ("image", "translated")
    assert image.type.tensor_type.elem_type == translated.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert shape == ["batch", "height", "width", 3]
    assert [opset.version for opset in model.opset_import if not opset.domain] == [OPSET]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_uint8_only_enters_a_cast_and_only_leaves_one(
    graphs: dict[GraphPrecision, Path], precision: GraphPrecision
) -> None:
    """TensorRT refuses it anywhere else."""
    nodes = onnx.load(graphs[precision]).graph.node

    assert {node.op_type for node in nodes if "image" in node.input} == {"Cast"}
    assert {node.op_type for node in nodes if "translated" in node.output} == {"Cast"}


def test_the_file_says_nothing_about_the_machine_it_was_made_on(graphs: dict[GraphPrecision, Path]) -> None:
    content = graphs["fp32"].read_bytes()

    assert b"site-packages" not in content
    assert b".py" not in content
    assert str(Path.cwd()).encode() not in content


def test_the_half_graph_norms_in_float32_and_convolves_in_float16(graphs: dict[GraphPrecision, Path]) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load(graphs["fp16"]))
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    kinds |= {value.name: value.data_type for value in model.graph.initializer}

    norms = [kinds[node.input[0]] for node in model.graph.node if node.op_type == "InstanceNormalization"]
    convolutions = [kinds[node.input[1]] for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose")]

    assert len(norms) == 9
    assert set(norms) == {onnx.TensorProto.FLOAT}
    assert len(convolutions) == 10
    assert set(convolutions) == {onnx.TensorProto.FLOAT16}


@pytest.mark.parametrize("scale", [1, 10, 1000])
def test_half_precision_survives_large_activations_before_a_norm(scale: float) -> None:
    """A norm hides the scale of the weights before it; statistics in float16 would not (9.8 dB, then NaN)."""
    generator = small_generator()
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1
    expected = generator(picture)
    with torch.no_grad():
        for layer, following in zip(generator.model, list(generator.model)[1:], strict=False):
            if isinstance(layer, nn.Conv2d) and isinstance(following, nn.InstanceNorm2d):
                layer.weight *= scale

    found = half_convolutions(generator)(picture.half())

    error = (found - expected).square().mean()
    assert 10 * torch.log10(4 / error).item() > 55  # dB, signal range 2


def test_an_engine_s_shapes_are_multiples_of_the_model_s() -> None:
    assert default_shapes(256) == ((1, 128, 128), (1, 256, 456), (1, 512, 912))
    assert default_shapes(256, 256) == ((1, 256, 256), (1, 256, 512), (1, 512, 1024))


def test_half_convolutions_leaves_the_original_as_it_is() -> None:
    generator = small_generator()

    half_convolutions(generator)

    assert all(parameter.dtype is torch.float32 for parameter in generator.parameters())
    assert sum(isinstance(module, nn.InstanceNorm2d) for module in generator.modules()) == 9


def test_a_checkpoint_becomes_a_bundle_that_opens_and_says_where_it_is_from(checkpoint: Path, tmp_path: Path) -> None:
    lines: list[str] = []

    bundle = export_checkpoint(checkpoint, tmp_path / "models" / "small", ExportConfig(fp16=True), say=lines.append)

    manifest = read_bundle(tmp_path / "models" / "small").manifest
    assert manifest == bundle.manifest
    assert (manifest.name, manifest.direction, manifest.size, manifest.source.step) == ("small", "ab", 32, 0)
    assert manifest.architecture == {
        "kind": "resnet",
        "width": 4,
        "blocks": 1,
        "dropout": False,
        "upsampling": "transposed",
    }
    assert [artifact.precision for artifact in manifest.artifacts] == ["fp32", "fp16"]
    assert all(artifact.parity and artifact.parity.images == 5 for artifact in manifest.artifacts)
    assert sorted(path.name for path in bundle.folder.iterdir()) == [
        "generator-fp16.onnx", "generator-fp32.onnx", "manifest.json",
        "reference-1-translated.png", "reference-1.png",
        "reference-2-translated.png", "reference-2.png",
        "reference-3-translated.png", "reference-3.png",
    ]  # fmt: skip
    assert "5 pictures of" in lines[0]
    image = np.zeros((1, 32, 32, 3), np.uint8)
    assert OnnxRuntimeBackend(bundle).run(image).shape == image.shape


def test_the_two_directions_are_two_generators(checkpoint: Path, tmp_path: Path) -> None:
    ab, ba = (export_checkpoint(checkpoint, tmp_path / d, ExportConfig(direction=d)) for d in ("ab", "ba"))

    assert ab.manifest.artifacts[0].sha256 != ba.manifest.artifacts[0].sha256
    assert ba.manifest.direction == "ba"


def test_a_graph_that_differs_is_not_kept_and_the_old_bundle_stays(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "small"
    export_checkpoint(checkpoint, folder, ExportConfig())
    before = (folder / "manifest.json").read_bytes()
    monkeypatch.setattr(
        "cyclegan_edge.train.evaluate.picture_generator.translate_with",
        lambda generator: lambda images: 255 - translate_with(generator)(images),
    )

    with pytest.raises(ExportError, match=r"generator-fp32\.onnx differs from PyTorch"):
        export_checkpoint(checkpoint, folder, ExportConfig())

    assert (folder / "manifest.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


@pytest.fixture
def wrong_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half-precision graphs are those of another generator."""

    def write(generator: nn.Module, path: Path, graph: Graph, **_: object) -> None:
        write_onnx(small_generator() if graph.precision == "fp16" else generator, path, graph)

    monkeypatch.setattr(to_onnx, "write_onnx", write)


@pytest.mark.usefixtures("wrong_half")
def test_a_judge_that_does_not_raise_gets_a_bundle_without_what_failed(checkpoint: Path, tmp_path: Path) -> None:
    heard: list[Verdict] = []

    bundle = export_checkpoint(checkpoint, tmp_path / "small", ExportConfig(fp16=True), on_verdict=heard.append)

    assert [(it.file, it.outcome) for it in heard] == [
        ("generator-fp32.onnx", "good"), ("generator-fp16.onnx", "failed"),
    ]  # fmt: skip
    assert [artifact.file for artifact in bundle.manifest.artifacts] == ["generator-fp32.onnx"]
    assert not (bundle.folder / "generator-fp16.onnx").exists()
    with pytest.raises(ExportError, match=r"generator-fp16\.onnx differs from PyTorch"):
        export_checkpoint(checkpoint, tmp_path / "strict", ExportConfig(fp16=True))
    assert not (tmp_path / "strict").exists()


def test_no_judge_gets_a_bundle_without_its_float32_graph(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "cyclegan_edge.train.evaluate.picture_generator.translate_with",
        lambda generator: lambda images: 255 - translate_with(generator)(images),
    )
    heard: list[Verdict] = []

    with pytest.raises(ExportError, match=r"generator-fp32\.onnx differs from PyTorch"):
        export_checkpoint(checkpoint, tmp_path / "small", ExportConfig(fp16=True), on_verdict=heard.append)

    assert [(it.file, it.outcome) for it in heard] == [("generator-fp32.onnx", "failed")]
    assert list(tmp_path.iterdir()) == []


def test_the_command_shows_by_how_much_the_float32_graph_failed_and_keeps_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "cyclegan_edge.train.evaluate.picture_generator.translate_with",
        lambda generator: lambda images: 255 - translate_with(generator)(images),
    )

    result = CliRunner().invoke(app, ["export", str(checkpoint.parents[1]), "--fp16", "--name", "small"])

    assert result.exit_code == 1
    assert "max 1, 60 dB, 0.999  failed" in result.output
    assert str(result.exception).startswith("generator-fp32.onnx differs from PyTorch by up to ")
    assert str(result.exception) not in result.output  # main says it
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.usefixtures("wrong_half")
def test_the_command_keeps_what_is_good_shows_what_is_not_and_exits_with_1(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    result = CliRunner().invoke(app, ["export", str(checkpoint.parents[1]), "--fp16", "--name", "small"])

    folder = Path("models/small")
    lines = result.output.splitlines()
    assert result.exit_code == 1
    assert str(result.exception) == "1 of 2 failed, generator-fp16.onnx; the reasons are above."
    assert any(line.startswith(" generator-fp32.onnx ") and line.endswith("good   ") for line in lines)
    assert any(line.startswith(" generator-fp16.onnx ") and "max 4, 50 dB, 0.995  failed" in line for line in lines)
    assert any(line.startswith("failed, generator-fp16.onnx differs from PyTorch by up to ") for line in lines)
    assert "Next:" not in result.output
    assert [artifact.file for artifact in read_bundle(folder).manifest.artifacts] == ["generator-fp32.onnx"]
    assert not (folder / "generator-fp16.onnx").exists()


def test_three_pictures_and_pytorch_s_translations_travel_with_the_bundle(checkpoint: Path, tmp_path: Path) -> None:
    bundle = export_checkpoint(checkpoint, tmp_path / "small", ExportConfig())

    generator = open_generator(checkpoint, "ab").generator
    given = [resize(read_image(checkpoint.parents[1] / "data" / "testA" / f"{n}.png"), (32, 32)) for n in (0, 2, 4)]
    stored = [
        [read_image(bundle.checked(part)) for part in (it.picture, it.translated)] for it in bundle.manifest.references
    ]
    for picture, (kept, translated) in zip(given, stored, strict=True):
        np.testing.assert_array_equal(kept, picture)
        np.testing.assert_array_equal(translated, translate_with(generator)(picture[None])[0])


def test_a_bundle_that_was_copied_verifies(checkpoint: Path, tmp_path: Path) -> None:
    export_checkpoint(checkpoint, tmp_path / "small", ExportConfig(fp16=True))
    (tmp_path / "small").rename(tmp_path / "elsewhere")

    result = CliRunner().invoke(app, ["verify", str(tmp_path / "elsewhere"), "--engine", "onnxruntime"])

    assert result.exit_code == 0, result.output
    assert "8 files are as they were exported, and no engine is out of bounds." in result.output


def test_pictures_that_are_not_there_are_refused_or_replaced_aloud(checkpoint: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    content = torch.load(checkpoint, weights_only=True)
    moved = tmp_path / "moved.pt"
    torch.save({**content, "config": {**content["config"], "data": str(tmp_path / "gone")}}, moved)

    export_checkpoint(moved, tmp_path / "small", ExportConfig(compare=2), say=lines.append)

    assert "rendered landscapes" in lines[0]
    with pytest.raises(DataError, match="holds no pictures to compare on"):
        export_checkpoint(checkpoint, tmp_path / "other", ExportConfig(pictures=tmp_path / "gone"))


def test_a_changed_graph_is_refused_by_its_hash(checkpoint: Path, tmp_path: Path) -> None:
    bundle = export_checkpoint(checkpoint, tmp_path / "small", ExportConfig())
    path = bundle.folder / "generator-fp32.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")

    with pytest.raises(BundleError, match="is not the file that was exported"):
        OnnxRuntimeBackend(bundle)


def test_the_manifest_is_plain_json_with_the_parity_of_every_graph(checkpoint: Path, tmp_path: Path) -> None:
    export_checkpoint(checkpoint, tmp_path / "small", ExportConfig())

    content = json.loads((tmp_path / "small" / "manifest.json").read_text())

    assert content["schema"] == 3
    assert content["artifacts"][0]["parity"]["max_levels"] <= 1
    assert content["artifacts"][0]["parity"]["bound"] == {"max_levels": 1, "least_psnr_db": 60.0, "least_ssim": 0.999}
    assert set(content["versions"]) == {"python", "cyclegan-edge", "torch", "onnx", "onnxscript", "onnxruntime"}


def test_a_bundle_made_of_another_config_is_equal_but_for_its_name(checkpoint: Path, tmp_path: Path) -> None:
    one, two = (export_checkpoint(checkpoint, tmp_path / name, ExportConfig()) for name in ("one", "two"))

    assert replace(one.manifest, name="") == replace(two.manifest, name="")
