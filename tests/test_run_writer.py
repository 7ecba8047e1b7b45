"""What a run leaves on disk: the same for every reader, the same after a continuation, and nothing that changes it."""

import errno
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from torch.utils.tensorboard import SummaryWriter

from cyclegan_edge.errors import CheckpointError, ConfigError
from cyclegan_edge.images import read_image, write_image
from cyclegan_edge.settings import load_settings
from cyclegan_edge.train import run_files
from cyclegan_edge.train.checkpoint_files import find_checkpoint
from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.data.folders import FolderPairs, find_pictures
from cyclegan_edge.train.diagnostics import Diagnostics
from cyclegan_edge.train.loop import fit
from cyclegan_edge.train.metrics_log import MetricsLog, read_curves
from cyclegan_edge.train.samples import GAP

SMALL = {
    "size": 32,
    "device": "cpu",
    "generator.width": 4,
    "generator.blocks": 1,
    "generator.dropout": True,
    "discriminator.width": 4,
    "optimiser.learning_rate": 2e-3,
    "pictures.workers": 1,
    "output.log_every": 2,
    "output.evaluate_every": 4,
    "output.evaluate_on": 2,
    "output.save_every": 4,
    "output.keep": 9,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("noise"), np.random.default_rng(0)
    for name in ("trainA", "trainB", "testA", "testB"):
        for number in range(3):
            write_image(folder / name / f"{number}.png", rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    return folder


def train(
    data: Path, run: Path, steps: int, *, resume: Path | None = None, sample_every: int = 4, wandb: bool = False
) -> dict[str, Any]:
    """The networks at the end."""
    given = {**SMALL, "data": str(data), "schedule.steps": steps, "output.sample_every": sample_every}
    given["output.wandb"] = wandb
    config = load_settings(TrainConfig, overrides=given)
    for _ in fit(config, FolderPairs(find_pictures(data), seed=0), run, resume=resume):
        pass
    last = find_checkpoint(run)
    assert last is not None
    networks: dict[str, Any] = torch.load(last, weights_only=True)["networks"]
    return networks


def values(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What does not depend on the clock."""
    curves = read_curves(run).items()
    named = ("loss/", "gradient_norm/", "evaluation/")
    return {
        tag: list(zip(curve.steps.tolist(), curve.values.tolist(), strict=True))
        for tag, curve in curves
        if tag.startswith(named)
    }


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 steps, sampled at each."""
    run = tmp_path_factory.mktemp("run")
    train(data, run, 8, sample_every=1)
    return run


def test_metrics_jsonl_holds_what_tensorboard_holds(run: Path) -> None:
    events = EventAccumulator(str(run))
    events.Reload()

    curves = read_curves(run)

    assert set(events.Tags()["scalars"]) == curves.keys() - {"seconds"}
    for tag in events.Tags()["scalars"]:
        assert [event.step for event in events.Scalars(tag)] == curves[tag].steps.tolist()
        stored = np.array([event.value for event in events.Scalars(tag)])  # float32
        np.testing.assert_allclose(curves[tag].values, stored, rtol=1e-6)
    assert curves["loss/cycle_a"].steps.tolist() == [2, 4, 6, 8]
    assert curves["evaluation/l1_levels"].steps.tolist() == [4, 8]
    assert (np.diff(curves["seconds"].values) > 0).all()


def test_every_sample_shows_the_same_pictures(run: Path) -> None:
    sheets = [read_image(path).astype(np.int16) for path in sorted((run / "samples").iterdir())]

    assert len(sheets) == 8
    assert sheets[0].shape == (4 * (32 + GAP) - GAP, 3 * (32 + GAP) - GAP, 3)
    real, translated = slice(0, 30), slice(36, 62)
    for sheet in sheets[1:]:
        assert np.abs(sheet[:, real] - sheets[0][:, real]).max() < 20  # JPEG
    assert np.abs(sheets[-1][:, translated] - sheets[0][:, translated]).max() > 30


def test_sampling_at_every_step_trains_the_same_weights_as_sampling_once(data: Path, run: Path, tmp_path: Path) -> None:
    once = train(data, tmp_path, 8, sample_every=100)

    last = find_checkpoint(run)
    assert last is not None
    sampled = torch.load(last, weights_only=True)["networks"]
    assert all(torch.equal(once[net][key], value) for net in once for key, value in sampled[net].items())
    assert values(tmp_path) == values(run)


def test_a_run_continued_from_an_earlier_checkpoint_measures_as_one_that_never_stopped(
    data: Path, run: Path, tmp_path: Path
) -> None:
    train(data, tmp_path, 8)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 10, "loss/cycle_a": 0.1}\n{"step": 12, "loss/cyc')  # killed on the way to step 12

    train(data, tmp_path, 8, resume=tmp_path / "checkpoints" / "step_0000004.pt")

    assert values(tmp_path) == values(run)
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize("part", ["report", "samples", "metrics", "events", "warnings"])
def test_a_full_disk_costs_a_warning_and_no_checkpoint(
    part: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    match part:
        case "report":
            monkeypatch.setattr(run_files, "write_report", full)
        case "samples":
            monkeypatch.setattr(run_files, "write_image", full)
        case "metrics":
            monkeypatch.setattr(MetricsLog, "write", full)
        case "events":
            for name in ("add_scalar", "add_image", "close"):
                monkeypatch.setattr(SummaryWriter, name, full)
        case "warnings":
            monkeypatch.setattr(Diagnostics, "check_losses", lambda *_: ["Something is wrong."])
            (tmp_path / "warnings.txt").mkdir()
    config = load_settings(TrainConfig, overrides={**SMALL, "data": str(data), "schedule.steps": 4})

    seen = list(fit(config, FolderPairs(find_pictures(data), seed=0), tmp_path))

    said = [warning for progress in seen for warning in progress.warnings if "cannot be written" in warning]
    assert len(said) == 1
    assert "Is a directory" in said[0] if part == "warnings" else "No space left on device" in said[0]
    assert seen[-1].checkpoint == find_checkpoint(tmp_path) is not None


def test_a_refused_report_does_not_hide_why_a_run_ended(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run_files, "write_report", full)
    monkeypatch.setattr(torch, "save", full)
    config = load_settings(TrainConfig, overrides={**SMALL, "data": str(data), "schedule.steps": 4})

    with pytest.raises(CheckpointError, match=r"step_0000004.pt could not be written .*No space left on device"):
        list(fit(config, FolderPairs(find_pictures(data), seed=0), tmp_path))


def test_wandb_that_is_missing_is_a_sentence(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)

    with pytest.raises(ConfigError, match="pip install wandb"):
        train(data, tmp_path, 1, wandb=True)
