"""Training as a whole on the CPU: it learns, it can be stopped anywhere, and it goes on as if it had not been."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from cyclegan_edge.errors import CheckpointError, ConfigError
from cyclegan_edge.images import read_image, write_image
from cyclegan_edge.settings import load_settings
from cyclegan_edge.train.checkpoint import (
    find_checkpoint,
    load_checkpoint,
    load_config,
    load_generator,
    save_checkpoint,
)
from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.data import find_pictures
from cyclegan_edge.train.loop import choose_device, fit
from cyclegan_edge.train.step import new_state, train_step

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A: grey ramps tinted green. B: grey ramps tinted red."""
    folder = tmp_path_factory.mktemp("ramps")
    rng = np.random.default_rng(0)
    for domain, tint in (("trainA", (0.4, 1.0, 0.4)), ("trainB", (1.0, 0.4, 0.4))):
        (folder / domain).mkdir()
        for number in range(6):
            ramp = np.linspace(rng.integers(120), rng.integers(120, 256), 40)[:, None] + rng.normal(0, 8, (40, 40))
            write_image(folder / domain / f"{number}.png", (ramp.clip(0, 255)[..., None] * tint).astype(np.uint8))
    return folder


def small(data: Path, **settings: object) -> TrainConfig:
    values = {"size": 32, "width": 4, "blocks": 1, "discriminator_width": 4, "pool": 3, "workers": 1, "device": "cpu"}
    return load_settings(TrainConfig, None, [], data=data, **{**values, **settings})


def train(config: TrainConfig, run: Path, *, until: int | None = None, resume: Path | None = None) -> None:
    folders = find_pictures(config.data)
    taken = [0]

    def stop() -> bool:
        taken[0] += 1
        return taken[0] == until

    for _ in fit(config, folders, run, resume=resume, stop=stop):
        pass


def weights(run: Path) -> dict[str, torch.Tensor]:
    path = find_checkpoint(run)
    assert path is not None
    content = torch.load(path, weights_only=True)
    return {f"{name}.{key}": value for name, state in content["networks"].items() for key, value in state.items()}


def test_a_run_leaves_settings_checkpoints_samples_and_curves(data: Path, tmp_path: Path) -> None:
    config = small(data, steps=7, save_every=2, sample_every=3, log_every=1)

    seen = list(fit(config, find_pictures(data), tmp_path))

    assert [progress.step for progress in seen] == [1, 2, 3, 4, 5, 6, 7]
    assert all(progress.total == 7 and progress.losses is not None for progress in seen)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step_0000006.pt", "step_0000007.pt"]
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == [f"step_{n:07d}.jpg" for n in (3, 6, 7)]
    assert read_image(tmp_path / "samples" / "step_0000007.jpg").shape == (2 * 34 + 2, 3 * 34 + 2, 3)
    assert load_settings(TrainConfig, tmp_path / "settings.toml") == config
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_stopping_and_continuing_equals_never_having_stopped(data: Path, tmp_path: Path) -> None:
    config = small(data, steps=20, pool=2)
    train(config, tmp_path / "whole")

    for until in (3, 1, 9):
        train(config, tmp_path / "pieces", until=until, resume=find_checkpoint(tmp_path / "pieces"))
    train(config, tmp_path / "pieces", resume=find_checkpoint(tmp_path / "pieces"))

    whole, pieces = weights(tmp_path / "whole"), weights(tmp_path / "pieces")
    assert whole.keys() == pieces.keys()
    assert all(torch.equal(whole[key], pieces[key]) for key in whole)


def test_the_cycle_loss_of_a_tiny_task_falls_to_a_third(data: Path, tmp_path: Path) -> None:
    config = small(data, steps=150, learning_rate=2e-3, log_every=1)

    losses = [p.losses["cycle_a"] + p.losses["cycle_b"] for p in fit(config, find_pictures(data), tmp_path) if p.losses]

    assert np.mean(losses[-10:]) < np.mean(losses[:3]) / 3


