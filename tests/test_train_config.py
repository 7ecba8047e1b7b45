"""Settings of a run: what is refused, and the schedule against the reference's formula."""

from pathlib import Path

import pytest

from cyclegan_edge.errors import ConfigError
from cyclegan_edge.settings import from_mapping, load_settings, to_mapping, to_toml
from cyclegan_edge.train.config import TrainConfig, learning_rate_factor, total_steps

DATA = Path("horses")


@pytest.mark.parametrize(("size", "load_size"), [(256, 286), (128, 143), (320, 358), (512, 573)])
def test_load_size_is_1_12_times_the_crop(size: int, load_size: int) -> None:
    assert TrainConfig(data=DATA, size=size).load_size == load_size


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"size": 250}, "size is 250, .* try 248"),
        ({"size": 16}, "size is 16, .* try 32"),
        ({"batch": 0}, "batch is 0, expected at least 1"),
        ({"cycle_weight": -1.0}, "cycle_weight is -1.0, expected 0 or more"),
        ({"cycle_weight": float("nan")}, "cycle_weight is nan, expected 0 or more"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0, expected more than 0"),
        ({"steps": 0}, "steps is 0, expected at least 1"),
        ({"constant_epochs": 0, "decay_epochs": 0}, "nothing to train"),
        ({"size": 32, "discriminator_layers": 4}, "no patch of a 32 px crop"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_value_and_the_way_out(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        TrainConfig(data=DATA, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("epoch", [0, 50, 99, 100, 150, 199])
def test_schedule_by_epochs_is_the_reference_s_formula(epoch: int) -> None:
    config = TrainConfig(data=DATA)
    epoch_count, n_epochs, n_epochs_decay = 1, 100, 100

    factor = learning_rate_factor(config, epoch * 1334 + 77, 1334)

    assert factor == 1.0 - max(0, epoch + epoch_count - n_epochs) / float(n_epochs_decay + 1)


def test_schedule_by_steps_is_constant_for_half_and_ends_just_above_zero() -> None:
    config = TrainConfig(data=DATA, steps=1000)

    factors = [learning_rate_factor(config, step, 7) for step in range(1000)]

    assert factors[:500] == [1.0] * 500
    assert factors[500] == 1.0 - 1 / 501
    assert factors[-1] == pytest.approx(1 / 501)
    assert total_steps(config, 7) == 1000


def test_an_epoch_run_has_as_many_steps_as_the_larger_folder_times_the_epochs() -> None:
    assert total_steps(TrainConfig(data=DATA), 1334) == 266_800


def test_settings_survive_a_toml_file_and_a_checkpoint(tmp_path: Path) -> None:
    config = TrainConfig(data=Path('ho"rses'), width=16, steps=5, learning_rate=1e-5)
    path = tmp_path / "settings.toml"
    path.write_text(to_toml(config))

    assert load_settings(TrainConfig, path) == config
    assert from_mapping(TrainConfig, to_mapping(config)) == config


def test_overrides_win_over_the_file_and_are_read_as_values(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text('data = "horses"\nwidth = 64\nsteps = 3\n')

    config = load_settings(TrainConfig, path, ["width=16", "learning_rate=1e-3", "steps=none"], size=128)

    assert (config.width, config.learning_rate, config.steps, config.size) == (16, 1e-3, None, 128)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("blcoks=6", "no setting 'blcoks'; did you mean 'blocks'"),
        ("zzz=1", "no setting 'zzz'; known are data, size"),
        ("width=wide", "width is 'wide', expected a value of type int"),
        ("width=1.5", "width is 1.5, expected a value of type int"),
        ("device=gpu", "device is 'gpu', expected one of 'auto', 'cuda', 'cpu'"),
        ("width", "has no value, expected key=value"),
    ],
)
def test_a_wrong_override_is_refused_by_name(override: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_settings(TrainConfig, None, [override], data=DATA)


def test_a_missing_or_malformed_file_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("width = = 3")

    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(TrainConfig, tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        load_settings(TrainConfig, broken)
