"""Anyone's generator to train on: its exact weights where training builds the same network, one sentence where not."""

import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from safetensors.torch import save_file

from cyclegan_edge.bundle import Artifact, Bundle, Manifest, Source, included_bundle, read_bundle
from cyclegan_edge.contract import Direction
from cyclegan_edge.errors import BundleError, CheckpointError, ConfigError
from cyclegan_edge.export.formats.onnx import write_onnx
from cyclegan_edge.export.weights.generators import ForeignResnet, ResnetArchitecture
from cyclegan_edge.export.weights.open import open_generator, write_imported
from cyclegan_edge.export.weights.trainable import start_from_bundle, start_from_weights
from cyclegan_edge.files import sha256
from cyclegan_edge.schema import to_mapping
from cyclegan_edge.train.networks import GeneratorConfig, init_weights, new_generator
from cyclegan_edge.train.runs import new_run
from cyclegan_edge.train.state import new_state

CPU = torch.device("cpu")
RESNET = ResnetArchitecture(down=(4, 8, 16), blocks=(16, 16), up=(8, 4))


def saved(path: Path, generator: torch.nn.Module) -> Path:
    init_weights(generator, torch.Generator().manual_seed(1))
    for filters in generator.buffers():
        filters.fill_(0.125)  # of uninitialised memory
    torch.save(generator.state_dict(), path)
    return path


def bundled(folder: Path, generator: torch.nn.Module, shape: GeneratorConfig | ResnetArchitecture) -> Bundle:
    """`generator` as an exported model of direction ba."""
    path = folder / "generator-fp32.onnx"
    init_weights(generator, torch.Generator().manual_seed(1), "xavier", 1.0)
    for bias in (value for name, value in generator.named_parameters() if name.endswith("bias")):
        torch.nn.init.normal_(bias, generator=torch.Generator().manual_seed(2))
    write_onnx(generator.eval(), path, multiple=shape.multiple)
    manifest = Manifest(
        name="theirs",
        direction="ba",
        size=max(64, shape.multiple),
        architecture=json.loads(json.dumps(to_mapping(shape))),
        source=Source(file="step-7.pt", sha256="0" * 64, step=7),
        artifacts=(Artifact(file=path.name, format="onnx", precision="fp32", sha256=sha256(path)),),
        multiple=shape.multiple,
    )
    return Bundle(folder, manifest)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        (GeneratorConfig(width=4, blocks=2), 256),
        (GeneratorConfig(kind="compact", width=8, blocks=2), 256),
        (GeneratorConfig(kind="unet_128", width=2), 128),
        (GeneratorConfig(kind="unet_256", width=2), 256),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_every_generator_that_training_builds_is_taken_weight_by_weight(
    shape: GeneratorConfig, size: int, tmp_path: Path
) -> None:
    path = saved(tmp_path / "G.pth", new_generator(shape))

    start = start_from_weights(path)

    config = new_run({"data": "none"}, start=start).config
    state = new_state(config, CPU, start.networks)
    expected, found = torch.load(path, weights_only=True), state.networks.generator_ab.state_dict()
    assert (config.generator, config.size) == (shape, size)
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert start.networks.keys() == {"generator_ab"}
    assert "A to B; the other generator and both discriminators start fresh" in start.note


@pytest.mark.parametrize(
    ("name", "asked", "direction"),
    [
        ("latest_net_G_B.pth", None, "ba"),
        ("horse2zebra_ba.pth", None, "ba"),
        ("horse2zebra_ab.pth", None, "ab"),
        ("zebra.pth", None, "ab"),
        ("zebra.pth", "ba", "ba"),
        ("latest_net_G_B.pth", "ab", "ab"),
    ],
)
def test_the_direction_is_what_is_said_then_what_the_name_says_then_ab(
    name: str, asked: Direction | None, direction: str, tmp_path: Path
) -> None:
    path = saved(tmp_path / name, ForeignResnet(RESNET))

    start = start_from_weights(path, asked)

    assert start.networks.keys() == {f"generator_{direction}"}


def test_what_an_imported_file_says_wins_over_its_name_and_is_not_contradicted(tmp_path: Path) -> None:
    original = saved(tmp_path / "G.pth", ForeignResnet(RESNET))
    path = tmp_path / "zebra_ab.safetensors"
    write_imported(open_generator(original, "ba", size=64), path)

    start = start_from_weights(path)

    assert list(start.networks) == ["generator_ba"]
    assert start.size == 64
    with pytest.raises(ConfigError, match=r"its generator is ba; leave out --direction ab"):
        start_from_weights(path, "ab")


def test_grey_pictures_are_those_of_the_domain_that_the_generator_reads(tmp_path: Path) -> None:
    path = saved(tmp_path / "colouring.pth", ForeignResnet(replace(RESNET, inputs=1)))

    colours = [start_from_weights(path, direction).colours for direction in ("ab", "ba")]

    assert colours == [("grey", "rgb"), ("rgb", "grey")]


