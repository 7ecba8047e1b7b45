"""Anyone's generator to train on: its exact weights where training builds the same network, one sentence where not."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cyclegan_edge.contract import Direction
from cyclegan_edge.errors import CheckpointError, ConfigError
from cyclegan_edge.export.weights.generators import ForeignResnet, ResnetArchitecture
from cyclegan_edge.export.weights.open import open_generator, write_imported
from cyclegan_edge.export.weights.trainable import start_from_weights
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