def test_one_step_equals_the_objective_written_out_in_the_papers_order(data: Path) -> None:
    config = small(data, pool=0)
    state, plain = new_state(config, CPU), new_state(config, CPU)
    random = torch.Generator().manual_seed(5)
    real_a, real_b = (torch.rand(1, 3, 32, 32, generator=random) * 2 - 1 for _ in "ab")

    losses, pictures = train_step(state, real_a, real_b, cycle_weight=10.0, identity_weight=5.0)

    g_ab, g_ba = plain.networks.generator_ab, plain.networks.generator_ba
    d_a, d_b = plain.networks.discriminator_a, plain.networks.discriminator_b
    fake_b, fake_a = g_ab(real_a), g_ba(real_b)
    gan = (d_b(fake_b) - 1).pow(2).mean() + (d_a(fake_a) - 1).pow(2).mean()
    cycle = (g_ba(fake_b) - real_a).abs().mean() + (g_ab(fake_a) - real_b).abs().mean()
    identity = (g_ab(real_b) - real_b).abs().mean() + (g_ba(real_a) - real_a).abs().mean()
    (gan + 10.0 * cycle + 5.0 * identity).backward()
    plain.generators.step()
    plain.discriminators.zero_grad()
    for judge, real, fake in ((d_a, real_a, fake_a), (d_b, real_b, fake_b)):
        (0.5 * ((judge(real) - 1).pow(2).mean() + judge(fake.detach()).pow(2).mean())).backward()
    plain.discriminators.step()

    torch.testing.assert_close(losses.gan_ab + losses.gan_ba, gan.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(losses.cycle_a + losses.cycle_b, cycle.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(losses.identity_a + losses.identity_b, identity.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(pictures.fake_b, fake_b.detach(), rtol=0, atol=1e-5)
    for (name, ours), (_, theirs) in zip(state.networks.items(), plain.networks.items(), strict=True):
        for (key, found), expected in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
            if key.endswith("weight"):  # Adam's first step has the gradient's sign alone, which rounding may turn
                share = (found - expected).abs().gt(1e-5).float().mean().item()
                assert share < 0.01, f"{name}.{key}"


def test_identity_weight_0_saves_the_pass_and_reports_0(data: Path) -> None:
    state = new_state(small(data), CPU)
    real = torch.zeros(1, 3, 32, 32)

    losses, _ = train_step(state, real, real, cycle_weight=10.0, identity_weight=0.0)

    assert losses.identity_a.item() == losses.identity_b.item() == 0.0


def test_a_full_disk_leaves_the_previous_checkpoint_and_one_sentence(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(data)
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


def test_a_really_full_disk_is_survived_too(data: Path, tmp_path: Path) -> None:
    """/dev/full refuses every write, as a full disk does."""
    config = small(data)
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / f".step_0000000.{os.getpid()}-{threading.get_native_id()}.partial.pt").symlink_to("/dev/full")

    with pytest.raises(CheckpointError, match="could not be written"):
        save_checkpoint(tmp_path, config, new_state(config, CPU))
    assert find_checkpoint(tmp_path) is None


def test_half_a_checkpoint_of_a_killed_process_is_cleared_away(data: Path, tmp_path: Path) -> None:
    config = small(data)
    half = tmp_path / "checkpoints" / ".step_0000005.1-1.partial.pt"
    half.parent.mkdir()
    half.write_bytes(b"half a checkp")

    assert find_checkpoint(tmp_path) is None
    save_checkpoint(tmp_path, config, new_state(config, CPU))

    assert [path.name for path in half.parent.iterdir()] == ["step_0000000.pt"]


@pytest.mark.parametrize("content", [b"", b"no archive at all", b"PK\x03\x04 cut off"])
def test_a_damaged_checkpoint_is_refused_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "step_0000001.pt"
    path.write_bytes(content)

    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load_config(path)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    path = tmp_path / "step_0000001.pt"
    torch.save({"format": 1, "config": Bomb()}, path)

    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load_config(path)
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_of_another_format_or_shape_is_refused(data: Path, tmp_path: Path) -> None:
    torch.save({"format": 99}, tmp_path / "new.pt")
    path = save_checkpoint(tmp_path, small(data), new_state(small(data), CPU))
    content = torch.load(path, weights_only=True)
    torch.save({**content, "config": {**content["config"], "width": 8}}, tmp_path / "other.pt")
    torch.save({**content, "config": {**content["config"], "widht": 8}}, tmp_path / "typo.pt")

    with pytest.raises(CheckpointError, match="is not a checkpoint of this version, expected format 1"):
        load_config(tmp_path / "new.pt")
    with pytest.raises(CheckpointError, match="does not fit its own settings"):
        load_checkpoint(tmp_path / "other.pt", CPU)
    with pytest.raises(CheckpointError, match="does not fit its own settings"):
        load_generator(tmp_path / "other.pt", "ab")
    with pytest.raises(CheckpointError, match=r"settings that this version cannot use .*did you mean 'width'"):
        load_config(tmp_path / "typo.pt")
    with pytest.raises(CheckpointError, match="There is no checkpoint"):
        load_config(tmp_path / "none.pt")


def test_cuda_is_refused_in_one_sentence_where_there_is_none(data: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")

    with pytest.raises(ConfigError, match="torch sees no CUDA device"):
        choose_device(small(data, device="cuda"))


@pytest.mark.gpu
def test_a_run_on_cuda_ends_with_finite_losses_and_a_checkpoint_that_loads_anywhere(data: Path, tmp_path: Path) -> None:
    config = small(data, steps=10, device="cuda", log_every=1)

    seen = list(fit(config, find_pictures(data), tmp_path))

    assert all(np.isfinite(list(progress.losses.values())).all() for progress in seen if progress.losses)
    path = find_checkpoint(tmp_path)
    assert path is not None
    _, state = load_checkpoint(path, CPU)
    assert state.step == 10
