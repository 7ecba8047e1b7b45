"""Training as a whole on the CPU: it learns, it can be stopped anywhere, and it goes on as if it had not been."""

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cyclegan_edge.errors import ConfigError, TrainError
from cyclegan_edge.images import write_image
from cyclegan_edge.settings import load_settings
from cyclegan_edge.train import progress as progress_module
from cyclegan_edge.train.checkpoint import load_checkpoint
from cyclegan_edge.train.checkpoint_files import find_checkpoint
from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.data.folders import FolderPairs, find_pictures
from cyclegan_edge.train.loop import DevicePrefetcher, choose_device, fit
from cyclegan_edge.train.progress import Progress
from cyclegan_edge.train.runs import hold

CPU = torch.device("cpu")
SMALL = {
    "size": 32,
    "device": "cpu",
    "generator.width": 4,
    "generator.blocks": 1,
    "discriminator.width": 4,
    "objective.pool": 3,
    "pictures.workers": 1,
}


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
    given = {name.replace("__", "."): value for name, value in settings.items()}
    return load_settings(TrainConfig, overrides={**SMALL, "data": str(data), **given})


def pairs_of(config: TrainConfig) -> FolderPairs:
    return FolderPairs(find_pictures(Path(config.data)), config.seed)


def train(config: TrainConfig, run: Path, *, until: int | None = None, resume: Path | None = None) -> list[Progress]:
    taken = [0]

    def stop() -> bool:
        taken[0] += 1
        return taken[0] == until

    return list(fit(config, pairs_of(config), run, resume=resume, stop=stop))


def test_a_run_that_another_process_holds_is_not_trained(data: Path, tmp_path: Path) -> None:
    config = small(data, schedule__steps=1)

    with hold(tmp_path / "run", new=True), pytest.raises(TrainError, match="Another process is training in"):
        train(config, tmp_path / "run")

    assert len(train(config, tmp_path / "run")) == 1


def test_a_checkpoint_that_is_not_the_last_is_gone_on_from_and_the_later_ones_are_put_aside(
    data: Path, tmp_path: Path
) -> None:
    config = small(data, schedule__steps=3, output__save_every=1, output__keep=3)
    train(config, tmp_path)
    end, first = weights(tmp_path), tmp_path / "checkpoints" / "step_0000001.pt"

    steps = [progress.step for progress in train(config, tmp_path, resume=first)]

    assert steps == [2, 3]
    assert equal(weights(tmp_path), end)
    assert sorted(path.name for path in first.parent.glob("*.pt")) == [f"step_000000{step}.pt" for step in (1, 2, 3)]
    assert [path.name for path in first.parent.glob("*.undone")] == ["step_0000003.undone"]


def weights(run: Path) -> dict[str, torch.Tensor]:
    path = find_checkpoint(run)
    assert path is not None
    content = torch.load(path, weights_only=True)
    return {f"{name}.{key}": value for name, state in content["networks"].items() for key, value in state.items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_a_run_leaves_settings_checkpoints_samples_and_curves(data: Path, tmp_path: Path) -> None:
    config = small(data, schedule__steps=7, output__save_every=2, output__sample_every=3, output__log_every=1)

    seen = train(config, tmp_path)

    assert [progress.step for progress in seen] == [1, 2, 3, 4, 5, 6, 7]
    assert all(progress.total == 7 and progress.losses is not None for progress in seen)
    assert [progress.seconds_left * progress.pairs_per_second for progress in seen] == pytest.approx(range(6, -1, -1))
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step_0000006.pt", "step_0000007.pt"]
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == [f"step_{n:07d}.jpg" for n in (3, 6, 7)]
    assert load_settings(TrainConfig, tmp_path / "settings.toml") == config
    assert list(tmp_path.glob("events.out.tfevents.*"))
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 7
    assert (tmp_path / "report.html").is_file()


EVERYTHING = {  # all that has a state of its own
    "generator__dropout": True,
    "objective__augment": "colour+translation+cutout",
    "objective__pool": 2,
    "optimiser__ema": 0.9,
    "schedule__policy": "plateau",
    "speed__precision": "bf16",
    "batch": 2,
}


@pytest.mark.parametrize("settings", [{}, EVERYTHING], ids=["paper", "everything"])
def test_stopping_and_continuing_equals_never_having_stopped(
    data: Path, tmp_path: Path, settings: dict[str, object]
) -> None:
    config = small(data, schedule__epochs=5, **settings)
    train(config, tmp_path / "whole")

    for until in (3, 1, 5):
        train(config, tmp_path / "pieces", until=until, resume=find_checkpoint(tmp_path / "pieces"))
        torch.manual_seed(99)  # another process would start elsewhere
    train(config, tmp_path / "pieces", resume=find_checkpoint(tmp_path / "pieces"))

    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "pieces"))


def test_a_run_may_be_prolonged_and_made_faster_on_the_way(data: Path, tmp_path: Path) -> None:
    train(small(data, schedule__steps=3), tmp_path)

    changed = small(data, schedule__steps=5, speed__precision="bf16", optimiser__ema=0.9, batch=2)
    seen = train(changed, tmp_path, resume=find_checkpoint(tmp_path))

    assert [progress.step for progress in seen] == [4, 5]
    kept = find_checkpoint(tmp_path)
    assert kept is not None
    config, state = load_checkpoint(kept, CPU)
    assert (config, state.pairs) == (changed, 3 + 2 * 2)
    assert state.generators.param_groups[0]["lr"] == pytest.approx(2e-4)  # as built; the loop sets it before a step


