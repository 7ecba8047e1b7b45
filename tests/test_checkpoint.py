"""Checkpoints: whole or not at all, data and never code, refused in one sentence when they do not fit."""

import os
import secrets
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cyclegan_edge.errors import CheckpointError
from cyclegan_edge.settings import load_settings
from cyclegan_edge.train.checkpoint import (
    check_space,
    load_checkpoint,
    load_generator,
    save_checkpoint,
)
from cyclegan_edge.train.checkpoint_files import find_checkpoint
from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.state import new_state

CPU = torch.device("cpu")


def small(*overrides: str) -> TrainConfig:
    tiny = ["size=32", "generator.width=4", "generator.blocks=1", "discriminator.width=4"]
    return load_settings(TrainConfig, None, [*tiny, *overrides], overrides={"data": "none"})


def test_a_full_disk_leaves_the_previous_checkpoint_and_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small()
    state = new_state(config, CPU)
    kept = save_checkpoint(tmp_path, config, state)
    before = kept.read_bytes()

    def full_disk(content: object, path: Path) -> None:
        Path(path).write_bytes(b"half a checkp")
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(torch, "save", full_disk)
    state.step = 1

    with pytest.raises(
        CheckpointError, match=r"could not be written \(\[Errno 28\] No space left on device\).*step_0000000.pt"
    ):
        save_checkpoint(tmp_path, config, state)
    assert find_checkpoint(tmp_path) == kept
    assert kept.read_bytes() == before
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [kept.name]


def test_a_really_full_disk_is_survived_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full refuses every write, as a full disk does."""
    config = small()
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    monkeypatch.setattr(secrets, "token_hex", lambda _: "ours")
    (folder / ".step_0000000.ours.partial.pt").symlink_to("/dev/full")

    with pytest.raises(CheckpointError, match="could not be written"):
        save_checkpoint(tmp_path, config, new_state(config, CPU))
    assert find_checkpoint(tmp_path) is None


@pytest.mark.parametrize(("checkpoints", "expected"), [(0.9, None), (1.5, "3 checkpoints"), (3.5, "")])
def test_room_is_asked_for_before_anything_is_read(
    checkpoints: float, expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small()
    networks = dict(new_state(config, CPU).networks.items()).values()
    size = 12 * sum(weight.numel() for network in networks for weight in network.parameters())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=int(checkpoints * size)))

    if expected is None:
        with pytest.raises(CheckpointError, match="A checkpoint takes"):
            check_space(tmp_path, config)
    else:
        assert check_space(tmp_path, config).startswith(expected)
        assert bool(check_space(tmp_path, config)) == bool(expected)


def test_half_a_checkpoint_of_a_killed_process_is_cleared_away(tmp_path: Path) -> None:
    config = small()
    half = tmp_path / "checkpoints" / ".step_0000005.1-1.partial.pt"
    half.parent.mkdir()
    half.write_bytes(b"half a checkp")

    assert find_checkpoint(tmp_path) is None
    save_checkpoint(tmp_path, config, new_state(config, CPU))

    assert [path.name for path in half.parent.iterdir()] == ["step_0000000.pt"]


def test_other_settings_must_give_networks_of_the_same_shapes(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, small(), new_state(small(), CPU))

    load_checkpoint(path, CPU, small("optimiser.learning_rate=1e-5"))
    with pytest.raises(
        CheckpointError, match=r"networks\.generator_ab\.model\.1\.weight has the shape \(4, 3, 7, 7\), expected \(8, "
    ):
        load_checkpoint(path, CPU, small("generator.width=8"))


def test_a_checkpoint_with_settings_that_were_retired_since_still_loads(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, small(), new_state(small(), CPU))
    content = torch.load(path, weights_only=True)
    content["config"]["objective"]["penalty_weight"] = 10.0
    content["config"]["speed"] |= {"fused": False}
    content["config"]["discriminator"]["kind"] = "patch"
    torch.save(content, path)

    config, state = load_checkpoint(path, CPU)

    assert (config, state.step) == (small(), 0)
    content["config"]["discriminator"]["kind"] = "pixel"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"discriminator\.kind"):
        load_checkpoint(path, CPU)


def test_the_last_ones_and_the_best_are_kept(tmp_path: Path) -> None:
    config = small("output.keep=3")
    state = new_state(config, CPU)

    for step in range(1, 7):
        state.step = step
        save_checkpoint(tmp_path, config, state, best=step == 2)

    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["best.pt", "step_0000004.pt", "step_0000005.pt", "step_0000006.pt"]
    assert load_generator(tmp_path / "checkpoints" / "best.pt", "ab")[2] == 2


@pytest.mark.parametrize("renames", [0, 1])
def test_a_kill_while_saving_never_leaves_an_older_best_than_the_run_remembers(
    renames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    config = small()
    state = new_state(config, CPU)
    state.best = {"cycle": 0.5}
    save_checkpoint(tmp_path, config, state, best=True)
    state.step, state.best = 1, {"cycle": 0.25}
    replace, done = Path.replace, list[Path]()

    def replace_or_die(self: Path, target: Path) -> Path:
        if len(done) == renames:
            raise Killed
        done.append(target)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replace_or_die)
    with pytest.raises(Killed):
        save_checkpoint(tmp_path, config, state, best=True)

    last = find_checkpoint(tmp_path)
    assert last is not None
    remembered = torch.load(last, weights_only=True)["best"]["cycle"]
    assert torch.load(last.with_name("best.pt"), weights_only=True)["best"]["cycle"] <= remembered


def test_a_run_that_went_on_from_before_a_damaged_checkpoint_sets_that_aside(tmp_path: Path) -> None:
    config = small("output.keep=1")
    state = new_state(config, CPU)
    damaged = tmp_path / "checkpoints" / "step_0000009.pt"
    damaged.parent.mkdir()
    damaged.write_bytes(b"half a checkp")
    state.step = 5

    kept = save_checkpoint(tmp_path, config, state)

    assert find_checkpoint(tmp_path) == kept
    assert damaged.with_suffix(".undone").read_bytes() == b"half a checkp"


def test_a_run_with_a_moving_average_gives_that_generator(tmp_path: Path) -> None:
    config = small("optimiser.ema=0.5")
    state = new_state(config, CPU)
    assert state.averages is not None
    with torch.no_grad():
        for parameter in state.averages.generator_ba.parameters():
            parameter.fill_(0.125)

    _, generator, _ = load_generator(save_checkpoint(tmp_path, config, state), "ba")

    assert all(parameter.eq(0.125).all() for parameter in generator.parameters())
    assert not generator.training


def test_a_grey_domain_gives_generators_of_one_channel(tmp_path: Path) -> None:
    config = small("pictures.colour_a=grey", "objective.identity_weight=0")
    path = save_checkpoint(tmp_path, config, new_state(config, CPU))

    ab, ba = (load_generator(path, direction)[1] for direction in ("ab", "ba"))

    assert ab(torch.zeros(1, 1, 32, 32)).shape == (1, 3, 32, 32)
    assert ba(torch.zeros(1, 3, 32, 32)).shape == (1, 1, 32, 32)


def test_every_random_state_comes_back(tmp_path: Path) -> None:
    import random

    import numpy as np

    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    config = small()
    path = save_checkpoint(tmp_path, config, new_state(config, CPU))
    expected = draw()
    draw()

    load_checkpoint(path, CPU)

    assert draw() == expected
