"""ncnn: the generator alone is converted, runs at every size, and gives PyTorch's picture or is not kept."""

import json
import shutil
from importlib import util
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from typer.testing import CliRunner

from cyclegan_edge.bounds import BOUNDS
from cyclegan_edge.bundle import MANIFEST, Bundle, read_bundle
from cyclegan_edge.cli import app
from cyclegan_edge.contract import Precision
from cyclegan_edge.errors import BundleError, EngineError, ExportError
from cyclegan_edge.export.config import ExportConfig
from cyclegan_edge.export.pipeline import add_to_bundle, export_checkpoint
from cyclegan_edge.files import sha256
from cyclegan_edge.images import write_image
from cyclegan_edge.scenes import render
from cyclegan_edge.train.evaluate.picture_generator import translate_with
from cyclegan_edge.train.networks import GeneratorConfig, ResnetGenerator, init_weights, new_generator
from cyclegan_edge.translator import Translator

pytest.importorskip("pnnx", reason="pnnx is not installed")
nc = pytest.importorskip("cyclegan_edge.backends.ncnn", reason="ncnn is not installed")
to_ncnn = pytest.importorskip("cyclegan_edge.export.formats.ncnn")

PARAM, WEIGHTS = "generator-fp32.ncnn.param", "generator-fp32.ncnn.bin"


@pytest.fixture(scope="module")
def converted(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(exported, tmp_path_factory.mktemp("converted") / "small")
    add_to_bundle(read_bundle(folder), [to_ncnn.ncnn_target("fp32"), to_ncnn.ncnn_target("fp16")])
    return folder


@pytest.fixture
def bundle(converted: Path, tmp_path: Path) -> Bundle:
    return read_bundle(shutil.copytree(converted, tmp_path / "small"))


def rehashed(bundle: Bundle) -> Bundle:
    """The bundle with the hashes of its files as they are now."""
    manifest = json.loads((bundle.folder / MANIFEST).read_text())
    for artifact in manifest["artifacts"]:
        for part in (artifact, *artifact["parts"]):
            part |= {"sha256": sha256(bundle.folder / part["file"]), "bytes": None}
    (bundle.folder / MANIFEST).write_text(json.dumps(manifest))
    return read_bundle(bundle.folder)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 64, 40), (1, 100, 36), (1, 8, 8), (1, 256, 340)])
def test_ncnn_gives_pytorch_s_picture_within_its_bound_at_any_size(
    bundle: Bundle,
    generator: ResnetGenerator,
    precision: Precision,
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> None:
    images = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)

    found = nc.NcnnBackend(bundle, precision=precision, threads=1).run(images)

    expected = translate_with(generator)(images)
    assert found.shape == images.shape
    assert found.dtype == np.uint8
    assert np.ptp(expected) > 100
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= BOUNDS[precision].max_levels


def test_a_bundle_gets_both_files_and_their_proof(bundle: Bundle) -> None:
    artifact = bundle.artifact("ncnn", "fp32")

    assert artifact is not None
    assert [part.file for part in artifact.files()] == [PARAM, WEIGHTS]
    assert bundle.path(artifact) == bundle.folder / PARAM
    assert artifact.parity is not None
    assert (artifact.parity.images, artifact.parity.height) == (8, 32)
    assert bundle.artifact("onnx", "fp32") is not None


def test_half_weights_take_half_the_space(bundle: Bundle) -> None:
    full, half = (bundle.folder / f"generator-{precision}.ncnn.bin" for precision in ("fp32", "fp16"))

    assert half.stat().st_size < 0.55 * full.stat().st_size


def test_the_bare_generator_is_float32_planes_and_nothing_around(exported: Path) -> None:
    graph = to_ncnn.bare_generator(onnx.load(exported / "generator-fp32.onnx")).graph

    (image,), (translated,) = graph.input, graph.output
    assert image.type.tensor_type.elem_type == translated.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert image.type.tensor_type.shape.dim[1].dim_value == 3
    assert (graph.node[0].op_type, graph.node[-1].op_type) == ("Pad", "Tanh")
    assert not {node.op_type for node in graph.node} & {"Cast", "Transpose", "Round"}


