"""Any file in: prefixes, nested dictionaries, old formats and our own runs are read, everything else is refused."""

import json
import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cyclegan_edge.errors import CheckpointError, ConfigError
from cyclegan_edge.export.weights.open import Trained, open_generator, write_imported
from cyclegan_edge.files import sha256
from cyclegan_edge.settings import load_settings
from cyclegan_edge.train.checkpoint import load_generator, save_checkpoint
from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.networks import GeneratorConfig, ResnetGenerator, init_weights
from cyclegan_edge.train.state import new_state

TINY = {"size": 32, "generator.width": 4, "generator.blocks": 1, "discriminator.width": 4}


def generator(seed: int = 0) -> ResnetGenerator:
    """Has the names of the reference."""
    made = ResnetGenerator(GeneratorConfig(width=4, blocks=2)).eval()
    init_weights(made, torch.Generator().manual_seed(seed))
    return made


class PublishedBlock(nn.Module):
    """The residual block of the reference, written from its description."""

    def __init__(self) -> None:
        super().__init__()
        half = [nn.ReflectionPad2d(1), nn.Conv2d(16, 16, 3), nn.InstanceNorm2d(16)]
        again = [nn.ReflectionPad2d(1), nn.Conv2d(16, 16, 3), nn.InstanceNorm2d(16)]
        self.conv_block = nn.Sequential(*half, nn.ReLU(True), *again)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)  # type: ignore[no-any-return]