@pytest.mark.parametrize(
    "other",
    [
        {"blurred_down": True, "upsampling": "blurred"},
        {"upsampling": "resized"},
        {"norm": "affine"},
        {"padding": "zero"},
        {"separable": True},
        {"blocks": (16, 12)},
        {"down": (4, 8, 12), "blocks": (12, 12)},
    ],
    ids=str,
)
def test_what_training_does_not_build_is_refused(other: dict[str, object], tmp_path: Path) -> None:
    path = saved(tmp_path / "G.pth", ForeignResnet(replace(RESNET, **other)))  # type: ignore[arg-type]

    with pytest.raises(CheckpointError, match=r"G.pth is a .*ResNet.*, which training does not build, expected"):
        start_from_weights(path)


def test_weights_without_a_generator_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "G.safetensors"
    save_file({"layer.weight": torch.zeros(3)}, path)

    with pytest.raises(CheckpointError, match="no generator of a known architecture"):
        start_from_weights(path)


@pytest.mark.parametrize(
    "shape",
    [
        GeneratorConfig(width=4, blocks=2),
        GeneratorConfig(width=4, blocks=1, dropout=True, upsampling="resize"),
        GeneratorConfig(kind="compact", width=8, blocks=2),
        GeneratorConfig(kind="unet_128", width=2),
        RESNET,
    ],
    ids=str,
)
def test_an_exported_generator_is_taken_back_and_translates_the_same(
    shape: GeneratorConfig | ResnetArchitecture, tmp_path: Path
) -> None:
    generator = new_generator(shape, 1, 3) if isinstance(shape, GeneratorConfig) else ForeignResnet(shape)
    bundle = bundled(tmp_path, generator, shape)
    inputs = 1 if isinstance(shape, GeneratorConfig) else 3

    start = start_from_bundle(bundle)

    found = new_generator(start.generator, inputs, 3).eval()
    found.load_state_dict(start.networks["generator_ba"])
    picture = torch.rand(1, inputs, bundle.manifest.size, bundle.manifest.size, generator=torch.Generator()) * 2 - 1
    with torch.no_grad():
        assert torch.allclose(found(picture), generator(picture), atol=1e-4)
    assert start.colours == ("rgb", "grey" if inputs == 1 else "rgb")
    assert (start.size, start.origin.step, start.origin.sha256) == (
        bundle.manifest.size,
        7,
        bundle.manifest.artifacts[0].sha256,
    )


def test_the_model_that_comes_with_the_package_can_be_trained_further() -> None:
    folder = included_bundle("landscapes")
    assert folder is not None

    start = start_from_bundle(read_bundle(folder))

    assert start.generator == GeneratorConfig(kind="compact", width=32, blocks=6)
    assert (start.size, list(start.networks)) == (512, ["generator_ab"])
    assert "A to B; the other generator and both discriminators start fresh" in start.note


@pytest.mark.parametrize(
    ("architecture", "error", "said"),
    [
        ({"kind": "compact", "width": 8, "blocks": 3}, BundleError, "not hold the weights of the generator in the man"),
        ({"kind": "compact", "width": 9, "blocks": 2}, BundleError, "not hold the weights of the generator in the man"),
        ({"kind": "compact", "width": 10**9}, BundleError, "no architecture of this version"),
        ({"kind": "negative"}, BundleError, "no architecture of this version"),
        ({"generator": "cubist"}, BundleError, "no architecture of this version"),
        ({"generator": ["resnet"]}, BundleError, "no architecture of this version"),
        (
            {**to_mapping(RESNET), "norm": "affine"},
            CheckpointError,
            "that training does not build, expected the ResNet",
        ),
    ],
    ids=str,
)
def test_a_manifest_that_is_not_of_its_graph_is_refused(
    architecture: dict[str, object], error: type[Exception], said: str, tmp_path: Path
) -> None:
    shape = GeneratorConfig(kind="compact", width=8, blocks=2)
    bundle = bundled(tmp_path, new_generator(shape), shape)
    bundle = replace(bundle, manifest=replace(bundle.manifest, architecture=architecture))

    with pytest.raises(error, match=said):
        start_from_bundle(bundle)


def test_a_graph_that_is_missing_or_no_graph_is_refused(tmp_path: Path) -> None:
    shape = GeneratorConfig(kind="compact", width=8, blocks=2)
    bundle = bundled(tmp_path, new_generator(shape), shape)
    (artifact,) = bundle.manifest.artifacts

    with pytest.raises(BundleError, match="holds no fp32 ONNX graph"):
        start_from_bundle(replace(bundle, manifest=replace(bundle.manifest, artifacts=())))
    graph = tmp_path / artifact.file
    for content in (b"no graph", graph.read_bytes()[:-500]):
        graph.write_bytes(content)
        changed = bundle.with_artifact(replace(artifact, sha256=sha256(graph)))
        with pytest.raises(BundleError, match=r"is not an ONNX file that holds its weights|does not hold the weights"):
            start_from_bundle(changed)
    nan = onnx.load(bundled(tmp_path, new_generator(shape), shape).path(artifact))
    nan.graph.initializer[0].raw_data = b"\xff" * len(nan.graph.initializer[0].raw_data)
    onnx.save(nan, graph)
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        start_from_bundle(bundle.with_artifact(replace(artifact, sha256=sha256(graph))))