def test_converting_leaves_nothing_in_the_working_directory(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    to_ncnn.write_ncnn(exported / "generator-fp32.onnx", tmp_path / "a.param", tmp_path / "a.bin")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.param"]


def test_a_result_survives_the_next_run(bundle: Bundle) -> None:
    backend = nc.NcnnBackend(bundle)

    first = backend.run(np.zeros((1, 8, 8, 3), np.uint8))
    kept = first.copy()
    backend.run(np.full((1, 8, 8, 3), 255, np.uint8))

    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("file", [PARAM, WEIGHTS])
def test_a_changed_file_is_refused_by_its_hash(file: str, bundle: Bundle) -> None:
    with (bundle.folder / file).open("ab") as written:
        written.write(b"\0")

    with pytest.raises(BundleError, match=f"{file} is not the file that was exported"):
        nc.NcnnBackend(bundle)


@pytest.mark.parametrize("file", [PARAM, WEIGHTS])
def test_a_file_that_is_none_is_refused(file: str, bundle: Bundle) -> None:
    (bundle.folder / file).write_bytes(b"no graph")

    with pytest.raises(EngineError, match=rf"{PARAM} is not an ncnn graph .*; export the model again"):
        nc.NcnnBackend(rehashed(bundle))


@pytest.mark.parametrize("shape", [(8, 8, 3), (1, 8, 8, 4), (1, 10, 8, 3), (1, 4, 8, 3)])
def test_a_shape_that_is_none_of_a_generator_is_refused(shape: tuple[int, ...], bundle: Bundle) -> None:
    with pytest.raises(EngineError, match="with H and W multiples of 4 from 8"):
        nc.NcnnBackend(bundle).run(np.zeros(shape, np.uint8))


def test_a_bundle_without_it_is_told_how_to_get_it(exported: Path) -> None:
    with pytest.raises(BundleError, match=r"holds no fp16 ncnn graph; add it with `.*small --ncnn --fp16`"):
        nc.NcnnBackend(read_bundle(exported), precision="fp16")


def test_what_differs_is_not_kept(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(exported, tmp_path / "small")
    monkeypatch.setattr(nc.NcnnBackend, "_translated", lambda self, image: 255 - image)

    with pytest.raises(ExportError, match=r"generator-fp32\.ncnn\.param differs from PyTorch"):
        add_to_bundle(read_bundle(folder), [to_ncnn.ncnn_target("fp32")])

    assert sorted(path.name for path in folder.iterdir()) == ["generator-fp32.onnx", MANIFEST]
    assert read_bundle(folder).artifact("ncnn", "fp32") is None


def test_a_conversion_that_fails_leaves_the_older_one(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nc.NcnnBackend, "_translated", lambda self, image: 255 - image)
    before = {path.name: path.read_bytes() for path in bundle.folder.iterdir()}

    with pytest.raises(ExportError, match="differs from PyTorch"):
        add_to_bundle(bundle, [to_ncnn.ncnn_target("fp32")])

    assert {path.name: path.read_bytes() for path in bundle.folder.iterdir()} == before


def test_a_converter_that_is_missing_or_fails_is_named(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = exported / "generator-fp32.onnx"
    program = tmp_path / "pnnx"
    program.write_text("#!/bin/sh\necho first >&2\necho 'no such layer' >&2\nexit 3\n")
    program.chmod(0o755)

    with monkeypatch.context() as patched:
        patched.setattr(to_ncnn, "find_pnnx", lambda: program)
        with pytest.raises(ExportError, match=r"pnnx did not convert .*\(no such layer\)"):
            to_ncnn.write_ncnn(graph, tmp_path / "a.param", tmp_path / "a.bin")
    monkeypatch.setattr(to_ncnn, "find_spec", lambda name: None)
    with pytest.raises(ExportError, match=r"pnnx is not installed.*`pip install 'cyclegan-edge\[export,ncnn\]'`"):
        to_ncnn.write_ncnn(graph, tmp_path / "a.param", tmp_path / "a.bin")


def test_the_command_adds_it_to_a_bundle_and_translate_runs_it(
    exported: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    folder = shutil.copytree(exported, tmp_path / "small")

    result = CliRunner().invoke(app, ["export", str(folder), "--ncnn"], catch_exceptions=False)

    image = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    assert result.exit_code == 0, result.output
    assert f"{PARAM}: 0.2 MB, at most" in result.output
    assert Translator.load(folder, engine="ncnn")(image).shape == image.shape
    assert Translator.load(folder).name.startswith("ncnn ")


def test_pnnx_is_found_without_importing_it() -> None:
    spec = util.find_spec("pnnx")

    assert spec is not None
    assert to_ncnn.find_pnnx().is_file()


def test_a_compact_generator_goes_all_the_way_to_ncnn_within_its_bound(tmp_path: Path) -> None:
    generator = new_generator(GeneratorConfig(kind="compact", width=8, blocks=1))
    init_weights(generator, torch.Generator().manual_seed(0), "xavier", 1.0)
    torch.save(generator.state_dict(), tmp_path / "compact.pth")
    for seed in range(2):
        write_image(tmp_path / "pictures" / f"{seed}.png", render(seed, "summer", size=(64, 72)))
    config = ExportConfig(ncnn=True, pictures=tmp_path / "pictures")

    bundle = export_checkpoint(tmp_path / "compact.pth", tmp_path / "compact", config)

    kinds = [line.split()[0] for line in (bundle.folder / PARAM).read_text().splitlines()]
    assert kinds.count("PixelShuffle") == 2
    assert [one.file for one in bundle.manifest.artifacts if one.parity and one.format == "ncnn"] == [PARAM]


def test_channels_that_cannot_be_shuffled_are_refused(bundle: Bundle) -> None:
    param = bundle.folder / PARAM
    text = param.read_text().replace("TanH  ", "PixelShuffle", 1).rstrip() + " 0=2\n"
    assert "PixelShuffle" in text
    param.write_text(text)

    with pytest.raises(EngineError, match="shuffles 3 channels in fours"):
        Translator.load(rehashed(bundle).folder, engine="ncnn")
