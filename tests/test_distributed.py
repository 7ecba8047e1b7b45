"""Two processes of torchrun train as one process with their batch, and take over each other's checkpoints."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cyclegan_edge.errors import ConfigError
from cyclegan_edge.images import write_image
from cyclegan_edge.settings import load_settings
from cyclegan_edge.train.checkpoint import find_checkpoint
from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.distributed import ProcessGroup
from cyclegan_edge.train.loop import choose_execution

SETTINGS = (
    "generator.width=4", "generator.blocks=1", "discriminator.width=4", "objective.pool=3", "device=cpu",
    "speed.precision=fp32", "schedule.policy=constant",
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    for domain in ("trainA", "trainB"):
        (folder / "data" / domain).mkdir(parents=True)
        for number in range(5):
            picture = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(6, 0).repeat(6, 1)
            write_image(folder / "data" / domain / f"{number}.png", picture)
    return folder


def train(place: Path, processes: int, *arguments: str) -> str:
    """`cyclegan-edge train` as so many processes; what it printed."""
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    done = subprocess.run(
        [*start, "cyclegan_edge", "train", *arguments, "--batch", "2", *settings],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def weights(run: Path) -> dict[str, torch.Tensor]:
    path = find_checkpoint(run)
    assert path is not None
    content = torch.load(path, weights_only=True)
    return {f"{name}.{key}": value for name, state in content["networks"].items() for key, value in state.items()}


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """But for float rounding, which Adam makes a full step of where a gradient is nothing but rounding."""
    for name in one:
        if name.endswith("weight"):
            off = (one[name] - other[name]).abs().gt(1e-5).float().mean().item()
            assert off < 0.01, name


def test_two_processes_equal_one_and_continue_each_other(place: Path) -> None:
    train(place, 1, "data", "--size", "32", "--name", "one", "--steps", "8")
    printed = train(place, 2, "data", "--size", "32", "--name", "two", "--steps", "8")
    train(place, 2, "data", "--size", "32", "--name", "mixed", "--steps", "4")
    train(place, 1, "--resume", "--name", "mixed", "--steps", "6")
    train(place, 2, "--resume", "--name", "mixed", "--steps", "8")

    assert printed.count("Training in") == 1
    assert "2 processes on the CPU" in printed
    assert not (place / "runs" / "two-2").exists()
    assert_close(weights(place / "runs" / "one"), weights(place / "runs" / "two"))
    assert_close(weights(place / "runs" / "one"), weights(place / "runs" / "mixed"))
    one, two = (torch.load(path, weights_only=True) for name in ("one", "two") if (path := checkpoint(place, name)))
    assert one["pairs"] == two["pairs"] == 16
    for mine, theirs in zip(one["replay_a"]["pictures"], two["replay_a"]["pictures"], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-3)


def checkpoint(place: Path, name: str) -> Path:
    found = find_checkpoint(place / "runs" / name)
    assert found is not None
    return found


def test_a_batch_that_the_processes_cannot_share_is_refused() -> None:
    config = load_settings(TrainConfig, None, ["batch=3"], overrides={"data": "none", "device": "cpu"})

    with pytest.raises(ConfigError, match="batch is 3, but 2 processes share it; set batch=2 or another multiple"):
        choose_execution(config, ProcessGroup(0, 2))