def test_minutes_end_a_run_by_the_clock_over_all_its_pieces(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(progress_module, "time", SimpleNamespace(monotonic=lambda: 0.1 * next(ticks)))
    config = small(data, schedule__minutes=0.02, output__log_every=1)

    first = train(config, tmp_path, until=2)
    rest = train(config, tmp_path, resume=find_checkpoint(tmp_path))

    assert first[-1].share < 1.0
    assert rest[-1].share == 1.0
    assert all(progress.total is None for progress in rest)
    assert all(0.0 <= progress.seconds_left < 1.2 - first[-1].share for progress in rest)
    assert train(config, tmp_path, resume=find_checkpoint(tmp_path)) == []


def test_a_training_that_starts_never_replaces_a_run(data: Path, tmp_path: Path) -> None:
    config = small(data, schedule__steps=2)
    train(config, tmp_path)
    before = weights(tmp_path)

    with pytest.raises(TrainError, match=r"holds a run already.*step_0000002\.pt.*another folder"):
        train(config, tmp_path)

    assert equal(weights(tmp_path), before)


def test_non_finite_updates_lower_the_rate_and_end_the_run_in_the_end(data: Path, tmp_path: Path) -> None:
    config = small(data, schedule__steps=200, output__log_every=10)
    train(config, tmp_path, until=5)
    broken = replace(config, objective=replace(config.objective, cycle_weight_a=float("inf")))
    before = weights(tmp_path)

    seen: list[Progress] = []

    def go_on() -> None:
        for progress in fit(broken, pairs_of(config), tmp_path, resume=find_checkpoint(tmp_path)):
            seen.append(progress)

    with pytest.raises(TrainError, match=r"non-finite for 55 steps.*step_0000005.pt.*learning_rate=3e-06"):
        go_on()

    assert equal(weights(tmp_path), before)
    warnings = [warning for progress in seen for warning in progress.warnings]
    assert len(warnings) == 5
    assert "learning rate is halved" in warnings[0]


def test_the_cycle_loss_of_a_tiny_task_falls_to_a_third(data: Path, tmp_path: Path) -> None:
    config = small(data, schedule__steps=150, optimiser__learning_rate=2e-3, output__log_every=1)

    losses = [p.losses["cycle_a"] + p.losses["cycle_b"] for p in train(config, tmp_path) if p.losses]

    assert np.mean(losses[-10:]) < np.mean(losses[:3]) / 3


def test_cuda_is_refused_in_one_sentence_where_there_is_none(data: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")

    with pytest.raises(ConfigError, match=r"'cuda'.*no CUDA device.*device=cpu"):
        choose_device(small(data, device="cuda"))


@pytest.mark.gpu
def test_a_run_on_cuda_ends_with_finite_losses_and_a_checkpoint_that_loads_anywhere(data: Path, tmp_path: Path) -> None:
    config = small(data, schedule__steps=10, device="cuda", output__log_every=1)

    seen = train(config, tmp_path)

    assert all(np.isfinite(list(progress.losses.values())).all() for progress in seen if progress.losses)
    path = find_checkpoint(tmp_path)
    assert path is not None
    _, state = load_checkpoint(path, CPU)
    assert state.step == 10


def test_the_best_checkpoint_of_the_evaluations_is_kept_and_changes_nothing_else(tmp_path: Path) -> None:
    for domain in ("trainA", "trainB", "testA", "testB", "truthB"):
        (tmp_path / "data" / domain).mkdir(parents=True)
        for number in range(3):
            grey = np.full((40, 40, 3), 60 + 40 * number + (domain[-1] == "B") * 20, np.uint8)
            write_image(tmp_path / "data" / domain / f"{number}.png", grey)
    settings = {"schedule__steps": 12, "generator__dropout": True, "optimiser__learning_rate": 2e-3}
    judged = small(tmp_path / "data", **settings, output__evaluate_every=2, output__metric="psnr")

    train(judged, tmp_path / "judged")
    train(small(tmp_path / "data", **settings), tmp_path / "plain")

    best = torch.load(tmp_path / "judged" / "checkpoints" / "best.pt", weights_only=True)
    assert best["best"].keys() == {"psnr"}
    assert best["step"] % 2 == 0
    assert equal(weights(tmp_path / "judged"), weights(tmp_path / "plain"))
    last = find_checkpoint(tmp_path / "judged")
    assert last is not None
    assert torch.load(last, weights_only=True)["best"]["psnr"] >= best["best"]["psnr"]


def test_a_metric_that_the_test_pictures_cannot_give_is_refused_before_the_first_step(
    data: Path, tmp_path: Path
) -> None:
    (data / "testA").mkdir(exist_ok=True)
    write_image(data / "testA" / "0.png", np.zeros((40, 40, 3), np.uint8))

    with pytest.raises(ConfigError, match=r"psnr.* truthB/"):
        train(small(data, output__evaluate_every=1, output__metric="psnr"), tmp_path)
    assert find_checkpoint(tmp_path) is None


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_batches_copied_ahead_come_in_their_order(device: str) -> None:
    loaded = [(torch.full((1, 3, 64, 64), float(n)), torch.full((1, 3, 64, 64), float(-n))) for n in range(20)]
    if device == "cuda":
        loaded = [(a.pin_memory(), b.pin_memory()) for a, b in loaded]
    prefetcher = DevicePrefetcher(iter(loaded), torch.device(device))

    sums = []
    for _ in range(10):
        real_a, real_b = next(prefetcher)
        prefetcher.prefetch()
        sums.append((real_a.mean(), real_b.mean()))

    assert [(a.item(), b.item()) for a, b in sums] == [(float(n), float(-n)) for n in range(10)]
