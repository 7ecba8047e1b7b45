"""Settings of a run: what is refused, what a preset means, and how they travel."""

from pathlib import Path

import pytest

from cyclegan_edge.errors import ConfigError
from cyclegan_edge.schema import from_mapping, to_mapping
from cyclegan_edge.settings import changed, load_settings, to_toml
from cyclegan_edge.train.config import PRESETS, OptimiserConfig, TrainConfig
from cyclegan_edge.train.networks import GeneratorConfig
from cyclegan_edge.train.schedule import ScheduleConfig

DATA = {"data": "horses"}


@pytest.mark.parametrize(("size", "load_size"), [(256, 286), (128, 143), (320, 358), (512, 573)])
def test_load_size_is_1_12_times_the_crop(size: int, load_size: int) -> None:
    assert TrainConfig(data="horses", size=size).load_size == load_size


@pytest.mark.parametrize(
    ("override", "facts"),
    [
        (["size=250"], "size is 250.* multiple of 4 .*try 248"),
        (["size=16"], "size is 16, .* try 32"),
        (["generator.kind=unet_256", "size=128"], "unet_256.* multiple of 256 .*try 256"),
        (["generator.kind=unet_128", "generator.upsampling=resize"], "upsampling is 'resize'.* resnet.* 'transposed'"),
        (["batch=0"], "batch is 0, expected 1 to 4096"),
        (["objective.cycle_weight_a=-1.0"], "objective.cycle_weight_a is -1.0, .* 0 or more"),
        (["objective.cycle_weight_b=nan"], "objective.cycle_weight_b is nan, .* 0 or more"),
        (["optimiser.learning_rate=0.0"], "optimiser.learning_rate is 0.0, .* more than 0"),
        (["optimiser.ema=1.0"], "optimiser.ema is 1.0, .* less than 1"),
        (["size=32", "discriminator.layers=4"], "discriminator.layers is 4.* 32 px.* at least 64"),
        (["pictures.load_size=200"], "pictures.load_size is 200, .* 256; .* 286"),
        (["pictures.mode=none", "batch=2"], "pictures.mode is 'none'.* batch must be 1"),
        (["pictures.colour_a=grey"], "grey.* objective.identity_weight=0"),
        (["objective.gan=wgangp"], "gan is 'wgangp', .*'lsgan', 'vanilla', 'hinge'"),
        (["output.keep=0"], "output.keep is 0, .* at least 1"),
        (["start_gain=0.0"], "start_gain is 0.0, .* more than 0"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_value_and_the_way_out(override: list[str], facts: str) -> None:
    with pytest.raises(ConfigError, match=facts):
        load_settings(TrainConfig, None, override, overrides=DATA)


def test_settings_survive_a_toml_file_and_a_checkpoint(tmp_path: Path) -> None:
    config = TrainConfig(
        data='ho"rses',
        generator=GeneratorConfig(width=16, dropout=True),
        schedule=ScheduleConfig(steps=5),
        optimiser=OptimiserConfig(learning_rate=1e-5),
    )
    path = tmp_path / "settings.toml"
    path.write_text(to_toml(config))

    assert load_settings(TrainConfig, path) == config
    assert from_mapping(TrainConfig, to_mapping(config)) == config


def test_the_presets_are_the_two_published_variants() -> None:
    paper, short_side = (
        load_settings(TrainConfig, base=PRESETS[name], overrides=DATA) for name in ("paper", "short-side")
    )

    assert (paper.pictures.mode, paper.objective.patches) == ("resize_and_crop", "map")
    assert changed(paper, short_side) == ["pictures.mode", "objective.patches"]
    assert (short_side.pictures.mode, short_side.objective.patches) == ("short_side_and_crop", "mean")