class Published(nn.Module):
    """The reference's ResNet generator of two blocks, with torch's own start weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(
            *(nn.ReflectionPad2d(3), nn.Conv2d(3, 4, 7), nn.InstanceNorm2d(4), nn.ReLU(True)),
            *(nn.Conv2d(4, 8, 3, 2, 1), nn.InstanceNorm2d(8), nn.ReLU(True)),
            *(nn.Conv2d(8, 16, 3, 2, 1), nn.InstanceNorm2d(16), nn.ReLU(True)),
            *(PublishedBlock(), PublishedBlock()),
            *(nn.ConvTranspose2d(16, 8, 3, 2, 1, output_padding=1), nn.InstanceNorm2d(8), nn.ReLU(True)),
            *(nn.ConvTranspose2d(8, 4, 3, 2, 1, output_padding=1), nn.InstanceNorm2d(4), nn.ReLU(True)),
            *(nn.ReflectionPad2d(3), nn.Conv2d(4, 3, 7), nn.Tanh()),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)  # type: ignore[no-any-return]


def saved(content: object, path: Path, *, old: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    return path


def prefixed(prefix: str, weights: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}{name}": tensor for name, tensor in weights.items()}


def same(trained: Trained, expected: nn.Module) -> bool:
    found, wanted = trained.generator.state_dict(), expected.state_dict()
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


def with_versions(weights: dict[str, Any]) -> dict[str, Any]:
    """As torch saves a module: with `_metadata`, here of a norm before version 1, whose statistics were buffers."""
    made = OrderedDict(weights)
    made._metadata = OrderedDict({"": {"version": 1}, "model.2": {"version": 0}})  # type: ignore[attr-defined]
    return made


WRAPPED: dict[str, Callable[[dict[str, Any]], object]] = {
    "plain": lambda it: it,
    "DataParallel": lambda it: prefixed("module.", it),
    "compiled and parallel": lambda it: prefixed("_orig_mod.module.", it),
    "state_dict": lambda it: {"state_dict": it, "epoch": 7},
    "netG": lambda it: {"netG": prefixed("module.", it), "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}},
    "model": lambda it: {"model": it},
    "ema": lambda it: {"params": generator(1).state_dict(), "params_ema": it},
    "Lightning": lambda it: {"state_dict": prefixed("netG_A.", it) | prefixed("netG_B.", generator(1).state_dict())},
    "both": lambda it: {"G_BA": generator(1).state_dict(), "G_AB": it, "D_A": {"model.0.weight": torch.ones(1)}},
    "stale": lambda it: {**it, "model.2.running_mean": torch.ones(4), "model.2.num_batches_tracked": torch.tensor(9)},
    "versions": with_versions,
    "compiled": lambda it: prefixed("_orig_mod.", it),
    "only b": lambda it: {"netG_B2A": it},
}  # fmt: skip


@pytest.mark.parametrize("wrap", WRAPPED)
def test_weights_are_found_in_whatever_is_around_them(wrap: str, tmp_path: Path) -> None:
    path = saved(WRAPPED[wrap](generator().state_dict()), tmp_path / "G.pth")

    trained = open_generator(path)

    assert same(trained, generator())
    assert not trained.generator.training
    assert (trained.size, trained.multiple, trained.direction, trained.domains) == (256, 4, "ab", None)
    assert trained.source.file == "G.pth"
    assert trained.source.sha256 == sha256(path)
    assert trained.source.step is None


@pytest.mark.parametrize("name", ["latest_net_G_A.pth", "latest_net_G.pth", "netG_A2B.pth"])
def test_a_file_of_one_direction_gives_the_picture_of_its_original(name: str, tmp_path: Path) -> None:
    original = Published().eval()
    path = saved(original.state_dict(), tmp_path / name)
    batch = torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(1)) * 2 - 1

    found = open_generator(path)

    with torch.inference_mode():
        torch.testing.assert_close(found.generator(batch), original(batch), rtol=0, atol=1e-5)


def test_the_direction_chooses_among_two(tmp_path: Path) -> None:
    both = {"netG_A2B": generator(0).state_dict(), "netG_B2A": generator(1).state_dict()}
    path = saved(both, tmp_path / "last.ckpt")

    trained = open_generator(path, "ba")

    assert same(trained, generator(1))
    assert trained.direction == "ba"
    assert trained.description.endswith("from the entry 'netG_B2A'")


def test_old_files_and_safetensors_are_read(tmp_path: Path) -> None:
    old = saved(OrderedDict(generator().state_dict()), tmp_path / "old.pth", old=True)
    save_file(dict(generator().state_dict()), tmp_path / "G.safetensors")

    assert same(open_generator(old), generator())
    assert same(open_generator(tmp_path / "G.safetensors"), generator())


def test_an_imported_file_comes_back_as_it_was(tmp_path: Path) -> None:
    path = saved(generator().state_dict(), tmp_path / "latest_net_G_B.pth")
    trained = open_generator(path, "ba", size=128, domains=("horse", "zebra"))

    write_imported(trained, tmp_path / "imported" / "zebra.safetensors")

    again = open_generator(tmp_path / "imported" / "zebra.safetensors")
    assert same(again, generator())
    assert replace(again, generator=trained.generator, note=trained.note) == trained
    assert bool(trained.note) > bool(again.note), "what was assumed is in the file from then on"
    assert json.loads(metadata(tmp_path / "imported" / "zebra.safetensors")["architecture"])["blocks"] == [16, 16]


def test_a_generator_without_norms_stays_one(tmp_path: Path) -> None:
    path = saved(generator().state_dict(), tmp_path / "G.pth")
    batch = torch.rand(1, 3, 16, 20) * 2 - 1
    trained = open_generator(path, norm="none")

    write_imported(trained, tmp_path / "G.safetensors")

    again = open_generator(tmp_path / "G.safetensors")
    assert again.architecture["norm"] == "none"
    torch.testing.assert_close(again.generator(batch), trained.generator(batch), rtol=0, atol=0)


def test_a_padding_that_was_chosen_is_kept(tmp_path: Path) -> None:
    trained = open_generator(saved(generator().state_dict(), tmp_path / "G.pth"), padding="replicate")

    write_imported(trained, tmp_path / "G.safetensors")

    again = open_generator(tmp_path / "G.safetensors")
    assert again.architecture["padding"] == "replicate"
    assert replace(again, generator=trained.generator) == trained


def test_a_run_of_ours_opens_and_is_imported(tmp_path: Path) -> None:
    config = load_settings(TrainConfig, overrides={"data": str(tmp_path / "data"), **TINY})
    checkpoint = save_checkpoint(tmp_path, config, new_state(config, torch.device("cpu")))
    _, expected, _ = load_generator(checkpoint, "ba")

    trained = open_generator(checkpoint, "ba")
    write_imported(trained, tmp_path / "ours.safetensors")

    again = open_generator(tmp_path / "ours.safetensors")
    assert same(trained, expected)
    assert same(again, expected)
    assert (trained.data, trained.size, trained.source.step) == (tmp_path / "data", 32, 0)
    assert (again.data, again.size, again.direction, again.source) == (None, 32, "ba", trained.source)


def test_a_run_of_ours_says_what_its_domains_are(tmp_path: Path) -> None:
    config = load_settings(TrainConfig, overrides={"data": "photos", "domains": "summer,winter", **TINY})
    checkpoint = save_checkpoint(tmp_path, config, new_state(config, torch.device("cpu")))

    assert open_generator(checkpoint, "ab").domains == ("summer", "winter")


def test_a_run_of_ours_with_non_finite_weights_is_refused(tmp_path: Path) -> None:
    config = load_settings(TrainConfig, overrides={"data": str(tmp_path), **TINY})
    state = new_state(config, torch.device("cpu"))
    with torch.no_grad():
        state.networks.generator_ab.get_parameter("model.4.bias")[1] = torch.nan
    checkpoint = save_checkpoint(tmp_path, config, state)

    with pytest.raises(CheckpointError, match=r"step_0000000\.pt has NaN or infinite values in 'model\.4\.bias'"):
        open_generator(checkpoint)
    open_generator(checkpoint, "ba")


def test_what_a_file_of_ours_holds_cannot_be_overridden(tmp_path: Path) -> None:
    config = load_settings(TrainConfig, overrides={"data": str(tmp_path), **TINY})
    checkpoint = save_checkpoint(tmp_path, config, new_state(config, torch.device("cpu")))

    with pytest.raises(ConfigError, match=r"size is 64, but .* was trained at 32 px"):
        open_generator(checkpoint, size=64)
    with pytest.raises(ConfigError, match=r"norm is 'none', but .*step_0000000\.pt was written by this package"):
        open_generator(checkpoint, norm="none")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            {f"conv{number}.weight": torch.ones(1) for number in range(5)},
            "none of 'conv0.weight', 'conv1.weight', 'conv2.weight', ... fits one",
        ),
        (
            {name: generator().state_dict() for name in ("left", "right")},
            "has the generators 'left.', 'right.', and their names do not say which one is 'ab'",
        ),
    ],
    ids=["unknown", "two"],
)
def test_a_file_without_one_generator_of_a_known_architecture_is_refused(
    content: object, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=sentence):
        open_generator(saved(content, tmp_path / "G.pth"))


CHANGES: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "more": (lambda it: it.update({"model.30.weight_u": torch.ones(3)}), "'model.30.weight_u' should not be there"),
    "less": (lambda it: it.pop("model.11.conv_block.5.weight"), "'model.11.conv_block.5.weight' should"),
    "shape": (
        lambda it: it.update({"model.4.weight": torch.ones(8, 4, 5, 5)}),
        r"'model.4.weight' has the shape \(8, 4, 5, 5\), expected \(8, 4, 3, 3\)",
    ),
    "first": (lambda it: it.pop("model.1.weight"), "2 convolutions before its blocks and 3 after"),
    "three halvings": (
        lambda it: it.update({"model.8.weight": torch.ones(8, 4, 3, 3)}),
        "4 convolutions before its blocks and 3 after",
    ),
    "channels": (lambda it: it.update({"model.1.weight": torch.ones(4, 5, 7, 7)}), "turns 5 channels into 3"),
    "no number": (
        lambda it: it.update({"model.4.bias": torch.full((8,), torch.nan)}), "NaN or infinite values in 'model.4.bias'"
    ),
    "enormous": (
        lambda it: it.update({"model.4.weight": torch.ones(1).expand(5000, 4, 3, 3)}),
        "a layer has 5000 channels, more than 4096",
    ),
    "blocks": (
        lambda it: it.update({f"model.{block}.conv_block.1.weight": torch.ones(1, 1, 1, 1) for block in range(10, 80)}),
        "70 residual blocks, more than 64",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_does_not_fit_is_refused_by_name(change: str, tmp_path: Path) -> None:
    weights = generator().state_dict()
    edit, sentence = CHANGES[change]
    edit(weights)

    with pytest.raises(CheckpointError, match=sentence):
        open_generator(saved(weights, tmp_path / "G.pth"))


def test_any_weight_changed_at_random_is_refused_in_one_sentence_or_gives_a_generator(tmp_path: Path) -> None:
    draw, weights = random.Random(0), dict(generator().state_dict())
    replacements: list[Callable[[Tensor], object]] = [
        lambda tensor: tensor[:1],
        lambda tensor: tensor[..., None],
        lambda tensor: tensor.new_zeros((*tensor.shape, 0)),
        lambda tensor: tensor.new_zeros(()),
        lambda tensor: tensor.long(),
        lambda tensor: tensor.to(torch.complex64),
        lambda tensor: tensor / 0,
        lambda tensor: torch.ones(1).expand(1 << 12, 1 << 12, 3, 3),
        lambda tensor: "x",
        lambda tensor: {"weight": tensor},
    ]
    refused = 0

    for _ in range(150):
        changed: dict[str, object] = dict(weights)
        for name in draw.sample(list(weights), draw.choice((1, 3))):
            moved = draw.choice((name, name, f"model.{draw.randrange(30)}.weight"))
            del changed[name]
            changed[moved] = draw.choice(replacements)(weights[name])
        try:
            open_generator(saved(changed, tmp_path / "G.pth")).generator(torch.zeros(1, 3, 8, 8))
        except CheckpointError as error:
            refused += 1
            assert "\n" not in str(error), error  # noqa: PT017

    assert 100 < refused < 150


def test_a_size_that_the_generator_cannot_halve_is_refused(tmp_path: Path) -> None:
    path = saved(generator().state_dict(), tmp_path / "G.pth")

    with pytest.raises(ConfigError, match=r"size is 130, .* multiples of 4; try 128"):
        open_generator(path, size=130)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 1}', '{"formt": 1}'])
def test_an_imported_file_with_malformed_metadata_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "G.safetensors"
    save_file(dict(generator().state_dict()), path, {"cyclegan_edge": text})

    with pytest.raises(CheckpointError, match="has metadata that this version cannot read"):
        open_generator(path)


def test_an_imported_file_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "G.safetensors"
    write_imported(open_generator(saved(generator().state_dict(), tmp_path / "G.pth")), path)
    card = json.loads(metadata(path)["cyclegan_edge"])
    weights: dict[str, Tensor] = load_file(path)
    save_file(weights, path, {"cyclegan_edge": json.dumps({**card, "format": 2})})

    with pytest.raises(CheckpointError, match="has format 2, this version reads 1"):
        open_generator(path)


def metadata(path: Path) -> dict[str, str]:
    """Of a safetensors file, read by hand: 8 bytes of length, then JSON."""
    content = path.read_bytes()
    header: dict[str, Any] = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return dict(header["__metadata__"])
