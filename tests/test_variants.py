"""Graphs for other pipelines: each is proven, none is taken by our own engines, bfloat16 is as the standard says."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from typer.testing import CliRunner

from cyclegan_edge.backends import open_backend
from cyclegan_edge.backends.base import EngineName
from cyclegan_edge.bundle import MANIFEST, Bundle, read_bundle
from cyclegan_edge.cli import app
from cyclegan_edge.errors import BundleError, ConfigError, ExportError
from cyclegan_edge.export.config import ExportConfig
from cyclegan_edge.export.formats import onnx as to_onnx
from cyclegan_edge.export.formats.onnx import Graph, check_fixed, graph_target
from cyclegan_edge.export.parity import ort_runner, pairs_of, render_pictures
from cyclegan_edge.export.pipeline import add_to_bundle, export_checkpoint
from cyclegan_edge.export.verify_bundle import verify_bundle
from cyclegan_edge.train.evaluate.picture_generator import translate_with
from cyclegan_edge.train.networks import ResnetGenerator


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


@pytest.mark.parametrize("option", ["--bgr", "--float", "--fixed=448x256"])
def test_a_bundle_has_no_weights_to_write_a_graph_from(option: str, exported: Path) -> None:
    with pytest.raises(ConfigError, match=f"is a bundle, but {option.partition('=')[0]} needs the weights of a run"):
        CliRunner().invoke(app, ["export", str(exported), option], catch_exceptions=False)


def test_a_size_that_is_none_is_refused_with_one_that_is(tiny_checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match=r"fixed is 'big', expected WIDTHxHEIGHT in pixels; try 640x480\."):
        CliRunner().invoke(app, ["export", str(tiny_checkpoint), "--fixed", "big"], catch_exceptions=False)
